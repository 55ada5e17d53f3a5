//! Makes a [`Memory`] step by step.
//!
//! At 100,000 backends it takes longer than probes may wait, so it is made between the turns, a number
//! of backends at a time.

use tokio::sync::oneshot;

use crate::checker::Memory;
use crate::checker::telling::Sources;

/// How many backends are looked at in one step: well below a millisecond of work.
const BACKENDS_IN_A_STEP: usize = 500;

/// A memory that is being made for the one who asked.
#[derive(Debug)]
pub(super) struct Survey {
    memory: Memory,
    reply: oneshot::Sender<Memory>,
    /// The next pool.
    pool: usize,
    /// The next backend of it.
    backend: usize,
}

impl Survey {
    pub(super) fn new(reply: oneshot::Sender<Memory>) -> Self {
        Self { memory: Memory::default(), reply, pool: 0, backend: 0 }
    }

    /// Begins from the start, as the pools are others now.
    pub(super) fn restart(&mut self) {
        (self.memory, self.pool, self.backend) = (Memory::default(), 0, 0);
    }

    /// Goes on; gives itself back unless it is done, or nobody waits for it any more.
    pub(super) fn step(mut self, sources: &Sources<'_>) -> Option<Self> {
        if self.reply.is_closed() {
            return None;
        }
        let mut left = BACKENDS_IN_A_STEP;
        while let Some(pool) = sources.pools.0.get(self.pool) {
            let end = pool.backends.len().min(self.backend + left);
            let range = self.backend..end;
            left -= range.len();
            range.for_each(|backend| sources.remember(&mut self.memory, pool, backend));
            if end < pool.backends.len() {
                self.backend = end;
                return Some(self);
            }
            (self.pool, self.backend) = (self.pool + 1, 0);
            if left == 0 {
                return Some(self);
            }
        }
        drop(self.reply.send(self.memory));
        None
    }
}
