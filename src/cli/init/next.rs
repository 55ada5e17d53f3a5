//! The text that `steerd init` prints: the commands that come next, and the records for the parent zone.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::cli::called::{program, word};
use crate::cli::init::files::{POOL, name_servers, record_type};
use crate::cli::init::{EXAMPLE_BACKENDS, EXAMPLE_SERVERS, Init, for_service};

/// Commands that can be pasted, in the order in which they are needed.
pub(super) fn steps(init: &Init, path: &Path) -> String {
    let program = program();
    let shown = path.to_string_lossy();
    let file = if for_service(path) { String::new() } else { format!(" -c {}", word(&shown)) };
    // The directory is there if systemd runs the machine, which no container has.
    let (run, command) = if for_service(path) && Path::new("/run/systemd/system").is_dir() {
        ("restart the service as root", "systemctl restart steerd".to_owned())
    } else {
        ("run the server", format!("{program} serve{file}"))
    };
    let zone_file = init.directory.join(init.zone_file());
    let (service, zone) = (init.name.to_plain(), init.zone().to_plain());
    let mut text = format!(
        "\
wrote {shown}
wrote {zone_file}

Check it, run its health checks once, then {run}:
  {program} check{file}
  {program} probe{file}
  {command}

Ask it, and see its backends, from another shell:
  dig @{address} -p {port} {service} +short
  {program} status {POOL}{file}

When that works, delegate {zone}. Its parent zone, {parent}, needs:
",
        zone_file = zone_file.display(),
        address = asked(init),
        port = init.listen.first().map_or(53, std::net::SocketAddr::port),
        parent = init.zone().parent().map_or_else(|| ".".to_owned(), |parent| parent.to_plain()),
    );
    for (name, _) in name_servers(init) {
        let _ = writeln!(text, "  {zone}. NS {name}.{zone}.");
    }
    for (name, address) in name_servers(init) {
        let _ = writeln!(text, "  {name}.{zone}. {} {address}", record_type(address));
    }
    for (is_missing, examples, option) in [
        (init.servers.is_empty(), EXAMPLE_SERVERS.map(|address| address.to_string()), "--server"),
        (init.backends.is_empty(), EXAMPLE_BACKENDS.map(|address| address.ip().to_string()), "--backend"),
    ] {
        if is_missing {
            let examples = examples.join(" and ");
            let _ = writeln!(text, "{examples} are examples: edit the files, or give yours with {option}.");
        }
    }
    text.trim_end().to_owned()
}

/// The address of the server as this machine reaches it.
fn asked(init: &Init) -> IpAddr {
    match init.listen.first().map(std::net::SocketAddr::ip) {
        Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) | None => Ipv4Addr::LOCALHOST.into(),
        Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => Ipv6Addr::LOCALHOST.into(),
        Some(address) => address,
    }
}

/// A warning if a whole zone, not a part of one, would be delegated.
pub(super) fn warning(init: &Init) -> Option<String> {
    let zone = init.zone();
    if zone.labels().count() > 2 {
        return None;
    }
    let (zone, file) = (zone.to_plain(), init.zone_file());
    let service = init.name.to_plain();
    let label = service.strip_suffix(&format!(".{zone}")).unwrap_or("www");
    Some(format!(
        "this delegates all of {zone} to steerd: its other records, such as MX, must then be in {file}. A part of it is \
         usual: --name {label}.lb.{zone}"
    ))
}
