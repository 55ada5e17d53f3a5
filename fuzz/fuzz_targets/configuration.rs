//! Arbitrary bytes as a configuration: every fault has a place.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

use crate::checks::configuration::{self, Files};

static FILES: LazyLock<Files> = LazyLock::new(Files::new);

fuzz_target!(|input: &[u8]| configuration::check(&FILES, input));
