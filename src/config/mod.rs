//! The configuration: from TOML to a setup that can be run, or to every fault at once.
//!
//! ```text
//! files -> document: sections of all files -> server, pool + check, service -> zones: bind names
//!                                                                           -> fit: size of answers
//!                                                                           -> advice: warnings
//! ```
//!
//! Every value knows its place (`value`), and whoever reads it reports what is wrong with it there
//! and goes on; nothing stops at the first fault. A part with a fault is left out of what is
//! concluded from it, so that one mistake is one message. The effect of a setting is not here.

mod address;
mod admin;
mod advice;
mod binding;
mod check;
mod document;
pub mod fault;
mod fit;
mod labels;
mod load;
mod misplaced;
mod names;
mod pool;
mod server;
mod service;
mod source;
mod token;
mod transfer;
mod unquoted;
mod value;
mod zones;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::check::CheckKeys;
use crate::config::document::{Document, Sections, unique};
use crate::config::fault::{Fault, Faults, Place, Severity};
use crate::config::pool::{PoolKeys, ReadPool};
use crate::config::server::ReadServer;
use crate::config::service::{ReadService, ServiceKeys};
use crate::config::source::{At, Findings, Source};
use crate::file::{self, Reading};
use crate::listener::Limits;
use crate::pool::PoolId;
use crate::served::Served;

pub use admin::{Access, AdminPlace, AdminSettings};
pub(crate) use labels::in_letters;
pub use token::{Nonce, Token};
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
    /// Settings that can be run, but may not do what their author wants.
    pub warnings: Faults,
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// UDP and TCP; port 0 takes a free one, the same for both.
    pub listen: Vec<SocketAddr>,
    /// UDP worker threads for each address; 0 is one for each core.
    pub workers: usize,
    /// Limits on clients.
    pub limits: Limits,
    /// Where health and overrides are kept over a restart; they are not without.
    pub state_dir: Option<PathBuf>,
}

/// Reads a configuration, with the files it includes and the zone files it names. Blocks, but for a
/// limited time.
///
/// # Errors
/// All faults, with the warnings, if at least one is an error.
pub fn load(path: &Path) -> Result<Setup, Faults> {
    load_by(&Arc::default(), path)
}

/// As [`load()`], for an operator who asks whether the configuration is right: warns besides of what this
/// machine or this user could not do.
///
/// # Errors
/// Those of [`load()`].
pub fn check(path: &Path) -> Result<Setup, Faults> {
    let main = path.to_owned();
    load::within(load::LOAD_TIME, path, &Arc::default(), move |reading| {
        finish(Findings::of_check(Arc::clone(reading)), &main)
    })
}

/// As [`load()`], by a reading that another thread may give up. Then it ends at once.
///
/// # Errors
/// Those of [`load()`], and when it was given up on.
pub fn load_by(reading: &Arc<Reading>, path: &Path) -> Result<Setup, Faults> {
    let main = path.to_owned();
    load::within(load::LOAD_TIME, path, reading, move |reading| read(reading, &main))
}

/// As [`load_by()`], if the client means the file at `path`; none if `meant` is the path of another file.
///
/// # Errors
/// Those of [`load_by()`].
pub fn load_meant(reading: &Arc<Reading>, path: &Path, meant: &Path) -> Result<Option<Setup>, Faults> {
    let (main, named) = (path.to_owned(), meant.to_owned());
    load::within(load::LOAD_TIME, path, reading, move |reading| {
        if leads_to(reading, &main, &named) { read(reading, &main).map(Some) } else { Ok(None) }
    })
}

/// Whether `meant`, an absolute path, is that of the file, as it is named or past all links. The path is
/// the client's, so nothing is looked up there. A path that cannot be looked up is compared as it is;
/// reading the file then says why.
fn leads_to(reading: &Reading, file: &Path, meant: &Path) -> bool {
    let real = reading.look_at(file).and_then(|()| file.canonicalize());
    // A client writes its path in UTF-8, whatever the path is.
    [std::path::absolute(file), real]
        .into_iter()
        .flatten()
        .any(|path| path.to_string_lossy() == meant.to_string_lossy())
}

fn read(reading: &Arc<Reading>, path: &Path) -> Result<Setup, Faults> {
    finish(Findings::of(Arc::clone(reading)), path)
}

fn finish(findings: Findings, path: &Path) -> Result<Setup, Faults> {
    let setup = read_files(path, &findings);
    let errors = findings.errors();
    let faults = findings.into_faults();
    match setup {
        Some(setup) if errors == 0 => Ok(Setup { warnings: faults, ..setup }),
        _ => Err(faults),
    }
}

/// The setup, as far as it goes; none when a file is not TOML.
fn read_files(path: &Path, findings: &Findings) -> Option<Setup> {
    let report = |error: std::io::Error| {
        let place = Place::whole(path.into());
        let message = format!("cannot read the configuration: {error}");
        findings.push(Fault { severity: Severity::Error, message, place, hint: None, related: None });
    };
    let content = findings.read(path, file::CONFIGURATION).map_err(report).ok()?;
    // The user who names the main file may see it.
    let source = Source::from_bytes(path, content.bytes, true).map_err(|fault| findings.push(*fault)).ok()?;
    let main = Document::parse(&source, findings);
    let included = main.included(findings);
    let included: Vec<_> = included.iter().map(|source| Document::parse(source, findings)).collect();
    // The content of a broken file is not worth a message.
    if findings.errors() > 0 {
        return None;
    }
    let sections = Sections::collect(&main, &included, findings);
    // An empty file, as a reload may meet one that is being written, must not pass for a wish.
    if sections.zones.is_empty() {
        source.at(findings, None).error("no [zones] are configured: there is no name to answer for");
    }
    Some(build(&sections, source.at(findings, None), findings))
}

/// The setup that all sections make, as far as they are sound. Its warnings are still to come.
fn build<'s>(sections: &Sections<'s>, file: At<'s>, findings: &'s Findings) -> Setup {
    let before = findings.errors();
    let ReadServer { server, mut settings, startup_wait, listen } =
        server::read_server(sections.server, file);
    let sound_server = findings.errors() == before;
    let admin = admin::read(sections.admin, &listen);

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

    let keys = transfer::read_keys(&sections.keys);
    let (catalog, transfers) = zones::read(&sections.zones, &services, &keys, findings);
    settings.transfers = transfers;
    if sound_server {
        fit::check(&pools, &services, &settings);
    }
    advice::give(&pools, &services, findings.errors() == 0);
    Setup {
        server,
        admin,
        served: Served {
            settings,
            catalog,
            services: services.into_iter().map(|service| service.service).collect(),
            pools: pools.into_iter().map(|pool| pool.setup).collect(),
            startup_wait,
        },
        warnings: Faults::default(),
    }
}

#[cfg(test)]
mod tests;
