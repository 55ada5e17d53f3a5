//! The health state machine of one address.

use crate::check::Timing;
use crate::health::{Outcome, Verdict};

/// The state of one address, derived from its outcomes.
///
/// ```text
///                     Unknown
///               Passed /    \ Failed
///                     v      v
///     Healthy { failures }   Unhealthy { successes }
///         |           ^          ^           |
///         |           +----------|-----------+   Passed or Draining, rise times in a row
///         +----------------------+               Failed, fall times in a row
///
///     Healthy   ------------> Draining                  Draining, once: the backend asks for it
///     Draining  ------------> Healthy                   Passed, rise times in a row
///     Draining  ------------> Unhealthy                 Failed, fall times in a row
///     Unhealthy ------------> Healthy or Draining       after rise, by the last outcome
/// ```
///
/// While suspicion or damping keeps the state, a count may exceed its threshold; afterwards, the
/// next outcome of that kind flips the state. The first outcome of all decides alone.
/// [`Outcome::Void`] changes neither the state nor the count. Each state has only the one count
/// that can apply in it, so counts cannot contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No outcome yet.
    Unknown,
    /// May be in answers.
    Healthy {
        /// Failed outcomes in a row; `fall` or more only while suspected.
        failures: u16,
    },
    /// Alive, but wants no new clients.
    Draining {
        /// The outcomes that contradict it.
        against: Against,
    },
    /// Must not be in answers.
    Unhealthy {
        /// Passed or draining outcomes in a row; `rise` or more only while held.
        successes: u16,
    },
}

/// Outcomes in a row that contradict a draining state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// Passed outcomes, below `rise`; 0 if no outcome contradicts.
    Passes(u16),
    /// Failed outcomes, at least 1; `fall` or more only while suspected.
    Failures(u16),
}

/// The state at the start, given an initial verdict.
impl From<Option<Verdict>> for State {
    fn from(verdict: Option<Verdict>) -> Self {
        match verdict {
            None => Self::Unknown,
            Some(Verdict::Healthy) => Self::Healthy { failures: 0 },
            Some(Verdict::Draining) => Self::Draining { against: Against::Passes(0) },
            Some(Verdict::Unhealthy) => Self::Unhealthy { successes: 0 },
        }
    }
}

impl State {
    /// The state after another outcome. `stays` is set during a suspicion or a hold: the outcome is
    /// counted, but thresholds change nothing. The first outcome and a request to drain need no
    /// threshold.
    #[must_use]
    pub fn after(self, outcome: Outcome, timing: &Timing, stays: bool) -> Self {
        let next = match outcome {
            Outcome::Void => return self,
            Outcome::Passed => Verdict::Healthy,
            Outcome::Draining => Verdict::Draining,
            Outcome::Failed => Verdict::Unhealthy,
        };
        let more = |count: u16, threshold: u16| {
            Some(count.saturating_add(1)).filter(|more| stays || *more < threshold)
        };
        let short_of_it = match (self, outcome) {
            (Self::Unhealthy { successes }, Outcome::Passed | Outcome::Draining) => {
                more(successes, timing.rise).map(|successes| Self::Unhealthy { successes })
            }
            (Self::Healthy { failures }, Outcome::Failed) => {
                more(failures, timing.fall).map(|failures| Self::Healthy { failures })
            }
            (Self::Draining { against }, Outcome::Failed) => {
                let failures = if let Against::Failures(count) = against { count } else { 0 };
                more(failures, timing.fall).map(|count| Self::Draining { against: Against::Failures(count) })
            }
            (Self::Draining { against }, Outcome::Passed) => {
                let passes = if let Against::Passes(count) = against { count } else { 0 };
                more(passes, timing.rise).map(|count| Self::Draining { against: Against::Passes(count) })
            }
            _ => None,
        };
        short_of_it.unwrap_or_else(|| Some(next).into())
    }

    /// The verdict of the state; `None` before the first outcome.
    #[must_use]
    pub fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Unknown => None,
            Self::Healthy { .. } => Some(Verdict::Healthy),
            Self::Draining { .. } => Some(Verdict::Draining),
            Self::Unhealthy { .. } => Some(Verdict::Unhealthy),
        }
    }

    /// Whether the last outcome that was not void contradicts the state. Then the next probe comes
    /// sooner.
    #[must_use]
    pub fn in_doubt(self) -> bool {
        self.contradictions() > 0
    }

    /// The number of outcomes in a row that contradict the state.
    #[must_use]
    pub fn contradictions(self) -> u16 {
        match self {
            Self::Unknown => 0,
            Self::Healthy { failures: count }
            | Self::Unhealthy { successes: count }
            | Self::Draining { against: Against::Passes(count) | Against::Failures(count) } => count,
        }
    }

    /// How many more outcomes like the last one change the verdict, at least 1; `None` if the last one agrees with it.
    /// The first outcome of all changes it.
    #[must_use]
    pub(super) fn missing(self, timing: &Timing) -> Option<u16> {
        let threshold = match self {
            Self::Unknown => return Some(1),
            Self::Healthy { .. } | Self::Draining { against: Against::Failures(_) } => timing.fall,
            Self::Unhealthy { .. } | Self::Draining { against: Against::Passes(_) } => timing.rise,
        };
        self.in_doubt().then(|| threshold.saturating_sub(self.contradictions()).max(1))
    }

    /// Whether the address has passed often enough, but damping holds it.
    #[must_use]
    pub(super) fn is_held(self, timing: &Timing) -> bool {
        matches!(self, Self::Unhealthy { successes } if successes >= timing.rise)
    }

    /// Whether both states have the same verdict; counts do not matter.
    #[must_use]
    pub fn is_same_verdict(self, other: Self) -> bool {
        self.verdict() == other.verdict()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn timing(rise: u16, fall: u16) -> Timing {
        let second = Duration::from_secs(1);
        Timing {
            interval: second * 5,
            timeout: second * 2,
            rise,
            fall,
            recheck: second,
            interval_down: second * 5,
            damping: false,
        }
    }

    /// The number of outcomes at the end of the history that satisfy `like`.
    fn last(history: &[Outcome], like: impl Fn(Outcome) -> bool) -> usize {
        history.iter().rev().take_while(|outcome| like(**outcome)).count()
    }

    /// The rule: the verdict after this history of outcomes, none of them void. `before` is the
    /// verdict before the last outcome.
    fn model(before: Option<Verdict>, history: &[Outcome], rise: usize, fall: usize) -> Option<Verdict> {
        let alive = |outcome| outcome != Outcome::Failed;
        let own_word = match history.last()? {
            Outcome::Draining => Verdict::Draining,
            Outcome::Failed => Verdict::Unhealthy,
            _ => Verdict::Healthy,
        };
        let changes = match (before, own_word) {
            // The first outcome decides alone, and so does a request to drain.
            (None, _) | (Some(Verdict::Healthy), Verdict::Draining) => true,
            (Some(Verdict::Unhealthy), _) => last(history, alive) >= rise,
            (Some(_), Verdict::Unhealthy) => last(history, |outcome| !alive(outcome)) >= fall,
            (Some(_), _) => last(history, |outcome| outcome == Outcome::Passed) >= rise,
        };
        if changes { Some(own_word) } else { before }
    }

    struct Walk<'a> {
        timing: Timing,
        /// The outcomes to choose from.
        alphabet: &'a [Outcome],
        /// Whether to try each outcome also with `stays`.
        may_stay: bool,
        /// All outcomes so far except void ones.
        history: Vec<Outcome>,
    }

    impl Walk<'_> {
        /// Tries all continuations from here, so common prefixes are walked once.
        fn follow(&mut self, state: State, before: Option<Verdict>, left: usize) {
            if left == 0 {
                return;
            }
            for &outcome in self.alphabet {
                if outcome == Outcome::Void {
                    assert_eq!(state.after(outcome, &self.timing, false), state);
                    self.follow(state, before, left - 1);
                    continue;
                }
                self.history.push(outcome);
                for stays in [false, true].into_iter().take(1 + usize::from(self.may_stay)) {
                    self.step(state, before, outcome, stays, left);
                }
                self.history.pop();
            }
        }

        fn step(
            &mut self,
            state: State,
            before: Option<Verdict>,
            outcome: Outcome,
            stays: bool,
            left: usize,
        ) {
            let Timing { rise, fall, .. } = self.timing;
            let after = state.after(outcome, &self.timing, stays);
            let by_thresholds =
                before.is_some() && (before, outcome) != (Some(Verdict::Healthy), Outcome::Draining);
            let expected = if stays && by_thresholds {
                before
            } else {
                model(before, &self.history, rise.into(), fall.into())
            };
            assert_eq!(
                after.verdict(),
                expected,
                "{state:?} after {:?} with rise {rise} and fall {fall}, stays: {stays}",
                self.history
            );
            let agrees = match outcome {
                Outcome::Passed => Some(Verdict::Healthy) == expected,
                Outcome::Draining => Some(Verdict::Unhealthy) != expected,
                _ => Some(Verdict::Unhealthy) == expected,
            };
            assert_eq!(after.in_doubt(), !agrees, "{state:?} after {:?}", self.history);
            self.follow(after, expected, left - 1);
        }
    }

    fn walk(rise: u16, alphabet: &[Outcome], may_stay: bool, length: usize) {
        for fall in 1..=4 {
            let timing = timing(rise, fall);
            Walk { timing, alphabet, may_stay, history: Vec::new() }.follow(State::Unknown, None, length);
        }
    }

    const SPOKEN: [Outcome; 3] = [Outcome::Passed, Outcome::Failed, Outcome::Draining];

    #[test]
    fn every_sequence_agrees_with_the_rule_with_rise_1() {
        walk(1, &SPOKEN, false, 12);
    }

    #[test]
    fn every_sequence_agrees_with_the_rule_with_rise_2() {
        walk(2, &SPOKEN, false, 12);
    }

    #[test]
    fn every_sequence_agrees_with_the_rule_with_rise_3() {
        walk(3, &SPOKEN, false, 12);
    }

    #[test]
    fn every_sequence_agrees_with_the_rule_with_rise_4() {
        walk(4, &SPOKEN, false, 12);
    }

    #[test]
    fn void_outcomes_anywhere_change_nothing() {
        let [passed, failed, draining] = SPOKEN;
        (1..=4).for_each(|rise| walk(rise, &[passed, failed, draining, Outcome::Void], false, 8));
    }

    #[test]
    fn what_stays_counts_on_and_flips_with_the_first_outcome_that_may() {
        (1..=4).for_each(|rise| walk(rise, &SPOKEN, true, 6));
    }

    #[test]
    fn the_largest_thresholds_do_not_overflow() {
        let timing = timing(u16::MAX, u16::MAX);
        let mut state = State::Healthy { failures: 0 };
        for _ in 1..u16::MAX {
            state = state.after(Outcome::Failed, &timing, false);
            assert!(state.is_same_verdict(State::Healthy { failures: 0 }));
        }
        assert_eq!(state.after(Outcome::Failed, &timing, false), State::Unhealthy { successes: 0 });
        for _ in 0..2 {
            state = state.after(Outcome::Failed, &timing, true);
            assert_eq!(state, State::Healthy { failures: u16::MAX });
        }
    }
}
