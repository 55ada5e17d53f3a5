//! The health machine of one address.

use crate::health::{Outcome, Timing, Verdict};

/// What the outcomes so far say of one address.
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
///     Healthy   ------------> Draining                  Draining, once: it is the backend's own word
///     Draining  ------------> Healthy                   Passed, rise times in a row
///     Draining  ------------> Unhealthy                 Failed, fall times in a row
///     Unhealthy ------------> Healthy or Draining       by the last of the outcomes that end it
/// ```
///
/// The very first outcome decides alone. [`Outcome::Void`] changes nothing, neither the state nor
/// the count. Each state holds the one count that can exist in it, so no two can disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No outcome yet.
    Unknown,
    /// May be answered.
    Healthy {
        /// Failed outcomes in a row, below `fall`.
        failures: u16,
    },
    /// Alive, but asks for no new clients.
    Draining {
        /// What speaks against it.
        against: Against,
    },
    /// May not.
    Unhealthy {
        /// Passed or draining outcomes in a row, below `rise`.
        successes: u16,
    },
}

/// Outcomes in a row that contradict a draining state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// Passed ones, below `rise`; 0 when nothing contradicts.
    Passes(u16),
    /// Failed ones, below `fall`, at least 1.
    Failures(u16),
}

/// The state that a verdict begins with.
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
    /// The state after one more outcome.
    #[must_use]
    pub fn after(self, outcome: Outcome, timing: &Timing) -> Self {
        let next = match outcome {
            Outcome::Void => return self,
            Outcome::Passed => Verdict::Healthy,
            Outcome::Draining => Verdict::Draining,
            Outcome::Failed => Verdict::Unhealthy,
        };
        let more =
            |count: u16, threshold: u16| Some(count.saturating_add(1)).filter(|more| *more < threshold);
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

    /// What the state says; none before the first outcome.
    #[must_use]
    pub fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Unknown => None,
            Self::Healthy { .. } => Some(Verdict::Healthy),
            Self::Draining { .. } => Some(Verdict::Draining),
            Self::Unhealthy { .. } => Some(Verdict::Unhealthy),
        }
    }

    /// Whether the last outcome that was not void contradicts the state: the next one comes sooner.
    #[must_use]
    pub fn in_doubt(self) -> bool {
        self.contradictions() > 0
    }

    /// How many outcomes in a row contradict the state.
    #[must_use]
    pub fn contradictions(self) -> u16 {
        match self {
            Self::Unknown => 0,
            Self::Healthy { failures: count }
            | Self::Unhealthy { successes: count }
            | Self::Draining { against: Against::Passes(count) | Against::Failures(count) } => count,
        }
    }

    /// Whether both are healthy, both unhealthy or both unknown, whatever their counts.
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

    /// The rule read from the whole history: the last `rise` or `fall` outcomes of an address that
    /// is in the other state are all alike.
    fn model(history: &[Outcome], rise: usize, fall: usize) -> Option<bool> {
        let spoken: Vec<bool> =
            history.iter().filter(|o| **o != Outcome::Void).map(|o| *o == Outcome::Passed).collect();
        let mut healthy = *spoken.first()?;
        let mut since = 0;
        for end in 1..=spoken.len() {
            let wanted = if healthy { fall } else { rise };
            let run = spoken[since..end].iter().rev().take_while(|passed| **passed != healthy).count();
            if run >= wanted {
                healthy = !healthy;
                since = end;
            }
        }
        Some(healthy)
    }

    fn verdict(state: State) -> Option<bool> {
        state.verdict().map(|verdict| verdict == Verdict::Healthy)
    }

    fn follow(history: &mut Vec<Outcome>, state: State, alphabet: &[Outcome], left: usize, timing: &Timing) {
        assert_eq!(
            verdict(state),
            model(history, timing.rise.into(), timing.fall.into()),
            "after {history:?} with rise {} and fall {}",
            timing.rise,
            timing.fall
        );
        let last = history.iter().rev().find(|outcome| **outcome != Outcome::Void);
        let contradicted = last.is_some_and(|last| verdict(state) != Some(*last == Outcome::Passed));
        assert_eq!(state.in_doubt(), contradicted, "after {history:?}");
        if left == 0 {
            return;
        }
        for &outcome in alphabet {
            history.push(outcome);
            follow(history, state.after(outcome, timing), alphabet, left - 1, timing);
            history.pop();
        }
    }

    #[test]
    fn every_sequence_agrees_with_the_history_read_as_a_whole() {
        for rise in 1..=4 {
            for fall in 1..=4 {
                let timing = timing(rise, fall);
                let two = [Outcome::Passed, Outcome::Failed];
                follow(&mut Vec::new(), State::Unknown, &two, 12, &timing);
                let three = [Outcome::Passed, Outcome::Failed, Outcome::Void];
                follow(&mut Vec::new(), State::Unknown, &three, 8, &timing);
            }
        }
    }

    #[test]
    fn the_largest_thresholds_do_not_overflow() {
        let timing = timing(u16::MAX, u16::MAX);
        let mut state = State::Healthy { failures: 0 };
        for _ in 1..u16::MAX {
            state = state.after(Outcome::Failed, &timing);
            assert!(state.is_same_verdict(State::Healthy { failures: 0 }));
        }
        assert_eq!(state.after(Outcome::Failed, &timing), State::Unhealthy { successes: 0 });
    }
}
