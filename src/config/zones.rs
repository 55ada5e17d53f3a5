//! `[zones."NAME"]`: reads the zone files, and binds services to the names in them.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::document::unique;
use crate::config::fault::{ConfigFault, Location, Severity};
use crate::config::service::{ReadService, dns_name};
use crate::config::source::{At, Findings};
use crate::config::transfer::{self, ReadKeys};
use crate::config::value::{NamedValue, TomlValue};
use crate::file::{self, Content, FileKind, Origin};
use crate::name::Name;
use crate::printable::{quoted, without_quoted};
use crate::service::ServiceId;
use crate::settings::Transfers;
use crate::spelling::closest;
use crate::zone::reader::{self, ReadZone};
use crate::zone::{Catalog, Zone, ZoneError, rtype};

/// A zone as read.
struct ConfiguredZone<'s> {
    at: At<'s>,
    name: Name,
    /// None if the file has faults; then no further faults are derived from it.
    zone: Option<ReadZone>,
    files: ZoneFiles<'s>,
}

/// The files of a zone.
struct ZoneFiles<'s> {
    /// The location that names the first file.
    named_at: At<'s>,
    /// For each file, the path with all links resolved, and its permissions.
    origins: HashMap<PathBuf, Origin>,
}

/// Reads all zones and binds the services to names. Leaves out zones with faults.
pub(super) fn read<'s>(
    entries: &[NamedValue<'s>],
    services: &[ReadService<'s>],
    keys: &ReadKeys,
    findings: &'s Findings,
) -> (Catalog, Transfers) {
    let mut zones: Vec<ConfiguredZone<'s>> = Vec::new();
    let mut first = HashMap::new();
    let mut left = file::ZONES;
    let mut transfers = Transfers { keys: keys.keys.clone(), ..Transfers::default() };
    for entry in entries {
        let Some(name) = dns_name(*entry) else { continue };
        if unique(&mut first, name.clone(), entry.at, || format!("zone `{name}`")) {
            let mut files = ZoneFiles { named_at: entry.at, origins: HashMap::new() };
            let zone = read_settings(*entry, keys, &name, &mut transfers)
                .and_then(|file| files.read(&file, &name, &mut left, findings));
            zones.push(ConfiguredZone { at: entry.at, name, zone, files });
        }
    }
    let by_name: HashMap<Name, usize> =
        zones.iter().enumerate().map(|(index, zone)| (zone.name.clone(), index)).collect();
    for (service, id) in services.iter().zip(0..) {
        let mut ancestors = std::iter::successors(Some(service.service.name.clone()), Name::parent);
        let owner = ancestors.find_map(|name| by_name.get(&name));
        match owner.and_then(|&index| zones.get_mut(index)) {
            None => report_no_zone(service, &zones),
            Some(ConfiguredZone { zone: Some(zone), .. }) => bind(service, ServiceId(id), zone),
            Some(ConfiguredZone { zone: None, .. }) => {}
        }
    }
    let catalog = Catalog::new(zones.into_iter().filter_map(|zone| finish(zone, findings)).collect());
    (catalog, transfers)
}

/// Opens the file of a zone, and reads `transfer` and `secondaries`.
fn read_settings(
    entry: NamedValue<'_>,
    keys: &ReadKeys,
    name: &Name,
    transfers: &mut Transfers,
) -> Option<PathBuf> {
    let remedy = entry.value.as_str().map(|file| format!("write {{ file = \"{file}\" }}"));
    let mut table = entry.value.table_such_as(entry.at, remedy)?;
    let file = table.require("file", &format!("zone `{}`", entry.name), readable);
    let allowed = table.get("transfer").and_then(|entry| transfer::read_allowed(entry, keys));
    transfers.zones.extend(allowed.map(|allowed| (name.clone(), allowed)));
    let secondaries = table.read("secondaries", |value| transfer::read_secondaries(value, keys));
    transfers.secondaries.extend(secondaries.map(|read| (name.clone(), read.value)));
    table.close();
    file.map(|file| file.value)
}

/// The path of a file that can be opened. A file that cannot be opened is a fault of the
/// configuration, not of the zone.
fn readable(value: TomlValue<'_>) -> Option<PathBuf> {
    let path = value.path()?;
    match value.at.findings().try_open(&path) {
        Ok(()) => Some(path),
        Err(error) => {
            value.at.error(format!("cannot open the zone file {}: {error}", quoted(&path.to_string_lossy())));
            None
        }
    }
}

fn bind(service: &ReadService<'_>, id: ServiceId, zone: &mut ReadZone) {
    let Err(error) = zone.builder().bind_service(service.service.name.wire(), id) else { return };
    let hint = match error {
        ZoneError::ServiceAddress => "delete those records from the zone file, or the service from here",
        ZoneError::ServiceAddressHint => {
            "delete ipv4hint and ipv6hint there: clients ask for A and AAAA instead"
        }
        ZoneError::ServiceOccluded => "delete the NS or DNAME records above it from the zone file",
        _ => "choose another name",
    };
    service.at.error_with_hint(format!("service `{}`: {error}", service.service.name), hint.to_owned());
}

/// Reports that no zone contains the service's name, and suggests a name in a similar zone.
fn report_no_zone(service: &ReadService<'_>, zones: &[ConfiguredZone<'_>]) {
    let name = service.service.name.to_string();
    let near = zones.iter().find_map(|zone| {
        let apex = zone.name.to_string();
        let labels = zone.name.labels().count();
        let below = service.service.name.labels().count().checked_sub(labels).filter(|_| labels > 0)?;
        let start = match below {
            0 => 0,
            below => name.match_indices('.').nth(below - 1)?.0 + 1,
        };
        let (host, suffix) = name.split_at_checked(start)?;
        closest(suffix, [apex.as_str()]).map(|apex| format!("{host}{apex}"))
    });
    let hint = near.map_or_else(
        || "its name must be in one of the [zones]".to_owned(),
        |near| format!("did you mean `{}`?", near.trim_end_matches('.')),
    );
    service.at.error_with_hint(format!("service `{name}` is in no zone of this configuration"), hint);
}

fn finish(reading: ConfiguredZone<'_>, findings: &Findings) -> Option<Zone> {
    if !findings.goes_on() {
        return None;
    }
    let finished = reading.zone?.finish_with_warnings();
    let fail = |faults| reading.files.report(faults, Severity::Error, findings);
    let (zone, warnings) = finished.map_err(fail).ok()?;
    reading.files.report(warnings, Severity::Warning, findings);
    if zone.apex().and_then(|apex| apex.rrset(rtype::NS)).is_some_and(|servers| servers.count == 1) {
        reading.at.warning(
            format!(
                "zone `{}` has one NS record only: when that server is gone, so is the zone",
                reading.name
            ),
            "run a second instance and name it in the zone file".to_owned(),
        );
    }
    Some(zone)
}

impl ZoneFiles<'_> {
    /// The zone that is defined by a file and the files it includes. Reads at most `left` bytes,
    /// and subtracts the bytes read from `left`.
    fn read(&mut self, file: &Path, zone: &Name, left: &mut u64, findings: &Findings) -> Option<ReadZone> {
        let mut load = |path: &Path| {
            let Content { bytes, origin } = findings.read(path, FileKind::Zone, *left)?;
            *left = left.saturating_sub(bytes.len() as u64);
            self.origins.insert(path.to_owned(), origin);
            match file::not_text(&bytes) {
                Some(reason) => Err(io::Error::new(io::ErrorKind::InvalidData, reason)),
                None => Ok(bytes),
            }
        };
        let read = reader::read_while(file, zone, &mut load, &|| findings.goes_on());
        read.map_err(|faults| self.report(faults, Severity::Error, findings)).ok()
    }

    fn report(&self, faults: Vec<reader::ZoneFault>, severity: Severity, findings: &Findings) {
        for fault in faults {
            let named_by = fault.named_by.as_deref().unwrap_or(self.named_at.source().path());
            let quotable =
                self.origins.get(&fault.file).is_some_and(|origin| origin.is_quotable_by(named_by));
            let file = fault.file.as_path().into();
            let location = match usize::try_from(fault.line) {
                Ok(line @ 1..) => {
                    let start = fault.column.saturating_sub(1) as usize;
                    Location::in_line(file, line, &fault.text, start..start + fault.length as usize)
                }
                _ => Location::whole(file),
            };
            let (location, message) = if quotable {
                (location, fault.message)
            } else {
                (location.without_text(), without_quoted(&fault.message).into_owned())
            };
            findings.push(ConfigFault { severity, message, location, hint: None, related: None });
        }
    }
}
