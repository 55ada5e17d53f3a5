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

/// Seeds the choices of clients that take any address.
const CLIENTS: u64 = 20_260_101;

/// The chances of a backend, by the last byte of its address.
struct Chances {
    last: u8,
    /// That it is in an answer.
    included: f64,
    /// That it is the first of an answer.
    first: f64,
}

/// Sends [`ROUNDS`] queries. Clients that take the first address, and clients that take any, must see
/// each backend as often as its chances say.
fn assert_shares(client: &Client, name: &str, answers: u8, backends: &[Chances], rng: &mut SmallRng) {
    let mut first: HashMap<u8, u32> = HashMap::new();
    let mut any: HashMap<u8, u32> = HashMap::new();
    for _ in 0..ROUNDS {
        let addresses = client::addresses(&client.ask(name, RecordType::A));
        assert_eq!(addresses.len(), usize::from(answers));
        *first.entry(addresses[0].octets()[3]).or_default() += 1;
        *any.entry(addresses[rng.random_range(0..addresses.len())].octets()[3]).or_default() += 1;
    }
    for backend in backends {
        let of_any = backend.included / f64::from(answers);
        for (taken, counts, share) in [("the first", &first, backend.first), ("any", &any, of_any)] {
            let count = counts.get(&backend.last).copied().unwrap_or(0);
            assert!(
                deviation(count, share) < FAIR,
                "{taken} of {answers}: {} is {count} of {ROUNDS}, wanted {share}",
                backend.last
            );
        }
    }
}

/// Backends from 192.0.2.11 on with these weights.
fn weighted(weights: &[u8]) -> String {
    let backends: Vec<String> = (11..)
        .zip(weights)
        .map(|(last, weight): (u8, &u8)| format!("{{ address = \"192.0.2.{last}\", weight = {weight} }}"))
        .collect();
    format!("[pools.web]\nbackends = [{}]\n", backends.join(", "))
}

/// Clients that take the first address see the weights, and so do clients that take any address,
/// because no backend is needed more than once in an answer.
#[test]
fn shares_are_exact_with_several_answers() {
    let weights = [3_u8, 2, 2, 1, 2, 2];
    let services = [1, 2, 4].map(|answers| {
        format!("[services.\"a{answers}.lb.example.test\"]\npools = [\"web\"]\nanswers = {answers}\n")
    });
    let server = Server::start(&format!("{}{}", weighted(&weights), services.concat()));
    let client = Client::of(&server);
    let mut rng = SmallRng::seed_from_u64(CLIENTS);
    for answers in [1, 2, 4] {
        let backends: Vec<Chances> = (11..)
            .zip(weights)
            .map(|(last, weight)| {
                let share = f64::from(weight) / 12.0;
                Chances { last, included: share * f64::from(answers), first: share }
            })
            .collect();
        assert_shares(&client, &format!("a{answers}.lb.example.test."), answers, &backends, &mut rng);
    }
}

/// One backend is needed more than once, so it is in every answer, and the others share the second
/// place. Still, clients that take the first address see the weights.
#[test]
fn shares_are_exact_with_a_backend_in_every_answer() {
    let server = Server::start(&format!(
        "{}[services.\"www.lb.example.test\"]\npools = [\"web\"]\nanswers = 2\n",
        weighted(&[5, 1, 1, 1])
    ));
    let backends: Vec<Chances> = [(11, 1.0, 5.0 / 8.0)]
        .into_iter()
        .chain([12, 13, 14].map(|last| (last, 1.0 / 3.0, 1.0 / 8.0)))
        .map(|(last, included, first)| Chances { last, included, first })
        .collect();
    let mut rng = SmallRng::seed_from_u64(CLIENTS);
    assert_shares(&Client::of(&server), "www.lb.example.test.", 2, &backends, &mut rng);
}

/// Sites weigh 6 : 3 : 1. The first is in every answer, and the other two share the second place.
#[test]
fn shares_over_sites_are_those_that_check_prints() {
    let backend = |last: u8, weight: u8, site: &str| {
        format!("{{ name = \"{last}\", address = \"192.0.2.{last}\", weight = {weight}, site = \"{site}\" }}")
    };
    let backends = [(11, 4, "a"), (12, 2, "a"), (13, 3, "b"), (14, 1, "c")]
        .map(|(last, weight, site)| backend(last, weight, site));
    let server = Server::start(&format!(
        "[pools.web]\nbackends = [{}]\n[services.\"www.lb.example.test\"]\npools = [\"web\"]\nanswers = 2\n\
         spread = \"always\"\n",
        backends.join(", ")
    ));
    let checked = server.checked();
    let printed: Vec<Chances> = checked["draws"][0]["backends"]
        .as_array()
        .unwrap_or_else(|| panic!("{checked:#}"))
        .iter()
        .map(|backend| Chances {
            last: backend["backend"].as_str().unwrap().parse().unwrap(),
            included: backend["included"].as_f64().unwrap(),
            first: backend["first"].as_f64().unwrap(),
        })
        .collect();
    assert_eq!(printed.len(), 4);
    let mut rng = SmallRng::seed_from_u64(CLIENTS);
    assert_shares(&Client::of(&server), "www.lb.example.test.", 2, &printed, &mut rng);
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
