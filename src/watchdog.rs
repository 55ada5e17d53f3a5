//! Watches the checker, and the threads that answer DNS, from outside.
//!
//! A stuck thread cannot report itself. The watchdog is a separate thread: it reads what the others leave
//! in the metrics, and does not depend on their runtimes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::duration::Shown;
use crate::metrics::Metrics;

/// A checker or a worker without a turn for this long is stuck: it normally turns several times a second.
pub const STUCK: Duration = Duration::from_secs(10);

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// State of the watchdog, with the reports already made.
#[derive(Debug)]
struct Watch {
    metrics: Arc<Metrics>,
    stuck: bool,
    worker_stuck: bool,
    /// Pools whose probing has stalled.
    stalled: HashSet<Arc<str>>,
    /// Since when only the checker can be the cause. If this thread did not run either, the whole machine was
    /// stalled.
    awake: Duration,
}

/// Watches until the returned sender is dropped.
pub fn start(metrics: Arc<Metrics>) -> Sender<()> {
    let (held, ended) = mpsc::channel();
    let mut watch = Watch::new(metrics);
    let work = move || {
        loop {
            let asleep = Instant::now();
            match ended.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => watch.look(asleep.elapsed()),
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("watch".into()).spawn(work) {
        warn!(%error, "cannot start the thread that watches the health checker");
    }
    held
}

impl Watch {
    fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, stuck: false, worker_stuck: false, stalled: HashSet::new(), awake: Duration::ZERO }
    }

    /// Looks at the checker after a sleep that should have taken [`LOOK`].
    fn look(&mut self, slept: Duration) {
        if slept > LOOK * 2 {
            self.awake = Duration::ZERO;
            return;
        }
        self.awake = self.awake.saturating_add(slept);
        self.look_at_the_checker();
        self.look_at_the_workers();
        self.look_at_the_pools();
    }

    fn look_at_the_checker(&mut self) {
        let age = self.metrics.turn_age();
        let stuck = age > STUCK && self.awake > STUCK;
        if stuck && !self.stuck {
            error!(
                age = %in_seconds(age),
                "the health checker is stuck: answers no longer follow the backends; \
                 restart steerd, and report this with the log"
            );
        } else if !stuck && self.stuck {
            info!("the health checker runs again");
        }
        self.stuck = stuck;
    }

    fn look_at_the_workers(&mut self) {
        let age = self.metrics.worker_turn_age();
        let stuck = age > STUCK && self.awake > STUCK;
        if stuck && !self.worker_stuck {
            error!(
                age = %in_seconds(age),
                "a thread that answers DNS over UDP is stuck: queries to it are lost; \
                 restart steerd, and report this with the log"
            );
        } else if !stuck && self.worker_stuck {
            info!("the thread that answers DNS over UDP runs again");
        }
        self.worker_stuck = stuck;
    }

    fn look_at_the_pools(&mut self) {
        let pools = self.metrics.pools();
        let mut stalled = HashSet::new();
        for pool in pools.iter() {
            let (Some(patience), Some(age)) = (pool.patience(), pool.last_probe_age(&self.metrics)) else {
                continue;
            };
            let name = pool.name();
            let told = self.stalled.contains(name);
            if age > patience && (told || self.awake > patience) {
                if !told {
                    let pool = &**name;
                    error!(pool, age = %in_seconds(age), "probing has stalled: no probe of the pool has ended for too long");
                }
                stalled.insert(Arc::clone(name));
            } else if told {
                info!(pool = &**name, "probing of the pool has resumed");
            }
        }
        self.stalled = stalled;
    }
}

/// Whole seconds are precise enough for people.
fn in_seconds(age: Duration) -> Shown {
    Shown(Duration::from_secs(age.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::captured_log::CapturedLog;
    use crate::metrics::{PoolSeries, WorkerTurn};
    use crate::pool::{Backend, Pool};

    fn watch() -> (Arc<Metrics>, Watch) {
        let metrics = Arc::new(Metrics::new(1));
        let pool = Pool::new("web", vec![Backend::new("b", vec!["192.0.2.1".parse().unwrap()])]);
        let patience = Some(Duration::from_secs(17));
        metrics.show(&[Arc::new(PoolSeries::new(&metrics, &pool, patience, None))].into());
        (Arc::clone(&metrics), Watch::new(metrics))
    }

    async fn pass(watch: &mut Watch, seconds: u32, mut meanwhile: impl FnMut()) {
        for _ in 0..seconds {
            tokio::time::advance(LOOK).await;
            meanwhile();
            watch.look(LOOK);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_checker_is_told_once_and_again_after_it_turned() {
        let (log, _guard) = CapturedLog::listen();
        let (metrics, mut watch) = watch();
        pass(&mut watch, 100, || metrics.turned()).await;
        assert_eq!(log.take("health checker"), [""; 0]);
        pass(&mut watch, 10, || ()).await;
        assert_eq!(log.take("health checker"), [""; 0], "not yet");
        pass(&mut watch, 60, || ()).await;
        let lines = log.take("checker is stuck");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("ERROR"), "{lines:?}");
        pass(&mut watch, 1, || metrics.turned()).await;
        assert_eq!(log.take("runs again").len(), 1);
        pass(&mut watch, 60, || ()).await;
        assert_eq!(log.take("checker is stuck").len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_worker_is_told_once_and_again_after_it_turned() {
        let (log, _guard) = CapturedLog::listen();
        let (metrics, mut watch) = watch();
        let (one, other) = (metrics.watch_worker(), metrics.watch_worker());
        let turn = |workers: &[&WorkerTurn]| {
            metrics.turned();
            metrics.pools()[0].probed(&metrics);
            for worker in workers {
                metrics.worker_turned(worker);
            }
        };
        pass(&mut watch, 30, || turn(&[&one, &other])).await;
        assert_eq!(log.take(""), [""; 0]);
        pass(&mut watch, 60, || turn(&[&one])).await;
        let lines = log.take("over UDP is stuck");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("ERROR"), "{lines:?}");
        pass(&mut watch, 1, || turn(&[&one, &other])).await;
        assert_eq!(log.take("over UDP runs again").len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_without_outcomes_is_told_once() {
        let (log, _guard) = CapturedLog::listen();
        let (metrics, mut watch) = watch();
        pass(&mut watch, 17, || metrics.turned()).await;
        assert_eq!(log.take("stalled"), [""; 0]);
        pass(&mut watch, 60, || metrics.turned()).await;
        let lines = log.take("stalled");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("pool=\"web\""), "{lines:?}");
        metrics.pools()[0].probed(&metrics);
        pass(&mut watch, 1, || metrics.turned()).await;
        assert_eq!(log.take("has resumed").len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_whole_machine_is_nobodys_fault() {
        let (log, _guard) = CapturedLog::listen();
        let (metrics, mut watch) = watch();
        pass(&mut watch, 30, || {
            metrics.turned();
            metrics.pools()[0].probed(&metrics);
        })
        .await;
        tokio::time::advance(Duration::from_secs(3600)).await;
        watch.look(Duration::from_secs(3600));
        pass(&mut watch, 10, || ()).await;
        assert_eq!(log.take(""), [""; 0]);
        pass(&mut watch, 30, || ()).await;
        assert_eq!(log.take("is stuck").len(), 1, "when it does not come back, it is the checker");
    }
}
