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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::convert::Infallible;

    use rand::TryRng;

    use super::*;

    /// Returns consecutive words, and counts them.
    struct Words {
        next: u64,
        drawn: u32,
    }

    impl TryRng for Words {
        type Error = Infallible;

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            self.drawn += 1;
            let word = self.next;
            self.next = word.wrapping_add(1);
            Ok(word)
        }

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            unreachable!("words of 64 bits are drawn")
        }

        fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Infallible> {
            unreachable!("words of 64 bits are drawn")
        }
    }

    /// The order of `count` items with this word, and how many words were drawn for it.
    fn shuffled(count: u8, word: u64) -> (Vec<u8>, u32) {
        let mut words = Words { next: word, drawn: 0 };
        let mut items: Vec<u8> = (0..count).collect();
        words.shuffle(&mut items);
        (items, words.drawn)
    }

    /// The words of an order are consecutive, and only the first of them may be refused, so the first and the last
    /// word of each order show how many it has.
    #[test]
    fn each_order_of_a_shuffle_has_the_same_number_of_words() {
        for count in 2..=7 {
            let orders: u128 = (1..=u128::from(count)).product();
            let first_of = |order: u128| (order << 64).div_ceil(orders);
            let mut seen = HashSet::new();
            for number in 0..orders {
                let [mut first, last] =
                    [first_of(number), first_of(number + 1) - 1].map(|word| u64::try_from(word).unwrap());
                if shuffled(count, first).1 > 1 {
                    first += 1;
                }
                let (order, drawn) = shuffled(count, first);
                assert_eq!((&order, drawn), (&shuffled(count, last).0, 1), "{number} of {orders}");
                assert_eq!(u128::from(last - first) + 1, (1 << 64) / orders, "{number} of {orders}");
                assert!(seen.insert(order), "{number} of {orders}");
            }
        }
    }
}
