//! Runs the guides in `docs/guides` as a reader would: every command block, in order, in one shell, in a network
//! namespace that has the addresses of the examples.
//!
//! A block marked `sh` must succeed. A block marked `text` directly after it is its output: each line must appear, in
//! this order, and `…` stands for any text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

mod first_steps;
mod guide;
mod hosts;
#[path = "../clients/namespace.rs"]
mod namespace;
mod s3;
mod shell;
#[path = "../support/mod.rs"]
mod support;
