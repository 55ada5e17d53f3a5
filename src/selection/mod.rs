//! Draws `n` of `N` candidates for an answer: systematic sampling with probability proportional to
//! size, exact in integers.
//!
//! ```text
//!                  W' = weight that is left, n' = answers that are left
//! in every answer  | the line: the others, each n' x weight long           |
//!     c1, c2       |----a----|--b--|-------d-------|---e---|--f--|---g----|
//!                     ^ start              ^ + W'              ^ + 2 W'
//! ```
//!
//! A candidate with `n x weight >= W` is in every answer. It is taken out, with one answer and its
//! weight, until there is none. Each of the others is shorter than the distance of the points, so
//! no two points hit the same one. The start is uniform, so the inclusion of each is exactly
//! `n' x weight / W'`, in any order on the line that does not depend on the start. The order decides
//! who is drawn together: a [`Sampler`] has several random ones, laid out site by site, and its owner
//! renews them. A change of weights keeps the orders of many candidates. Source: Madow, "On the Theory of Systematic
//! Sampling, II", 1949.
//!
//! Takes and returns indices; `table` knows the candidates. Health, names and records do not belong
//! here. The random number generator is an argument.

mod chance;
mod fraction;
mod inclusion;
mod partners;
mod sampler;
mod sites;
mod systematic;
mod wide;
#[cfg(test)]
mod tests;

pub use self::fraction::Fraction;
pub use self::inclusion::{Candidate, MAX_ANSWERS, Probability, Spread, probabilities};
pub use self::partners::ORDERS;
pub use self::sampler::{Picked, Sampler};
