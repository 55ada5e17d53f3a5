//! The state worth keeping over a restart. The file it is kept in is `state`'s.
//!
//! The whole is told step by step between the turns. Beside that, each change is noted until it has
//! been told, whatever else happens meanwhile:
//!
//! ```text
//! a verdict or an override changes   -> it is noted
//! the changes are asked for          -> those noted are told, and no longer noted
//! other pools, a jump of the clock   -> the whole is needed, and the changes say so
//! the whole is asked for             -> it is begun; what is noted stays noted
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::checker::calendar::{Calendar, Stamp};
use crate::checker::pools::PoolState;
use crate::checker::targets::User;
use crate::checker::telling::Sources;
use crate::checker::{Checker, Outside};
use crate::health::{TargetId, Verdict};
use crate::pool::{Override, PoolId};

/// How many changes are told at once: well below a millisecond of work.
const CHANGES_AT_ONCE: usize = 2_000;

/// The known state of the backends, by the names of the configuration, so that it fits one that has changed
/// meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The verdict of each check for each address.
    pub states: Vec<RememberedState>,
    /// The operators' overrides.
    pub overrides: Vec<RememberedOverride>,
}

/// The verdict of a check for an address. A hint: shown as such, and used only until the first outcome.
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
    /// Since when.
    pub since: SystemTime,
}

/// An operator's override of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedOverride {
    /// The pool's name.
    pub pool: Arc<str>,
    /// The backend's name.
    pub backend: Arc<str>,
    /// The override.
    pub state: Override,
    /// Since when.
    pub since: SystemTime,
    /// When it ends by itself.
    pub until: Option<SystemTime>,
    /// Why.
    pub reason: Option<String>,
    /// The one who asked for it.
    pub by: Option<String>,
}

/// Changes of a [`Memory`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryChanges {
    /// The memory is needed as a whole, which the changes below are only a part of. Said until it is
    /// asked for.
    pub everything: bool,
    /// Present verdicts of checks.
    pub states: Vec<RememberedState>,
    /// Overrides that are new, or other than before.
    pub overrides: Vec<RememberedOverride>,
    /// The backends, each after its pool, that have no override any more.
    pub ended: Vec<(Arc<str>, Arc<str>)>,
    /// There is more, to be asked for at once.
    pub more: bool,
}

/// Changes that have not been reported yet.
#[derive(Debug)]
pub(super) struct Untold {
    /// The whole is needed: at the start, and since names, places or times became others.
    everything: bool,
    /// Targets whose verdict has changed.
    targets: BTreeSet<TargetId>,
    /// The overrides that were set, and those that ended. By name, because a reload gives backends
    /// other places, and with the value, so that nothing has to be looked up.
    overrides: BTreeMap<Names, Option<RememberedOverride>>,
}

/// The names of a pool and of a backend in it.
type Names = (Arc<str>, Arc<str>);

impl Default for Untold {
    fn default() -> Self {
        Self { everything: true, targets: BTreeSet::new(), overrides: BTreeMap::new() }
    }
}

impl Untold {
    /// The whole is being told. Changes stay noted: the answer may take seconds, and until it is on
    /// the disk nothing else there has them.
    pub(super) fn begin(&mut self) {
        self.everything = false;
    }

    /// Names, places or times are others now.
    pub(super) fn everything(&mut self) {
        self.everything = true;
    }

    pub(super) fn state(&mut self, target: TargetId) {
        self.targets.insert(target);
    }
}

impl<O: Outside> Checker<O> {
    /// Notes the override that a backend has now, or that it has none.
    pub(super) fn note_override(&mut self, id: PoolId, backend: usize) {
        let Some(pool) = self.pools.get(id) else { return };
        let Some(names) = names(pool, backend) else { return };
        self.untold.overrides.insert(names, remembered_override(pool, backend, self.calendar));
    }

    /// Notes that a backend has no override, because it may be gone in a moment.
    pub(super) fn note_no_override(&mut self, id: PoolId, backend: usize) {
        let names = self.pools.get(id).and_then(|pool| names(pool, backend));
        self.untold.overrides.extend(names.map(|names| (names, None)));
    }

    /// Tells what has changed, [`CHANGES_AT_ONCE`] at most.
    pub(super) fn memory_changes(&mut self) -> MemoryChanges {
        let mut untold = std::mem::take(&mut self.untold);
        let mut changes = MemoryChanges { everything: untold.everything, ..MemoryChanges::default() };
        let table = self.published.load();
        let sources = self.sources(&table);
        for _ in 0..CHANGES_AT_ONCE {
            if let Some((names, kept)) = untold.overrides.pop_first() {
                match kept {
                    Some(kept) => changes.overrides.push(kept),
                    None => changes.ended.push(names),
                }
            } else if let Some(target) = untold.targets.pop_first() {
                sources.tell_target(&mut changes, target);
            } else {
                break;
            }
        }
        changes.more = !untold.targets.is_empty() || !untold.overrides.is_empty();
        self.untold = untold;
        changes
    }
}

impl Sources<'_> {
    /// Adds what is worth keeping of a backend.
    pub(super) fn remember(&self, memory: &mut Memory, pool: &PoolState, backend: usize) {
        let Some(state) = pool.backends.get(backend) else { return };
        for (address, state) in state.addresses.iter().enumerate() {
            let checks = state.targets.iter().enumerate();
            memory.states.extend(
                checks.filter_map(|(check, id)| self.remembered_state(pool, backend, address, check, *id)),
            );
        }
        memory.overrides.extend(remembered_override(pool, backend, self.calendar));
    }

    fn tell_target(&self, changes: &mut MemoryChanges, id: TargetId) {
        let users = self.targets.get(id).map_or(&[][..], |target| &target.users);
        let state = |User { spot, check }: &User| {
            let pool = self.pools.get(spot.pool)?;
            self.remembered_state(pool, spot.backend as usize, spot.address as usize, *check as usize, id)
        };
        changes.states.extend(users.iter().filter_map(state));
    }

    fn remembered_state(
        &self,
        pool: &PoolState,
        backend: usize,
        address: usize,
        check: usize,
        id: TargetId,
    ) -> Option<RememberedState> {
        let (verdict, _) = self.targets.verdict(self.health, id);
        let (pool_name, backend_name) = names(pool, backend)?;
        Some(RememberedState {
            pool: pool_name,
            backend: backend_name,
            address: *pool.setup.pool.backends.get(backend)?.addresses.get(address)?,
            check: Arc::clone(pool.checks.get(check)?),
            verdict: verdict?,
            since: self.calendar.shown(self.targets.get(id)?.since),
        })
    }
}

fn remembered_override(pool: &PoolState, backend: usize, calendar: Calendar) -> Option<RememberedOverride> {
    let kept = pool.backends.get(backend)?.overridden.as_ref()?.shown(calendar);
    let (pool, backend) = names(pool, backend)?;
    Some(RememberedOverride {
        pool,
        backend,
        state: kept.state,
        since: kept.since,
        until: kept.until,
        reason: kept.reason,
        by: kept.by,
    })
}

fn names(pool: &PoolState, backend: usize) -> Option<Names> {
    Some((Arc::clone(pool.series.name()), Arc::clone(pool.series.backend_name(backend)?)))
}

/// Remembered verdicts of the checks of a pool, by backend, address and check.
pub(super) type Hints<'a> = HashMap<(&'a str, IpAddr, &'a str), (Verdict, Stamp)>;

/// Sorts what is remembered by pool.
pub(super) fn hints(states: &[RememberedState], calendar: Calendar) -> HashMap<&str, Hints<'_>> {
    let mut pools: HashMap<&str, Hints<'_>> = HashMap::new();
    for RememberedState { pool, backend, address, check, verdict, since } in states {
        let hint = (*verdict, calendar.stamp_of(*since));
        pools.entry(pool).or_default().insert((backend, *address, check), hint);
    }
    pools
}
