//! Arbitrary messages, signed: intact ones are accepted, changed ones are not, and replies are
//! signed.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

use crate::checks::tsig;
use crate::checks::world::World;

static WORLD: LazyLock<World> = LazyLock::new(World::new);

fuzz_target!(|input: &[u8]| tsig::check(&WORLD, input));
