//! The combined content of the snapshot and the journals, and the part of it that is still valid.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::fleet::{
    Memory, RememberedFailover, RememberedOverride, RememberedPool, RememberedState, RememberedTier,
};
use crate::pool::{Family, OverrideKind};
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
    /// By service, route and family.
    tiers: BTreeMap<(Arc<str>, u32, Family), RememberedTier>,
    /// By name and family.
    pools: BTreeMap<(Arc<str>, Family), RememberedPool>,
    /// By service.
    failovers: BTreeMap<Arc<str>, RememberedFailover>,
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
        Self {
            states: BTreeMap::new(),
            overrides: BTreeMap::new(),
            tiers: BTreeMap::new(),
            pools: BTreeMap::new(),
            failovers: BTreeMap::new(),
            written: SystemTime::UNIX_EPOCH,
        }
    }
}

impl Recollection {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        let mut all = Self { written: snapshot.written, ..Self::default() };
        snapshot.memory.states.into_iter().for_each(|state| all.state(state));
        snapshot.memory.overrides.into_iter().for_each(|kept| all.overridden(kept));
        snapshot.memory.tiers.into_iter().for_each(|tier| all.tier(tier));
        snapshot.memory.pools.into_iter().for_each(|pool| all.pool(pool));
        snapshot.memory.failovers.into_iter().for_each(|kept| all.failed_over(kept));
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

    pub(super) fn tier(&mut self, tier: RememberedTier) {
        self.tiers.insert((Arc::clone(&tier.service), tier.route, tier.family), tier);
    }

    pub(super) fn pool(&mut self, pool: RememberedPool) {
        self.pools.insert((Arc::clone(&pool.pool), pool.family), pool);
    }

    pub(super) fn failed_over(&mut self, kept: RememberedFailover) {
        self.failovers.insert(Arc::clone(&kept.service), kept);
    }

    pub(super) fn failover_ended(&mut self, service: &str) {
        self.failovers.remove(service);
    }

    /// The part that is valid `now`: no states that are too old, no overrides and failovers that have
    /// ended, no times in the future. Nobody knows whether a pool was usable while nothing was written, so that
    /// time does not count for it.
    pub(super) fn until_now(self, now: SystemTime) -> Recalled {
        let age = now.duration_since(self.written).unwrap_or(Duration::ZERO);
        let too_old = age > HINT_AGE && !self.states.is_empty();
        let states = self.states.into_values().filter(|_| !too_old);
        let states = states.map(|state| RememberedState { since: state.since.min(now), ..state });
        let overrides = self.overrides.into_values().filter_map(|kept| {
            let (since, until) = as_of((kept.since, kept.until), now)?;
            Some(RememberedOverride { since, until, ..kept })
        });
        let failovers = self.failovers.into_values().filter_map(|kept| {
            let (since, until) = as_of((kept.since, kept.until), now)?;
            Some(RememberedFailover { since, until, ..kept })
        });
        let since = |since: SystemTime| since.checked_add(age).map_or(now, |since| since.min(now));
        let pools = self.pools.into_values().filter(|pool| pool.since.is_some());
        let pools = pools.map(|pool| RememberedPool { since: pool.since.map(since), ..pool });
        let memory = Memory {
            states: states.collect(),
            overrides: overrides.collect(),
            tiers: self.tiers.into_values().filter(|tier| tier.pool.is_some()).collect(),
            pools: pools.collect(),
            failovers: failovers.collect(),
        };
        Recalled { memory, age, too_old }
    }
}

/// The begin and the end of an override or failover as of `now`; `None` if it has ended. If the clock was set back, it
/// starts again, because otherwise it would last too long.
fn as_of(
    (since, until): (SystemTime, Option<SystemTime>),
    now: SystemTime,
) -> Option<(SystemTime, Option<SystemTime>)> {
    let length = until.map(|until| until.duration_since(since).unwrap_or_default());
    let since = since.min(now);
    let until = length.and_then(|length| since.checked_add(length));
    (until.is_none_or(|until| until > now)).then_some((since, until))
}
