//! The combined content of the snapshot and the journals, and the part of it that is still valid.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::fleet::{Memory, RememberedOverride, RememberedState};
use crate::pool::OverrideKind;
use crate::state::file::Snapshot;

/// States that were written longer ago are not used as hints.
pub const HINT_AGE: Duration = Duration::from_secs(24 * 3600);

/// Pool, backend, address and check.
type CheckPath = (Arc<str>, Arc<str>, IpAddr, Arc<str>);

/// The state that has been read so far.
#[derive(Debug)]
pub(super) struct Recollection {
    states: BTreeMap<CheckPath, RememberedState>,
    overrides: BTreeMap<(Arc<str>, Arc<str>, OverrideKind), RememberedOverride>,
    /// When the last change was written.
    pub(super) written: SystemTime,
}

/// The memory read from the files.
#[derive(Debug)]
pub(super) struct Recalled {
    pub(super) memory: Memory,
    /// The time since it was written; zero if the time of writing is in the future.
    pub(super) age: Duration,
    /// Whether states were left out because they are too old.
    pub(super) too_old: bool,
}

/// Empty, and older than anything that was written.
impl Default for Recollection {
    fn default() -> Self {
        Self { states: BTreeMap::new(), overrides: BTreeMap::new(), written: SystemTime::UNIX_EPOCH }
    }
}

impl Recollection {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        let mut all = Self { written: snapshot.written, ..Self::default() };
        snapshot.memory.states.into_iter().for_each(|state| all.state(state));
        snapshot.memory.overrides.into_iter().for_each(|kept| all.overridden(kept));
        all
    }

    pub(super) fn state(&mut self, state: RememberedState) {
        let key =
            (Arc::clone(&state.pool), Arc::clone(&state.backend), state.address, Arc::clone(&state.check));
        self.states.insert(key, state);
    }

    pub(super) fn overridden(&mut self, kept: RememberedOverride) {
        let key = (Arc::clone(&kept.pool), Arc::clone(&kept.backend), kept.value.kind());
        self.overrides.insert(key, kept);
    }

    pub(super) fn ended(&mut self, pool: Arc<str>, backend: Arc<str>, kind: OverrideKind) {
        self.overrides.remove(&(pool, backend, kind));
    }

    /// The part that is valid `now`: no states that are too old, no overrides that have ended, no
    /// times in the future.
    pub(super) fn until_now(self, now: SystemTime) -> Recalled {
        let age = now.duration_since(self.written).unwrap_or(Duration::ZERO);
        let too_old = age > HINT_AGE && !self.states.is_empty();
        let states = self.states.into_values().filter(|_| !too_old);
        let states = states.map(|state| RememberedState { since: state.since.min(now), ..state });
        let overrides = self.overrides.into_values().filter_map(|kept| as_of(kept, now));
        let memory = Memory { states: states.collect(), overrides: overrides.collect() };
        Recalled { memory, age, too_old }
    }
}

/// The override as of `now`; `None` if it has ended. If the clock was set back, the override starts
/// again, because otherwise it would last too long.
fn as_of(kept: RememberedOverride, now: SystemTime) -> Option<RememberedOverride> {
    let length = kept.until.map(|until| until.duration_since(kept.since).unwrap_or_default());
    let since = kept.since.min(now);
    let until = length.and_then(|length| since.checked_add(length));
    if until.is_some_and(|until| until <= now) {
        return None;
    }
    Some(RememberedOverride { since, until, ..kept })
}
