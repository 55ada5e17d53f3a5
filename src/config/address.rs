//! Suggests fixes for text that is not the address it should be.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Whether the text has a user name, perhaps with a password, before the host. Messages never quote
/// such a text.
pub(super) fn has_credentials(text: &str) -> bool {
    text.contains('@')
}

/// The hint if `text` is not an IP address; `owner` says whose address is expected.
pub(super) fn hint(text: &str, owner: &str) -> Option<String> {
    let meant = |address: IpAddr| format!("did you mean \"{address}\"?");
    if let Some((_, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let host = authority.parse::<SocketAddr>().map(|address| address.ip()).or(authority.parse());
        let meant = host.map_or_else(|_| String::new(), |host| format!(", as in \"{host}\""));
        return Some(format!("write the address alone{meant}: scheme, port and path belong to `check`"));
    }
    if text.parse::<SocketAddr>().is_ok() {
        return Some(
            "write the address alone; a port is `port` of the check, or of the backend as a table".to_owned(),
        );
    }
    if let Some(bare) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return bare.parse().ok().map(meant);
    }
    if let Some((address, length)) = text.split_once('/') {
        let address: IpAddr = address.parse().ok()?;
        let whole = if address.is_ipv4() { "32" } else { "128" };
        return Some(if length == whole {
            meant(address)
        } else {
            "this is a network: write each address of it that is meant".to_owned()
        });
    }
    if let Some((address, _)) = text.split_once('%') {
        address.parse::<IpAddr>().ok()?;
        return Some(
            "an address with an interface behind % is valid on one link only: write a global address"
                .to_owned(),
        );
    }
    let is_name = !text.contains(':') && text.chars().any(char::is_alphabetic);
    is_name.then(|| format!("names are not looked up: write the addresses of {owner}"))
}

/// The hint if `text` is not a listen address with a port.
pub(super) fn listen_hint(text: &str) -> Option<String> {
    // If the brackets are missing, the last group of an IPv6 address may be a port. Usually it is one.
    if let Some((host, port)) = text.rsplit_once(':')
        && let (Ok(host), Ok(port)) = (host.parse::<Ipv6Addr>(), port.parse())
    {
        return Some(format!("did you mean \"{}\"?", SocketAddr::new(host.into(), port)));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(format!("did you mean \"{}\"?", SocketAddr::new(address, 53)));
    }
    let (host, port) = text.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    match host {
        "" | "*" => Some(format!(
            "write \"0.0.0.0:{port}\" for every IPv4 address, and \"[::]:{port}\" for every IPv6 address"
        )),
        "localhost" => Some(format!("write \"127.0.0.1:{port}\", and \"[::1]:{port}\" for IPv6")),
        _ if host.starts_with('[') && host.contains('%') => Some(format!(
            "write the number of the interface, which `ip link` shows, in place of its name: \"[fe80::1%2]:{port}\""
        )),
        _ if host.chars().any(char::is_alphabetic) && !host.contains(':') => {
            Some("names are not looked up: write an address of this machine".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_place_of_an_address() {
        for (text, expected) in [
            ("http://192.0.2.1:8080/x", "write the address alone, as in \"192.0.2.1\": scheme"),
            ("https://web.example.com", "write the address alone: scheme, port and path"),
            ("192.0.2.1:80", "write the address alone; a port is `port` of the check"),
            ("[2001:db8::1]", "did you mean \"2001:db8::1\"?"),
            ("192.0.2.0/24", "this is a network"),
            ("2001:db8::/32", "this is a network"),
            ("192.0.2.7/32", "did you mean \"192.0.2.7\"?"),
            ("fe80::1%eth0", "an address with an interface behind % is valid on one link only"),
            ("web.example.com", "names are not looked up: write the addresses of the backend"),
        ] {
            let told = hint(text, "the backend").unwrap_or_default();
            assert!(told.starts_with(expected), "{text}: {told}");
        }
        for text in ["", "192.0.2.999", "192.0.2", "2001:db8:::1", "[x]", "x/y"] {
            assert_eq!(hint(text, "the backend"), None, "{text}");
        }
        for (text, expected) in [
            (":53", "write \"0.0.0.0:53\""),
            ("*:5353", "write \"0.0.0.0:5353\""),
            ("localhost:53", "write \"127.0.0.1:53\""),
            ("[fe80::1%eth0]:53", "write the number of the interface"),
            ("ns1.example.com:53", "names are not looked up"),
            ("192.0.2.1", "did you mean \"192.0.2.1:53\"?"),
            ("2001:db8::1", "did you mean \"[2001:db8::1]:53\"?"),
            ("::1:53", "did you mean \"[::1]:53\"?"),
            ("2001:db8::1:5300", "did you mean \"[2001:db8::1]:5300\"?"),
        ] {
            let told = listen_hint(text).unwrap_or_default();
            assert!(told.starts_with(expected), "{text}: {told}");
        }
        for text in ["", ":", "192.0.2.1:70000", "[::1]", "192.0.2.999:53"] {
            assert_eq!(listen_hint(text), None, "{text}");
        }
    }
}
