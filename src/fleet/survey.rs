//! Reads the whole [`Memory`] in steps.
//!
//! With 100,000 backends this takes longer than probes may wait, so it reads only some backends between
//! turns.

use crate::fleet::{Fleet, Memory};

/// How many backends are read in one step: well below a millisecond of work.
const BACKENDS_IN_A_STEP: usize = 500;

/// A [`Memory`] that is being read.
#[derive(Debug, Default)]
pub struct Survey {
    memory: Memory,
    /// The next pool.
    pool: usize,
    /// The next backend in that pool.
    backend: usize,
}

impl Survey {
    /// Starts again, because the pools have changed.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// Takes one step; returns the memory once it is complete.
    pub fn step(&mut self, fleet: &Fleet) -> Option<Memory> {
        self.step_of(fleet, BACKENDS_IN_A_STEP)
    }

    /// Reads this many backends.
    pub(super) fn step_of(&mut self, fleet: &Fleet, backends: usize) -> Option<Memory> {
        let mut left = backends;
        while let Some(pool) = fleet.pools.0.get(self.pool) {
            let end = pool.backends.len().min(self.backend + left);
            let range = self.backend..end;
            left -= range.len();
            range.for_each(|backend| fleet.remember(&mut self.memory, pool, backend));
            if end < pool.backends.len() {
                self.backend = end;
                return None;
            }
            (self.pool, self.backend) = (self.pool + 1, 0);
            if left == 0 {
                return None;
            }
        }
        Some(std::mem::take(&mut self.memory))
    }
}
