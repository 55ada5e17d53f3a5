//! Master files (RFC 1035, section 5) to zones, with line and column for every fault.
//!
//! The reader opens no file: how a path becomes bytes is an argument. This one reads records of
//! one line each, of the types that a test of the configuration needs.

use std::path::{Path, PathBuf};

use crate::name::Name;
use crate::zone::{Zone, ZoneBuilder, rtype};

/// A zone that was read, before it is completed.
#[derive(Debug)]
pub struct ReadZone {
    file: PathBuf,
    builder: ZoneBuilder,
    lines: Vec<String>,
}

/// Something wrong with a zone file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// From 1; 0 is the file as a whole.
    pub line: u32,
    /// In bytes from 1.
    pub column: u32,
    /// Bytes.
    pub length: u32,
    /// What is wrong.
    pub message: String,
    /// The line.
    pub text: String,
}

/// Reads a zone.
///
/// # Errors
/// Every fault of the file.
pub fn read(
    file: &Path,
    apex: &Name,
    load: &mut dyn FnMut(&Path) -> std::io::Result<Vec<u8>>,
) -> Result<ReadZone, Vec<Fault>> {
    let whole = |message: String| Fault {
        file: file.into(),
        line: 0,
        column: 0,
        length: 0,
        message,
        text: String::new(),
    };
    let bytes = load(file).map_err(|error| vec![whole(error.to_string())])?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut zone = ReadZone { file: file.into(), builder: ZoneBuilder::new(apex.wire()), lines };
    let mut faults = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        if let Err(message) = zone.record(line, number, apex) {
            faults.push(zone.fault(number, message));
        }
    }
    if faults.is_empty() { Ok(zone) } else { Err(faults) }
}

impl ReadZone {
    /// The zone in the making, so that services can be bound.
    pub fn builder(&mut self) -> &mut ZoneBuilder {
        &mut self.builder
    }

    /// Completes the zone.
    ///
    /// # Errors
    /// Faults that only the whole zone shows.
    pub fn finish(mut self) -> Result<Zone, Vec<Fault>> {
        let builder = std::mem::replace(&mut self.builder, ZoneBuilder::new(&[0]));
        builder.finish().map_err(|faults| {
            let fault =
                |fault: crate::zone::BuildFault| self.fault(fault.tag.unwrap_or(0), fault.error.to_string());
            faults.into_iter().map(fault).collect()
        })
    }

    fn fault(&self, line: u32, message: String) -> Fault {
        let text = self.lines.get((line as usize).wrapping_sub(1)).cloned().unwrap_or_default();
        Fault {
            file: self.file.clone(),
            line,
            column: 1,
            length: u32::try_from(text.len()).unwrap_or(1),
            message,
            text,
        }
    }

    fn record(&mut self, line: &str, number: u32, apex: &Name) -> Result<(), String> {
        let line = line.split(';').next().unwrap_or("");
        let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "IN").collect();
        let name = |text: &str| {
            let full = match text {
                "@" => apex.to_string(),
                _ if text.ends_with('.') => text.to_owned(),
                _ => format!("{text}.{apex}"),
            };
            Name::parse(&full).map_err(|error| error.to_string())
        };
        let (owner, kind, data) = match words.as_slice() {
            [] | ["$TTL" | "$ORIGIN", ..] => return Ok(()),
            [owner, kind, data @ ..] => (name(owner)?, *kind, data),
            [_] => return Err("a record has an owner, a type and data".into()),
        };
        let target = || name(data.first().copied().unwrap_or(""));
        let (rtype, data) = match kind {
            "SOA" => {
                let mut soa = [target()?.wire(), target()?.wire()].concat();
                soa.extend([0, 0, 0, 60].repeat(5));
                (rtype::SOA, soa)
            }
            "NS" => (rtype::NS, target()?.wire().to_vec()),
            "CNAME" => (rtype::CNAME, target()?.wire().to_vec()),
            "A" => {
                let address: std::net::Ipv4Addr =
                    data.first().and_then(|text| text.parse().ok()).ok_or("this is not an IPv4 address")?;
                (rtype::A, address.octets().to_vec())
            }
            "AAAA" => {
                let address: std::net::Ipv6Addr =
                    data.first().and_then(|text| text.parse().ok()).ok_or("this is not an IPv6 address")?;
                (rtype::AAAA, address.octets().to_vec())
            }
            _ => return Err(format!("unknown record type {kind}")),
        };
        self.builder.add(owner.wire(), rtype, 3600, &data, number).map_err(|error| error.to_string())
    }
}
