//! The fleet: all backends, their health, and the resulting answer table. The pure core of `checker`.
//!
//! Events and the time go in; probes to start, the table to publish, and replies come out. There is no runtime,
//! socket, clock or random generator here: `checker` owns those, and the simulation runs the same code through
//! hours in a moment. Log lines, events and metrics are written where they arise; nothing reads them back.
//!
//! ```text
//!  set_clocks   the time, before each event
//!  start_due    -> Launch: a probe to run, and the Running to return with its report
//!  ended        Running, Report -> transitions
//!  settle       alarms, shares, overrides and returns whose time has come
//!  publish      -> the next table, if a pool or the tier in use of a service may have changed
//!  renew_orders -> the same table with other combinations in its answers, if due
//! ```
//!
//! A *target* is a probe with its timing and destination address. Checks of several pools that agree in these
//! are one target, which is probed once. The standing of a backend address in a pool is the combined result of
//! its checks ([`combine`]); logs, counters and answers use it.

mod answering;
mod bulk;
mod calendar;
mod certainty;
mod conditions;
mod consequences;
mod expiry;
mod explain;
mod failback;
mod failover;
mod history;
mod holding;
mod kept_override;
mod local_faults;
mod memory;
mod overrides;
mod pools;
mod preview;
mod probing;
mod publishing;
mod reload;
mod remember;
mod report;
mod request;
mod services;
mod share;
#[cfg(test)]
#[allow(clippy::unchecked_time_subtraction, reason = "a time that runs backwards fails the test")]
mod simulation;
mod slots;
mod status;
mod survey;
mod suspicion;
mod tally;
mod targets;
mod usability;
mod verdict;
mod version;
mod weight;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::events::{Events, Teller, tell};
use crate::health::{HealthTable, Moment, Ticket};
use crate::metrics::Metrics;
use crate::pool::PoolId;
use crate::served::Served;
use crate::table::Table;
use rand::Rng;

use calendar::{Calendar, Stamp};
use certainty::Certainty;
use expiry::Expiring;
use failback::Returns;
use failover::Failovers;
use local_faults::{LocalFaults, Suspecting};
use memory::Unreported;
use overrides::Overrides;
use pools::Pools;
use services::ServiceLog;
use slots::Slots;

use targets::{Linker, Spot, Targets};

pub use bulk::MOST_AT_ONCE as MOST_OVERRIDES_AT_ONCE;
pub use conditions::{
    CONDITIONS, Condition, ConditionKey, ConditionsRequest, FleetConditions, OverriddenPools, PoolStarts,
    ServerFaults, of_table as conditions_of_table, unusable as unusable_pools,
};
pub use expiry::SOON as CERTIFICATE_SOON;
pub use explain::{
    ExplainRequest, ExplainedBackend, ExplainedChange, ExplainedOutcome, ExplainedService, ExplainedTier,
    Explanation, MOST_EXPLAINED,
};
pub use history::{OUTCOMES, PastOutcome, PastTransition, TRANSITIONS};
pub use memory::{
    Memory, MemoryChanges, RememberedFailover, RememberedOverride, RememberedPool, RememberedState,
    RememberedTier,
};
pub use probing::{Due, Launch, ProbeRun, Running};
pub use reload::{Configuration, NamedFailover, NamedOverride, NewConfiguration, Reloaded};
pub use report::{BACKENDS_IN_A_PIECE, BACKENDS_WITH_HISTORY_IN_A_PIECE, Cursor, Piece, PoolPiece};
pub use request::{
    BackendSelection, BulkOverridden, BulkRefused, BulkRequest, ChangeRefused, ChangeRequest, Consequence,
    FailbackRequest, FailoverRequest, Overridden, OverrideChange, OverrideRefused, OverrideRequest,
    SelectedBy, ServiceChanged, ServiceRefused, ServiceRequest,
};
pub use slots::{MOST_DESCRIPTORS, probes_within};
pub use status::{
    AddressStatus, BackendStatus, CheckStatus, FailoverStatus, OverrideStatus, PoolStatus, ServiceStatus,
    Suspected, WaitingStatus,
};
pub use survey::Survey;
pub use verdict::combine;
pub use version::{OverrideVersion, Precondition};

/// The most probes in flight. Each needs a file descriptor, so a process with a lower limit must have fewer in
/// flight: [`probes_within`]. A probe that waits for a slot starts late, which is exported as lag, but gets its
/// whole timeout from its start.
pub const MAX_IN_FLIGHT: usize = 10_000;

/// A failed probe counts as void if this process woke this much later than it should, or if the probe took this
/// much longer than its timeout: the answer may have come in time without being seen.
pub const LATE: Duration = Duration::from_millis(500);

/// How many probes are started in one turn. The others wait for the next turn, so that running probes and
/// commands are served in between.
pub const AT_ONCE: usize = 64;

/// The initial configuration and memory of a fleet.
#[derive(Debug)]
pub struct FleetSetup {
    /// The configuration.
    pub served: Served,
    /// The memory from the previous run.
    pub memory: Memory,
}

/// Limits that stay the same for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// How many threads count answers with counters of their own.
    pub counting_threads: usize,
    /// How many probes may be in flight, at least 1.
    pub probes: usize,
}

/// Where a fleet writes down what happens, besides the log.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The last events.
    pub events: Events,
}

/// Readings of the clocks, taken together.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The time since the start, without time in suspend.
    pub now: Moment,
    /// The time that has really passed since some moment, including time in suspend.
    pub passed: Duration,
    /// The time of day. It may jump, so only display depends on it.
    pub wall: SystemTime,
}

/// All backends with their health, and the resulting answer table.
#[derive(Debug)]
pub struct Fleet {
    pools: Pools,
    targets: Targets,
    health: HealthTable,
    slots: Slots<Ticket>,
    /// The latest table.
    table: Arc<Table>,
    /// Pools that differ from the latest table.
    touched: BTreeSet<PoolId>,
    /// When the share of an address changes by itself; earliest first.
    wakes: BinaryHeap<Reverse<(Moment, Spot)>>,
    overrides: Overrides,
    certainty: Certainty,
    returns: Returns,
    failovers: Failovers,
    unreported: Unreported,
    service_log: ServiceLog,
    local_faults: LocalFaults,
    expiring: Expiring,
    /// Why this machine is suspected, and not all pools together.
    suspected: Option<Suspecting>,
    now: Moment,
    /// `now` on the calendar.
    at: Stamp,
    calendar: Calendar,
    /// When this process last noticed that it had not run when it should.
    stalled: Option<Moment>,
    metrics: Arc<Metrics>,
    teller: Teller,
    /// The period of the last renewal of draw orders.
    renewed: u128,
}

impl Fleet {
    /// A fleet that starts at these times. `rng` spreads the first probes, and seeds the orders of draws.
    pub fn new(
        FleetSetup { served, memory }: FleetSetup,
        Capacity { counting_threads, probes }: Capacity,
        Outputs { metrics, events }: Outputs,
        clocks: Clocks,
        rng: &mut impl Rng,
    ) -> Self {
        let Served { settings, catalog, services, rule_tables, pools, startup_wait: _ } = served;
        let calendar = Calendar::new(clocks.wall, clocks.passed);
        let at = calendar.stamp(clocks.passed);
        let (mut health, mut targets) = (HealthTable::new(), Targets::default());
        let linker = Linker::new(&mut targets, &mut health, clocks.now, at, &mut *rng, &HashSet::new());
        let mut pools = Pools::link(pools, &memory.states, calendar, &metrics, linker);
        pools.note_services(services.iter());
        metrics.show(&pools.0.iter().map(|pool| Arc::clone(&pool.series)).collect());
        let table = publishing::first_table(
            settings,
            catalog,
            (services, rule_tables),
            &pools,
            counting_threads,
            rng,
        );
        let mut fleet = Self {
            pools,
            targets,
            health,
            slots: Slots::new(probes),
            service_log: ServiceLog::new(&table),
            table: Arc::new(table),
            touched: BTreeSet::new(),
            wakes: BinaryHeap::new(),
            overrides: Overrides::default(),
            certainty: Certainty::default(),
            returns: Returns::default(),
            failovers: Failovers::default(),
            unreported: Unreported::default(),
            local_faults: LocalFaults::default(),
            expiring: Expiring::default(),
            suspected: None,
            now: clocks.now,
            at,
            calendar,
            stalled: None,
            metrics,
            teller: events.at(calendar.shown(at)),
            renewed: 0,
        };
        fleet.set_groups();
        fleet.recall_overrides(memory.overrides);
        fleet.recall_failovers(memory.failovers);
        fleet.recall_tiers(&memory.tiers, &memory.pools);
        fleet.publish(None);
        fleet.note_all_tiers();
        fleet.assess_certainty();
        fleet.publish_certainty(false);
        fleet
    }

    /// The latest table.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The number of targets.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.targets.len()
    }

    /// The number of targets without an outcome.
    #[must_use]
    pub fn unknown(&self) -> usize {
        self.health.unknown()
    }

    /// Whether DNS may be answered: every target has had an outcome, or this time since the start is over. Tells which.
    #[must_use]
    pub fn is_ready(&self, startup_wait: Duration) -> bool {
        let (targets, unknown) = (self.targets(), self.unknown());
        if unknown == 0 {
            tell!(self.teller, info, Server, targets, "ready: every backend address has its first outcome");
        } else if self.now >= startup_wait {
            tell!(
                self.teller,
                warn,
                Server,
                targets,
                unknown,
                "ready: startup_wait is over, but some backend addresses have no outcome yet"
            );
        } else {
            return false;
        }
        true
    }

    /// Sets the time for the following events. Overrides and everything else follow the elapsed time; only
    /// their display follows the time of day.
    pub fn set_clocks(&mut self, clocks: Clocks) {
        self.now = clocks.now;
        let before = self.calendar;
        if let Some(seconds) = self.calendar.correct(clocks.wall, clocks.passed) {
            // Times that are stored for the next start are times of day.
            self.unreported.everything();
            self.note_overrides();
            self.keep_answers_end(before);
            self.certainty.all_changed();
            self.show_returns_again();
            self.show_failovers_again();
            self.teller.set_time(self.calendar.shown(self.calendar.stamp(clocks.passed)));
            tell!(
                self.teller,
                warn,
                Server,
                seconds,
                "the time of day has jumped; overrides still last for their full time"
            );
        }
        self.at = self.calendar.stamp(clocks.passed);
        self.teller.set_time(self.calendar.shown(self.at));
    }

    /// Records that this process wanted to wake at `deadline`. If the delay is too long, probes that were in
    /// flight meanwhile and failed are void.
    pub fn woke(&mut self, deadline: Moment) {
        let late = self.now.saturating_sub(deadline);
        if late > LATE {
            self.stalled = Some(self.now);
            tell!(
                self.teller,
                warn,
                Server,
                ?late,
                "this process was not run for a while; probes that failed meanwhile are void"
            );
        }
    }

    /// When the next event occurs by itself; none if nothing is pending. If the machine is suspended meanwhile,
    /// an override ends earlier: time in suspend counts, but timers do not see it.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        let due = (!self.slots.are_full()).then(|| self.health.next_due()).flatten();
        let suspicion = self.health.next_end();
        let share = self.wakes.peek().map(|wake| wake.0.0);
        let moment = |at: Stamp| self.now.saturating_add(at.since(self.at));
        let ends = [self.overrides.end, self.failovers.end, self.returns.next()].map(|at| at.map(moment));
        [due, suspicion, share].into_iter().chain(ends).flatten().min()
    }

    /// Handles everything that is due: ends of suspicions, changes of shares, ends of overrides and failovers,
    /// returns to earlier tiers.
    pub fn settle(&mut self) {
        self.heed_alarms();
        self.weigh_due();
        self.end_overrides();
        self.end_failovers();
        self.take_earlier_tiers();
    }
}
