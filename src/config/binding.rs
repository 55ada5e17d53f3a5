//! Finds listen addresses that cannot be used: they conflict with each other, this machine does not have them, or this
//! user may not use them.
//!
//! A configuration is also checked while a server runs with it, so this code never binds a port that the configuration
//! names.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use rustix::thread::{CapabilitySet, capabilities};

use crate::config::value::Located;
use crate::file;

/// The kernel setting with the first unprivileged port.
const UNPRIVILEGED_PORTS: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
/// The first unprivileged port if the kernel lacks the setting.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// Why one process cannot listen on both addresses, as part of a sentence; none if it can. Port 0 takes a different
/// free port each time, and IPv6 sockets accept IPv6 only.
pub(super) fn conflict(one: SocketAddr, other: SocketAddr) -> Option<&'static str> {
    if one.port() != other.port() || one.port() == 0 || one.is_ipv4() != other.is_ipv4() {
        return None;
    }
    match one {
        _ if one == other => Some("they are the same"),
        _ if !one.ip().is_unspecified() && !other.ip().is_unspecified() => None,
        SocketAddr::V4(_) => Some("0.0.0.0 stands for every IPv4 address of the machine"),
        SocketAddr::V6(_) => Some("[::] stands for every IPv6 address of the machine"),
    }
}

/// Warns about an address that this machine does not have, or a port that this user may not use. These are not errors,
/// because the configuration may be for another user or machine. Only a check warns; a server that starts gets the
/// error of the system.
pub(super) fn warn(listen: &Located<'_, SocketAddr>) {
    let Located { value: address, at, .. } = *listen;
    if !at.findings().is_check() {
        return;
    }
    if let Some((message, hint)) = absence(address) {
        at.warning(message, hint);
    }
    let first = first_unprivileged();
    if is_privileged(address.port(), first) && !has_privilege() {
        at.warning(
            format!(
                "this user may not listen on port {}: ports below {first} need a privilege",
                address.port()
            ),
            "run steerd as root, or give the program CAP_NET_BIND_SERVICE (systemd: \
             AmbientCapabilities=CAP_NET_BIND_SERVICE), or choose another port"
                .to_owned(),
        );
    }
}

/// The warning about an address to which no socket of this machine can be bound.
fn absence(address: SocketAddr) -> Option<(String, String)> {
    let mut any_port = address;
    any_port.set_port(0);
    let error = UdpSocket::bind(any_port).err()?;
    let ip = address.ip();
    if error.kind() == ErrorKind::AddrNotAvailable {
        let hint = "steerd does not start where no interface has the address; if it runs on another machine, look there";
        return Some((format!("this machine does not have the address `{ip}`"), hint.into()));
    }
    if error.raw_os_error() == Some(libc::EAFNOSUPPORT) {
        let hint = "set `listen` to addresses of IPv4 alone, or switch IPv6 on".to_owned();
        return Some((
            format!("`{address}` cannot be listened on: IPv6 is switched off on this machine"),
            hint,
        ));
    }
    let hint = "an IPv6 address that is valid on one link only is written with that link, such as \"[fe80::1%2]:53\"";
    Some((format!("this machine cannot listen on `{address}`: {error}"), hint.into()))
}

fn first_unprivileged() -> u16 {
    let content = file::read(Path::new(UNPRIVILEGED_PORTS), file::SECRET).ok();
    let first = content.and_then(|content| content.text().ok()?.trim().parse().ok());
    first.unwrap_or(FIRST_UNPRIVILEGED)
}

/// Whether a port needs a privilege; port 0 never does.
fn is_privileged(port: u16, first_unprivileged: u16) -> bool {
    (1..first_unprivileged).contains(&port)
}

/// Whether this process may use every port; true if this is unknown.
fn has_privilege() -> bool {
    capabilities(None).map_or(true, |sets| sets.effective.contains(CapabilitySet::NET_BIND_SERVICE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_may_stand_for_another() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (one, other, excluded) in [
            ("0.0.0.0:53", "127.0.0.1:53", true),
            ("0.0.0.0:53", "0.0.0.0:53", true),
            ("[::]:53", "[::1]:53", true),
            ("[::]:53", "[fe80::1%2]:53", true),
            ("127.0.0.1:53", "127.0.0.1:53", true),
            ("[fe80::1%1]:53", "[fe80::1%2]:53", false),
            ("[::]:53", "0.0.0.0:53", false),
            ("[::]:53", "127.0.0.1:53", false),
            ("127.0.0.1:53", "127.0.0.2:53", false),
            ("0.0.0.0:53", "127.0.0.1:54", false),
            ("0.0.0.0:0", "0.0.0.0:0", false),
            ("0.0.0.0:0", "127.0.0.1:0", false),
        ] {
            for (one, other) in [(one, other), (other, one)] {
                assert_eq!(conflict(at(one), at(other)).is_some(), excluded, "{one} {other}");
            }
        }
    }

    /// If two addresses conflict here, the system does not give both to one process.
    #[test]
    fn the_system_agrees() {
        for (one, other) in [
            ("0.0.0.0", "127.0.0.1"),
            ("127.0.0.1", "0.0.0.0"),
            ("127.0.0.1", "127.0.0.2"),
            ("0.0.0.0", "[::]"),
            ("[::]", "0.0.0.0"),
            ("[::]", "[::1]"),
            ("[::]", "127.0.0.1"),
        ] {
            let Ok(first) = crate::sys::stream::listen(format!("{one}:0").parse().unwrap()) else { continue };
            let first = first.local_addr().unwrap();
            let second: SocketAddr = format!("{other}:{}", first.port()).parse().unwrap();
            // Another process may have the port, so only success proves anything.
            if crate::sys::stream::listen(second).is_ok() {
                assert_eq!(conflict(first, second), None, "{first} {second}");
            }
        }
    }

    #[test]
    fn low_ports_need_a_privilege() {
        for (port, first, needs) in [
            (53, 1024, true),
            (1023, 1024, true),
            (1024, 1024, false),
            (0, 1024, false),
            (53, 53, false),
            (52, 53, true),
            (1, 0, false),
        ] {
            assert_eq!(is_privileged(port, first), needs, "{port} {first}");
        }
    }

    #[test]
    fn an_address_of_another_machine_is_absent() {
        let told = |address: &str| absence(address.parse().unwrap()).map(|(message, _)| message);
        assert_eq!(told("127.0.0.1:53"), None);
        assert_eq!(told("0.0.0.0:53"), None);
        assert_eq!(
            told("192.0.2.53:53").as_deref(),
            Some("this machine does not have the address `192.0.2.53`")
        );
    }
}
