//! Chooses `n` of `N` candidates for an answer, exact in integers: by a draw, or for persistent services by a ranking
//! for one client (`persistent`).
//!
//! A draw is systematic sampling with probability proportional to size:
//!
//! ```text
//!                  W' = remaining weight, n' = remaining answers
//! in every answer  | the line: the others, each n' x weight long           |
//!     c1, c2       |----a----|--b--|-------d-------|---e---|--f--|---g----|
//!                     ^ start              ^ + W'              ^ + 2 W'
//! ```
//!
//! A candidate with `n x weight >= W` is in every answer. It is removed, and `n` and `W` are reduced by one answer
//! and its weight, until there is no such candidate. Each of the others is shorter than the distance between points,
//! so two points never hit the same one. The start is uniform, so each has exactly the inclusion probability `n' x
//! weight / W'`, in any order on the line that does not depend on the start. The order decides which candidates are
//! drawn together. A [`Sampler`] has several random orders, site by site, and its owner renews them. If there are
//! many candidates, their orders stay when weights change. Source: Madow, "On the Theory of Systematic Sampling,
//! II", 1949.
//!
//! This module takes and returns indices; `table` knows the candidates. Health, names and records do not belong
//! here. The random number generator is an argument.

mod chance;
mod fraction;
mod inclusion;
mod logarithm;
mod partners;
mod persistent;
mod picked;
mod race;
mod ranked;
mod sampler;
mod sites;
mod systematic;
mod wide;
#[cfg(test)]
mod tests;

pub use self::fraction::Fraction;
pub use self::inclusion::{Candidate, MAX_ANSWERS, Probability, Spread, probabilities};
pub use self::partners::ORDERS;
pub use self::persistent::{CandidateKey, ClientKey, Ranking};
pub use self::picked::Picked;
pub use self::race::ranked_probabilities;
pub use self::ranked::Ranked;
pub use self::sampler::Sampler;
