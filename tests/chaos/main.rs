//! Changes and crashes in random order, as they come in years of operation: nothing may be lost, wrong or left behind.
//!
//! Short forms run with the other tests. `STEERD_CHAOS=full` runs them at full size, and `STEERD_SEED=n` repeats a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

use rand::RngExt;

mod changes;
mod kills;
mod load;
mod server;
#[path = "../support/mod.rs"]
mod support;

fn is_full() -> bool {
    std::env::var("STEERD_CHAOS").is_ok_and(|size| size == "full")
}

/// The seed of this run, which is printed.
fn seed() -> u64 {
    let given = std::env::var("STEERD_SEED").ok().map(|seed| seed.parse().expect("a number in STEERD_SEED"));
    let seed = given.unwrap_or_else(|| rand::rng().random());
    eprintln!("repeat this run with STEERD_SEED={seed}");
    seed
}
