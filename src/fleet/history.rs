//! The history of an address: its last transitions, and the last outcomes of each check.
//!
//! It is compact, because there may be hundreds of thousands: a time is one word, equal details are stored
//! once, an outcome has only the index of its detail, and nothing is allocated before the first entry.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::fleet::calendar::{Calendar, Stamp};
use crate::health::Outcome;
use crate::probe::Cause;
use crate::table::Standing;

/// How many transitions of an address are stored.
pub const TRANSITIONS: usize = 50;

/// How many outcomes of a check of an address are stored.
pub const OUTCOMES: usize = 20;

/// A past transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastTransition {
    /// When, to the microsecond.
    pub at: SystemTime,
    /// The standing before it.
    pub from: Standing,
    /// The standing after it.
    pub to: Standing,
    /// Why the probe failed; none if the outcome was not a failure.
    pub cause: Option<Cause>,
    /// A description for people.
    pub detail: Arc<str>,
}

/// The outcome of a past probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastOutcome {
    /// When the probe ended, to the microsecond.
    pub at: SystemTime,
    /// How long it took, to the microsecond; at most 71 minutes.
    pub duration: Duration,
    /// The outcome of the probe.
    pub outcome: Outcome,
    /// Why the probe failed or is void; none otherwise.
    pub cause: Option<Cause>,
    /// A description for people.
    pub detail: Arc<str>,
}

/// The last [`TRANSITIONS`] transitions of an address.
#[derive(Debug, Default)]
pub(super) struct Transitions(Ring<KeptTransition, TRANSITIONS>);

impl Transitions {
    /// Adds the latest transition.
    pub(super) fn push(&mut self, newest: KeptTransition) {
        let KeptTransition { at, from, to, cause, detail } = newest;
        // Equal details are stored once; usually the latest is equal.
        let known = self.0.0.iter().rev().map(|kept| &kept.detail).find(|known| **known == detail);
        let detail = known.map_or(detail, Arc::clone);
        self.0.push(KeptTransition { at, from, to, cause, detail });
    }

    /// All transitions, the latest last.
    pub(super) fn shown(&self, calendar: Calendar) -> impl ExactSizeIterator<Item = PastTransition> {
        self.0.0.iter().map(move |kept| PastTransition {
            at: calendar.shown(kept.at),
            from: kept.from,
            to: kept.to,
            cause: kept.cause,
            detail: Arc::clone(&kept.detail),
        })
    }
}

/// The last [`OUTCOMES`] outcomes of a target.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    ring: Ring<KeptOutcome, OUTCOMES>,
    /// The different details of these outcomes. An empty one may be replaced.
    details: Vec<Arc<str>>,
}

impl Outcomes {
    /// Adds the latest outcome.
    pub(super) fn push(&mut self, newest: NewOutcome) {
        let NewOutcome { at, duration, outcome, cause, detail } = newest;
        let microseconds = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
        let detail = self.index(detail);
        let entry = KeptOutcome { at, microseconds, outcome, cause, detail };
        let is_void = |kept: &KeptOutcome| kept.outcome == Outcome::Void;
        let is_run = self.ring.is_full() && is_void(&entry) && self.ring.0.iter().all(is_void);
        // The first of a run of void outcomes stays, because it says since when: the one after it leaves.
        let second = if is_run { self.ring.0.remove(1) } else { None };
        let oldest = self.ring.push(entry).or(second);
        if let Some(KeptOutcome { detail, .. }) = oldest
            && self.ring.0.iter().all(|kept| kept.detail != detail)
            && let Some(unused) = self.details.get_mut(usize::from(detail))
        {
            *unused = Arc::default();
        }
    }

    /// The index of a detail among those stored. Adds it if it is new.
    fn index(&mut self, detail: Arc<str>) -> u8 {
        let find = |wanted: &str| self.details.iter().position(|known| **known == *wanted);
        let index = find(&detail).or_else(|| find("")).unwrap_or(self.details.len());
        match self.details.get_mut(index) {
            Some(known) if known.is_empty() => *known = detail,
            Some(_) => {}
            None => {
                self.details.reserve_exact(1);
                self.details.push(detail);
            }
        }
        // There is at most one more than outcomes.
        u8::try_from(index).unwrap_or(u8::MAX)
    }

    /// The outcome of the last probe.
    pub(super) fn last(&self) -> Option<Outcome> {
        self.ring.0.back().map(|kept| kept.outcome)
    }

    /// Since when no outcome says anything about the backend; none if the last one does. For display.
    pub(super) fn void_since(&self, calendar: Calendar) -> Option<SystemTime> {
        let run = self.ring.0.iter().rev().take_while(|kept| kept.outcome == Outcome::Void);
        run.last().map(|first| calendar.shown(first.at))
    }

    /// The last outcome, for display.
    pub(super) fn last_shown(&self, calendar: Calendar) -> Option<PastOutcome> {
        self.ring.0.back().map(|kept| self.shown_one(kept, calendar))
    }

    /// All outcomes, the latest last.
    pub(super) fn shown(&self, calendar: Calendar) -> impl ExactSizeIterator<Item = PastOutcome> {
        self.ring.0.iter().map(move |kept| self.shown_one(kept, calendar))
    }

    fn shown_one(&self, kept: &KeptOutcome, calendar: Calendar) -> PastOutcome {
        PastOutcome {
            at: calendar.shown(kept.at),
            duration: Duration::from_micros(kept.microseconds.into()),
            outcome: kept.outcome,
            cause: kept.cause,
            detail: self.details.get(usize::from(kept.detail)).cloned().unwrap_or_default(),
        }
    }
}

/// A transition as stored.
#[derive(Debug)]
pub(super) struct KeptTransition {
    pub(super) at: Stamp,
    pub(super) from: Standing,
    pub(super) to: Standing,
    pub(super) cause: Option<Cause>,
    pub(super) detail: Arc<str>,
}

/// The outcome of a probe that ended at `at` after `duration`.
#[derive(Debug)]
pub(super) struct NewOutcome {
    pub(super) at: Stamp,
    pub(super) duration: Duration,
    pub(super) outcome: Outcome,
    pub(super) cause: Option<Cause>,
    pub(super) detail: Arc<str>,
}

/// An outcome as stored.
#[derive(Debug)]
struct KeptOutcome {
    at: Stamp,
    microseconds: u32,
    outcome: Outcome,
    cause: Option<Cause>,
    /// An index into [`Outcomes::details`].
    detail: u8,
}

/// The last `MOST` entries, the latest at the back.
#[derive(Debug)]
struct Ring<T, const LIMIT: usize>(VecDeque<T>);

impl<T, const LIMIT: usize> Default for Ring<T, LIMIT> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T, const LIMIT: usize> Ring<T, LIMIT> {
    fn is_full(&self) -> bool {
        self.0.len() >= LIMIT
    }

    /// Adds an entry. Returns the oldest one if it had to leave.
    fn push(&mut self, entry: T) -> Option<T> {
        let length = self.0.len();
        let mut oldest = None;
        if self.is_full() {
            oldest = self.0.pop_front();
        } else if length == self.0.capacity() {
            // Capacity doubles as usual, but never exceeds the limit, and begins with one: most addresses change their
            // state only once.
            self.0.reserve_exact(length.max(1).min(LIMIT - length));
        }
        self.0.push_back(entry);
        oldest
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn calendar() -> Calendar {
        Calendar::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000), Duration::ZERO)
    }

    fn at(seconds: u64) -> Stamp {
        calendar().stamp(Duration::from_secs(seconds))
    }

    fn outcome(number: u64, detail: &str) -> NewOutcome {
        let outcome = [Outcome::Failed, Outcome::Passed][usize::from(number.is_multiple_of(3))];
        let cause = (!number.is_multiple_of(3)).then_some(Cause::Refused);
        let duration = Duration::from_micros(number);
        NewOutcome { at: at(number), duration, outcome, cause, detail: detail.into() }
    }

    fn past(outcome: NewOutcome) -> PastOutcome {
        let NewOutcome { at, duration, outcome, cause, detail } = outcome;
        PastOutcome { at: calendar().shown(at), duration, outcome, cause, detail }
    }

    fn transition(number: u64, detail: &str) -> KeptTransition {
        let (from, to) =
            [(Standing::Healthy, Standing::Unhealthy), (Standing::Unhealthy, Standing::Draining)]
                [usize::from(number.is_multiple_of(2))];
        KeptTransition { at: at(number), from, to, cause: Some(Cause::Timeout), detail: detail.into() }
    }

    fn shown(outcomes: &Outcomes) -> Vec<PastOutcome> {
        outcomes.shown(calendar()).collect()
    }

    fn shown_transitions(transitions: &Transitions) -> Vec<PastTransition> {
        transitions.shown(calendar()).collect()
    }

    #[test]
    fn void_outcomes_are_dated_from_the_first_of_them() {
        let mut outcomes = Outcomes::default();
        let mut pushed = |number, is_void: bool| {
            let new = outcome(number, "x");
            outcomes.push(NewOutcome { outcome: if is_void { Outcome::Void } else { new.outcome }, ..new });
            outcomes.void_since(calendar())
        };
        assert_eq!(pushed(1, false), None);
        for number in 2..60 {
            assert_eq!(pushed(number, true), Some(calendar().shown(at(2))), "also after more than are kept");
        }
        assert_eq!(pushed(60, false), None);
        assert_eq!(pushed(61, true), Some(calendar().shown(at(61))));
    }

    #[test]
    fn the_newest_are_kept_in_order_and_whole() {
        for seed in 0..50 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (mut outcomes, mut transitions) = (Outcomes::default(), Transitions::default());
            let (mut all_outcomes, mut all_transitions) = (Vec::new(), Vec::new());
            for number in 0..rng.random_range(0..150) {
                let detail = ["200 OK", "connection refused", "no answer"][rng.random_range(0..3)];
                outcomes.push(outcome(number, detail));
                all_outcomes.extend(outcomes.last_shown(calendar()));
                transitions.push(transition(number, detail));
                all_transitions.extend(shown_transitions(&transitions).pop());
                assert_eq!(all_outcomes[all_outcomes.len() - 1], past(outcome(number, detail)));
                let kept = &all_outcomes[all_outcomes.len().saturating_sub(20)..];
                assert_eq!(shown(&outcomes), kept, "seed {seed}");
                let kept = &all_transitions[all_transitions.len().saturating_sub(50)..];
                assert_eq!(shown_transitions(&transitions), kept, "seed {seed}");
                assert!(outcomes.ring.0.capacity() <= OUTCOMES && transitions.0.0.capacity() <= TRANSITIONS);
            }
        }
    }

    #[test]
    fn equal_details_are_kept_once() {
        let (mut outcomes, mut transitions) = (Outcomes::default(), Transitions::default());
        for number in 0..200 {
            let detail = ["200 OK", "no answer"][usize::from(number % 3 == 0)];
            outcomes.push(outcome(number, detail));
            transitions.push(transition(number, detail));
        }
        let mut details: Vec<*const u8> = shown(&outcomes).iter().map(|past| past.detail.as_ptr()).collect();
        details.sort();
        details.dedup();
        assert_eq!(details.len(), 2);
        let mut details: Vec<*const u8> =
            shown_transitions(&transitions).iter().map(|past| past.detail.as_ptr()).collect();
        details.sort();
        details.dedup();
        assert_eq!(details.len(), 2);
    }

    #[test]
    fn details_that_no_outcome_has_are_freed() {
        let mut outcomes = Outcomes::default();
        let old: Arc<str> = "no answer".into();
        outcomes.push(NewOutcome { detail: Arc::clone(&old), ..outcome(0, "") });
        for number in 1..100 {
            assert_eq!(Arc::strong_count(&old) > 1, number <= 20, "{number}");
            outcomes.push(outcome(number, &number.to_string()));
            let details: Vec<String> = shown(&outcomes).iter().map(|past| past.detail.to_string()).collect();
            let first = number.saturating_sub(19);
            let expected: Vec<String> = (first..=number)
                .map(|number| if number == 0 { "no answer".into() } else { number.to_string() })
                .collect();
            assert_eq!(details, expected);
        }
        assert_eq!(outcomes.details.len(), OUTCOMES + 1);
    }

    #[test]
    fn it_takes_little_memory_and_none_before_it_is_needed() {
        let (mut outcomes, mut transitions) = (Outcomes::default(), Transitions::default());
        assert_eq!((outcomes.ring.0.capacity(), transitions.0.0.capacity()), (0, 0));
        outcomes.push(outcome(0, "200 OK"));
        transitions.push(transition(0, "200 OK"));
        assert_eq!((outcomes.ring.0.capacity(), transitions.0.0.capacity()), (1, 1));
        for number in 1..100 {
            outcomes.push(outcome(number, "200 OK"));
        }
        let kept = outcomes.ring.0.capacity() * size_of::<KeptOutcome>();
        let taken = size_of::<Outcomes>() + kept + outcomes.details.capacity() * size_of::<Arc<str>>();
        assert!(taken <= 400, "{taken} bytes");
        let transitions = size_of::<Transitions>() + TRANSITIONS * size_of::<KeptTransition>();
        assert!(transitions <= 2048, "{transitions} bytes");
    }

    #[test]
    fn what_does_not_fit_is_cut() {
        let mut outcomes = Outcomes::default();
        outcomes.push(NewOutcome { duration: Duration::MAX, ..outcome(0, "late") });
        assert_eq!(shown(&outcomes)[0].duration, Duration::from_micros(u32::MAX.into()));
    }
}
