//! The exact probabilities of a draw: which candidates are in every answer, how long the others are
//! on the line, and the resulting formulas.

use std::ops::Range;

use super::fraction::Fraction;
use super::sites::{Site, expected_hits};

/// The most addresses in one answer. 256 A records take 4 KiB of a TCP message.
pub const MAX_ANSWERS: usize = 256;

/// A candidate for a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its share of the total weight; with 0 it is never drawn.
    pub weight: u32,
    /// The number of its site.
    pub site: u32,
}

/// How answers spread over sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Spread {
    /// As far as the weights allow: a site that weighs no more than one answer is in an answer at
    /// most once.
    #[default]
    Shares,
    /// Over as many sites as there are answers; this has priority over weights.
    Always,
    /// Sites do not matter.
    Off,
}

impl Spread {
    /// The word for it in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shares => "shares",
            Self::Always => "always",
            Self::Off => "off",
        }
    }
}

/// How often a candidate is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probability {
    /// The probability of being in an answer.
    pub included: Fraction,
    /// The probability of being first in an answer: its share of traffic.
    pub first: Fraction,
}

/// The probabilities of each candidate in a draw of `answers`.
#[must_use]
pub fn probabilities(candidates: &[Candidate], answers: usize, spread: Spread) -> Vec<Probability> {
    Frame::new(candidates, answers, spread).probabilities(candidates.len())
}

/// A candidate of positive weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WeightedCandidate {
    /// Its index in the list of candidates.
    pub(super) index: u32,
    pub(super) weight: u32,
    site: u32,
}

/// A section of the line. Its members share its length in proportion to their weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Its groups, as indices into [`Frame::groups`].
    pub(super) groups: Range<usize>,
    /// Its length on the line.
    pub(super) length: u64,
    /// The sum of the weights of its members.
    pub(super) weight: u64,
}

/// The members of a site that are not in every answer.
struct UncertainSite {
    /// Length divided by weight.
    per_weight: Fraction,
    length: u64,
    weight: u64,
    members: Vec<WeightedCandidate>,
}

/// All data for draws from given candidates, except the orders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// The candidates that are in every answer.
    pub(super) certain: Box<[u32]>,
    /// A number below `places` determines who is first: the certain candidate with the lowest end
    /// above it. If all ends are below, one of the sampled candidates is first.
    pub(super) ends: Box<[u64]>,
    pub(super) places: u64,
    /// How many candidates are sampled from the line for each answer.
    pub(super) sampled: u64,
    /// The distance between points on the line. The length of the line is `sampled` times this.
    pub(super) step: u64,
    /// The candidates on the line, part by part and group by group.
    pub(super) members: Box<[WeightedCandidate]>,
    /// Members that stay together: those of one site, unless sites do not matter.
    pub(super) groups: Box<[Range<usize>]>,
    pub(super) parts: Box<[Part]>,
}

impl Frame {
    /// The frame for a draw of `answers` candidates, or of all if there are fewer.
    pub(super) fn new(candidates: &[Candidate], answers: usize, spread: Spread) -> Self {
        let members: Vec<WeightedCandidate> = (0u32..)
            .zip(candidates)
            .filter(|(_, candidate)| candidate.weight > 0)
            .map(|(index, &Candidate { weight, site })| WeightedCandidate { index, weight, site })
            .collect();
        let answers = answers.min(MAX_ANSWERS).min(members.len()) as u64;
        match spread {
            _ if answers == 0 => Self::default(),
            Spread::Always => Self::of_sites(members, answers),
            Spread::Shares => Self::of_weights(members, answers, true),
            Spread::Off => Self::of_weights(members, answers, false),
        }
    }

    /// Exact shares: a single part with all candidates that are not certain. A certain candidate is
    /// first in proportion to its own weight, a sampled one in proportion to the weight of all
    /// sampled ones.
    fn of_weights(mut members: Vec<WeightedCandidate>, answers: u64, by_site: bool) -> Self {
        let places = weight_of(&members);
        let mut certain = Vec::new();
        let sampled = take_certain(&mut members, answers, 1, &mut certain);
        let weight = weight_of(&members);
        let sites = if by_site { group_by_site(&mut members) } else { Box::default() };
        let whole = 0..members.len();
        let is_grouped = by_site && sites.len() < members.len();
        let groups = if is_grouped { sites } else { Box::from_iter([whole]) };
        let part = Part { groups: 0..groups.len(), length: sampled * weight, weight };
        Self {
            certain: indices(&certain),
            ends: running_sums(certain.iter().map(|member| member.weight.into())),
            places,
            sampled,
            step: weight,
            parts: if sampled > 0 { Box::new([part]) } else { Box::default() },
            members: members.into(),
            groups,
        }
    }

    /// Sites first: the stretch of each site is as long as its expected hits. All places in an answer
    /// are drawn uniformly.
    fn of_sites(mut members: Vec<WeightedCandidate>, answers: u64) -> Self {
        let sites: Vec<Vec<WeightedCandidate>> = {
            let groups = group_by_site(&mut members);
            groups
                .iter()
                .filter_map(|group| members.get(group.clone()))
                .map(<[WeightedCandidate]>::to_vec)
                .collect()
        };
        let sizes: Vec<Site> = sites
            .iter()
            .map(|members| Site { weight: weight_of(members), count: members.len() as u64 })
            .collect();
        let (hits, step) = expected_hits(&sizes, answers);
        let mut certain = Vec::new();
        let mut sites_left = Vec::new();
        for (mut members, hits) in sites.into_iter().zip(hits) {
            let length = take_certain(&mut members, hits, step, &mut certain);
            if !members.is_empty() {
                let weight = weight_of(&members);
                sites_left.push(UncertainSite {
                    per_weight: Fraction::new(length, weight),
                    length,
                    weight,
                    members,
                });
            }
        }
        let mut frame = Self {
            certain: indices(&certain),
            ends: running_sums(certain.iter().map(|_| 1)),
            places: answers,
            sampled: answers - certain.len() as u64,
            step,
            ..Self::default()
        };
        frame.lay(sites_left);
        frame
    }

    /// Makes one part of all sites with the same length per weight; these are all sites that are not
    /// clipped.
    fn lay(&mut self, mut sites_left: Vec<UncertainSite>) {
        let (mut members, mut groups, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        sites_left.sort_by_key(|stretch| (stretch.per_weight.numerator, stretch.per_weight.denominator));
        for alike in sites_left.chunk_by(|a, b| a.per_weight == b.per_weight) {
            parts.push(Part {
                groups: groups.len()..groups.len() + alike.len(),
                length: alike.iter().map(|stretch| stretch.length).sum(),
                weight: alike.iter().map(|stretch| stretch.weight).sum(),
            });
            for stretch in alike {
                groups.push(members.len()..members.len() + stretch.members.len());
                members.extend_from_slice(&stretch.members);
            }
        }
        (self.members, self.groups, self.parts) = (members.into(), groups.into(), parts.into());
    }

    /// The members of a part, group by group.
    pub(super) fn groups_of(&self, part: &Part) -> impl Iterator<Item = &[WeightedCandidate]> {
        let groups = self.groups.get(part.groups.clone()).unwrap_or_default();
        groups.iter().filter_map(|group| self.members.get(group.clone()))
    }

    /// The probabilities of all `count` candidates.
    fn probabilities(&self, count: usize) -> Vec<Probability> {
        let never = Probability { included: Fraction::ZERO, first: Fraction::ZERO };
        let mut probabilities = vec![never; count];
        let mut set = |index: u32, probability| {
            if let Some(of_candidate) = probabilities.get_mut(index as usize) {
                *of_candidate = probability;
            }
        };
        let mut before = 0;
        for (&index, &end) in self.certain.iter().zip(&self.ends) {
            let first = Fraction::new(end - before, self.places);
            set(index, Probability { included: Fraction::ONE, first });
            before = end;
        }
        // The remaining places go to each sampled candidate with the same probability.
        for part in &self.parts {
            let first = Fraction::new(self.places - before, product(self.places, self.sampled));
            for member in self.groups_of(part).flatten() {
                let length = u128::from(part.length) * u128::from(member.weight);
                let included = Fraction::new(length, product(part.weight, self.step));
                set(member.index, Probability { included, first: included.times(first) });
            }
        }
        probabilities
    }
}

/// Removes the members that are certain to be drawn, until none is left. The members share `length`
/// by weight, and a certain one has the length `step`. Returns the remaining length.
fn take_certain(
    members: &mut Vec<WeightedCandidate>,
    mut length: u64,
    step: u64,
    certain: &mut Vec<WeightedCandidate>,
) -> u64 {
    loop {
        let weight = weight_of(members);
        let before = certain.len();
        members.retain(|member| {
            let is_certain = product(length, member.weight.into()) >= product(step, weight);
            if is_certain {
                certain.push(*member);
            }
            !is_certain
        });
        let taken = (certain.len() - before) as u64;
        if taken == 0 {
            return length;
        }
        // This is not negative: each of them has at least the fraction `step / length` of the weight.
        length -= taken * step;
    }
}

fn product(a: u64, b: u64) -> u128 {
    u128::from(a) * u128::from(b)
}

fn weight_of(members: &[WeightedCandidate]) -> u64 {
    members.iter().map(|member| u64::from(member.weight)).sum()
}

fn indices(members: &[WeightedCandidate]) -> Box<[u32]> {
    members.iter().map(|member| member.index).collect()
}

/// The end of each length if all are laid end to end.
pub(super) fn running_sums(lengths: impl Iterator<Item = u64>) -> Box<[u64]> {
    lengths
        .scan(0, |sum, length| {
            *sum += length;
            Some(*sum)
        })
        .collect()
}

/// Sorts the members by site, and returns the range of each site.
fn group_by_site(members: &mut [WeightedCandidate]) -> Box<[Range<usize>]> {
    members.sort_by_key(|member| member.site);
    let mut begin = 0;
    let sites = members.chunk_by(|a, b| a.site == b.site);
    sites
        .map(|site| {
            let range = begin..begin + site.len();
            begin = range.end;
            range
        })
        .collect()
}
