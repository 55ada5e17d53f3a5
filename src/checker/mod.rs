//! The task that owns health: due -> probe -> outcome -> transition -> publish.
//!
//! It is the only writer of the answer table. Others send it commands. `probe` runs a probe, `health` decides
//! when it is due and what its outcome means, `table` what follows for the answers; here they meet, and here
//! is the only clock.
//!
//! ```text
//!        +--> start what is due --> wait --+--> probes have ended --> transitions --+
//!        |                                 +--> a command                           |
//!        |                                 +--> the next deadline                   |
//!        +------------------- publish once, if anything changed <-------------------+
//! ```
//!
//! A *target* is what is probed: a probe, its timing, and the address it goes to. The same target
//! in several checks and pools is probed once. The standing of a backend address in a pool is the combined
//! result of its checks ([`combine`]); logs, counters and answers use it.

mod answering;
mod calendar;
mod command;
mod consequences;
mod difference;
mod expiry;
mod history;
mod holding;
mod memory;
mod overrides;
mod pools;
mod probing;
mod reload;
mod retired;
mod services;
mod slots;
mod status;
mod survey;
mod suspicion;
mod tally;
mod targets;
mod telling;
#[cfg(test)]
mod tests;
mod turn;
mod verdict;
mod watchdog;
mod weight;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{io, thread};

use rand::rngs::SmallRng;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinSet};
use tokio::time::Instant;

use crate::health::{HealthTable, Moment, Ticket, Timing};
use crate::metrics::Metrics;
use crate::pool::{Pool, PoolId, Require};
use crate::probe::{Probe, Report};
use crate::service::Service;
use crate::settings::Settings;
use crate::sys;
use crate::table::Published;
use crate::zone::Catalog;

use calendar::Calendar;
use memory::Untold;
use overrides::Overrides;
use pools::Pools;
use probing::Running;
use retired::Retired;
use services::ServiceLog;
use slots::Slots;
use survey::Survey;
use suspicion::{LocalFaults, Suspecting};
use targets::{Spot, Targets};

pub use command::{
    Change, Command, Configuration, Consequence, Difference, LostOverride, Overridden, OverrideRefused,
    OverrideRequest, Reloaded, Wanted,
};
pub use history::{OUTCOMES, PastOutcome, PastTransition, TRANSITIONS};
pub use memory::{Memory, MemoryChanges, RememberedOverride, RememberedState};
pub use reload::NotReloaded;
pub use slots::{MOST_DESCRIPTORS, probes_within};
pub use status::{
    AddressStatus, BackendStatus, CheckStatus, OverrideStatus, PoolStatus, ServiceStatus, Suspected,
};
pub use telling::{BACKENDS_IN_A_PIECE, BACKENDS_WITH_HISTORY_IN_A_PIECE, Piece, Place, PoolPiece};
pub use verdict::combine;
pub use watchdog::STUCK;

/// The most probes in flight. Each holds a file descriptor, so a process that is allowed fewer must
/// have fewer in flight: [`probes_within`]. A probe that has to wait for a slot starts late, which
/// is exported as lag, but has its whole timeout from there.
pub const MAX_IN_FLIGHT: usize = 10_000;

/// Beyond this lateness a failed probe is void: when this process wakes this long after it should, or a
/// probe takes this much longer than its timeout, the answers may have come in time and not been
/// seen. A probe that passed has passed.
pub const LATE: Duration = Duration::from_millis(500);

/// The longest the checker sleeps. A pause of the whole machine is seen by the lateness of the next
/// turn, so turns must be close to each other even when nothing is due.
pub const PULSE: Duration = Duration::from_millis(250);

/// How many probes are started before those in flight, and whoever sends commands, have a turn. So
/// however many are due at once, no more are begun than this machine gets on with.
const AT_ONCE: usize = 64;

/// How many commands may wait for the checker before their senders do.
const COMMANDS: usize = 64;

/// The initial configuration and memory of the checker.
#[derive(Debug)]
pub struct Setup {
    /// Settings that answers depend on besides zones, services and health.
    pub settings: Settings,
    /// The zones, with the services' names bound.
    pub catalog: Catalog,
    /// By `ServiceId`.
    pub services: Vec<Service>,
    /// By `PoolId`.
    pub pools: Vec<PoolSetup>,
    /// DNS is not answered before each backend has its first outcome or this long has passed.
    pub startup_wait: Duration,
    /// The memory from before the last stop.
    pub memory: Memory,
}

/// The capacity of the checker, fixed as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// How many threads may count answers.
    pub counter_rows: usize,
    /// How many probes may be in flight, at least 1.
    pub probes: usize,
}

/// A pool with its checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSetup {
    /// The pool.
    pub pool: Pool,
    /// Its checks, each with a name of its own; a pool without any that decides is always healthy.
    pub checks: Vec<Check>,
    /// How many of those that decide must say that an address is healthy.
    pub require: Require,
}

/// The definition of a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The configured name, else its kind; unique within the pool.
    pub name: String,
    /// The probe to run.
    pub probe: Probe,
    /// When, and how outcomes are counted.
    pub timing: Timing,
    /// Its failure alone is enough, whatever the others say.
    pub critical: bool,
    /// Shown and counted, never decides.
    pub observe_only: bool,
}

impl Check {
    /// A check named by its kind that decides like any other.
    #[must_use]
    pub fn new(probe: Probe, timing: Timing) -> Self {
        Self { name: probe.kind().into(), probe, timing, critical: false, observe_only: false }
    }
}

/// The running checker, for those that read its word or send it commands.
///
/// It runs as long as a clone of this exists: whoever answers from `published` must keep one. When
/// `commands` is closed the checker has ended, and the table no longer follows the backends.
#[derive(Clone, Debug)]
pub struct Handle {
    /// The answer table.
    pub published: Published,
    /// True once every address has its first outcome or `startup_wait` is over.
    pub ready: watch::Receiver<bool>,
    /// Commands to the checker.
    pub commands: mpsc::Sender<Command>,
}

/// The outside world: the network that probes run in, the calendar and chance; or the script of a test.
trait Outside: Clone + Send + 'static {
    fn probe(
        self,
        probe: Arc<Probe>,
        address: IpAddr,
        timeout: Duration,
        search_charge: Duration,
    ) -> impl Future<Output = Report> + Send + 'static;

    /// The time of day. It may jump, so nothing but display depends on it.
    fn wall(&self) -> SystemTime;

    /// The time that has really passed since some moment, suspension of the machine included.
    fn passed(&self) -> Duration;

    /// The generator that moments of probes are drawn with.
    fn chance(&self) -> SmallRng;
}

#[derive(Clone)]
struct World;

impl Outside for World {
    async fn probe(
        self,
        probe: Arc<Probe>,
        address: IpAddr,
        timeout: Duration,
        search_charge: Duration,
    ) -> Report {
        probe.run_after(address, timeout, search_charge).await
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
/// All of it runs on one thread of its own. Other work of the process, such as writing a hundred thousand
/// lines of metrics, then delays no probe; and the many short tasks of probes never wake each other across
/// cores, which would cost more than a second core brings: one thread makes tens of thousands of probes a
/// second.
///
/// # Errors
/// When the system gives no thread, or no descriptor for one.
pub fn start(setup: Setup, capacity: Capacity, metrics: Arc<Metrics>) -> io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let retired = Retired::start()?;
    let (handle, work) = prepare(setup, capacity, Arc::clone(&metrics), World, retired);
    let watched = watchdog::start(metrics);
    // As a task it takes turns with the probes: those in flight go on before more are started.
    let run = move || {
        let _ = runtime.block_on(runtime.spawn(work));
        drop(watched);
    };
    thread::Builder::new().name("checker".into()).spawn(run)?;
    Ok(handle)
}

/// The first table is published; from here on it is work.
fn prepare(
    setup: Setup,
    capacity: Capacity,
    metrics: Arc<Metrics>,
    outside: impl Outside,
    retired: Retired,
) -> (Handle, impl Future<Output = ()> + Send) {
    let (ready, is_ready) = watch::channel(false);
    let (sender, commands) = mpsc::channel(COMMANDS);
    let checker = Checker::new(setup, capacity, metrics, outside, ready, retired);
    let published = checker.published.clone();
    (Handle { published, ready: is_ready, commands: sender }, checker.run(commands))
}

struct Checker<O> {
    pools: Pools,
    targets: Targets,
    health: HealthTable,
    published: Published,
    retired: Retired,
    /// Pools whose view has to be built anew.
    touched: BTreeSet<PoolId>,
    /// When the share of an address changes by itself; the earliest first.
    wakes: BinaryHeap<Reverse<(Moment, Spot)>>,
    overrides: Overrides,
    /// Changes of the memory that have not been reported yet.
    untold: Untold,
    /// Calendar by which kept times are shown.
    calendar: Calendar,
    /// The memories that are being made, in the order they were asked for.
    surveys: VecDeque<Survey>,
    service_log: ServiceLog,
    counter_rows: usize,
    metrics: Arc<Metrics>,
    outside: O,
    slots: Slots<Ticket>,
    probes: JoinSet<Report>,
    /// The probes in flight, by their task.
    running: HashMap<task::Id, Running>,
    /// The instant from which every [`Moment`] counts.
    origin: Instant,
    /// When this process last noticed that it had not run when it should.
    stalled: Option<Moment>,
    local_faults: LocalFaults,
    /// Why this machine is suspected rather than all pools together.
    suspected: Option<Suspecting>,
    ready: watch::Sender<bool>,
    startup_wait: Duration,
    rng: SmallRng,
}
