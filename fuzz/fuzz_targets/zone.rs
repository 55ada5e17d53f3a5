//! Any bytes as a zone: faults say where they are, and what is accepted is answered.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| drop(checks::zone::check(input)));
