//! Operators' overrides of backends, by the command line and by the API.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::harness::{STEERD, ZONE, dig, wait_for};
use crate::support::{Steerd, TOKEN};

const CONFIG: &str = "[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
     [pools.web]\nbackends = [\n\
     { name = \"gw1\", address = \"192.0.2.11\" }, { name = \"gw2\", address = \"192.0.2.12\" }, \"2001:db8::13\",\n]\n\
     [services.\"www.lb.example.test\"]\npools = [\"web\"]\nttl = \"30s\"\n";

fn start() -> Steerd {
    Steerd::start(CONFIG, &[("zone", ZONE), ("token", TOKEN)])
}

fn steerd(server: &Steerd, arguments: &[&str]) -> Output {
    let admin = format!("http://{}", server.admin);
    Command::new(STEERD).args(arguments).args(["--admin", &admin]).output().unwrap()
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn answered(server: &Steerd) -> Vec<String> {
    let mut addresses = dig(server.dns, &server.ledger.sent, &["www.lb.example.test", "A"]);
    addresses.sort();
    addresses
}

fn backend(server: &Steerd, name: &str) -> Value {
    let (_, pool) = server.request("GET", "/api/v1/pools/web", "");
    let backends = pool["backends"].as_array().unwrap().iter();
    backends.clone().find(|backend| backend["name"] == name).unwrap().clone()
}

#[test]
fn a_backend_is_drained_and_returns_by_hand() {
    let server = start();
    assert_eq!(answered(&server), ["192.0.2.11", "192.0.2.12"]);
    let (code, out, _) = said(&steerd(&server, &["drain", "web/gw1", "--for", "30m", "--reason", "kernel"]));
    assert_eq!(code, 0);
    assert!(out.starts_with("web/gw1: drain until 20"), "{out}");
    assert_eq!(answered(&server), ["192.0.2.12"], "at once");
    let shown = backend(&server, "gw1");
    assert_eq!(
        (&shown["override"]["state"], &shown["override"]["reason"]),
        (&json!("drain"), &json!("kernel"))
    );
    let safe_at: jiff::Timestamp =
        shown["safe_at"].as_str().expect("when it may be stopped").parse().unwrap();
    let in_seconds = safe_at.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((20..=32).contains(&in_seconds), "a TTL of 30 s: {in_seconds} s");
    let (code, out, _) = said(&steerd(&server, &["auto", "web/gw1"]));
    assert_eq!((code, out.as_str()), (0, "web/gw1 is left to its checks\n"));
    assert_eq!(answered(&server), ["192.0.2.11", "192.0.2.12"]);
}

#[test]
fn every_word_has_its_effect() {
    let server = start();
    for word in ["drain", "disable", "down"] {
        assert_eq!(said(&steerd(&server, &[word, "web/gw2"])).0, 0);
        assert_eq!(answered(&server), ["192.0.2.11"], "{word}");
    }
    assert_eq!(said(&steerd(&server, &["up", "web/gw2"])).0, 0);
    assert_eq!(answered(&server), ["192.0.2.11", "192.0.2.12"]);
    // A name with colons is one part of a path.
    let (code, out, _) = said(&steerd(&server, &["down", "web/2001:db8::13", "--json"]));
    let reply: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &reply["name"]), (0, &json!("2001:db8::13")));
    assert_eq!(reply["override"]["state"], "down");
}

#[test]
fn an_override_ends_by_itself() {
    let server = start();
    assert_eq!(said(&steerd(&server, &["down", "web/gw1", "--for", "1s"])).0, 0);
    wait_for("the override has ended", || (answered(&server).len() == 2).then_some(()));
    assert_eq!(backend(&server, "gw1")["override"], Value::Null);
}

#[test]
fn mistakes_are_told_with_what_was_meant() {
    let server = start();
    for (arguments, expected) in [
        (&["drain", "wbe/gw1"][..], "there is no pool `wbe`; did you mean `web`?"),
        (&["drain", "web/gw3"], "there is no backend `gw3` in the pool `web`; did you mean `gw1`?"),
        (&["auto", "web/database"], "there are gw1, gw2, 2001:db8::13"),
        (&["drain", "web/gw1", "--for", "soon"], "`for` must be a duration"),
        (&["drain", "web/gw1", "--reason", "a\nb"], "`reason` must be one line"),
    ] {
        let (code, _, error) = said(&steerd(&server, arguments));
        assert_eq!(code, 1, "{arguments:?}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    assert_eq!(answered(&server).len(), 2);
}

#[test]
fn the_token_is_that_of_the_file() {
    let server = start();
    server.configure(CONFIG, "token_file = \"token\"");
    assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
    let (code, _, error) = said(&steerd(&server, &["drain", "web/gw1"]));
    assert_eq!(code, 1);
    assert!(error.contains("--token-file"), "{error}");
    let file = server.directory.path().join("token").display().to_string();
    assert_eq!(said(&steerd(&server, &["drain", "web/gw1", "--token-file", &file])).0, 0);
    assert_eq!(answered(&server), ["192.0.2.12"]);
}
