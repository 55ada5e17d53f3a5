//! The task that owns health: due -> probe -> outcome -> transition -> publish.
//!
//! It is the only writer of the answer table. Others send it commands. What a probe does is
//! `probe`'s, when it is due and what its outcome means is `health`'s, what follows for the answers
//! is `table`'s; here they meet, and here is the only clock.
//!
//! ```text
//!        +--> start what is due --> wait --+--> probes have ended --> transitions --+
//!        |                                 +--> a command                           |
//!        |                                 +--> the next deadline                   |
//!        +------------------- publish once, if anything changed <-------------------+
//! ```

mod command;
#[allow(dead_code, reason = "nothing calls it yet")]
mod history;
mod memory;
mod services;
#[allow(dead_code, reason = "nothing calls it yet")]
mod slots;
mod status;
mod targets;
#[cfg(test)]
mod tests;
#[allow(dead_code, reason = "nothing calls it yet")]
mod weight;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::rngs::SmallRng;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::counters::Counters;
use crate::health::{HealthTable, Moment, Outcome, State, Ticket, Timing, Transition};
use crate::metrics::Metrics;
use crate::pool::{Pool, PoolId, Require};
use crate::probe::{Cause, Probe, Report};
use crate::service::Service;
use crate::settings::Settings;
use crate::table::{PoolView, Published, ServiceView, Standing, Table};
use crate::zone::Catalog;

use services::ServiceLog;
use targets::{Target, Targets, standing};

pub use command::{Change, Command, Difference, NoSuchBackend, OverrideRequest};
pub use history::{OUTCOMES, PastOutcome, PastTransition, TRANSITIONS};
pub use memory::{Memory, RememberedOverride, RememberedState};
pub use slots::descriptor_budget;
pub use status::{AddressStatus, BackendStatus, CheckStatus, PoolStatus, ServiceStatus, Status};

/// The most probes in flight. Each holds a file descriptor, so a process that is allowed fewer runs
/// out of them before; its probes are then void, not failed. A probe that has to wait for a slot starts
/// late, which is exported as lag, but has its whole timeout from there.
pub const MAX_IN_FLIGHT: usize = 10_000;

/// Beyond this lateness a failed probe is void: when this process wakes this long after it should, or a
/// probe takes this much longer than its timeout, the answers may have come in time and not been
/// seen. A probe that passed has passed.
pub const LATE: Duration = Duration::from_millis(500);

/// How many commands may wait for the checker before their senders do.
const COMMANDS: usize = 64;

/// How long to sleep when nothing at all is due.
const IDLE: Duration = Duration::from_secs(3600);

/// What the checker is started with.
#[derive(Debug)]
pub struct Setup {
    /// What answers depend on besides zones, services and health.
    pub settings: Settings,
    /// The zones, with the services' names bound.
    pub catalog: Catalog,
    /// By `ServiceId`.
    pub services: Vec<Service>,
    /// By `PoolId`.
    pub pools: Vec<PoolSetup>,
    /// DNS is not answered before each backend has its first outcome or this long has passed.
    pub startup_wait: Duration,
    /// What was known before the last stop.
    pub memory: Memory,
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
    /// What to do.
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

/// What runs the probes: the network, or the script of a test.
trait Prober: Clone + Send + 'static {
    fn run(self, check: Arc<Check>, address: IpAddr) -> impl Future<Output = Report> + Send + 'static;
}

#[derive(Clone)]
struct Network;

impl Prober for Network {
    async fn run(self, check: Arc<Check>, address: IpAddr) -> Report {
        check.probe.run(address, check.timing.timeout).await
    }
}

/// Publishes a first table and starts to probe. Must be called within a tokio runtime that has its
/// network and time drivers enabled. `counter_rows` threads may count answers.
#[must_use = "the checker ends with its last handle"]
pub fn start(setup: Setup, counter_rows: usize, metrics: Arc<Metrics>) -> Handle {
    start_with(setup, counter_rows, metrics, Network)
}

fn start_with(setup: Setup, counter_rows: usize, metrics: Arc<Metrics>, prober: impl Prober) -> Handle {
    let (ready, is_ready) = watch::channel(false);
    let (sender, commands) = mpsc::channel(COMMANDS);
    let checker = Checker::new(setup, counter_rows, metrics, prober, ready);
    let published = checker.published.clone();
    tokio::spawn(checker.run(commands));
    Handle { published, ready: is_ready, commands: sender }
}

struct Checker<P> {
    pools: Vec<PoolSetup>,
    targets: Targets,
    health: HealthTable,
    published: Published,
    /// Pools whose view has to be built anew.
    touched: BTreeSet<PoolId>,
    service_log: ServiceLog,
    metrics: Arc<Metrics>,
    prober: P,
    probes: JoinSet<Report>,
    /// The probes in flight, by their task.
    running: HashMap<task::Id, Running>,
    /// What every [`Moment`] counts from.
    origin: Instant,
    started: SystemTime,
    /// When this process last noticed that it had not run when it should.
    stalled: Option<Moment>,
    ready: watch::Sender<bool>,
    startup_wait: Duration,
    rng: SmallRng,
}

struct Running {
    ticket: Ticket,
    started: Moment,
}

type Ended = Result<(task::Id, Report), JoinError>;

impl<P: Prober> Checker<P> {
    fn new(
        setup: Setup,
        counter_rows: usize,
        metrics: Arc<Metrics>,
        prober: P,
        ready: watch::Sender<bool>,
    ) -> Self {
        let mut rng = rand::make_rng();
        let mut health = HealthTable::new();
        let started = SystemTime::now();
        let targets = Targets::new(&setup.pools, &mut health, Moment::ZERO, started, &mut rng);
        let view = |(id, setup): (PoolId, &PoolSetup)| {
            let answers = PoolView::counters(&setup.pool, counter_rows);
            Arc::new(PoolView::build(&setup.pool, None, answers, |backend, address| {
                targets.standing(&health, id, backend, address).into()
            }))
        };
        let service_view = |service: Service| {
            let answers = Counters::new(counter_rows, service.tiers.len() + 1);
            ServiceView { service, answers }
        };
        let table = Table {
            generation: 1,
            settings: Arc::new(setup.settings),
            catalog: Arc::new(setup.catalog),
            pools: (0..).map(PoolId).zip(&setup.pools).map(view).collect(),
            services: setup.services.into_iter().map(service_view).collect(),
        };
        Self {
            service_log: ServiceLog::new(&table),
            published: Published::new(table),
            pools: setup.pools,
            targets,
            health,
            touched: BTreeSet::new(),
            metrics,
            prober,
            probes: JoinSet::new(),
            running: HashMap::new(),
            origin: Instant::now(),
            started,
            stalled: None,
            ready,
            startup_wait: setup.startup_wait,
            rng,
        }
    }

    fn now(&self) -> Moment {
        self.origin.elapsed()
    }

    /// Ends when nobody holds a [`Handle`] any more; probes in flight end with it.
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            self.start_due();
            self.tell_ready();
            let asleep = self.now();
            let deadline = self.deadline().unwrap_or(asleep + IDLE).max(asleep);
            let ended = tokio::select! {
                Some(ended) = self.probes.join_next_with_id() => Some(ended),
                command = commands.recv() => match command {
                    Some(command) => {
                        self.obey(command);
                        None
                    }
                    None => return,
                },
                () = tokio::time::sleep_until(self.origin + deadline) => None,
            };
            self.notice_stall(deadline);
            // All that has ended by now makes one publish. It is no endless supply: nothing is
            // started meanwhile.
            let mut next = ended;
            while let Some(ended) = next {
                self.take(ended);
                next = self.probes.try_join_next_with_id();
            }
            self.publish();
        }
    }

    /// When to wake although nothing has happened.
    fn deadline(&self) -> Option<Moment> {
        let has_slot = self.running.len() < MAX_IN_FLIGHT;
        let due = has_slot.then(|| self.health.next_deadline()).flatten();
        let ready = (!*self.ready.borrow()).then_some(self.startup_wait);
        due.into_iter().chain(ready).min()
    }

    fn start_due(&mut self) {
        let now = self.now();
        while self.running.len() < MAX_IN_FLIGHT {
            let Some(ticket) = self.health.due(now) else { break };
            let Some(target) = self.targets.get(ticket.target) else { continue };
            let probe = self.prober.clone().run(Arc::clone(&target.check), target.address);
            let task = self.probes.spawn(probe);
            self.running.insert(task.id(), Running { ticket, started: now });
            self.metrics.probe_started(now.saturating_sub(ticket.due));
        }
        self.metrics.probes_in_flight(self.running.len());
    }

    fn tell_ready(&mut self) {
        if *self.ready.borrow() {
            return;
        }
        if self.health.all_known() {
            info!(targets = self.targets.len(), "ready: every backend address has its first outcome");
        } else if self.now() >= self.startup_wait {
            warn!(
                targets = self.targets.len(),
                unknown = self.health.unknown(),
                "ready: startup_wait is over, though not every backend address has an outcome"
            );
        } else {
            return;
        }
        self.ready.send_replace(true);
    }

    fn notice_stall(&mut self, deadline: Moment) {
        let now = self.now();
        let late = now.saturating_sub(deadline);
        if late > LATE {
            self.stalled = Some(now);
            warn!(?late, "this process was not run for a while; probes that failed meanwhile do not count");
        }
    }

    /// Takes what a probe brought to everyone who wants to know.
    fn take(&mut self, ended: Ended) {
        let (task, report) = match ended {
            Ok(ended) => ended,
            Err(broken) => (broken.id(), broken_off(&broken)),
        };
        let Some(Running { ticket, started }) = self.running.remove(&task) else { return };
        let Some(target) = self.targets.get_mut(ticket.target) else { return };
        let stalled = self.stalled.is_some_and(|stalled| started < stalled);
        let report = fair(report, target.check.timing.timeout, stalled);
        let now = self.origin.elapsed();
        let transition = self.health.handle_outcome(ticket, report.outcome, now, &mut self.rng);
        for place in &target.places {
            let Some(pool) = self.pools.get(place.pool.index()).map(|setup| &setup.pool) else { continue };
            let Some(backend) = pool.backends.get(place.backend) else { continue };
            self.metrics.probe_finished(&pool.name, &backend.name, report.outcome, report.duration);
            self.metrics.last_probe(&pool.name);
            if let Some(transition) = &transition {
                self.touched.insert(place.pool);
                self.metrics.transition(&pool.name, &backend.name, target.address, standing(transition.to));
                log_transition(&pool.name, &backend.name, target.address, transition, &report);
            }
        }
        warn_of_first_void(target, &report);
        let wall = SystemTime::now();
        if transition.is_some() {
            target.since = wall;
        }
        target.last = Some((wall, report));
    }

    fn obey(&self, command: Command) {
        match command {
            // Whoever asked may have left.
            Command::Status(reply) => drop(reply.send(self.status())),
            _ => {}
        }
    }

    fn status(&self) -> Status {
        let table = &self.published.load();
        let (pools, targets, health) = (self.pools.as_slice(), &self.targets, &self.health);
        status::Sources { pools, targets, health, table, started: self.started }.status()
    }

    /// Builds the touched pools anew and publishes them together.
    fn publish(&mut self) {
        if self.touched.is_empty() {
            return;
        }
        let began = Instant::now();
        let touched = std::mem::take(&mut self.touched);
        let previous = self.published.load();
        let mut pools = previous.pools.clone();
        for &id in &touched {
            let (Some(view), Some(setup)) = (pools.get_mut(id.index()), self.pools.get(id.index())) else {
                continue;
            };
            let answers = Arc::clone(&view.answers);
            *view = Arc::new(PoolView::build(&setup.pool, Some(view), answers, |backend, address| {
                self.targets.standing(&self.health, id, backend, address).into()
            }));
        }
        self.published.store(Table {
            generation: previous.generation + 1,
            settings: Arc::clone(&previous.settings),
            catalog: Arc::clone(&previous.catalog),
            services: Arc::clone(&previous.services),
            pools,
        });
        self.metrics.published(began.elapsed());
        self.service_log.look(&self.published.load(), touched);
    }
}

/// The report of a probe whose task panicked: a defect of this program, and no verdict.
fn broken_off(broken: &JoinError) -> Report {
    error!(%broken, "a probe broke off; this is a defect of steerd, please report it");
    Report {
        outcome: Outcome::Void,
        cause: Some(Cause::Local),
        detail: format!("no verdict: the probe broke off: {broken}").into(),
        load: None,
        duration: Duration::ZERO,
        phases: Vec::new(),
    }
}

/// Makes a failure void that may be the fault of this process being late.
fn fair(report: Report, timeout: Duration, stalled: bool) -> Report {
    let overlong = report.duration > timeout.saturating_add(LATE);
    if report.outcome != Outcome::Failed || !(stalled || overlong) {
        return report;
    }
    let detail = format!("no verdict: this process was too late to judge fairly: {}", report.detail).into();
    Report { outcome: Outcome::Void, cause: Some(Cause::Local), detail, ..report }
}

/// Each spell of void outcomes of a target is told once: while it lasts, its state stands still.
fn warn_of_first_void(target: &Target, report: &Report) {
    let was_void = target.last.as_ref().is_some_and(|(_, last)| last.outcome == Outcome::Void);
    if report.outcome == Outcome::Void && !was_void {
        let reason = &*report.detail;
        warn!(address = %target.address, reason, "an address could not be probed; its state stands still");
    }
}

fn log_transition(pool: &str, backend: &str, address: IpAddr, transition: &Transition, report: &Report) {
    info!(
        pool,
        backend,
        %address,
        from = word(transition.from),
        to = word(transition.to),
        reason = &*report.detail,
        consecutive = transition.consecutive,
        "backend is {}",
        word(transition.to),
    );
}

fn word(state: State) -> &'static str {
    match standing(state) {
        Standing::Unknown => "unknown",
        Standing::Healthy => "healthy",
        Standing::Unhealthy => "unhealthy",
        Standing::Draining => "draining",
    }
}
