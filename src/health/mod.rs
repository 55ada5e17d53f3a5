//! Health of backend addresses, sans-IO: outcomes and the time go in, transitions come out.
//!
//! Nothing here knows DNS, sockets or clocks. Time is an argument ([`Moment`]), and so is chance.
//! A backend address that is probed in one way is a *target* here; who it is, which pools ask, and
//! what several checks of it say together is `checker`'s.
//!
//! ```text
//!             +-- schedule   when is it probed next? ------------------------+
//!             v                                                              |
//!   due() -> Ticket ... probe ... Outcome -> handle_outcome() -> Transition  |
//!                                              |      |                      |
//!                       state      thresholds: does it flip? ----------------+
//!                       suspicion  not while nearly all of its group fails at once
//!                       damping    not yet, if it has fallen again and again
//! ```
//!
//! # Guarantees to operators
//!
//! An address that dies is found at the latest after
//!
//! ```text
//! interval + jitter + fall x (time to fail) + (fall - 1) x recheck
//! ```
//!
//! where the time to fail is about nothing when it refuses, and the timeout when it is silent; jitter
//! is at most 5 % of the interval. One that is well again returns at the latest after the same sum
//! with `interval_down`, `rise` and the time to pass, and after its hold if it keeps falling (see
//! [`LONGEST_HOLD`]). Where nearly all of a group fails at once, deaths are found later by the longest
//! interval of the group at most, once for each such event (see [`Suspicion`]).
//!
//! With the default timing (interval 5 s, timeout 2 s, rise 2, fall 3, recheck 1 s), as measured on a
//! virtual clock:
//!
//! ```text
//! an address that      is found after    p50       p99
//! refuses              2 to 7.25 s       4.5 s     7.0 s      10,000 deaths at random moments
//! is silent            8 to 13.25 s      10.5 s    13.0 s     the same
//!
//! a backend stalls     1 s    2 s    3 s    5 s    7 s    10 s    15 s
//! and answers late     0 %    0 %    0 %    0 %    0 %    40 %    100 %     of stalls flip it
//!                                                        3.0 s   6.4 s     out of answers, mean
//! and refuses          0 %    0 %    20 %   60 %   99 %   100 %   100 %
//!                                    4.0 s  4.1 s  6.0 s  9.0 s   14.0 s
//!
//! this process stalls  1 s    3 s    5 s    10 s   30 s       what failed meanwhile is void:
//!                      none of them flips anybody; a death is found later by up to the stall and 7 s,
//!                      an interval and a timeout
//!
//! one probe in five fails at random     0.93 falls in ten minutes
//!                                       4 % of the time out of answers, 1 % without damping
//! ```
//!
//! A void outcome ([`Outcome::Void`]) is never held against an address, and never brings a probe
//! sooner; each one puts a verdict off by up to an interval.

mod damping;
mod schedule;
#[cfg(test)]
#[allow(clippy::unchecked_time_subtraction, reason = "a time that runs backwards fails the test")]
mod simulation;
mod state;
mod suspicion;
#[cfg(test)]
#[allow(clippy::unchecked_time_subtraction, reason = "a time that runs backwards fails the test")]
mod tests;

use std::time::Duration;

use rand::Rng;

use damping::Damping;
use schedule::{Queue, Rhythm};
use suspicion::Suspicions;

pub use damping::{DAMPED_FALLS, DAMPING_WINDOW, FIRST_HOLD, LONGEST_HOLD};
pub use schedule::FIRST_ROUND;
pub use state::{Against, State};
pub use suspicion::{Alarm, Group, LEAST_WATCHED, Suspicion};

/// Time since the checker started. Monotonic; the wall clock is for display only.
pub type Moment = Duration;

/// When a probe runs and how many outcomes flip a state. The limits are those of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// From one probe to the next.
    pub interval: Duration,
    /// The longest a probe may take; below `interval`.
    pub timeout: Duration,
    /// Consecutive passed probes that make an unhealthy address healthy, at least 1.
    pub rise: u16,
    /// Consecutive failed probes that make a healthy address unhealthy, at least 1.
    pub fall: u16,
    /// From an outcome that contradicts the state to the next probe; not above `interval`.
    pub recheck: Duration,
    /// From one probe to the next while the address is unhealthy; above `timeout`.
    pub interval_down: Duration,
    /// Whether an address that keeps changing has to stay healthy for longer before it returns.
    pub damping: bool,
}

impl Timing {
    /// From one probe to the next while nothing contradicts the state. An address that is held by
    /// damping is alive, so it is probed like a healthy one.
    fn period(&self, state: State) -> Duration {
        let down = state.verdict() == Some(Verdict::Unhealthy) && !state.is_held(self);
        if down { self.interval_down } else { self.interval }
    }
}

/// The result of a probe of a backend address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The backend did what the check asks for.
    Passed,
    /// It is alive and asks for no new clients.
    Draining,
    /// It did not.
    Failed,
    /// The probe could not be made, or not fairly: a fault of this machine, no verdict on the backend.
    Void,
}

/// The verdict of a state, without its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// May be answered.
    Healthy,
    /// Alive, but asks for no new clients.
    Draining,
    /// May not be answered.
    Unhealthy,
}

/// Index of a target, valid within one [`HealthTable`] until it is removed. The ids of removed
/// targets are used again, so they stay dense from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId(pub u32);

impl TargetId {
    /// The id as an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The right to run one probe, and to bring its outcome back once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The target to probe.
    pub target: TargetId,
    /// When that was due: how much later the probe starts is lag of this process.
    pub due: Moment,
    serial: u64,
}

/// An address has become healthy or unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The probed target.
    pub target: TargetId,
    /// The state before the outcome.
    pub from: State,
    /// The state after it.
    pub to: State,
    /// Outcomes in a row that brought it about: 1 for the first one, else `rise` or `fall`.
    pub consecutive: u16,
}

/// All targets: their states, and what is due when.
///
/// A target is either in the queue or in flight, never both, so at most one probe of it is in
/// flight at any time:
///
/// ```text
///  add -> waiting --due()--> in flight --handle_outcome()--> waiting ...
///            |                   |
///            +----- remove() ----+--> gone: a ticket that is still out changes nothing
/// ```
#[derive(Debug, Default)]
pub struct HealthTable {
    /// By [`TargetId`]; none where a target was removed and its id waits to be used again.
    targets: Vec<Option<Target>>,
    /// Ids without a target.
    free: Vec<TargetId>,
    queue: Queue,
    /// How many targets have had no outcome.
    unknown: usize,
    /// How many tickets have been given out. No two tickets have the same number, so one that
    /// belongs to a removed target is never taken for one of its successor.
    serial: u64,
    suspicions: Suspicions,
}

#[derive(Debug)]
struct Target {
    timing: Timing,
    rhythm: Rhythm,
    state: State,
    turn: Turn,
    damping: Damping,
}

/// Where a target stands in its round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// In the queue, due at that moment.
    Waiting(Moment),
    /// The ticket of that number is out.
    InFlight(u64),
}

impl HealthTable {
    /// A table without targets.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a target, first due within [`FIRST_ROUND`].
    ///
    /// With a `verdict`, as of the check that this one replaces, it starts from there.
    pub fn add(
        &mut self,
        timing: Timing,
        verdict: Option<Verdict>,
        now: Moment,
        rng: &mut impl Rng,
    ) -> TargetId {
        // Ids are four bytes: 2^32 targets are far more than the memory for them.
        let next = TargetId(u32::try_from(self.targets.len()).unwrap_or(u32::MAX));
        let id = self.free.pop().unwrap_or(next);
        let state = State::from(verdict);
        let first = schedule::first(timing.period(state), now, rng);
        let (rhythm, turn, damping) = (Rhythm::new(rng), Turn::Waiting(first), Damping::default());
        let target = Target { timing, rhythm, state, turn, damping };
        match self.targets.get_mut(id.index()) {
            Some(slot) => *slot = Some(target),
            None => self.targets.push(Some(target)),
        }
        self.queue.push(first, id);
        self.suspicions.add(id, verdict);
        self.unknown += usize::from(verdict.is_none());
        id
    }

    /// Removes a target. It is no longer due, a ticket of it that is out changes nothing, and it
    /// leaves its groups. Its id goes to a target that is added later. A target that does not exist
    /// is no error.
    pub fn remove(&mut self, id: TargetId) {
        let Some(target) = self.targets.get_mut(id.index()).and_then(Option::take) else { return };
        if let Turn::Waiting(due) = target.turn {
            self.queue.remove(due, id);
        }
        self.suspicions.remove(id);
        self.unknown -= usize::from(target.state == State::Unknown);
        self.free.push(id);
    }

    /// The moment at which [`HealthTable::due`] has something to give or a suspicion ends; `None`
    /// while every target is in flight and nobody is suspected.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        self.queue.next().into_iter().chain(self.suspicions.next_end()).min()
    }

    /// Takes the target that has been due the longest and marks it in flight. With `None` the next
    /// deadline lies in the future.
    pub fn due(&mut self, now: Moment) -> Option<Ticket> {
        self.suspicions.expire(now);
        let (due, id) = self.queue.pop_due(now)?;
        let target = self.targets.get_mut(id.index())?.as_mut()?;
        self.serial += 1;
        target.turn = Turn::InFlight(self.serial);
        Some(Ticket { target: id, due, serial: self.serial })
    }

    /// Whether an outcome for this ticket would still be taken: neither has one been, nor has the
    /// target been removed.
    #[must_use]
    pub fn is_current(&self, ticket: Ticket) -> bool {
        self.get(ticket.target).is_some_and(|target| target.turn == Turn::InFlight(ticket.serial))
    }

    fn get(&self, id: TargetId) -> Option<&Target> {
        self.targets.get(id.index())?.as_ref()
    }

    /// Takes what a probe brought and schedules the next one. A ticket that is not current (see
    /// [`HealthTable::is_current`]) changes nothing.
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

    /// The state of a target; unknown for one that does not exist.
    #[must_use]
    pub fn state(&self, target: TargetId) -> State {
        self.get(target).map_or(State::Unknown, |target| target.state)
    }

    /// Whether every target has had its first outcome.
    #[must_use]
    pub fn all_known(&self) -> bool {
        self.unknown == 0
    }

    /// How many targets have had no outcome.
    #[must_use]
    pub fn unknown(&self) -> usize {
        self.unknown
    }

    /// Until when a target is kept out although it passes its checks: the end of its hold. It
    /// returns with the first passed outcome from then on. `None` for one that is not held.
    #[must_use]
    pub fn held_until(&self, target: TargetId) -> Option<Moment> {
        self.get(target).filter(|target| target.state.is_held(&target.timing))?.damping.until()
    }

    /// Falls within [`DAMPING_WINDOW`], as of the last outcome; at most 7, for more make no
    /// difference. 0 without damping.
    #[must_use]
    pub fn flaps(&self, target: TargetId) -> u8 {
        self.get(target).map_or(0, |target| target.damping.falls())
    }

    /// Says whose members are suspected together. Replaces all groups there were; a suspicion that
    /// is going on is carried over to the group of the same pool and pace, and ended without one.
    pub fn set_groups(&mut self, groups: Vec<Group>, now: Moment) {
        let targets = &self.targets;
        let timing = |id: TargetId| Some(&targets.get(id.index())?.as_ref()?.timing);
        self.suspicions.set_groups(groups, timing, now);
    }

    /// The suspicions that are going on, as of the last call that was told the time.
    pub fn suspicions(&self) -> impl Iterator<Item = &Suspicion> {
        self.suspicions.iter()
    }

    /// Alarms that began or ended since the last call, in that order. A caller that sets groups has to take
    /// them: they are kept until then.
    pub fn take_alarms(&mut self, now: Moment) -> Vec<Alarm> {
        self.suspicions.take_alarms(now)
    }
}

impl Target {
    /// When the next probe is due after that outcome.
    fn next(&self, outcome: Outcome, now: Moment, rng: &mut impl Rng) -> Moment {
        let period = self.timing.period(self.state);
        // A fault of this machine is no reason to probe more often. Nor is a hold: the count of
        // passes is reached, only time has to pass.
        if self.state.in_doubt() && outcome != Outcome::Void && !self.state.is_held(&self.timing) {
            now.saturating_add(self.timing.recheck.min(period))
        } else {
            self.rhythm.regular(period, self.timing.timeout, now, rng)
        }
    }
}
