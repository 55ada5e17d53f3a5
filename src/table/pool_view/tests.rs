//! Compares views of every combination of places with a naive implementation of the rules.

use std::net::{Ipv4Addr, Ipv6Addr};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::pool::Override::{Disabled, Down, Drain, Up};
use crate::pool::{Backend, MAX_WEIGHT, MinHealthy};

use super::*;

const STANDINGS: [Standing; 4] =
    [Standing::Healthy, Standing::Draining, Standing::Unhealthy, Standing::Unknown];

/// Every place, with the percentages that matter: none, some, all, and more than 100.
fn all_conditions() -> Vec<AddressCondition> {
    let overrides = || std::iter::once(None).chain(Override::ALL.map(Some));
    let mut conditions = Vec::new();
    for standing in STANDINGS {
        for held in [false, true] {
            for percent in [0, 50, FULL_WEIGHT, u8::MAX] {
                for weight in [0, 30, u16::from(FULL_WEIGHT)] {
                    let condition =
                        |overridden| AddressCondition { standing, held, percent, overridden, weight };
                    conditions.extend(overrides().map(condition));
                }
            }
        }
    }
    conditions
}

fn ipv4(index: usize) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(index).unwrap()).into()
}

fn ipv6(index: usize) -> IpAddr {
    Ipv6Addr::from_bits((0x2001_0db8 << 96) + index as u128).into()
}

/// A pool with one IPv4 address for each weight.
pub(in crate::table) fn pool(weights: &[u32], min_healthy: MinHealthy) -> Pool {
    let backend = |(index, weight): (usize, &u32)| Backend {
        weight: *weight,
        ..Backend::new(format!("b{index}"), vec![ipv4(index)])
    };
    Pool { min_healthy, ..Pool::new("web", weights.iter().enumerate().map(backend).collect()) }
}

pub(in crate::table) fn build(pool: &Pool, condition: impl Fn(usize, usize) -> AddressCondition) -> PoolView {
    PoolView::build(pool, None, condition)
}

/// Addresses with their shares; the shares add up to 1.
type Shares = Vec<(IpAddr, f64)>;

fn shares(choice: &Choice) -> Shares {
    let weights = || choice.candidates.iter().map(|candidate| u64::from(candidate.weight));
    let total: u64 = weights().sum();
    #[allow(clippy::cast_precision_loss, reason = "below 2^52")]
    let share = |weight: u64| weight as f64 / total as f64;
    let members = choice.members.iter().map(|member| member.address);
    members.zip(weights().map(share)).collect()
}

fn shares_of(members: &[(IpAddr, f64)]) -> Shares {
    let total: f64 = members.iter().map(|(_, weight)| weight).sum();
    members.iter().filter(|(_, weight)| *weight > 0.0).map(|(at, weight)| (*at, weight / total)).collect()
}

fn assert_alike(found: &Shares, expected: &Shares, context: &str) {
    let close = |(a, b): (&(IpAddr, f64), &(IpAddr, f64))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-9;
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(close),
        "{found:?} instead of {expected:?}: {context}"
    );
}

/// The rules of one family: whether it is usable, the shares of the eligible addresses, and those
/// in fail open.
fn rules(
    pool: &Pool,
    family: Family,
    condition: &impl Fn(usize, usize) -> AddressCondition,
) -> (bool, Shares, Shares) {
    // An override takes precedence. A disabled address does not exist.
    let mut there = Vec::new();
    for (index, backend) in pool.backends.iter().enumerate() {
        for (at, address) in backend.addresses.iter().enumerate() {
            let condition = condition(index, at);
            let disabled = !backend.enabled || condition.overridden == Some(Disabled);
            if !disabled && Family::of(*address) == family {
                there.push((*address, f64::from(backend.weight), condition));
            }
        }
    }
    let is_healthy = |condition: &AddressCondition| match condition.overridden {
        _ if condition.weight == 0 => false,
        Some(Up) => true,
        Some(_) => false,
        None => condition.standing == Standing::Healthy && !condition.held,
    };
    let is_spare = |condition: &AddressCondition| {
        condition.overridden.is_none()
            && condition.weight > 0
            && match condition.standing {
                Standing::Healthy | Standing::Unhealthy => condition.held,
                Standing::Unknown => true,
                Standing::Draining => false,
            }
    };
    let is_drained =
        |condition: &AddressCondition| condition.overridden == Some(Drain) || condition.weight == 0;
    let total: f64 = there.iter().map(|(_, weight, _)| weight).sum();
    let enough = |members: &[(IpAddr, f64, AddressCondition)]| {
        let weight: f64 = members.iter().map(|(_, weight, _)| weight).sum();
        !members.is_empty()
            && match pool.min_healthy {
                MinHealthy::Count(count) => members.len() >= count as usize,
                MinHealthy::Percent(percent) => weight * 100.0 >= total * f64::from(percent),
            }
    };
    let pick = |wanted: &dyn Fn(&AddressCondition) -> bool| -> Vec<(IpAddr, f64, AddressCondition)> {
        there.iter().copied().filter(|(_, weight, condition)| *weight > 0.0 && wanted(condition)).collect()
    };
    let healthy = pick(&is_healthy);
    let with_spares = pick(&|condition| is_healthy(condition) || is_spare(condition));
    let spares_needed = !enough(&healthy) && enough(&with_spares);
    let chosen = if spares_needed { with_spares } else { healthy };
    let percent = |condition: &AddressCondition| match condition.overridden {
        Some(Up) => 100.0,
        _ => f64::from(condition.percent.min(100)),
    };
    let none_has_any = chosen.iter().all(|(_, _, condition)| percent(condition) == 0.0);
    let operator = |condition: &AddressCondition| f64::from(condition.weight);
    let of_weight = |condition: &AddressCondition| {
        let of_checks = if none_has_any { 100.0 } else { percent(condition) };
        (of_checks * operator(condition) / 100.0).ceil()
    };
    let scaled: Vec<(IpAddr, f64)> =
        chosen.iter().map(|(at, weight, condition)| (*at, weight * of_weight(condition))).collect();
    let mut left: Vec<_> = there.iter().filter(|(_, _, condition)| !is_drained(condition)).copied().collect();
    if left.is_empty() {
        left.clone_from(&there);
    }
    // The operator's part of the weight; if none has any the weight; if none has any, all are equal.
    let ways: [fn(f64, f64) -> f64; 3] = [|weight, percent| weight * percent, |weight, _| weight, |_, _| 1.0];
    let ways = ways.map(|way| -> Shares {
        left.iter().map(|(at, weight, condition)| (*at, way(*weight, operator(condition)))).collect()
    });
    let left = ways.into_iter().find(|left| left.iter().any(|(_, weight)| *weight > 0.0));
    let left = left.unwrap_or_default();
    (enough(&chosen), shares_of(&scaled), shares_of(&left))
}

fn assert_follows_the_rules(
    view: &PoolView,
    pool: &Pool,
    condition: impl Fn(usize, usize) -> AddressCondition,
    context: &str,
) {
    for family in Family::ALL {
        let (usable, eligible, everyone) = rules(pool, family, &condition);
        let found = view.family(family);
        assert_eq!(found.usable, usable, "{family:?} {context}");
        assert_alike(&shares(&found.eligible), &eligible, context);
        assert_alike(&shares(&found.everyone), &everyone, context);
        assert_eq!(found.is_configured(), !everyone.is_empty(), "{context}");
        assert!(!usable || !found.eligible.members.is_empty(), "a usable pool has an answer: {context}");
    }
}

#[test]
fn every_pair_of_places_follows_the_rules() {
    let conditions = all_conditions();
    for min_healthy in
        [MinHealthy::Count(1), MinHealthy::Count(2), MinHealthy::Percent(40), MinHealthy::Percent(100)]
    {
        for weights in [[1, 3], [0, 2], [0, 0]] {
            let pool = pool(&weights, min_healthy);
            for first in &conditions {
                for second in &conditions {
                    let condition = |index: usize, _| if index == 0 { *first } else { *second };
                    let context = format!("{min_healthy:?} {weights:?} {first:?} {second:?}");
                    assert_follows_the_rules(&build(&pool, condition), &pool, condition, &context);
                }
            }
        }
    }
}

pub(in crate::table) fn random_pool(rng: &mut SmallRng) -> Pool {
    let backend = |index: usize, rng: &mut SmallRng| {
        let addresses = match rng.random_range(0..5) {
            0 => vec![ipv6(index)],
            1 => vec![ipv4(index), ipv6(index)],
            2 => vec![ipv6(index), ipv4(index), ipv4(index + 1000)],
            _ => vec![ipv4(index)],
        };
        let weight = [0, 1, 2, rng.random_range(0..10), MAX_WEIGHT][rng.random_range(0..5)];
        let enabled = rng.random_ratio(9, 10);
        Backend { weight, enabled, ..Backend::new(format!("b{index}"), addresses) }
    };
    let backends = (0..rng.random_range(0..8)).map(|index| backend(index, rng)).collect();
    let min_healthy = if rng.random() {
        MinHealthy::Count(rng.random_range(1..5))
    } else {
        MinHealthy::Percent(rng.random_range(1..=100))
    };
    Pool { min_healthy, ..Pool::new("web", backends) }
}

/// Mostly common places, so that rare ones occur in every mixture.
pub(in crate::table) fn random_condition(rng: &mut SmallRng) -> AddressCondition {
    AddressCondition {
        standing: STANDINGS[rng.random_range(0..4)],
        held: rng.random_ratio(1, 6),
        percent: if rng.random_ratio(2, 3) { FULL_WEIGHT } else { rng.random_range(0..=FULL_WEIGHT) },
        overridden: rng.random_ratio(1, 4).then(|| Override::ALL[rng.random_range(0..4)]),
        weight: match rng.random_range(0..8) {
            0 => 0,
            1 => rng.random_range(0..=MAX_WEIGHT_PERCENT),
            _ => FULL_WEIGHT.into(),
        },
    }
}

/// Takes one pool through changes of health, overrides and reloads: sharing with an earlier view
/// must not change the result.
#[test]
fn views_follow_the_rules_whatever_they_followed() {
    for seed in 0..300 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut pool = random_pool(&mut rng);
        let mut conditions: Vec<[AddressCondition; 3]> = Vec::new();
        let mut view: Option<PoolView> = None;
        for step in 0..30 {
            if rng.random_ratio(1, 8) {
                pool = random_pool(&mut rng);
            }
            conditions.resize_with(8, || std::array::from_fn(|_| Standing::Unknown.into()));
            for _ in 0..rng.random_range(0..4) {
                conditions[rng.random_range(0..8)][rng.random_range(0..3)] = random_condition(&mut rng);
            }
            let condition = |backend: usize, at: usize| conditions[backend][at];
            let next = PoolView::build(&pool, view.as_ref(), condition);
            let context = format!("seed {seed}, step {step}: {pool:?} {conditions:?}");
            assert_follows_the_rules(&next, &pool, condition, &context);
            let names = pool.backends.iter().map(|backend| &*backend.name);
            assert!(next.backends.iter().map(|name| &**name).eq(names), "{context}");
            assert_eq!(*next.name, pool.name);
            view = Some(next);
        }
    }
}

#[test]
fn a_pool_with_all_addresses_eligible_has_one_choice_for_both() {
    let pool = pool(&[1, 2, 3], MinHealthy::Count(1));
    let view = |standing: [Standing; 3]| build(&pool, |backend, _| standing[backend].into());
    let is_one = |view: &PoolView| {
        let FamilyView { eligible, everyone, .. } = view.family(Family::Ipv4);
        Arc::ptr_eq(eligible, everyone)
    };
    assert!(is_one(&view([Standing::Healthy; 3])));
    assert!(!is_one(&view([Standing::Healthy, Standing::Healthy, Standing::Unhealthy])));
}

#[test]
fn what_is_the_same_is_shared() {
    let pool = pool(&[1, 2, 3], MinHealthy::Count(1));
    let first = build(&pool, |_, _| Standing::Healthy.into());
    let shares_everyone = |condition: AddressCondition, of: &Pool| {
        let next = PoolView::build(of, Some(&first), |index, _| match index {
            0 => condition,
            _ => Standing::Healthy.into(),
        });
        assert!(Arc::ptr_eq(&next.name, &first.name) && Arc::ptr_eq(&next.backends, &first.backends));
        Arc::ptr_eq(&next.family(Family::Ipv4).everyone, &first.family(Family::Ipv4).everyone)
    };
    let overridden = |state| AddressCondition { overridden: Some(state), ..Standing::Healthy.into() };
    assert!(shares_everyone(Standing::Unhealthy.into(), &pool));
    assert!(shares_everyone(overridden(Up), &pool));
    assert!(shares_everyone(overridden(Down), &pool));
    assert!(!shares_everyone(overridden(Drain), &pool));
    assert!(!shares_everyone(overridden(Disabled), &pool));
    let mut heavier = pool.clone();
    heavier.backends[2].weight = 4;
    assert!(!shares_everyone(Standing::Healthy.into(), &heavier));
}

#[test]
fn a_percent_scales_the_share_and_never_the_verdict() {
    // Slow start leaves little of the weight, but these addresses are healthy.
    let pool = pool(&[1, 1, 2], MinHealthy::Percent(100));
    let percents = [1, 100, 50];
    let view =
        build(&pool, |index, _| AddressCondition { percent: percents[index], ..Standing::Healthy.into() });
    let family = view.family(Family::Ipv4);
    assert!(family.usable);
    let weights = |view: &PoolView| -> Vec<u32> {
        view.family(Family::Ipv4).eligible.candidates.iter().map(|candidate| candidate.weight).collect()
    };
    assert_eq!(weights(&view), [1, 100, 100]);
    let all_full = build(&pool, |_, _| Standing::Healthy.into());
    assert_eq!(weights(&all_full), [1, 1, 2], "as configured");
}

#[test]
fn the_largest_weights_fit() {
    let pool = pool(&[MAX_WEIGHT; 3000], MinHealthy::Percent(100));
    let condition = |index: usize, _| AddressCondition {
        percent: if index == 0 { 99 } else { 100 },
        ..Standing::Healthy.into()
    };
    let family = &build(&pool, condition).families[0];
    assert!(family.usable);
    let expected = (2999 * 100 + 99) * u64::from(MAX_WEIGHT);
    let weights = family.eligible.candidates.iter().map(|candidate| u64::from(candidate.weight));
    assert_eq!(weights.sum::<u64>(), expected);
}

/// `down` in all tiers simulates a total failure. `drain` of every backend does not make the answer
/// empty, although only drained ones are left.
#[test]
fn fail_open_asks_the_operator_last() {
    let pool = pool(&[1, 1], MinHealthy::Count(1));
    let answered = |overrides: [Option<Override>; 2]| -> Vec<IpAddr> {
        let view = build(&pool, |index, _| AddressCondition {
            overridden: overrides[index],
            ..Standing::Unhealthy.into()
        });
        assert!(!view.usable());
        view.family(Family::Ipv4).everyone.members.iter().map(|member| member.address).collect()
    };
    assert_eq!(answered([Some(Down), Some(Down)]), [ipv4(0), ipv4(1)]);
    assert_eq!(answered([Some(Drain), None]), [ipv4(1)]);
    assert_eq!(answered([Some(Drain), Some(Down)]), [ipv4(1)]);
    assert_eq!(answered([Some(Drain), Some(Drain)]), [ipv4(0), ipv4(1)]);
    assert_eq!(answered([Some(Drain), Some(Disabled)]), [ipv4(0)]);
    assert_eq!(answered([Some(Disabled), Some(Disabled)]), [] as [IpAddr; 0]);
}
