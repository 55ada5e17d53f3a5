//! `[pools.NAME]`: backends, their check, and when the pool is usable.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::checker::PoolSetup;
use crate::config::check::CheckKeys;
use crate::config::source::At;
use crate::config::value::{Entry, Located, Table, Value};
use crate::pool::{Backend, MAX_WEIGHT, MinHealthy, Pool, Require};

/// The longest name of a pool or a backend, bytes: they are labels of metrics and columns of a
/// terminal.
const MAX_NAME: usize = 64;

/// A pool as read.
#[derive(Debug)]
pub(super) struct ReadPool<'s> {
    /// Where its name stands.
    pub(super) at: At<'s>,
    /// What was read of it.
    pub(super) setup: PoolSetup,
    /// Whether something was wrong with it: then nothing is concluded from what is left.
    pub(super) faulty: bool,
}

/// The keys of a pool that can have a default.
#[derive(Debug, Default)]
pub(super) struct PoolKeys<'s> {
    check: Option<Located<'s, CheckKeys<'s>>>,
    min_healthy: Option<Located<'s, MinHealthy>>,
}

/// Which names and addresses a pool has so far.
#[derive(Default)]
struct Taken<'s> {
    names: HashMap<String, At<'s>>,
    addresses: HashMap<IpAddr, At<'s>>,
}

impl<'s> PoolKeys<'s> {
    /// Reads `[defaults.pool]`.
    pub(super) fn read_defaults(entry: Entry<'s>) -> Self {
        let Some(mut table) = entry.value.table(entry.at) else { return Self::default() };
        let keys = Self::read(&mut table);
        table.close();
        keys
    }

    fn read(table: &mut Table<'s>) -> Self {
        Self {
            check: table.read("check", CheckKeys::read),
            min_healthy: table.read("min_healthy", min_healthy),
        }
    }
}

impl<'s> ReadPool<'s> {
    /// Reads one pool. A faulty one is still one: services may name it.
    pub(super) fn read(entry: Entry<'s>, defaults: &PoolKeys<'s>, check_defaults: &CheckKeys<'s>) -> Self {
        let before = entry.at.findings().errors();
        check_name(entry.at, entry.name, "a pool", is_in_pool_name);
        let mut pool = Pool::new(entry.name, Vec::new());
        let mut checks = Vec::new();
        if let Some(mut table) = entry.value.table(entry.at) {
            let owner = format!("pool `{}`", entry.name);
            if let Some(backends) = table.require("backends", &owner, read_backends) {
                pool.backends = backends.value;
            }
            let keys = PoolKeys::read(&mut table);
            table.close();
            checks = Located::or_default(keys.check, defaults.check.as_ref())
                .and_then(|check| check.value.resolve(check_defaults, check.at))
                .into_iter()
                .collect();
            if let Some(minimum) = Located::or_default(keys.min_healthy, defaults.min_healthy.as_ref()) {
                pool.min_healthy = minimum.value;
                // A default is meant for pools of many sizes, but what can never be met is no
                // less a fault for it; it is shown at the pool then.
                let at = if minimum.inherited { entry.at } else { minimum.at };
                if entry.at.findings().errors() == before {
                    check_min_healthy(at, &pool);
                }
            }
        }
        let faulty = entry.at.findings().errors() > before;
        Self { at: entry.at, setup: PoolSetup { pool, checks, require: Require::All }, faulty }
    }
}

fn check_min_healthy(at: At<'_>, pool: &Pool) {
    let addresses: usize = pool.backends.iter().map(|backend| backend.addresses.len()).sum();
    let MinHealthy::Count(minimum) = pool.min_healthy else { return };
    if minimum as usize > addresses {
        at.error(format!(
            "`min_healthy` is {minimum}, but pool `{}` has {addresses} addresses: it would never be usable",
            pool.name
        ));
    }
}

fn read_backends(value: Value<'_>) -> Option<Vec<Backend>> {
    let what = "a list of backends, such as [\"192.0.2.11\", \"192.0.2.12\"]";
    let mut taken = Taken::default();
    Some(value.list(what)?.into_iter().filter_map(|value| taken.read_backend(value)).collect())
}

impl<'s> Taken<'s> {
    /// Reads a backend: an address or a table.
    fn read_backend(&mut self, value: Value<'s>) -> Option<Backend> {
        if value.is_table() {
            return self.read_table(value.table(value.at)?);
        }
        if value.as_str().is_none() {
            value.expected("an address, or a table such as { name = \"a\", address = \"192.0.2.11\" }", None);
            return None;
        }
        let address = self.address(value)?;
        let name = self.name(value.at, address.to_string())?;
        Some(Backend::new(name, vec![address]))
    }

    fn read_table(&mut self, mut table: Table<'s>) -> Option<Backend> {
        let at = table.at;
        let name = table.read("name", |value| value.string("a name"));
        let one = table.get("address");
        let several = table.get("addresses");
        let weight =
            table.read("weight", |value| value.integer(0..=MAX_WEIGHT)).map_or(1, |weight| weight.value);
        let enabled = table.read("enabled", Value::boolean).is_none_or(|enabled| enabled.value);
        table.close();
        let addresses: Vec<IpAddr> = match (one, several) {
            (Some(one), Some(several)) => {
                several.at.error_beside(
                    "a backend has `address` or `addresses`, not both",
                    one.at,
                    "the other",
                );
                return None;
            }
            (None, None) => {
                at.error("the backend has no `address`");
                return None;
            }
            (Some(one), None) => {
                let hint = one.value.is_list().then(|| "several addresses stand in `addresses`".to_owned());
                if one.value.as_str().is_none() {
                    one.value.expected("an IP address", hint);
                    return None;
                }
                self.address(one.value).into_iter().collect()
            }
            (None, Some(several)) => {
                let values = several.value.list("a list of IP addresses")?;
                values.into_iter().filter_map(|value| self.address(value)).collect()
            }
        };
        let name = match name {
            Some(name) => {
                check_name(name.at, name.value, "a backend", is_in_backend_name);
                self.name(name.at, name.value.to_owned())?
            }
            None => self.name(at, addresses.first()?.to_string())?,
        };
        Some(Backend { weight, enabled, ..Backend::new(name, addresses) })
    }

    fn address(&mut self, value: Value<'s>) -> Option<IpAddr> {
        let address = value.address()?;
        if let Some(first) = self.addresses.insert(address, value.at) {
            value.at.error_beside(format!("{address} is in this pool already"), first, "first here");
            return None;
        }
        Some(address)
    }

    fn name(&mut self, at: At<'s>, name: String) -> Option<String> {
        if let Some(first) = self.names.insert(name.clone(), at) {
            at.error_beside(format!("a backend `{name}` is in this pool already"), first, "first here");
            return None;
        }
        Some(name)
    }
}

/// Names are written as `POOL/BACKEND` on the command line and in URLs.
fn check_name(at: At<'_>, name: &str, what: &str, is_allowed: impl Fn(char) -> bool) {
    if name.is_empty() || name.len() > MAX_NAME {
        at.error(format!("the name of {what} has 1 to {MAX_NAME} characters; this has {}", name.len()));
    } else if let Some(bad) = name.chars().find(|character| !is_allowed(*character)) {
        at.error_with_hint(
            format!("{bad:?} cannot stand in the name of {what}"),
            "letters, digits, dots, dashes and underscores can".to_owned(),
        );
    }
}

fn is_in_pool_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_')
}

/// A backend without a name is named by its address, which can hold colons; so can a name.
fn is_in_backend_name(character: char) -> bool {
    is_in_pool_name(character) || character == ':'
}

fn min_healthy(value: Value<'_>) -> Option<MinHealthy> {
    let what = "a count from 1, or a share of the weight from \"1%\" to \"100%\"";
    if value.is_integer() {
        return value.integer(1..=u32::MAX).map(MinHealthy::Count);
    }
    let text = value.string(what)?;
    let percent = text.strip_suffix('%').and_then(|digits| digits.trim_end().parse().ok());
    let valid = percent.filter(|percent| (1..=100).contains(percent));
    if valid.is_none() {
        value.must_be(format!("{what}; this is `{text}`"), None);
    }
    valid.map(MinHealthy::Percent)
}
