//! Exact fractions.

/// An exact fraction in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    /// Above the line.
    pub numerator: u128,
    /// Below the line; positive.
    pub denominator: u128,
}

impl Fraction {
    /// 0, the probability of the impossible.
    pub const ZERO: Self = Self { numerator: 0, denominator: 1 };
    /// 1, the probability of the certain.
    pub const ONE: Self = Self { numerator: 1, denominator: 1 };

    /// A fraction of two numbers, of which the second is positive.
    #[must_use]
    pub fn new(numerator: impl Into<u128>, denominator: impl Into<u128>) -> Self {
        let (numerator, denominator) = (numerator.into(), denominator.into());
        debug_assert!(denominator > 0, "a fraction of 0");
        let common = common_divisor(numerator, denominator).max(1);
        Self { numerator: numerator / common, denominator: denominator / common }
    }

    /// The product of two fractions. It fits if the fractions are probabilities of a draw: their
    /// denominators are products of weights of sites, below 2^54 each.
    #[must_use]
    pub(super) fn times(self, other: Self) -> Self {
        let (left, right) =
            (Self::new(self.numerator, other.denominator), Self::new(other.numerator, self.denominator));
        Self {
            numerator: left.numerator * right.numerator,
            denominator: left.denominator * right.denominator,
        }
    }
}

/// The greatest common divisor (Euclid).
fn common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}
