//! Weights at run time: a canary over real sockets, and over a restart.

use std::collections::HashMap;
use std::process::Command;

use hickory_proto::rr::RecordType;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{self, Client};
use crate::harness::{STEERD, ZONE, wait_for};
use crate::support::Steerd;

const CONFIG: &str = "state_dir = \"state\"\n[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
     [pools.web]\nbackends = [\n\
     { name = \"old1\", address = \"192.0.2.11\", weight = 2 },\n\
     { name = \"old2\", address = \"192.0.2.12\", weight = 2 },\n\
     { name = \"new\", address = \"192.0.2.13\", weight = 2 },\n]\n\
     [services.\"www.lb.example.test\"]\npools = [\"web\"]\nanswers = 1\n";

const ROUNDS: u32 = 20_000;

/// Fair draws deviate by less standard deviations, except in one run in a million.
const FAIR: f64 = 5.6;

fn start() -> Steerd {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    std::fs::create_dir(directory.path().join("state")).unwrap();
    Steerd::start_in(directory, CONFIG)
}

/// The exit code, and what was written to both streams.
fn steerd(server: &Steerd, arguments: &[&str]) -> (i32, String) {
    let admin = format!("http://{}", server.admin);
    let output = Command::new(STEERD).args(arguments).args(["--admin", &admin]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn new_backend(server: &Steerd) -> Value {
    let (_, pool) = server.request("GET", "/api/v1/pools/web", "");
    pool["backends"][2].clone()
}

/// Each backend must be in as many of [`ROUNDS`] answers as its weight says.
fn assert_shares(server: &Steerd, weights: [u32; 3]) {
    let client = Client::to(server.dns, &server.ledger.sent);
    let mut counts: HashMap<u8, u32> = HashMap::new();
    for _ in 0..ROUNDS {
        let answer = client::addresses(&client.ask("www.lb.example.test.", RecordType::A));
        *counts.entry(answer[0].octets()[3]).or_default() += 1;
    }
    let total: u32 = weights.iter().sum();
    for (last, weight) in (11..).zip(weights) {
        let (count, rounds) = (counts.get(&last).copied().unwrap_or(0), f64::from(ROUNDS));
        let share = f64::from(weight) / f64::from(total);
        let sigma = (rounds * share * (1.0 - share)).sqrt();
        let off = (f64::from(count) - rounds * share).abs();
        assert!(off <= FAIR * sigma, "{last} is in {count} of {ROUNDS} answers, wanted {share}: {counts:?}");
    }
}

#[test]
fn a_canary_gets_its_part_also_after_a_restart() {
    let server = start();
    assert_shares(&server, [1, 1, 1]);
    let canary = ["weight", "web/new", "10%", "--for", "1h", "--reason", "canary"];
    let (code, said) = steerd(&server, &canary);
    assert!(code == 0 && said.starts_with("web/new: 10% of its weight until 20"), "{said}");
    assert_shares(&server, [10, 10, 1]);
    let shown = new_backend(&server);
    assert_eq!((&shown["weight"], &shown["effective_weight"]), (&json!(2), &json!(0.2)));
    let kept = shown["weight_override"].clone();
    assert_eq!((&kept["percent"], &kept["reason"]), (&json!(10), &json!("canary")));
    let gauge = "steerd_backend_weight_override_ratio{pool=\"web\",backend=\"new\"}";
    assert_eq!(server.metric(gauge), Some(0.1));

    // A crash loses at most the last second.
    wait_for("the weight is on disk", || {
        let files = std::fs::read_dir(server.directory.path().join("state")).unwrap();
        let texts = files.filter_map(|file| std::fs::read_to_string(file.unwrap().path()).ok());
        texts.into_iter().any(|text| text.contains("\"percent\":10")).then_some(())
    });
    let server = Steerd::start_in(server.end("KILL"), CONFIG);
    assert_eq!(new_backend(&server)["weight_override"], kept);
    assert_shares(&server, [10, 10, 1]);

    let (code, said) = steerd(&server, &["weight", "web/new", "auto"]);
    let ended = "web/new: the override weight 10% has ended; its weight is the configured one again\n";
    assert_eq!((code, said.as_str()), (0, ended));
    assert_shares(&server, [1, 1, 1]);
    assert_eq!(server.metric(gauge), None);
}

#[test]
fn the_last_usable_backend_gets_nothing_only_by_force() {
    let server = start();
    assert_eq!(steerd(&server, &["weight", "web/old1", "0%"]).0, 0);
    assert_eq!(steerd(&server, &["drain", "web/old2"]).0, 0);
    let (status, problem) =
        server.request("PUT", "/api/v1/pools/web/backends/new/weight", r#"{"percent":0}"#);
    assert_eq!(status, 409, "{problem}");
    assert_eq!(problem["consequences"][0], "pool web has no usable ipv4 address any more", "{problem}");
    let (code, said) = steerd(&server, &["weight", "web/new", "0%"]);
    assert!(code == 1 && said.contains("would interrupt service") && said.contains("add --force"), "{said}");
    assert_eq!(new_backend(&server)["weight_override"], Value::Null);
    let (code, said) = steerd(&server, &["weight", "web/new", "0%", "--force"]);
    assert!(code == 0 && said.contains("0% of its weight") && said.contains("is down (ipv4)"), "{said}");
    let (code, said) = steerd(&server, &["weight", "web/new", "auto", "--for", "1h"]);
    assert!(code == 2 && said.contains("takes neither --for nor --reason"), "{said}");
}

#[test]
fn the_weight_and_the_state_end_apart() {
    let server = start();
    assert_eq!(steerd(&server, &["weight", "web/new", "1000%"]).0, 0);
    let (code, said) = steerd(&server, &["up", "web/new"]);
    assert!(code == 0 && said.contains("it gets 1000% of its weight"), "{said}");
    assert_shares(&server, [1, 1, 10]);
    assert_eq!(steerd(&server, &["auto", "web/new"]).0, 0);
    let shown = new_backend(&server);
    assert_eq!((&shown["override"], &shown["weight_override"]["percent"]), (&Value::Null, &json!(1000)));
    assert_eq!(steerd(&server, &["weight", "web/new", "50%", "--for", "1s"]).0, 0);
    wait_for("the weight has ended", || new_backend(&server)["weight_override"].is_null().then_some(()));
    assert_eq!(new_backend(&server)["effective_weight"], 2);
}
