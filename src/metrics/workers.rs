//! Signs of life of the threads that answer DNS over UDP. A worker that hangs cannot report itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::Metrics;

/// The workers that run, each with the end of its last turn, nanoseconds since the origin of the metrics.
#[derive(Debug, Default)]
pub(super) struct WorkerTurns(Mutex<Vec<Weak<AtomicU64>>>);

/// The last turn of one worker, which is watched until this is dropped.
#[derive(Debug)]
pub struct WorkerTurn(Arc<AtomicU64>);

impl Metrics {
    /// Watches another worker from now on.
    #[must_use]
    pub fn watch_worker(&self) -> WorkerTurn {
        let turn = Arc::new(AtomicU64::new(self.elapsed()));
        let mut turns = self.worker_turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|turn| turn.strong_count() > 0);
        turns.push(Arc::downgrade(&turn));
        WorkerTurn(turn)
    }

    /// Records that a worker has finished a turn.
    pub fn worker_turned(&self, WorkerTurn(turn): &WorkerTurn) {
        turn.store(self.elapsed(), Ordering::Relaxed);
    }

    /// The longest time since the last turn of any worker; zero if none runs.
    #[must_use]
    pub fn worker_turn_age(&self) -> Duration {
        let turns = self.worker_turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = turns.iter().filter_map(Weak::upgrade).map(|turn| turn.load(Ordering::Relaxed)).min();
        oldest.map_or(Duration::ZERO, |oldest| Duration::from_nanos(self.elapsed().saturating_sub(oldest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_slowest_worker_that_runs_counts() {
        const SECOND: Duration = Duration::from_secs(1);
        let metrics = Metrics::new(2);
        assert_eq!(metrics.worker_turn_age(), Duration::ZERO, "none runs");
        let (fast, slow) = (metrics.watch_worker(), metrics.watch_worker());
        tokio::time::advance(SECOND).await;
        assert_eq!(metrics.worker_turn_age(), SECOND, "it counts from its start");
        metrics.worker_turned(&slow);
        tokio::time::advance(SECOND).await;
        metrics.worker_turned(&fast);
        assert_eq!(metrics.worker_turn_age(), SECOND);
        drop(slow);
        assert_eq!(metrics.worker_turn_age(), Duration::ZERO, "a worker that has ended does not hang");
    }
}
