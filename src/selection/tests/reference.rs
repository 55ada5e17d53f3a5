//! A second implementation of the formulas, simple and slow.

use crate::selection::fraction::Fraction;
use crate::selection::inclusion::{Candidate, Probability, Spread};

/// The probabilities of each candidate.
pub(super) fn expected(candidates: &[Candidate], answers: usize, spread: Spread) -> Vec<Probability> {
    let eligible = candidates.iter().filter(|candidate| candidate.weight > 0).count();
    let answers = answers.min(eligible) as u64;
    let all: Vec<usize> = (0..candidates.len()).filter(|&index| candidates[index].weight > 0).collect();
    let mut inclusions = vec![Fraction::ZERO; candidates.len()];
    if spread != Spread::Always {
        share(candidates, &all, (answers, 1), &mut inclusions);
        let total: u32 = candidates.iter().map(|candidate| candidate.weight).sum();
        let first = candidates.iter().map(|candidate| Fraction::new(candidate.weight, total.max(1)));
        return inclusions.into_iter().zip(first).map(probability).collect();
    }
    let mut sites: Vec<u32> = all.iter().map(|&index| candidates[index].site).collect();
    sites.sort_unstable();
    sites.dedup();
    let members = |site: u32| -> Vec<usize> {
        all.iter().copied().filter(|&index| candidates[index].site == site).collect()
    };
    let sizes: Vec<(u64, u64)> = sites
        .iter()
        .map(|&site| {
            let members = members(site);
            let weight = members.iter().map(|&index| u64::from(candidates[index].weight)).sum();
            (weight, members.len() as u64)
        })
        .collect();
    if answers > 0 {
        for (&site, hits) in sites.iter().zip(hits_of_sites(&sizes, answers)) {
            share(candidates, &members(site), hits, &mut inclusions);
        }
    }
    let answers = u128::from(answers.max(1));
    let uniform = |included: Fraction| Fraction::new(included.numerator, included.denominator * answers);
    inclusions.into_iter().map(|included| probability((included, uniform(included)))).collect()
}

fn probability((included, first): (Fraction, Fraction)) -> Probability {
    Probability { included, first }
}

/// Divides a fraction of hits by weight, at most 1 for each.
fn share(
    candidates: &[Candidate],
    members: &[usize],
    (hits, parts): (u64, u64),
    inclusions: &mut [Fraction],
) {
    let weight = |index: usize| u64::from(candidates[index].weight);
    let mut members = members.to_vec();
    members.sort_by_key(|&index| weight(index));
    let mut hits = hits;
    while let Some(&heaviest) = members.last() {
        let total: u64 = members.iter().map(|&index| weight(index)).sum();
        if hits * weight(heaviest) < parts * total {
            for &index in &members {
                inclusions[index] = Fraction::new(hits * weight(index), parts * total);
            }
            return;
        }
        inclusions[heaviest] = Fraction::ONE;
        hits -= parts;
        members.pop();
    }
}

/// The expected hits of sites, given their weights and numbers of candidates: `c x weight`, clipped,
/// so that the sum is `answers`. Tries all ways of clipping.
fn hits_of_sites(sites: &[(u64, u64)], answers: u64) -> Vec<(u64, u64)> {
    let enough_sites = answers <= sites.len() as u64;
    let limits: Vec<(u64, u64)> =
        sites.iter().map(|&(_, count)| if enough_sites { (0, 1) } else { (1, count) }).collect();
    let mut clips = vec![Clip::Least; sites.len()];
    loop {
        if let Some(hits) = hits_if_clipped(sites, &limits, &clips, answers) {
            return hits;
        }
        // The next way of clipping, as when counting up.
        let next = clips.iter_mut().find_map(|clip| {
            *clip = match clip {
                Clip::Least => Clip::Most,
                Clip::Most => Clip::Neither,
                Clip::Neither => Clip::Least,
            };
            (*clip != Clip::Least).then_some(())
        });
        next.unwrap_or_else(|| panic!("{answers} answers cannot be shared by {sites:?}"));
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Clip {
    Least,
    Most,
    Neither,
}

/// The expected hits of each site, if they are really clipped in this way.
fn hits_if_clipped(
    sites: &[(u64, u64)],
    limits: &[(u64, u64)],
    clips: &[Clip],
    answers: u64,
) -> Option<Vec<(u64, u64)>> {
    let all = || sites.iter().zip(limits).zip(clips);
    let (mut clipped, mut weight) = (0, 0);
    for ((site, limits), clip) in all() {
        match clip {
            Clip::Least => clipped += limits.0,
            Clip::Most => clipped += limits.1,
            Clip::Neither => weight += site.0,
        }
    }
    if weight == 0 || clipped > answers {
        return None;
    }
    // c is this over `weight`.
    let left = answers - clipped;
    let fits = all().all(|((site, limits), clip)| {
        let (hits, least, most) = (left * site.0, limits.0 * weight, limits.1 * weight);
        match clip {
            Clip::Least => hits <= least,
            Clip::Most => hits >= most,
            Clip::Neither => least <= hits && hits <= most,
        }
    });
    let hits = all().map(|((site, limits), clip)| match clip {
        Clip::Least => (limits.0, 1),
        Clip::Most => (limits.1, 1),
        Clip::Neither => (left * site.0, weight),
    });
    fits.then(|| hits.collect())
}
