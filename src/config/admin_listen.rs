//! `listen` and `socket` of `[admin]`: where the admin server listens, and who may open its Unix socket.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::account::group_id;
use crate::config::document::unique;
use crate::config::server::socket_address;
use crate::config::value::{Located, NamedValue, TomlValue};

/// The prefix of the path of a Unix socket.
const UNIX: &str = "unix:";
/// The longest path of a Unix socket, bytes: the kernel has room for no more.
const LONGEST_PATH: usize = 107;
/// The mode of the file of a Unix socket, unless the configuration sets another one.
const DEFAULT_MODE: u32 = 0o660;

/// An address of the admin server: `127.0.0.1:8053`, `unix:/run/steerd/admin.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AdminListen {
    /// Address and port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl AdminListen {
    /// Address and port; none for a Unix socket.
    #[must_use]
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl FromStr for AdminListen {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(UNIX) {
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp),
        }
    }
}

/// The rights of the file of a Unix socket. Who may write to it can connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketRights {
    /// The permission bits.
    pub mode: u32,
    /// The group of the file; none for that of the process.
    pub group: Option<u32>,
}

impl Default for SocketRights {
    fn default() -> Self {
        Self { mode: DEFAULT_MODE, group: None }
    }
}

impl fmt::Display for SocketRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mode {:04o}", self.mode)?;
        self.group.map_or(Ok(()), |group| write!(f, ", group {group}"))
    }
}

/// Reads one address or a list of them.
pub(super) fn places(value: TomlValue<'_>) -> Option<Vec<Located<'_, AdminListen>>> {
    let what = "addresses, such as [\"127.0.0.1:8053\", \"unix:/run/steerd/admin.sock\"]";
    let elements = if value.is_list() { value.list(&format!("a list of {what}"))? } else { vec![value] };
    let mut known = HashMap::new();
    let mut places = Vec::new();
    for element in elements {
        let Some(place) = place(element) else { continue };
        if unique(&mut known, place.clone(), element.at, || format!("the address `{place}`")) {
            places.push(Located { value: place, at: element.at, inherited: false });
        }
    }
    (!places.is_empty()).then_some(places)
}

fn place(value: TomlValue<'_>) -> Option<AdminListen> {
    let Some(path) = value.as_str().and_then(|text| text.strip_prefix(UNIX)) else {
        return socket_address(value).map(AdminListen::Tcp);
    };
    if path.is_empty() {
        value.must_be("the path of a Unix socket, such as \"unix:/run/steerd/admin.sock\"", None);
        return None;
    }
    let path = value.at.source().resolve(path);
    let length = path.as_os_str().len();
    if length > LONGEST_PATH {
        value
            .at
            .error(format!("the path of a Unix socket has at most {LONGEST_PATH} bytes; this has {length}"));
        return None;
    }
    Some(AdminListen::Unix(path))
}

/// Reads `socket`.
pub(super) fn socket_rights(entry: NamedValue<'_>) -> SocketRights {
    let mut rights = SocketRights::default();
    let Some(mut table) = entry.value.table(entry.at) else { return rights };
    if let Some(mode) = table.read("mode", mode) {
        rights.mode = mode.value;
    }
    rights.group = table.read("group", group).map(|read| read.value);
    table.close();
    rights
}

fn mode(value: TomlValue<'_>) -> Option<u32> {
    let what = "a mode in octal that lets the owner read and write, such as \"0660\"";
    let text = value.string(what)?;
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..b'8').contains(&byte));
    let mode =
        u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777 && mode & 0o600 == 0o600);
    if mode.is_none() {
        value.must_be(what, None);
    }
    mode
}

fn group(value: TomlValue<'_>) -> Option<u32> {
    let name = value.string("the name or the number of a group")?;
    let group = name.parse().ok().or_else(|| group_id(name));
    if group.is_none() {
        value.at.error_with_hint(
            format!("this machine has no group `{name}` in /etc/group"),
            "create it, or give the number of a group that another source knows".to_owned(),
        );
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_shown() {
        for text in ["127.0.0.1:8053", "[::1]:8053", "unix:/run/steerd/admin.sock", "unix:a"] {
            assert_eq!(text.parse::<AdminListen>().unwrap().to_string(), text);
        }
        assert!("127.0.0.1".parse::<AdminListen>().is_err());
        assert_eq!(SocketRights { mode: 0o600, group: Some(7) }.to_string(), "mode 0600, group 7");
    }
}
