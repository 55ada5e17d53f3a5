//! The format of the file: bytes to a memory and back.
//!
//! One JSON object: what it is, its version, when it was written, the SHA-256 of all that matters,
//! and the memory. Whatever was done to a file, it is read as it was written, or refused.

use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::checker::{Memory, RememberedOverride, RememberedState};
use crate::health::Verdict;
use crate::pool::Override;

/// States of a file that is older than this are no hints any more.
pub const HINT_AGE: Duration = Duration::from_secs(24 * 3600);
/// What the file says it is.
const FORMAT: &str = "steerd-health";
/// Of the format. A file of another version is not understood.
const VERSION: u32 = 1;

/// What tells one memory from another.
pub(super) type Fingerprint = [u8; SHA256_OUTPUT_LEN];

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("it is damaged or cut off: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("it is not UTF-8, so it is damaged or foreign")]
    NotText(#[from] std::str::Utf8Error),
    #[error("it is foreign: it does not say that it is `{FORMAT}`")]
    Foreign,
    #[error("it is of version {0} of its format, and this steerd knows version {VERSION} only")]
    Version(u32),
    #[error("its checksum is not that of its content, so it is damaged")]
    Checksum,
    #[error("its content is not understood: {0}")]
    Content(serde_json::Error),
}

/// What a file brings back.
#[derive(Debug)]
pub(super) struct Recalled {
    pub(super) memory: Memory,
    /// Since it was written; zero where the clock says it is yet to be.
    pub(super) age: Duration,
    /// Whether states were left out because of that.
    pub(super) too_old: bool,
}

/// What every version of the format says.
#[derive(Deserialize)]
struct Head {
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
    sha256: &'a str,
    #[serde(borrow)]
    memory: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    states: Vec<StoredState>,
    overrides: Vec<StoredOverride>,
}

#[derive(Serialize, Deserialize)]
struct StoredState(#[serde(with = "StateForm")] RememberedState);

#[derive(Serialize, Deserialize)]
struct StoredOverride(#[serde(with = "OverrideForm")] RememberedOverride);

#[derive(Serialize, Deserialize)]
#[serde(remote = "RememberedState")]
struct StateForm {
    pool: String,
    backend: String,
    address: std::net::IpAddr,
    check: String,
    #[serde(with = "VerdictForm")]
    verdict: Verdict,
    #[serde(with = "time")]
    since: SystemTime,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RememberedOverride")]
struct OverrideForm {
    pool: String,
    backend: String,
    #[serde(with = "StateWord")]
    state: Override,
    #[serde(with = "time")]
    since: SystemTime,
    #[serde(with = "optional_time")]
    until: Option<SystemTime>,
    reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Verdict", rename_all = "lowercase")]
enum VerdictForm {
    Healthy,
    Draining,
    Unhealthy,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Override", rename_all = "lowercase")]
enum StateWord {
    Drain,
    Disabled,
    Up,
    Down,
}

/// Times as RFC 3339. One that no calendar has, as from a clock that is far off, becomes the nearest.
mod time {
    use super::{Deserialize, SystemTime, Timestamp};

    pub(super) fn timestamp(time: SystemTime) -> Timestamp {
        let nearest = if time < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
        Timestamp::try_from(time).unwrap_or(nearest)
    }

    pub(super) fn serialize<S: serde::Serializer>(
        time: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&timestamp(*time))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        Timestamp::deserialize(deserializer).map(SystemTime::from)
    }
}

mod optional_time {
    use super::{Deserialize, Serialize, SystemTime, Timestamp, time};

    #[allow(clippy::ref_option, reason = "the signature is serde's")]
    pub(super) fn serialize<S: serde::Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(time::timestamp).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        Ok(Option::<Timestamp>::deserialize(deserializer)?.map(SystemTime::from))
    }
}

/// A memory as text, not dated yet.
pub(super) struct Body(Box<RawValue>);

impl Body {
    /// # Errors
    /// None that the memory can bring about; the serializer has them.
    pub(super) fn new(memory: Memory) -> serde_json::Result<Self> {
        let stored = Stored {
            states: memory.states.into_iter().map(StoredState).collect(),
            overrides: memory.overrides.into_iter().map(StoredOverride).collect(),
        };
        serde_json::value::to_raw_value(&stored).map(Self)
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        hash(&[self.0.get()])
    }

    /// The text of a file, written `now`.
    ///
    /// # Errors
    /// As [`Body::new`].
    pub(super) fn encode(&self, now: SystemTime) -> serde_json::Result<String> {
        let written = time::timestamp(now);
        let sha256 = checksum(written, self.0.get());
        let (format, memory) = (FORMAT, &*self.0);
        let envelope = Envelope { format, version: VERSION, written, sha256: &sha256, memory };
        serde_json::to_string(&envelope).map(|text| text + "\n")
    }
}

/// What a file says, as far as it is of use `now`: no states that are too old, no overrides that
/// have ended, and nothing that began in the future.
///
/// # Errors
/// When it is not a whole file of this version.
pub(super) fn decode(bytes: &[u8], now: SystemTime) -> Result<Recalled, Refused> {
    let text = std::str::from_utf8(bytes)?;
    let head: Head = serde_json::from_str(text)?;
    if head.format != FORMAT {
        return Err(Refused::Foreign);
    }
    if head.version != VERSION {
        return Err(Refused::Version(head.version));
    }
    let envelope: Envelope<'_> = serde_json::from_str(text)?;
    if checksum(envelope.written, envelope.memory.get()) != envelope.sha256 {
        return Err(Refused::Checksum);
    }
    let stored: Stored = serde_json::from_str(envelope.memory.get()).map_err(Refused::Content)?;
    let age = now.duration_since(envelope.written.into()).unwrap_or(Duration::ZERO);
    let too_old = age > HINT_AGE && !stored.states.is_empty();
    let states = stored.states.into_iter().filter(|_| !too_old).map(|StoredState(state)| state);
    let states = states.map(|state| RememberedState { since: state.since.min(now), ..state });
    let overrides = stored.overrides.into_iter().filter_map(|StoredOverride(kept)| as_of(kept, now));
    Ok(Recalled { memory: Memory { states: states.collect(), overrides: overrides.collect() }, age, too_old })
}

/// The override as it stands `now`; none when it has ended. With a clock that was put back it
/// would last longer than it was meant to, so then it begins anew.
fn as_of(kept: RememberedOverride, now: SystemTime) -> Option<RememberedOverride> {
    let length = kept.until.map(|until| until.duration_since(kept.since).unwrap_or_default());
    let since = kept.since.min(now);
    let until = length.and_then(|length| since.checked_add(length));
    if until.is_some_and(|until| until <= now) {
        return None;
    }
    Some(RememberedOverride { since, until, ..kept })
}

fn checksum(written: Timestamp, memory: &str) -> String {
    HEXLOWER.encode(&hash(&[FORMAT, &written.to_string(), memory]))
}

fn hash(parts: &[&str]) -> Fingerprint {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part.as_bytes());
    }
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(context.finish().as_ref());
    fingerprint
}
