//! The state that survives a restart. `state` owns the file.
//!
//! The whole memory is reported in steps between turns. Changes are recorded until they have been reported:
//!
//! ```text
//! a verdict or an override changes   -> it is recorded
//! the changes are requested          -> they are reported, and no longer recorded
//! a reload, a jump of the clock      -> the changes say that the whole must be read
//! the whole is requested             -> reading begins; recorded changes stay recorded
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::fleet::calendar::{Calendar, Stamp};
use crate::health::{TargetId, TargetProgress, Verdict};
use crate::pool::{Family, OverrideKind, OverrideValue};

/// The known state of the backends. Identified by names, so that it still applies after the configuration has
/// changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The verdict of each check for each address.
    pub states: Vec<RememberedState>,
    /// The operators' overrides.
    pub overrides: Vec<RememberedOverride>,
    /// The tiers in use that are not the first ones of their services.
    pub tiers: Vec<RememberedTier>,
    /// Since when pools are usable without a break, for services that wait for it.
    pub pools: Vec<RememberedPool>,
    /// The operators' failovers.
    pub failovers: Vec<RememberedFailover>,
}

/// The verdict of a check for an address. It is a hint until the first outcome, and displayed as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedState {
    /// The pool's name.
    pub pool: Arc<str>,
    /// The backend's name.
    pub backend: Arc<str>,
    /// The address.
    pub address: IpAddr,
    /// The check's name.
    pub check: Arc<str>,
    /// The verdict.
    pub verdict: Verdict,
    /// When it began.
    pub since: SystemTime,
    /// How far the check is. After a restart it is unknown; a process that takes over goes on with it.
    pub progress: Option<TargetProgress>,
}

/// An operator's override for a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedOverride {
    /// The pool's name.
    pub pool: Arc<str>,
    /// The backend's name.
    pub backend: Arc<str>,
    /// The override.
    pub value: OverrideValue,
    /// When it began.
    pub since: SystemTime,
    /// When it ends by itself.
    pub until: Option<SystemTime>,
    /// The reason for it.
    pub reason: Option<String>,
    /// The client that requested it.
    pub by: Option<String>,
}

/// The tier in use of a service whose `failback` is not `auto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedTier {
    /// The service's name.
    pub service: Arc<str>,
    /// 0 for its `pools`, otherwise the number of the rule.
    pub route: u32,
    /// The address family.
    pub family: Family,
    /// The names of all tiers, which identify the rule if its number has changed.
    pub tiers: Vec<Arc<str>>,
    /// The name of the pool in use; none if it is the first one, so that nothing must be remembered.
    pub pool: Option<Arc<str>>,
}

/// Since when a pool is usable without a break in an address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedPool {
    /// The pool's name.
    pub pool: Arc<str>,
    /// The address family.
    pub family: Family,
    /// None if it is not usable, or only on trust.
    pub since: Option<SystemTime>,
}

/// An operator's failover of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedFailover {
    /// The service's name.
    pub service: Arc<str>,
    /// The name of the pool that answers.
    pub pool: Arc<str>,
    /// When it began.
    pub since: SystemTime,
    /// When it ends by itself.
    pub until: Option<SystemTime>,
    /// The reason for it.
    pub reason: Option<String>,
    /// The client that requested it.
    pub by: Option<String>,
}

/// Changes of a [`Memory`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryChanges {
    /// Whether the changes below are incomplete and the whole memory must be read. True until that begins.
    pub everything: bool,
    /// Current verdicts of checks.
    pub states: Vec<RememberedState>,
    /// Overrides that are new or have changed.
    pub overrides: Vec<RememberedOverride>,
    /// Pool, backend and kind of each override that has ended.
    pub ended: Vec<(Arc<str>, Arc<str>, OverrideKind)>,
    /// Tiers in use that have changed.
    pub tiers: Vec<RememberedTier>,
    /// Pools that are usable since another time, or no longer.
    pub pools: Vec<RememberedPool>,
    /// Failovers that are new or have changed.
    pub failovers: Vec<RememberedFailover>,
    /// The service of each failover that has ended.
    pub ended_failovers: Vec<Arc<str>>,
    /// Whether there are more changes; the caller asks again at once.
    pub more: bool,
}

/// Changes that have not been reported yet.
#[derive(Debug)]
pub(super) struct Unreported {
    /// Whether the whole must be read: at the start, and after names, ids or times have changed.
    pub(super) everything: bool,
    /// Targets whose verdict has changed.
    pub(super) targets: BTreeSet<TargetId>,
    /// Overrides that were set or have ended. They are keyed by name, because a reload changes ids, and include
    /// their values, so that no look-up is needed.
    pub(super) overrides: BTreeMap<OverrideName, Option<RememberedOverride>>,
    /// Tiers in use that have changed, by service, route and family.
    pub(super) tiers: BTreeMap<(Arc<str>, u32, Family), RememberedTier>,
    /// Pools that are usable since another time, by name and family.
    pub(super) pools: BTreeMap<(Arc<str>, Family), RememberedPool>,
    /// Failovers that were set or have ended, by service.
    pub(super) failovers: BTreeMap<Arc<str>, Option<RememberedFailover>>,
}

/// The names of a pool and of a backend in it, and what of it is overridden.
pub(super) type OverrideName = (Arc<str>, Arc<str>, OverrideKind);

impl Default for Unreported {
    fn default() -> Self {
        Self {
            everything: true,
            targets: BTreeSet::new(),
            overrides: BTreeMap::new(),
            tiers: BTreeMap::new(),
            pools: BTreeMap::new(),
            failovers: BTreeMap::new(),
        }
    }
}

impl Unreported {
    /// Whether there are changes to report.
    pub(super) fn is_any(&self) -> bool {
        let Self { everything: _, targets, overrides, tiers, pools, failovers } = self;
        let are_empty = [targets.is_empty(), overrides.is_empty(), tiers.is_empty(), pools.is_empty()];
        !(are_empty.into_iter().all(|is_empty| is_empty) && failovers.is_empty())
    }

    /// Begins to read the whole. Changes remain recorded, because it takes seconds until the whole is on disk.
    pub(super) fn begin(&mut self) {
        self.everything = false;
    }

    /// Records that names, ids or times have changed.
    pub(super) fn everything(&mut self) {
        self.everything = true;
    }

    pub(super) fn state(&mut self, target: TargetId) {
        self.targets.insert(target);
    }
}

/// Remembered verdicts of the checks of a pool, by backend, address and check.
pub(super) type Hints<'a> = HashMap<(&'a str, IpAddr, &'a str), Hint>;

/// A remembered verdict, and when it began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hint {
    pub(super) verdict: Verdict,
    pub(super) since: Stamp,
    /// If it is known, the verdict is more than a hint.
    pub(super) progress: Option<TargetProgress>,
}

/// Remembered verdicts by pool.
pub(super) fn hints(states: &[RememberedState], calendar: Calendar) -> HashMap<&str, Hints<'_>> {
    let mut pools: HashMap<&str, Hints<'_>> = HashMap::new();
    for RememberedState { pool, backend, address, check, verdict, since, progress } in states {
        let hint = Hint { verdict: *verdict, since: calendar.stamp_of(*since), progress: *progress };
        pools.entry(pool).or_default().insert((backend, *address, check), hint);
    }
    pools
}
