//! Reports the memory: all of it in steps, and then the changes.

use std::sync::Arc;

use crate::fleet::calendar::Calendar;
use crate::fleet::memory::OverrideName;
use crate::fleet::overrides::OverridePlace;
use crate::fleet::pools::PoolState;
use crate::fleet::targets::User;
use crate::fleet::{Fleet, Memory, MemoryChanges, RememberedOverride, RememberedState};
use crate::health::TargetId;
use crate::pool::OverrideKind;

/// How many changes one call reports: well below a millisecond of work.
const CHANGES_AT_ONCE: usize = 2_000;

impl Fleet {
    /// Begins a report of the whole memory. Changes remain recorded until they are reported.
    pub fn begin_memory(&mut self) {
        self.unreported.begin();
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
            } else if let Some(target) = unreported.targets.pop_first() {
                self.tell_target(&mut changes, target);
            } else {
                break;
            }
        }
        changes.more = !unreported.targets.is_empty() || !unreported.overrides.is_empty();
        self.unreported = unreported;
        changes
    }

    /// Adds the state of a backend.
    pub(super) fn remember(&self, memory: &mut Memory, pool: &PoolState, backend: usize) {
        let Some(state) = pool.backends.get(backend) else { return };
        for (address, state) in state.addresses.iter().enumerate() {
            let checks = state.targets.iter().enumerate();
            memory.states.extend(
                checks.filter_map(|(check, id)| self.remembered_state(pool, backend, address, check, *id)),
            );
        }
        let overrides = OverrideKind::ALL;
        memory.overrides.extend(
            overrides.iter().filter_map(|kind| remembered_override(pool, backend, *kind, self.calendar)),
        );
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

fn name(pool: &PoolState, backend: usize, kind: OverrideKind) -> Option<OverrideName> {
    Some((Arc::clone(pool.series.name()), Arc::clone(pool.series.backend_name(backend)?), kind))
}
