//! Computes the exact probabilities of draws by enumerating all choices.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::reference::expected;
use super::{candidates, float};
use crate::selection::chance::{Chance, Every};
use crate::selection::fraction::Fraction;
use crate::selection::inclusion::{Candidate, Frame, Probability, Spread, probabilities};
use crate::selection::partners::{self, ORDERS};
use crate::selection::picked::Picked;
use crate::selection::sampler::{Sampler, first};
use crate::selection::systematic::Line;

const SPREADS: [Spread; 3] = [Spread::Shares, Spread::Always, Spread::Off];

/// All multisets of `size` weights from 0 to 5.
fn multisets(size: usize) -> Vec<Vec<u32>> {
    let mut sets = vec![Vec::new()];
    for _ in 0..size {
        let longer = |set: &Vec<u32>| {
            let least = set.last().copied().unwrap_or(0);
            let set = set.clone();
            (least..=5).map(move |weight| [set.as_slice(), &[weight]].concat())
        };
        sets = sets.iter().flat_map(longer).collect();
    }
    sets
}

/// All ways to distribute the weights over sites, up to renaming sites and exchanging equal weights.
/// With six weights, at most three sites have more than one.
fn placements(weights: &[u32]) -> Vec<Vec<u32>> {
    let mut labels: Vec<Vec<u32>> = vec![Vec::new()];
    for _ in weights {
        let longer = |label: &Vec<u32>| {
            let next = label.iter().max().map_or(0, |last| last + 1);
            let label = label.clone();
            (0..=next).map(move |site| [label.as_slice(), &[site]].concat())
        };
        labels = labels.iter().flat_map(longer).collect();
    }
    let mut seen = HashSet::new();
    labels.retain(|label| {
        let mut sites: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (&site, &weight) in label.iter().zip(weights).filter(|(_, weight)| **weight > 0) {
            sites.entry(site).or_default().push(weight);
        }
        let mut sites: Vec<Vec<u32>> = sites.into_values().collect();
        sites.sort();
        seen.insert(sites)
    });
    labels
}

/// The lines of a frame, without those that differ only in the names of equal candidates. If there
/// are more than five candidates, only some of them.
fn lines(frame: &Frame, candidates: &[Candidate]) -> Vec<Line> {
    if frame.sampled == 0 {
        return Vec::new();
    }
    if frame.members.len() > 5 {
        let mut rng = SmallRng::seed_from_u64(6);
        return (0..2).map(|_| Line::random(frame, &mut rng)).collect();
    }
    let mut lines = Vec::new();
    let mut seen = HashSet::new();
    Every::run(
        |every| Line::random(frame, every),
        |line, _| {
            let stretches =
                line.order.chunk_by(|a, b| candidates[*a as usize].site == candidates[*b as usize].site);
            let weights = |stretch: &[u32]| -> Vec<u32> {
                stretch.iter().map(|index| candidates[*index as usize].weight).collect()
            };
            if seen.insert(stretches.map(weights).collect::<Vec<_>>()) {
                lines.push(line);
            }
        },
    );
    lines
}

/// The probability of each answer.
pub(super) fn distribution(sampler: &Sampler) -> HashMap<Vec<u32>, f64> {
    let mut drawn = HashMap::new();
    let mut picked = Picked::default();
    let run = |every: &mut Every| {
        sampler.draw_by(every, &mut picked);
        picked.indices().to_vec()
    };
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    Every::run(run, |answer, made| *drawn.entry(answer).or_default() += 1.0 / made as f64);
    drawn
}

/// A set of candidates as a bit set.
fn bits(indices: &[u32]) -> u32 {
    indices.iter().fold(0, |set, index| set | 1 << index)
}

/// How often each set of up to six candidates is hit, over all starts, and the total.
fn samples(frame: &Frame, line: &Line) -> (Vec<(u32, u64)>, u64) {
    // A start counts the same whether or not it has inner choices.
    let choices: u64 = frame.parts.iter().map(|part| part.weight).product();
    let mut samples = [0; 1 << 6];
    for start in 0..frame.step {
        let run = |every: &mut Every| {
            let mut hit = 0_u32;
            line.hits(start, frame.step, frame.sampled, every, |index| {
                assert_eq!(hit & 1 << index, 0, "candidate {index} is hit twice");
                hit |= 1 << index;
            });
            hit
        };
        Every::run(run, |hit, made| samples[hit as usize] += choices / made);
    }
    ((0..).zip(samples).filter(|(_, times)| *times > 0).collect(), frame.step * choices)
}

/// Enumerates which candidate moves to the front.
fn check_first_places(frame: &Frame, expected: &[Probability]) {
    let certain = frame.certain.len();
    let mut chances = vec![0; certain + usize::try_from(frame.sampled).unwrap()];
    if chances.is_empty() {
        return;
    }
    let all = frame.places * frame.sampled.max(1);
    Every::run(|every| first(frame, every), |place, made| chances[place] += all / made);
    for (place, &index) in frame.certain.iter().enumerate() {
        assert_eq!(Fraction::new(chances[place], all), expected[index as usize].first, "{frame:?}");
    }
    let sampled = &chances[certain..];
    assert!(sampled.iter().all(|chance| *chance == sampled[0]), "{frame:?}");
    for member in &frame.members {
        // Its place among the sampled ones does not matter, so being in the answer and moving to the
        // front are independent.
        let Probability { included, first } = expected[member.index as usize];
        let both = Fraction::new(
            included.numerator * u128::from(sampled[0]),
            included.denominator * u128::from(all),
        );
        assert_eq!(both, first, "{frame:?}");
    }
}

/// Enumerates the draws from all orders, and compares them with the formulas.
fn check(candidates: &[Candidate], answers: usize, spread: Spread) {
    let context = || format!("{answers} of {candidates:?}, {spread:?}");
    let frame = Frame::new(candidates, answers, spread);
    let expected = expected(candidates, answers, spread);
    assert_eq!(probabilities(candidates, answers, spread), expected, "{}", context());
    check_first_places(&frame, &expected);
    if candidates.iter().any(|candidate| candidate.weight == 0) {
        // The line has only the other candidates, which are checked separately.
        return;
    }
    let certain = bits(&frame.certain);
    let sites = sites(candidates);
    for line in lines(&frame, candidates) {
        let (samples, all) = samples(&frame, &line);
        let count = |wanted: &dyn Fn(u32) -> bool| -> u64 {
            samples.iter().filter(|(hit, _)| wanted(*hit)).map(|(_, times)| times).sum()
        };
        for (index, Probability { included, .. }) in expected.iter().enumerate() {
            if certain & 1 << index == 0 {
                let hits = count(&|hit| hit & 1 << index != 0);
                assert_eq!(Fraction::new(hits, all), *included, "candidate {index}: {}", context());
            }
        }
        assert_eq!(count(&|hit| hit & certain != 0), 0, "a certain one is hit: {}", context());
        assert!(samples.iter().all(|(hit, _)| u64::from(hit.count_ones()) == frame.sampled), "{}", context());
        let answers = samples.iter().map(|(hit, _)| hit | certain);
        assert!(are_spread(answers, &sites, &frame, spread), "{samples:?}: {}", context());
    }
}

/// The sites, as bit sets of candidates.
fn sites(candidates: &[Candidate]) -> Vec<u32> {
    let mut sites: BTreeMap<u32, u32> = BTreeMap::new();
    for (index, candidate) in candidates.iter().enumerate() {
        *sites.entry(candidate.site).or_default() |= 1 << index;
    }
    sites.into_values().collect()
}

/// Whether the answers spread over sites as promised.
fn are_spread(answers: impl Iterator<Item = u32>, sites: &[u32], frame: &Frame, spread: Spread) -> bool {
    let certain = bits(&frame.certain);
    let weight = |site: u32| -> u64 {
        let members = frame.members.iter().filter(|member| site & 1 << member.index != 0);
        members.map(|member| u64::from(member.weight)).sum()
    };
    let weights: Vec<(u32, u64)> = sites.iter().map(|&site| (site, weight(site))).collect();
    let is_spread = |answer: u32| {
        let enough_sites = answer.count_ones() as usize <= sites.len();
        weights.iter().all(|&(site, weight)| {
            let from_site = (answer & site).count_ones();
            let sampled = u64::from((answer & site & !certain).count_ones());
            // The number of hits on the line is the expected one, rounded down or up.
            let (hits, rest) = (frame.sampled * weight / frame.step, frame.sampled * weight % frame.step);
            match spread {
                Spread::Off => true,
                Spread::Shares => (hits..=hits + u64::from(rest > 0)).contains(&sampled),
                Spread::Always if enough_sites => from_site <= 1,
                Spread::Always => from_site >= 1,
            }
        })
    };
    { answers }.all(is_spread)
}

#[test]
fn inclusions_are_exact_without_sites() {
    for weights in (1..=6).flat_map(multisets) {
        let alone: Vec<u32> = (0..).take(weights.len()).collect();
        for answers in 1..=4 {
            check(&candidates(&weights, &alone), answers, Spread::Off);
        }
    }
}

fn check_with_sites(spread: Spread) {
    for weights in (1..=6).flat_map(multisets) {
        for sites in placements(&weights) {
            for answers in 1..=4 {
                check(&candidates(&weights, &sites), answers, spread);
            }
        }
    }
}

#[test]
fn inclusions_are_exact_when_shares_win() {
    check_with_sites(Spread::Shares);
}

#[test]
fn inclusions_are_exact_when_sites_win() {
    check_with_sites(Spread::Always);
}

/// The complete draw, with the order of each answer.
#[test]
fn answers_are_exact_and_the_rest_is_shuffled() {
    let one_site = [0; 4];
    for (weights, answers) in [([3, 2, 2, 1], 2), ([5, 1, 1, 1], 2), ([4, 3, 1, 1], 3), ([1, 2, 3, 4], 4)] {
        let candidates = candidates(&weights, &one_site);
        for spread in [Spread::Shares, Spread::Always, Spread::Off] {
            let sampler = Sampler::new(&candidates, answers, spread, &mut SmallRng::seed_from_u64(2));
            let drawn = distribution(&sampler);
            let chance = |wanted: &dyn Fn(&[u32]) -> bool| -> f64 {
                drawn.iter().filter(|(answer, _)| wanted(answer)).map(|(_, chance)| chance).sum()
            };
            for (index, Probability { included, first }) in (0..).zip(expected(&candidates, answers, spread))
            {
                let context = format!("{index} of {weights:?}, {answers}, {spread:?}");
                let found = chance(&|answer| answer.contains(&index));
                assert!((found - float(included)).abs() < 1e-12, "{context}");
                assert!((chance(&|answer| answer[0] == index) - float(first)).abs() < 1e-12, "{context}");
            }
            for (answer, chance) in &drawn {
                let mut backwards = answer.clone();
                backwards[1..].reverse();
                assert!((drawn[&backwards] - chance).abs() < 1e-12, "{answer:?} of {weights:?}, {spread:?}");
            }
        }
    }
}

/// The pairs of candidates that lines draw together.
fn pairs<'l>(frame: &Frame, lines: impl Iterator<Item = &'l Line>) -> BTreeSet<(u32, u32)> {
    let mut pairs = BTreeSet::new();
    for line in lines {
        for (hit, _) in samples(frame, line).0 {
            let of_hit = |index: &u32| hit & 1 << index != 0;
            for a in (0..6).filter(of_hit) {
                pairs.extend((a + 1..6).filter(of_hit).map(|b| (a, b)));
            }
        }
    }
    pairs
}

#[test]
fn few_candidates_meet_all_partners_that_they_can() {
    let mut rng = SmallRng::seed_from_u64(3);
    let sets: [(&[u32], &[u32]); 7] = [
        (&[1, 1, 1, 1, 1, 1], &[0, 1, 2, 3, 4, 5]),
        (&[1, 1, 1, 1, 1, 1], &[0, 0, 1, 1, 2, 2]),
        (&[5, 3, 2, 2, 1, 1], &[0, 1, 2, 3, 4, 5]),
        (&[5, 3, 2, 2, 1, 1], &[0, 0, 1, 1, 1, 2]),
        (&[4, 3, 2, 1, 1], &[0, 1, 1, 2, 2]),
        (&[3, 2, 2, 1], &[0, 0, 1, 2]),
        (&[9, 7, 7, 5, 3], &[0, 0, 0, 1, 1]),
    ];
    for (weights, sites) in sets {
        let candidates = candidates(weights, sites);
        for (answers, spread) in (2..=4).flat_map(|answers| SPREADS.map(|spread| (answers, spread))) {
            let mut sampler = Sampler::new(&candidates, answers, spread, &mut rng);
            let frame = Frame::new(&candidates, answers, spread);
            let mut all = Vec::new();
            if frame.sampled > 1 {
                Every::run(|every| Line::random(&frame, every), |line, _| all.push(line));
            }
            let possible = pairs(&frame, all.iter());
            for _ in 0..3 {
                let lines = sampler.lines.iter().map(|line| &**line);
                if frame.sampled > 1 {
                    assert_eq!(lines.len(), ORDERS);
                    assert_eq!(pairs(&frame, lines), possible, "{answers} of {candidates:?}, {spread:?}");
                }
                (0..=ORDERS).for_each(|_| sampler.renew(&mut rng));
            }
        }
    }
}

/// Random pools, compared with all their orders.
#[test]
fn random_pools_of_few_draw_all_pairs_that_they_can() {
    let mut rng = SmallRng::seed_from_u64(5);
    for _ in 0..200 {
        let count = rng.random_range(3..=6);
        let mut random = |range: std::ops::Range<u32>| -> Vec<u32> {
            (0..count).map(|_| rng.random_range(range.clone())).collect()
        };
        let candidates = candidates(&random(1..12), &random(0..4));
        for (answers, spread) in (2..=4).flat_map(|answers| SPREADS.map(|spread| (answers, spread))) {
            let frame = Frame::new(&candidates, answers, spread);
            if frame.sampled < 2 {
                continue;
            }
            let mut possible = 0;
            Every::run(
                |every| Line::random(&frame, every),
                |line, _| possible |= partners::pairs(&frame, &line),
            );
            let sampler = Sampler::new(&candidates, answers, spread, &mut rng);
            let drawn = sampler.lines.iter().fold(0, |drawn, line| drawn | partners::pairs(&frame, line));
            assert_eq!(drawn, possible, "{answers} of {candidates:?}, {spread:?}");
        }
    }
}

/// Counts choices.
struct Counted(SmallRng, usize);

impl Chance for Counted {
    fn below(&mut self, bound: u64) -> u64 {
        self.1 += 1;
        self.0.below(bound)
    }
}

/// The two lightest of these can never be drawn together, however many orders are tried.
#[test]
fn a_pair_that_cannot_be_drawn_costs_one_random_order() {
    let candidates = candidates(&[5, 3, 2, 2, 1, 1], &[0, 1, 2, 3, 4, 5]);
    let frame = Frame::new(&candidates, 2, Spread::Off);
    for seed in 0..100 {
        let mut counted = Counted(SmallRng::seed_from_u64(seed), 0);
        let (lines, kept) = partners::orders(&frame, &mut counted);
        let drawn = lines.iter().fold(0, |drawn, line| drawn | partners::pairs(&frame, line));
        assert!(drawn.count_ones() < 15 && kept < ORDERS, "{drawn:b}, {kept}");
        // Six candidates are shuffled by five choices, and a part and a group by none.
        assert!(counted.1 <= (15 + ORDERS) * 5, "{} choices", counted.1);
    }
}

#[test]
fn renewal_of_few_candidates_replaces_one_order_that_no_pair_needs() {
    let mut rng = SmallRng::seed_from_u64(7);
    let candidates = candidates(&[5, 3, 2, 2, 1, 1], &[0, 1, 2, 3, 4, 5]);
    let mut sampler = Sampler::new(&candidates, 2, Spread::Off, &mut rng);
    for _ in 0..2 * ORDERS {
        let before = sampler.lines.clone();
        sampler.renew(&mut rng);
        let kept = before.iter().zip(&sampler.lines).filter(|(old, new)| Arc::ptr_eq(old, new)).count();
        assert_eq!(kept, ORDERS - 1);
    }
}

#[test]
fn partners_of_many_change_with_the_orders() {
    let mut rng = SmallRng::seed_from_u64(4);
    let candidates = candidates(&[1; 100], &(0..100).collect::<Vec<u32>>());
    let mut sampler = Sampler::new(&candidates, 2, Spread::Shares, &mut rng);
    let before = sampler.lines.clone();
    for renewed in 1..=ORDERS {
        sampler.renew(&mut rng);
        let kept = before.iter().zip(&sampler.lines).filter(|(old, new)| Arc::ptr_eq(old, new)).count();
        assert_eq!(kept, ORDERS - renewed);
    }
}
