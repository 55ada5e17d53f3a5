//! Random choices that can be repeated.

use rand::RngExt;

/// The seed of this run, which is printed.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("STEERD_SEED").ok().map(|seed| seed.parse().expect("a number in STEERD_SEED"));
    let seed = given.unwrap_or_else(|| rand::rng().random());
    eprintln!("repeat this run with STEERD_SEED={seed}");
    seed
}
