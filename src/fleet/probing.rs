//! Starts probes, and applies their reports to the addresses that use the target.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rand::Rng;
use tracing::{debug, warn};

use crate::check::{Probe, Timing};
use crate::events::{Teller, tell};
use crate::fleet::history::{KeptTransition, NewOutcome};
use crate::fleet::pools::{BackendState, standing};
use crate::fleet::slots::{Class, Start};
use crate::fleet::tally::Tally;
use crate::fleet::targets::{Spot, Target, User};
use crate::fleet::{AT_ONCE, Fleet, LATE};
use crate::health::{Moment, Outcome, Ticket, Transition};
use crate::pool::Override;
use crate::probe::{Cause, Report};
use crate::table::Standing;

/// A probe to start.
#[derive(Debug)]
pub struct Launch {
    /// The probe with its inputs.
    pub run: ProbeRun,
    /// To return with the report.
    pub running: Running,
}

/// One run of a probe: the inputs of [`run_after`](crate::probe::run_after).
#[derive(Debug)]
pub struct ProbeRun {
    /// The probe.
    pub probe: Arc<Probe>,
    /// Its destination.
    pub address: IpAddr,
    /// Its time limit.
    pub timeout: Duration,
    /// The charge for searches that an earlier run left.
    pub search_charge: Duration,
}

/// A running probe: its slot, and the permission to report once. Each running probe has exactly one.
#[derive(Debug)]
#[must_use = "the slot of a probe is given back with its Running"]
pub struct Running {
    ticket: Ticket,
    started: Moment,
    host: IpAddr,
    class: Class,
}

#[cfg(test)]
impl Running {
    /// A second permission to report, for a probe of this host.
    pub(super) fn copy(&self, host: IpAddr) -> Self {
        Self { host, ..*self }
    }
}

/// Whether more probes are due than were started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Possibly.
    More,
    /// No probe that has a slot.
    Nothing,
}

impl Fleet {
    /// Takes up to [`AT_ONCE`] due targets, and adds the probes that have a slot to `launches`. The others
    /// wait; their time limit begins when they start.
    pub fn start_due(&mut self, launches: &mut Vec<Launch>) -> Due {
        let mut taken = 0;
        while !self.slots.are_full()
            && taken < AT_ONCE
            && let Some(ticket) = self.health.due(self.now)
        {
            taken += 1;
            if let Some(target) = self.targets.get(ticket.target) {
                self.slots.ask(ticket, target.key.host, class(&target.key.probe));
            }
            self.start_waiting(launches);
        }
        self.start_waiting(launches);
        self.metrics.probes_now(self.slots.in_flight(), self.slots.waiting());
        if taken < AT_ONCE { Due::Nothing } else { Due::More }
    }

    fn start_waiting(&mut self, launches: &mut Vec<Launch>) {
        while let Some(start) = self.slots.next(|ticket| self.health.is_current(*ticket)) {
            let Start { probe: ticket, host, class } = start;
            let Some(target) = self.targets.get(ticket.target) else {
                self.slots.release(host, class);
                continue;
            };
            let run = ProbeRun {
                probe: Arc::clone(&target.key.probe),
                address: host,
                timeout: target.key.timing.timeout,
                search_charge: target.search_charge,
            };
            launches.push(Launch { run, running: Running { ticket, started: self.now, host, class } });
            self.metrics.probe_started(self.now.saturating_sub(ticket.due));
        }
    }

    /// Whether the report of a probe is still wanted. If it is not, after a reload, the probe should be
    /// ended; its `Running` must be returned anyway.
    #[must_use]
    pub fn wants(&self, running: &Running) -> bool {
        self.health.is_current(running.ticket)
    }

    /// Handles the report of a probe. `rng` varies when the next one is due.
    #[allow(clippy::needless_pass_by_value, reason = "a `Running` is given back once")]
    pub fn ended(&mut self, running: Running, report: Report, rng: &mut impl Rng) {
        let Running { ticket, started, host, class } = running;
        self.slots.release(host, class);
        if !self.health.is_current(ticket) {
            return;
        }
        let (now, at) = (self.now, self.at);
        let wall = self.calendar.shown(at);
        let Some(target) = self.targets.get_mut(ticket.target) else { return };
        let Timing { timeout, interval, .. } = *target.key.timing;
        let stalled = self.stalled.is_some_and(|stalled| started < stalled);
        let report = fair(report, timeout, stalled);
        let was_held = self.health.held_until(ticket.target).is_some();
        let transition = self.health.handle_outcome(ticket, report.outcome, now, rng);
        let is_held = self.health.held_until(ticket.target).is_some();
        target.search_charge = report.search_charge;
        let first = report.outcome != Outcome::Void && target.hint.take().is_some();
        if transition.is_some() {
            target.since = at;
            self.unreported.state(ticket.target);
        }
        if self.local_faults.are_few() {
            warn_of_first_void(target, &report);
        }
        let Report { outcome, cause, duration, ref detail, .. } = report;
        let detail = Arc::clone(detail);
        self.local_faults.note(target, outcome, &detail);
        target.outcomes.push(NewOutcome { at, duration, outcome, cause, detail });
        let loaded = report.load.is_some_and(|load| target.load.reported(load, interval, now));
        let expires = report.certificate_expires;
        let soon = target.expiry.soon();
        let tell = expires.is_some_and(|expires| target.expiry.seen(expires, wall));
        let pools = target.users.iter().map(|user| user.spot.pool);
        self.expiring.change(ticket.target, pools, [soon, target.expiry.soon()]);
        self.count(ticket, &report);
        if let Some(expires) = expires {
            self.note_expiry(ticket, expires, wall, tell);
        }
        self.doubt(ticket.target);
        if transition.is_some() || first || was_held != is_held {
            self.judge_users(ticket, transition.as_ref(), &report);
        } else if loaded {
            self.weigh_users(ticket.target);
        }
    }

    /// Counts an outcome once per backend that uses the target.
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

    /// Exports when a certificate expires, and tells it if it is due.
    fn note_expiry(&self, ticket: Ticket, expires: SystemTime, wall: SystemTime, tell: bool) {
        let Some(target) = self.targets.get(ticket.target) else { return };
        for User { spot, check } in &target.users {
            let Some(pool) = self.pools.get(spot.pool) else { continue };
            let check = *check as usize;
            pool.series.certificate_expires(spot.backend as usize, spot.address as usize, check, expires);
            if tell && let Some((name, backend, address)) = self.pools.named(*spot) {
                let check = pool.checks.get(check).map(|name| &**name);
                let date = Timestamp::try_from(expires).map(|date| date.strftime("%Y-%m-%d").to_string());
                let date = date.unwrap_or_default();
                let has = if expires <= wall { "expired" } else { "expires" };
                tell!(self.teller, warn, Certificate, pool = name, backend, %address, check, "a certificate {has} on {date}; renew it on the backend");
            }
        }
    }

    /// Evaluates all addresses that use a target.
    fn judge_users(&mut self, ticket: Ticket, transition: Option<&Transition>, report: &Report) {
        let Some(target) = self.targets.get(ticket.target) else { return };
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
            self.judge(spot, &reason);
        }
    }

    /// Evaluates an address from its checks. If its standing changes, counts and tells it, and marks the pool
    /// for the next table.
    pub(super) fn judge(&mut self, spot: Spot, reason: &Reason<'_>) {
        let (now, at) = (self.now, self.at);
        let Some(pool) = self.pools.get(spot.pool) else { return };
        let (backend, place) = (spot.backend as usize, spot.address as usize);
        let Some(configured) = pool.setup.pool.backends.get(backend) else { return };
        let Some(address) = pool.address(backend, place) else { return };
        let (to, held) = address.judge(&pool.setup, configured, &self.targets, &self.health);
        let (from, was_held) = (address.standing, address.held);
        if from == to && was_held == held {
            return self.weigh(spot);
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
            // An address that is no longer probed becomes unknown. This says nothing about the backend.
            if to == Standing::Unknown {
                pool.series.stands(backend, place, to);
            } else {
                pool.series.changed(backend, place, to);
                let over = pool.backends.get(backend).and_then(BackendState::over);
                let left = pool.tally;
                if let Some(named) = self.pools.named(spot) {
                    reason.tell(named, (from, to), over, left, &self.teller);
                }
            }
        }
        if was_held != held {
            self.tell_hold(spot, held, to);
        }
        self.touched.insert(spot.pool);
        self.weigh(spot);
    }
}

fn class(probe: &Probe) -> Class {
    if matches!(probe, Probe::Exec(_)) { Class::Process } else { Class::Connection }
}

/// Why an address is evaluated again.
pub(super) struct Reason<'a> {
    /// The check whose outcome caused it, if any.
    pub(super) check: Option<&'a str>,
    pub(super) detail: &'a Arc<str>,
    pub(super) cause: Option<Cause>,
    /// The number of consecutive outcomes of this check that led to its change of state, if it changed.
    pub(super) consecutive: Option<u16>,
    /// The author of the reload, if it was one.
    pub(super) asked_by: Option<&'a str>,
}

impl Reason<'_> {
    /// Tells a change of the address, and how much of the pool is healthy after it.
    fn tell(
        &self,
        (pool, backend, address): (&str, &str, IpAddr),
        (from, to): (Standing, Standing),
        over: Option<Override>,
        left: Tally,
        teller: &Teller,
    ) {
        let overridden = over.map(Override::as_str);
        macro_rules! line {
            ($level:ident) => {
                tell!(
                    teller,
                    $level,
                    Transition,
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
        // While an operator keeps the address out, its failure costs nothing.
        if to == Standing::Unhealthy && matches!(over, None | Some(Override::Up)) {
            line!(warn);
        } else {
            line!(info);
        }
    }

    /// Logs a change of one check.
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
            "the result of a check has changed",
        );
    }
}

/// Makes a failure void if this process may have seen the answer too late.
fn fair(report: Report, timeout: Duration, stalled: bool) -> Report {
    let overlong = report.duration > timeout.saturating_add(LATE);
    if report.outcome != Outcome::Failed || !(stalled || overlong) {
        return report;
    }
    let detail = format!("no verdict: this process was too late to judge: {}", report.detail).into();
    Report { outcome: Outcome::Void, cause: Some(Cause::Local), detail, ..report }
}

/// Logs the first of several consecutive void outcomes. The state of the target does not change.
fn warn_of_first_void(target: &Target, report: &Report) {
    let was_void = target.outcomes.last() == Some(Outcome::Void);
    if report.outcome == Outcome::Void && !was_void {
        let reason = &*report.detail;
        warn!(address = %target.key.host, reason, "an address could not be probed; its state stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_failures_of_late_probes_are_void() {
        let report = |outcome, duration| Report {
            outcome,
            cause: None,
            detail: "x".into(),
            load: None,
            certificate_expires: None,
            duration,
            phases: Vec::new(),
            search_charge: Duration::ZERO,
        };
        let judged = |outcome, duration, stalled| fair(report(outcome, duration), SECOND, stalled).outcome;
        assert_eq!(judged(Outcome::Failed, SECOND + LATE, false), Outcome::Failed);
        assert_eq!(judged(Outcome::Failed, SECOND * 2, false), Outcome::Void);
        assert_eq!(judged(Outcome::Failed, Duration::ZERO, true), Outcome::Void);
        assert_eq!(judged(Outcome::Passed, SECOND * 2, true), Outcome::Passed);
    }
}
