//! Attacks on the server: peers that do not read, floods of connections, hostile backends, special
//! files, programs that do not end. Each attack is a plain program with bounded loops against its
//! own server on loopback.
//!
//! Short forms run with the other tests. `STEERD_ATTACK=full` runs them at full size.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

use std::sync::atomic::{AtomicBool, Ordering};

mod backends;
mod files;
mod flood;
mod large_zone;
mod programs;
mod readers;
mod requests;
mod secrets;
mod silence;
mod status;
mod streams;
#[path = "../support/mod.rs"]
mod support;

/// Lowers the priority of this thread and of threads that it starts. Real attackers run on other
/// machines and take no processor time from the server.
pub(crate) fn leave_the_processor_to_the_server() {
    rustix::process::setpriority_process(None, 19).unwrap();
}

/// Ends the flood on drop.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether attacks run at full size.
pub(crate) fn is_full() -> bool {
    std::env::var("STEERD_ATTACK").is_ok_and(|size| size == "full")
}
