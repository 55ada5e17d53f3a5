//! Checks that hold for every input. The fuzz targets, the tests that replay their corpora on
//! stable Rust, the allocation test and the benchmark all include this module.
//!
//! A failed check panics. Input generators for a single program do not belong here.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed check ends the run")]
#![allow(dead_code, reason = "each program that includes this uses only a part of it")]

pub(crate) mod admin;
pub(crate) mod allocation;
pub(crate) mod configuration;
pub(crate) mod inputs;
pub(crate) mod kinds;
pub(crate) mod options;
pub(crate) mod query;
pub(crate) mod reply;
pub(crate) mod respond;
pub(crate) mod responses;
pub(crate) mod tsig;
pub(crate) mod world;
pub(crate) mod zone;
