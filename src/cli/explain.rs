//! `steerd explain`: why a client gets an answer.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use hyper::Method;
use serde_json::Value;

use crate::cli::client::segment;
use crate::cli::columns::{Cell, Tone, render};
use crate::cli::servers::ServerArguments;
use crate::cli::{block_on, complain, has_color, print, print_as_it_is, print_json};
use crate::network::Network;

/// The most backends that are shown as text.
const SHOWN: usize = 40;

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The name of a service, or another name in a zone of the server
    name: String,
    /// The record type
    #[arg(long, value_name = "TYPE", default_value = "a", ignore_case = true)]
    r#type: AddressType,
    /// The client: the address that asks, or, with --resolver, the client behind the resolver
    #[arg(long, value_name = "IP[/LENGTH]")]
    client: Option<Network>,
    /// A resolver that asks for the client, and sends its subnet (EDNS Client Subnet)
    #[arg(long, value_name = "IP")]
    resolver: Option<IpAddr>,
    /// Determines the sample draw
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Print the explanation as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArguments,
}

/// The type of a query for addresses.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum AddressType {
    A,
    Aaaa,
}

impl Explain {
    /// The path of the request.
    fn resource(&self) -> String {
        let record_type = match self.r#type {
            AddressType::A => "A",
            AddressType::Aaaa => "AAAA",
        };
        let mut path =
            format!("/api/v1/explain?name={}&type={record_type}&seed={}", segment(&self.name), self.seed);
        if let Some(client) = self.client {
            path = path + "&client=" + &segment(&client.to_string());
        }
        if let Some(resolver) = self.resolver {
            path = path + "&resolver=" + &resolver.to_string();
        }
        path
    }
}

pub(super) fn run(explain: &Explain) -> ExitCode {
    let asked = explain
        .server
        .client()
        .map(|client| block_on(async move { client.request(Method::GET, &explain.resource(), None).await }));
    match asked {
        Ok(Some(Ok(told))) if explain.json => print_json(&format!("{told:#}")),
        Ok(Some(Ok(told))) => {
            print(&reasons(&told));
            let rows = backends(&told);
            if rows.len() > 1 {
                print_as_it_is(&format!("\n{}", render(&rows, has_color(&std::io::stdout()))));
            }
            print(&sample(&told));
        }
        Ok(Some(Err(error))) | Err(error) => {
            complain(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
        Ok(None) => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The lines before the table of backends.
fn reasons(told: &Value) -> String {
    let client = &told["client"];
    let mut lines = vec![
        format!("{} {} (generation {})", text(&told["name"]), text(&told["type"]), told["generation"]),
        match client["subnet"].as_str() {
            Some(subnet) => {
                let scope = client["scope"].as_u64();
                let heed = scope.map_or_else(
                    || "which it is not trusted to send: see `client_subnet`".to_owned(),
                    |scope| format!("with scope /{scope} in the reply"),
                );
                format!("client  {subnet}, sent by the resolver {}, {heed}", text(&client["address"]))
            }
            None => format!("client  {}", text(&client["address"])),
        },
        match told["zone"].as_str() {
            Some(zone) => format!("zone    {zone}"),
            None => "zone    none here has the name".into(),
        },
    ];
    let rcode = text(&told["rcode"]);
    let service = &told["service"];
    if service.is_null() {
        let why = match (told["zone"].as_str(), rcode) {
            (None, _) => "no zone here has this name; is it delegated to this server?",
            (Some(_), "NXDOMAIN") => "the zone has no such name",
            (Some(_), _) => "no service answers, only records of the zone",
        };
        lines.push(format!("answer  {rcode}: {why}"));
        return lines.join("\n");
    }
    let prefix = service["prefix"].as_str();
    let prefix = prefix.map_or_else(String::new, |prefix| format!(", as for all clients in {prefix}"));
    let name = text(&service["name"]);
    lines.push(match (service["rule"].as_u64(), service["rule_clients"].as_str()) {
        (Some(rule), Some(clients)) => format!("rule    {rule} of service {name} applies{prefix}: {clients}"),
        (Some(rule), None) => format!("rule    {rule} of service {name} applies{prefix}"),
        (None, _) => format!("rule    none applies{prefix}: the default route of service {name}"),
    });
    let pool = text(&service["pool"]);
    let trust = if service["on_trust"] == true { ", on trust: its state is not yet known" } else { "" };
    let outcome = match text(&service["outcome"]) {
        "tier" => format!("from pool {pool}{trust}"),
        "fail-open" => format!("no tier is usable, so it fails open: all backends of pool {pool}"),
        "no-address" => "no address of this type (NODATA)".into(),
        _ => format!("no tier is usable: when_down is {}", text(&service["when_down"])),
    };
    lines.push(format!("answer  {rcode}, {outcome}"));
    lines.push(ttl(told));
    lines.extend(failover(service));
    lines.extend(failback(service));
    for (number, tier) in (1..).zip(list(&service["tiers"])) {
        lines.push(format!("tier {number}  {}: {}", text(&tier["pool"]), text(&tier["because"])));
    }
    lines.join("\n")
}

/// The failover by an operator, if there is one.
fn failover(service: &Value) -> Option<String> {
    let failover = &service["failover"];
    let pool = failover["pool"].as_str()?;
    let part = |member: &str, before: &str| {
        failover[member].as_str().map_or_else(String::new, |value| format!("{before}{value}"))
    };
    let end = part("until", " until ");
    Some(format!("failover to pool {pool}{end}{}{}", part("by", ", by "), part("reason", ": ")))
}

/// Why the service does not return to an earlier tier yet, if so.
fn failback(service: &Value) -> Option<String> {
    let (waiting, failback) = (&service["waiting"], text(&service["failback"]));
    let pool = waiting["pool"].as_str()?;
    Some(match (waiting["until"].as_str(), failback) {
        (Some(until), _) => {
            format!("failback {failback}: it returns to pool {pool} at {until} if that stays usable")
        }
        (None, "manual") => format!("failback manual: it returns to pool {pool} with `steerd failback`"),
        (None, _) => {
            format!("failback {failback}: pool {pool} is usable only on trust, so it does not return yet")
        }
    })
}

/// The TTL and its reason.
fn ttl(told: &Value) -> String {
    let (service, ttl) = (&told["service"], &told["sample"]["ttl"]);
    let (min, max) = (&service["ttl"]["min"], &service["ttl"]["max"]);
    let pending = &service["pending"];
    match ttl.as_u64() {
        None => "ttl     no address, so none".into(),
        Some(ttl) if min == max => format!("ttl     {ttl} s, fixed"),
        Some(ttl) if pending.is_null() => format!("ttl     {ttl} s of {min} to {max}: nothing is pending"),
        Some(ttl) => {
            let (change, at) = (text(&pending["change"]), text(&pending["at"]));
            format!("ttl     {ttl} s of {min} to {max}: {change}, at the earliest at {at}")
        }
    }
}

/// The backends of all tiers, those of the first tier first.
fn backends(told: &Value) -> Vec<Vec<Cell>> {
    let heads =
        ["POOL", "BACKEND", "ADDRESS", "SITE", "STATE", "OVERRIDE", "WEIGHT", "IN ANSWER", "FIRST", "RANK"];
    let mut rows = vec![heads.map(Cell::plain).to_vec()];
    let service = &told["service"];
    let mut left_out = service["backends_left_out"].as_u64().unwrap_or(0);
    for tier in list(&service["tiers"]) {
        for backend in list(&tier["backends"]) {
            for address in list(&backend["addresses"]) {
                if rows.len() > SHOWN {
                    left_out += 1;
                    continue;
                }
                let drawn =
                    list(&backend["drawn"]).iter().find(|drawn| drawn["address"] == address["address"]);
                rows.push(row(text(&tier["pool"]), backend, address, drawn));
            }
        }
    }
    if service["policy"] != "persistent" {
        // Only persistent services have ranks.
        for row in &mut rows {
            row.truncate(heads.len() - 1);
        }
    }
    if left_out > 0 {
        rows.push(vec![Cell::plain(&format!("and {left_out} more: see --json"))]);
    }
    rows
}

fn row(pool: &str, backend: &Value, address: &Value, drawn: Option<&Value>) -> Vec<Cell> {
    let state = match (text(&address["state"]), address["held"] == true) {
        (state, true) => format!("{state}, held"),
        (state, false) => state.to_owned(),
    };
    let is_void = list(&address["checks"]).iter().any(|check| check["last"]["outcome"] == "void");
    let state = if is_void { format!("{state}, no verdict") } else { state };
    let tone = if address["eligible"] == true { Tone::Good } else { Tone::Bad };
    let percent = |member: &str| match drawn {
        Some(drawn) => percent(drawn[member].as_f64().unwrap_or(0.0)),
        None => "-".into(),
    };
    vec![
        Cell::plain(pool),
        Cell::plain(text(&backend["name"])),
        Cell::plain(text(&address["address"])),
        Cell::plain(text(&backend["site"])),
        Cell::new(&state, tone),
        Cell::plain(&overrides(backend)),
        Cell::plain(&backend["effective_weight"].to_string()),
        Cell::plain(&percent("included")),
        Cell::plain(&percent("first")),
        Cell::plain(
            &drawn.and_then(|drawn| drawn["rank"].as_u64()).map_or_else(String::new, |rank| rank.to_string()),
        ),
    ]
}

/// The overrides of the state and of the weight: `drain`, `30% of 3`, or both.
fn overrides(backend: &Value) -> String {
    let state = backend["override"]["state"].as_str().map(str::to_owned);
    let percent = backend["weight_override"]["percent"].as_u64();
    let weight = percent.map(|percent| format!("{percent}% of {}", backend["weight"]));
    state.into_iter().chain(weight).collect::<Vec<_>>().join(", ")
}

/// A probability in percent, with two decimals where they say something.
fn percent(probability: f64) -> String {
    let text = format!("{:.2}", probability * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn sample(told: &Value) -> String {
    let sample = &told["sample"];
    let addresses: Vec<&str> = list(&sample["addresses"]).iter().map(text).collect();
    match sample["ttl"].as_u64() {
        Some(ttl) => {
            format!("\nsample  {} with TTL {ttl} (seed {})", addresses.join(", "), sample["seed"])
        }
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_explanation_for_a_person() {
        let mut told = json!({
            "generation": 7, "name": "www.lb.example.com", "type": "A", "rcode": "NOERROR",
            "client": { "address": "192.0.2.53", "subnet": "203.0.113.0/24", "scope": 20 },
            "zone": "lb.example.com",
            "service": {
                "name": "www.lb.example.com", "rule": 2, "prefix": "203.0.112.0/20",
                "rule_clients": "countries DE, FR", "outcome": "tier", "pool": "web", "on_trust": false,
                "backends_left_out": 3,
                "tiers": [{
                    "pool": "web", "because": "the first usable tier",
                    "backends": [{
                        "name": "gw1", "site": "ams", "override": null, "effective_weight": 3,
                        "addresses": [{ "address": "192.0.2.1", "state": "healthy", "held": false, "eligible": true }],
                        "drawn": [{ "address": "192.0.2.1", "weight": 3, "included": 1.0, "first": 0.6667 }],
                    }],
                }],
            },
            "sample": { "seed": 1, "ttl": 20, "addresses": ["192.0.2.1"] },
        });
        told["service"]["ttl"] = json!({ "min": 5, "max": 60 });
        told["service"]["pending"] = json!({ "at": "2026-01-01T00:00:20Z", "change": "gw1 (192.0.2.1) of pool web may become unhealthy" });
        assert_eq!(
            reasons(&told),
            "www.lb.example.com A (generation 7)
client  203.0.113.0/24, sent by the resolver 192.0.2.53, with scope /20 in the reply
zone    lb.example.com
rule    2 of service www.lb.example.com applies, as for all clients in 203.0.112.0/20: countries DE, FR
answer  NOERROR, from pool web
ttl     20 s of 5 to 60: gw1 (192.0.2.1) of pool web may become unhealthy, at the earliest at 2026-01-01T00:00:20Z
tier 1  web: the first usable tier"
        );
        let service = &mut told["service"];
        service["failback"] = "10m".into();
        service["waiting"] = json!({ "pool": "a", "until": "2026-01-01T00:10:00Z" });
        service["failover"] =
            json!({ "pool": "b", "until": null, "by": "192.0.2.9:1 without a token", "reason": "drill" });
        assert_eq!(failover(service).unwrap(), "failover to pool b, by 192.0.2.9:1 without a token: drill");
        assert_eq!(
            failback(service).unwrap(),
            "failback 10m: it returns to pool a at 2026-01-01T00:10:00Z if that stays usable"
        );
        service["waiting"]["until"] = Value::Null;
        assert!(failback(service).unwrap().contains("only on trust"));
        service["failback"] = "manual".into();
        assert!(failback(service).unwrap().ends_with("it returns to pool a with `steerd failback`"));
        assert_eq!(
            render(&backends(&told), false),
            "POOL                    BACKEND  ADDRESS    SITE  STATE    OVERRIDE  WEIGHT  IN ANSWER  FIRST
web                     gw1      192.0.2.1  ams   healthy            3       100 %      66.67 %
and 3 more: see --json"
        );
        assert_eq!(sample(&told), "\nsample  192.0.2.1 with TTL 20 (seed 1)");
    }

    #[test]
    fn names_without_a_service_say_why() {
        let mut told =
            json!({ "name": "x.example", "type": "A", "rcode": "REFUSED", "zone": null, "service": null });
        assert!(
            reasons(&told)
                .ends_with("answer  REFUSED: no zone here has this name; is it delegated to this server?")
        );
        (told["zone"], told["rcode"]) = ("example".into(), "NXDOMAIN".into());
        assert!(reasons(&told).ends_with("answer  NXDOMAIN: the zone has no such name"));
        told["rcode"] = "NOERROR".into();
        assert!(reasons(&told).ends_with("answer  NOERROR: no service answers, only records of the zone"));
    }

    #[test]
    fn an_address_that_cannot_be_probed_is_marked() {
        let address = json!({
            "address": "192.0.2.1", "state": "healthy", "eligible": true, "checks": [{ "last": { "outcome": "void" } }],
        });
        let row = row("web", &json!({ "name": "gw1" }), &address, None);
        assert!(render(&[row], false).contains("healthy, no verdict"));
    }
}
