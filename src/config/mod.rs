//! The configuration: from TOML to a setup that can be run, or to every fault at once.
//!
//! ```text
//! files -> document: sections of all files -> server, pool + check, service -> zones: bind names
//!                                                                           -> fit: size of answers
//!                                                                           -> advice: warnings
//! ```
//!
//! Every value has its location in the file (`value`). Code that reads a value reports faults with the location and
//! continues, so one run finds all faults. A part with a fault leads to no further faults: one mistake gives one
//! message. The effects of settings are not here.

mod access;
mod account;
mod address;
mod admin;
mod admin_listen;
mod admin_tls;
mod advice;
mod alerts;
mod binding;
mod check;
mod client;
mod document;
pub mod fault;
mod fit;
mod geo;
mod labels;
mod last_good;
mod load;
mod masked;
mod misplaced;
mod names;
mod persistence;
mod pool;
mod route;
mod rules;
mod server;
mod service;
mod shares;
mod source;
mod token;
mod transfer;
mod unquoted;
mod value;
mod visibility;
mod zones;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::alerts::AllAlerts;
use crate::config::alerts::KnownNames;
use crate::config::check::CheckKeys;
use crate::config::document::{Document, ONLY_SERVERS, Sections, unique};
use crate::config::fault::{ConfigFault, ConfigFaults, Location, Severity};
use crate::config::pool::{PoolKeys, ReadPool};
use crate::config::server::ReadServer;
use crate::config::service::{ReadService, ServiceKeys};
use crate::config::source::{At, Findings, SourceFile};
use crate::file::{self, FileKind, FileRecord, Reading};
use crate::geo::RuleFiles;
use crate::listener::{Limits, Steering};
use crate::pool::PoolId;
use crate::served::Served;
use crate::visibility::VisibilitySettings;

pub use access::{Access, AdminRight, AdminToken};
pub(crate) use account::protection;
pub use admin::{AdminPlace, AdminSettings};
pub use admin_listen::{AdminListen, SocketRights};
pub use admin_tls::AdminTls;
pub(crate) use check::{DEFAULT_INTERVAL, built_in_timing};
pub use client::{AdminUrl, ClientSettings};
pub(crate) use labels::{in_letters, to_ascii};
pub use last_good::state_dir_for_last_good;
pub use masked::masked;
pub use token::{BearerToken, Nonce};
pub(crate) use value::parse_duration;

/// A validated configuration.
#[derive(Debug)]
pub struct Setup {
    /// `[server]`.
    pub server: ServerSettings,
    /// `[admin]`.
    pub admin: AdminSettings,
    /// Zones, services and pools.
    pub served: Served,
    /// The files that the rules of services name.
    pub rule_files: RuleFiles,
    /// The receivers of conditions.
    pub alerts: AllAlerts,
    /// Warnings: the setup can run, but may not do what its author wants.
    pub warnings: ConfigFaults,
    /// The files that were read, if the reading was recorded.
    pub files: FileRecord,
    /// Whether the texts are those of the files on disk.
    pub origin: SetOrigin,
}

/// Where the texts of a configuration come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SetOrigin {
    /// The files on disk.
    #[default]
    Files,
    /// A kept set, because an operator went back to it.
    Rollback {
        /// Its number.
        number: u64,
        /// When it was loaded first.
        at: Timestamp,
    },
    /// A kept set, because the files on disk had a mistake when the server started.
    LastGood {
        /// Its number.
        number: u64,
        /// When it was loaded first.
        at: Timestamp,
        /// The first mistake.
        reason: String,
    },
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// For UDP and TCP. Port 0 takes a free port, the same for both.
    pub listen: Vec<SocketAddr>,
    /// UDP worker threads in all; 0 means one per core, as far as the CPU quota allows.
    pub workers: usize,
    /// How the kernel chooses among them.
    pub steering: Steering,
    /// Limits on clients.
    pub limits: Limits,
    /// The directory that keeps health and overrides over a restart; without it, they are lost.
    pub state_dir: Option<PathBuf>,
    /// The query log and dnstap.
    pub visibility: VisibilitySettings,
    /// Whether a start with faulty files runs the last good configuration.
    pub start_with_last_good: bool,
    /// Whether a change of files leads to a reload.
    pub watch: bool,
}

/// Reads a configuration, the files it includes and the zone files it names. Blocks, at most for a limited time.
///
/// # Errors
/// All faults, with the warnings, if at least one is an error.
pub fn load(path: &Path) -> Result<Setup, ConfigFaults> {
    load_by(&Arc::default(), path)
}

/// As [`load()`], for a check: also warns of addresses and ports that this machine does not have or this user may not
/// use.
///
/// # Errors
/// Those of [`load()`].
pub fn check(path: &Path) -> Result<Setup, ConfigFaults> {
    let main = path.to_owned();
    load::within(load::LOAD_TIME, path, &Arc::default(), move |reading| {
        finish(Findings::of_check(Arc::clone(reading)), &main)
    })
}

/// As [`load()`], but another thread can end it at once through `reading`.
///
/// # Errors
/// Those of [`load()`], and if it was ended by another thread.
pub fn load_by(reading: &Arc<Reading>, path: &Path) -> Result<Setup, ConfigFaults> {
    let main = path.to_owned();
    load::within(load::LOAD_TIME, path, reading, move |reading| read(reading, &main))
}

/// As [`load_by()`], for a client that names the file as `meant`; none if that is the path of another file.
///
/// # Errors
/// Those of [`load_by()`].
pub fn load_meant(reading: &Arc<Reading>, path: &Path, meant: &Path) -> Result<Option<Setup>, ConfigFaults> {
    let (main, named) = (path.to_owned(), meant.to_owned());
    load::within(load::LOAD_TIME, path, reading, move |reading| {
        if leads_to(reading, &main, &named) { read(reading, &main).map(Some) } else { Ok(None) }
    })
}

/// Whether the absolute path `meant` names the file: directly, or through links. A client has sent `meant`, so it is
/// never looked up. If `file` cannot be looked up, its path is compared as it is; reading the file then reports the
/// reason.
fn leads_to(reading: &Reading, file: &Path, meant: &Path) -> bool {
    let real = reading.look_at(file).and_then(|()| file.canonicalize());
    // A client sends its path as UTF-8, even if the path is not.
    [std::path::absolute(file), real]
        .into_iter()
        .flatten()
        .any(|path| path.to_string_lossy() == meant.to_string_lossy())
}

fn read(reading: &Arc<Reading>, path: &Path) -> Result<Setup, ConfigFaults> {
    finish(Findings::of(Arc::clone(reading)), path)
}

fn finish(findings: Findings, path: &Path) -> Result<Setup, ConfigFaults> {
    let setup = read_files(path, &findings);
    let errors = findings.errors();
    let files = findings.record();
    let faults = findings.into_faults();
    match setup {
        Some(setup) if errors == 0 => Ok(Setup { warnings: faults, files, ..setup }),
        _ => Err(faults),
    }
}

/// The setup without the parts that have faults; none if a file is not valid TOML.
fn read_files(path: &Path, findings: &Findings) -> Option<Setup> {
    let report = |error: std::io::Error| {
        let location = Location::whole(path.into());
        let message = format!("cannot read the configuration: {error}");
        findings.push(ConfigFault {
            severity: Severity::Error,
            message,
            location,
            hint: None,
            related: None,
        });
    };
    let content = findings.read(path, FileKind::Configuration, file::CONFIGURATION).map_err(report).ok()?;
    // The user who names the main file may see its lines.
    let source =
        SourceFile::from_bytes(path, content.bytes, true).map_err(|fault| findings.push(*fault)).ok()?;
    let main = Document::parse(&source, findings);
    let included = main.included(findings);
    let included: Vec<_> = included.iter().map(|source| Document::parse(source, findings)).collect();
    // If a file is not valid TOML, faults in its content are not worth a message.
    if findings.errors() > 0 {
        return None;
    }
    let sections = Sections::collect(&main, &included, findings);
    // A reload may read a file while it is being written, and find it empty.
    if sections.name_only_servers() {
        source.at(findings, None).error(ONLY_SERVERS);
    } else if sections.zones.is_empty() {
        source.at(findings, None).error("no [zones] are configured: there is no name to answer for");
    }
    Some(build(&sections, source.at(findings, None), findings))
}

/// The setup without the parts that have faults. Warnings are added later.
fn build<'s>(sections: &Sections<'s>, file: At<'s>, findings: &'s Findings) -> Setup {
    let before = findings.errors();
    let ReadServer { server, mut settings, startup_wait, listen } =
        server::read_server(sections.server, file);
    let sound_server = findings.errors() == before;
    let admin = admin::read(sections.admin, &listen);
    // It is read only to report its faults.
    ClientSettings::read(sections.client);

    let checks = sections.check_defaults.map(CheckKeys::read_defaults).unwrap_or_default();
    let defaults = sections.pool_defaults.map(PoolKeys::read_defaults).unwrap_or_default();
    let pools: Vec<_> =
        sections.pools.iter().map(|entry| ReadPool::read(*entry, &defaults, &checks)).collect();

    let ids: HashMap<&str, PoolId> =
        sections.pools.iter().map(|entry| entry.name).zip((0..).map(PoolId)).collect();
    let defaults = sections.service_defaults.map(ServiceKeys::read_defaults).unwrap_or_default();
    let mut names = HashMap::new();
    let mut services = Vec::new();
    for entry in &sections.services {
        let Some(service) = ReadService::read(*entry, &defaults, &ids) else { continue };
        let name = &service.service.name;
        if unique(&mut names, name.clone(), entry.at, || format!("service `{name}`")) {
            services.push(service);
        }
    }

    let known = KnownNames {
        pools: sections.pools.iter().map(|entry| entry.name).collect(),
        services: services.iter().map(|service| service.service.name.to_plain()).collect(),
    };
    let alerts = alerts::read(&sections.alerts, &known);
    let (rule_tables, rule_files) = geo::compile(&mut services, sections.geo, findings);
    let keys = transfer::read_keys(&sections.keys);
    let (catalog, transfers) = zones::read(&sections.zones, &services, &keys, findings);
    settings.transfers = transfers;
    if sound_server {
        fit::check(&pools, &services, &settings);
    }
    advice::give(&pools, &services, findings.errors() == 0);
    shares::give(&pools, &services);
    Setup {
        server,
        admin,
        served: Served {
            settings,
            catalog,
            services: services.into_iter().map(|service| service.service).collect(),
            rule_tables,
            pools: pools.into_iter().map(|pool| pool.setup).collect(),
            startup_wait,
        },
        rule_files,
        alerts,
        warnings: ConfigFaults::default(),
        files: FileRecord::default(),
        origin: SetOrigin::Files,
    }
}

#[cfg(test)]
mod tests;
