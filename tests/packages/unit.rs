//! The unit for systemd: it is valid, as confined as the documents say, and allows every system call that steerd makes.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use tempfile::TempDir;

use crate::support::traffic::Sent;
use crate::support::{Process, STEERD, address_in, dig, http_get, program, wait_for, write_config};
use crate::{output, source};

pub(crate) const ZONE: &str =
    "$TTL 300\n@ SOA ns1 hostmaster 1 3600 900 604800 2\n@ NS ns1\nns1 A 127.0.0.1\n";

fn unit() -> String {
    std::fs::read_to_string(source("packaging/steerd.service")).unwrap()
}

/// systemd 252 does not know its type, so it cannot verify it: it must have nothing else that a newer one could refuse.
#[test]
fn the_drop_in_changes_only_how_reloads_are_told() {
    let drop_in = std::fs::read_to_string(source("packaging/notify-reload.conf")).unwrap();
    let lines: Vec<&str> = drop_in.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, ["[Service]", "Type=notify-reload", "ExecReload="]);
    let unit = unit();
    for key in ["Type=notify", "NotifyAccess=main", "WatchdogSec=1min", "ExecReload=/usr/bin/steerd reload"] {
        assert!(unit.lines().any(|line| line == key), "{key}");
    }
}

#[test]
fn it_is_as_confined_as_the_documents_say() {
    let rated = output(
        Command::new(program("systemd-analyze"))
            .args(["security", "--no-pager", "--offline=true"])
            .arg(source("packaging/steerd.service")),
    );
    let (_, exposure) = rated.split_once("exposure level for steerd.service: ").expect(&rated);
    let exposure: f64 = exposure.split(' ').next().unwrap().parse().unwrap();
    let documents = std::fs::read_to_string(source("docs/OPERATIONS.md")).unwrap();
    let (_, said) = documents.split_once("rates its exposure at ").unwrap();
    let said: f64 = said.split([' ', ',']).next().unwrap().parse().unwrap();
    assert!(exposure <= said && said < 2.0, "{exposure}, and the documents say {said}\n{rated}");
}

/// The system calls that `SystemCallFilter=` of the unit allows: lines add to the list, or with `~` take away from it.
fn allowed() -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for line in unit().lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (removes, names) = line.strip_prefix('~').map_or((false, line), |names| (true, names));
        for call in names.split(' ').flat_map(calls_of) {
            if removes {
                allowed.remove(&call)
            } else {
                allowed.insert(call)
            };
        }
    }
    allowed
}

/// The system calls of a group of systemd, with those of the groups in it.
fn calls_of(name: &str) -> BTreeSet<String> {
    if !name.starts_with('@') {
        return BTreeSet::from([name.into()]);
    }
    let listed =
        output(Command::new(program("systemd-analyze")).args(["syscall-filter", "--no-pager", name]));
    let members =
        listed.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    members.flat_map(calls_of).collect()
}

/// steerd runs under strace, with everything on that makes system calls of its own: pinned workers, a program as a
/// check, a search in a body, state, a reload, an upgrade, TCP, the admin server, a Unix socket with rights of its own.
#[test]
fn it_allows_every_system_call_that_steerd_makes() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("zone"), ZONE).unwrap();
    std::fs::create_dir(at("state")).unwrap();
    let backend = std::net::TcpListener::bind("127.0.0.43:0").unwrap();
    let config = format!(
        "steering = \"cpu\"\nstate_dir = \"state\"\n[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
         [pools.web]\nchecks = [\"exec:/bin/true\", {{ type = \"http\", port = {}, body = {{ matches = \"a+b\" }} }}]\n\
         backends = [\"127.0.0.43\"]\n[services.\"www.lb.example.test\"]\npools = [\"web\"]\nanswers = 1\n",
        backend.local_addr().unwrap().port()
    );
    // Only root can give a file any group.
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let group = if is_root { ", group = \"daemon\"" } else { "" };
    write_config(&at("steerd.toml"), &config, &format!("socket = {{ mode = \"0666\"{group} }}"));
    let text = std::fs::read_to_string(at("steerd.toml")).unwrap();
    let (before, after) = text.rsplit_once("listen = \"127.0.0.1:0\"").unwrap();
    let both = "listen = [\"unix:admin.sock\", \"127.0.0.1:0\"]";
    std::fs::write(at("steerd.toml"), [before, both, after].concat()).unwrap();
    std::thread::spawn(move || {
        for stream in backend.incoming().map_while(Result::ok) {
            use std::io::Write;
            let _ = write!(&stream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\naab\n");
        }
    });
    let mut traced = Process::start(
        Command::new(program("strace"))
            .args([
                "--daemonize",
                "--follow-forks",
                "--quiet=all",
                "--summary-only",
                "--summary-columns=name",
                "--output",
            ])
            .arg(at("calls"))
            .args([STEERD, "serve", "--log-format", "json", "-c"])
            .arg(at("steerd.toml")),
    );
    let dns = wait_for("DNS is answered", || {
        assert!(traced.is_running(), "{:?}", traced.said(""));
        address_in(&traced, "DNS is answered")
    });
    let admin = address_in(&traced, "admin server listens").unwrap();
    wait_for("the checks pass", || {
        let answer = http_get(admin, "/api/v1/status").1;
        answer.contains("\"healthy\"").then_some(())
    });
    for arguments in [&["www.lb.example.test"][..], &["www.lb.example.test", "+tcp"]] {
        assert_eq!(dig(dns, &Sent::default(), arguments), ["127.0.0.43"]);
    }
    output(
        Command::new(STEERD)
            .args(["reload", "-c"])
            .arg(at("steerd.toml"))
            .args(["--admin", &format!("http://{admin}")]),
    );
    output(Command::new(STEERD).args([
        "drain",
        "web/127.0.0.43",
        "--force",
        "--admin",
        &format!("http://{admin}"),
    ]));
    let upgraded =
        output(Command::new(STEERD).args(["upgrade", "--json", "--admin", &format!("http://{admin}")]));
    let upgraded: serde_json::Value = serde_json::from_str(&upgraded).unwrap();
    assert_eq!(traced.ended(), Some(0));
    assert_eq!(dig(dns, &Sent::default(), &["www.lb.example.test"]), ["127.0.0.43"]);
    let kill = format!("kill -TERM {}", upgraded["pid"]);
    output(Command::new("sh").args(["-c", &kill]));
    // strace is a process of its own, which writes its list at the end.
    let calls = wait_for("the list of system calls", || {
        let calls = std::fs::read_to_string(at("calls")).ok()?;
        (calls.lines().filter(|line| line.starts_with('-')).count() == 2).then_some(calls)
    });
    let made = calls
        .lines()
        .skip_while(|line| !line.starts_with('-'))
        .skip(1)
        .take_while(|line| !line.starts_with('-'));
    let made: BTreeSet<&str> = made.map(str::trim).collect();
    for expected in ["recvmmsg", "execve", "sched_setaffinity", "setpriority", "fdatasync"] {
        assert!(made.contains(expected), "{expected} was not called, so the test is too short: {made:?}");
    }
    assert!(!is_root || made.iter().any(|call| call.contains("chown")), "the group was not set: {made:?}");
    let allowed = allowed();
    let refused: Vec<_> = made.iter().filter(|call| !allowed.contains(**call)).collect();
    assert!(refused.is_empty(), "the unit refuses {refused:?}");
}
