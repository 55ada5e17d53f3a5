//! Enumerates small draws, and takes statistics of many large ones.

mod enumerated;
mod persistent;
mod race;
mod reference;
mod statistics;
mod wide;

use super::fraction::Fraction;
use super::inclusion::Candidate;

/// Candidates with these weights and sites.
fn candidates(weights: &[u32], sites: &[u32]) -> Vec<Candidate> {
    weights.iter().zip(sites).map(|(&weight, &site)| Candidate { weight, site }).collect()
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
fn float(fraction: Fraction) -> f64 {
    fraction.numerator as f64 / fraction.denominator as f64
}
