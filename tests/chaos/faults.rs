//! Faults of the machine around the server: service goes on, and the fault is shown.
//!
//! Too few descriptors for probes or for connections are in `tests/system/suspicion.rs` and `tests/attack/flood.rs`,
//! jumps of the time of day in `src/checker/tests/overrides.rs` and in the simulation of the fleet.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::namespace;
use crate::support::client::Client;
use crate::support::message::{A, NOERROR, Query, Reply, wire};
use crate::support::{Steerd, TOKEN, program, wait_for};

const ZONE: &str = "$TTL 300\n@ IN SOA ns1 hostmaster 1 3600 900 604800 2\n@ NS ns1\nns1 A 127.0.0.1\n";
const CONFIG: &str = "state_dir = \"state\"\nstartup_wait = \"0s\"\n[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
     [pools.web]\nbackends = [{ name = \"one\", address = \"192.0.2.1\" }, { name = \"two\", address = \"192.0.2.2\" }]\n\
     [services.\"www.lb.example.test\"]\npools = [\"web\"]\n";
/// The backends in it, between the brackets.
const BACKENDS: &str =
    "{ name = \"one\", address = \"192.0.2.1\" }, { name = \"two\", address = \"192.0.2.2\" }";
const DRAINED: usize = 60;
const OVERRIDE: &str = "/api/v1/pools/web/backends/one/override";
const DRAIN: &str = r#"{"state":"drain","reason":"maintenance"}"#;
const NOT_WRITTEN: &str = "health and overrides cannot be written";

fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    std::fs::write(directory.path().join("token"), TOKEN).unwrap();
    std::fs::create_dir(directory.path().join("state")).unwrap();
    directory
}

/// How many addresses the service has now.
fn answered(server: &Steerd) -> usize {
    let query = Query::plain(wire("www.lb.example.test"), A);
    let reply = Client::counting(server.dns, &server.ledger.sent).ask(&query, 1);
    let reply = Reply::decode(&reply).unwrap();
    assert_eq!(reply.rcode, NOERROR);
    reply.answer.len()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn mount(arguments: &[&str], directory: &Path) {
    run(Command::new(program("mount")).args(arguments).arg(directory));
}

/// Both alarms of `state_dir` are given, in the log, the metrics and the status.
fn wait_for_alarms(server: &Steerd, because: &str) {
    wait_for("the state is not written", || {
        (server.metric("steerd_state_write_failures_total")? >= 1.0).then_some(())
    });
    wait_for("the audit is not written", || (server.metric("steerd_audit_failing")? > 0.0).then_some(()));
    assert!(server.process.said(NOT_WRITTEN).iter().any(|line| line.contains(because)));
    let (_, status) = server.request("GET", "/api/v1/status", "");
    let notices = status["notices"].to_string();
    assert!(notices.contains("the audit cannot be written") && notices.contains(because), "{notices}");
}

fn wait_for_recovery(server: &Steerd) {
    wait_for("the state is written", || server.process.said("health and overrides are written again").pop());
    wait_for("the audit is written", || (server.metric("steerd_audit_failing")? == 0.0).then_some(()));
}

/// A start after a crash has the override of the first backend.
fn expect_override_after_a_crash(server: Steerd, config: &str) {
    let directory = server.end("KILL");
    let server = Steerd::start_in(directory, config);
    let (_, pool) = server.request("GET", "/api/v1/pools/web", "");
    assert_eq!(pool["backends"][0]["override"]["state"], "drain", "{pool:#}");
}

#[test]
fn a_full_disk_is_an_alarm_and_the_changes_are_written_later() {
    namespace::run("faults::a_full_disk_is_an_alarm_and_the_changes_are_written_later", || {
        let directory = directory();
        let state = directory.path().join("state");
        mount(&["-t", "tmpfs", "-o", "size=256k", "tmpfs"], &state);
        let names: Vec<String> = (0..=DRAINED)
            .map(|number| format!("{{ name = \"b{number}\", address = \"192.0.2.{number}\" }}"))
            .collect();
        let config = CONFIG.replace(BACKENDS, &names.join(", "));
        let server = Steerd::start_in(directory, &config);
        wait_for("the configuration is kept", || state.join("configurations").exists().then_some(()));
        let rest = state.join("rest");
        let mut filling = std::fs::File::create(&rest).unwrap();
        while filling.write(&[0; 1024]).is_ok() {}
        drop(filling);
        // The first changes may still fit where files have begun a page.
        for number in 0..DRAINED {
            let path = format!("/api/v1/pools/web/backends/b{number}/override");
            let (status, reply) =
                server.request("PUT", &path, &DRAIN.replace("maintenance", &"x".repeat(200)));
            assert_eq!(status, 200, "{reply:#}");
        }
        assert_eq!(answered(&server), 1, "the overrides are in force");
        wait_for_alarms(&server, "No space left on device");
        let last = format!("192.0.2.{DRAINED}");
        server.configure(&config.replace(&last, "198.51.100.1"), "");
        assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
        assert_eq!(answered(&server), 1);
        std::fs::remove_file(rest).unwrap();
        wait_for_recovery(&server);
        expect_override_after_a_crash(server, &config);
    });
}

#[test]
fn a_read_only_directory_is_an_alarm_and_the_changes_are_written_later() {
    namespace::run("faults::a_read_only_directory_is_an_alarm_and_the_changes_are_written_later", || {
        let directory = directory();
        let state = directory.path().join("state");
        let server = Steerd::start_in(directory, CONFIG);
        // The lock is open for writing, so only a second mount can become read-only.
        mount(&["--bind", state.to_str().unwrap()], &state);
        mount(&["-o", "remount,bind,ro"], &state);
        assert_eq!(server.request("PUT", OVERRIDE, DRAIN).0, 200);
        // A larger directory: everything is written anew.
        server.configure(&CONFIG.replace("192.0.2.2", "192.0.2.3"), "");
        assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
        wait_for("the audit is not written", || (server.metric("steerd_audit_failing")? > 0.0).then_some(()));
        assert_eq!(answered(&server), 1);
        run(Command::new(program("umount")).arg(&state));
        wait_for("the audit is written", || (server.metric("steerd_audit_failing")? == 0.0).then_some(()));
        expect_override_after_a_crash(server, CONFIG);
    });
}

#[test]
fn a_token_file_that_cannot_be_read_keeps_the_old_token() {
    let server = Steerd::start_in(directory(), CONFIG);
    let with_token = || server.configure(CONFIG, "token_file = \"token\"");
    with_token();
    assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
    let token = server.directory.path().join("token");
    let fail = |because: &str| {
        let (status, reply) = server.request("POST", "/api/v1/reload", "");
        assert_eq!(status, 422, "{reply:#}");
        assert!(reply.to_string().contains(because) && reply.to_string().contains("token"), "{reply:#}");
        assert_eq!(server.metric("steerd_config_last_reload_success"), Some(0.0));
        assert!(!server.process.said("reload refused").is_empty());
        assert_eq!(server.request("PUT", OVERRIDE, DRAIN).0, 200, "the old token has its rights");
        assert_eq!(answered(&server), 1);
    };
    std::fs::remove_file(&token).unwrap();
    fail("No such file");
    std::fs::create_dir(&token).unwrap();
    fail("directory");
    std::fs::remove_dir(&token).unwrap();
    std::fs::write(&token, TOKEN).unwrap();
    assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
    assert_eq!(server.metric("steerd_config_last_reload_success"), Some(1.0));
}

/// From now on, lets the server open only descriptors below this number.
fn limit_descriptors(server: &Steerd, limit: usize) {
    // The hard limit stays, because raising it again would need a privilege.
    let (process, limit) = (server.process.id().to_string(), format!("--nofile={limit}:"));
    run(Command::new(program("prlimit")).args(["--pid", &process, &limit]));
}

#[test]
fn without_descriptors_an_upgrade_is_refused_and_nothing_else_ends() {
    let server = Steerd::start_in(directory(), CONFIG);
    wait_for("the configuration is kept", || {
        let (_, list) = server.request("GET", "/api/v1/configurations", "");
        (!list["configurations"].as_array()?.is_empty()).then_some(())
    });
    limit_descriptors(&server, 3);
    server.process.signal("USR2");
    let refusal = wait_for("the upgrade is refused", || server.process.said("upgrade refused").pop());
    assert!(refusal.contains("Too many open files") && refusal.contains("this process goes on"), "{refusal}");
    assert_eq!(answered(&server), 2);
    limit_descriptors(&server, 1024);
    assert_eq!(server.request("PUT", OVERRIDE, DRAIN).0, 200);
    assert_eq!(answered(&server), 1);
}

#[test]
fn a_check_program_that_is_killed_fails_its_check_and_leaves_nothing() {
    let directory = directory();
    let ran = directory.path().join("ran");
    let path: PathBuf = directory.path().join("check");
    // The kernel ends the largest process of a group that has no memory left with this signal.
    let script = format!("#!/bin/sh\necho $$ >> {}\nkill -KILL $$\n", ran.display());
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let check = format!(
        "check = {{ type = \"exec\", program = \"{}\", interval = \"500ms\", timeout = \"400ms\", fall = 2 }}\n",
        path.display()
    );
    let config = CONFIG.replace("[pools.web]\n", &format!("[pools.web]\n{check}"));
    let server = Steerd::start_in(directory, &config);
    wait_for("both backends are unhealthy", || {
        let (_, pool) = server.request("GET", "/api/v1/pools/web", "");
        let backends = pool["backends"].as_array()?;
        let is_told = |backend: &Value| {
            backend["addresses"][0]["state"] == "unhealthy"
                && backend.to_string().contains("ended by signal 9")
        };
        backends.iter().all(is_told).then_some(())
    });
    assert_eq!(answered(&server), 2, "without a healthy backend, all are answered");
    let killed = std::fs::read_to_string(ran).unwrap();
    wait_for("all are reaped", || {
        let is_there = |pid: &str| Path::new("/proc").join(pid).exists();
        (!killed.lines().any(is_there)).then_some(())
    });
}
