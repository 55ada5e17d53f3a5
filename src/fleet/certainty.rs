//! When the answers of a pool may next change, for services whose TTL follows certainty.
//!
//! Such a service hands out its longest TTL while nothing is pending in its pools, and otherwise the seconds until the
//! earliest completion. These are pending:
//!
//! | pending | completes at the earliest |
//! |---|---|
//! | a rise or fall that has begun, a first outcome | with the last of the missing probes, if none fails to come |
//! | a hold | when it ends |
//! | a slow start, a reported load | with its next step, or when the report expires |
//! | an override with an end | when it ends |
//!
//! A fall that begins later is not foreseen: this is the price of a long TTL. Pools of services with a fixed TTL are
//! not examined.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::fleet::Fleet;
use crate::fleet::calendar::{Calendar, Stamp};
use crate::fleet::pools::Pools;
use crate::fleet::targets::Spot;
use crate::health::{HealthTable, Moment, TargetId};
use crate::pool::{OverrideKind, PoolId};
use crate::service::Service;
use crate::table::{CERTAIN, Table};

/// A change that is pending in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PendingChange {
    /// Of the verdict on a target.
    Verdict(TargetId),
    /// Of the share of an address.
    Share(Spot),
    /// Of an override of this kind for the backend with this index.
    Override(usize, OverrideKind),
}

/// The pending changes of the pools that are examined.
#[derive(Debug, Default)]
pub(super) struct Certainty {
    pools: BTreeMap<PoolId, PendingChanges>,
    /// The pools whose earliest change may differ from the latest table.
    pub(super) changed: BTreeSet<PoolId>,
}

#[derive(Debug, Default)]
struct PendingChanges {
    times: HashMap<PendingChange, Moment>,
    order: BTreeSet<(Moment, PendingChange)>,
}

impl PendingChanges {
    fn earliest(&self) -> Option<(Moment, PendingChange)> {
        self.order.first().copied()
    }

    /// Returns whether the earliest change is another.
    fn note(&mut self, change: PendingChange, at: Option<Moment>) -> bool {
        let before = self.earliest();
        let known = match at {
            Some(at) => self.times.insert(change, at),
            None => self.times.remove(&change),
        };
        if let Some(known) = known {
            self.order.remove(&(known, change));
        }
        self.order.extend(at.map(|at| (at, change)));
        self.earliest() != before
    }
}

impl Certainty {
    /// Examines the pools of services whose TTL follows certainty. Nothing is pending until it is noted.
    pub(super) fn of<'a>(services: impl Iterator<Item = &'a Service>) -> Self {
        let mut examined = Self::default();
        for service in services {
            for (_, route) in service.routes().filter(|(_, route)| !route.ttl.is_fixed()) {
                examined.pools.extend(route.tiers.iter().map(|tier| (*tier, PendingChanges::default())));
            }
        }
        examined.all_changed();
        examined
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    pub(super) fn examines(&self, pool: PoolId) -> bool {
        self.pools.contains_key(&pool)
    }

    /// Notes when a change of a pool completes at the earliest; `None` if it is not pending any more.
    pub(super) fn note(&mut self, pool: PoolId, change: PendingChange, at: Option<Moment>) {
        if let Some(pending) = self.pools.get_mut(&pool)
            && pending.note(change, at)
        {
            self.changed.insert(pool);
        }
    }

    /// Notes that all times differ from those of the latest table.
    pub(super) fn all_changed(&mut self) {
        self.changed = self.pools.keys().copied().collect();
    }

    /// The earliest change of a pool.
    pub(super) fn earliest(&self, pool: PoolId) -> Option<(Moment, PendingChange)> {
        self.pools.get(&pool)?.earliest()
    }

    /// Notes what is pending on an address: its checks, and its share.
    fn note_address(&mut self, spot: Spot, pools: &Pools, health: &HealthTable) {
        let Some(pool) = pools.get(spot.pool) else { return };
        let Some(address) = pool.address(spot.backend as usize, spot.address as usize) else { return };
        for (target, check) in address.targets.iter().zip(&pool.setup.checks) {
            if !check.observe_only {
                self.note(spot.pool, PendingChange::Verdict(*target), health.earliest_change(*target));
            }
        }
        self.note(spot.pool, PendingChange::Share(spot), address.wake);
    }
}

impl Fleet {
    /// Examines all pools anew, after the start or a reload.
    pub(super) fn assess_certainty(&mut self) {
        let services = Arc::clone(self.table.services());
        self.certainty = Certainty::of(services.iter().map(|view| &view.service));
        if self.certainty.is_empty() {
            return;
        }
        let Self { certainty, pools, health, .. } = self;
        for (id, pool) in pools.iter().collect::<Vec<_>>() {
            if !certainty.examines(id) {
                continue;
            }
            for (backend, state) in (0..).zip(&pool.backends) {
                for address in (0..).take(state.addresses.len()) {
                    certainty.note_address(Spot { pool: id, backend, address }, pools, health);
                }
                for kind in OverrideKind::ALL {
                    let kept = state.overridden.get(kind.index()).and_then(Option::as_ref);
                    let until = kept.and_then(|kept| kept.until);
                    let until = until.map(|until| self.now.saturating_add(until.since(self.at)));
                    certainty.note(id, PendingChange::Override(backend as usize, kind), until);
                }
            }
        }
    }

    /// Notes whether the verdict on a target is in doubt, after an outcome.
    pub(super) fn doubt(&mut self, id: TargetId) {
        if self.certainty.is_empty() {
            return;
        }
        let Self { certainty, pools, targets, health, .. } = self;
        let users = targets.get(id).map_or(&[][..], |target| &*target.users);
        for user in users {
            let check = pools.get(user.spot.pool).and_then(|pool| pool.setup.checks.get(user.check as usize));
            if check.is_some_and(|check| !check.observe_only) {
                certainty.note(user.spot.pool, PendingChange::Verdict(id), health.earliest_change(id));
            }
        }
    }

    /// Notes when an override of a backend ends.
    pub(super) fn note_override_end(
        &mut self,
        (pool, backend, kind): (PoolId, usize, OverrideKind),
        until: Option<Stamp>,
    ) {
        let until = until.map(|until| self.now.saturating_add(until.since(self.at)));
        self.certainty.note(pool, PendingChange::Override(backend, kind), until);
    }

    /// Passes the earliest changes to the next table. Returns whether any has changed. `has_answered` is whether the
    /// latest table has answered queries.
    pub(super) fn publish_certainty(&mut self, has_answered: bool) -> bool {
        let mut changes = Vec::new();
        for id in std::mem::take(&mut self.certainty.changed) {
            let until = self.certainty.earliest(id).map_or(CERTAIN, |(at, _)| self.second_of(at));
            let before = self.table.certain_until(id);
            if until == before {
                continue;
            }
            changes.push((id, until));
            let (now, certain_until) = (self.at, self.certain_until(id, &self.table));
            if let Some(pool) = self.pools.0.get_mut(id.index()).filter(|_| has_answered) {
                pool.earlier_answers_end = pool.earlier_answers_end.max(pool.answers_end(now, certain_until));
            }
        }
        if changes.is_empty() {
            return false;
        }
        self.table = Arc::new(self.table.with_certainty(changes));
        true
    }

    /// The last whole second before a moment, since 1970.
    fn second_of(&self, at: Moment) -> u32 {
        let shown = self.calendar.shown(self.at.after(at.saturating_sub(self.now)));
        let since = shown.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        u32::try_from(since).unwrap_or(CERTAIN).min(CERTAIN - 1)
    }

    /// Records when the answers until now have expired. The table has times of day, which only the calendar from before a
    /// jump understands.
    pub(super) fn keep_answers_end(&mut self, before: Calendar) {
        for (index, pool) in self.pools.0.iter_mut().enumerate() {
            let id = PoolId(u32::try_from(index).unwrap_or(u32::MAX));
            let until = self.table.certain_until(id);
            if until != CERTAIN {
                let until = before.stamp_of(UNIX_EPOCH + Duration::from_secs(until.into()));
                pool.earlier_answers_end =
                    pool.earlier_answers_end.max(pool.answers_end(self.at, Some(until)));
            }
        }
    }

    /// The time of the earliest pending change of a pool according to a table.
    pub(super) fn certain_until(&self, id: PoolId, table: &Table) -> Option<Stamp> {
        let until = table.certain_until(id);
        (until != CERTAIN).then(|| self.calendar.stamp_of(UNIX_EPOCH + Duration::from_secs(until.into())))
    }
}
