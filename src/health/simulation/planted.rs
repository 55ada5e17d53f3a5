//! Adds defects around the table, to prove that the simulation finds them.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::SmallRng;

use crate::check::Timing;
use crate::health::{
    Alarm, Group, HealthTable, Moment, Outcome, State, Suspicion, TargetId, Ticket, Transition, Verdict,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    FallOffByOne,
    RiseIgnored,
    StaleTicketTaken,
    RemovedStillDue,
    RecheckNever,
    JitterBeyondBound,
    SuspicionNever,
    SuspicionEndless,
    SuspicionLostByReload,
    DampingNever,
    DampingEndless,
    VoidFails,
    VoidEndsProbing,
    DrainingFails,
    DownIntervalIgnored,
    VerdictForgotten,
    TwoInFlight,
}

pub(super) const FAULTS: [Fault; 17] = [
    Fault::FallOffByOne,
    Fault::RiseIgnored,
    Fault::StaleTicketTaken,
    Fault::RemovedStillDue,
    Fault::RecheckNever,
    Fault::JitterBeyondBound,
    Fault::SuspicionNever,
    Fault::SuspicionEndless,
    Fault::SuspicionLostByReload,
    Fault::DampingNever,
    Fault::DampingEndless,
    Fault::VoidFails,
    Fault::VoidEndsProbing,
    Fault::DrainingFails,
    Fault::DownIntervalIgnored,
    Fault::VerdictForgotten,
    Fault::TwoInFlight,
];

/// The delay caused by [`Fault::JitterBeyondBound`].
const TOO_LATE: Duration = Duration::from_millis(400);

/// The table, with one defect or none.
pub(super) struct Subject {
    table: HealthTable,
    fault: Option<Fault>,
    /// The last ticket of each target.
    out: BTreeMap<TargetId, Ticket>,
    again: Option<Ticket>,
    suspected_once: bool,
}

impl Subject {
    pub(super) fn new(fault: Option<Fault>) -> Self {
        let (out, again, suspected_once) = (BTreeMap::new(), None, false);
        Self { table: HealthTable::new(), fault, out, again, suspected_once }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(super) fn add(
        &mut self,
        mut timing: Timing,
        mut verdict: Option<Verdict>,
        now: Moment,
        rng: &mut SmallRng,
    ) -> TargetId {
        match self.fault {
            Some(Fault::FallOffByOne) => timing.fall += 1,
            Some(Fault::RiseIgnored) => timing.rise = 1,
            Some(Fault::RecheckNever) => timing.recheck = timing.interval,
            Some(Fault::DampingNever) => timing.damping = false,
            Some(Fault::DownIntervalIgnored) => timing.interval_down = timing.interval,
            Some(Fault::VerdictForgotten) => verdict = None,
            _ => {}
        }
        self.table.add(timing, verdict, now, rng)
    }

    pub(super) fn remove(&mut self, id: TargetId) {
        if !self.has(Fault::RemovedStillDue) {
            self.table.remove(id);
        }
    }

    pub(super) fn set_groups(&mut self, groups: Vec<Group>, now: Moment) {
        if self.has(Fault::SuspicionLostByReload) {
            self.table.set_groups(Vec::new(), now);
        }
        if !self.has(Fault::SuspicionNever) {
            self.table.set_groups(groups, now);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let late = if self.has(Fault::JitterBeyondBound) { TOO_LATE } else { Duration::ZERO };
        self.table.next_deadline().map(|deadline| deadline + late)
    }

    pub(super) fn due(&mut self, now: Moment) -> Option<Ticket> {
        if self.has(Fault::TwoInFlight)
            && let Some(again) = self.again.take()
        {
            return Some(again);
        }
        let late = if self.has(Fault::JitterBeyondBound) { TOO_LATE } else { Duration::ZERO };
        let ticket = self.table.due(now.checked_sub(late)?)?;
        self.out.insert(ticket.target, ticket);
        self.again = Some(ticket);
        Some(ticket)
    }

    pub(super) fn handle_outcome(
        &mut self,
        mut ticket: Ticket,
        mut outcome: Outcome,
        now: Moment,
        rng: &mut SmallRng,
    ) -> Option<Transition> {
        self.suspected_once |= self.table.suspicions().next().is_some();
        match (self.fault, outcome) {
            (Some(Fault::StaleTicketTaken), _) => {
                ticket = self.out.get(&ticket.target).copied().unwrap_or(ticket);
            }
            (Some(Fault::VoidFails), Outcome::Void) | (Some(Fault::DrainingFails), Outcome::Draining) => {
                outcome = Outcome::Failed;
            }
            (Some(Fault::VoidEndsProbing), Outcome::Void) => return None,
            (Some(Fault::SuspicionEndless), Outcome::Failed) if self.suspected_once => {
                outcome = Outcome::Void;
            }
            (Some(Fault::DampingEndless), Outcome::Passed | Outcome::Draining)
                if self.table.held_until(ticket.target).is_some() =>
            {
                outcome = Outcome::Void;
            }
            _ => {}
        }
        self.table.handle_outcome(ticket, outcome, now, rng)
    }

    pub(super) fn is_current(&self, ticket: Ticket) -> bool {
        self.table.is_current(ticket)
    }

    pub(super) fn state(&self, id: TargetId) -> State {
        self.table.state(id)
    }

    pub(super) fn held_until(&self, id: TargetId) -> Option<Moment> {
        self.table.held_until(id)
    }

    pub(super) fn flaps(&self, id: TargetId) -> u8 {
        self.table.flaps(id)
    }

    pub(super) fn unknown(&self) -> usize {
        self.table.unknown()
    }

    pub(super) fn suspicions(&self) -> Vec<Suspicion> {
        self.table.suspicions().cloned().collect()
    }

    pub(super) fn take_alarms(&mut self, now: Moment) -> Vec<Alarm> {
        self.table.take_alarms(now)
    }
}
