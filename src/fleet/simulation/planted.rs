//! Adds defects around the fleet, to prove that the simulation finds them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::rngs::SmallRng;

use crate::check::Probe;
use crate::events::Events;
use crate::fleet::calendar::Stamp;
use crate::fleet::slots::Class;
use crate::fleet::{
    BulkOverridden, BulkRefused, BulkRequest, Capacity, ChangeRefused, ChangeRequest, Clocks, Due,
    FailoverRequest, Fleet, FleetSetup, Launch, Memory, MemoryChanges, NewConfiguration, Outputs, Overridden,
    OverrideChange, OverrideRefused, OverrideRequest, ProbeRun, Reloaded, Running, ServiceChanged,
    ServiceRefused, ServiceRequest, Survey,
};
use crate::health::{Moment, Outcome};
use crate::metrics::Metrics;
use crate::pool::{Override, PoolId};
use crate::probe::Report;
use crate::table::{Progress, Table};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    SlotKept,
    SlotGivenBackEarly,
    ReportDropped,
    StaleReportTaken,
    TwoInFlight,
    RemovedStillProbed,
    DueLeftWaiting,
    VoidFails,
    StallUnnoticed,
    OverrideEndless,
    OverrideEndsLate,
    OverrideByTimeOfDay,
    OverrideLostByReload,
    WeightEndsState,
    BulkForgetsOne,
    BulkInTwoTables,
    WeightLostByReload,
    SuspicionEndsLate,
    SuspicionLostByReload,
    ShareEndsLate,
    ShareStuck,
    TouchedPoolForgotten,
    UntouchedPoolRebuilt,
    GenerationSkipped,
    StateUntold,
    OverrideUntold,
    EndUntold,
    SnapshotGoesOnAfterReload,
    BeginForgetsChanges,
    RestartForgetsStates,
    RestartRevivesEnded,
    DoubtForgotten,
    DoubtKept,
    ReturnsAtOnce,
    ReturnsLate,
    ReturnForgotten,
    BreakUnnoticed,
    TierLostByReload,
    TierUntold,
    PoolUntold,
    RestartForgetsTiers,
    RestartForgetsPools,
    RestartCountsTheGap,
    FailoverEndless,
    FailoverEndsLate,
    FailoverLostByReload,
    FailoverUntold,
    FailoverEndUntold,
    RestartForgetsFailovers,
    RestartRevivesFailovers,
}

pub(super) const FAULTS: [Fault; 50] = [
    Fault::SlotKept,
    Fault::SlotGivenBackEarly,
    Fault::ReportDropped,
    Fault::StaleReportTaken,
    Fault::TwoInFlight,
    Fault::RemovedStillProbed,
    Fault::DueLeftWaiting,
    Fault::VoidFails,
    Fault::StallUnnoticed,
    Fault::OverrideEndless,
    Fault::OverrideEndsLate,
    Fault::OverrideByTimeOfDay,
    Fault::OverrideLostByReload,
    Fault::WeightEndsState,
    Fault::BulkForgetsOne,
    Fault::BulkInTwoTables,
    Fault::WeightLostByReload,
    Fault::SuspicionEndsLate,
    Fault::SuspicionLostByReload,
    Fault::ShareEndsLate,
    Fault::ShareStuck,
    Fault::TouchedPoolForgotten,
    Fault::UntouchedPoolRebuilt,
    Fault::GenerationSkipped,
    Fault::StateUntold,
    Fault::OverrideUntold,
    Fault::EndUntold,
    Fault::SnapshotGoesOnAfterReload,
    Fault::BeginForgetsChanges,
    Fault::RestartForgetsStates,
    Fault::RestartRevivesEnded,
    Fault::DoubtForgotten,
    Fault::DoubtKept,
    Fault::ReturnsAtOnce,
    Fault::ReturnsLate,
    Fault::ReturnForgotten,
    Fault::BreakUnnoticed,
    Fault::TierLostByReload,
    Fault::TierUntold,
    Fault::PoolUntold,
    Fault::RestartForgetsTiers,
    Fault::RestartForgetsPools,
    Fault::RestartCountsTheGap,
    Fault::FailoverEndless,
    Fault::FailoverEndsLate,
    Fault::FailoverLostByReload,
    Fault::FailoverUntold,
    Fault::FailoverEndUntold,
    Fault::RestartForgetsFailovers,
    Fault::RestartRevivesFailovers,
];

/// A small number, so that much happens between the steps of a survey.
const BACKENDS_IN_A_STEP: usize = 2;

/// The time in which nobody knew whether pools were usable.
const GAP: Duration = Duration::from_secs(5);

/// The time of day at the start.
pub(super) const DAY: SystemTime = SystemTime::UNIX_EPOCH;

/// The fleet and the surveys of its shell, with one defect or none.
pub(super) struct Subject {
    pub(super) fleet: Fleet,
    fault: Option<Fault>,
    survey: Option<Survey>,
    /// The running probes, each with a second permission to report.
    started: Vec<Launch>,
    /// Running probes of targets that were removed.
    removed: Vec<Launch>,
    /// Counts the opportunities for a rare defect.
    occasions: u32,
}

impl Subject {
    pub(super) fn new(
        setup: FleetSetup,
        capacity: Capacity,
        clocks: Clocks,
        rng: &mut SmallRng,
        fault: Option<Fault>,
    ) -> Self {
        let mut setup = setup;
        match fault {
            Some(Fault::RestartForgetsStates) => setup.memory.states.clear(),
            Some(Fault::RestartRevivesEnded) => {
                setup.memory.overrides.iter_mut().for_each(|kept| kept.until = None);
            }
            Some(Fault::RestartForgetsFailovers) => setup.memory.failovers.clear(),
            Some(Fault::RestartRevivesFailovers) => {
                setup.memory.failovers.iter_mut().for_each(|kept| kept.until = None);
            }
            Some(Fault::RestartForgetsTiers) => setup.memory.tiers.clear(),
            Some(Fault::RestartForgetsPools) => setup.memory.pools.clear(),
            Some(Fault::RestartCountsTheGap) => {
                for pool in &mut setup.memory.pools {
                    pool.since = pool.since.map(|since| since - GAP);
                }
            }
            _ => {}
        }
        let outputs = Outputs { metrics: Arc::new(Metrics::new(1)), events: Events::new(clocks.wall) };
        let fleet = Fleet::new(setup, capacity, outputs, clocks, rng);
        Self { fleet, fault, survey: None, started: Vec::new(), removed: Vec::new(), occasions: 0 }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Whether a rare defect occurs this time.
    fn now_and_then(&mut self, fault: Fault) -> bool {
        if !self.has(fault) {
            return false;
        }
        self.occasions += 1;
        self.occasions.is_multiple_of(10)
    }

    pub(super) fn set_clocks(&mut self, mut clocks: Clocks) {
        if self.has(Fault::OverrideByTimeOfDay) {
            clocks.passed = clocks.wall.duration_since(DAY).unwrap_or_default();
        }
        self.fleet.set_clocks(clocks);
    }

    pub(super) fn woke(&mut self, deadline: Moment) {
        if !self.has(Fault::StallUnnoticed) {
            self.fleet.woke(deadline);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let Fleet { health, wakes, .. } = &self.fleet;
        let share = wakes.peek().map(|wake| wake.0.0);
        let deadline = self.fleet.next_deadline();
        // Leaves out the time for one cause, unless another cause has the same time.
        let without = |left_out: Option<Moment>, others: [Option<Moment>; 2]| {
            if deadline == left_out { others.into_iter().flatten().min() } else { deadline }
        };
        match self.fault {
            Some(Fault::OverrideEndsLate) => health.next_deadline().into_iter().chain(share).min(),
            Some(Fault::SuspicionEndsLate) => without(health.next_end(), [health.next_due(), share]),
            Some(Fault::ShareEndsLate) => without(share, [health.next_deadline(), None]),
            Some(Fault::ReturnsLate) => self.without_stamp(self.fleet.returns.next()),
            Some(Fault::FailoverEndsLate) => self.without_stamp(self.fleet.failovers.end),
            _ => deadline,
        }
    }

    /// The next deadline without this time on the calendar, unless another cause has the same time.
    fn without_stamp(&self, left_out: Option<Stamp>) -> Option<Moment> {
        let Fleet { health, wakes, overrides, failovers, returns, at, now, .. } = &self.fleet;
        let others = [overrides.end, failovers.end, returns.next()].into_iter().flatten();
        let others = others.filter(|end| Some(*end) != left_out).map(|end| *now + end.since(*at));
        others.chain(health.next_deadline()).chain(wakes.peek().map(|wake| wake.0.0)).min()
    }

    pub(super) fn start_due(&mut self, launches: &mut Vec<Launch>) -> Due {
        if self.now_and_then(Fault::DueLeftWaiting) {
            return Due::Nothing;
        }
        let due = self.fleet.start_due(launches);
        if self.has(Fault::SlotGivenBackEarly) {
            for ProbeRun { probe, address, .. } in launches.iter().map(|launch| &launch.run) {
                let class =
                    if matches!(**probe, Probe::Exec(_)) { Class::Process } else { Class::Connection };
                self.fleet.slots.release(*address, class);
            }
        }
        if self.has(Fault::TwoInFlight) {
            let again: Vec<Launch> = launches.iter().map(copy).collect();
            launches.extend(again);
        }
        if self.has(Fault::RemovedStillProbed) || self.has(Fault::StaleReportTaken) {
            self.started.extend(launches.iter().map(copy));
        }
        launches.append(&mut self.removed);
        due
    }

    pub(super) fn ended(&mut self, mut running: Running, mut report: Report, rng: &mut SmallRng) {
        if self.now_and_then(Fault::ReportDropped) {
            return;
        }
        if self.now_and_then(Fault::SlotKept) {
            running = running.copy([192, 0, 2, 255].into());
        }
        if self.has(Fault::StaleReportTaken)
            && !self.fleet.wants(&running)
            && let Some(place) = self.started.iter().position(|launch| self.fleet.wants(&launch.running))
        {
            running = self.started.swap_remove(place).running;
        }
        if self.has(Fault::VoidFails) && report.outcome == Outcome::Void {
            report.outcome = Outcome::Failed;
        }
        self.fleet.ended(running, report, rng);
        self.started.retain(|launch| self.fleet.wants(&launch.running));
    }

    pub(super) fn settle(&mut self) {
        if self.has(Fault::ShareStuck) {
            self.fleet.wakes.clear();
        }
        self.fleet.settle();
        if self.has(Fault::ReturnForgotten) {
            self.fleet.returns.again.clear();
        }
        if self.has(Fault::ReturnsAtOnce) {
            self.make_steady(|_| Some(Stamp::EPOCH));
        }
    }

    /// Replaces the times since when pools are usable.
    fn make_steady(&mut self, time: impl Fn(Option<Stamp>) -> Option<Stamp>) {
        for since in self.fleet.pools.0.iter_mut().flat_map(|pool| &mut pool.steady) {
            *since = time(*since);
        }
    }

    pub(super) fn publish(&mut self) {
        if self.now_and_then(Fault::TouchedPoolForgotten) {
            self.fleet.touched.pop_first();
        }
        if self.has(Fault::UntouchedPoolRebuilt) && !self.fleet.touched.is_empty() {
            self.fleet.touched.extend([PoolId(0), PoolId(1)]);
        }
        if self.has(Fault::DoubtForgotten) {
            self.fleet.certainty.changed.clear();
        }
        if self.has(Fault::DoubtKept) {
            let Fleet { certainty, .. } = &mut self.fleet;
            certainty.changed =
                certainty.changed.iter().copied().filter(|id| certainty.earliest(*id).is_some()).collect();
        }
        let steady: Vec<_> = self.fleet.pools.0.iter().map(|pool| pool.steady).collect();
        let published = self.fleet.publish(None);
        if self.has(Fault::BreakUnnoticed) {
            for (pool, before) in self.fleet.pools.0.iter_mut().zip(steady) {
                for (since, before) in pool.steady.iter_mut().zip(before) {
                    *since = before.or(*since);
                }
            }
        }
        if published && self.has(Fault::GenerationSkipped) {
            self.fleet.touched.insert(PoolId(0));
            self.fleet.publish(None);
        }
    }

    pub(super) fn override_backend(
        &mut self,
        mut request: OverrideRequest,
    ) -> Result<Overridden, OverrideRefused> {
        if self.has(Fault::OverrideEndless) {
            request.length = None;
        }
        let other = OverrideRequest { change: OverrideChange::State(None), force: true, ..request.clone() };
        let overridden = self.fleet.override_backend(request);
        if self.has(Fault::WeightEndsState)
            && let Ok(Overridden { backend, .. }) = &overridden
            && backend.weight_override.is_some()
            && backend.overridden.is_some()
        {
            return self.fleet.override_backend(other);
        }
        overridden
    }

    pub(super) fn override_many(&mut self, request: BulkRequest) -> Result<BulkOverridden, BulkRefused> {
        let (change, by) = (request.change, request.by.clone());
        let mut first = self.fleet.selected(&request.selection).unwrap_or_default();
        let done = self.fleet.override_many(request)?;
        if self.has(Fault::BulkForgetsOne)
            && let Some((id, index)) = first.pop_first().and_then(|(id, of)| Some((id, of.first().copied()?)))
        {
            let other = match change {
                OverrideChange::State(None) => OverrideChange::State(Some(Override::Down)),
                OverrideChange::State(_) => OverrideChange::State(None),
                OverrideChange::Weight(None) => OverrideChange::Weight(Some(7)),
                OverrideChange::Weight(_) => OverrideChange::Weight(None),
            };
            self.fleet.say((id, index, change.kind()), (other, None, None), &by);
        }
        if self.has(Fault::BulkInTwoTables) {
            self.fleet.touched.insert(PoolId(0));
            self.fleet.publish(None);
        }
        Ok(done)
    }

    pub(super) fn fail_over(
        &mut self,
        mut request: FailoverRequest,
    ) -> Result<ServiceChanged, ServiceRefused> {
        if self.has(Fault::FailoverEndless) {
            request.length = None;
        }
        let wanted = ChangeRequest::Service(ServiceRequest::FailOver(request.clone()));
        let tried = self.fleet.preview(&wanted);
        let done = self.fleet.fail_over(request);
        // A preview tells what then happens, and changes nothing.
        match (tried, &done) {
            (
                Ok(tried),
                Ok(ServiceChanged { consequences, .. }) | Err(ServiceRefused::TakesAway(consequences)),
            ) => assert_eq!(tried, *consequences),
            (tried, done) => {
                let refused = done.as_ref().err().cloned().map(ChangeRefused::Service);
                assert_eq!(tried.err(), refused);
            }
        }
        done
    }

    pub(super) fn reload(&mut self, wanted: NewConfiguration, rng: &mut SmallRng) -> Reloaded {
        if self.has(Fault::OverrideLostByReload)
            && let Some(pool) = self.fleet.pools.0.first_mut()
        {
            for backend in 0..pool.backends.len() {
                pool.change_backend(backend, |backend| backend.overridden[0] = None);
            }
        }
        if self.has(Fault::WeightLostByReload)
            && let Some(pool) = self.fleet.pools.0.first_mut()
        {
            for backend in 0..pool.backends.len() {
                pool.change_backend(backend, |backend| backend.overridden[1] = None);
            }
        }
        if self.has(Fault::FailoverLostByReload) {
            self.fleet.failovers.kept.clear();
        }
        if self.has(Fault::TierLostByReload) {
            let table = Table::clone(&self.fleet.table);
            let plans = table.services().iter().map(|view| (view.default_route().plan(), [Some(0); 2]));
            let plans = plans.collect();
            self.fleet.table = Arc::new(table.with_tiers_in_use(plans, &Progress::NONE));
        }
        let reloaded = self.fleet.reload(wanted, rng);
        let (fleet, fault) = (&self.fleet, self.fault);
        let removed = self.started.extract_if(.., |launch| !fleet.wants(&launch.running));
        self.removed.extend(removed.filter(|_| fault == Some(Fault::RemovedStillProbed)));
        if self.has(Fault::SuspicionLostByReload) {
            self.fleet.health.set_groups(Vec::new(), self.fleet.now);
            self.fleet.set_groups();
        }
        if let Some(survey) = &mut self.survey
            && self.fault != Some(Fault::SnapshotGoesOnAfterReload)
        {
            survey.restart();
        }
        reloaded
    }

    pub(super) fn begin_memory(&mut self) {
        self.fleet.begin_memory(&Survey::default());
        if self.has(Fault::BeginForgetsChanges) {
            self.fleet.unreported.targets.clear();
            self.fleet.unreported.overrides.clear();
        }
        self.survey = Some(Survey::default());
    }

    /// Continues the survey that was begun.
    pub(super) fn step_survey(&mut self) -> Option<Memory> {
        let memory = self.survey.as_mut()?.step_of(&self.fleet, BACKENDS_IN_A_STEP)?;
        self.survey = None;
        Some(memory)
    }

    pub(super) fn memory_changes(&mut self) -> MemoryChanges {
        let mut changes = self.fleet.memory_changes();
        match self.fault {
            Some(Fault::StateUntold) => drop(changes.states.pop()),
            Some(Fault::OverrideUntold) => drop(changes.overrides.pop()),
            Some(Fault::EndUntold) => changes.ended.clear(),
            Some(Fault::FailoverUntold) => drop(changes.failovers.pop()),
            Some(Fault::FailoverEndUntold) => changes.ended_failovers.clear(),
            Some(Fault::TierUntold) => drop(changes.tiers.pop()),
            Some(Fault::PoolUntold) => drop(changes.pools.pop()),
            _ => {}
        }
        changes
    }
}

fn copy(launch: &Launch) -> Launch {
    let ProbeRun { probe, address, timeout, search_charge } = &launch.run;
    let (address, timeout, search_charge) = (*address, *timeout, *search_charge);
    let run = ProbeRun { probe: Arc::clone(probe), address, timeout, search_charge };
    Launch { run, running: launch.running.copy(address) }
}

/// The time of day after this duration.
pub(super) fn time_of_day(passed: Duration) -> SystemTime {
    DAY + passed
}
