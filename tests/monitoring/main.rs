//! The files of `examples/monitoring`, the runbook and the hooks of BGP daemons against real programs: promtool, Prometheus
//! and `ExaBGP` from Debian, and a running steerd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

mod accepting;
mod alerts;
mod anycast;
mod beside;
mod names;
mod operations;
#[path = "../clients/namespace.rs"]
mod namespace;
mod prometheus;
mod runbook;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
