//! Faults of this machine that prevent probes: no descriptors, no ports, no route.
//!
//! Such outcomes are void and change no state, so an alarm must inform the operator.

use std::sync::Arc;

use crate::fleet::Suspected;
use crate::fleet::calendar::{Calendar, Stamp};
use crate::fleet::targets::{Target, Targets};
use crate::health::Outcome;

/// The alarm begins when this share of the targets could not be probed, percent.
const BEGIN_PERCENT: usize = 90;

/// The alarm ends when the share is below this, percent.
const END_PERCENT: usize = 50;

/// With fewer targets there is no alarm.
const FEWEST: usize = 3;

/// Up to this many targets that cannot be probed are logged individually.
const TOLD_ALONE: usize = 10;

/// Whether probes can run, according to the last outcome of each target.
#[derive(Debug, Default)]
pub(super) struct LocalFaults {
    /// Targets with an outcome.
    pub(super) spoken: usize,
    /// Targets whose last outcome is void.
    pub(super) void: usize,
    /// The detail of the last void outcome.
    detail: Option<Arc<str>>,
    suspected: Option<Suspecting>,
}

/// A suspicion of this machine.
#[derive(Clone, Debug)]
pub(super) struct Suspecting {
    pub(super) since: Stamp,
    pub(super) reason: String,
}

impl Suspecting {
    pub(super) fn shown(&self, calendar: Calendar) -> Suspected {
        Suspected { since: calendar.shown(self.since), reason: self.reason.clone() }
    }
}

impl LocalFaults {
    /// Counts an outcome of a target, before it is added to the history.
    pub(super) fn note(&mut self, target: &Target, outcome: Outcome, detail: &Arc<str>) {
        let before = target.outcomes.last();
        self.spoken += usize::from(before.is_none());
        self.void -= usize::from(before == Some(Outcome::Void));
        if outcome == Outcome::Void {
            self.void += 1;
            self.detail = Some(Arc::clone(detail));
        }
    }

    /// Counts all targets after a reload.
    pub(super) fn recount(&mut self, targets: &Targets) {
        let last = targets.iter().filter_map(|(_, target)| target.outcomes.last());
        (self.spoken, self.void) =
            last.fold((0, 0), |(spoken, void), last| (spoken + 1, void + usize::from(last == Outcome::Void)));
    }

    pub(super) fn are_few(&self) -> bool {
        self.void < TOLD_ALONE
    }

    pub(super) fn suspected(&self) -> Option<&Suspecting> {
        self.suspected.as_ref()
    }

    /// Whether the alarm begins or ends; `None` if neither.
    pub(super) fn turn(&mut self, at: Stamp) -> Option<bool> {
        let is = |percent| self.void * 100 >= self.spoken * percent;
        if self.suspected.is_none() && self.spoken >= FEWEST && is(BEGIN_PERCENT) {
            let detail = self.detail.as_deref().unwrap_or("no reason was given");
            self.suspected =
                Some(Suspecting { since: at, reason: format!("probes cannot be made: {detail}") });
            return Some(true);
        }
        if self.suspected.is_some() && (self.spoken == 0 || !is(END_PERCENT)) {
            self.suspected = None;
            return Some(false);
        }
        None
    }
}
