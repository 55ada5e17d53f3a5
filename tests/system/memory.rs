//! State survives the end of a process, however it ends; bad state does not prevent the next start.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Process, STEERD, ZONE, dig, wait_for};
use crate::support::Steerd;

const WWW: &str = "www.lb.example.test";
/// How a backend answers requests.
const HEALTHY: u8 = 0;
const BROKEN: u8 = 1;
const SILENT: u8 = 2;

/// HTTP backends on 127.0.0.`first` and the next address, with their behaviour.
struct Backends {
    port: u16,
    modes: [Arc<AtomicU8>; 2],
}

impl Backends {
    fn start(first: u8) -> Self {
        let port = crate::harness::free_port(&format!("127.0.0.{first}"));
        let modes = [0, 1].map(|index| {
            let listener = TcpListener::bind((format!("127.0.0.{}", first + index), port)).unwrap();
            let mode = Arc::new(AtomicU8::new(HEALTHY));
            let does = Arc::clone(&mode);
            std::thread::spawn(move || {
                let mut kept = Vec::new();
                for stream in listener.incoming().map_while(Result::ok) {
                    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                    let mut stream = stream;
                    match does.load(Ordering::Relaxed) {
                        HEALTHY => drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")),
                        BROKEN => drop(stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")),
                        _ => kept.push(stream),
                    }
                }
            });
            mode
        });
        Self { port, modes }
    }

    /// A configuration with a state directory and probes to these backends.
    fn config(&self, first: u8) -> String {
        format!(
            "state_dir = \"state\"\nstartup_wait = \"0s\"\n[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
             [pools.web]\ncheck = {{ type = \"http\", port = {}, interval = \"5s\", timeout = \"4s\", fall = 1 }}\n\
             backends = [\n{{ name = \"one\", address = \"127.0.0.{first}\" }},\n{{ name = \"two\", address = \"127.0.0.{}\" }},\n]\n\
             [services.\"{WWW}\"]\npools = [\"web\"]\n",
            self.port,
            first + 1
        )
    }
}

fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    std::fs::create_dir(directory.path().join("state")).unwrap();
    directory
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory.join("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The memory in the files, read without the server's own code: the snapshot, then the journals from its
/// number on.
fn remembered(directory: &Path) -> Option<Value> {
    let text = std::fs::read_to_string(directory.join("health.json")).ok()?;
    let file: Value = serde_json::from_str(&text).expect("never half a snapshot");
    let of =
        |value: &Value, names: &[&str]| names.iter().map(|name| value[name].to_string()).collect::<String>();
    let replace = |list: &mut Value, names: &[&str], value: &Value, keep: bool| {
        let list = list.as_array_mut().unwrap();
        match list.iter().position(|known| of(known, names) == of(value, names)) {
            Some(place) if keep => list[place] = value.clone(),
            Some(place) => drop(list.remove(place)),
            None if keep => list.push(value.clone()),
            None => {}
        }
    };
    let mut memory = file["memory"].clone();
    let first = file["journal"].as_u64().expect("the number of a journal");
    for number in first.. {
        let Ok(text) = std::fs::read_to_string(directory.join(format!("health.{number}.journal"))) else {
            break;
        };
        // A line without a line break is still being written.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let record: Value = serde_json::from_str(&line[17..]).expect("a record");
            let (states, overrides) = (["pool", "backend", "address", "check"], ["pool", "backend"]);
            if record["state"].is_object() {
                replace(&mut memory["states"], &states, &record["state"], true);
            } else if record["override"].is_object() {
                replace(&mut memory["overrides"], &overrides, &record["override"], true);
            } else if record["ended"].is_object() {
                replace(&mut memory["overrides"], &overrides, &record["ended"], false);
            }
        }
    }
    Some(memory)
}

/// Waits until the memory in the files satisfies `is_wanted`.
fn wait_for_file(server: &Steerd, what: &str, is_wanted: impl Fn(&Value) -> bool) {
    let directory = server.directory.path().join("state");
    wait_for(what, || is_wanted(&remembered(&directory)?).then_some(()));
}

fn verdicts(memory: &Value) -> Vec<&str> {
    let states = memory["states"].as_array().unwrap();
    states.iter().map(|state| state["verdict"].as_str().unwrap()).collect()
}

/// The only address of each backend.
fn addresses(server: &Steerd) -> [Value; 2] {
    let (_, pool) = server.request("GET", "/api/v1/pools/web", "");
    [0, 1].map(|index| pool["backends"][index]["addresses"][0].clone())
}

#[test]
fn health_survives_a_kill_and_counts_until_the_first_outcome() {
    let backends = Backends::start(151);
    backends.modes[1].store(BROKEN, Ordering::Relaxed);
    let server = Steerd::start_in(directory(), &backends.config(151));
    wait_for_file(&server, "both verdicts are written", |memory| {
        verdicts(memory) == ["healthy", "unhealthy"]
    });
    let directory = server.end("KILL");
    // No backend answers for four seconds after the start, so the state is only remembered.
    backends.modes.iter().for_each(|mode| mode.store(SILENT, Ordering::Relaxed));
    let began = Instant::now();
    let server = Steerd::start_in(directory, &backends.config(151));
    let [one, two] = addresses(&server);
    let answer = dig(server.dns, &server.ledger.sent, &[WWW, "A"]);
    assert!(began.elapsed() < Duration::from_secs(4), "this machine is too slow for the test");
    assert_eq!((&one["state"], &one["remembered"]), (&json!("healthy"), &json!(true)));
    assert_eq!((&two["state"], &two["remembered"]), (&json!("unhealthy"), &json!(true)));
    assert_eq!(answer, ["127.0.0.151"], "the one that was down is not answered");
    assert_eq!(server.process.said("health and overrides are restored").len(), 1);
    // The first outcome decides, whatever was remembered.
    backends.modes.iter().for_each(|mode| mode.store(HEALTHY, Ordering::Relaxed));
    wait_for("the first outcomes are in", || {
        addresses(&server).iter().all(|address| address["remembered"] == false).then_some(())
    });
}

#[test]
fn overrides_survive_a_kill_and_a_stop_and_end_when_their_time_is_over() {
    let backends = Backends::start(153);
    let server = Steerd::start_in(directory(), &backends.config(153));
    let path = |name: &str| format!("/api/v1/pools/web/backends/{name}/override");
    assert_eq!(server.request("PUT", &path("one"), r#"{"state":"drain","reason":"kernel"}"#).0, 200);
    assert_eq!(server.request("PUT", &path("two"), r#"{"state":"up","for":"3s"}"#).0, 200);
    let given = Instant::now();
    wait_for_file(&server, "both are written", |memory| memory["overrides"].as_array().unwrap().len() == 2);
    let server = Steerd::start_in(server.end("KILL"), &backends.config(153));
    let overrides = |server: &Steerd| {
        let (_, pool) = server.request("GET", "/api/v1/pools/web", "");
        [0, 1].map(|index| pool["backends"][index]["override"].clone())
    };
    let [one, two] = overrides(&server);
    assert_eq!((&one["state"], &one["reason"]), (&json!("drain"), &json!("kernel")));
    assert!(two["state"] == "up" || given.elapsed() >= Duration::from_secs(3), "{two}");
    // An orderly stop writes changes immediately.
    assert_eq!(server.request("DELETE", &path("one"), "").0, 200);
    assert_eq!(server.request("PUT", &path("one"), r#"{"state":"down"}"#).0, 200);
    let directory = server.end("TERM");
    while given.elapsed() < Duration::from_secs(3) {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let server = Steerd::start_in(directory, &backends.config(153));
    let [one, two] = overrides(&server);
    assert_eq!((&one["state"], two), (&json!("down"), Value::Null));
}

#[test]
fn a_damaged_file_is_set_aside_and_does_not_stop_the_start() {
    let backends = Backends::start(155);
    let mut directory = directory();
    for (round, text) in ["", "not JSON", "{\"format\":\"steerd-health\",\"version\":9}"].iter().enumerate() {
        std::fs::write(directory.path().join("state/health.json"), text).unwrap();
        let server = Steerd::start_in(directory, &backends.config(155));
        // The journal of the previous round continues the damaged snapshot, so it is set aside too.
        assert_eq!(
            server.process.said("the file of health and overrides cannot be used").len(),
            if round == 0 { 1 } else { 2 }
        );
        assert_eq!(server.process.said("steerd starts without it").len(), 1);
        wait_for_file(&server, "a good file is written", |memory| verdicts(memory).len() == 2);
        directory = server.end("TERM");
        let damaged = |file: &str| {
            let names = names(directory.path());
            names.iter().filter(|name| name.starts_with("health.") && name.contains(file)).count()
        };
        assert_eq!((damaged("json.damaged"), damaged("journal.damaged")), (round + 1, round));
    }
}

/// If the directory is gone, there is one warning and the memory is lost, but answers and the stop work.
#[test]
fn a_directory_that_cannot_be_written_is_told_once_and_counted() {
    let backends = Backends::start(157);
    let server = Steerd::start_in(directory(), &backends.config(157));
    wait_for_file(&server, "the file is written", |_| true);
    let state = server.directory.path().join("state");
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::write(&state, "in the way").unwrap();
    for name in ["one", "two"] {
        let path = format!("/api/v1/pools/web/backends/{name}/override");
        assert_eq!(server.request("PUT", &path, r#"{"state":"up"}"#).0, 200);
    }
    wait_for("a failure is counted", || {
        (server.metric("steerd_state_write_failures_total")? >= 1.0).then_some(())
    });
    assert_eq!(dig(server.dns, &server.ledger.sent, &[WWW, "A"]).len(), 2);
    wait_for("another attempt is made", || {
        (server.metric("steerd_state_write_failures_total")? >= 2.0).then_some(())
    });
    assert_eq!(server.process.said("cannot be written").len(), 1);
    std::fs::remove_file(&state).unwrap();
    std::fs::create_dir(&state).unwrap();
    wait_for_file(&server, "it is written again", |memory| {
        memory["overrides"].as_array().unwrap().len() == 2
    });
    wait_for("the log says so", || server.process.said("are written again").pop());
    server.end("TERM");
}

/// Two servers that write the same files could silently lose overrides.
#[test]
fn a_second_server_on_the_same_directory_does_not_start_and_says_who_has_it() {
    let backends = Backends::start(165);
    let server = Steerd::start_in(directory(), &backends.config(165));
    let path = server.directory.path().join("steerd.toml");
    let second = || Command::new(STEERD).args(["serve", "-c"]).arg(&path).output().unwrap();
    let refused = second();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    let expected = format!("is in use by process {}; stop that process", server.process.id());
    assert!(said.contains("`state_dir`") && said.contains(&expected), "{said}");
    let path_of = |name: &str| format!("/api/v1/pools/web/backends/{name}/override");
    assert_eq!(server.request("PUT", &path_of("one"), r#"{"state":"up"}"#).0, 200, "the first goes on");
    wait_for_file(&server, "it writes", |memory| memory["overrides"].as_array().unwrap().len() == 1);
    // A crash leaves no lock behind.
    let directory = server.end("KILL");
    assert!(directory.path().join("state/lock").exists());
    let server = Steerd::start_in(directory, &backends.config(165));
    assert_eq!(server.request("GET", "/api/v1/pools/web", "").1["backends"][0]["override"]["state"], "up");
}

#[test]
fn a_reload_does_not_move_to_a_directory_that_another_server_has() {
    let backends = Backends::start(167);
    let other = Steerd::start_in(directory(), &backends.config(167));
    let theirs = other.directory.path().join("state").display().to_string();
    let server = Steerd::start_in(directory(), &backends.config(167));
    wait_for_file(&server, "it writes", |memory| verdicts(memory).len() == 2);
    let config = backends.config(167).replacen("\"state\"", &format!("\"{theirs}\""), 1);
    server.configure(&config, "");
    let (status, problem) = server.request("POST", "/api/v1/reload", "");
    let detail = problem["detail"].as_str().unwrap();
    assert_eq!(status, 409, "{detail}");
    assert!(
        detail.contains("nothing has changed") && detail.contains(&format!("process {}", other.process.id())),
        "{detail}"
    );
    assert_eq!(server.request("PUT", "/api/v1/pools/web/backends/two/override", r#"{"state":"up"}"#).0, 200);
    wait_for_file(&server, "it goes on where it was", |memory| {
        memory["overrides"].as_array().unwrap().len() == 1
    });
    assert_eq!(remembered(Path::new(&theirs)).unwrap()["overrides"].as_array().unwrap().len(), 0);
    let _theirs = other.end("KILL");
    assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200, "it is free now");
    wait_for("everything is written there", || {
        (remembered(Path::new(&theirs))?["overrides"].as_array().unwrap().len() == 1).then_some(())
    });
}

/// If the process is killed while it writes a lot, the remembered state is always complete.
#[test]
fn a_kill_at_any_moment_leaves_a_good_file() {
    let backends = Backends::start(159);
    let mut directory = directory();
    for round in 0..8_u32 {
        let server = Steerd::start_in(directory, &backends.config(159));
        assert_eq!(
            server.process.said("the file of health and overrides cannot be used"),
            Vec::<String>::new(),
            "round {round}"
        );
        let began = Instant::now();
        // From before the first write until after the second one.
        while began.elapsed() < Duration::from_millis(150) * round + Duration::from_millis(20) {
            let body = format!("{{\"state\":\"up\",\"reason\":\"{:?}\"}}", began.elapsed());
            assert_eq!(server.request("PUT", "/api/v1/pools/web/backends/one/override", &body).0, 200);
        }
        directory = server.end("KILL");
    }
    assert!(names(directory.path()).iter().all(|name| !name.contains("damaged")));
}

#[test]
fn without_a_directory_the_start_says_so_and_a_missing_one_is_refused() {
    let server = crate::harness::Server::start(
        "[pools.web]\nbackends = [\"192.0.2.11\"]\n[services.\"www.lb.example.test\"]\npools = [\"web\"]\n",
    );
    assert_eq!(server.process.said("will not survive a restart: no state_dir").len(), 1);
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    let path = directory.path().join("steerd.toml");
    std::fs::write(&path, Backends::start(161).config(161).replacen("state_dir", "[server]\nstate_dir", 1))
        .unwrap();
    for command in ["check", "serve"] {
        let output = Command::new(STEERD).args([command, "-c"]).arg(&path).output().unwrap();
        let shown = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{shown}");
        assert!(shown.contains("`state_dir`") && shown.contains("create the directory"), "{shown}");
    }
}

/// Run by a user without write permission; root could write anyway.
#[test]
fn a_directory_without_the_right_to_write_is_a_warning() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    let directory = directory();
    let path = directory.path().join("steerd.toml");
    let config = Backends::start(163).config(163).replacen("state_dir", "[server]\nstate_dir", 1);
    std::fs::write(&path, config).unwrap();
    // A program that another user may run, wherever the build directory is.
    let program = directory.path().join("steerd");
    std::fs::copy(STEERD, &program).unwrap();
    for (path, mode) in [(directory.path().to_owned(), 0o755), (directory.path().join("state"), 0o555)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut check = Command::new(&program);
    check.args(["check", "-c"]).arg(&path);
    if std::fs::metadata(&path).unwrap().uid() == 0 {
        check.uid(NOBODY).gid(NOBODY);
    }
    let mut process = Process::start(&mut check);
    let code = process.ended();
    wait_for("the warning is read", || process.said("cannot be written to: Permission denied").pop());
    assert_eq!(code, Some(0));
}
