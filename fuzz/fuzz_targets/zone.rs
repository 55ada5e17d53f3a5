//! Arbitrary bytes as a zone: faults have a place, and accepted records are answered.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| drop(checks::zone::check(input)));
