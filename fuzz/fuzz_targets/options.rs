//! Arbitrary EDNS options: the reply has an OPT record, whatever else it holds.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

use crate::checks::options;
use crate::checks::world::World;

static WORLD: LazyLock<World> = LazyLock::new(World::new);

fuzz_target!(|input: &[u8]| options::check(&WORLD, input));
