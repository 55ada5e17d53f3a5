//! `[keys]`, and `transfer` and `secondaries` of a zone.

use std::collections::HashMap;
use std::net::SocketAddr;

use data_encoding::BASE64;

use crate::config::document::unique;
use crate::config::server::socket_address;
use crate::config::service::dns_name;
use crate::config::value::{NamedValue, TomlValue};
use crate::keys::{Algorithm, Key, Keys};
use crate::name::Name;
use crate::settings::{Allowed, Secondary};
use crate::spelling::closest;

/// The default: implementing it is mandatory (RFC 8945, section 6), and it is not broken.
const DEFAULT_ALGORITHM: Algorithm = Algorithm::HmacSha256;
/// The shortest secret, bytes: a shorter one is easier to guess than its hash (RFC 8945, section 8, requires 16).
const SHORTEST_SECRET: usize = 16;
/// The default port of a secondary.
const DNS_PORT: u16 = 53;

/// The keys by name, to which zones refer.
pub(super) struct ReadKeys {
    pub(super) keys: Keys,
    names: Vec<Name>,
}

/// Reads `[keys]`.
pub(super) fn read_keys(entries: &[NamedValue<'_>]) -> ReadKeys {
    let mut first = HashMap::new();
    let mut names = Vec::new();
    let mut keys = Vec::new();
    for entry in entries {
        let Some(name) = dns_name(*entry) else { continue };
        if unique(&mut first, name.clone(), entry.at, || format!("key `{}`", name.to_plain())) {
            names.push(name.clone());
            keys.extend(read_key(*entry, name));
        }
    }
    ReadKeys { keys: keys.into_iter().collect(), names }
}

fn read_key(entry: NamedValue<'_>, name: Name) -> Option<Key> {
    let mut table = entry.value.table(entry.at)?;
    let algorithm = table.read("algorithm", |value| {
        let text = value.string("the name of an algorithm")?;
        text.parse::<Algorithm>().map_err(|error| value.at.error(error.to_string())).ok()
    });
    let secret = table.require("secret_file", &format!("key `{}`", entry.name), secret);
    table.close();
    Some(Key::new(name, algorithm.map_or(DEFAULT_ALGORITHM, |read| read.value), &secret?.value))
}

/// Reads a file with base64 text, as tsig-keygen and keymgr print it.
fn secret(value: TomlValue<'_>) -> Option<Vec<u8>> {
    let (path, text) = value.secret_file()?;
    let refuse = |reason: String| value.refuse_file(&path, reason);
    match BASE64.decode(text.trim().as_bytes()) {
        Ok(secret) if secret.len() >= SHORTEST_SECRET => return Some(secret),
        Ok(secret) => {
            refuse(format!("the secret has {} bytes; at least {SHORTEST_SECRET} are needed", secret.len()));
        }
        Err(_) => refuse("it must hold the secret in base64, and nothing else".to_owned()),
    }
    None
}

/// Reads `transfer` of a zone: `{ networks = [..], keys = [..] }`.
pub(super) fn read_allowed(entry: NamedValue<'_>, keys: &ReadKeys) -> Option<Allowed> {
    let is_list = entry.value.is_list() || entry.value.as_str().is_some();
    let remedy = is_list.then(|| "write transfer = { networks = [..] }, or { keys = [..] }".to_owned());
    let mut table = entry.value.table_such_as(entry.at, remedy)?;
    let networks = table.read("networks", TomlValue::networks);
    let named = table.read("keys", |value| {
        let elements = value.list("a list of names of [keys]")?;
        Some(elements.into_iter().filter_map(|value| known_key(value, keys)).collect())
    });
    if networks.is_none() && named.is_none() {
        entry.at.error("`transfer` needs `networks` or `keys`: without them nobody may transfer the zone");
    }
    table.close();
    Some(Allowed {
        networks: networks.map(|read| read.value).unwrap_or_default(),
        keys: named.map(|read| read.value).unwrap_or_default(),
    })
}

/// Reads `secondaries` of a zone: `["192.0.2.53", { address = "192.0.2.54:5353", key = ".." }]`.
pub(super) fn read_secondaries(value: TomlValue<'_>, keys: &ReadKeys) -> Option<Vec<Secondary>> {
    let elements = value.list_or_none("a list of secondaries, such as [\"192.0.2.53\"]")?;
    let mut first = HashMap::new();
    let mut secondaries = Vec::new();
    for value in elements {
        let Some(secondary) = read_secondary(value, keys) else { continue };
        let address = secondary.address;
        if unique(&mut first, address, value.at, || format!("secondary `{address}`")) {
            secondaries.push(secondary);
        }
    }
    Some(secondaries)
}

fn read_secondary(value: TomlValue<'_>, keys: &ReadKeys) -> Option<Secondary> {
    if value.is_table() {
        let mut table = value.table(value.at)?;
        let address = table.require("address", "a secondary", secondary_address);
        let key = table.get("key");
        let known = key.and_then(|key| known_key(key.value, keys));
        table.close();
        let is_sound = key.is_none() || known.is_some();
        return address.filter(|_| is_sound).map(|address| Secondary { address: address.value, key: known });
    }
    if value.as_str().is_none() {
        let what =
            "an address, or a table such as { address = \"192.0.2.53\", key = \"secondary.example.com\" }";
        value.expected(what, None);
        return None;
    }
    secondary_address(value).map(|address| Secondary { address, key: None })
}

/// An address, with a port unless it is 53.
fn secondary_address(value: TomlValue<'_>) -> Option<SocketAddr> {
    let text = value.string("an IP address")?;
    if text.parse::<SocketAddr>().is_ok() {
        return socket_address(value).filter(|address| {
            if address.port() == 0 {
                value.at.error("the port of a secondary must not be 0");
            }
            address.port() != 0
        });
    }
    value.address_for("notification").map(|address| SocketAddr::new(address, DNS_PORT))
}

fn known_key(value: TomlValue<'_>, keys: &ReadKeys) -> Option<Name> {
    let text = value.string("the name of a key")?;
    let name = Name::parse(text).ok().filter(|name| keys.names.contains(name));
    if name.is_none() {
        let plain: Vec<String> = keys.names.iter().map(Name::to_plain).collect();
        let near = closest(text, plain.iter().map(String::as_str));
        value.at.error_with_hint(
            format!("there is no key `{text}`"),
            near.map(|near| format!("did you mean `{near}`?")),
        );
    }
    name
}
