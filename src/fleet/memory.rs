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

use crate::fleet::calendar::{Calendar, Stamp};
use crate::health::{TargetId, Verdict};
use crate::pool::Override;

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
pub(super) struct Unreported {
    /// The whole is needed: at the start, and since names, places or times became others.
    pub(super) everything: bool,
    /// Targets whose verdict has changed.
    pub(super) targets: BTreeSet<TargetId>,
    /// The overrides that were set, and those that ended. By name, because a reload gives backends
    /// other places, and with the value, so that nothing has to be looked up.
    pub(super) overrides: BTreeMap<Names, Option<RememberedOverride>>,
}

/// The names of a pool and of a backend in it.
pub(super) type Names = (Arc<str>, Arc<str>);

impl Default for Unreported {
    fn default() -> Self {
        Self { everything: true, targets: BTreeSet::new(), overrides: BTreeMap::new() }
    }
}

impl Unreported {
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
