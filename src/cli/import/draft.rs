//! A configuration in the making: pools, services and zones as text, and what could not be carried over.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write;
use std::net::IpAddr;

use serde_json::Value;

/// The longest name of a pool or a backend.
const MAX_NAME: usize = 64;

/// Something that the result lacks, why, and what the operator can do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lost {
    pub(super) what: String,
    pub(super) why: String,
    pub(super) remedy: String,
}

/// A backend of a draft.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct DraftBackend {
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) weight: u64,
    /// Further keys, as TOML.
    pub(super) keys: Vec<(&'static str, String)>,
}

/// A pool of a draft.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct DraftPool {
    pub(super) backends: Vec<DraftBackend>,
    names: UniqueNames,
    /// The places of the backends, by their addresses.
    holders: BTreeMap<IpAddr, usize>,
    /// The place of the first backend of each label.
    labels: BTreeMap<String, usize>,
    /// Checks, as TOML.
    pub(super) checks: Vec<String>,
    /// Further keys, as TOML.
    pub(super) keys: Vec<(&'static str, String)>,
}

/// Names that occur once, found without comparing each with all others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct UniqueNames {
    taken: BTreeSet<String>,
    /// The number to try next, by the name that was wanted.
    numbers: BTreeMap<String, u32>,
}

impl UniqueNames {
    /// Takes `wanted`, or if it is taken, a name with a number.
    fn take(&mut self, wanted: &str) -> String {
        let wanted = plain_name(wanted);
        if self.taken.insert(wanted.clone()) {
            return wanted;
        }
        let stem = wanted.get(..MAX_NAME - 8).unwrap_or(&wanted);
        let number = self.numbers.entry(stem.to_owned()).or_insert(2);
        loop {
            let name = format!("{stem}-{number}");
            *number += 1;
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

impl DraftPool {
    /// The backend with this address.
    pub(super) fn holder(&mut self, address: IpAddr) -> Option<&mut DraftBackend> {
        self.backends.get_mut(*self.holders.get(&address)?)
    }

    /// Adds a backend whose name is `wanted`, as far as it can be one and is free.
    pub(super) fn add(
        &mut self,
        wanted: &str,
        address: IpAddr,
        weight: u64,
        keys: Vec<(&'static str, String)>,
    ) {
        self.holders.insert(address, self.backends.len());
        self.labels.entry(plain_name(wanted)).or_insert(self.backends.len());
        let name = self.names.take(wanted);
        self.backends.push(DraftBackend { name, addresses: vec![address], weight, keys });
    }

    /// Gives the backend with this label one more address, if it has only the other family and else equals it.
    pub(super) fn extend(
        &mut self,
        label: &str,
        address: IpAddr,
        weight: u64,
        keys: &Vec<(&'static str, String)>,
    ) -> bool {
        let place = self.labels.get(&plain_name(label)).copied();
        let found = place.and_then(|place| Some((place, self.backends.get_mut(place)?)));
        let Some((place, backend)) = found.filter(|(_, backend)| {
            let is_other = |known: &IpAddr| known.is_ipv4() != address.is_ipv4();
            backend.weight == weight && backend.keys == *keys && backend.addresses.iter().all(is_other)
        }) else {
            return false;
        };
        backend.addresses.push(address);
        self.holders.insert(address, place);
        true
    }
}

/// A service of a draft.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DraftService {
    pub(super) pools: Vec<String>,
    /// Further keys, as TOML.
    pub(super) keys: Vec<(&'static str, String)>,
    /// Rules, as TOML.
    pub(super) rules: Vec<String>,
}

/// Everything that is written.
#[derive(Clone, Debug, Default)]
pub(super) struct ImportDraft {
    /// Keys of `[server]`, as TOML.
    pub(super) server: Vec<(&'static str, String)>,
    pub(super) pools: BTreeMap<String, DraftPool>,
    pub(super) services: BTreeMap<String, DraftService>,
    /// The text of each zone, by its name without the final dot.
    pub(super) zones: BTreeMap<String, String>,
    pub(super) lost: Vec<Lost>,
    /// The members of `lost`.
    listed: HashSet<Lost>,
    pool_names: UniqueNames,
    /// The name of each pool, by the name that was wanted and its content.
    known: HashMap<(String, DraftPool), String>,
}

impl ImportDraft {
    pub(super) fn lose(
        &mut self,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let lost = Lost { what: what.into(), why: why.into(), remedy: remedy.into() };
        if self.listed.insert(lost.clone()) {
            self.lost.push(lost);
        }
    }

    /// Adds a pool, and returns its name: `wanted`, as far as it can be one and is free.
    pub(super) fn add_pool(&mut self, wanted: &str, pool: DraftPool) -> String {
        let key = (plain_name(wanted), pool.clone());
        if let Some(name) = self.known.get(&key) {
            return name.clone();
        }
        let name = self.pool_names.take(wanted);
        self.known.insert(key, name.clone());
        self.pools.insert(name.clone(), pool);
        name
    }

    /// The configuration file. `origin` says where it comes from.
    pub(super) fn toml(&self, origin: &str) -> String {
        let mut text = format!(
            "# Made by `steerd import` from {}. Read NOTES.txt beside it for what is missing, and config/example.toml for\n\
             # all keys.\n",
            origin.replace(char::is_control, " "),
        );
        if !self.server.is_empty() {
            text.push_str("\n[server]\n");
            keys(&mut text, &self.server);
        }
        text.push_str("\n[admin]\nlisten = \"127.0.0.1:8053\"\n");
        for zone in self.zones.keys() {
            let _ = write!(text, "\n[zones.{}]\nfile = {}\n", quoted(zone), quoted(&zone_file(zone)));
        }
        for (name, pool) in &self.pools {
            let _ = write!(text, "\n[pools.{}]\n", quoted(name));
            keys(&mut text, &pool.keys);
            match pool.checks.as_slice() {
                [] => text.push_str("checks = []\n"),
                [check] => {
                    let _ = writeln!(text, "check = {check}");
                }
                checks => {
                    let _ = writeln!(text, "checks = [\n  {},\n]", checks.join(",\n  "));
                }
            }
            text.push_str("backends = [\n");
            for DraftBackend { name, addresses, weight, keys } in &pool.backends {
                let shown: Vec<String> =
                    addresses.iter().map(|address| quoted(&address.to_string())).collect();
                let _ = match shown.as_slice() {
                    [address] => write!(text, "  {{ name = {}, address = {address}", quoted(name)),
                    all => write!(text, "  {{ name = {}, addresses = [{}]", quoted(name), all.join(", ")),
                };
                if *weight != 1 {
                    let _ = write!(text, ", weight = {weight}");
                }
                for (key, value) in keys {
                    let _ = write!(text, ", {key} = {value}");
                }
                text.push_str(" },\n");
            }
            text.push_str("]\n");
        }
        for (name, service) in &self.services {
            let pools: Vec<String> = service.pools.iter().map(|pool| quoted(pool)).collect();
            let _ = write!(text, "\n[services.{}]\npools = [{}]\n", quoted(name), pools.join(", "));
            keys(&mut text, &service.keys);
            if !service.rules.is_empty() {
                let _ = writeln!(text, "rules = [\n  {},\n]", service.rules.join(",\n  "));
            }
        }
        text
    }

    /// The list of what could not be carried over, as text.
    pub(super) fn notes(&self) -> String {
        let mut text = String::new();
        for Lost { what, why, remedy } in &self.lost {
            let _ = writeln!(text, "- {what}: {why}\n  -> {remedy}");
        }
        text
    }
}

/// The name of the file of a zone.
pub(super) fn zone_file(zone: &str) -> String {
    format!("{}.zone", zone.replace('/', "@"))
}

fn keys(text: &mut String, keys: &[(&'static str, String)]) {
    for (key, value) in keys {
        let _ = writeln!(text, "{key} = {value}");
    }
}

/// A text as a string of TOML. The escapes of JSON are all escapes of TOML, which also forbids the last control character.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// A text as the name of a pool or a backend.
pub(super) fn plain_name(text: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || ".-_".contains(char);
    let name: String =
        text.chars().take(MAX_NAME).map(|char| if is_plain(char) { char } else { '-' }).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_valid() {
        assert_eq!(plain_name("a b/c"), "a-b-c");
        assert_eq!(plain_name(""), "unnamed");
        assert_eq!(plain_name(&"x".repeat(99)).len(), MAX_NAME);
        assert_eq!(quoted("a\"\\\u{7f}\n"), "\"a\\\"\\\\\\u007f\\n\"");
        let mut draft = ImportDraft::default();
        let other = DraftPool { checks: vec!["\"tcp://:1\"".into()], ..DraftPool::default() };
        assert_eq!(draft.add_pool("a b", DraftPool::default()), "a-b");
        assert_eq!(draft.add_pool("a-b", other.clone()), "a-b-2");
        assert_eq!(draft.add_pool("a-b", DraftPool::default()), "a-b", "an equal pool is shared");
        assert_eq!(draft.add_pool("a-b", other), "a-b-2");
    }
}
