//! Health of backend addresses, sans-IO: outcomes and the time go in, transitions come out.
//!
//! Nothing here knows DNS, sockets or clocks. Time is an argument ([`Moment`]), and so is chance.
//! A backend address that is probed in one way is a *target* here; who it is, and which pools ask,
//! is `checker`'s.

mod schedule;
#[cfg(test)]
#[allow(clippy::unchecked_time_subtraction, reason = "a time that runs backwards fails the test")]
mod simulation;
mod state;

use std::time::Duration;

use rand::Rng;

use schedule::{Queue, Rhythm};

pub use schedule::FIRST_ROUND;
pub use state::State;

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

/// What a probe says of a backend address.
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

/// What a state says, without its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// May be answered.
    Healthy,
    /// Alive, but asks for no new clients.
    Draining,
    /// May not be answered.
    Unhealthy,
}

/// Index of a target, dense from 0, valid within one [`HealthTable`].
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
    /// What is to be probed.
    pub target: TargetId,
    /// When that was due: how much later the probe starts is lag of this process.
    pub due: Moment,
    serial: u64,
}

/// An address has become healthy or unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What was probed.
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
/// ```
#[derive(Debug, Default)]
pub struct HealthTable {
    targets: Vec<Target>,
    queue: Queue,
    /// How many targets have had no outcome.
    unknown: usize,
    /// How many tickets have been given out.
    serial: u64,
}

#[derive(Debug)]
struct Target {
    timing: Timing,
    rhythm: Rhythm,
    state: State,
    /// Serial number of the ticket that is out.
    in_flight: Option<u64>,
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
        let id = TargetId(u32::try_from(self.targets.len()).unwrap_or(u32::MAX));
        let rhythm = Rhythm::new(&timing, rng);
        self.queue.push(rhythm.first(now, rng), id);
        self.targets.push(Target { timing, rhythm, state: State::from(verdict), in_flight: None });
        self.unknown += usize::from(verdict.is_none());
        id
    }

    /// The moment at which [`HealthTable::due`] has something to give; `None` while every target
    /// is in flight.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        self.queue.next()
    }

    /// Takes the target that has been due the longest and marks it in flight.
    pub fn due(&mut self, now: Moment) -> Option<Ticket> {
        let (due, id) = self.queue.pop_due(now)?;
        let target = self.targets.get_mut(id.index())?;
        self.serial += 1;
        target.in_flight = Some(self.serial);
        Some(Ticket { target: id, due, serial: self.serial })
    }

    /// Takes what a probe brought and schedules the next one. A ticket whose outcome has been taken
    /// already, or that this table has not given out, changes nothing.
    pub fn handle_outcome(
        &mut self,
        ticket: Ticket,
        outcome: Outcome,
        now: Moment,
        rng: &mut impl Rng,
    ) -> Option<Transition> {
        let target = self.targets.get_mut(ticket.target.index())?;
        if target.in_flight != Some(ticket.serial) {
            return None;
        }
        target.in_flight = None;
        let from = target.state;
        let to = from.after(outcome, &target.timing);
        target.state = to;
        // A fault of this machine is no reason to probe more often.
        let next = if to.in_doubt() && outcome != Outcome::Void {
            target.rhythm.recheck(now)
        } else {
            target.rhythm.regular(now, rng)
        };
        self.queue.push(next, ticket.target);
        if from.is_same_verdict(to) {
            return None;
        }
        if from == State::Unknown {
            self.unknown -= 1;
        }
        Some(Transition { target: ticket.target, from, to, consecutive: from.contradictions() + 1 })
    }

    /// The state of a target; unknown for one that does not exist.
    #[must_use]
    pub fn state(&self, target: TargetId) -> State {
        self.targets.get(target.index()).map_or(State::Unknown, |target| target.state)
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
}
