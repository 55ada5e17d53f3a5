//! The health machine of one address.

use std::mem::discriminant;

use crate::health::{Outcome, Timing};

/// What the outcomes so far say of one address.
///
/// ```text
///                     Unknown
///               Passed /    \ Failed
///                     v      v
///     Healthy { failures }   Unhealthy { successes }
///         |           ^          ^           |
///         |           +----------|-----------+   Passed, rise times in a row
///         +----------------------+               Failed, fall times in a row
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
    /// May not.
    Unhealthy {
        /// Passed outcomes in a row, below `rise`.
        successes: u16,
    },
}

impl State {
    /// The state after one more outcome.
    #[must_use]
    pub fn after(self, outcome: Outcome, timing: &Timing) -> Self {
        match (self, outcome) {
            (state, Outcome::Void) => state,
            (Self::Unhealthy { successes }, Outcome::Passed) if successes.saturating_add(1) < timing.rise => {
                Self::Unhealthy { successes: successes + 1 }
            }
            (Self::Healthy { failures }, Outcome::Failed) if failures.saturating_add(1) < timing.fall => {
                Self::Healthy { failures: failures + 1 }
            }
            (_, Outcome::Passed) => Self::Healthy { failures: 0 },
            (_, Outcome::Failed) => Self::Unhealthy { successes: 0 },
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
            Self::Healthy { failures: count } | Self::Unhealthy { successes: count } => count,
        }
    }

    /// Whether both are healthy, both unhealthy or both unknown, whatever their counts.
    #[must_use]
    pub fn is_same_verdict(self, other: Self) -> bool {
        discriminant(&self) == discriminant(&other)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn timing(rise: u16, fall: u16) -> Timing {
        let second = Duration::from_secs(1);
        Timing { interval: second * 5, timeout: second * 2, rise, fall, recheck: second }
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
        match state {
            State::Unknown => None,
            State::Healthy { .. } => Some(true),
            State::Unhealthy { .. } => Some(false),
        }
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
