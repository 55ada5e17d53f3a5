//! The task that owns health: due -> probe -> outcome -> transition -> publish.
//!
//! It is the shell around [`crate::fleet::Fleet`], which decides everything: here are the runtime, the clocks, chance, the
//! probes in flight, and the commands of others. It is the only writer of the answer table.
//!
//! ```text
//!        +--> start what is due --> wait --+--> probes have ended --> reports to the fleet --+
//!        |                                 +--> a command                                    |
//!        |                                 +--> the next deadline                            |
//!        +------------------- publish once, if anything changed <----------------------------+
//! ```

mod command;
#[cfg(test)]
pub(crate) mod tests;
mod turn;

use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{io, thread};

use rand::rngs::SmallRng;
use tokio::sync::{mpsc, watch};

use crate::fleet::{Capacity, FleetSetup, ProbeRun};
use crate::metrics::Metrics;
use crate::probe::{self, Report};
use crate::retired::Retired;
use crate::sys;
use crate::table::Published;
use crate::watchdog;

use turn::Checker;

pub use command::CheckerCommand;

/// The longest that the checker sleeps. A pause of the whole machine is noticed when the checker wakes late, so
/// it must wake often even when nothing is due.
pub const PULSE: Duration = Duration::from_millis(250);

/// How many commands may wait for the checker before their senders do.
const COMMANDS: usize = 64;

/// The running checker, for those that answer from its table or send it commands.
///
/// The checker runs as long as a clone of this exists. When `commands` is closed the checker has ended, and the
/// table no longer follows the backends.
#[derive(Clone, Debug)]
pub struct CheckerHandle {
    /// The answer table.
    pub published: Published,
    /// True once every address has its first outcome or `startup_wait` is over.
    pub ready: watch::Receiver<bool>,
    /// Commands to the checker.
    pub commands: mpsc::Sender<CheckerCommand>,
}

/// Probes, clocks and chance: those of the machine, or the script of a test.
trait Outside: Clone + Send + 'static {
    fn probe(self, run: ProbeRun) -> impl Future<Output = Report> + Send + 'static;

    /// The time of day.
    fn wall(&self) -> SystemTime;

    /// The time that has really passed since some moment, that of a suspended machine included.
    fn passed(&self) -> Duration;

    /// The generator that moments of probes are drawn with.
    fn chance(&self) -> SmallRng;
}

#[derive(Clone)]
struct Machine;

impl Outside for Machine {
    async fn probe(self, ProbeRun { probe, address, timeout, search_charge }: ProbeRun) -> Report {
        probe::run_after(&probe, address, timeout, search_charge).await
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn passed(&self) -> Duration {
        sys::clock::since_boot()
    }

    fn chance(&self) -> SmallRng {
        rand::make_rng()
    }
}

/// Publishes a first table and starts to probe.
///
/// All of it runs on one thread of its own, so other work of the process, such as writing a hundred thousand
/// lines of metrics, delays no probe. One thread makes tens of thousands of probes a second; with two, the many
/// short tasks would wake each other across cores, which costs more than the second core brings.
///
/// # Errors
/// The system gives no thread or no descriptor for one.
pub fn start(setup: FleetSetup, capacity: Capacity, metrics: Arc<Metrics>) -> io::Result<CheckerHandle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let retired = Retired::start()?;
    let (handle, work) = prepare(setup, capacity, Arc::clone(&metrics), Machine, retired);
    let watched = watchdog::start(metrics);
    // As a task it takes turns with the probes: those in flight go on before more are started.
    let run = move || {
        let _ = runtime.block_on(runtime.spawn(work));
        drop(watched);
    };
    thread::Builder::new().name("checker".into()).spawn(run)?;
    Ok(handle)
}

/// Publishes the first table; the rest is the returned work.
fn prepare(
    setup: FleetSetup,
    capacity: Capacity,
    metrics: Arc<Metrics>,
    outside: impl Outside,
    retired: Retired,
) -> (CheckerHandle, impl Future<Output = ()> + Send) {
    let (ready, is_ready) = watch::channel(false);
    let (sender, commands) = mpsc::channel(COMMANDS);
    let checker = Checker::new(setup, capacity, metrics, outside, ready, retired);
    let published = checker.published();
    (CheckerHandle { published, ready: is_ready, commands: sender }, checker.run(commands))
}
