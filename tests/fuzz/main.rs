//! Runs the checks of the fuzz targets on stable Rust: with their seeds, and for a few seconds with
//! mutations. `docs/TESTING.md` says how to fuzz for longer.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what a test cannot do fails it")]

#[path = "../../fuzz/checks/mod.rs"]
mod checks;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::checks::configuration::Files;
use crate::checks::world::World;
use crate::checks::{admin, configuration, inputs, options, respond, responses, tsig, zone};

/// How long each burst of mutations takes; `STEERD_BURST_SECONDS` changes it.
const BURST: Duration = Duration::from_secs(3);

/// The committed seeds of a target, by name.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "only {} seeds for {target}", files.len());
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Runs `check` on mutated seeds until the time is over. The generator gets a new seed each time,
/// unless `STEERD_SEED` is set; if a check fails, the seed and the input are printed.
fn burst(target: &str, check: impl Fn(&[u8]), mutate: impl Fn(&mut Vec<u8>, &mut SmallRng)) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number is expected"));
    let seed: u64 = number("STEERD_SEED").unwrap_or_else(rand::random);
    let burst = number("STEERD_BURST_SECONDS").map_or(BURST, Duration::from_secs);
    let seeds = seeds(target);
    let mut rng = SmallRng::seed_from_u64(seed);
    let begun = Instant::now();
    while begun.elapsed() < burst {
        let mut input = seeds[rng.random_range(0..seeds.len())].clone();
        for _ in 0..rng.random_range(1..=3) {
            mutate(&mut input, &mut rng);
        }
        let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&input)));
        assert!(held.is_ok(), "STEERD_SEED={seed} fails with the input \"{}\"", input.escape_ascii());
    }
}

/// Checks the seeds of a target, and its generated first inputs.
fn seeds_hold(target: &str, first: Vec<Vec<u8>>, check: impl Fn(&[u8])) {
    for seed in seeds(target).into_iter().chain(first) {
        check(&seed);
    }
}

#[test]
fn seeds_of_respond_hold() {
    let world = World::new();
    seeds_hold("respond", inputs::respond_seeds(&world), |seed| respond::check(&world, seed));
}

#[test]
fn seeds_of_zone_hold() {
    seeds_hold("zone", inputs::zone_seeds(), |seed| drop(zone::check(seed)));
}

#[test]
fn seeds_of_options_hold() {
    let world = World::new();
    seeds_hold("options", options::first_inputs(), |seed| options::check(&world, seed));
}

#[test]
fn seeds_of_tsig_hold() {
    let world = World::new();
    seeds_hold("tsig", tsig::first_inputs(&world), |seed| tsig::check(&world, seed));
}

#[test]
fn seeds_of_http1_hold() {
    seeds_hold("http1", responses::first_http1(), responses::check_http1);
}

#[test]
fn seeds_of_http2_hold() {
    seeds_hold("http2", responses::first_http2(), responses::check_http2);
}

#[test]
fn seeds_of_configuration_hold() {
    let files = Files::new();
    seeds_hold("configuration", configuration::first_inputs(), |seed| configuration::check(&files, seed));
}

#[test]
fn seeds_of_admin_hold() {
    let server = admin::Server::new(World::new());
    seeds_hold("admin", admin::first_inputs(), |seed| admin::check(&server, seed));
}

/// Otherwise the fuzzer would only try inputs that the reader rejects.
#[test]
fn the_first_zones_are_accepted() {
    for zone in inputs::whole_zones() {
        assert_eq!(zone::check(&zone), [], "{}", String::from_utf8_lossy(&zone));
    }
}

#[test]
fn mutated_queries_hold() {
    let world = World::new();
    let mutate =
        |input: &mut Vec<u8>, rng: &mut SmallRng| inputs::mutate_query(input, &world, rng.next_u64());
    burst("respond", |input| respond::check(&world, input), mutate);
}

#[test]
fn mutated_zones_hold() {
    burst("zone", |input| drop(zone::check(input)), inputs::mutate_bytes);
}

#[test]
fn mutated_options_hold() {
    let world = World::new();
    burst("options", |input| options::check(&world, input), inputs::mutate_bytes);
}

#[test]
fn mutated_signatures_hold() {
    let world = World::new();
    burst("tsig", |input| tsig::check(&world, input), inputs::mutate_bytes);
}

#[test]
fn mutated_responses_hold() {
    burst("http1", responses::check_http1, inputs::mutate_bytes);
    burst("http2", responses::check_http2, inputs::mutate_bytes);
}

#[test]
fn mutated_configurations_hold() {
    let files = Files::new();
    burst("configuration", |input| configuration::check(&files, input), inputs::mutate_bytes);
}

#[test]
fn mutated_bodies_hold() {
    let server = admin::Server::new(World::new());
    burst("admin", |input| admin::check(&server, input), inputs::mutate_bytes);
}

/// Writes the first inputs for fuzzing to `fuzz/corpus`.
#[test]
#[ignore = "not a test: prepares fuzzing"]
fn write_the_first_corpora() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let world = World::new();
    for (target, inputs) in [
        ("respond", inputs::respond_seeds(&world)),
        ("zone", inputs::zone_seeds()),
        ("options", options::first_inputs()),
        ("tsig", tsig::first_inputs(&world)),
        ("http1", responses::first_http1()),
        ("http2", responses::first_http2()),
        ("configuration", configuration::first_inputs()),
        ("admin", admin::first_inputs()),
    ] {
        std::fs::create_dir_all(corpus.join(target)).unwrap();
        for (number, input) in inputs.into_iter().enumerate() {
            std::fs::write(corpus.join(target).join(format!("first-{number:04}")), input).unwrap();
        }
    }
}
