//! Makes a [`Memory`] step by step.
//!
//! At 100,000 backends it takes longer than probes may wait, so it is made between the turns, a number
//! of backends at a time.

use tokio::sync::oneshot;

use crate::checker::pools::PoolState;
use crate::checker::telling::Sources;
use crate::checker::{Memory, OverrideStatus, RememberedOverride, RememberedState};

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
            range.for_each(|backend| remember(&mut self.memory, pool, backend, sources));
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

/// Adds what is worth keeping of a backend.
fn remember(memory: &mut Memory, pool: &PoolState, index: usize, sources: &Sources<'_>) {
    let (Some(configured), Some(state)) = (pool.setup.pool.backends.get(index), pool.backends.get(index))
    else {
        return;
    };
    for (&address, state) in configured.addresses.iter().zip(&state.addresses) {
        for (check, &id) in pool.setup.checks.iter().zip(&state.targets) {
            let (Some(verdict), _) = sources.targets.verdict(sources.health, id) else { continue };
            let Some(target) = sources.targets.get(id) else { continue };
            memory.states.push(RememberedState {
                pool: pool.setup.pool.name.clone(),
                backend: configured.name.clone(),
                address,
                check: check.name.clone(),
                verdict,
                since: target.since,
            });
        }
    }
    if let Some(OverrideStatus { state, since, until, reason, .. }) = state.overridden.as_deref().cloned() {
        memory.overrides.push(RememberedOverride {
            pool: pool.setup.pool.name.clone(),
            backend: configured.name.clone(),
            state,
            since,
            until,
            reason,
        });
    }
}
