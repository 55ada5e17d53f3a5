//! Draws from many candidates whose weights change.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::candidates;
use super::statistics::{FAIR, deviation};
use crate::selection::fraction::Fraction;
use crate::selection::inclusion::{Candidate, Frame, Spread, probabilities};
use crate::selection::partners::ORDERS;
use crate::selection::picked::Picked;
use crate::selection::sampler::Sampler;
use crate::selection::wide::WideLine;

const SEED: u64 = 20_260_102;

fn lines(sampler: &Sampler) -> Vec<&WideLine> {
    let wide = sampler.wide.as_ref().expect("many candidates");
    wide.lines.iter().map(|line| &**line).collect()
}

/// Enumerates all starts of one line.
fn check_line(line: &WideLine, frame: &Frame, candidates: &[Candidate], answers: usize, spread: Spread) {
    let mut hits = vec![0_u64; candidates.len()];
    for start in 0..frame.step {
        let mut hit = Vec::new();
        line.hits(start, frame.step, frame.sampled, |index| hit.push(index));
        assert_eq!(hit.len() as u64, frame.sampled);
        let mut at_sites: BTreeMap<u32, u64> = BTreeMap::new();
        for index in &hit {
            hits[*index as usize] += 1;
            *at_sites.entry(candidates[*index as usize].site).or_default() += 1;
        }
        hit.sort_unstable();
        hit.dedup();
        assert_eq!(hit.len() as u64, frame.sampled, "one is hit twice");
        if spread != Spread::Off {
            for (site, hits) in at_sites {
                let members =
                    frame.members.iter().filter(|member| candidates[member.index as usize].site == site);
                let weight: u64 = members.map(|member| u64::from(member.weight)).sum();
                assert!(hits <= (frame.sampled * weight).div_ceil(frame.step), "site {site}");
            }
        }
    }
    for (index, probability) in (0..).zip(probabilities(candidates, answers, spread)) {
        if frame.certain.contains(&index) {
            assert_eq!(hits[index as usize], 0, "a certain one is hit");
        } else {
            assert_eq!(Fraction::new(hits[index as usize], frame.step), probability.included, "{index}");
        }
    }
}

#[test]
fn inclusions_stay_exact_in_each_order_while_weights_change() {
    let mut rng = SmallRng::seed_from_u64(SEED);
    for (spread, answers) in [(Spread::Off, 1), (Spread::Shares, 3), (Spread::Shares, 7), (Spread::Always, 3)]
    {
        let weights: Vec<u32> = (0..400).map(|index| index % 3 + 1).collect();
        let sites: Vec<u32> = (0..400).map(|index| index % 5).collect();
        let mut candidates = candidates(&weights, &sites);
        let mut sampler = Sampler::new(&candidates, answers, spread, &mut rng);
        for round in 0..12 {
            let changes = match round % 4 {
                // So many that all sums are computed again.
                3 => 100,
                changes => changes + 1,
            };
            for _ in 0..changes {
                let index = rng.random_range(0..candidates.len());
                candidates[index].weight = match rng.random_range(0..8) {
                    0..4 => 0,
                    // Heavy enough to be in every answer.
                    4 if answers > 1 && spread != Spread::Always => 900,
                    weight => weight - 3,
                };
            }
            let orders: Vec<Vec<u32>> = lines(&sampler).iter().map(|line| line.order().to_vec()).collect();
            sampler = sampler.updated(&candidates, answers, spread, &mut rng);
            let frame = Frame::new(&candidates, answers, spread);
            assert_eq!(lines(&sampler).len(), if frame.sampled == 1 { 1 } else { ORDERS });
            for (place, line) in lines(&sampler).into_iter().enumerate() {
                if lines(&sampler).len() == orders.len() {
                    assert_eq!(line.order(), orders[place], "orders are kept");
                }
                if place % 5 == 0 {
                    check_line(line, &frame, &candidates, answers, spread);
                }
            }
            assert!(sampler == Sampler::new(&candidates, answers, spread, &mut rng));
            sampler.renew(&mut rng);
        }
    }
}

/// Tests the code that answers use, with changes and renewals in between.
#[test]
fn a_draw_from_many_is_fair() {
    let weights: Vec<u32> = (0..400).map(|index| if index == 9 { 500 } else { index % 4 + 1 }).collect();
    let sites: Vec<u32> = (0..400).map(|index| index % 7).collect();
    for (spread, answers) in [(Spread::Off, 1), (Spread::Shares, 4)] {
        let mut rng = SmallRng::seed_from_u64(SEED);
        let mut candidates = candidates(&weights, &sites);
        let mut sampler = Sampler::new(&candidates, answers, spread, &mut rng);
        let mut picked = Picked::default();
        let mut rounds = 0;
        let deviation = deviation(&candidates.clone(), answers, spread, 400_000, |answer| {
            rounds += 1;
            if rounds % 1000 == 0 {
                let flipped = rng.random_range(0..candidates.len());
                for weight in [0, weights[flipped]] {
                    candidates[flipped].weight = weight;
                    sampler = sampler.updated(&candidates, answers, spread, &mut rng);
                }
                sampler.renew(&mut rng);
            }
            sampler.draw(&mut rng, &mut picked);
            answer.extend(picked.indices());
        });
        assert!(deviation < FAIR, "{deviation} standard deviations: {answers}, {spread:?}");
    }
}

/// The work for a change does not depend on the number of candidates, except for a pass over them.
#[test]
fn a_change_copies_one_block_of_each_line() {
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut candidates = candidates(&vec![2; 10_000], &(0..10_000).collect::<Vec<u32>>());
    let before = Sampler::new(&candidates, 4, Spread::Shares, &mut rng);
    for weight in [0, 1, 2] {
        candidates[7_777].weight = weight;
        let after = before.updated(&candidates, 4, Spread::Shares, &mut rng);
        for (before, after) in lines(&before).into_iter().zip(lines(&after)) {
            let (shared, blocks) = after.shared_with(before);
            assert_eq!(blocks - shared, usize::from(weight != 2));
            assert_eq!(after.weight(), 2 * 9_999 + u64::from(weight));
        }
    }
}

#[test]
fn orders_of_many_are_renewed_one_by_one_and_differ() {
    let mut rng = SmallRng::seed_from_u64(SEED);
    let candidates = candidates(&[1; 1000], &(0..1000).map(|index| index % 50).collect::<Vec<u32>>());
    let mut sampler = Sampler::new(&candidates, 4, Spread::Shares, &mut rng);
    let orders = |sampler: &Sampler| -> Vec<Vec<u32>> {
        lines(sampler).iter().map(|line| line.order().to_vec()).collect()
    };
    let first = orders(&sampler);
    for renewed in 1..=ORDERS {
        sampler.renew(&mut rng);
        let now = orders(&sampler);
        assert_eq!(first.iter().zip(&now).filter(|(old, new)| old == new).count(), ORDERS - renewed);
        for order in now {
            let sites: Vec<u32> = order.iter().map(|index| index % 50).collect();
            assert_eq!(sites.chunk_by(|a, b| a == b).count(), 50, "the candidates of a site are together");
        }
    }
}
