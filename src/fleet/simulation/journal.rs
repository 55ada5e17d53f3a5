//! The memory outside the fleet: a snapshot, and the changes that were reported since it was begun.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::fleet::{Memory, MemoryChanges, RememberedOverride, RememberedState};
use crate::pool::OverrideKind;

/// Pool, backend, address and check.
type Check = (Arc<str>, Arc<str>, IpAddr, Arc<str>);

/// The remembered state, by names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) states: BTreeMap<Check, RememberedState>,
    pub(super) overrides: BTreeMap<(Arc<str>, Arc<str>, OverrideKind), RememberedOverride>,
}

impl From<Memory> for Remembered {
    fn from(memory: Memory) -> Self {
        let mut remembered = Self::default();
        remembered.take(&MemoryChanges {
            states: memory.states,
            overrides: memory.overrides,
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
    }

    pub(super) fn memory(&self) -> Memory {
        Memory {
            states: self.states.values().cloned().collect(),
            overrides: self.overrides.values().cloned().collect(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) remembered: Remembered,
    /// The changes reported since the start of a snapshot that is not yet complete.
    begun: Option<Vec<MemoryChanges>>,
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
        *self = Self { remembered, ..Self::default() };
    }

    pub(super) fn append(&mut self, changes: MemoryChanges) {
        self.remembered.take(&changes);
        match &mut self.begun {
            Some(begun) => begun.push(changes),
            None => self.is_whole &= !changes.everything,
        }
    }

    /// Records that the snapshot is complete.
    pub(super) fn complete(&mut self, snapshot: Memory) {
        let mut remembered = Remembered::from(snapshot);
        for changes in self.begun.take().into_iter().flatten() {
            remembered.take(&changes);
        }
        self.remembered = remembered;
        (self.has_snapshot, self.is_whole) = (true, !self.is_spoilt);
    }
}
