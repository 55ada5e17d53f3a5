//! The journal: changes since the snapshot, one record per line.
//!
//! ```text
//! 5d0c2f1e9a7b3346 {"format":"steerd-health-journal","version":1,"number":7}
//! 0b8e...          {"written":"2026-03-01T12:00:00Z"}           time of the records that follow
//! 91ff...          {"state":{"pool":"web","backend":"gw1", ...}}
//! c43a...          {"override":{"pool":"web", ...}}
//! 77d2...          {"ended":{"pool":"web","backend":"gw1"}}     the override has ended
//! 2ab0...          {"weight":{"pool":"web", ...}}               an override of the weight
//! e51c...          {"weight_ended":{"pool":"web", ...}}
//! 02b6...          {"tier":{"service":"www.lb.example.", ...}}  the tier in use; null if it is the first
//! e815...          {"pool":{"pool":"web","family":"ipv4", ...}} since when it is usable; null if it is not
//! 3f70...          {"failover":{"service":"www.lb.example.", "pool":"web", ...}}
//! a9c4...          {"failover_ended":{"service":"www.lb.example."}}
//! ```
//!
//! A record starts with a checksum over its text, its offset in the file and the number of the
//! journal. So a moved, duplicated or damaged record is detected, and the following records are
//! still read. After a crash, at most the last record is incomplete; it is ignored.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::fleet::MemoryChanges;
use crate::pool::OverrideKind;
use crate::state::disk::Disk;
use crate::state::form::{
    StoredFailover, StoredKind, StoredOverride, StoredPool, StoredState, StoredTier, StoredWeight, time,
};
use crate::state::recollection::Recollection;

/// The format name in the file.
const FORMAT: &str = "steerd-health-journal";
/// The version that is written. Journals of newer versions are not read.
pub(super) const VERSION: u32 = 1;
/// The parts of the file name before and after the number.
const BEFORE: &str = "health.";
const AFTER: &str = ".journal";
/// The length of a checksum, bytes. It detects damage, but does not protect against an attacker.
const CHECKSUM: usize = 8;

/// The path of the journal with this number.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{BEFORE}{number}{AFTER}"))
}

/// The number of a journal, according to its file name.
pub(super) fn number(name: &str) -> Option<u64> {
    name.strip_prefix(BEFORE)?.strip_suffix(AFTER)?.parse().ok()
}

#[derive(Serialize, Deserialize)]
struct JournalHeader {
    format: String,
    version: u32,
    number: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum JournalRecord {
    Written(Timestamp),
    State(StoredState),
    Override(StoredOverride),
    Ended {
        pool: Arc<str>,
        backend: Arc<str>,
    },
    Weight(StoredWeight),
    #[serde(rename = "weight_ended")]
    WeightEnded {
        pool: Arc<str>,
        backend: Arc<str>,
    },
    Tier(StoredTier),
    Pool(StoredPool),
    Failover(StoredFailover),
    #[serde(rename = "failover_ended")]
    FailoverEnded {
        service: Arc<str>,
    },
}

/// A journal that is open for writing.
#[derive(Debug)]
pub(super) struct Journal<F> {
    file: F,
    pub(super) number: u64,
    /// In bytes.
    pub(super) length: u64,
    /// Whether it has no records yet.
    pub(super) is_empty: bool,
}

impl<F> Journal<F> {
    /// Creates a journal on the disk.
    ///
    /// # Errors
    /// If a step fails, or a journal with this number exists.
    pub(super) fn begin<D: Disk<File = F>>(disk: &mut D, directory: &Path, number: u64) -> io::Result<Self>
    where
        F: Write,
    {
        let path = path(directory, number);
        let file = disk.create(&path)?;
        let mut journal = Self { file, number, length: 0, is_empty: true };
        let begun = journal.write_head(disk).and_then(|()| disk.sync_directory(directory));
        if let Err(error) = begun {
            // On a full disk, each attempt would leave another empty file.
            let _ = disk.remove(&path);
            return Err(error);
        }
        Ok(journal)
    }

    fn write_head<D: Disk<File = F>>(&mut self, disk: &mut D) -> io::Result<()>
    where
        F: Write,
    {
        let mut lines = Vec::new();
        self.line(
            &mut lines,
            &JournalHeader { format: FORMAT.into(), version: VERSION, number: self.number },
        )?;
        self.file.write_all(&lines)?;
        disk.sync(&mut self.file)
    }

    /// Appends changes. Returns when they are safe against a loss of power. After an error the end
    /// of the file is undefined, and nothing more may be appended.
    ///
    /// # Errors
    /// If a step fails.
    pub(super) fn append<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        changes: Vec<MemoryChanges>,
        now: SystemTime,
    ) -> io::Result<()>
    where
        F: Write,
    {
        self.is_empty = false;
        let mut lines = Vec::new();
        self.line(&mut lines, &JournalRecord::Written(time::timestamp(now)))?;
        for changes in changes {
            let MemoryChanges { states, overrides, ended, tiers, pools, failovers, .. } = changes;
            for state in states {
                self.line(&mut lines, &JournalRecord::State(StoredState(state)))?;
            }
            for kept in overrides {
                let record = match StoredKind::from(kept) {
                    StoredKind::State(kept) => JournalRecord::Override(kept),
                    StoredKind::Weight(kept) => JournalRecord::Weight(kept),
                };
                self.line(&mut lines, &record)?;
            }
            for (pool, backend, kind) in ended {
                let record = match kind {
                    OverrideKind::State => JournalRecord::Ended { pool, backend },
                    OverrideKind::Weight => JournalRecord::WeightEnded { pool, backend },
                };
                self.line(&mut lines, &record)?;
            }
            for tier in tiers {
                self.line(&mut lines, &JournalRecord::Tier(StoredTier(tier)))?;
            }
            for pool in pools {
                self.line(&mut lines, &JournalRecord::Pool(StoredPool(pool)))?;
            }
            for kept in failovers {
                self.line(&mut lines, &JournalRecord::Failover(StoredFailover(kept)))?;
            }
            for service in changes.ended_failovers {
                self.line(&mut lines, &JournalRecord::FailoverEnded { service })?;
            }
        }
        self.file.write_all(&lines)?;
        disk.sync(&mut self.file)
    }

    /// Appends a record to `lines`, which will be written at the end of the file.
    fn line(&mut self, lines: &mut Vec<u8>, record: &impl Serialize) -> serde_json::Result<()> {
        let text = serde_json::to_string(record)?;
        let before = lines.len();
        lines.extend_from_slice(checksum(self.number, self.length, text.as_bytes()).as_bytes());
        lines.push(b' ');
        lines.extend_from_slice(text.as_bytes());
        lines.push(b'\n');
        self.length += (lines.len() - before) as u64;
        Ok(())
    }
}

/// The result of reading a journal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Replayed {
    /// Number of records read.
    pub(super) records: usize,
    /// Why a part could not be read. An incomplete record at the end is no fault.
    pub(super) fault: Option<String>,
}

/// Applies the records of a journal.
pub(super) fn replay(bytes: &[u8], number: u64, recollection: &mut Recollection) -> Replayed {
    let mut replayed = Replayed::default();
    let mut offset = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let place = offset;
        offset += line.len() as u64;
        let Some(text) = sealed(line, number, place) else {
            if !line.ends_with(b"\n") {
                return replayed;
            }
            if place == 0 {
                replayed.fault = Some("its first line is damaged, or steerd did not write it".into());
                return replayed;
            }
            replayed.fault.get_or_insert(format!("it is damaged at byte {place}; the rest of it is read"));
            continue;
        };
        if place == 0 {
            match serde_json::from_slice::<JournalHeader>(text) {
                Ok(head) if head.format == FORMAT && (1..=VERSION).contains(&head.version) => continue,
                Ok(head) if head.format == FORMAT => {
                    let version = head.version;
                    replayed.fault = Some(format!(
                        "it has version {version} of its format, and this steerd reads only versions up to {VERSION}"
                    ));
                }
                _ => replayed.fault = Some("steerd did not write it".into()),
            }
            return replayed;
        }
        match serde_json::from_slice(text) {
            Ok(record) => carry_out(record, recollection),
            Err(error) => {
                let fault =
                    format!("the record at byte {place} is not understood: {error}; the rest is read");
                replayed.fault.get_or_insert(fault);
                continue;
            }
        }
        replayed.records += 1;
    }
    replayed
}

fn carry_out(record: JournalRecord, recollection: &mut Recollection) {
    match record {
        JournalRecord::Written(time) => recollection.written = time.into(),
        JournalRecord::State(StoredState(state)) => recollection.state(state),
        JournalRecord::Override(kept) => recollection.overridden(kept.into()),
        JournalRecord::Weight(kept) => recollection.overridden(kept.into()),
        JournalRecord::Ended { pool, backend } => recollection.ended(pool, backend, OverrideKind::State),
        JournalRecord::WeightEnded { pool, backend } => {
            recollection.ended(pool, backend, OverrideKind::Weight);
        }
        JournalRecord::Tier(StoredTier(tier)) => recollection.tier(tier),
        JournalRecord::Pool(StoredPool(pool)) => recollection.pool(pool),
        JournalRecord::Failover(StoredFailover(kept)) => recollection.failed_over(kept),
        JournalRecord::FailoverEnded { service } => recollection.failover_ended(&service),
    }
}

/// The text of a complete line with a valid checksum.
fn sealed(line: &[u8], number: u64, offset: u64) -> Option<&[u8]> {
    let line = line.strip_suffix(b"\n")?;
    let (seal, text) = line.split_at_checked(2 * CHECKSUM)?;
    let text = text.strip_prefix(b" ")?;
    (checksum(number, offset, text).as_bytes() == seal).then_some(text)
}

fn checksum(number: u64, offset: u64, text: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(format!("{FORMAT} {number} {offset} ").as_bytes());
    context.update(text);
    let digest = context.finish();
    HEXLOWER.encode(digest.as_ref().first_chunk::<CHECKSUM>().map_or(&[], |start| &start[..]))
}
