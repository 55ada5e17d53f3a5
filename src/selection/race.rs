//! How often rankings place each candidate in an answer, over all clients.
//!
//! Scores are independent exponential variables, so a ranking is a race in which candidate `i` arrives at a time with the
//! rate `w_i`. It is in an answer if at most `n - 1` others arrive before it:
//!
//! ```text
//! included_i = integral over t of  w_i e^(-w_i t) * P(at most n - 1 others arrive before t)
//! ```
//!
//! If sites matter, the best of each site race for its site with the sum of its weights, and each candidate of the site is
//! its best with the probability `weight / sum`, whenever it arrives. If there are fewer sites than answers, the best of
//! each site are in every answer, and the others are in it if few enough others arrive before them.
//!
//! First places are exact fractions; the integrals are sums in floating point, which no answer depends on.

use std::collections::BTreeMap;

use super::fraction::Fraction;
use super::inclusion::{Candidate, MAX_ANSWERS, Probability, Spread};
use super::persistent::sites_matter;

/// The integral is a sum over the logarithm of the time with this step. Its error is far below the unit of the result.
const STEP: f64 = 0.125;
/// The part of a probability that may be lost at each end of the integral.
const TAIL: f64 = 1e-12;
/// The unit in which probabilities are rounded.
const UNITS: u64 = 1 << 40;

/// The most kinds of racers, times the square of the answers, that are told apart, so that the work is a fraction of a
/// second. More kinds are merged with those of a similar weight.
const MOST_WORK: usize = 1 << 18;

/// Alike candidates: their weight, and how many they are.
type Alike = BTreeMap<u32, usize>;

/// The probabilities of each candidate in answers that are ranked for clients.
#[must_use]
pub fn ranked_probabilities(candidates: &[Candidate], answers: usize, spread: Spread) -> Vec<Probability> {
    let mut sites: BTreeMap<u32, Alike> = BTreeMap::new();
    let weighted = || candidates.iter().filter(|candidate| candidate.weight > 0);
    for candidate in weighted() {
        *sites.entry(candidate.site).or_default().entry(candidate.weight).or_default() += 1;
    }
    let count = weighted().count();
    let total: u64 = weighted().map(|candidate| u64::from(candidate.weight)).sum();
    let answers = answers.min(MAX_ANSWERS).min(count);
    let included = if answers == count || answers < 2 {
        None
    } else if sites_matter(spread, answers, sites.len(), count) {
        Some(if sites.len() >= answers {
            among_sites(&sites, answers)
        } else {
            beside_sites(&sites, answers)
        })
    } else {
        Some(among_all(sites.values(), answers))
    };
    let probability = |candidate: &Candidate| {
        if candidate.weight == 0 || answers == 0 {
            return Probability { included: Fraction::ZERO, first: Fraction::ZERO };
        }
        let first = Fraction::new(candidate.weight, total);
        let included = match &included {
            Some(included) => {
                let site = if included.by_site { candidate.site } else { 0 };
                rounded(included.of.get(&(site, candidate.weight)).copied().unwrap_or(0.0))
            }
            None if answers == 1 => first,
            None => Fraction::ONE,
        };
        Probability { included, first }
    };
    candidates.iter().map(probability).collect()
}

/// Inclusions by site and weight; without sites the site is 0.
struct Inclusions {
    by_site: bool,
    of: BTreeMap<(u32, u32), f64>,
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the unit")]
fn rounded(probability: f64) -> Fraction {
    Fraction::new((probability.clamp(0.0, 1.0) * as_float(UNITS)).round() as u64, UNITS)
}

/// A race of all candidates, in which the first `places` win.
fn among_all<'s>(sites: impl Iterator<Item = &'s Alike>, places: usize) -> Inclusions {
    let mut all = Alike::new();
    for (weight, count) in sites.flatten() {
        *all.entry(*weight).or_default() += count;
    }
    let rates: Vec<(u64, usize)> = all.iter().map(|(weight, count)| (u64::from(*weight), *count)).collect();
    let included = all.keys().zip(wins(&rates, places)).map(|(weight, wins)| ((0, *weight), wins));
    Inclusions { by_site: false, of: included.collect() }
}

/// A race of sites, in which the first `places` win.
fn among_sites(sites: &BTreeMap<u32, Alike>, places: usize) -> Inclusions {
    let rates: Vec<(u64, usize)> = sites.values().map(|alike| (weight_of(alike), 1)).collect();
    let mut of = BTreeMap::new();
    for ((site, alike), wins) in sites.iter().zip(wins(&rates, places)) {
        let sum = as_float(weight_of(alike));
        of.extend(alike.keys().map(|weight| ((*site, *weight), wins * f64::from(*weight) / sum)));
    }
    Inclusions { by_site: true, of }
}

/// The best of each site win, and the first of all others.
fn beside_sites(sites: &BTreeMap<u32, Alike>, answers: usize) -> Inclusions {
    let places = answers - sites.len();
    // Each kind of a site is considered beside all others of its site.
    let most = (MOST_WORK / sites.len() / (places * places).max(1)).isqrt().max(1);
    let coarse: BTreeMap<u32, Coarse> =
        sites.iter().map(|(site, alike)| (*site, Coarse::new(alike, most))).collect();
    let exact = sites;
    let sites: BTreeMap<u32, Alike> =
        coarse.iter().map(|(site, coarse)| (*site, coarse.alike.clone())).collect();
    let sites = &sites;
    let total: u64 = sites.values().map(weight_of).sum();
    let slowest = sites.values().flat_map(Alike::keys).min().copied().unwrap_or(1);
    let mut of: BTreeMap<(u32, u32), f64> = BTreeMap::new();
    for (site, alike) in sites {
        let sum = as_float(weight_of(alike));
        of.extend(alike.keys().map(|weight| ((*site, *weight), f64::from(*weight) / sum)));
    }
    for time in times(as_float(total), slowest.into()) {
        let arrivals = |alike: &Alike, without: Option<u32>| {
            let rest = alike
                .iter()
                .map(|(weight, count)| (f64::from(*weight), count - usize::from(without == Some(*weight))));
            // One more count, because the best of each site takes no place.
            arrived(rest, time, places + 1)
        };
        let others: Vec<Vec<f64>> =
            sites.values().map(|alike| without_best(&arrivals(alike, None))).collect();
        for ((site, alike), elsewhere) in sites.iter().zip(all_but_each(&others, places)) {
            for weight in alike.keys() {
                // Another one of its site is before it, and takes no place.
                let before =
                    convolved(&elsewhere, arrivals(alike, Some(*weight)).get(1..).unwrap_or_default());
                if let Some(included) = of.get_mut(&(*site, *weight)) {
                    *included += density(f64::from(*weight), time) * before.iter().sum::<f64>();
                }
            }
        }
    }
    let included = |site: u32, weight: u32| {
        let merged = coarse.get(&site).map_or(weight, |coarse| coarse.weight(weight));
        ((site, weight), of.get(&(site, merged)).copied().unwrap_or(0.0))
    };
    let of =
        exact.iter().flat_map(|(site, alike)| alike.keys().map(|weight| included(*site, *weight))).collect();
    Inclusions { by_site: true, of }
}

/// The candidates of a site, with similar weights merged to their mean.
struct Coarse {
    alike: Alike,
    /// The mean of the weights that are equal without their lowest bits.
    means: BTreeMap<u64, u32>,
    shift: u32,
}

impl Coarse {
    fn new(alike: &Alike, most: usize) -> Self {
        let kinds: Vec<(u64, usize)> =
            alike.iter().map(|(weight, count)| (u64::from(*weight), *count)).collect();
        let (merged, shift) = merged(&kinds, most);
        let mean =
            |(sum, count): &(u64, usize)| u32::try_from(sum / *count as u64).unwrap_or(u32::MAX).max(1);
        let means = merged.iter().map(|(key, of)| (*key, mean(of))).collect();
        let mut alike = Alike::new();
        for of in merged.values() {
            *alike.entry(mean(of)).or_default() += of.1;
        }
        Self { alike, means, shift }
    }

    /// The weight for which a weight stands.
    fn weight(&self, weight: u32) -> u32 {
        self.means.get(&(u64::from(weight) >> self.shift)).copied().unwrap_or(weight)
    }
}

/// The distribution of the arrivals of a site without its best.
fn without_best(arrivals: &[f64]) -> Vec<f64> {
    let (none, rest) = arrivals.split_first().unwrap_or((&0.0, &[]));
    let mut others = rest.to_vec();
    if let Some(first) = others.first_mut() {
        *first += none;
    }
    others
}

fn weight_of(alike: &Alike) -> u64 {
    alike.iter().map(|(weight, count)| u64::from(*weight) * *count as u64).sum()
}

/// For each kind of racer, the probability that one of it is among the first `places`. A kind has a rate and a number of
/// racers.
fn wins(kinds: &[(u64, usize)], places: usize) -> Vec<f64> {
    let (alike, shift) = merged(kinds, MOST_WORK / (places * places).max(1));
    let rates: Vec<(f64, usize)> =
        alike.values().map(|(sum, count)| (as_float(*sum) / as_float(*count as u64), *count)).collect();
    let total: f64 = rates.iter().map(|(rate, count)| rate * as_float(*count as u64)).sum();
    let slowest = rates.iter().map(|(rate, _)| *rate).fold(f64::INFINITY, f64::min);
    let mut wins = vec![0.0; rates.len()];
    for time in times(total, slowest) {
        let counts: Vec<Vec<f64>> =
            rates.iter().map(|kind| arrived(std::iter::once(*kind), time, places)).collect();
        for ((wins, (rate, count)), others) in wins.iter_mut().zip(&rates).zip(all_but_each(&counts, places))
        {
            let before = convolved(&others, &arrived(std::iter::once((*rate, count - 1)), time, places));
            *wins += density(*rate, time) * before.iter().sum::<f64>();
        }
    }
    let of_kind: BTreeMap<u64, f64> = alike.keys().copied().zip(wins).collect();
    kinds.iter().map(|(rate, _)| of_kind.get(&(rate >> shift)).copied().unwrap_or(0.0)).collect()
}

/// Kinds whose rates differ only in low bits, as one kind with the mean rate: as many bits as make at most `most` kinds.
/// Returns the sum of the rates and the number of racers by the other bits, and how many bits were dropped.
fn merged(kinds: &[(u64, usize)], most: usize) -> (BTreeMap<u64, (u64, usize)>, u32) {
    for shift in 0.. {
        let mut alike: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
        for (rate, count) in kinds {
            let (sum, racers) = alike.entry(rate >> shift).or_default();
            *sum += rate * *count as u64;
            *racers += count;
        }
        if alike.len() <= most.max(1) || shift == u64::BITS - 1 {
            return (alike, shift);
        }
    }
    (BTreeMap::new(), 0)
}

/// For each distribution, that of the sum of all others.
fn all_but_each(counts: &[Vec<f64>], length: usize) -> Vec<Vec<f64>> {
    let mut after = vec![certain_none(length)];
    for counts in counts.iter().skip(1).rev() {
        after.push(convolved(after.last().map_or(&[][..], Vec::as_slice), counts));
    }
    let mut before = certain_none(length);
    let each = counts.iter().zip(after.iter().rev()).map(|(own, after)| {
        let others = convolved(&before, after);
        before = convolved(&before, own);
        others
    });
    each.collect()
}

/// The times of the sum: before the first and after the last, next to nothing happens.
fn times(total: f64, slowest: f64) -> impl Iterator<Item = f64> {
    let (first, last) = ((TAIL / total).ln(), (-TAIL.ln() / slowest).ln());
    let mut at = first;
    std::iter::from_fn(move || {
        at += STEP;
        (at < last + STEP).then(|| at.exp())
    })
}

/// The probability of an arrival within the step around this time.
fn density(rate: f64, time: f64) -> f64 {
    rate * time * (-rate * time).exp() * STEP
}

fn certain_none(length: usize) -> Vec<f64> {
    let mut counts = vec![0.0; length];
    if let Some(none) = counts.first_mut() {
        *none = 1.0;
    }
    counts
}

/// The probabilities that 0, 1, .. `length - 1` racers arrive before a time.
fn arrived(kinds: impl Iterator<Item = (f64, usize)>, time: f64, length: usize) -> Vec<f64> {
    kinds.fold(certain_none(length), |sum, (rate, count)| {
        let late = (-rate * time).exp();
        convolved(&sum, &binomial(late, -(-rate * time).exp_m1(), count, length))
    })
}

/// The probabilities that 0, 1, .. `length - 1` of `count` racers are early, each from the one beside it.
fn binomial(late: f64, early: f64, count: usize, length: usize) -> Vec<f64> {
    let ways = |arrived: usize| as_float((count - arrived) as u64) / as_float(arrived as u64 + 1);
    let none = late.powf(as_float(count as u64));
    if none > f64::MIN_POSITIVE * 1e20 {
        let next = |last: &f64, arrived: usize| last * ways(arrived) * early / late;
        let from =
            |&(arrived, last): &(usize, f64)| (arrived < count).then(|| (arrived + 1, next(&last, arrived)));
        return std::iter::successors(Some((0, none)), from).map(|(_, chance)| chance).take(length).collect();
    }
    // Hardly any are late. If most counts are cut off, so is nearly all of the distribution.
    if count >= 4 * length {
        return vec![0.0; length];
    }
    let all = early.powf(as_float(count as u64));
    let from = |&(arrived, last): &(usize, f64)| {
        arrived.checked_sub(1).map(|fewer| (fewer, last / ways(fewer) * late / early))
    };
    let mut counts: Vec<f64> =
        std::iter::successors(Some((count, all)), from).map(|(_, chance)| chance).collect();
    counts.reverse();
    counts.truncate(length);
    counts
}

/// The distribution of the sum of two counts, as far as the first one goes.
fn convolved(one: &[f64], other: &[f64]) -> Vec<f64> {
    let at = |sum: usize| (0..=sum).filter_map(|part| Some(one.get(part)? * other.get(sum - part)?)).sum();
    (0..one.len()).map(at).collect()
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
fn as_float(count: u64) -> f64 {
    count as f64
}
