//! The status page in headless Chromium: what people see, what they can do by mouse and by keyboard, what a screen reader is
//! told, and how long it takes with 1,000 backends.
//!
//! `STEERD_PICTURES=1 cargo test --test page pictures` makes the images of `docs/images` again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

mod access;
mod browser;
mod changes;
mod faults;
mod live;
mod pictures;
mod scale;
mod scene;
#[path = "../support/mod.rs"]
mod support;
mod tab;
mod token;
