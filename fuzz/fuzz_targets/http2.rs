//! Any bytes as a conversation of HTTP/2 with a probe: a verdict, whatever pieces they come in.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| checks::responses::check_http2(input));
