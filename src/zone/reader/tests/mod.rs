//! Reads whole zones from text, and checks every fault with its place.

mod any_input;
mod data;
mod faults;
mod files;
mod warnings;

use std::collections::HashMap;
use std::io;

use super::*;
use crate::zone::Rrset;

/// A zone of six lines, so text that a test appends begins on line 7.
const HEAD: &str = "$TTL 300\n@ SOA ns host (\n 1 2 3\n 4 60 )\n@ NS ns\nns A 192.0.2.53\n";

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// Reads files with the apex `example`; the first one is the zone file.
fn read_files(files: &[(&str, &str)]) -> Result<Zone, Vec<ZoneFault>> {
    let sources: HashMap<_, _> = files.iter().map(|(path, text)| (PathBuf::from(path), *text)).collect();
    let mut load = |path: &Path| {
        let text = sources.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(text.as_bytes().to_vec())
    };
    read(Path::new(files[0].0), &name("example"), &mut load).and_then(ReadZone::finish)
}

fn read_text(text: &str) -> Result<Zone, Vec<ZoneFault>> {
    read_files(&[("example.zone", text)])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The records of a zone as lines `name ttl TYPEnn hex`, without those of [`HEAD`].
fn told(zone: &Zone) -> Vec<String> {
    let mut lines = Vec::new();
    for node in zone.nodes() {
        let owner = Name::from_wire(node.name()).unwrap().to_string();
        let is_head = |rrset: &Rrset<'_>| match rrset.rtype {
            rtype::SOA => true,
            rtype::NS => owner == "example.",
            _ => owner == "ns.example.",
        };
        for rrset in node.rrsets().filter(|rrset| !is_head(rrset)) {
            let line = |data| format!("{owner} {} TYPE{} {}", rrset.ttl, rrset.rtype, hex(data));
            lines.extend(rrset.records().map(line));
        }
    }
    lines
}
