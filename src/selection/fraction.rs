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
    /// 0: impossible.
    pub const ZERO: Self = Self { numerator: 0, denominator: 1 };
    /// 1: certain.
    pub const ONE: Self = Self { numerator: 1, denominator: 1 };

    /// The quotient of two numbers; the second is positive.
    #[must_use]
    pub fn new(numerator: impl Into<u128>, denominator: impl Into<u128>) -> Self {
        let (numerator, denominator) = (numerator.into(), denominator.into());
        debug_assert!(denominator > 0, "a fraction of 0");
        let common = common_divisor(numerator, denominator).max(1);
        Self { numerator: numerator / common, denominator: denominator / common }
    }

    /// The nearest floating-point number, for display.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a rounded number is meant")]
    pub fn as_float(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }

    /// The product of two fractions. It does not overflow for probabilities of a draw: their
    /// denominators are products of the weights of sites, which are below 2^54.
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
