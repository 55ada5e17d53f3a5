//! Reports the memory: all of it in steps, and then the changes.

use std::sync::Arc;

use crate::fleet::calendar::Calendar;
use crate::fleet::failback::remembered_tier;
use crate::fleet::memory::OverrideName;
use crate::fleet::overrides::OverridePlace;
use crate::fleet::pools::PoolState;
use crate::fleet::survey::Survey;
use crate::fleet::targets::User;
use crate::fleet::{
    Fleet, Memory, MemoryChanges, RememberedOverride, RememberedPool, RememberedState, RememberedTier,
};
use crate::health::TargetId;
use crate::pool::{Family, OverrideKind, PoolId};
use crate::service::ServiceId;
use crate::table::RouteView;

/// How many changes one call reports: well below a millisecond of work.
const CHANGES_AT_ONCE: usize = 2_000;

impl Fleet {
    /// Begins a report of the whole memory. Changes remain recorded until they are reported.
    pub fn begin_memory(&mut self, survey: &Survey) {
        // A process that takes over does not write the changes for this one.
        if !survey.with_progress {
            self.unreported.begin();
        }
    }

    /// Records the current override of a backend, or that it has none.
    pub(super) fn note_override(&mut self, (id, backend, kind): OverridePlace) {
        let Some(pool) = self.pools.get(id) else { return };
        let Some(name) = name(pool, backend, kind) else { return };
        self.unreported.overrides.insert(name, remembered_override(pool, backend, kind, self.calendar));
    }

    /// Records that a backend has no override, before a reload that may remove it.
    pub(super) fn note_no_override(&mut self, (id, backend, kind): OverridePlace) {
        let name = self.pools.get(id).and_then(|pool| name(pool, backend, kind));
        self.unreported.overrides.extend(name.map(|name| (name, None)));
    }

    /// Records the tier in use of a route.
    pub(super) fn note_tier(&mut self, tier: RememberedTier) {
        self.unreported.tiers.insert((Arc::clone(&tier.service), tier.route, tier.family), tier);
    }

    /// Records since when a pool is usable.
    pub(super) fn note_pool(&mut self, id: PoolId) {
        for pool in self.pools.get(id).into_iter().flat_map(|pool| remembered_pools(pool, self.calendar)) {
            self.unreported.pools.insert((Arc::clone(&pool.pool), pool.family), pool);
        }
    }

    /// Records since when all pools are usable for which a service may wait.
    pub(super) fn note_pools(&mut self) {
        let awaited = self.pools.iter().filter(|(_, pool)| pool.is_awaited);
        for id in awaited.map(|(id, _)| id).collect::<Vec<_>>() {
            self.note_pool(id);
        }
    }

    /// Records these times as unknown, before a reload that may remove the pools.
    pub(super) fn note_no_pools(&mut self) {
        let awaited = self.pools.0.iter().filter(|pool| pool.is_awaited);
        for pool in awaited.flat_map(|pool| remembered_pools(pool, self.calendar)) {
            let key = (Arc::clone(&pool.pool), pool.family);
            self.unreported.pools.insert(key, RememberedPool { since: None, ..pool });
        }
    }

    /// The changes since the last call, at most a bounded number.
    pub fn memory_changes(&mut self) -> MemoryChanges {
        let mut unreported = std::mem::take(&mut self.unreported);
        let mut changes = MemoryChanges { everything: unreported.everything, ..MemoryChanges::default() };
        for _ in 0..CHANGES_AT_ONCE {
            if let Some((name, kept)) = unreported.overrides.pop_first() {
                match kept {
                    Some(kept) => changes.overrides.push(kept),
                    None => changes.ended.push(name),
                }
            } else if let Some((service, kept)) = unreported.failovers.pop_first() {
                match kept {
                    Some(kept) => changes.failovers.push(kept),
                    None => changes.ended_failovers.push(service),
                }
            } else if let Some((_, kept)) = unreported.tiers.pop_first() {
                changes.tiers.push(kept);
            } else if let Some((_, kept)) = unreported.pools.pop_first() {
                changes.pools.push(kept);
            } else if let Some(target) = unreported.targets.pop_first() {
                self.tell_target(&mut changes, target);
            } else {
                break;
            }
        }
        changes.more = unreported.is_any();
        self.unreported = unreported;
        changes
    }

    /// Adds the state of a backend.
    pub(super) fn remember(
        &self,
        memory: &mut Memory,
        pool: &PoolState,
        backend: usize,
        with_progress: bool,
    ) {
        let Some(state) = pool.backends.get(backend) else { return };
        for (address, state) in state.addresses.iter().enumerate() {
            let checks = state.targets.iter().enumerate();
            memory.states.extend(checks.filter_map(|(check, id)| {
                let state = self.remembered_state(pool, backend, address, check, *id)?;
                let progress = with_progress.then(|| self.health.progress(*id, self.now)).flatten();
                Some(RememberedState { progress, ..state })
            }));
        }
        let overrides = OverrideKind::ALL;
        memory.overrides.extend(
            overrides.iter().filter_map(|kind| remembered_override(pool, backend, *kind, self.calendar)),
        );
    }

    /// Adds since when a pool is usable.
    pub(super) fn remember_pool(&self, memory: &mut Memory, pool: &PoolState) {
        if pool.is_awaited {
            let pools = remembered_pools(pool, self.calendar);
            memory.pools.extend(pools.filter(|pool| pool.since.is_some()));
        }
    }

    /// Adds the tiers in use of a service.
    pub(super) fn remember_service(&self, memory: &mut Memory, service: ServiceId) {
        let Some(view) = self.table.service(service) else { return };
        for route in view.routes().filter(RouteView::keeps) {
            let tiers = Family::ALL.map(|family| remembered_tier(&self.table, route, family));
            memory.tiers.extend(tiers.into_iter().filter(|tier| tier.pool.is_some()));
        }
        memory.failovers.extend(self.remembered_failover(service));
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
        let (verdict, _) = self.targets.verdict(&self.health, id);
        Some(RememberedState {
            progress: None,
            pool: Arc::clone(pool.series.name()),
            backend: Arc::clone(pool.series.backend_name(backend)?),
            address: *pool.setup.pool.backends.get(backend)?.addresses.get(address)?,
            check: Arc::clone(pool.checks.get(check)?),
            verdict: verdict?,
            since: self.calendar.shown(self.targets.get(id)?.since),
        })
    }
}

fn remembered_override(
    pool: &PoolState,
    backend: usize,
    kind: OverrideKind,
    calendar: Calendar,
) -> Option<RememberedOverride> {
    let kept = pool.backends.get(backend)?.kept(kind)?.shown(calendar);
    let (pool, backend, _) = name(pool, backend, kind)?;
    Some(RememberedOverride {
        pool,
        backend,
        value: kept.value,
        since: kept.since,
        until: kept.until,
        reason: kept.reason,
        by: kept.by,
    })
}

/// Since when a pool is usable, in each family.
fn remembered_pools(pool: &PoolState, calendar: Calendar) -> impl Iterator<Item = RememberedPool> {
    let name = Arc::clone(pool.series.name());
    Family::ALL.into_iter().map(move |family| RememberedPool {
        pool: Arc::clone(&name),
        family,
        since: family.select(&pool.steady).map(|since| calendar.shown(since)),
    })
}

fn name(pool: &PoolState, backend: usize, kind: OverrideKind) -> Option<OverrideName> {
    Some((Arc::clone(pool.series.name()), Arc::clone(pool.series.backend_name(backend)?), kind))
}
