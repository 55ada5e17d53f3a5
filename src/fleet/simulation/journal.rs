//! The memory outside the fleet: a snapshot, and the changes that were reported since it was begun.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::fleet::{
    Memory, MemoryChanges, RememberedFailover, RememberedOverride, RememberedPool, RememberedState,
    RememberedTier,
};
use crate::pool::{Family, OverrideKind};

/// Pool, backend, address and check.
type Check = (Arc<str>, Arc<str>, IpAddr, Arc<str>);

/// The remembered state, by names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) states: BTreeMap<Check, RememberedState>,
    pub(super) overrides: BTreeMap<(Arc<str>, Arc<str>, OverrideKind), RememberedOverride>,
    /// By service, route and family.
    pub(super) tiers: BTreeMap<(Arc<str>, u32, Family), RememberedTier>,
    /// By pool and family.
    pub(super) pools: BTreeMap<(Arc<str>, Family), SystemTime>,
    /// By service.
    pub(super) failovers: BTreeMap<Arc<str>, RememberedFailover>,
}

impl From<Memory> for Remembered {
    fn from(memory: Memory) -> Self {
        let mut remembered = Self::default();
        remembered.take(&MemoryChanges {
            states: memory.states,
            overrides: memory.overrides,
            tiers: memory.tiers,
            pools: memory.pools,
            failovers: memory.failovers,
            ..MemoryChanges::default()
        });
        remembered
    }
}

impl Remembered {
    fn take(&mut self, changes: &MemoryChanges) {
        for name in &changes.ended {
            self.overrides.remove(name);
        }
        for kept in &changes.overrides {
            let name = (Arc::clone(&kept.pool), Arc::clone(&kept.backend), kept.value.kind());
            self.overrides.insert(name, kept.clone());
        }
        for state in &changes.states {
            let RememberedState { pool, backend, address, check, .. } = state.clone();
            self.states.insert((pool, backend, address, check), state.clone());
        }
        for service in &changes.ended_failovers {
            self.failovers.remove(service);
        }
        for kept in &changes.failovers {
            self.failovers.insert(Arc::clone(&kept.service), kept.clone());
        }
        for tier in &changes.tiers {
            let key = (Arc::clone(&tier.service), tier.route, tier.family);
            match tier.pool {
                Some(_) => drop(self.tiers.insert(key, tier.clone())),
                None => drop(self.tiers.remove(&key)),
            }
        }
        for pool in &changes.pools {
            let key = (Arc::clone(&pool.pool), pool.family);
            match pool.since {
                Some(since) => drop(self.pools.insert(key, since)),
                None => drop(self.pools.remove(&key)),
            }
        }
    }

    pub(super) fn memory(&self) -> Memory {
        Memory {
            states: self.states.values().cloned().collect(),
            overrides: self.overrides.values().cloned().collect(),
            tiers: self.tiers.values().cloned().collect(),
            failovers: self.failovers.values().cloned().collect(),
            pools: (self.pools.iter())
                .map(|((pool, family), since)| RememberedPool {
                    pool: Arc::clone(pool),
                    family: *family,
                    since: Some(*since),
                })
                .collect(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) remembered: Remembered,
    /// The changes reported since the start of a snapshot that is not yet complete.
    begun: Option<Vec<MemoryChanges>>,
    /// When something was last written.
    written: Option<SystemTime>,
    /// Whether the time of day has jumped since then.
    is_spoilt: bool,
    /// Whether a snapshot has been completed since the start.
    pub(super) has_snapshot: bool,
    /// Whether the snapshot and the changes are complete; otherwise the fleet has said that another snapshot
    /// is needed.
    pub(super) is_whole: bool,
}

impl Journal {
    pub(super) fn begin(&mut self) {
        (self.begun, self.is_spoilt) = (Some(Vec::new()), false);
    }

    pub(super) fn is_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// Records that the time of day has jumped: the times in different parts of a snapshot are inconsistent.
    pub(super) fn spoil(&mut self) {
        self.is_spoilt = true;
    }

    /// Ends the process: everything that is not in the files is lost.
    pub(super) fn end(&mut self) {
        let remembered = std::mem::take(&mut self.remembered);
        *self = Self { remembered, written: self.written, ..Self::default() };
    }

    /// The state that was written, as of a start at this time of day: nobody knows whether the pools were usable
    /// in between.
    pub(super) fn until(&self, now: SystemTime) -> Remembered {
        let mut remembered = self.remembered.clone();
        let gap = self.written.and_then(|written| now.duration_since(written).ok()).unwrap_or_default();
        for since in remembered.pools.values_mut() {
            *since = (*since + gap).min(now);
        }
        remembered
    }

    pub(super) fn append(&mut self, changes: MemoryChanges, now: SystemTime) {
        self.written = Some(now);
        self.remembered.take(&changes);
        match &mut self.begun {
            Some(begun) => begun.push(changes),
            None => self.is_whole &= !changes.everything,
        }
    }

    /// Records that the snapshot is complete.
    pub(super) fn complete(&mut self, snapshot: Memory, now: SystemTime) {
        self.written = Some(now);
        let mut remembered = Remembered::from(snapshot);
        for changes in self.begun.take().into_iter().flatten() {
            remembered.take(&changes);
        }
        self.remembered = remembered;
        (self.has_snapshot, self.is_whole) = (true, !self.is_spoilt);
    }
}
