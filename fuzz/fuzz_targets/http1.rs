//! Any bytes as a response of HTTP/1.1 to a probe: a verdict, whatever pieces they come in.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| checks::responses::check_http1(input));
