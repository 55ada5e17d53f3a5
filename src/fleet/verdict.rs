//! Combines the results of several checks of one address.

use crate::health::Verdict;
use crate::pool::Require;

/// Combines the verdicts of the checks of an address; each is given with `critical` and `observe_only`.
///
/// Observe-only checks never decide; without a deciding check, the address is healthy. An unhealthy critical
/// check makes the address unhealthy. Otherwise at least as many deciding checks must pass as `require`
/// says; draining counts as a pass. The result is `None` while checks without an outcome could still change
/// it.
#[must_use]
pub fn combine(
    require: Require,
    checks: impl Iterator<Item = (Option<Verdict>, bool, bool)>,
) -> Option<Verdict> {
    let (mut deciding, mut passing, mut unknown) = (0_usize, 0_usize, 0_usize);
    let (mut draining, mut critical_unknown) = (false, false);
    for (verdict, critical, _) in checks.filter(|(_, _, observe_only)| !observe_only) {
        deciding += 1;
        match verdict {
            Some(Verdict::Unhealthy) if critical => return Some(Verdict::Unhealthy),
            Some(Verdict::Unhealthy) => {}
            Some(Verdict::Healthy) => passing += 1,
            Some(Verdict::Draining) => {
                passing += 1;
                draining = true;
            }
            None => {
                unknown += 1;
                critical_unknown |= critical;
            }
        }
    }
    let needed = match require {
        Require::All => deciding,
        Require::AtLeast(count) => usize::from(count).min(deciding),
    };
    if passing + unknown < needed {
        Some(Verdict::Unhealthy)
    } else if passing < needed || critical_unknown {
        None
    } else if draining {
        Some(Verdict::Draining)
    } else {
        Some(Verdict::Healthy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = (Option<Verdict>, bool, bool);

    /// The rule by brute force: tries every verdict for each unknown check, and compares all results.
    fn naive(require: Require, checks: &[Check]) -> Option<Verdict> {
        let deciding: Vec<&Check> = checks.iter().filter(|check| !check.2).collect();
        let unknown = deciding.iter().filter(|check| check.0.is_none()).count();
        let passes = |filling: u32| {
            let mut gap = 0;
            let filled: Vec<(bool, bool)> = deciding
                .iter()
                .map(|(verdict, critical, _)| {
                    let pass = verdict.map_or_else(
                        || {
                            gap += 1;
                            filling >> (gap - 1) & 1 == 1
                        },
                        |verdict| verdict != Verdict::Unhealthy,
                    );
                    (pass, *critical)
                })
                .collect();
            let count = filled.iter().filter(|(pass, _)| *pass).count();
            let enough = match require {
                Require::All => count == filled.len(),
                Require::AtLeast(needed) => count >= usize::from(needed).min(filled.len()),
            };
            enough && filled.iter().all(|(pass, critical)| *pass || !critical)
        };
        let futures: Vec<bool> = (0..1_u32 << unknown).map(passes).collect();
        let draining = deciding.iter().any(|check| check.0 == Some(Verdict::Draining));
        match (futures.contains(&true), futures.contains(&false)) {
            (true, true) => None,
            (true, false) if draining => Some(Verdict::Draining),
            (true, false) => Some(Verdict::Healthy),
            _ => Some(Verdict::Unhealthy),
        }
    }

    #[test]
    fn every_combination_of_up_to_four_checks_agrees_with_the_naive_rule() {
        let verdicts = [None, Some(Verdict::Healthy), Some(Verdict::Draining), Some(Verdict::Unhealthy)];
        let kinds: Vec<Check> = verdicts
            .into_iter()
            .flat_map(|verdict| {
                [(false, false), (true, false), (false, true), (true, true)]
                    .map(|(critical, observe_only)| (verdict, critical, observe_only))
            })
            .collect();
        let requires = [Require::All].into_iter().chain((1..=5).map(Require::AtLeast));
        let mut compared = 0;
        for require in requires {
            for count in 0..=4_u32 {
                for number in 0..kinds.len().pow(count) {
                    let checks: Vec<Check> = (0..count)
                        .map(|place| kinds[number / kinds.len().pow(place) % kinds.len()])
                        .collect();
                    let combined = combine(require, checks.iter().copied());
                    assert_eq!(combined, naive(require, &checks), "{require:?} of {checks:?}");
                    compared += 1;
                }
            }
        }
        assert!(compared > 400_000);
    }

    #[test]
    fn in_words() {
        let healthy = (Some(Verdict::Healthy), false, false);
        let draining = (Some(Verdict::Draining), false, false);
        let unhealthy = (Some(Verdict::Unhealthy), false, false);
        let unknown = (None, false, false);
        let critical = |(verdict, _, observe_only)| (verdict, true, observe_only);
        let observed = |(verdict, critical, _)| (verdict, critical, true);
        let any = Require::AtLeast(1);
        let say = |require, checks: &[Check]| combine(require, checks.iter().copied());
        assert_eq!(say(Require::All, &[]), Some(Verdict::Healthy), "nothing decides");
        assert_eq!(say(Require::All, &[observed(unhealthy)]), Some(Verdict::Healthy));
        assert_eq!(say(Require::All, &[healthy, unhealthy]), Some(Verdict::Unhealthy));
        assert_eq!(say(Require::All, &[healthy, unknown]), None);
        assert_eq!(say(Require::All, &[unhealthy, unknown]), Some(Verdict::Unhealthy));
        assert_eq!(say(any, &[unhealthy, unknown]), None);
        assert_eq!(say(any, &[healthy, unhealthy, unknown]), Some(Verdict::Healthy));
        assert_eq!(say(any, &[healthy, critical(unhealthy)]), Some(Verdict::Unhealthy));
        assert_eq!(say(any, &[healthy, critical(unknown)]), None);
        assert_eq!(say(any, &[healthy, draining]), Some(Verdict::Draining));
    }
}
