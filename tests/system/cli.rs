//! The command line: exit codes, messages, and the demo.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use hickory_proto::rr::RecordType;
use tempfile::TempDir;

use crate::client::query;
use crate::harness::{Process, STEERD, ZONE, dig, free_port, http, http_get, wait_for};
use crate::support::address_in;
use crate::support::traffic::Ledger;

fn steerd(arguments: &[&str]) -> Output {
    Command::new(STEERD).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn version_help_and_usage() {
    let version = steerd(&["--version"]);
    assert!(version.status.success());
    assert_eq!(text(&version.stdout), format!("steerd {}\n", env!("CARGO_PKG_VERSION")));
    let help = steerd(&["--help"]);
    for command in ["serve", "check", "probe", "demo"] {
        assert!(text(&help.stdout).contains(command), "{command}");
    }
    assert_eq!(steerd(&["sevre"]).status.code(), Some(2));
}

/// Ten faults of ten kinds; the line of each.
const FAULTY: &str = r#"[server]
lisen = ["127.0.0.1:PORT"]
listen = ["127.0.0.1:PORT"]
udp_payload = 100
workers = "two"
[zones."lb.example.test"]
file = "zone"
[pools.web]
check = { type = "http", interval = "1s", timeout = "2s" }
backends = ["192.0.2.11", "192.0.2.11", "192.0.2.300"]
min_healthy = "140%"
[services."www.lb.example.test"]
pools = ["wbe"]
ttl = "20"
[services."www.elsewhere.test"]
pools = ["web"]
policy = "fair"
"#;

#[test]
fn ten_faults_give_ten_messages_with_their_places_and_nothing_is_bound() {
    let directory = TempDir::new().unwrap();
    let port = free_port("127.0.0.1").to_string();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    let path = directory.path().join("steerd.toml");
    std::fs::write(&path, FAULTY.replace("PORT", &port)).unwrap();
    for command in ["check", "serve"] {
        let output = steerd(&[command, "-c", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let errors = text(&output.stderr);
        for line in [2, 4, 5, 9, 10, 11, 13, 14, 15, 17] {
            assert!(errors.contains(&format!("steerd.toml:{line}:")), "{command}, line {line}:\n{errors}");
        }
        assert_eq!(errors.matches("steerd.toml:10:").count(), 2, "{errors}");
        assert!(errors.contains("listen") && errors.contains("`web`"), "suggestions:\n{errors}");
    }
    let address = format!("127.0.0.1:{port}");
    UdpSocket::bind(&address).unwrap();
    TcpListener::bind(&address).unwrap();
}

#[test]
fn serve_is_ready_when_it_answers_and_heeds_signals() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    // It takes connections and never answers, so the first outcome comes after `startup_wait`.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nstartup_wait = \"2s\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [zones.\"lb.example.test\"]\nfile = \"zone\"\n[pools.web]\nbackends = [\"127.0.0.1\"]\n\
         check = {{ type = \"http\", port = {}, interval = \"20s\", timeout = \"19s\" }}\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\n",
        silent.local_addr().unwrap().port()
    );
    let path = directory.path().join("steerd.toml");
    std::fs::write(&path, config).unwrap();
    let mut process =
        Process::start(Command::new(STEERD).arg("serve").arg("-c").arg(&path).args(["--log-format", "json"]));
    let admin = wait_for("the admin server listens", || address_in(&process, "admin server listens"));
    assert_eq!(http_get(admin, "/readyz").0, 503);
    assert_eq!(http_get(admin, "/healthz").0, 200);
    assert!(process.said("DNS is answered").is_empty());

    let dns = wait_for("DNS is answered", || address_in(&process, "DNS is answered"));
    assert_eq!(process.said("startup_wait is over").len(), 1);
    wait_for("it is ready", || (http_get(admin, "/readyz").0 == 200).then_some(()));
    let ledger = Ledger::of(admin);
    assert_eq!(
        dig(dns, &ledger.sent, &["www.lb.example.test", "A"]),
        ["127.0.0.1"],
        "what is not known yet is answered"
    );

    process.signal("HUP");
    wait_for("a word about SIGHUP", || process.said("nothing has changed").pop());
    assert_eq!(dig(dns, &ledger.sent, &["www.lb.example.test", "A"]), ["127.0.0.1"]);
    drop(ledger);
    process.signal("TERM");
    assert_eq!(process.ended(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    let port = free_port("127.0.0.1");
    // Each is refused, and its line is longer than 100 bytes: together they fill the pipe, which
    // holds 64 KiB.
    let refuses = free_port("0.0.0.0");
    let backends: Vec<String> = (0..1000).map(|n| format!("\"127.3.{}.{}\"", n / 250, n % 250 + 1)).collect();
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:{port}\"]\nstartup_wait = \"1m\"\n\
         [zones.\"lb.example.test\"]\nfile = \"zone\"\n\
         [pools.web]\ncheck = \"tcp://:{refuses}\"\nbackends = [{}]\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\nanswers = 2\n",
        backends.join(", ")
    );
    let path = directory.path().join("steerd.toml");
    std::fs::write(&path, config).unwrap();
    let mut unread = Command::new(STEERD)
        .args(["serve", "-c"])
        .arg(&path)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let query = query(1, "www.lb.example.test.", RecordType::A);
    wait_for("every backend has an outcome", || {
        client.send_to(&query, ("127.0.0.1", port)).ok()?;
        client.recv(&mut [0; 512]).ok()
    });
    let stop = format!("kill -TERM {}", unread.id());
    assert!(Command::new("sh").args(["-c", &stop]).status().unwrap().success());
    let status = wait_for("it stops", || unread.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn probe_says_who_is_healthy() {
    let directory = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.51:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    let path = directory.path().join("steerd.toml");
    let config = format!(
        "[zones.\"lb.example.test\"]\nfile = \"zone\"\n[pools.web]\ncheck = \"tcp://:{port}\"\n\
         backends = [{{ name = \"good\", address = \"127.0.0.51\" }}, {{ name = \"bad\", address = \"127.0.0.52\" }}]\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\n"
    );
    std::fs::write(&path, config).unwrap();
    let path = path.to_str().unwrap();
    let all = steerd(&["probe", "-c", path]);
    assert_eq!(all.status.code(), Some(1));
    assert!(text(&all.stdout).contains("connection refused"), "{}", text(&all.stdout));
    assert_eq!(steerd(&["probe", "-c", path, "web/good"]).status.code(), Some(0));
    assert_eq!(steerd(&["probe", "-c", path, "web/bad"]).status.code(), Some(1));
    let json = steerd(&["probe", "-c", path, "--json"]);
    serde_json::from_slice::<serde_json::Value>(&json.stdout).unwrap();
}

/// The demo as a newcomer runs it: what it prints works, and breaking a backend takes it out.
#[test]
fn the_demo_runs_the_main_job_and_stops_cleanly() {
    let (port, admin, http_port) = (free_port("127.0.0.1"), free_port("127.0.0.1"), free_port("127.0.0.11"));
    let printed = TempDir::new().unwrap();
    let printed = printed.path().join("printed");
    let mut demo = Process::start(
        Command::new(STEERD)
            .args(["demo", "--port", &port.to_string(), "--admin-port", &admin.to_string()])
            .args(["--backend-port", &http_port.to_string()])
            .stdout(std::fs::File::create(&printed).unwrap()),
    );
    let shown = || std::fs::read_to_string(&printed).unwrap();
    wait_for("the demo prints a dig line", || shown().contains("dig @127.0.0.1").then_some(()));
    let line = shown().lines().find_map(|line| line.trim().strip_prefix("dig ").map(str::to_owned)).unwrap();
    let name =
        line.split(' ').find(|word| word.contains('.') && !word.contains("127.0.0.1")).unwrap().to_owned();
    let server = format!("127.0.0.1:{port}").parse().unwrap();
    let ledger = Ledger::of(SocketAddr::from(([127, 0, 0, 1], admin)));
    let dig = || dig(server, &ledger.sent, &[&name, "A"]);
    wait_for("the demo answers", || (!dig().is_empty()).then_some(()));
    let backend = format!("127.0.0.12:{http_port}").parse().unwrap();
    assert_eq!(http(backend, "GET", "/break").0, 405, "a link must not break anything");
    assert_eq!(http(backend, "POST", "/break").0, 303, "a browser is sent back to the page: {}", shown());
    wait_for("the broken backend is out", || {
        let answers: Vec<String> = (0..20).flat_map(|_| dig()).collect();
        (!answers.is_empty() && !answers.iter().any(|address| address == "127.0.0.12")).then_some(())
    });
    http(backend, "POST", "/fix");
    wait_for("the fixed backend is back", || {
        dig().iter().any(|address| address == "127.0.0.12").then_some(())
    });
    drop(ledger);
    demo.signal("INT");
    assert_eq!(demo.ended(), Some(0));
}
