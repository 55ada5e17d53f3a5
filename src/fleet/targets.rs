//! The targets of probes, and the checks that use them.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use crate::check::{Probe, Timing};
use crate::fleet::calendar::Stamp;
use crate::fleet::expiry::Expiry;
use crate::fleet::history::Outcomes;
use crate::fleet::weight::Load;
use crate::health::{HealthTable, Moment, TargetId, Verdict};
use crate::pool::PoolId;

/// The identity of a target: checks with equal keys share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TargetKey {
    /// With the port and host of the backend.
    pub(super) probe: Arc<Probe>,
    pub(super) timing: Arc<Timing>,
    /// The destination: the backend's `check_address`, otherwise the address itself.
    pub(super) host: IpAddr,
}

/// A backend address in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) pool: PoolId,
    /// The index within the pool.
    pub(super) backend: u32,
    /// The index within the backend.
    pub(super) address: u32,
}

/// A check of a backend address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) spot: Spot,
    /// The index within the pool.
    pub(super) check: u32,
}

/// A target of probes.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) key: TargetKey,
    /// At least one. Users in the same backend are adjacent.
    pub(super) users: Vec<User>,
    /// The verdict from the previous run, until the first outcome.
    pub(super) hint: Option<Verdict>,
    /// When its verdict began. For display.
    pub(super) since: Stamp,
    /// The outcomes of the last probes.
    pub(super) outcomes: Outcomes,
    /// The load that the backend reports.
    pub(super) load: Load,
    /// When its certificate expires.
    pub(super) expiry: Expiry,
    /// The charge for searches that its last probe left for the next one.
    pub(super) search_charge: Duration,
}

/// The initial state of a target.
#[derive(Clone, Copy, Debug)]
pub(super) struct InitialState {
    /// The verdict of the check that it replaces.
    pub(super) verdict: Option<Verdict>,
    /// The verdict from the previous run.
    pub(super) hint: Option<Verdict>,
    pub(super) since: Stamp,
}

impl InitialState {
    /// A state of which only a hint is known.
    pub(super) fn hint(hint: Option<Verdict>, since: Stamp) -> Self {
        Self { verdict: None, hint, since }
    }
}

/// All targets.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// Indexed by [`TargetId`]; ids of removed targets are reused.
    targets: Vec<Option<Target>>,
    count: usize,
}

/// Finds or adds targets by their keys while pools are linked.
#[derive(Debug)]
pub(super) struct Linker<'a, R> {
    pub(super) targets: &'a mut Targets,
    pub(super) health: &'a mut HealthTable,
    pub(super) now: Moment,
    pub(super) at: Stamp,
    rng: &'a mut R,
    known: HashMap<TargetKey, TargetId>,
    /// Equal probes are stored once, and so are equal timings.
    probes: HashSet<Arc<Probe>>,
    timings: HashSet<Arc<Timing>>,
}

impl Targets {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn get(&self, id: TargetId) -> Option<&Target> {
        self.targets.get(id.index())?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: TargetId) -> Option<&mut Target> {
        self.targets.get_mut(id.index())?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TargetId, &Target)> {
        (0..).map(TargetId).zip(&self.targets).filter_map(|(id, target)| Some((id, target.as_ref()?)))
    }

    /// The verdict of a target, and whether it is only a hint.
    pub(super) fn verdict(&self, health: &HealthTable, id: TargetId) -> (Option<Verdict>, bool) {
        match health.state(id).verdict() {
            Some(verdict) => (Some(verdict), false),
            None => {
                let hint = self.get(id).and_then(|target| target.hint);
                (hint, hint.is_some())
            }
        }
    }

    /// The initial state for a target that replaces this one.
    pub(super) fn beginning(&self, health: &HealthTable, id: TargetId) -> InitialState {
        let target = self.get(id);
        InitialState {
            verdict: health.state(id).verdict(),
            hint: target.and_then(|target| target.hint),
            since: target.map_or(Stamp::EPOCH, |target| target.since),
        }
    }

    /// Removes all users in these pools.
    pub(super) fn unlink(&mut self, pools: &HashSet<PoolId>) {
        for target in self.targets.iter_mut().flatten() {
            target.users.retain(|user| !pools.contains(&user.spot.pool));
        }
    }

    /// Removes targets without users. Reports of their running probes are no longer wanted.
    pub(super) fn remove_unused(&mut self, health: &mut HealthTable) {
        for (id, place) in (0..).map(TargetId).zip(&mut self.targets) {
            if place.take_if(|target| target.users.is_empty()).is_some() {
                health.remove(id);
                self.count -= 1;
            }
        }
    }
}

#[allow(
    clippy::mutable_key_type,
    reason = "an expression is compared and hashed as it is written; only its caches change"
)]
impl<'a, R: Rng> Linker<'a, R> {
    /// Starts with the existing targets at these hosts only.
    pub(super) fn new(
        targets: &'a mut Targets,
        health: &'a mut HealthTable,
        now: Moment,
        at: Stamp,
        rng: &'a mut R,
        hosts: &HashSet<IpAddr>,
    ) -> Self {
        let wanted = targets.iter().filter(|(_, target)| hosts.contains(&target.key.host));
        let known: HashMap<TargetKey, TargetId> =
            wanted.map(|(id, target)| (target.key.clone(), id)).collect();
        let probes = known.keys().map(|key| Arc::clone(&key.probe)).collect();
        let timings = known.keys().map(|key| Arc::clone(&key.timing)).collect();
        Self { targets, health, now, at, rng, known, probes, timings }
    }

    /// The shared copy of a probe.
    pub(super) fn probe(&mut self, probe: Probe) -> Arc<Probe> {
        shared(&mut self.probes, probe)
    }

    /// The shared copy of a timing.
    pub(super) fn timing(&mut self, timing: Timing) -> Arc<Timing> {
        shared(&mut self.timings, timing)
    }

    /// Adds a user to the target with this key; a new target starts from `beginning`.
    pub(super) fn link(&mut self, key: TargetKey, user: User, beginning: InitialState) -> TargetId {
        let known = self.known.get(&key).copied();
        let id = known.unwrap_or_else(|| self.add(key, beginning));
        if let Some(target) = self.targets.get_mut(id) {
            target.users.push(user);
            // Maybe only this user has a hint.
            target.hint = target.hint.or_else(|| {
                let is_unknown = self.health.state(id).verdict().is_none();
                beginning.verdict.or(beginning.hint).filter(|_| is_unknown)
            });
        }
        id
    }

    fn add(&mut self, key: TargetKey, beginning: InitialState) -> TargetId {
        let id = self.health.add(Arc::clone(&key.timing), beginning.verdict, self.now, self.rng);
        self.known.insert(key.clone(), id);
        let target = Target {
            key,
            users: Vec::with_capacity(1),
            hint: beginning.hint,
            since: beginning.since,
            outcomes: Outcomes::default(),
            load: Load::default(),
            expiry: Expiry::default(),
            search_charge: Duration::ZERO,
        };
        let targets = &mut self.targets.targets;
        if targets.len() <= id.index() {
            targets.resize_with(id.index() + 1, || None);
        }
        if let Some(place) = targets.get_mut(id.index()) {
            *place = Some(target);
            self.targets.count += 1;
        }
        id
    }
}

/// The known copy of a value; a new one if there is none.
fn shared<T: Eq + Hash>(known: &mut HashSet<Arc<T>>, value: T) -> Arc<T> {
    if let Some(known) = known.get(&value) {
        return Arc::clone(known);
    }
    let value = Arc::new(value);
    known.insert(Arc::clone(&value));
    value
}
