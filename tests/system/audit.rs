//! The audit of a running server: each change that somebody asks for, over crashes, and when it cannot be written.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{STEERD, ZONE, http_get, wait_for};
use crate::support::Steerd;

const CONFIG: &str = "state_dir = \"state\"\nstartup_wait = \"0s\"\n[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
     [pools.web]\nbackends = [{ name = \"one\", address = \"192.0.2.1\" }, { name = \"two\", address = \"192.0.2.2\" }]\n\
     [pools.standby]\nbackends = [\"192.0.2.3\"]\n\
     [services.\"www.lb.example.test\"]\npools = [\"web\", \"standby\"]\n";
const OVERRIDE: &str = "/api/v1/pools/web/backends/one/override";

fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    std::fs::write(directory.path().join("token"), "0123456789abcdef").unwrap();
    std::fs::create_dir(directory.path().join("state")).unwrap();
    directory
}

/// The entries, the oldest first.
fn entries(server: &Steerd, query: &str) -> Vec<Value> {
    let (status, mut reply) = server.request("GET", &format!("/api/v1/audit{query}"), "");
    assert_eq!(status, 200, "{reply:#}");
    let mut entries = reply["entries"].as_array_mut().map(std::mem::take).unwrap();
    entries.reverse();
    entries
}

/// Action, subject, before, after and outcome of each.
fn told(entries: &[Value]) -> Vec<[String; 5]> {
    let text = |entry: &Value, member: &str| entry[member].as_str().unwrap_or_default().to_owned();
    entries
        .iter()
        .map(|entry| ["action", "subject", "before", "after", "outcome"].map(|member| text(entry, member)))
        .collect()
}

fn lines(directory: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(directory.join("state/audit.jsonl")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn steerd(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(STEERD).args(arguments).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.success(), said)
}

#[test]
fn each_change_is_an_entry_with_its_author_and_dry_runs_are_not() {
    let server = Steerd::start_in(directory(), CONFIG);
    server.configure(CONFIG, "token_file = \"token\"");
    server.process.signal("HUP");
    wait_for("the signal is heeded", || (!entries(&server, "").is_empty()).then_some(()));
    let ask = |method: &str, path: &str, body: &str, expected: u16| {
        let (status, reply) = server.request(method, path, body);
        assert_eq!(status, expected, "{method} {path}: {reply:#}");
    };
    ask("PUT", OVERRIDE, r#"{"state":"drain","for":"30m","reason":"kernel"}"#, 200);
    ask("PUT", OVERRIDE, r#"{"state":"up","dry_run":true}"#, 200);
    ask("PUT", OVERRIDE, r#"{"state":"disabled"}"#, 200);
    ask("PUT", "/api/v1/pools/web/backends/none/override", r#"{"state":"up"}"#, 404);
    ask("PUT", "/api/v1/pools/web/backends/two/weight", r#"{"percent":30,"force":true}"#, 200);
    ask("DELETE", OVERRIDE, "", 200);
    ask(
        "PUT",
        "/api/v1/services/www.lb.example.test/failover",
        r#"{"pool":"standby","reason":"drill"}"#,
        200,
    );
    ask("POST", "/api/v1/services/www.lb.example.test/failback", "", 409);
    ask("DELETE", "/api/v1/services/www.lb.example.test/failover", "", 200);
    ask("POST", "/api/v1/reload?dry_run=true", "", 200);
    std::fs::write(server.directory.path().join("steerd.toml"), "[server]\nodd = 1\n").unwrap();
    ask("POST", "/api/v1/reload", "", 422);
    let found = entries(&server, "");
    let mut told = told(&found);
    // The author of the override before has a port of its own.
    for [_, _, before, ..] in &mut told {
        *before = before.split([',', ' ']).next().unwrap_or_default().to_owned();
    }
    let expected = [
        ["reload", "", "configuration", "", "done"],
        ["override", "web/one", "auto", "drain for 30m", "done"],
        ["override", "web/one", "drain", "disabled", "done"],
        ["override", "web/none", "", "up", "refused"],
        ["weight", "web/two", "auto", "30%, by force", "done"],
        ["override", "web/one", "disabled", "auto", "done"],
        ["failover", "www.lb.example.test", "auto", "standby", "done"],
        ["failback", "www.lb.example.test", "", "", "refused"],
        ["failover", "www.lb.example.test", "standby", "auto", "done"],
        ["reload", "", "configuration", "", "refused"],
    ];
    told[0][3].clear();
    assert_eq!(told, expected.map(|entry| entry.map(str::to_owned)));
    assert_eq!(found[0]["by"], "SIGHUP");
    assert!(found[1]["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{}", found[1]);
    assert_eq!((&found[1]["token"], &found[1]["reason"]), (&json!("token_file"), &json!("kernel")));
    assert!(found[2]["before"].as_str().unwrap().contains("set by 127.0.0.1:"), "{}", found[2]);
    assert!(found[9]["why"].as_str().unwrap().contains("2 errors to correct, first "), "{}", found[9]);
    // Pages, and what selects.
    assert_eq!(entries(&server, "?action=reload").len(), 2);
    assert_eq!(entries(&server, "?since=1h&by=SIGHUP").len(), 1);
    assert_eq!(entries(&server, "?since=2999-01-01T00:00:00Z").len(), 0);
    let before = found[2]["id"].as_u64().unwrap();
    assert_eq!(entries(&server, &format!("?before={before}&limit=1")), found[1..2]);
    for query in ["?limit=0", "?action=odd", "?since=x", "?odd=1"] {
        assert_eq!(server.request("GET", &format!("/api/v1/audit{query}"), "").0, 400, "{query}");
    }
    // The command, from the server and from its files.
    let admin = format!("http://{}", server.admin);
    let (success, said) = steerd(&["audit", "--admin", &admin, "--action", "weight"]);
    assert!(
        success && said.contains("weight  web/two  done  auto -> 30%, by force  by 127.0.0.1:"),
        "{said}"
    );
    wait_for("all are written", || (lines(server.directory.path()).len() == 10).then_some(()));
    let directory = server.end("KILL");
    let state = directory.path().join("state");
    let (success, said) = steerd(&["audit", "--state-dir", state.to_str().unwrap(), "--json", "-n", "2"]);
    assert!(success && said.lines().count() == 2 && said.contains("2 errors to correct, first "), "{said}");
    assert!(!steerd(&["audit", "--state-dir", directory.path().to_str().unwrap()]).0);
}

#[test]
fn it_is_readable_after_each_of_many_kills() {
    let mut directory = directory();
    let mut acknowledged = 0;
    for round in 0..6 {
        let server = Steerd::start_in(directory, CONFIG);
        let (admin, ended) = (server.admin, std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
        let asking = {
            let ended = std::sync::Arc::clone(&ended);
            std::thread::spawn(move || {
                let (mut number, mut done) = (0_u32, Vec::new());
                while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                    number += 1;
                    let reason = format!("{round}-{number} {}", "x".repeat(190));
                    let body = format!("{{\"state\":\"drain\",\"reason\":\"{reason}\"}}");
                    let head = format!(
                        "PUT {OVERRIDE} HTTP/1.1\r\nHost: {admin}\r\nContent-Length: {}\r\nContent-Type: application/json\r\n\
                         Connection: close\r\n\r\n{body}",
                        body.len()
                    );
                    let Ok(mut stream) = std::net::TcpStream::connect(admin) else { break };
                    let mut reply = String::new();
                    let sent = std::io::Write::write_all(&mut stream, head.as_bytes());
                    if sent.and_then(|()| std::io::Read::read_to_string(&mut stream, &mut reply)).is_err() {
                        break;
                    }
                    if reply.contains("200 OK") {
                        done.push(number);
                    }
                }
                done
            })
        };
        wait_for("some are written", || {
            (lines(server.directory.path()).len() > acknowledged + 20).then_some(())
        });
        directory = server.end("KILL");
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        let done = asking.join().unwrap();
        assert!(done.len() >= 20);
        let lines = lines(directory.path());
        let torn = lines.iter().filter(|line| serde_json::from_str::<Value>(line).is_err()).count();
        assert!(torn <= round + 1, "at most one line for each kill, {torn}");
        let ids: Vec<u64> = lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["id"].as_u64())
            .collect();
        assert!(ids.is_sorted(), "{ids:?}");
        // Only the last ones may be missing: a reply does not wait for the disk.
        let written = numbers_of(&lines, round);
        let last = written.iter().max().copied().unwrap_or_default();
        let missing: Vec<u32> =
            done.into_iter().filter(|number| *number < last && !written.contains(number)).collect();
        assert!(missing.is_empty(), "acknowledged, but without an entry: {missing:?} of {last}");
        acknowledged = lines.len();
    }
    let server = Steerd::start_in(directory, CONFIG);
    wait_for("the entries are there again", || (entries(&server, "?limit=2000").len() > 100).then_some(()));
    // A stop writes all of them.
    for number in 1..=20 {
        let body = json!({ "state": "drain", "reason": format!("6-{number} x") });
        assert_eq!(server.request("PUT", OVERRIDE, &body.to_string()).0, 200);
    }
    let directory = server.end("TERM");
    assert_eq!(numbers_of(&lines(directory.path()), 6), (1..=20).collect::<Vec<_>>());
}

/// The numbers in the reasons of a round.
fn numbers_of(lines: &[String], round: usize) -> Vec<u32> {
    let start = format!("{round}-");
    let number = |line: &String| {
        let entry: Value = serde_json::from_str(line).ok()?;
        let (number, _) = entry["reason"].as_str()?.strip_prefix(&start)?.split_once(' ')?;
        number.parse().ok()
    };
    lines.iter().filter_map(number).collect()
}

#[test]
fn what_cannot_be_written_is_an_alarm_and_service_goes_on() {
    let server = Steerd::start_in(directory(), CONFIG);
    let path = server.directory.path().join("state/audit.jsonl");
    // A file that is a link is not opened. A full disk is among the faults of `tests/chaos`.
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    assert_eq!(server.request("PUT", OVERRIDE, r#"{"state":"drain"}"#).0, 200);
    wait_for("the alarm is given", || (server.metric("steerd_audit_failing")? == 1.0).then_some(()));
    let (_, status) = server.request("GET", "/api/v1/status", "");
    let notice = status["notices"][0].as_str().unwrap();
    assert!(notice.starts_with("the audit cannot be written: "), "{notice}");
    let admin = format!("http://{}", server.admin);
    let (_, said) = steerd(&["status", "--admin", &admin]);
    assert!(said.contains("ATTENTION: the audit cannot be written"), "{said}");
    let (success, said) = steerd(&["audit", "--admin", &admin]);
    assert!(success && said.contains("cannot write its audit") && said.contains("web/one"), "{said}");
    std::fs::remove_file(&path).unwrap();
    wait_for("it is written", || (lines(server.directory.path()).len() == 1).then_some(()));
    wait_for("the alarm ends", || (server.metric("steerd_audit_failing")? == 0.0).then_some(()));
    // Without its directory, too.
    std::fs::remove_dir_all(server.directory.path().join("state")).unwrap();
    assert_eq!(server.request("DELETE", OVERRIDE, "").0, 200);
    wait_for("the alarm is given again", || (server.metric("steerd_audit_failing")? == 1.0).then_some(()));
    assert_eq!(http_get(server.admin, "/readyz").0, 200);
}
