//! Arbitrary bytes as a query: the reply is well formed, fits, and is made without allocation.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;

use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

use crate::checks::world::World;

static WORLD: LazyLock<World> = LazyLock::new(World::new);

fuzz_target!(|input: &[u8]| checks::respond::check(&WORLD, input));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed % 2 == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let mut input = data[..size].to_vec();
    checks::inputs::mutate_query(&mut input, &WORLD, seed.into());
    let size = input.len().min(max_size);
    data[..size].copy_from_slice(&input[..size]);
    size
});
