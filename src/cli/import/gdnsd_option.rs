//! Options and service types of gdnsd: the listen addresses of `[server]`, and checks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::draft::{ImportDraft, quoted};
use super::vscf::{Vscf, VscfData};

/// The most consecutive outcomes that steerd counts.
const MAX_FLIPS: u64 = 100;

pub(super) fn number(value: Option<&Vscf>, default: u64) -> u64 {
    value.and_then(Vscf::text).and_then(|text| text.parse().ok()).unwrap_or(default)
}

pub(super) fn options(draft: &mut ImportDraft, options: Option<&Vscf>) {
    let port = number(options.and_then(|all| all.get("dns_port")), 53);
    let has_listen = options.is_some_and(|all| all.get("listen").is_some());
    for (key, value) in options.map_or(&[][..], Vscf::hash) {
        let what = format!("option `{key}` (line {})", value.place.line);
        match key.as_str() {
            "listen" => listen(draft, value, port),
            "dns_port" if has_listen => {}
            "dns_port" => serve_on(draft, &any(port)),
            "nsid_ascii" => {
                if let Some(text) = value.text() {
                    draft.server.push(("nsid", quoted(text)));
                }
            }
            "udp_threads" | "tcp_threads" => draft.lose(
                what,
                "the workers of steerd serve all addresses, one for each core by default",
                "set `workers` under [server] only if that is wrong",
            ),
            _ => draft.lose(
                what,
                "options of gdnsd are not carried over",
                "see [server] in config/example.toml for a key with this purpose",
            ),
        }
    }
}

/// All addresses of both families.
fn any(port: u64) -> Vec<SocketAddr> {
    let port = u16::try_from(port).unwrap_or(53);
    let families: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    families.map(|address| SocketAddr::new(address, port)).to_vec()
}

fn listen(draft: &mut ImportDraft, value: &Vscf, port: u64) {
    let what = format!("option `listen` (line {})", value.place.line);
    let texts: Vec<&str> = match &value.data {
        VscfData::Hash(hash) => hash.members.iter().map(|(address, _)| address.as_str()).collect(),
        _ => value.list().iter().filter_map(Vscf::text).collect(),
    };
    if value.hash().iter().any(|(_, options)| !options.hash().is_empty()) {
        draft.lose(
            &*what,
            "steerd has no options for single addresses",
            "see [server] in config/example.toml for keys with these purposes",
        );
    }
    let mut addresses = Vec::new();
    for text in texts {
        let ip = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, u16::try_from(port).unwrap_or(53)));
        match text.parse().or(ip) {
            Ok(address) => addresses.push(address),
            Err(_) if text == "any" => addresses.extend(any(port)),
            Err(_) => {
                return draft.lose(
                    what,
                    format!("`{text}` is no address; steerd listens on port 53 of all addresses by default"),
                    "set `listen` under [server]",
                );
            }
        }
    }
    serve_on(draft, &addresses);
}

fn serve_on(draft: &mut ImportDraft, addresses: &[SocketAddr]) {
    if !addresses.is_empty() {
        let shown: Vec<String> = addresses.iter().map(|address| quoted(&address.to_string())).collect();
        draft.server.push(("listen", format!("[{}]", shown.join(", "))));
    }
}

/// The check for a service type, as TOML.
pub(super) fn check(draft: &mut ImportDraft, name: &str, service_type: &Vscf) -> Option<String> {
    let what = format!("service type `{name}` (line {})", service_type.place.line);
    let text = |key: &str| service_type.get(key).and_then(Vscf::text);
    let kind = text("plugin").unwrap_or_default();
    let interval = number(service_type.get("interval"), 10).clamp(1, 3600);
    let timeout = number(service_type.get("timeout"), interval / 2).clamp(1, 3600);
    let mut keys = Vec::new();
    match kind {
        "tcp_connect" => {
            let Some(port) = text("port").and_then(|port| port.parse::<u16>().ok()) else {
                draft.lose(what, "it has no port", "add a check to its pools");
                return None;
            };
            keys.push(format!("type = \"tcp\", port = {port}"));
        }
        "http_status" => {
            let port = u16::try_from(number(service_type.get("port"), 80)).unwrap_or(80);
            keys.push(format!("type = \"http\", port = {port}"));
            let path = text("url_path").unwrap_or("/");
            keys.push(format!("path = {}", quoted(if path.starts_with('/') { path } else { "/" })));
            if let Some(host) = text("vhost") {
                keys.push(format!("host = {}", quoted(host)));
            }
            let codes = service_type.get("ok_codes").map_or(&[][..], Vscf::list);
            let codes: Vec<u16> = codes
                .iter()
                .filter_map(|code| code.text()?.parse().ok())
                .filter(|code| (100..600).contains(code))
                .collect();
            let codes = if codes.is_empty() { vec![200] } else { codes };
            keys.push(format!("status = {codes:?}"));
        }
        "extmon" => {
            draft.lose(
                what,
                "a program of gdnsd gets the address as an argument, one of steerd in STEERD_ADDRESS",
                "write `check = { type = \"exec\", program = ... }` into its pools, with a program that reads STEERD_ADDRESS",
            );
            return None;
        }
        _ => {
            draft.lose(
                what,
                format!("steerd has no kind of check like `{kind}`"),
                "add a check to its pools; without one they are always healthy, and `steerd drain` takes backends out",
            );
            return None;
        }
    }
    let rise = number(service_type.get("up_thresh"), 20);
    let fall = number(service_type.get("down_thresh"), 10);
    if rise.max(fall) > MAX_FLIPS {
        draft.lose(&*what, format!("it counts more than {MAX_FLIPS} outcomes"), "rise and fall are 100 now");
    }
    let (rise, fall) = (rise.clamp(1, MAX_FLIPS), fall.clamp(1, MAX_FLIPS));
    draft.lose(
        &*what,
        format!(
            "its {fall} failures and {rise} passes are kept, but steerd counts consecutive ones, and repeats a probe after `recheck` (1s)"
        ),
        "leave interval, timeout, rise and fall out: the defaults of steerd find a silent backend in 8 to 13 s; compare with `steerd plan`",
    );
    // A timeout must be below the interval, and gdnsd has whole seconds.
    let timeout = if timeout < interval { format!("{timeout}s") } else { format!("{}ms", interval * 800) };
    keys.push(format!("interval = \"{interval}s\", timeout = \"{timeout}\", rise = {rise}, fall = {fall}"));
    Some(format!("{{ {} }}", keys.join(", ")))
}
