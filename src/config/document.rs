//! Collects the sections of a configuration from its files.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use crate::config::misplaced;
use crate::config::source::{At, Findings, SourceFile};
use crate::config::value::{NamedValue, SplitName, TomlTable, TomlValue};
use crate::file::{self, FileKind, Matches};

/// The fault of a configuration that only a client can use.
pub(super) const ONLY_SERVERS: &str =
    "this file names only servers ([client]); give the configuration of an instance with -c FILE";

/// A file and its parsed content.
#[derive(Debug)]
pub(super) struct Document<'s> {
    source: &'s SourceFile,
    tree: Spanned<DeTable<'s>>,
}

/// All sections of all files.
#[derive(Debug, Default)]
pub(super) struct Sections<'s> {
    pub(super) server: Option<NamedValue<'s>>,
    pub(super) admin: Option<NamedValue<'s>>,
    pub(super) client: Option<NamedValue<'s>>,
    pub(super) geo: Option<NamedValue<'s>>,
    pub(super) alerts: Vec<TomlValue<'s>>,
    pub(super) check_defaults: Option<NamedValue<'s>>,
    pub(super) pool_defaults: Option<NamedValue<'s>>,
    pub(super) service_defaults: Option<NamedValue<'s>>,
    pub(super) keys: Vec<NamedValue<'s>>,
    pub(super) zones: Vec<NamedValue<'s>>,
    pub(super) pools: Vec<NamedValue<'s>>,
    pub(super) services: Vec<NamedValue<'s>>,
}

impl<'s> Document<'s> {
    /// Parses a file as TOML, and reports its faults.
    pub(super) fn parse(source: &'s SourceFile, findings: &'s Findings) -> Self {
        Self { source, tree: source.parse(findings) }
    }

    fn table<'d>(&'d self, findings: &'d Findings) -> TomlTable<'d> {
        TomlTable::of_file(self.source.at(findings, None), self.tree.get_ref())
    }

    /// Reads the files that `include` names, in the order of the patterns, and for each pattern by name. A file that
    /// several patterns match is read once. The including file is not read again.
    pub(super) fn included(&self, findings: &Findings) -> Vec<SourceFile> {
        let mut seen: HashSet<PathBuf> = HashSet::from([identity(self.source.path())]);
        let mut sources = Vec::new();
        let mut left = file::CONFIGURATION.saturating_sub(self.source.size());
        let patterns = self
            .table(findings)
            .get("include")
            .and_then(|entry| entry.value.list("a list of paths, such as [\"pools.d/*.toml\"]"));
        for pattern in patterns.unwrap_or_default() {
            for path in matching(pattern, findings) {
                // If access is denied, reading the file reports the reason.
                if findings.look_at(&path).is_ok() && !seen.insert(identity(&path)) {
                    continue;
                }
                let content = match findings.read(&path, FileKind::Configuration, left) {
                    Ok(content) => content,
                    Err(error) => {
                        pattern.at.error(format!("cannot read {}: {error}", path.display()));
                        continue;
                    }
                };
                left = left.saturating_sub(content.bytes.len() as u64);
                let quotable = content.origin.is_quotable_by(self.source.path());
                match SourceFile::from_bytes(&path, content.bytes, quotable) {
                    Ok(source) => sources.push(source),
                    Err(fault) => findings.push(*fault),
                }
            }
        }
        sources
    }
}

/// The canonical form of a path.
fn identity(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The files that a pattern of `include` matches.
fn matching(pattern: TomlValue<'_>, findings: &Findings) -> Vec<PathBuf> {
    let Some(path) = pattern.path() else { return Vec::new() };
    let Matches { files, faults } = findings.matches(&path);
    if files.is_empty() && faults.is_empty() {
        pattern.at.warning(format!("no file matches {}", path.display()), None);
    }
    for fault in faults {
        pattern.at.error(fault.to_string());
    }
    files
}

impl<'s> Sections<'s> {
    /// Collects the sections of the main file and of the included files. Reports a section that is repeated although it
    /// may occur only once.
    /// Whether the file is for a client: it has `[client]`, and no server could run with it.
    pub(super) fn name_only_servers(&self) -> bool {
        self.client.is_some()
            && self.server.is_none()
            && self.admin.is_none()
            && self.zones.is_empty()
            && self.pools.is_empty()
            && self.services.is_empty()
    }

    pub(super) fn collect(
        main: &'s Document<'s>,
        included: &'s [Document<'s>],
        findings: &'s Findings,
    ) -> Self {
        let mut sections = Self::default();
        let mut pool_names = HashMap::new();
        for (place, document) in std::iter::once(main).chain(included).enumerate() {
            let mut table = document.table(findings);
            if let Some(include) = table.get("include")
                && place > 0
            {
                include.at.error_with_hint(
                    "an included file cannot include others",
                    "name them in the main file".to_owned(),
                );
            }
            once(&mut sections.server, table.get("server"), "[server]");
            once(&mut sections.admin, table.get("admin"), "[admin]");
            once(&mut sections.client, table.get("client"), "[client]");
            once(&mut sections.geo, table.get("geo"), "[geo]");
            if let Some(alerts) = table.get("alerts") {
                sections.alerts.extend(tables(alerts));
            }
            sections.keys.extend(named(table.get("keys"), misplaced::OF_A_KEY));
            sections.zones.extend(named(table.get("zones"), misplaced::OF_A_ZONE));
            sections.services.extend(named(table.get("services"), misplaced::OF_A_SERVICE));
            for pool in named(table.get("pools"), misplaced::OF_A_POOL) {
                if unique(&mut pool_names, pool.name, pool.at, || format!("pool `{}`", pool.name)) {
                    sections.pools.push(pool);
                }
            }
            if let Some(defaults) = table.get("defaults")
                && let Some(mut defaults) = defaults.value.table(defaults.at)
            {
                once(&mut sections.check_defaults, defaults.get("check"), "[defaults.check]");
                once(&mut sections.pool_defaults, defaults.get("pool"), "[defaults.pool]");
                once(&mut sections.service_defaults, defaults.get("service"), "[defaults.service]");
                defaults.close();
            }
            table.close();
        }
        sections
    }
}

/// The entries of a section whose names the operator chooses. If TOML has split a name at its dots, this is reported
/// once, and the entry that was meant replaces the parts. `keys` are the keys of an entry.
fn named<'s>(section: Option<NamedValue<'s>>, keys: &[&str]) -> Vec<NamedValue<'s>> {
    let Some(section) = section else { return Vec::new() };
    if section.value.is_list() {
        section.value.expected("a table", format!("write [{}.NAME], in single brackets", section.name));
        return Vec::new();
    }
    let mut entries = Vec::new();
    for entry in section.value.entries() {
        let split = entry.split_names(keys);
        if split.is_empty() || entry.has_any(keys) {
            entries.push(entry);
        }
        for SplitName { name, at, entry } in split {
            at.error_with_hint(
                format!("a name with dots needs quotes: without, `{name}` is a table in a table"),
                format!("write [{}.\"{name}\"]", section.name),
            );
            entries.extend(entry);
        }
    }
    entries
}

/// Whether a name is new. Otherwise reports it, with the location of the first.
pub(super) fn unique<'s, K: std::hash::Hash + Eq>(
    names: &mut HashMap<K, At<'s>>,
    name: K,
    at: At<'s>,
    shown: impl FnOnce() -> String,
) -> bool {
    if let Some(first) = names.get(&name) {
        at.error_beside(format!("{} is defined twice", shown()), *first, "first here");
        return false;
    }
    names.insert(name, at);
    true
}

/// The tables of a list of tables, `[[name]]`.
fn tables(section: NamedValue<'_>) -> Vec<TomlValue<'_>> {
    if section.value.is_table() {
        section.value.expected("a list of tables", format!("write [[{}]], in double brackets", section.name));
        return Vec::new();
    }
    section.value.list_or_none(&format!("a list of tables, [[{}]]", section.name)).unwrap_or_default()
}

fn once<'s>(slot: &mut Option<NamedValue<'s>>, entry: Option<NamedValue<'s>>, name: &str) {
    match (*slot, entry) {
        (Some(first), Some(second)) => {
            second.at.error_beside(format!("{name} is defined twice"), first.at, "first here");
        }
        (None, Some(entry)) => *slot = Some(entry),
        (_, None) => {}
    }
}
