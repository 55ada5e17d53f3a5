//! Probes: what is due is started, and what they bring is taken to everyone who wants to know.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::task::{self, JoinError};
use tracing::{debug, error, info, warn};

use crate::checker::calendar::Stamp;
use crate::checker::history::{KeptOutcome, KeptTransition};
use crate::checker::pools::{BackendState, PoolState, standing};
use crate::checker::slots::{Class, Start};
use crate::checker::tally::Tally;
use crate::checker::targets::{Spot, Target, User};
use crate::checker::{AT_ONCE, Checker, LATE, Outside};
use crate::health::{Moment, Outcome, Ticket, Timing, Transition};
use crate::pool::Override;
use crate::probe::{Cause, Probe, Report};
use crate::table::Standing;

/// A probe in flight.
pub(super) struct Running {
    ticket: Ticket,
    started: Moment,
    host: IpAddr,
    class: Class,
}

/// Whether more is due than was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Perhaps.
    More,
    /// Nothing that has a slot.
    Nothing,
}

/// How a probe ended.
pub(super) type Ended = Result<(task::Id, Report), JoinError>;

impl<O: Outside> Checker<O> {
    /// Starts what is due, as far as there are slots and up to [`AT_ONCE`]; the rest waits without
    /// losing of its time.
    pub(super) fn start_due(&mut self) -> Due {
        let now = self.now();
        let mut taken = 0;
        while !self.slots.are_full()
            && taken < AT_ONCE
            && let Some(ticket) = self.health.due(now)
        {
            taken += 1;
            if let Some(target) = self.targets.get(ticket.target) {
                self.slots.ask(ticket, target.key.host, class(&target.key.probe));
            }
            self.start_waiting(now);
        }
        self.start_waiting(now);
        self.metrics.probes_now(self.slots.in_flight(), self.slots.waiting());
        if taken < AT_ONCE { Due::Nothing } else { Due::More }
    }

    fn start_waiting(&mut self, now: Moment) {
        while let Some(start) = self.slots.next(|ticket| self.health.is_current(*ticket)) {
            self.launch(start, now);
        }
    }

    fn launch(&mut self, Start { probe: ticket, host, class }: Start<Ticket>, now: Moment) {
        let Some(target) = self.targets.get_mut(ticket.target) else {
            return self.slots.release(host, class);
        };
        let probe = Arc::clone(&target.key.probe);
        let probe = self.outside.clone().probe(probe, host, target.key.timing.timeout, target.search_charge);
        let task = self.probes.spawn(probe);
        self.running.insert(task.id(), Running { ticket, started: now, host, class });
        target.task = Some(task);
        self.metrics.probe_started(now.saturating_sub(ticket.due));
    }

    /// Takes what a probe brought to everyone who wants to know.
    pub(super) fn take(&mut self, ended: Ended) {
        let task = match &ended {
            Ok((task, _)) => *task,
            Err(broken) => broken.id(),
        };
        let Some(Running { ticket, started, host, class }) = self.running.remove(&task) else { return };
        self.slots.release(host, class);
        if !self.health.is_current(ticket) {
            return;
        }
        let report = ended.map_or_else(|broken| broken_off(&broken), |(_, report)| report);
        let (now, at) = (self.origin.elapsed(), self.stamp());
        let Some(target) = self.targets.get_mut(ticket.target) else { return };
        let Timing { timeout, interval, .. } = target.key.timing;
        let stalled = self.stalled.is_some_and(|stalled| started < stalled);
        let report = fair(report, timeout, stalled);
        let was_held = self.health.held_until(ticket.target).is_some();
        let transition = self.health.handle_outcome(ticket, report.outcome, now, &mut self.rng);
        let is_held = self.health.held_until(ticket.target).is_some();
        target.task = None;
        target.search_charge = report.search_charge;
        let first = report.outcome != Outcome::Void && target.hint.take().is_some();
        if transition.is_some() {
            target.since = at;
            self.untold.state(ticket.target);
        }
        if self.local_faults.are_few() {
            warn_of_first_void(target, &report);
        }
        let Report { outcome, cause, duration, ref detail, .. } = report;
        let detail = Arc::clone(detail);
        self.local_faults.note(target, outcome, &detail);
        target.outcomes.push(KeptOutcome::new(at, duration, outcome, cause, detail));
        let loaded = report.load.is_some_and(|load| target.load.reported(load, interval, now));
        let expires = report.certificate_expires;
        let tell = expires.is_some_and(|expires| target.expiry.seen(expires, self.outside.wall()));
        self.count(ticket, &report);
        if let Some(expires) = expires {
            self.note_expiry(ticket, expires, tell);
        }
        if transition.is_some() || first || was_held != is_held {
            self.judge_users(ticket, transition.as_ref(), &report, at);
        } else if loaded {
            self.weigh_users(ticket, now);
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

    /// Shows when a certificate expires to those who use the target, and tells of it if it is time.
    fn note_expiry(&self, ticket: Ticket, expires: SystemTime, tell: bool) {
        let Some(target) = self.targets.get(ticket.target) else { return };
        for User { spot, check } in &target.users {
            let Some(pool) = self.pools.get(spot.pool) else { continue };
            let check = *check as usize;
            pool.series.certificate_expires(spot.backend as usize, spot.address as usize, check, expires);
            if tell && let Some((name, backend, address)) = self.pools.named(*spot) {
                let check = pool.checks.get(check).map(|name| &**name);
                let date = Timestamp::try_from(expires).map(|date| date.strftime("%Y-%m-%d").to_string());
                let date = date.unwrap_or_default();
                let has = if expires <= self.outside.wall() { "expired" } else { "expires" };
                warn!(pool = name, backend, %address, check, "a certificate {has} on {date}; renew it on the backend");
            }
        }
    }

    /// Judges the addresses that a target is used by anew.
    fn judge_users(&mut self, ticket: Ticket, transition: Option<&Transition>, report: &Report, at: Stamp) {
        let Some(target) = self.targets.get(ticket.target) else { return };
        let now = self.origin.elapsed();
        for User { spot, check } in target.users.clone() {
            let check = self.pools.get(spot.pool).and_then(|pool| pool.checks.get(check as usize)).cloned();
            let reason = Reason {
                check: check.as_deref(),
                detail: &report.detail,
                cause: report.cause,
                consecutive: transition.map(|transition| transition.consecutive),
                asked_by: None,
            };
            if let Some((pool, backend, address)) = self.pools.named(spot)
                && let Some(transition) = transition
            {
                let [from, to] = [transition.from, transition.to].map(|state| standing(state.verdict()));
                reason.log_check(pool, backend, address, from, to);
            }
            self.judge(spot, &reason, now, at);
        }
    }

    /// Judges an address anew, and tells everyone if that changes anything.
    pub(super) fn judge(&mut self, spot: Spot, reason: &Reason<'_>, now: Moment, at: Stamp) {
        let Some(pool) = self.pools.get(spot.pool) else { return };
        let (backend, place) = (spot.backend as usize, spot.address as usize);
        let Some(configured) = pool.setup.pool.backends.get(backend) else { return };
        let Some(address) = pool.address(backend, place) else { return };
        let (to, held) = address.judge(&pool.setup, configured, &self.targets, &self.health);
        let (from, was_held) = (address.standing, address.held);
        if from == to && was_held == held {
            return self.weigh(spot, now);
        }
        let slow_start = pool.setup.pool.slow_start;
        let Some(pool) = self.pools.0.get_mut(spot.pool.index()) else { return };
        pool.change_backend(backend, |backend| {
            let Some(address) = backend.addresses.get_mut(place) else { return };
            (address.standing, address.held) = (to, held);
            if from != to {
                address.since = at;
                address.slow_start.turned(from, to, slow_start, now);
                let detail = Arc::clone(reason.detail);
                address.transitions.push(KeptTransition { at, from, to, cause: reason.cause, detail });
            }
        });
        if from != to {
            // An address that is no longer probed becomes unknown; that is no change of the backend.
            if to == Standing::Unknown {
                pool.series.stands(backend, place, to);
            } else {
                pool.series.changed(backend, place, to);
                let over = pool.backends.get(backend).and_then(BackendState::over);
                let left = pool.tally;
                if let Some(named) = self.pools.named(spot) {
                    reason.log(named, from, to, over, left);
                }
            }
        }
        if was_held != held {
            self.tell_hold(spot, held, to, now);
        }
        self.touched.insert(spot.pool);
        self.weigh(spot, now);
    }

    /// The load of a target has changed.
    fn weigh_users(&mut self, ticket: Ticket, now: Moment) {
        let Some(target) = self.targets.get(ticket.target) else { return };
        let spots: Vec<Spot> = target.users.iter().map(|user| user.spot).collect();
        for spot in spots {
            self.weigh(spot, now);
        }
    }

    /// Works out the share of an address anew, and when it changes by itself.
    pub(super) fn weigh(&mut self, spot: Spot, now: Moment) {
        let Some(pool) = self.pools.0.get_mut(spot.pool.index()) else { return };
        let PoolState { setup, backends, .. } = pool;
        let Some(address) = backends
            .get_mut(spot.backend as usize)
            .and_then(|backend| backend.addresses.get_mut(spot.address as usize))
        else {
            return;
        };
        let (changed, next) = address.weigh(setup, &mut self.targets, now);
        if changed {
            self.touched.insert(spot.pool);
        }
        // One entry for each address: an earlier one finds out that there is nothing to do yet.
        if let Some(next) = next.filter(|next| address.wake.is_none_or(|wake| *next < wake)) {
            address.wake = Some(next);
            self.wakes.push(Reverse((next, spot)));
        }
    }

    /// Looks at the addresses whose share changes by now.
    pub(super) fn weigh_due(&mut self) {
        let now = self.now();
        while let Some(Reverse((due, spot))) = self.wakes.peek().copied().filter(|wake| wake.0.0 <= now) {
            self.wakes.pop();
            if let Some(address) = self.pools.address_mut(spot).filter(|address| address.wake == Some(due)) {
                address.wake = None;
                self.weigh(spot, now);
            }
        }
    }
}

fn class(probe: &Probe) -> Class {
    if matches!(probe, Probe::Exec(_)) { Class::Process } else { Class::Connection }
}

/// The reason why an address is judged anew.
pub(super) struct Reason<'a> {
    /// The check that spoke, if it was one.
    pub(super) check: Option<&'a str>,
    pub(super) detail: &'a Arc<str>,
    pub(super) cause: Option<Cause>,
    /// How many outcomes in a row it took.
    pub(super) consecutive: Option<u16>,
    /// The one who asked for the reload, if it was that.
    pub(super) asked_by: Option<&'a str>,
}

impl Reason<'_> {
    /// A change of the address as a whole, and what is left of the pool after it.
    fn log(
        &self,
        (pool, backend, address): (&str, &str, IpAddr),
        from: Standing,
        to: Standing,
        over: Option<Override>,
        left: Tally,
    ) {
        let overridden = over.map(Override::as_str);
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    pool,
                    backend,
                    %address,
                    from = from.as_str(),
                    to = to.as_str(),
                    check = self.check,
                    reason = &**self.detail,
                    cause = self.cause.map(Cause::as_str),
                    consecutive = self.consecutive,
                    left = left.to_string(),
                    overridden,
                    asked_by = self.asked_by,
                    "backend is {}",
                    to.as_str(),
                )
            };
        }
        // While an operator keeps it out, nothing is lost by its failure.
        if to == Standing::Unhealthy && matches!(over, None | Some(Override::Up)) {
            line!(warn);
        } else {
            line!(info);
        }
    }

    /// A change of what one check says of it.
    fn log_check(&self, pool: &str, backend: &str, address: IpAddr, from: Standing, to: Standing) {
        debug!(
            pool,
            backend,
            %address,
            check = self.check,
            from = from.as_str(),
            to = to.as_str(),
            reason = &**self.detail,
            cause = self.cause.map(Cause::as_str),
            consecutive = self.consecutive,
            "a check has changed its word",
        );
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
        certificate_expires: None,
        duration: Duration::ZERO,
        phases: Vec::new(),
        search_charge: Duration::ZERO,
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
    let was_void = target.outcomes.last() == Some(Outcome::Void);
    if report.outcome == Outcome::Void && !was_void {
        let reason = &*report.detail;
        warn!(address = %target.key.host, reason, "an address could not be probed; its state stands still");
    }
}
