//! Which of a service's tiers answers, from the state of each tier and the rules for a return to an earlier one.
//!
//! ```text
//! the tier of a failover can answer      -> that tier
//! the tier in use can answer             -> the first earlier tier that may be taken again, else the tier in use
//! the tier in use cannot answer          -> the first tier that can
//! no tier can                            -> none; the tier in use stays the same
//!
//! may be taken again     auto: at once      a duration: after it was steady for that long      manual: never
//! ```
//!
//! With `auto` the result is the first tier that can answer, whatever tier is in use.

use std::time::Duration;

use crate::service::Failback;

/// The rules of a service for choosing a tier, and its present choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Precedence {
    /// The tier that an operator has put first.
    pub(super) failover: Option<usize>,
    /// When an earlier tier is taken again.
    pub(super) failback: Failback,
    /// The tier in use, or the last one if none is usable; 0 at first.
    pub(super) in_use: usize,
}

/// The chosen tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TierChoice {
    /// None if no tier can answer.
    pub(super) tier: Option<usize>,
    /// The earlier tier that could answer, and is not taken yet.
    pub(super) waiting: Option<WaitingTier>,
}

/// An earlier tier that is usable, and waits until it may be taken again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WaitingTier {
    /// Its index.
    pub(super) tier: usize,
    /// The time until it may be taken, if it stays usable; none if it waits for an operator, or is usable only on
    /// trust.
    pub(super) left: Option<Duration>,
}

impl Precedence {
    /// Chooses one of `tiers` tiers. `can_answer` says whether a tier can be in use. `steady_for` says how long it
    /// has been usable without a break; none if it is not, or only on trust.
    pub(super) fn choose(
        self,
        tiers: usize,
        can_answer: impl Fn(usize) -> bool,
        steady_for: impl Fn(usize) -> Option<Duration>,
    ) -> TierChoice {
        let can_answer = |tier: &usize| *tier < tiers && can_answer(*tier);
        if let Some(tier) = self.failover.filter(can_answer) {
            return TierChoice { tier: Some(tier), waiting: None };
        }
        let first = || TierChoice { tier: (0..tiers).find(can_answer), waiting: None };
        if self.failback == Failback::Auto || !can_answer(&self.in_use) {
            return first();
        }
        // The time until an earlier tier may be taken.
        let left = |tier: usize| match self.failback {
            Failback::Auto => Some(Duration::ZERO),
            Failback::After(length) => Some(length.saturating_sub(steady_for(tier)?)),
            Failback::Manual => None,
        };
        let mut waiting: Option<WaitingTier> = None;
        for tier in (0..self.in_use).filter(can_answer) {
            let left = left(tier);
            if left == Some(Duration::ZERO) {
                return TierChoice { tier: Some(tier), waiting };
            }
            // The tier that may be taken first; of equal ones the earliest.
            let is_sooner = |other: WaitingTier| match (left, other.left) {
                (Some(left), Some(other)) => left < other,
                (Some(_), None) => true,
                (None, _) => false,
            };
            if waiting.is_none_or(is_sooner) {
                waiting = Some(WaitingTier { tier, left });
            }
        }
        TierChoice { tier: Some(self.in_use), waiting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: Duration = Duration::from_secs(10);
    const RULES: [Failback; 3] = [Failback::Auto, Failback::After(NEEDED), Failback::Manual];

    /// The states of a tier: it cannot answer, can on trust, and was steady for less and more than is needed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Tier {
        Out,
        OnTrust,
        Fresh(u64),
        Proved,
    }

    const STATES: [Tier; 5] = [Tier::Out, Tier::OnTrust, Tier::Fresh(0), Tier::Fresh(9), Tier::Proved];

    fn choose(tiers: &[Tier], precedence: Precedence) -> TierChoice {
        precedence.choose(
            tiers.len(),
            |tier| tiers[tier] != Tier::Out,
            |tier| match tiers[tier] {
                Tier::Out | Tier::OnTrust => None,
                Tier::Fresh(seconds) => Some(Duration::from_secs(seconds)),
                Tier::Proved => Some(NEEDED),
            },
        )
    }

    /// Calls this with all states of up to three tiers, and all rules for them.
    fn every_case(check: impl Fn(&[Tier], Precedence)) {
        for count in 0..=3_u32 {
            for number in 0..STATES.len().pow(count) {
                let state = |tier: u32| STATES[number / STATES.len().pow(tier) % STATES.len()];
                let tiers: Vec<Tier> = (0..count).map(state).collect();
                let count = tiers.len();
                for failback in RULES {
                    // A tier that does not exist is never taken.
                    for in_use in 0..=count {
                        for failover in [None].into_iter().chain((0..=count).map(Some)) {
                            check(&tiers, Precedence { failover, failback, in_use });
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_choice_follows_the_rules() {
        every_case(|tiers, precedence| {
            let Precedence { failover, failback, in_use } = precedence;
            let TierChoice { tier, waiting } = choose(tiers, precedence);
            let case = format!("{tiers:?} {precedence:?}: {tier:?}, waiting {waiting:?}");
            let can_answer = |tier: usize| tiers.get(tier).is_some_and(|state| *state != Tier::Out);
            let first = (0..tiers.len()).find(|tier| can_answer(*tier));
            assert_eq!(tier.is_some(), first.is_some(), "{case}");
            if let Some(failover) = failover.filter(|tier| can_answer(*tier)) {
                assert_eq!((tier, waiting), (Some(failover), None), "{case}");
                return;
            }
            if !can_answer(in_use) {
                assert_eq!((tier, waiting), (first, None), "a tier that fails is left at once: {case}");
                return;
            }
            let proved = (0..in_use).find(|tier| tiers[*tier] == Tier::Proved);
            let expected = match failback {
                Failback::Auto => first,
                Failback::After(_) => proved.or(Some(in_use)),
                Failback::Manual => Some(in_use),
            };
            assert_eq!(tier, expected, "{case}");
        });
    }

    /// If the time that is left passes, and all tiers stay as they are, the waiting tier or an earlier one is taken;
    /// a moment before it is not.
    #[test]
    fn a_waiting_tier_is_taken_when_its_time_has_passed() {
        every_case(|tiers, precedence| {
            let chosen = choose(tiers, precedence);
            let after = |passed: Duration| {
                precedence.choose(
                    tiers.len(),
                    |tier| tiers[tier] != Tier::Out,
                    |tier| match tiers[tier] {
                        Tier::Out | Tier::OnTrust => None,
                        Tier::Fresh(seconds) => Some(Duration::from_secs(seconds) + passed),
                        Tier::Proved => Some(NEEDED + passed),
                    },
                )
            };
            let case = format!("{tiers:?} {precedence:?}: {chosen:?}");
            match chosen.waiting {
                Some(WaitingTier { tier, left: Some(left) }) => {
                    assert!(left > Duration::ZERO && Some(tier) < chosen.tier, "{case}");
                    assert_eq!(after(left).tier, Some(tier), "{case}");
                    assert_eq!(
                        after(left.saturating_sub(Duration::from_nanos(1))).tier,
                        chosen.tier,
                        "{case}"
                    );
                }
                Some(WaitingTier { tier, left: None }) => {
                    assert!(Some(tier) < chosen.tier && tiers[tier] != Tier::Out, "{case}");
                    assert_eq!(after(NEEDED * 2).tier, chosen.tier, "{case}");
                }
                None => assert_eq!(after(NEEDED * 2).tier, chosen.tier, "{case}"),
            }
        });
    }
}
