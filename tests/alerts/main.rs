//! Alerts end to end: a real steerd, real backends, and real receivers on loopback, some of them hostile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

mod alertmanager;
mod command;
mod delivery;
mod receiver;
mod scene;
mod storm;
#[path = "../support/mod.rs"]
mod support;
mod told;
