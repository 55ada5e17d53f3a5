//! How often each address is in answers.

use std::collections::HashMap;
use std::net::TcpListener;

use hickory_proto::rr::RecordType;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::client::{self, Client};
use crate::harness::{Server, free_port};

const ROUNDS: u32 = 20_000;

/// Sends [`ROUNDS`] queries, and counts answers by the last byte of their only address.
fn count_answers(client: &Client) -> HashMap<u8, u32> {
    let mut counts = HashMap::new();
    for _ in 0..ROUNDS {
        let addresses = client::addresses(&client.ask("www.lb.example.test.", RecordType::A));
        assert_eq!(addresses.len(), 1);
        *counts.entry(addresses[0].octets()[3]).or_default() += 1;
    }
    counts
}

/// Whether each share is within three standard deviations of its weight, 3, 2 or 1 of 6.
fn are_as_weighted(counts: &HashMap<u8, u32>) -> bool {
    let rounds = f64::from(ROUNDS);
    counts.len() == 3
        && [(11, 3.0), (12, 2.0), (13, 1.0)].into_iter().all(|(last, weight): (u8, f64)| {
            let share = weight / 6.0;
            let sigma = (rounds * share * (1.0 - share)).sqrt();
            counts.get(&last).is_some_and(|count| (f64::from(*count) - rounds * share).abs() <= 3.0 * sigma)
        })
}

#[test]
fn shares_follow_the_weights() {
    let server = Server::start(
        "[pools.web]\nbackends = [{ address = \"192.0.2.11\", weight = 3 }, { address = \"192.0.2.12\", weight = 2 }, \
         { address = \"192.0.2.13\", weight = 1 }, { address = \"192.0.2.14\", weight = 0 }]\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\nanswers = 1\n",
    );
    let client = Client::of(&server);
    let counts = count_answers(&client);
    assert_eq!(counts.get(&14), None, "weight 0 was answered: {counts:?}");
    if !are_as_weighted(&counts) {
        // Fair draws are outside once in about 150 runs, and twice in a row once in 20,000.
        let again = count_answers(&client);
        assert!(are_as_weighted(&again), "of {ROUNDS}: {counts:?}, then {again:?}");
    }
    // Each answer is accounted for (a lost one was queried again).
    let counted = server.metric_sum("steerd_queries_total");
    assert!(counted >= f64::from(ROUNDS));
    assert_eq!(server.metric_sum("steerd_backend_answers_total"), counted);
    assert_eq!(server.metric_sum("steerd_service_answers_total"), counted);
}

/// The deviation of a count from its expectation, in standard deviations.
fn deviation(count: u32, probability: f64) -> f64 {
    let rounds = f64::from(ROUNDS);
    let sigma = (rounds * probability * (1.0 - probability)).sqrt();
    (f64::from(count) - rounds * probability).abs() / sigma
}

/// Fair draws deviate less than this, except in one run in a million.
const FAIR: f64 = 5.6;

/// Clients that take the first address see the weights, and so do clients that take any address,
/// because no backend is needed more than once in an answer.
#[test]
fn shares_are_exact_with_several_answers() {
    let weights = [3_u8, 2, 2, 1, 2, 2];
    let backends: Vec<String> = (11..)
        .zip(weights)
        .map(|(last, weight): (u8, u8)| format!("{{ address = \"192.0.2.{last}\", weight = {weight} }}"))
        .collect();
    let services = [1, 2, 4].map(|answers| {
        format!("[services.\"a{answers}.lb.example.test\"]\npools = [\"web\"]\nanswers = {answers}\n")
    });
    let server =
        Server::start(&format!("[pools.web]\nbackends = [{}]\n{}", backends.join(", "), services.concat()));
    let client = Client::of(&server);
    let mut rng = SmallRng::seed_from_u64(20_260_101);
    for answers in [1, 2, 4] {
        let name = format!("a{answers}.lb.example.test.");
        let mut first: HashMap<u8, u32> = HashMap::new();
        let mut any: HashMap<u8, u32> = HashMap::new();
        for _ in 0..ROUNDS {
            let addresses = client::addresses(&client.ask(&name, RecordType::A));
            assert_eq!(addresses.len(), answers);
            *first.entry(addresses[0].octets()[3]).or_default() += 1;
            *any.entry(addresses[rng.random_range(0..answers)].octets()[3]).or_default() += 1;
        }
        for (last, weight) in (11..).zip(weights) {
            let share = f64::from(weight) / 12.0;
            for (taken, counts) in [("the first", &first), ("any", &any)] {
                let count = counts.get(&last).copied().unwrap_or(0);
                assert!(
                    deviation(count, share) < FAIR,
                    "{taken} of {answers}: {last} is {count} of {ROUNDS}, wanted {share}"
                );
            }
        }
    }
}

/// One backend is alive, one refuses, one was never probed: only the live one is answered.
#[test]
fn what_was_never_healthy_is_not_answered_while_another_is() {
    let port = free_port("127.0.0.31");
    let alive = TcpListener::bind(("127.0.0.31", port)).unwrap();
    std::thread::spawn(move || while alive.accept().is_ok() {});
    let server = Server::start(&format!(
        "[pools.web]\ncheck = \"tcp://:{port}\"\nbackends = [\"127.0.0.31\", \"127.0.0.32\", \"192.0.2.1\"]\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\nanswers = \"all\"\n"
    ));
    let client = Client::of(&server);
    for _ in 0..200 {
        let addresses = client::addresses(&client.ask("www.lb.example.test.", RecordType::A));
        assert_eq!(addresses, ["127.0.0.31".parse::<std::net::Ipv4Addr>().unwrap()]);
    }
}
