//! The share of the queries that are sampled.

use std::fmt;
use std::str::FromStr;

/// The share of the queries that are sampled, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SampleRate(u32);

/// The error if a text is not a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a percentage from 0% to 100% with at most four decimals, such as 1% or 0.1%")]
pub struct NotARate;

/// One percent in millionths.
const PERCENT: u32 = 10_000;
/// The most decimals of a percentage.
const DECIMALS: usize = 4;

impl SampleRate {
    /// No query.
    pub const NONE: Self = Self(0);
    /// Each query.
    pub const ALL: Self = Self(100 * PERCENT);
    /// One query in a hundred.
    pub const ONE_PERCENT: Self = Self(PERCENT);

    /// Whether no query is sampled.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The rate from 0 to 1.
    #[must_use]
    pub fn as_float(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ALL.0)
    }

    /// How many of the 2^32 random numbers choose a query.
    pub(super) fn threshold(self) -> u64 {
        (u64::from(self.0) << 32) / u64::from(Self::ALL.0)
    }
}

impl FromStr for SampleRate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        let number = text.strip_suffix('%').ok_or(NotARate)?;
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || decimals.len() > DECIMALS {
            return Err(NotARate);
        }
        let whole: u32 = whole.parse().map_err(|_| NotARate)?;
        let decimals: u32 = format!("{decimals:0<DECIMALS$}").parse().map_err(|_| NotARate)?;
        let millionths = whole.checked_mul(PERCENT).and_then(|whole| whole.checked_add(decimals));
        millionths.filter(|rate| *rate <= Self::ALL.0).map(Self).ok_or(NotARate)
    }
}

impl fmt::Display for SampleRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, decimals) = (self.0 / PERCENT, self.0 % PERCENT);
        if decimals == 0 {
            return write!(f, "{whole}%");
        }
        let decimals = format!("{decimals:0DECIMALS$}");
        write!(f, "{whole}.{}%", decimals.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_shown_alike() {
        for text in ["0%", "1%", "100%", "0.1%", "12.5%", "0.0001%", "99.9999%"] {
            assert_eq!(text.parse::<SampleRate>().unwrap().to_string(), text);
        }
        assert_eq!("1.50%".parse::<SampleRate>().unwrap().to_string(), "1.5%");
        for text in
            ["", "1", "%", "-1%", "+1%", "101%", "100.0001%", "1.%", ".5%", "0.00001%", "1e2%", "5000000000%"]
        {
            assert_eq!(text.parse::<SampleRate>(), Err(NotARate), "{text}");
        }
        assert_eq!(SampleRate::ALL.threshold(), 1 << 32);
        assert_eq!(SampleRate::NONE.threshold(), 0);
    }
}
