//! Health of backend addresses, without IO: takes outcomes and the time, returns transitions.
//!
//! This module contains no DNS, sockets or clocks; time ([`Moment`]) and random numbers are arguments. A
//! *target* is a backend address probed with one check. `fleet` maps targets to addresses and pools, and
//! combines the checks of an address.
//!
//! ```text
//!             +-- schedule   when is the next probe due? -------------------+
//!             v                                                             |
//!   due() -> Ticket ... probe ... Outcome -> handle_outcome() -> Transition |
//!                                              |      |                     |
//!                       state      thresholds: does it flip? ---------------+
//!                       suspicion  not while nearly all of its group fails at once
//!                       damping    not yet, if it has fallen too often
//! ```
//!
//! # Guarantees to operators
//!
//! A dead address is detected within
//!
//! ```text
//! interval + jitter + fall x (time to fail) + (fall - 1) x recheck
//! ```
//!
//! where the time to fail is almost 0 if it refuses connections, and the timeout if it is silent. Jitter is
//! at most 5 % of the interval. A recovered address returns within the same sum with `interval_down`, `rise`
//! and the time to pass, and after its hold if it keeps falling (see [`LONGEST_HOLD`]). If nearly all of a
//! group fails at once, deaths are detected later by up to the longest interval of the group, once per event
//! (see [`Suspicion`]).
//!
//! With the default timing (interval 5 s, timeout 2 s, rise 2, fall 3, recheck 1 s), measured on a
//! virtual clock:
//!
//! ```text
//! an address that      is detected after  p50       p99
//! refuses              2 to 7.25 s        4.5 s     7.0 s     10,000 deaths at random moments
//! is silent            8 to 13.25 s       10.5 s    13.0 s    the same
//!
//! a backend stalls     1 s    2 s    3 s    5 s    7 s    10 s    15 s
//! and answers late     0 %    0 %    0 %    0 %    0 %    40 %    100 %     of stalls flip it
//!                                                        3.0 s   6.4 s     out of answers, mean
//! and refuses          0 %    0 %    20 %   60 %   99 %   100 %   100 %
//!                                    4.0 s  4.1 s  6.0 s  9.0 s   14.0 s
//!
//! this process stalls  1 s    3 s    5 s    10 s   30 s       failures in the meantime are void:
//!                      none flips any state; a death is detected later by up to the stall and 7 s,
//!                      an interval and a timeout
//!
//! one probe in five fails at random     0.93 falls in ten minutes
//!                                       4 % of the time out of answers, 1 % without damping
//! ```
//!
//! A void outcome ([`Outcome::Void`]) never counts against an address and never brings the next probe
//! forward. Each one delays a verdict by up to an interval.

mod damping;
mod schedule;
#[cfg(test)]
#[allow(clippy::unchecked_time_subtraction, reason = "a time that runs backwards fails the test")]
pub(crate) mod simulation;
mod state;
mod suspicion;
#[cfg(test)]
#[allow(clippy::unchecked_time_subtraction, reason = "a time that runs backwards fails the test")]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use crate::check::Timing;

use damping::Damping;
use schedule::{Rhythm, Schedule};
use suspicion::Suspicions;

pub use damping::{DAMPED_FALLS, DAMPING_WINDOW, FIRST_HOLD, LONGEST_HOLD};
pub use schedule::{FIRST_ROUND, longest_jitter};
pub use state::{Against, State};
pub use suspicion::{Alarm, Group, LEAST_WATCHED, Suspicion};

/// Time since the checker started. It is monotonic; the wall clock is only for display.
pub type Moment = Duration;

/// The time between two probes while no outcome contradicts the state. A held address is alive, so it is
/// probed like a healthy one.
fn period(timing: &Timing, state: State) -> Duration {
    let down = state.verdict() == Some(Verdict::Unhealthy) && !state.is_held(timing);
    if down { timing.interval_down } else { timing.interval }
}

/// The result of a probe of a backend address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The backend passed the check.
    Passed,
    /// The backend is alive, but wants no new clients.
    Draining,
    /// The backend failed the check.
    Failed,
    /// The probe could not run properly because of a fault of this machine: no verdict on the backend.
    Void,
}

/// A state without its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// May be in answers.
    Healthy,
    /// Alive, but wants no new clients.
    Draining,
    /// Must not be in answers.
    Unhealthy,
}

/// Index of a target, valid within one [`HealthTable`] until the target is removed. Ids are reused,
/// so they stay dense from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId(pub u32);

impl TargetId {
    /// The id as an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Permission to run one probe and report its outcome once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The target to probe.
    pub target: TargetId,
    /// When the probe was due. If it starts later, the difference is lag of this process.
    pub due: Moment,
    serial: u64,
}

/// A change of the verdict on an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The probed target.
    pub target: TargetId,
    /// The state before the outcome.
    pub from: State,
    /// The state after it.
    pub to: State,
    /// The number of outcomes in a row that caused it: 1 for the first outcome ever, otherwise `rise` or
    /// `fall`.
    pub consecutive: u16,
}

/// How far a target is on its way to another verdict, for a process that goes on with it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetProgress {
    /// Its state, with the count.
    pub state: State,
    /// The number of its falls that damping counts.
    pub falls: u8,
    /// The rest of its hold.
    pub hold: Option<Duration>,
}

/// All targets: their states and their next probes.
///
/// A target is either in the queue or in flight, so at most one probe of it is in flight:
///
/// ```text
///  add -> waiting --due()--> in flight --handle_outcome()--> waiting ...
///            |                   |
///            +----- remove() ----+--> gone: an outstanding ticket is ignored
/// ```
#[derive(Debug, Default)]
pub struct HealthTable {
    /// By [`TargetId`]; `None` for a removed target whose id is free.
    targets: Vec<Option<ScheduledTarget>>,
    /// Free ids.
    free: Vec<TargetId>,
    queue: Schedule,
    /// The number of targets without an outcome.
    unknown: usize,
    /// The number of tickets issued so far. Ticket numbers are unique, so a ticket of a removed
    /// target is never mistaken for one of its successor.
    serial: u64,
    suspicions: Suspicions,
}

#[derive(Debug)]
struct ScheduledTarget {
    /// Shared by all targets that have the same.
    timing: Arc<Timing>,
    rhythm: Rhythm,
    state: State,
    turn: Turn,
    damping: Damping,
}

/// The position of a target in its probe cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// In the queue, due at this moment.
    Waiting(Moment),
    /// The ticket with this number is outstanding.
    InFlight(u64),
}

impl HealthTable {
    /// A table without targets.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a target; its first probe is due within [`FIRST_ROUND`].
    ///
    /// `verdict` is the initial verdict, for example that of a check that this one replaces.
    pub fn add(
        &mut self,
        timing: impl Into<Arc<Timing>>,
        verdict: Option<Verdict>,
        now: Moment,
        rng: &mut impl Rng,
    ) -> TargetId {
        // Ids have 32 bits: 2^32 targets would not fit into memory.
        let next = TargetId(u32::try_from(self.targets.len()).unwrap_or(u32::MAX));
        let id = self.free.pop().unwrap_or(next);
        let (timing, state) = (timing.into(), State::from(verdict));
        let first = schedule::first(period(&timing, state), now, rng);
        let (rhythm, turn, damping) = (Rhythm::new(rng), Turn::Waiting(first), Damping::default());
        let target = ScheduledTarget { timing, rhythm, state, turn, damping };
        match self.targets.get_mut(id.index()) {
            Some(slot) => *slot = Some(target),
            None => self.targets.push(Some(target)),
        }
        self.queue.push(first, id);
        self.suspicions.add(id, verdict);
        self.unknown += usize::from(verdict.is_none());
        id
    }

    /// How far a target is; `None` before its first outcome.
    #[must_use]
    pub fn progress(&self, id: TargetId, now: Moment) -> Option<TargetProgress> {
        let ScheduledTarget { state, damping, .. } = self.get(id)?;
        let hold = damping.until().map(|until| until.saturating_sub(now));
        state.verdict().map(|_| TargetProgress { state: *state, falls: damping.falls(), hold })
    }

    /// Goes on from where a target was in the previous process, if it was added with that verdict. Its falls count
    /// from now on.
    pub fn resume(&mut self, id: TargetId, progress: TargetProgress, now: Moment) {
        let target = self.targets.get_mut(id.index()).and_then(Option::as_mut);
        let Some(target) = target.filter(|target| target.state.is_same_verdict(progress.state)) else {
            return;
        };
        target.state = progress.state;
        target.damping =
            Damping::resumed(progress.falls, progress.hold.map(|hold| now.saturating_add(hold)), now);
    }

    /// Removes a target from the queue and from its groups; its outstanding ticket is ignored. Its
    /// id is reused for a later target. Ignores a target that does not exist.
    pub fn remove(&mut self, id: TargetId) {
        let Some(target) = self.targets.get_mut(id.index()).and_then(Option::take) else { return };
        if let Turn::Waiting(due) = target.turn {
            self.queue.remove(due, id);
        }
        self.suspicions.remove(id);
        self.unknown -= usize::from(target.state == State::Unknown);
        self.free.push(id);
    }

    /// The next moment at which [`HealthTable::due`] returns a ticket or a suspicion ends. `None`
    /// if every target is in flight and nothing is suspected.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        self.next_due().into_iter().chain(self.next_end()).min()
    }

    /// When the next probe is due. `None` if every target is in flight.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        self.queue.next()
    }

    /// When the next suspicion ends. `None` if nothing is suspected.
    #[must_use]
    pub fn next_end(&self) -> Option<Moment> {
        self.suspicions.next_end()
    }

    /// Takes the target that has been due the longest and marks it in flight. `None` if no target
    /// is due yet.
    pub fn due(&mut self, now: Moment) -> Option<Ticket> {
        self.suspicions.expire(now);
        let (due, id) = self.queue.pop_due(now)?;
        let target = self.targets.get_mut(id.index())?.as_mut()?;
        self.serial += 1;
        target.turn = Turn::InFlight(self.serial);
        Some(Ticket { target: id, due, serial: self.serial })
    }

    /// Whether an outcome for this ticket would be accepted: none was reported yet, and the target
    /// still exists.
    #[must_use]
    pub fn is_current(&self, ticket: Ticket) -> bool {
        self.get(ticket.target).is_some_and(|target| target.turn == Turn::InFlight(ticket.serial))
    }

    fn get(&self, id: TargetId) -> Option<&ScheduledTarget> {
        self.targets.get(id.index())?.as_ref()
    }

    /// Takes the outcome of a probe and schedules the next one. Ignores a ticket that is not
    /// current (see [`HealthTable::is_current`]).
    pub fn handle_outcome(
        &mut self,
        ticket: Ticket,
        outcome: Outcome,
        now: Moment,
        rng: &mut impl Rng,
    ) -> Option<Transition> {
        if !self.is_current(ticket) {
            return None;
        }
        let target = self.targets.get_mut(ticket.target.index())?.as_mut()?;
        target.damping.forget(now);
        let from = target.state;
        let stays = match outcome {
            Outcome::Failed => {
                target.damping.leave_way_back();
                self.suspicions.fail(ticket.target, now)
            }
            Outcome::Passed | Outcome::Draining => {
                let unhealthy = from.verdict() == Some(Verdict::Unhealthy);
                unhealthy && target.timing.damping && target.damping.holds(now)
            }
            Outcome::Void => false,
        };
        let to = from.after(outcome, &target.timing, stays);
        target.state = to;
        self.suspicions.settle(ticket.target, outcome, to.verdict());
        let next = target.next(outcome, now, rng);
        target.turn = Turn::Waiting(next);
        self.queue.push(next, ticket.target);
        if from.is_same_verdict(to) {
            return None;
        }
        if from == State::Unknown {
            self.unknown -= 1;
        } else if to.verdict() == Some(Verdict::Unhealthy) && target.timing.damping {
            target.damping.fall(now);
        }
        target.damping.leave_way_back();
        Some(Transition { target: ticket.target, from, to, consecutive: from.contradictions() + 1 })
    }

    /// The state of a target; `Unknown` if it does not exist.
    #[must_use]
    pub fn state(&self, target: TargetId) -> State {
        self.get(target).map_or(State::Unknown, |target| target.state)
    }

    /// Whether every target has had an outcome.
    #[must_use]
    pub fn all_known(&self) -> bool {
        self.unknown == 0
    }

    /// The number of targets without an outcome.
    #[must_use]
    pub fn unknown(&self) -> usize {
        self.unknown
    }

    /// The end of a target's hold. The target returns with its first passed outcome from then on.
    /// `None` if it is not held.
    #[must_use]
    pub fn held_until(&self, target: TargetId) -> Option<Moment> {
        self.get(target).filter(|target| target.state.is_held(&target.timing))?.damping.until()
    }

    /// When the verdict on a target may change at the earliest, if its last outcome contradicts its state or it has
    /// had no outcome. `None` if nothing is pending.
    #[must_use]
    pub fn earliest_change(&self, target: TargetId) -> Option<Moment> {
        let target = self.get(target)?;
        let next = match target.turn {
            Turn::Waiting(due) => due,
            // It may end at any time.
            Turn::InFlight(_) => Moment::ZERO,
        };
        let missing = target.state.missing(&target.timing)?;
        let recheck = target.timing.recheck.min(period(&target.timing, target.state));
        let completed = next.saturating_add(recheck.saturating_mul(u32::from(missing.saturating_sub(1))));
        Some(target.damping.until().map_or(completed, |end| completed.max(end)))
    }

    /// The number of falls within [`DAMPING_WINDOW`], as of the last outcome. At most 7, because more make
    /// no difference; 0 without damping.
    #[must_use]
    pub fn flaps(&self, target: TargetId) -> u8 {
        self.get(target).map_or(0, |target| target.damping.falls())
    }

    /// Replaces all groups. An active suspicion moves to the new group of the same pool and pace,
    /// and ends if there is none.
    pub fn set_groups(&mut self, groups: Vec<Group>, now: Moment) {
        let targets = &self.targets;
        let timing = |id: TargetId| Some(&*targets.get(id.index())?.as_ref()?.timing);
        self.suspicions.set_groups(groups, timing, now);
    }

    /// The active suspicions, as of the last call with a time.
    pub fn suspicions(&self) -> impl Iterator<Item = &Suspicion> {
        self.suspicions.iter()
    }

    /// The alarms that began or ended since the last call, in order. They are kept until this is
    /// called, so a caller of [`HealthTable::set_groups`] must call it.
    pub fn take_alarms(&mut self, now: Moment) -> Vec<Alarm> {
        self.suspicions.take_alarms(now)
    }
}

impl ScheduledTarget {
    /// The due time of the next probe after an outcome.
    fn next(&self, outcome: Outcome, now: Moment, rng: &mut impl Rng) -> Moment {
        let period = period(&self.timing, self.state);
        // A fault of this machine is no reason to probe sooner. Neither is a hold: the address has passed
        // often enough, and only has to wait.
        if self.state.in_doubt() && outcome != Outcome::Void && !self.state.is_held(&self.timing) {
            now.saturating_add(self.timing.recheck.min(period))
        } else {
            self.rhythm.regular(period, self.timing.timeout, now, rng)
        }
    }
}
