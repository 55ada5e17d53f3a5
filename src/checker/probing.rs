//! Probes: what is due is started, and what they bring is taken to everyone who wants to know.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::{self, JoinError};
use tracing::{debug, error, info, warn};

use crate::checker::pools::{AddressState, PoolState, standing};
use crate::checker::status::LastProbe;
use crate::checker::targets::{Target, User};
use crate::checker::{Checker, LATE, MAX_IN_FLIGHT, Outside};
use crate::health::{Moment, Outcome, Ticket, Transition};
use crate::probe::{Cause, Report};
use crate::table::Standing;

/// A probe in flight.
pub(super) struct Running {
    ticket: Ticket,
    started: Moment,
}

/// How a probe ended.
pub(super) type Ended = Result<(task::Id, Report), JoinError>;

impl<O: Outside> Checker<O> {
    pub(super) fn start_due(&mut self) {
        let now = self.now();
        while self.running.len() < MAX_IN_FLIGHT {
            let Some(ticket) = self.health.due(now) else { break };
            self.launch(ticket, now);
        }
        self.metrics.probes_in_flight(self.running.len());
    }

    fn launch(&mut self, ticket: Ticket, now: Moment) {
        let Some(target) = self.targets.get_mut(ticket.target) else { return };
        let probe = Arc::clone(&target.key.probe);
        let probe = self.outside.clone().probe(probe, target.key.host, target.key.timing.timeout);
        let task = self.probes.spawn(probe);
        self.running.insert(task.id(), Running { ticket, started: now });
        target.task = Some(task);
        self.metrics.probe_started(now.saturating_sub(ticket.due));
    }

    /// Takes what a probe brought to everyone who wants to know.
    pub(super) fn take(&mut self, ended: Ended) {
        let task = match &ended {
            Ok((task, _)) => *task,
            Err(broken) => broken.id(),
        };
        let Some(Running { ticket, started }) = self.running.remove(&task) else { return };
        let report = ended.map_or_else(|broken| broken_off(&broken), |(_, report)| report);
        let Some(target) = self.targets.get_mut(ticket.target) else { return };
        let stalled = self.stalled.is_some_and(|stalled| started < stalled);
        let report = fair(report, target.key.timing.timeout, stalled);
        let (now, wall) = (self.origin.elapsed(), self.outside.wall());
        let transition = self.health.handle_outcome(ticket, report.outcome, now, &mut self.rng);
        target.task = None;
        let first = report.outcome != Outcome::Void && target.hint.take().is_some();
        if transition.is_some() {
            target.since = wall;
        }
        warn_of_first_void(target, &report);
        target.last = Some(LastProbe::new(wall, &report));
        self.count(ticket, &report);
        if transition.is_some() || first {
            self.judge_users(ticket, transition.as_ref(), &report, wall);
        }
    }

    /// Counts an outcome once for each backend that it is of.
    fn count(&self, ticket: Ticket, report: &Report) {
        let Some(target) = self.targets.get(ticket.target) else { return };
        let mut before = None;
        for User { spot, .. } in &target.users {
            let backend = (spot.pool, spot.backend);
            if before.replace(backend) == Some(backend) {
                continue;
            }
            let Some(pool) = self.pools.get(spot.pool) else { continue };
            pool.series.probe_ended(spot.backend as usize, report.outcome, report.cause, report.duration);
            pool.series.probed(&self.metrics);
        }
    }

    /// Judges the addresses that a target is used by anew.
    fn judge_users(
        &mut self,
        ticket: Ticket,
        transition: Option<&Transition>,
        report: &Report,
        wall: SystemTime,
    ) {
        let Some(target) = self.targets.get(ticket.target) else { return };
        for &User { spot, check } in &target.users {
            let Some(pool) = self.pools.0.get_mut(spot.pool.index()) else { continue };
            let (backend, place) = (spot.backend as usize, spot.address as usize);
            let Some(configured) = pool.setup.pool.backends.get(backend) else { continue };
            let Some(address) = pool.address(backend, place) else { continue };
            let (standing, held) = address.judge(&pool.setup, configured, &self.targets, &self.health);
            let reason = Reason { check: check as usize, transition, report };
            reason.log_check(pool, backend, place);
            let before = address.standing;
            if before != standing {
                reason.log(pool, backend, place, standing);
                pool.series.changed(backend, place, standing);
            }
            let Some(address) = self.pools.address_mut(spot) else { continue };
            if before != standing || address.held != held {
                self.touched.insert(spot.pool);
            }
            if before != standing {
                address.since = wall;
            }
            (address.standing, address.held) = (standing, held);
        }
    }
}

/// What made an address be judged anew: an outcome of one of its checks.
struct Reason<'a> {
    /// Index within the pool.
    check: usize,
    transition: Option<&'a Transition>,
    report: &'a Report,
}

impl Reason<'_> {
    /// A change of the address as a whole, once for each of its pools.
    fn log(&self, pool: &PoolState, backend: usize, address: usize, to: Standing) {
        let Some((name, ip, state)) = named(pool, backend, address) else { return };
        info!(
            pool = &**pool.series.name(),
            backend = name,
            address = %ip,
            from = state.standing.as_str(),
            to = to.as_str(),
            check = pool.checks.get(self.check).map_or("", |name| name),
            reason = &*self.report.detail,
            cause = self.report.cause.map(Cause::as_str),
            consecutive = self.transition.map_or(1, |transition| transition.consecutive),
            "backend is {}",
            to.as_str(),
        );
    }

    /// A change of what one check says of it.
    fn log_check(&self, pool: &PoolState, backend: usize, address: usize) {
        let Some(transition) = self.transition else { return };
        let Some((name, ip, _)) = named(pool, backend, address) else { return };
        debug!(
            pool = &**pool.series.name(),
            backend = name,
            address = %ip,
            check = pool.checks.get(self.check).map_or("", |name| name),
            from = standing(transition.from.verdict()).as_str(),
            to = standing(transition.to.verdict()).as_str(),
            reason = &*self.report.detail,
            cause = self.report.cause.map(Cause::as_str),
            consecutive = transition.consecutive,
            "a check has changed its word",
        );
    }
}

fn named(pool: &PoolState, backend: usize, address: usize) -> Option<(&str, IpAddr, &AddressState)> {
    let configured = pool.setup.pool.backends.get(backend)?;
    let ip = configured.addresses.get(address)?;
    Some((&configured.name, *ip, pool.address(backend, address)?))
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
pub(super) fn fair(report: Report, timeout: Duration, stalled: bool) -> Report {
    let overlong = report.duration > timeout.saturating_add(LATE);
    if report.outcome != Outcome::Failed || !(stalled || overlong) {
        return report;
    }
    let detail = format!("no verdict: this process was too late to judge fairly: {}", report.detail).into();
    Report { outcome: Outcome::Void, cause: Some(Cause::Local), detail, ..report }
}

/// Each spell of void outcomes of a target is told once: while it lasts, its state stands still.
fn warn_of_first_void(target: &Target, report: &Report) {
    let was_void = target.last.as_ref().is_some_and(|last| last.outcome == Outcome::Void);
    if report.outcome == Outcome::Void && !was_void {
        let reason = &*report.detail;
        warn!(address = %target.key.host, reason, "an address could not be probed; its state stands still");
    }
}
