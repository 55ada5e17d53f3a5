//! Arbitrary bytes as an HTTP/2 conversation with a probe: a verdict, however the bytes are split.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| checks::responses::check_http2(input));
