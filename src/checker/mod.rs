//! The task that owns health: due -> probe -> outcome -> transition -> publish.
//!
//! It is the shell around [`crate::fleet::Fleet`], which makes all decisions. The shell owns the runtime, the clocks,
//! the random generator and the running probes, and handles commands. It is the only writer of the answer table.
//!
//! ```text
//!        +--> start due probes --> wait --+--> probes have ended --> reports to the fleet --+
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

use crate::fleet::{Capacity, FleetSetup, Outputs, ProbeRun};
use crate::probe::{self, Report};
use crate::retired::Retired;
use crate::sys;
use crate::table::Published;
use crate::watchdog;

use turn::Checker;

pub use command::CheckerCommand;

/// The longest sleep of the checker. It notices a pause of the whole machine by waking late, so it must wake often even
/// if nothing is due.
pub const PULSE: Duration = Duration::from_millis(250);

/// How many commands may wait in the queue. If it is full, their senders wait.
const COMMANDS: usize = 64;

/// The running checker, for code that reads its table or sends it commands.
///
/// The checker runs as long as a clone of this exists. When `commands` is closed, it has ended, and the table is stale.
#[derive(Clone, Debug)]
pub struct CheckerHandle {
    /// The answer table.
    pub published: Published,
    /// True once every address has its first outcome or `startup_wait` is over.
    pub ready: watch::Receiver<bool>,
    /// Commands to the checker.
    pub commands: mpsc::Sender<CheckerCommand>,
}

/// Probes, clocks and random numbers: real ones, or a test's script.
trait Outside: Clone + Send + 'static {
    fn probe(self, run: ProbeRun) -> impl Future<Output = Report> + Send + 'static;

    /// The time of day.
    fn wall(&self) -> SystemTime;

    /// The time that has really passed since some moment, including time in suspend.
    fn passed(&self) -> Duration;

    /// The random generator for the times of probes.
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

/// Publishes the first table and starts to probe.
///
/// Everything runs on one separate thread, so other work of the process does not delay probes. With two threads, the
/// many short tasks would wake each other across cores, which costs more than the second core gains.
///
/// # Errors
/// If the thread or its descriptors cannot be created.
pub fn start(setup: FleetSetup, capacity: Capacity, outputs: Outputs) -> io::Result<CheckerHandle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let retired = Retired::start()?;
    let metrics = Arc::clone(&outputs.metrics);
    let (handle, work) = prepare(setup, capacity, outputs, Machine, retired);
    let watched = watchdog::start(metrics);
    // As a task it takes turns with the probes: running probes continue before more are started.
    let run = move || {
        let _ = runtime.block_on(runtime.spawn(work));
        drop(watched);
    };
    thread::Builder::new().name("checker".into()).spawn(run)?;
    Ok(handle)
}

/// Publishes the first table, and returns the work that remains.
fn prepare(
    setup: FleetSetup,
    capacity: Capacity,
    outputs: Outputs,
    outside: impl Outside,
    retired: Retired,
) -> (CheckerHandle, impl Future<Output = ()> + Send) {
    let (ready, is_ready) = watch::channel(false);
    let (sender, commands) = mpsc::channel(COMMANDS);
    let checker = Checker::new(setup, capacity, outputs, outside, ready, retired);
    let published = checker.published();
    (CheckerHandle { published, ready: is_ready, commands: sender }, checker.run(commands))
}
