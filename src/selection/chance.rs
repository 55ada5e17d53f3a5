//! Unbiased random integers below a bound, and shuffles; for tests, all possible choices in turn.

use rand::Rng;

/// A source of choices.
pub(super) trait Chance {
    /// A number below `bound`, each with the same probability; 0 if the bound is 0 or 1.
    fn below(&mut self, bound: u64) -> u64;

    /// An index below `length`.
    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// Shuffles the items; each order has the same probability.
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}

/// The most items that are shuffled with one random word: the product of the numbers up to this one is below `2^54`, so a
/// word is hardly ever drawn again.
const ITEMS_PER_WORD: usize = 18;

/// Both halves of `word x bound`: a number below `bound`, and what is left of the word.
#[inline]
fn split(word: u64, bound: u64) -> (u64, u64) {
    let product = u128::from(word) * u128::from(bound);
    #[allow(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
    ((product >> 64) as u64, product as u64)
}

/// Whether what is left of a word is such that each result below `bound` has the same number of words.
#[inline]
fn is_fair(left: u64, bound: u64) -> bool {
    left >= bound || left >= bound.wrapping_neg() % bound
}

impl<R: Rng> Chance for R {
    /// The high half of `word x bound`. If the low half is below `2^64 mod bound`, the word is
    /// drawn again, because otherwise some results would have one word more than others. Source:
    /// Lemire, "Fast Random Integer Generation in an Interval", 2019.
    #[inline]
    fn below(&mut self, bound: u64) -> u64 {
        if bound <= 1 {
            return 0;
        }
        loop {
            let (number, left) = split(self.next_u64(), bound);
            if is_fair(left, bound) {
                return number;
            }
        }
    }

    /// The rest of a word after one choice serves for the next, which is as if one number below the product of all
    /// bounds had been drawn. A word that must be drawn again has shuffled the items, which the next shuffle makes
    /// irrelevant. Source: Brackett-Rozinsky and Lemire, "Batched Ranged Random Integer Generation", 2024.
    #[inline]
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (ITEMS_PER_WORD..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
        let few = items.len().min(ITEMS_PER_WORD);
        if few < 2 {
            return;
        }
        loop {
            let (mut left, mut orders) = (self.next_u64(), 1);
            for last in (1..few).rev() {
                let bound = last as u64 + 1;
                let choice;
                (choice, left) = split(left, bound);
                orders *= bound;
                items.swap(last, usize::try_from(choice).unwrap_or(0));
            }
            if is_fair(left, orders) {
                return;
            }
        }
    }
}

/// Enumerates all sequences of choices.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Every {
    /// The choices so far, each with its bound.
    choices: Vec<(u64, u64)>,
    next: usize,
}

#[cfg(test)]
impl Chance for Every {
    fn below(&mut self, bound: u64) -> u64 {
        if bound <= 1 {
            return 0;
        }
        let choice = self.choices.get(self.next).map_or(0, |(choice, _)| *choice);
        if self.next == self.choices.len() {
            self.choices.push((choice, bound));
        }
        debug_assert_eq!(self.choices.get(self.next).map(|(_, bound)| *bound), Some(bound), "another bound");
        self.next += 1;
        choice
    }
}

#[cfg(test)]
impl Every {
    /// Calls `run` with every sequence of choices, and `visit` with each result and a number; the
    /// probability of the result is 1 over this number. `run` must depend only on the choices.
    pub(super) fn run<T>(mut run: impl FnMut(&mut Self) -> T, mut visit: impl FnMut(T, u64)) {
        let mut every = Self::default();
        loop {
            every.next = 0;
            let result = run(&mut every);
            visit(result, every.choices.iter().map(|(_, bound)| bound).product());
            while every.choices.last().is_some_and(|(choice, bound)| choice + 1 == *bound) {
                every.choices.pop();
            }
            match every.choices.last_mut() {
                Some((choice, _)) => *choice += 1,
                None => return,
            }
        }
    }
}
