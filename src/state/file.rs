//! The snapshot: encodes and decodes the whole memory.
//!
//! One JSON object: format, version, time of writing, the number of the first journal that
//! continues it, the SHA-256 of all significant fields, and the memory. A damaged file is either
//! read as it was written or refused. Versions:
//!
//! ```text
//! 1   no journal beside it
//! 2   `journal`
//! ```
//!
//! An earlier steerd ignores members that it does not know, so that it can be started again.
//! Every version stays readable; `tests/fixtures/state` has a sample of each.

use std::time::SystemTime;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::fleet::{Memory, RememberedOverride};
use crate::state::form::{
    StoredFailover, StoredKind, StoredOverride, StoredPool, StoredState, StoredTier, StoredWeight, time,
};

/// The format name in the file.
const FORMAT: &str = "steerd-health";
/// The version that is written. Files of newer versions are not read.
pub(super) const VERSION: u32 = 2;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error("it is damaged or cut off: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("it is not UTF-8, so it is damaged, or steerd did not write it")]
    NotText(#[from] std::str::Utf8Error),
    #[error("steerd did not write it: its format is not `{FORMAT}`")]
    Foreign,
    #[error("it has version {0} of its format, and this steerd reads only versions up to {VERSION}")]
    Version(u32),
    #[error("its checksum does not match its content, so it is damaged")]
    Checksum,
    #[error("its content is not understood: {0}")]
    Content(serde_json::Error),
}

/// The content of a file.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) memory: Memory,
    pub(super) written: SystemTime,
    /// The first journal that continues this snapshot.
    pub(super) journal: Option<u64>,
}

/// The fields that every version of the format has.
#[derive(Deserialize)]
struct FormatVersion {
    #[serde(default)]
    format: String,
    #[serde(default)]
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    format: &'a str,
    version: u32,
    written: Timestamp,
    #[serde(default)]
    journal: Option<u64>,
    sha256: &'a str,
    #[serde(borrow)]
    memory: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    states: Vec<StoredState>,
    overrides: Vec<StoredOverride>,
    #[serde(default)]
    weights: Vec<StoredWeight>,
    #[serde(default)]
    tiers: Vec<StoredTier>,
    #[serde(default)]
    pools: Vec<StoredPool>,
    #[serde(default)]
    failovers: Vec<StoredFailover>,
}

/// Encodes a memory. `journal` is the number of the journal that continues it.
///
/// # Errors
/// Errors of the serializer. No memory causes one.
pub(super) fn encode(memory: Memory, journal: Option<u64>, now: SystemTime) -> serde_json::Result<String> {
    let mut stored = Stored {
        states: memory.states.into_iter().map(StoredState).collect(),
        overrides: Vec::new(),
        weights: Vec::new(),
        tiers: memory.tiers.into_iter().map(StoredTier).collect(),
        pools: memory.pools.into_iter().map(StoredPool).collect(),
        failovers: memory.failovers.into_iter().map(StoredFailover).collect(),
    };
    for kept in memory.overrides {
        match StoredKind::from(kept) {
            StoredKind::State(kept) => stored.overrides.push(kept),
            StoredKind::Weight(kept) => stored.weights.push(kept),
        }
    }
    let memory = serde_json::value::to_raw_value(&stored)?;
    drop(stored);
    let written = time::timestamp(now);
    let sha256 = checksum(VERSION, written, journal, memory.get());
    let envelope =
        Envelope { format: FORMAT, version: VERSION, written, journal, sha256: &sha256, memory: &memory };
    serde_json::to_string(&envelope).map(|text| text + "\n")
}

/// Reads a file of any version up to the current one.
///
/// # Errors
/// If it is not a snapshot, or not a complete one.
pub(super) fn decode(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
    let text = std::str::from_utf8(bytes)?;
    let head: FormatVersion = serde_json::from_str(text)?;
    if head.format != FORMAT {
        return Err(SnapshotError::Foreign);
    }
    if !(1..=VERSION).contains(&head.version) {
        return Err(SnapshotError::Version(head.version));
    }
    let envelope: Envelope<'_> = serde_json::from_str(text)?;
    let Envelope { version, written, journal, memory, .. } = envelope;
    if checksum(version, written, journal, memory.get()) != envelope.sha256 {
        return Err(SnapshotError::Checksum);
    }
    let stored: Stored = serde_json::from_str(memory.get()).map_err(SnapshotError::Content)?;
    let memory = Memory {
        states: stored.states.into_iter().map(|StoredState(state)| state).collect(),
        overrides: (stored.overrides.into_iter().map(RememberedOverride::from))
            .chain(stored.weights.into_iter().map(RememberedOverride::from))
            .collect(),
        tiers: stored.tiers.into_iter().map(|StoredTier(tier)| tier).collect(),
        pools: stored.pools.into_iter().map(|StoredPool(pool)| pool).collect(),
        failovers: stored.failovers.into_iter().map(|StoredFailover(kept)| kept).collect(),
    };
    Ok(Snapshot { memory, written: written.into(), journal })
}

fn checksum(version: u32, written: Timestamp, journal: Option<u64>, memory: &str) -> String {
    let mut context = Context::new(&SHA256);
    let mut add = |part: &str| context.update(part.as_bytes());
    add(FORMAT);
    if version > 1 {
        add(&format!(" {version} {journal:?} "));
    }
    add(&written.to_string());
    add(memory);
    HEXLOWER.encode(context.finish().as_ref())
}
