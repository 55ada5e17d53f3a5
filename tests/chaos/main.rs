//! Changes and crashes in random order, as they come in years of operation: nothing may be lost, wrong or left behind.
//!
//! Short forms run with the other tests. `STEERD_CHAOS=full` runs them at full size, and `STEERD_SEED=n` repeats a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

mod changes;
mod faults;
mod kills;
mod load;
#[path = "../clients/namespace.rs"]
mod namespace;
mod scene;
mod seed;
mod server;
mod strangers;
#[path = "../support/mod.rs"]
mod support;

fn is_full() -> bool {
    std::env::var("STEERD_CHAOS").is_ok_and(|size| size == "full")
}
