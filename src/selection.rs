//! Picks `k` of `n` candidates for an answer: by weight, or uniformly.
//!
//! Takes and returns indices; `table` knows the candidates. The random number generator is an
//! argument.

use rand::{Rng, RngExt};

/// The most addresses in one answer. 256 A records take 4 KiB of a TCP message. The cost of a draw
/// grows with the square of the number of answers; at this limit it is still tens of microseconds.
pub const MAX_ANSWERS: usize = 256;

/// Candidates to draw from, with the running sums of their weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// `ends[i]` is the sum of the weights of candidates 0 to `i`.
    ends: Box<[u64]>,
}

impl Candidates {
    /// Takes the weights of the candidates in order; each must be positive.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let mut sum = 0;
        let ends = weights
            .into_iter()
            .map(|weight| {
                debug_assert!(weight > 0, "a candidate of weight 0 can never be drawn");
                sum += u64::from(weight);
                sum
            })
            .collect();
        Self { ends }
    }

    /// Returns the number of candidates.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no candidates.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The sum of all weights.
    #[must_use]
    pub fn total_weight(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The weights, in order.
    pub fn weights(&self) -> impl Iterator<Item = u64> {
        let mut sum = 0;
        self.ends.iter().map(move |end| end - std::mem::replace(&mut sum, *end))
    }

    /// The start and end of candidate `index` on the line of all weights.
    fn interval(&self, index: usize) -> (u64, u64) {
        let end = self.ends.get(index).copied().unwrap_or(0);
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        (start, end)
    }
}

/// The picked indices in drawing order; room for [`MAX_ANSWERS`].
#[derive(Clone, Debug)]
pub struct Picked {
    indices: [u32; MAX_ANSWERS],
    /// The intervals of the line that earlier picks have taken, in ascending order.
    taken: [(u64, u64); MAX_ANSWERS],
    length: usize,
}

impl Default for Picked {
    fn default() -> Self {
        Self { indices: [0; MAX_ANSWERS], taken: [(0, 0); MAX_ANSWERS], length: 0 }
    }
}

impl Picked {
    /// The picked indices, in drawing order.
    #[must_use]
    pub fn indices(&self) -> &[u32] {
        self.indices.get(..self.length).unwrap_or(&[])
    }

    /// The picked indices, for a caller that numbers its candidates differently.
    pub fn indices_mut(&mut self) -> &mut [u32] {
        self.indices.get_mut(..self.length).unwrap_or(&mut [])
    }

    /// Discards the last draw.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Maps a point of the shortened line (without the taken intervals) to the full line.
    fn lift(&self, mut point: u64) -> u64 {
        for &(start, end) in self.taken.iter().take(self.length) {
            if point < start {
                break;
            }
            point += end - start;
        }
        point
    }

    fn push(&mut self, index: usize, interval: (u64, u64)) {
        let at = self.taken.iter().take(self.length).take_while(|taken| taken.0 < interval.0).count();
        if let (Some(slot), Ok(index)) = (self.indices.get_mut(self.length), u32::try_from(index)) {
            *slot = index;
            self.length += 1;
            if let Some(taken) = self.taken.get_mut(at..self.length) {
                taken.rotate_right(1);
                if let Some(first) = taken.first_mut() {
                    *first = interval;
                }
            }
        }
    }
}

/// Draws `limit` candidates by weight, without replacement, or all of them if there are fewer. Each
/// draw is exactly proportional to the weights that are left, so a candidate comes first with
/// probability `weight / total`. The answer keeps the drawing order.
///
/// Each draw picks a point on the line of the remaining weights and finds its candidate by
/// bisection. There is no rejection, so the time is bounded for any weights.
pub fn weighted<R: Rng>(candidates: &Candidates, limit: usize, rng: &mut R, picked: &mut Picked) {
    picked.clear();
    let mut left = candidates.total_weight();
    for _ in 0..limit.min(candidates.len()).min(MAX_ANSWERS) {
        let point = picked.lift(rng.random_range(0..left));
        let index = candidates.ends.partition_point(|&end| end <= point);
        let (start, end) = candidates.interval(index);
        left -= end - start;
        picked.push(index, (start, end));
    }
}

/// Picks `limit` of `count` candidates; every subset and order is equally likely.
pub fn uniform<R: Rng>(count: usize, limit: usize, rng: &mut R, picked: &mut Picked) {
    picked.clear();
    for done in 0..limit.min(count).min(MAX_ANSWERS) {
        let point = picked.lift(rng.random_range(0..(count - done) as u64));
        if let Ok(index) = usize::try_from(point) {
            picked.push(index, (point, point + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    /// The probability of each ordered draw of `k` candidates, by enumeration.
    fn enumerate(weights: &[u32], k: usize, drawn: &mut Vec<u32>, p: f64, into: &mut HashMap<Vec<u32>, f64>) {
        if drawn.len() == k.min(weights.len()) {
            *into.entry(drawn.clone()).or_default() += p;
            return;
        }
        let left: u32 = (0u32..).zip(weights).filter(|(i, _)| !drawn.contains(i)).map(|(_, w)| w).sum();
        for (i, w) in (0u32..).zip(weights) {
            if !drawn.contains(&i) {
                drawn.push(i);
                enumerate(weights, k, drawn, p * f64::from(*w) / f64::from(left), into);
                drawn.pop();
            }
        }
    }

    /// Draws many times and compares the frequency of each ordered answer with its enumerated
    /// probability, within five standard deviations.
    fn assert_matches(expected: &HashMap<Vec<u32>, f64>, mut draw: impl FnMut(&mut SmallRng, &mut Picked)) {
        let seed = 20_260_101;
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut picked = Picked::default();
        let rounds = 200_000;
        let mut seen: HashMap<Vec<u32>, u32> = HashMap::new();
        for _ in 0..rounds {
            draw(&mut rng, &mut picked);
            *seen.entry(picked.indices().to_vec()).or_default() += 1;
        }
        for drawn in seen.keys() {
            assert!(expected.contains_key(drawn), "{drawn:?} cannot be drawn (seed {seed})");
        }
        for (drawn, p) in expected {
            let count = f64::from(seen.get(drawn).copied().unwrap_or(0));
            let n = f64::from(rounds);
            let sigma = (n * p * (1.0 - p)).sqrt().max(1e-9);
            assert!(
                (count - n * p).abs() < 5.0 * sigma + 1e-6,
                "{drawn:?}: {count} of {n}, expected {p} (seed {seed})"
            );
        }
    }

    #[test]
    fn weighted_draws_match_the_enumerated_probabilities() {
        for weights in [&[1u32][..], &[3, 2, 1], &[1, 1, 1, 1], &[1_000_000, 1, 5], &[7, 1, 1, 9, 2]] {
            for k in 1..=weights.len() {
                let mut expected = HashMap::new();
                enumerate(weights, k, &mut Vec::new(), 1.0, &mut expected);
                let candidates = Candidates::new(weights.iter().copied());
                assert_matches(&expected, |rng, picked| weighted(&candidates, k, rng, picked));
            }
        }
    }

    #[test]
    fn uniform_draws_match_the_enumerated_probabilities() {
        for (n, k) in [(1, 1), (3, 2), (4, 4), (5, 1), (5, 3)] {
            let mut expected = HashMap::new();
            enumerate(&vec![1; n], k, &mut Vec::new(), 1.0, &mut expected);
            assert_matches(&expected, |rng, picked| uniform(n, k, rng, picked));
        }
    }

    #[test]
    fn answers_never_hold_one_candidate_twice_and_stop_at_the_cap() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut picked = Picked::default();
        let candidates = Candidates::new((1..=1000).map(|i| i % 7 + 1));
        for limit in [0, 1, 2, 255, 256, 257, 5000] {
            weighted(&candidates, limit, &mut rng, &mut picked);
            let mut distinct = picked.indices().to_vec();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), limit.min(MAX_ANSWERS));
            uniform(300, limit, &mut rng, &mut picked);
            assert_eq!(picked.indices().len(), limit.min(MAX_ANSWERS));
        }
        weighted(&Candidates::default(), 3, &mut rng, &mut picked);
        assert!(picked.indices().is_empty());
    }
}
