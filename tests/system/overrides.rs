//! Operators' overrides for backends, from the command line and the API.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

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
    assert_eq!((code, out.as_str()), (0, "web/gw1: the override drain has ended; its checks decide again\n"));
    assert_eq!(answered(&server), ["192.0.2.11", "192.0.2.12"]);
}

#[test]
fn a_wait_says_how_it_ended() {
    let server = Steerd::start(&CONFIG.replace("30s", "1s"), &[("zone", ZONE), ("token", TOKEN)]);
    let (code, out, _) = said(&steerd(&server, &["drain", "web/gw1", "--wait"]));
    assert_eq!((code, out.lines().last()), (0, Some("web/gw1: it may be stopped now")), "{out}");
    let (code, out, _) = said(&steerd(&server, &["auto", "web/gw1", "--wait"]));
    assert_eq!((code, out.lines().last()), (0, Some("web/gw1: it is in answers again")), "{out}");
    let (_, out, _) = said(&steerd(&server, &["drain", "web/gw1", "--wait", "--json"]));
    serde_json::from_str::<Value>(&out).expect("one document");
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
    // A name with colons is one segment of a path.
    let (code, out, _) = said(&steerd(&server, &["down", "web/2001:db8::13", "--force", "--json"]));
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
fn an_end_that_is_replaced_by_none_is_told() {
    let server = start();
    assert_eq!(said(&steerd(&server, &["drain", "web/gw1", "--for", "30m"])).0, 0);
    let until = backend(&server, "gw1")["override"]["until"].as_str().unwrap().to_owned();
    let told = format!("it no longer ends by itself; before: at {until}");
    let (code, out, _) = said(&steerd(&server, &["disable", "web/gw1"]));
    assert!(code == 0 && out.contains(&told), "{out}");
    let (code, out, _) = said(&steerd(&server, &["disable", "web/gw1"]));
    assert!(code == 0 && !out.contains("no longer"), "{out}");
}

#[test]
fn mistakes_are_told_with_what_was_meant() {
    let server = start();
    for (arguments, expected) in [
        (&["drain", "wbe/gw1"][..], "there is no pool `wbe`; did you mean `web`?"),
        (&["drain", "web/gw3"], "there is no backend `gw3` in the pool `web`; did you mean `gw1`?"),
        (&["auto", "web/database"], "there are gw1, gw2, 2001:db8::13"),
    ] {
        let (code, _, error) = said(&steerd(&server, arguments));
        assert_eq!(code, 1, "{arguments:?}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    let long = "x".repeat(201);
    for (arguments, expected) in [
        (
            ["--for", "soon"],
            "'soon' for '--for <DURATION>': expected a duration with a unit, such as 30m or 1h30m",
        ),
        (["--for", "30"], "did you mean 30s or 30m?"),
        (["--for", "0.5s"], "from 1s to 366d"),
        (["--for", "400d"], "from 1s to 366d"),
        (["--reason", "a\nb"], "expected one line of at most 200 characters"),
        (["--reason", &long], "for '--reason <TEXT>': expected one line of at most 200 characters"),
    ] {
        let (code, _, error) = said(&steerd(&server, &[&["drain", "web/gw1"][..], &arguments].concat()));
        assert_eq!(code, 2, "{arguments:?}");
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

/// The last backend of a family: displayed, refused, and done with force; from the API and the
/// command line.
#[test]
fn the_last_usable_backend_is_taken_away_only_by_force() {
    let server = start();
    let path = "/api/v1/pools/web/backends/2001:db8::13/override";
    let (status, problem) = server.request("PUT", path, r#"{"state":"drain"}"#);
    assert_eq!(status, 409, "{problem}");
    let lost = "pool web has no usable ipv6 address any more";
    assert_eq!(problem["consequences"][0], lost, "{problem}");
    assert!(problem["consequences"][1].as_str().unwrap().contains("fail open"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("`\"force\": true`"), "{problem}");
    let (code, _, error) = said(&steerd(&server, &["drain", "web/2001:db8::13", "--json"]));
    assert!(code == 1 && error.contains("add --force"), "{error}");
    // There is no terminal, so nobody can confirm.
    let (code, out, error) = said(&steerd(&server, &["drain", "web/2001:db8::13"]));
    assert_eq!((code, out.as_str()), (1, ""), "{error}");
    assert!(error.contains(lost) && error.contains("add --force"), "{error}");
    let (code, out, _) = said(&steerd(&server, &["drain", "web/2001:db8::13", "--json"]));
    assert!(code == 1 && out.contains("\"consequences\""), "{out}");
    assert_eq!(backend(&server, "2001:db8::13")["override"], Value::Null);

    let (code, out, error) = said(&steerd(&server, &["drain", "web/2001:db8::13", "--force"]));
    assert_eq!(code, 0, "{error}");
    assert!(
        out.contains(lost) && out.contains("will not survive a restart of steerd: no state_dir"),
        "{out}"
    );
    let by = backend(&server, "2001:db8::13")["override"]["by"].clone();
    let by = by.as_str().unwrap();
    assert!(by.starts_with("127.0.0.1:") && by.ends_with(" without a token"), "{by}");
    let lines = server.process.said("backend is overridden");
    let asked_by = format!("\"asked_by\":\"{by}\"");
    assert!(lines[0].contains(&asked_by), "{lines:?}");
    let lines = server.process.said("service down");
    assert!(lines[0].contains(&asked_by), "{lines:?}");

    let (status, reply) = server.request("PUT", path, r#"{"state":"up"}"#);
    assert_eq!((status, &reply["before"], &reply["survives_restart"]), (200, &json!("drain"), &json!(false)));
    assert!(reply["consequences"][0].as_str().unwrap().contains("is up again"), "{reply}");
    for expected in ["the override up has ended; its checks decide again", "had no override"] {
        let (code, out, _) = said(&steerd(&server, &["auto", "web/2001:db8::13"]));
        assert!(code == 0 && out.contains(expected), "{out}");
    }
    assert_eq!(server.request("DELETE", &format!("{path}?force=yes"), "").0, 400);
    assert_eq!(server.request("DELETE", &format!("{path}?force=true"), "").0, 200);
}

/// At a terminal the user is asked, and only "yes" confirms.
#[test]
fn a_person_at_a_terminal_is_asked() {
    let server = start();
    let at_terminal = |answer: &str| {
        let command = format!("{STEERD} drain web/2001:db8::13 --admin http://{}", server.admin);
        let mut script = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        script.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        said(&script.wait_with_output().unwrap())
    };
    let (code, shown, _) = at_terminal("n\n");
    assert!(code == 1 && shown.contains("[y/N]") && shown.contains("nothing has changed"), "{shown}");
    assert_eq!(backend(&server, "2001:db8::13")["override"], Value::Null);
    let (code, shown, _) = at_terminal("y\n");
    assert!(code == 0 && shown.contains("web/2001:db8::13: drain"), "{shown}");
    assert_eq!(backend(&server, "2001:db8::13")["override"]["state"], "drain");
}

/// With a state directory, an override survives, and there is no warning.
#[test]
fn an_override_that_is_kept_says_so() {
    let config = format!("state_dir = \"state\"\n{CONFIG}");
    let server = Steerd::start_in(directory_with_state(), &config);
    let drain = || {
        let path = "/api/v1/pools/web/backends/gw1/override";
        let (status, reply) = server.request("PUT", path, r#"{"state":"drain"}"#);
        assert_eq!(status, 200, "{reply}");
        (reply["survives_restart"].clone(), reply["lost_because"].clone())
    };
    assert_eq!(drain(), (json!(true), Value::Null));
    // The current state_dir counts, not that of the start.
    server.configure(CONFIG, "");
    assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
    wait_for("the loss is told", || {
        (drain() == (json!(false), json!("no state_dir is set under [server]"))).then_some(())
    });
}

fn directory_with_state() -> TempDir {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    std::fs::create_dir(directory.path().join("state")).unwrap();
    directory
}

/// The commands for all backends of a site, and the entity tag of an override over a restart.
#[test]
fn a_site_is_drained_by_one_command_and_tags_outlast_a_restart() {
    let config = "state_dir = \"state\"\n[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
         [pools.web]\nbackends = [\n\
         { name = \"a1\", address = \"192.0.2.11\", site = \"a\" },\n\
         { name = \"b1\", address = \"192.0.2.21\", site = \"b\" },\n\
         { name = \"b2\", address = \"192.0.2.22\", site = \"b\" },\n]\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\nttl = \"1s\"\n";
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    std::fs::create_dir(directory.path().join("state")).unwrap();
    let server = Steerd::start_in(directory, config);
    let steerd = |arguments: &[&str]| {
        let admin = format!("http://{}", server.admin);
        let output = Command::new(STEERD).args(arguments).args(["--admin", &admin]).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), text)
    };
    let (code, said) = steerd(&["drain", "w*/*"]);
    assert!(code == 1 && said.contains("web has no usable ipv4 address any more"), "{said}");
    let (code, said) = steerd(&["drain", "web/*", "--site", "b", "--reason", "racks", "--wait"]);
    assert_eq!(code, 0, "{said}");
    for backend in ["b1", "b2"] {
        assert!(said.contains(&format!("web/{backend}: drain;")), "{said}");
        assert!(said.contains(&format!("web/{backend}: it may be stopped now")), "{said}");
    }
    assert!(said.contains("0 of 2 safe; web/b1: clients may use its addresses for"), "{said}");
    assert!(!said.contains("web/a1"), "{said}");
    let (code, said) = steerd(&["down", "web/b1"]);
    assert!(code == 0 && said.contains("\n  replaces drain by 127.0.0.1:"), "{said}");
    let (code, said) = steerd(&["drain", "web/x*"]);
    assert!(code == 1 && said.contains("there is no backend `x*` in the pools `web`"), "{said}");
    let (code, said) = steerd(&["weight", "web/b?", "50%"]);
    assert!(code == 0 && said.contains("web/b2: 50% of its weight"), "{said}");

    let path = "/api/v1/pools/web/backends/b1/override";
    let (_, before) = server.request("GET", path, "");
    let server = Steerd::start_in(server.end("TERM"), config);
    let (_, after) = server.request("GET", path, "");
    assert_eq!(before, after, "with its tag");
    assert!(after["etag"].is_string(), "{after}");
}
