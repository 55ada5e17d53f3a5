//! Reads the whole [`Memory`] in steps.
//!
//! With 100,000 backends this takes longer than probes may wait, so it reads only some backends between
//! turns.

use crate::fleet::{Fleet, Memory};
use crate::service::ServiceId;

/// How many backends, or services, are read in one step: well below a millisecond of work.
const BACKENDS_IN_A_STEP: usize = 500;

/// A [`Memory`] that is being read.
#[derive(Debug, Default)]
pub struct Survey {
    memory: Memory,
    /// Whether the reader goes on at once, and needs to know how far each check is.
    pub(super) with_progress: bool,
    /// The next pool.
    pool: usize,
    /// The next backend in that pool.
    backend: usize,
    /// The next service, once all pools are read.
    service: usize,
}

impl Survey {
    /// For a process that takes over at once.
    #[must_use]
    pub fn with_progress() -> Self {
        Self { with_progress: true, ..Self::default() }
    }

    /// Starts again, because the pools have changed.
    pub fn restart(&mut self) {
        *self = Self { with_progress: self.with_progress, ..Self::default() };
    }

    /// Takes one step; returns the memory once it is complete.
    pub fn step(&mut self, fleet: &Fleet) -> Option<Memory> {
        self.step_of(fleet, BACKENDS_IN_A_STEP)
    }

    /// Reads this many backends or services.
    pub(super) fn step_of(&mut self, fleet: &Fleet, backends: usize) -> Option<Memory> {
        let mut left = backends;
        while let Some(pool) = fleet.pools.0.get(self.pool) {
            let end = pool.backends.len().min(self.backend + left);
            let range = self.backend..end;
            left -= range.len();
            range.for_each(|backend| fleet.remember(&mut self.memory, pool, backend, self.with_progress));
            if end < pool.backends.len() {
                self.backend = end;
                return None;
            }
            fleet.remember_pool(&mut self.memory, pool);
            (self.pool, self.backend) = (self.pool + 1, 0);
            if left == 0 {
                return None;
            }
        }
        let count = fleet.table.services().len();
        let end = count.min(self.service + left);
        for service in (0..).map(ServiceId).take(end).skip(self.service) {
            fleet.remember_service(&mut self.memory, service);
        }
        self.service = end;
        (end == count).then(|| std::mem::take(&mut self.memory))
    }
}
