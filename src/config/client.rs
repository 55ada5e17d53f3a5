//! `[client]`: the servers that commands such as `steerd drain` speak to. A server ignores it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use hyper::Uri;

use crate::config::admin_listen::AdminListen;
use crate::config::document::unique;
use crate::config::value::{NamedValue, TomlTable, TomlValue};

/// The place of an admin server, as a client names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AdminUrl {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    Http {
        /// Whether it speaks TLS.
        tls: bool,
        /// A name, or an address; one of IPv6 in brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// `unix:PATH`.
    Unix(PathBuf),
}

impl AdminUrl {
    /// The place of a server of this machine. An unspecified address is replaced with loopback.
    #[must_use]
    pub fn of(place: AdminListen, tls: bool) -> Self {
        let address = match place {
            AdminListen::Tcp(address) => address,
            AdminListen::Unix(path) => return Self::Unix(path),
        };
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        Self::Http { tls, host, port: address.port() }
    }

    /// The value of the Host header.
    #[must_use]
    pub fn authority(&self) -> String {
        match self {
            Self::Http { host, port, .. } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }

    /// Whether it is reached over TCP without TLS.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        matches!(self, Self::Http { tls: false, .. })
    }

    /// Whether changes may need a token there; on a Unix socket, the rights of the file decide.
    #[must_use]
    pub const fn may_need_token(&self) -> bool {
        matches!(self, Self::Http { .. })
    }
}

impl FromStr for AdminUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let is_path = !path.is_empty();
            return is_path
                .then(|| Self::Unix(path.into()))
                .ok_or_else(|| "expected a path after unix:".into());
        }
        let uri = text.parse::<Uri>().map_err(|error| error.to_string())?;
        match (uri.scheme_str(), uri.host(), uri.path()) {
            (Some(_), ..) if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) => {
                Err("steerd has no users and passwords: give its token with --token-file".into())
            }
            (Some(scheme @ ("http" | "https")), Some(host), "/")
                if !host.is_empty() && uri.query().is_none() =>
            {
                let tls = scheme == "https";
                let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
                Ok(Self::Http { tls, host: host.into(), port })
            }
            (None, Some(_), _) => Err(format!("did you mean http://{text}?")),
            _ => Err("expected http://HOST:PORT, https://HOST:PORT or unix:PATH".into()),
        }
    }
}

impl fmt::Display for AdminUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { tls, host, port } => {
                write!(f, "{}://{host}:{port}", if *tls { "https" } else { "http" })
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `[client]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// `admin`: the servers, in order.
    pub admin: Vec<AdminUrl>,
    /// `token_file`; it has not been read.
    pub token_file: Option<PathBuf>,
    /// `ca_file`: the authorities of their certificates, instead of those of the system; it has not been read.
    pub ca_file: Option<PathBuf>,
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
            ca_file: table.read("ca_file", TomlValue::path).map(|read| read.value),
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
                let url = match url {
                    AdminUrl::Unix(path) => {
                        AdminUrl::Unix(element.at.source().resolve(&path.to_string_lossy()))
                    }
                    url @ AdminUrl::Http { .. } => url,
                };
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
            ("https://lb1.example.com/", "https://lb1.example.com:443"),
            ("https://[::1]:8053", "https://[::1]:8053"),
            ("unix:/run/steerd/admin.sock", "unix:/run/steerd/admin.sock"),
        ] {
            assert_eq!(text.parse::<AdminUrl>().unwrap().to_string(), shown);
        }
        for (text, expected) in [
            ("127.0.0.1:8053", "did you mean http://127.0.0.1:8053?"),
            ("http://127.0.0.1:8053/api", "expected"),
            ("http://user:password@127.0.0.1:8053", "--token-file"),
            ("http://", ""),
            ("/", "expected"),
            ("unix:", "expected"),
            ("", ""),
        ] {
            let error = text.parse::<AdminUrl>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        for (address, shown) in [
            ("0.0.0.0:1", "http://127.0.0.1:1"),
            ("[::]:1", "http://[::1]:1"),
            ("192.0.2.1:1", "http://192.0.2.1:1"),
            ("unix:a", "unix:a"),
        ] {
            assert_eq!(AdminUrl::of(address.parse::<AdminListen>().unwrap(), false).to_string(), shown);
        }
    }
}
