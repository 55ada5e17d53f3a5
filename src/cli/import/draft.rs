//! A configuration in the making: pools, services and zones as text, and what could not be carried over.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

/// The longest name of a pool or a backend.
const MAX_NAME: usize = 64;

/// Something that the result lacks, why, and what the operator can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) what: String,
    pub(super) why: String,
    pub(super) remedy: String,
}

/// A backend of a draft.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DraftBackend {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) weight: u64,
    /// Further keys, as TOML.
    pub(super) keys: Vec<(&'static str, String)>,
}

/// A pool of a draft.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DraftPool {
    pub(super) backends: Vec<DraftBackend>,
    /// Checks, as TOML.
    pub(super) checks: Vec<String>,
    /// Further keys, as TOML.
    pub(super) keys: Vec<(&'static str, String)>,
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
}

impl ImportDraft {
    pub(super) fn lose(
        &mut self,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let lost = Lost { what: what.into(), why: why.into(), remedy: remedy.into() };
        if !self.lost.contains(&lost) {
            self.lost.push(lost);
        }
    }

    /// Adds a pool, and returns its name: `wanted`, as far as it can be one and is free.
    pub(super) fn add_pool(&mut self, wanted: &str, pool: DraftPool) -> String {
        let wanted = plain_name(wanted);
        let mut name = wanted.clone();
        for number in 2.. {
            match self.pools.get(&name) {
                Some(known) if *known == pool => return name,
                Some(_) => name = format!("{}-{number}", wanted.get(..MAX_NAME - 8).unwrap_or(&wanted)),
                None => break,
            }
        }
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
            for DraftBackend { name, address, weight, keys } in &pool.backends {
                let _ = write!(text, "  {{ name = {}, address = {}", quoted(name), quoted(address));
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

/// Names that are unique in a pool.
pub(super) fn unique_name(backends: &[DraftBackend], wanted: &str) -> String {
    let wanted = plain_name(wanted);
    let is_free = |name: &str| backends.iter().all(|backend| backend.name != name);
    if is_free(&wanted) {
        return wanted;
    }
    let stem = wanted.get(..MAX_NAME - 8).unwrap_or(&wanted);
    (2..u32::MAX).map(|number| format!("{stem}-{number}")).find(|name| is_free(name)).unwrap_or(wanted)
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
