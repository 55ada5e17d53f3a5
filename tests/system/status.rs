//! `steerd status` of one server: exit codes, widths, JSON, colours, `--watch`; and the metrics beside it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::{STEERD, ZONE};
use crate::support::Steerd;

const CONFIG: &str = "[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
     [pools.web]\nbackends = [\n\
     { name = \"gw1\", address = \"192.0.2.11\", weight = 3 }, { name = \"gw2\", address = \"192.0.2.12\" },\n]\n\
     [pools.standby]\nbackends = [\"192.0.2.21\"]\n\
     [services.\"www.lb.example.test\"]\npools = [\"web\", \"standby\"]\nanswers = 1\n\
     [services.\"api.lb.example.test\"]\npools = [\"web\"]\n";

const ROUNDS: u32 = 2000;

fn start() -> Steerd {
    Steerd::start(CONFIG, &[("zone", ZONE)])
}

fn command(server: &Steerd, arguments: &[&str]) -> Command {
    let mut command = Command::new(STEERD);
    command.args(arguments).args(["--admin", &format!("http://{}", server.admin)]);
    command
}

/// The exit code and standard output.
fn said(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8(output.stdout.clone()).unwrap())
}

fn steerd(server: &Steerd, arguments: &[&str]) -> (i32, String) {
    said(&command(server, arguments).output().unwrap())
}

fn assert_fits(page: &str) {
    let widest = page.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 100, "{widest} columns:\n{page}");
}

#[test]
fn a_service_that_fails_open_is_told_first_and_by_the_exit_code() {
    let server = start();
    let (code, page) = steerd(&server, &["status"]);
    assert_eq!(code, 0, "{page}");
    assert!(page.contains("all 3 backends are fine") && !page.contains('\u{1b}'), "{page}");
    assert_fits(&page);

    for backend in ["web/gw1", "web/gw2"] {
        assert_eq!(steerd(&server, &["down", backend, "--force", "--for", "1h", "--reason", "drill"]).0, 0);
    }
    let (code, page) = steerd(&server, &["status"]);
    assert_eq!(code, 1, "{page}");
    assert_fits(&page);
    let lines: Vec<&str> = page.lines().collect();
    let place = |text: &str| lines.iter().position(|line| line.contains(text)).expect(text);
    let [api, www] = [place("api.lb.example.test"), place("www.lb.example.test")];
    assert!(api < www && lines[api].contains("fails open") && lines[www].contains("tier 2"), "{page}");
    assert!(lines[place("web/gw1") + 1].contains("down until"), "{page}");
    assert!(lines[place("web/gw1") + 1].contains("by 127.0.0.1:"), "{page}");
    assert!(page.contains("drill") && page.contains("critical"), "{page}");
    let (code, page) = steerd(&server, &["status", "www.lb.example.test"]);
    assert_eq!(code, 0, "this one is answered: {page}");
    assert!(page.contains("standby/192.0.2.21") && !page.contains("api.lb"), "{page}");
    assert_eq!(steerd(&server, &["status", "standby"]).0, 0);
    assert_eq!(steerd(&server, &["status", "web"]).0, 1);
    let output = command(&server, &["status", "wbe"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && error.contains("did you mean `web`?"), "{error}");

    let tier = |service: &str| {
        server.metric(&format!("steerd_service_tier{{service=\"{service}\",rule=\"\",family=\"ipv4\"}}"))
    };
    assert_eq!((tier("www.lb.example.test"), tier("api.lb.example.test")), (Some(2.0), Some(0.0)));
}

#[test]
fn shares_wanted_and_given_are_told_alike() {
    let server = start();
    let (code, _) = steerd(&server, &["weight", "web/gw1", "10%", "--reason", "canary"]);
    assert_eq!(code, 0);
    let client = Client::to(server.dns, &server.ledger.sent);
    for _ in 0..ROUNDS {
        client.ask("www.lb.example.test.", RecordType::A);
    }
    let wanted = 0.3 / 1.3;
    let (code, text) = steerd(&server, &["status", "web", "--json"]);
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, shown["pools"].as_array().unwrap().len()), (0, 1), "{text}");
    let gw1 = &shown["pools"][0]["backends"][0];
    let share = &gw1["shares"][0];
    assert_eq!((&share["family"], &share["draw"]), (&json!("ipv4"), &json!("weights")));
    assert!((share["wanted"].as_f64().unwrap() - wanted).abs() < 1e-9, "{gw1}");
    let [answers, others] =
        [0, 1].map(|index| shown["pools"][0]["backends"][index]["answers"].as_f64().unwrap());
    let given = answers / (answers + others);
    // Fair draws deviate less than this, except in one run in a million.
    assert!((given - wanted).abs() < 5.0 * (wanted * (1.0 - wanted) / f64::from(ROUNDS)).sqrt(), "{given}");
    let labels = "pool=\"web\",backend=\"gw1\",family=\"ipv4\",draw=\"weights\"";
    let metric = server.metric(&format!("steerd_backend_share{{{labels}}}")).unwrap();
    assert!((metric - wanted).abs() < 1e-9, "{metric}");
    assert_eq!(server.metric("steerd_backend_answers_total{pool=\"web\",backend=\"gw1\"}"), Some(answers));
    let (_, page) = steerd(&server, &["status"]);
    let line = page.lines().find(|line| line.contains("web/gw1")).unwrap();
    let given = format!("{:.1}%", given * 100.0);
    assert!(line.contains("10% of 3  23.1%   ") && line.ends_with(&given), "{given}: {page}");
}

/// At a terminal, in colours.
fn at_terminal(server: &Steerd, no_color: &str) -> String {
    let command = format!("{STEERD} status --admin http://{}", server.admin);
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).env("NO_COLOR", no_color).stdin(Stdio::null());
    said(&script.output().unwrap()).1
}

#[test]
fn colours_are_only_for_terminals() {
    let server = start();
    assert!(at_terminal(&server, "").contains("\u{1b}[32m"));
    assert!(!at_terminal(&server, "1").contains('\u{1b}'));
}

/// A command that is killed on drop.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_watch_shows_what_changes() {
    let server = start();
    let mut watching =
        Watching(command(&server, &["status", "--watch"]).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(watching.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("all 3 backends are fine")));
    assert_eq!(steerd(&server, &["drain", "web/gw2"]).0, 0);
    assert!(lines.any(|line| line.contains("web/gw2") && line.contains("drain (healthy)")));
}
