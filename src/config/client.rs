//! `[client]`: the servers that commands such as `steerd drain` speak to. A server ignores it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use hyper::Uri;

use crate::config::document::unique;
use crate::config::value::{NamedValue, TomlTable, TomlValue};

/// Host and port of an admin server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AdminUrl {
    /// A name, or an address; one of IPv6 in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromStr for AdminUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri = text.parse::<Uri>().map_err(|error| error.to_string())?;
        match (uri.scheme_str(), uri.host(), uri.path()) {
            (Some(_), ..) if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) => {
                Err("steerd has no users and passwords: give its token with --token-file".into())
            }
            (Some("http"), Some(host), "/") if !host.is_empty() && uri.query().is_none() => {
                Ok(Self { host: host.into(), port: uri.port_u16().unwrap_or(80) })
            }
            (Some("https"), ..) => {
                Err("the admin server speaks HTTP without TLS: use a tunnel to http://127.0.0.1:PORT".into())
            }
            (None, Some(_), _) => Err(format!("did you mean http://{text}?")),
            _ => Err("expected http://HOST:PORT".into()),
        }
    }
}

impl From<SocketAddr> for AdminUrl {
    /// An unspecified address is replaced with loopback.
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        Self { host, port: address.port() }
    }
}

impl fmt::Display for AdminUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

/// `[client]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// `admin`: the servers, in order.
    pub admin: Vec<AdminUrl>,
    /// `token_file`; it has not been read.
    pub token_file: Option<PathBuf>,
}

impl ClientSettings {
    /// Reads `[client]`, which may be missing.
    pub(super) fn read(entry: Option<NamedValue<'_>>) -> Self {
        let Some(mut table) = entry.and_then(|entry| entry.value.table(entry.at)) else {
            return Self::default();
        };
        let settings = Self::from_table(&mut table);
        table.close();
        settings
    }

    /// Reads the keys, and leaves unknown ones unreported.
    pub(super) fn from_table(table: &mut TomlTable<'_>) -> Self {
        Self {
            admin: table.read("admin", servers).map(|read| read.value).unwrap_or_default(),
            token_file: table.read("token_file", TomlValue::path).map(|read| read.value),
        }
    }
}

fn servers(value: TomlValue<'_>) -> Option<Vec<AdminUrl>> {
    let what = "a list of URLs of admin servers, such as [\"http://192.0.2.1:8053\"]";
    let mut known = HashMap::new();
    let mut urls = Vec::new();
    for element in value.list(what)? {
        let Some(text) = element.string("the URL of an admin server, such as \"http://192.0.2.1:8053\"")
        else {
            continue;
        };
        match text.parse::<AdminUrl>() {
            Ok(url) => {
                if unique(&mut known, url.clone(), element.at, || format!("the server {url}")) {
                    urls.push(url);
                }
            }
            Err(error) => element.at.error(format!("`{text}` is not the URL of an admin server: {error}")),
        }
    }
    Some(urls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_admin_servers() {
        for (text, shown) in [
            ("http://127.0.0.1:8053", "http://127.0.0.1:8053"),
            ("http://127.0.0.1:8053/", "http://127.0.0.1:8053"),
            ("http://[::1]:8053", "http://[::1]:8053"),
            ("http://lb1.example.com", "http://lb1.example.com:80"),
        ] {
            assert_eq!(text.parse::<AdminUrl>().unwrap().to_string(), shown);
        }
        for (text, expected) in [
            ("https://127.0.0.1:8053", "without TLS"),
            ("127.0.0.1:8053", "did you mean http://127.0.0.1:8053?"),
            ("http://127.0.0.1:8053/api", "expected"),
            ("http://user:password@127.0.0.1:8053", "--token-file"),
            ("http://", ""),
            ("/", "expected"),
            ("", ""),
        ] {
            let error = text.parse::<AdminUrl>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        for (address, shown) in [
            ("0.0.0.0:1", "http://127.0.0.1:1"),
            ("[::]:1", "http://[::1]:1"),
            ("192.0.2.1:1", "http://192.0.2.1:1"),
        ] {
            assert_eq!(AdminUrl::from(address.parse::<SocketAddr>().unwrap()).to_string(), shown);
        }
    }
}
