//! Tests with snapshots and journals that are cut, flipped, foreign or incomplete; with a disk that
//! fails or loses power at any step; with files of earlier versions; and tests of the task that
//! writes the files.

mod crash;
mod files;
mod journal;
mod keeping;
mod snapshot;
mod tiers;

use std::time::Duration;

use super::*;
use crate::fleet::{MemoryChanges, RememberedOverride, RememberedState};
use crate::health::Verdict;
use crate::pool::{MAX_WEIGHT_PERCENT, Override, OverrideKind, OverrideValue};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000 + seconds, 123_456_789)
}

/// A memory with every verdict and every override; `tag` distinguishes memories.
fn memory(tag: &str) -> Memory {
    let state = |(index, verdict)| RememberedState {
        pool: "web".into(),
        backend: format!("gw{index}-{tag}").into(),
        address: if index == 0 { "192.0.2.1".parse().unwrap() } else { "2001:db8::1".parse().unwrap() },
        check: "http-2".into(),
        verdict,
        since: at(0),
        progress: None,
    };
    let kept = |(index, value)| RememberedOverride {
        pool: "\"odd\\\u{1f600}".into(),
        backend: format!("gw{index}").into(),
        value,
        since: at(1),
        until: (index % 2 == 0).then(|| at(3600)),
        reason: (index > 1).then(|| "kernel\nupdate".into()),
        by: None,
    };
    let verdicts = [Verdict::Healthy, Verdict::Draining, Verdict::Unhealthy];
    Memory {
        states: verdicts.into_iter().enumerate().map(state).collect(),
        overrides: Override::ALL.into_iter().map(OverrideValue::State).enumerate().map(kept).collect(),
        ..Memory::default()
    }
}

/// The same memory with overrides of weights beside those of states, and without them.
fn with_weights(mut memory: Memory) -> Memory {
    for (index, percent) in [0, 30, MAX_WEIGHT_PERCENT].into_iter().enumerate() {
        let kept = memory.overrides[index].clone();
        memory.overrides.push(RememberedOverride { value: OverrideValue::Weight(percent), ..kept });
    }
    memory
}

fn encoded(tag: &str) -> Vec<u8> {
    file::encode(memory(tag), Some(7), at(10)).unwrap().into_bytes()
}

fn decode(bytes: &[u8], now: SystemTime) -> Result<Recalled, file::SnapshotError> {
    file::decode(bytes).map(|snapshot| Recollection::new(snapshot).until_now(now))
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
