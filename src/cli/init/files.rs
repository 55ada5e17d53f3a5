//! The two files that `steerd init` writes: the configuration and the zone.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use crate::cli::init::Init;

/// The pool of the configuration, and the first part of its backends' names.
pub(super) const POOL: &str = "web";

/// A text in the syntax of TOML.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A list in the syntax of TOML.
fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(|item| quoted(&item.to_string())).collect::<Vec<_>>().join(", ")
}

/// The configuration. Every value that is not a default is in it, with the reason to change it.
pub(super) fn configuration(init: &Init) -> String {
    let service = init.name.to_plain();
    let zone = init.zone().to_plain();
    let state = init.state_dir.as_ref().map_or_else(
        || "# state_dir = \"/var/lib/steerd\"".to_owned(),
        |directory| format!("state_dir = {}", quoted(&directory.to_string_lossy())),
    );
    let answers = answers(init);
    let reason = match answers {
        1 => {
            "With one, shares follow the weights, and the TTL is how long clients keep a dead one.\n\
             # From three backends on, 2 is usual: a client whose first address fails tries the second."
        }
        _ => {
            "Two: a client whose first address fails tries the second. All backends in every answer\n\
             # would leave the weights only the order."
        }
    };
    format!(
        "\
# Written by `steerd init`. `steerd check` finds mistakes, `steerd reload` applies a change to a running server.
# Durations are text with a unit, such as \"20s\" or \"1m30s\"; paths are relative to this file.

[server]
# Addresses for DNS over UDP and TCP. Other machines need [\"0.0.0.0:53\", \"[::]:53\"]; a port below 1024 needs a
# privilege, and a change of this key a restart.
listen = [{listen}]
# A directory that exists, where health and overrides survive a restart.
{state}

[admin]
# For `steerd status`, `steerd drain`, `steerd reload` and the metrics. An address that is not loopback needs a
# `token_file`.
listen = \"127.0.0.1:8053\"

# The zone that the parent delegates to steerd: its SOA and NS records, and all other records that are fixed.
[zones.{zone}]
file = {zone_file}

# Backends that can serve the same requests, and the check that decides which of them are in answers.
[pools.{POOL}]
# A TCP connection is \"tcp://:8080\"; an HTTP request, which must have a status from 200 to 299, \"http://:8080/healthz\".
check = {check}
backends = [
{backends}]

# The name that clients look up.
[services.{service}]
# Tiers: the first usable pool answers. A second pool would be the standby.
pools = [\"{POOL}\"]
# The most addresses in an answer. {reason}
answers = {answers}
# How long clients may keep an answer. A failed backend keeps its clients for the time to find out, and this.
ttl = \"20s\"
",
        listen = list(&init.listen),
        zone = quoted(&zone),
        zone_file = quoted(&init.zone_file()),
        check = quoted(&check(init)),
        backends = backends(init),
        service = quoted(&service),
    )
}

/// The check as a URL. Its port is that of the first backend, unless it was given.
fn check(init: &Init) -> String {
    init.check.clone().unwrap_or_else(|| format!("tcp://:{}", first_port(init)))
}

fn first_port(init: &Init) -> u16 {
    init.backends().first().map_or(0, SocketAddr::port)
}

/// Two addresses, so that a client can try the second; but not all backends, because then weights decide only the order.
fn answers(init: &Init) -> usize {
    let ipv4 = init.backends().iter().filter(|backend| backend.is_ipv4()).count();
    let families = [ipv4, init.backends().len() - ipv4];
    let fewest = families.into_iter().filter(|&count| count > 0).min().unwrap_or(1);
    fewest.saturating_sub(1).clamp(1, 2)
}

/// The backends, one per line. One with another port than the first has it itself.
fn backends(init: &Init) -> String {
    let mut lines = String::new();
    for (backend, number) in init.backends().iter().zip(1..) {
        let port = backend.port();
        let port = if port == first_port(init) { String::new() } else { format!(", port = {port}") };
        let address = backend.ip();
        let _ =
            writeln!(lines, "  {{ name = \"{POOL}{number}\", address = \"{address}\", weight = 1{port} }},");
    }
    lines
}

/// The zone.
pub(super) fn zone(init: &Init) -> String {
    let zone = init.zone().to_plain();
    let mut text = format!(
        "\
; The zone {zone}, except for the addresses of services: steerd answers for those.
; The last number of the SOA record is how long a resolver remembers that a name has no address.
$ORIGIN {zone}.
$TTL 3600
@\tSOA\tns1 hostmaster 1 3600 600 604800 20
"
    );
    for (name, _) in name_servers(init) {
        let _ = writeln!(text, "@\tNS\t{name}");
    }
    text += "; The public addresses of the machines that run steerd; the parent zone has the same.\n";
    for (name, address) in name_servers(init) {
        let _ = writeln!(text, "{name}\t{}\t{address}", record_type(address));
    }
    text
}

/// The names of the servers, relative to the zone, with their addresses.
pub(super) fn name_servers(init: &Init) -> impl Iterator<Item = (String, IpAddr)> {
    init.servers().iter().zip(1..).map(|(&address, number)| (format!("ns{number}"), address))
}

pub(super) fn record_type(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "A" } else { "AAAA" }
}
