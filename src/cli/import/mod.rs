//! `steerd import`: a configuration of another server as TOML and zone files, and a list of what they lack.
//!
//! ```text
//! gdnsd: vscf -> gdnsd, gdnsd_zone -+-> draft -> files -> the check that `steerd check` runs
//! Route 53: JSON -> route53 --------+
//! ```

mod draft;
mod gdnsd;
mod gdnsd_map;
mod gdnsd_option;
mod gdnsd_zone;
mod route53;
mod route53_check;
mod route53_record;
mod route53_set;
mod vscf;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::{complain, print};
use crate::config;
use crate::file;
use draft::{ImportDraft, zone_file};
use vscf::Vscf;

/// The name of the configuration that is written, and of the list beside it.
const CONFIG: &str = "steerd.toml";
const NOTES: &str = "NOTES.txt";

/// The records that a zone needs, for resources that no zone file names.
const EMPTY_ZONE: &str = "$TTL 3600\n@ SOA ns1 hostmaster 1 3600 600 604800 20\n@ NS ns1\n@ NS ns2\n\
                          ns1 A 192.0.2.53\nns2 A 198.51.100.53\n";
/// Its name.
const EXAMPLE_ZONE: &str = "lb.example.com";

#[derive(Debug, Subcommand)]
pub(super) enum Import {
    /// From gdnsd: its configuration, and the zone files with DYNA records
    Gdnsd(GdnsdArguments),
    /// From Amazon Route 53: the JSON of `aws route53 list-resource-record-sets`
    Route53(Route53Arguments),
}

#[derive(Debug, Args)]
pub(super) struct GdnsdArguments {
    /// The configuration of gdnsd
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A zone file, named after its zone; may be given more than once. Defaults to all in `zones` beside the
    /// configuration
    #[arg(long = "zone", value_name = "FILE")]
    zones: Vec<PathBuf>,
    #[command(flatten)]
    out: OutDirectory,
}

#[derive(Debug, Args)]
pub(super) struct Route53Arguments {
    /// The record sets of a zone, as JSON
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The JSON of `aws route53 list-health-checks`
    #[arg(long, value_name = "FILE")]
    health_checks: Option<PathBuf>,
    #[command(flatten)]
    out: OutDirectory,
}

#[derive(Debug, Args)]
struct OutDirectory {
    /// The directory for the result, which is created; existing files in it are not replaced
    #[arg(long = "out", value_name = "DIR", default_value = "steerd-import")]
    directory: PathBuf,
}

pub(super) fn run(import: &Import) -> ExitCode {
    let (draft, file, out) = match import {
        Import::Gdnsd(arguments) => (of_gdnsd(arguments), &arguments.file, &arguments.out),
        Import::Route53(arguments) => (of_route53(arguments), &arguments.file, &arguments.out),
    };
    let written = draft.and_then(|draft| {
        let files = write(&draft, &file.display().to_string(), &out.directory);
        files
            .map(|files| (draft, files))
            .map_err(|error| format!("cannot write to {}: {error}", out.directory.display()))
    });
    match written {
        Ok((draft, files)) => report(&draft, &files, &out.directory.join(CONFIG)),
        Err(reason) => {
            complain(&format!("error: {reason}"));
            ExitCode::FAILURE
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let content = file::read(path, file::CONFIGURATION).and_then(|content| content.text().map(str::to_owned));
    content.map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn of_gdnsd(arguments: &GdnsdArguments) -> Result<ImportDraft, String> {
    let text = read(&arguments.file)?;
    let config = Vscf::parse(&text)
        .map_err(|fault| format!("{}:{}: {}", arguments.file.display(), fault.place, fault.message))?;
    let mut zones = Vec::new();
    for path in zone_files(arguments)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().replace('@', "/");
        zones.push((name, read(&path)?));
    }
    Ok(draft_of_gdnsd(&config, &zones))
}

/// The zone files of the arguments, or those in `zones` beside the configuration.
fn zone_files(arguments: &GdnsdArguments) -> Result<Vec<PathBuf>, String> {
    if !arguments.zones.is_empty() {
        return Ok(arguments.zones.clone());
    }
    let directory = arguments.file.parent().unwrap_or(Path::new("")).join("zones");
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", directory.display())),
    };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| {
            path.is_file() && !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
        })
        .collect();
    files.sort();
    Ok(files)
}

/// The draft for a configuration, and zones by their names.
fn draft_of_gdnsd(config: &Vscf, zones: &[(String, String)]) -> ImportDraft {
    let mut draft = ImportDraft::default();
    let resources = gdnsd::import(config, &mut draft);
    for (name, text) in zones {
        let zone = name.trim_end_matches('.').to_ascii_lowercase();
        gdnsd_zone::import(&zone, text, &resources, &mut draft);
    }
    if draft.services.is_empty() {
        draft.zones.entry(EXAMPLE_ZONE.to_owned()).or_insert_with(|| EMPTY_ZONE.to_owned());
        let mut names: Vec<_> =
            resources.into_iter().filter(|(_, found)| !found.service.pools.is_empty()).collect();
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, found) in names {
            let label = draft::plain_name(name.split_once('!').map_or(&*name, |(_, resource)| resource));
            let label = label.replace(['.', '_'], "-");
            draft.services.insert(format!("{label}.{EXAMPLE_ZONE}"), found.service);
        }
        draft.lose(
            "the names of the services",
            "no zone file has a DYNA record",
            format!("give the zone files with --zone; meanwhile the services have names in {EXAMPLE_ZONE}"),
        );
    }
    draft
}

fn of_route53(arguments: &Route53Arguments) -> Result<ImportDraft, String> {
    let json = |path: &PathBuf| -> Result<Value, String> {
        serde_json::from_str(&read(path)?).map_err(|error| format!("{} is no JSON: {error}", path.display()))
    };
    let health_checks = arguments.health_checks.as_ref().map(json).transpose()?;
    let mut draft = ImportDraft::default();
    route53::import(&json(&arguments.file)?, health_checks.as_ref(), &mut draft)
        .map_err(|reason| format!("{}: {reason}", arguments.file.display()))?;
    Ok(draft)
}

/// Writes the files of a draft, and returns their paths.
fn write(draft: &ImportDraft, origin: &str, directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)?;
    let zones = draft.zones.iter().map(|(zone, text)| (zone_file(zone), text.clone()));
    let config = (CONFIG.to_owned(), draft.toml(origin));
    let notes = (NOTES.to_owned(), draft.notes());
    let mut written = Vec::new();
    for (name, text) in [config, notes].into_iter().chain(zones) {
        let path = directory.join(name);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(named)?;
        file.write_all(text.as_bytes())?;
        written.push(path);
    }
    Ok(written)
}

/// Prints the files and the list of what they lack, and checks the configuration.
fn report(draft: &ImportDraft, files: &[PathBuf], config: &Path) -> ExitCode {
    let shown: Vec<String> = files.iter().map(|path| format!("wrote {}", path.display())).collect();
    print(&shown.join("\n"));
    let count = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    print(&format!(
        "{}, {}, {}",
        count(draft.services.len(), "service"),
        count(draft.pools.len(), "pool"),
        count(draft.zones.len(), "zone")
    ));
    if !draft.lost.is_empty() {
        print(&format!("\nnot carried over, or changed:\n{}", draft.notes().trim_end()));
    }
    match config::load(config) {
        Ok(_) => {
            print(&format!("\n{} is valid; look at it, then: steerd check -c {0}", config.display()));
            ExitCode::SUCCESS
        }
        Err(faults) => {
            complain(&faults.render(false));
            complain("error: the result has these mistakes: correct them in the files above");
            ExitCode::FAILURE
        }
    }
}
