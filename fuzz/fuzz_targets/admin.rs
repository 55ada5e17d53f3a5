//! Arbitrary bytes as a request body for the admin server: the reply is JSON.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

use crate::checks::admin::{self, Server};
use crate::checks::world::World;

static SERVER: LazyLock<Server> = LazyLock::new(|| Server::new(World::new()));

fuzz_target!(|input: &[u8]| admin::check(&SERVER, input));
