//! Frequencies in many draws, made by the code that answers use.

use std::collections::HashMap;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::enumerated::distribution;
use super::{candidates, float};
use crate::selection::chance::Chance;
use crate::selection::inclusion::{Candidate, MAX_ANSWERS, Spread, probabilities};
use crate::selection::picked::Picked;
use crate::selection::sampler::Sampler;

const SEED: u64 = 20_260_101;
const ROUNDS: u32 = 1_000_000;

/// The value that chi-square exceeds with a probability of 1e-6 (Wilson and Hilferty, 1931).
pub(super) fn critical(degrees: usize) -> f64 {
    let degrees = f64::from(u32::try_from(degrees).unwrap());
    let variance = 2.0 / (9.0 * degrees);
    degrees * (1.0 - variance + 4.753 * variance.sqrt()).powi(3)
}

#[test]
fn answers_have_their_enumerated_frequencies() {
    for (weights, sites, answers, spread) in [
        (&[3, 2, 2, 1, 1, 3, 2, 1][..], &[0, 1, 2, 3, 4, 5, 6, 7][..], 2, Spread::Shares),
        (&[7, 1, 2, 1, 1], &[0, 0, 1, 1, 2], 3, Spread::Shares),
        (&[6, 3, 2, 1], &[0, 0, 1, 1], 3, Spread::Always),
    ] {
        let mut rng = SmallRng::seed_from_u64(SEED);
        let sampler = Sampler::new(&candidates(weights, sites), answers, spread, &mut rng);
        let distribution = distribution(&sampler);
        let mut seen: HashMap<Vec<u32>, u32> =
            distribution.keys().map(|answer| (answer.clone(), 0)).collect();
        let mut picked = Picked::default();
        for _ in 0..ROUNDS {
            sampler.draw(&mut rng, &mut picked);
            let count = seen.get_mut(picked.indices());
            *count.unwrap_or_else(|| panic!("{:?} cannot be drawn", picked.indices())) += 1;
        }
        let squares = distribution.iter().map(|(answer, chance)| {
            let expected = chance * f64::from(ROUNDS);
            (f64::from(seen[answer]) - expected).powi(2) / expected
        });
        let (chi_square, critical) = (squares.sum::<f64>(), critical(distribution.len() - 1));
        assert!(
            chi_square < critical,
            "{chi_square} of at most {critical}: {answers} of {weights:?}, {spread:?}"
        );
    }
}

/// Checks that each result is equally frequent.
fn assert_uniform(seen: &HashMap<Vec<usize>, u32>, results: usize, rounds: u32) {
    assert_eq!(seen.len(), results);
    let expected = f64::from(rounds) / f64::from(u32::try_from(results).unwrap());
    let chi_square: f64 = seen.values().map(|&seen| (f64::from(seen) - expected).powi(2) / expected).sum();
    assert!(chi_square < critical(results - 1), "{chi_square} with {results} results");
}

#[test]
fn each_order_of_a_shuffle_is_equally_frequent() {
    let mut rng = SmallRng::seed_from_u64(SEED);
    let rounds = 200_000;
    let mut seen = HashMap::new();
    for _ in 0..rounds {
        let mut items = vec![0, 1, 2, 3, 4];
        rng.shuffle(&mut items);
        *seen.entry(items).or_default() += 1;
    }
    assert_uniform(&seen, 120, rounds);
}

#[test]
fn each_place_of_a_long_shuffle_is_equally_frequent() {
    let mut rng = SmallRng::seed_from_u64(SEED);
    let (rounds, length) = (100_000, 40);
    let mut seen: Vec<HashMap<Vec<usize>, u32>> = vec![HashMap::new(); length];
    for _ in 0..rounds {
        let mut items: Vec<usize> = (0..length).collect();
        rng.shuffle(&mut items);
        for (seen, item) in seen.iter_mut().zip(items) {
            *seen.entry(vec![item]).or_default() += 1;
        }
    }
    for seen in seen {
        assert_uniform(&seen, length, rounds);
    }
}

/// The largest deviation of an inclusion or a first place from the formula, in standard deviations.
pub(super) fn deviation(
    candidates: &[Candidate],
    answers: usize,
    spread: Spread,
    rounds: u32,
    mut draw: impl FnMut(&mut Vec<u32>),
) -> f64 {
    let expected = probabilities(candidates, answers, spread);
    let mut included = vec![0_u32; candidates.len()];
    let mut first = vec![0_u32; candidates.len()];
    let mut answer = Vec::new();
    for _ in 0..rounds {
        answer.clear();
        draw(&mut answer);
        first[answer[0] as usize] += 1;
        for index in &answer {
            included[*index as usize] += 1;
        }
    }
    let sigmas = |(count, chance): (u32, f64)| {
        let rounds = f64::from(rounds);
        let sigma = (rounds * chance * (1.0 - chance)).sqrt().max(1e-3);
        (f64::from(count) - rounds * chance).abs() / sigma
    };
    let included = included.into_iter().zip(expected.iter().map(|expected| float(expected.included)));
    let first = first.into_iter().zip(expected.iter().map(|expected| float(expected.first)));
    included.chain(first).map(sigmas).fold(0.0, f64::max)
}

/// A fair draw deviates less than this, except in one run in a million.
pub(super) const FAIR: f64 = 5.5;

#[test]
fn a_draw_is_fair() {
    let weights = [3, 2, 2, 1, 9, 30, 4, 4];
    for (answers, spread) in [(1, Spread::Off), (2, Spread::Shares), (4, Spread::Shares), (4, Spread::Always)]
    {
        let mut rng = SmallRng::seed_from_u64(SEED);
        let candidates = candidates(&weights, &[0, 0, 1, 1, 2, 2, 2, 3]);
        let mut sampler = Sampler::new(&candidates, answers, spread, &mut rng);
        let mut picked = Picked::default();
        let mut rounds = 0;
        let deviation = deviation(&candidates, answers, spread, 200_000, |answer| {
            rounds += 1;
            if rounds % 1000 == 0 {
                sampler.renew(&mut rng);
            }
            sampler.draw(&mut rng, &mut picked);
            answer.extend(picked.indices());
        });
        assert!(deviation < FAIR, "{deviation} standard deviations: {answers}, {spread:?}");
    }
}

#[test]
fn draws_without_replacement_are_found() {
    let weights = [3, 2, 2, 1];
    let mut rng = SmallRng::seed_from_u64(SEED);
    let deviation = deviation(&candidates(&weights, &[0; 4]), 2, Spread::Off, 40_000, |answer| {
        let mut left = weights;
        for _ in 0..2 {
            let mut point = rng.random_range(0..left.iter().sum());
            let index = left.iter().position(|&weight| {
                let hit = point < weight;
                point = point.wrapping_sub(weight);
                hit
            });
            let index = index.unwrap();
            left[index] = 0;
            answer.push(u32::try_from(index).unwrap());
        }
    });
    assert!(deviation > 2.0 * FAIR, "{deviation}");
}

#[test]
fn a_shuffle_that_ignores_certain_candidates_is_found() {
    let candidates = candidates(&[6, 1, 1, 1], &[0; 4]);
    let mut rng = SmallRng::seed_from_u64(SEED);
    let sampler = Sampler::new(&candidates, 2, Spread::Off, &mut rng);
    let mut picked = Picked::default();
    let deviation = deviation(&candidates, 2, Spread::Off, 40_000, |answer| {
        sampler.draw(&mut rng, &mut picked);
        answer.extend(picked.indices());
        if rng.random_bool(0.5) {
            answer.reverse();
        }
    });
    assert!(deviation > 2.0 * FAIR, "{deviation}");
}

#[test]
fn a_rounded_step_is_found() {
    let weights = [2, 2, 2, 2, 1, 1, 1];
    let mut rng = SmallRng::seed_from_u64(SEED);
    let deviation = deviation(&candidates(&weights, &[0; 7]), 4, Spread::Off, 40_000, |answer| {
        // 11 / 4
        let step = 2;
        let start = rng.random_range(0..step);
        for hit in 0..4 {
            let mut end = 0;
            let index = weights.iter().position(|weight| {
                end += weight;
                start + hit * step < end
            });
            answer.push(u32::try_from(index.unwrap()).unwrap());
        }
        let first = rng.random_range(0..4);
        answer.swap(0, first);
    });
    assert!(deviation > 2.0 * FAIR, "{deviation}");
}

#[test]
fn two_answers_of_three_equal_sites_are_never_at_one() {
    let sites = [0, 0, 1, 1, 2, 2];
    let candidates = candidates(&[2, 1, 2, 1, 1, 2], &sites);
    for spread in [Spread::Shares, Spread::Always] {
        let mut rng = SmallRng::seed_from_u64(SEED);
        let sampler = Sampler::new(&candidates, 2, spread, &mut rng);
        let mut picked = Picked::default();
        for _ in 0..ROUNDS {
            sampler.draw(&mut rng, &mut picked);
            let [a, b] = picked.indices() else { panic!("{:?}", picked.indices()) };
            assert_ne!(sites[*a as usize], sites[*b as usize], "{spread:?}");
        }
    }
}

#[test]
fn answers_never_hold_one_candidate_twice_and_stop_at_the_limit() {
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut picked = Picked::default();
    let weights: Vec<u32> = (1..=1000).map(|index| index % 7 + 1).collect();
    let sites: Vec<u32> = (1..=1000).map(|index| index % 90).collect();
    for (spread, limit) in [Spread::Shares, Spread::Always, Spread::Off]
        .into_iter()
        .flat_map(|spread| [0, 1, 2, 89, 90, 91, 255, 256, 257, 5000].map(|limit| (spread, limit)))
    {
        for count in [0, 1, 200, 1000] {
            let candidates = candidates(&weights[..count], &sites[..count]);
            Sampler::new(&candidates, limit, spread, &mut rng).draw(&mut rng, &mut picked);
            let mut distinct = picked.indices().to_vec();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), limit.min(MAX_ANSWERS).min(count), "{limit} of {count}, {spread:?}");
            assert_eq!(picked.indices().len(), distinct.len());
        }
    }
}

/// The largest possible weights, in a pool with many backends and sites of unequal size.
#[test]
fn the_largest_weights_do_not_overflow() {
    let mut rng = SmallRng::seed_from_u64(SEED);
    let weights: Vec<u32> = (0..100_000).map(|index| 100_000_000 - index % 1009).collect();
    let sites: Vec<u32> = (0..100_000).map(|index| index % 150).collect();
    let candidates = candidates(&weights, &sites);
    let mut picked = Picked::default();
    for (spread, limit) in [(Spread::Shares, 256), (Spread::Always, 256), (Spread::Always, 100)] {
        let sampler = Sampler::new(&candidates, limit, spread, &mut rng);
        sampler.draw(&mut rng, &mut picked);
        assert_eq!(picked.indices().len(), limit);
        let probabilities = probabilities(&candidates, limit, spread);
        let included: f64 = probabilities.iter().map(|probability| float(probability.included)).sum();
        let first: f64 = probabilities.iter().map(|probability| float(probability.first)).sum();
        let limit = f64::from(u32::try_from(limit).unwrap());
        assert!((included / limit - 1.0).abs() < 1e-9 && (first - 1.0).abs() < 1e-9, "{included} of {limit}");
    }
}
