//! The text that `steerd init` prints: the commands that come next, and the records for the parent zone.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::cli::demo::program;
use crate::cli::init::files::{POOL, name_servers, record_type};
use crate::cli::init::{Init, for_service};

/// Commands that can be pasted, in the order in which they are needed.
pub(super) fn steps(init: &Init, path: &Path) -> String {
    let program = program(std::env::args().next());
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
    for (examples, option) in [
        (init.servers.iter().copied().filter(is_example).collect::<Vec<_>>(), "--server"),
        (init.backends.iter().map(std::net::SocketAddr::ip).filter(is_example).collect(), "--backend"),
    ] {
        if !examples.is_empty() {
            let examples: Vec<String> = examples.iter().map(ToString::to_string).collect();
            let _ = writeln!(
                text,
                "{} are examples: edit the files, or give yours with {option}.",
                examples.join(" and ")
            );
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

/// Whether an address is one of those for documents (RFC 5737, RFC 3849).
fn is_example(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            matches!(address.octets(), [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _])
        }
        IpAddr::V6(address) => address.segments()[..2] == [0x2001, 0xdb8],
    }
}

/// A word for a shell.
fn word(text: &str) -> String {
    let is_plain = |char: char| char.is_alphanumeric() || "/._-+@:,".contains(char);
    if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        for (path, quoted) in [("./steerd.toml", "./steerd.toml"), ("a b", "'a b'"), ("it's", r"'it'\''s'")] {
            assert_eq!(word(path), quoted);
        }
    }
}
