//! Reads the files that rules name, `[geo]` with its databases, and compiles the rules of all services.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::fault::{ConfigFault, Location, Severity};
use crate::config::service::ReadService;
use crate::config::source::{At, Findings};
use crate::config::value::{Located, NamedValue, TomlValue, listed};
use crate::file::FileKind;
use crate::geo::{DATABASE, GeoDatabase, LIST, MAX_DATABASES, RuleFiles, RuleSources, SourceRule, read_list};
use crate::network::Network;
use crate::printable::{quoted, without_quoted};
use crate::rules::{Fields, RuleTable, RuleTableId};
use crate::service::Service;

/// The keys of a rule that need a geographic database, in the order of `ReadRule::geographic`.
const GEOGRAPHIC: [&str; 3] = ["countries", "continents", "asns"];

/// Compiles the rules of all services, and names each service's table. Returns the tables, and the files that they were
/// compiled from.
pub(super) fn compile<'s>(
    services: &mut [ReadService<'s>],
    geo: Option<NamedValue<'s>>,
    findings: &'s Findings,
) -> (Vec<Arc<RuleTable>>, RuleFiles) {
    let before = findings.errors();
    let databases = geo.map(read_geo).unwrap_or_default();
    let mut known: HashMap<Vec<SourceRule>, RuleTableId> = HashMap::new();
    for service in services.iter_mut().filter(|service| !service.service.rules.is_empty()) {
        let list = service.service.rules.iter().map(SourceRule::from).collect();
        let next = RuleTableId(u32::try_from(known.len()).unwrap_or(u32::MAX));
        service.service.rule_table = Some(*known.entry(list).or_insert(next));
    }
    let paths = databases.iter().map(|database| database.value.clone()).collect();
    let configured: Vec<&Service> = services.iter().map(|service| &service.service).collect();
    let sources = RuleSources::of(&configured, paths);
    // Taken before the files are read: a file that is replaced meanwhile is read again later.
    let stamps = sources.stamps(|path| findings.look_at(path).is_ok());
    let lists = read_lists(services, findings);
    let read: Vec<GeoDatabase> =
        databases.iter().filter_map(|database| read_database(database, sources.fields())).collect();
    needs_database(services, &read, !databases.is_empty());
    if findings.errors() > before || !findings.goes_on() {
        return (Vec::new(), RuleFiles::default());
    }
    let built = read.iter().map(|database| database.built).collect();
    let layers: Vec<_> = read.into_iter().map(|database| database.layer).collect();
    let tables = sources.compile(&lists, &layers);
    drop(layers);
    warn_of_idle(services, &tables);
    (tables, RuleFiles { sources, stamps, built })
}

/// The databases of `[geo]`.
fn read_geo(entry: NamedValue<'_>) -> Vec<Located<'_, PathBuf>> {
    let Some(mut table) = entry.value.table(entry.at) else { return Vec::new() };
    let databases = table.require("database", "[geo]", |value| {
        let values = value.list("a list of files, such as [\"GeoLite2-Country.mmdb\"]")?;
        if values.len() > MAX_DATABASES {
            value.must_be(format!("a list of at most {MAX_DATABASES} files"), None);
            return None;
        }
        let mut paths: Vec<Located<'_, PathBuf>> = Vec::new();
        for value in values {
            let Some(path) = TomlValue::path(value) else { continue };
            match paths.iter().find(|known| known.value == path) {
                Some(first) => value.at.error_beside("this is in the list twice", first.at, "first here"),
                None => paths.push(Located { value: path, at: value.at, inherited: false }),
            }
        }
        Some(paths)
    });
    table.close();
    databases.map(|databases| databases.value).unwrap_or_default()
}

fn read_database(database: &Located<'_, PathBuf>, wanted: Fields) -> Option<GeoDatabase> {
    let path = &database.value;
    let refuse = |reason: &dyn std::fmt::Display| {
        let shown = quoted(&path.to_string_lossy());
        database.at.error(format!("cannot use the geographic database {shown}: {reason}"));
    };
    let content = database
        .at
        .findings()
        .read(path, FileKind::Database, DATABASE)
        .map_err(|error| refuse(&error))
        .ok()?;
    GeoDatabase::read(&content.bytes, wanted).map_err(|error| refuse(&error)).ok()
}

/// The networks of all files that rules name, each read once.
fn read_lists(services: &[ReadService<'_>], findings: &Findings) -> HashMap<PathBuf, Vec<Network>> {
    let mut lists = HashMap::new();
    for service in services {
        for (rule, read) in service.service.rules.iter().zip(&service.rules) {
            if let (Some(path), Some(at)) = (&rule.networks_file, read.networks_file_at)
                && !lists.contains_key(path)
            {
                lists.insert(path.clone(), read_networks(path, at, findings));
            }
        }
    }
    lists
}

/// The networks of a file. A file with faults has none, so that it is reported once.
fn read_networks(path: &Path, at: At<'_>, findings: &Findings) -> Vec<Network> {
    let refuse = |error: std::io::Error| {
        at.error(format!("cannot read `networks_file` {}: {error}", quoted(&path.to_string_lossy())));
    };
    let Ok(content) = findings.read(path, FileKind::Networks, LIST).map_err(refuse) else {
        return Vec::new();
    };
    let Ok(text) = content.text().map_err(refuse) else { return Vec::new() };
    let faults = match read_list(text) {
        Ok(networks) => {
            if networks.is_empty() {
                at.warning(
                    format!("`networks_file` {} names no network", quoted(&path.to_string_lossy())),
                    None,
                );
            }
            return networks;
        }
        Err(faults) => faults,
    };
    let quotable = content.origin.is_quotable_by(at.source().path());
    for fault in faults {
        let location = Location::in_line(path.into(), fault.line, &fault.text, fault.span);
        let message = fault.error.to_string();
        let (location, message) = if quotable {
            (location, message)
        } else {
            (location.without_text(), without_quoted(&message).into_owned())
        };
        findings.push(ConfigFault {
            severity: Severity::Error,
            message,
            location,
            hint: None,
            related: None,
        });
    }
    Vec::new()
}

/// Reports rules that ask for geography without a database, or for a field that no database has.
fn needs_database(services: &[ReadService<'_>], databases: &[GeoDatabase], are_named: bool) {
    let fields = databases.iter().map(|database| database.fields).fold(Fields::default(), Fields::or);
    let has = [fields.country, fields.continent, fields.asn];
    let known: Vec<String> = databases
        .iter()
        .map(|GeoDatabase { kind, networks, fields, .. }| {
            let has = [fields.country, fields.continent, fields.asn].into_iter().zip(GEOGRAPHIC);
            let has: Vec<String> = has.filter(|(has, _)| *has).map(|(_, key)| format!("`{key}`")).collect();
            let has = if has.is_empty() { "none of these".to_owned() } else { listed(&has, "and") };
            format!("{kind} has {networks} networks, with {has}")
        })
        .collect();
    for read in services.iter().flat_map(|service| &service.rules) {
        for ((at, key), has) in read.geographic.into_iter().zip(GEOGRAPHIC).zip(has) {
            let Some(at) = at.filter(|_| !has) else { continue };
            if !are_named {
                at.error_with_hint(
                    format!("`{key}` needs a geographic database, and there is none"),
                    "name its file by `database` in [geo]".to_owned(),
                );
            } else if !databases.is_empty() {
                let message =
                    format!("no client meets `{key}`: no database has this field ({})", known.join("; "));
                at.warning(message, None);
            }
        }
    }
}

/// Warns of rules that apply to nobody.
fn warn_of_idle(services: &[ReadService<'_>], tables: &[Arc<RuleTable>]) {
    for service in services {
        let table = service.service.rule_table.and_then(|id| tables.get(id.index()));
        let idle = table.iter().flat_map(|table| table.idle().iter().copied());
        for rule in idle {
            let Some(read) = service.rules.get(usize::from(rule)) else { continue };
            let message = format!(
                "rule {} of service `{}` never applies: rules before it apply to all its clients, or nobody meets \
                 its conditions",
                rule + 1,
                service.service.name,
            );
            read.at.warning(message, "the first rule that applies counts".to_owned());
        }
    }
}
