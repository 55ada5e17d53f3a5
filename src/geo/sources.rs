//! The sources of the rule tables of a configuration.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::database::GeoDatabase;
use super::list::read_list;
use super::{DATABASE, LIST};
use crate::file::{FileKind, FileStamp, Reading};
use crate::network::Network;
use crate::rules::{Conditions, Fields, GeoLayer, RuleTable};
use crate::service::{Rule, Service};

/// A rule's clients, and where the rest of its networks stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceRule {
    /// See [`Rule::clients`].
    pub clients: Conditions,
    /// See [`Rule::networks_file`].
    pub networks_file: Option<PathBuf>,
}

/// The lists of rules of a configuration, and the files that they need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSources {
    /// In the order of `RuleTableId`.
    lists: Vec<Vec<SourceRule>>,
    /// In the order of precedence.
    databases: Vec<PathBuf>,
}

/// The files that the tables of a configuration were compiled from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleFiles {
    /// The compiled sources.
    pub sources: RuleSources,
    /// The stamps of [`RuleSources::files`], from before they were read.
    pub stamps: Vec<Option<FileStamp>>,
    /// When each database was made, seconds since 1970.
    pub built: Vec<u64>,
}

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct SourceFault {
    /// The file.
    pub path: PathBuf,
    /// The reason.
    pub reason: String,
}

impl From<&Rule> for SourceRule {
    fn from(Rule { clients, networks_file, route: _ }: &Rule) -> Self {
        Self { clients: clients.clone(), networks_file: networks_file.clone() }
    }
}

impl RuleSources {
    /// The sources of these services' tables.
    #[must_use]
    pub fn of(services: &[&Service], databases: Vec<PathBuf>) -> Self {
        let mut lists: Vec<Vec<SourceRule>> = Vec::new();
        for service in services {
            if service.rule_table.is_some_and(|id| id.index() == lists.len()) {
                lists.push(service.rules.iter().map(SourceRule::from).collect());
            }
        }
        Self { lists, databases }
    }

    /// The files to read, each once: the databases first.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        let lists = self.lists.iter().flatten().filter_map(|rule| rule.networks_file.as_deref());
        let mut files: Vec<&Path> = Vec::new();
        for file in self.databases.iter().map(PathBuf::as_path).chain(lists) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
        files
    }

    /// The stamps of [`RuleSources::files`]. `None` for a file that may not be looked up.
    #[must_use]
    pub fn stamps(&self, may_look_at: impl Fn(&Path) -> bool) -> Vec<Option<FileStamp>> {
        let stamp = |path: &Path| Some(path).filter(|path| may_look_at(path)).and_then(FileStamp::of);
        self.files().into_iter().map(stamp).collect()
    }

    /// The databases.
    #[must_use]
    pub fn databases(&self) -> &[PathBuf] {
        &self.databases
    }

    /// The fields of databases that the rules ask for.
    #[must_use]
    pub fn fields(&self) -> Fields {
        let all = self.lists.iter().flatten().map(|rule| rule.clients.fields());
        all.fold(Fields::default(), Fields::or)
    }

    /// Reads all files, and compiles all lists. Returns the tables, and the time when each database was made.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub fn read(&self, reading: &Reading) -> Result<(Vec<Arc<RuleTable>>, Vec<u64>), SourceFault> {
        let wanted = self.fields();
        let mut layers = Vec::new();
        let mut built = Vec::new();
        for path in &self.databases {
            let fault = |reason: String| SourceFault { path: path.clone(), reason };
            let content =
                reading.read(path, FileKind::Database, DATABASE).map_err(|error| fault(error.to_string()))?;
            let database =
                GeoDatabase::read(&content.bytes, wanted).map_err(|error| fault(error.to_string()))?;
            layers.push(database.layer);
            built.push(database.built);
        }
        let mut networks = HashMap::new();
        for path in self.lists.iter().flatten().filter_map(|rule| rule.networks_file.as_ref()) {
            if networks.contains_key(path) {
                continue;
            }
            let fault = |reason: String| SourceFault { path: path.clone(), reason };
            let content =
                reading.read(path, FileKind::Networks, LIST).map_err(|error| fault(error.to_string()))?;
            let text = content.text().map_err(|error| fault(error.to_string()))?;
            let read = read_list(text).map_err(|faults| {
                let first = faults.first().map(|fault| format!("line {}: {}", fault.line, fault.error));
                fault(first.unwrap_or_default())
            })?;
            networks.insert(path.clone(), read);
        }
        Ok((self.compile(&networks, &layers), built))
    }

    /// Compiles all lists.
    #[must_use]
    pub fn compile(
        &self,
        networks: &HashMap<PathBuf, Vec<Network>>,
        layers: &[GeoLayer],
    ) -> Vec<Arc<RuleTable>> {
        let whole = |rule: &SourceRule| {
            let mut clients = rule.clients.clone();
            if let Some(listed) = rule.networks_file.as_ref().and_then(|file| networks.get(file)) {
                clients.networks.get_or_insert_default().extend(listed);
            }
            clients
        };
        let table = |rules: &Vec<SourceRule>| {
            let rules: Vec<Conditions> = rules.iter().map(whole).collect();
            Arc::new(RuleTable::compile(&rules, layers))
        };
        self.lists.iter().map(table).collect()
    }
}
