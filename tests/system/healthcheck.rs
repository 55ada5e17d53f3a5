//! `steerd healthcheck`: the exit code and the sentence for each state of an instance.

use std::process::{Command, Output};
use std::time::Instant;

use tempfile::TempDir;

use crate::harness::{PATIENCE, Process, STEERD, ZONE, free_port, http_get, wait_for};

/// A server that the command finds through the configuration, and its configuration.
struct Instance {
    process: Process,
    directory: TempDir,
    dns: u16,
}

const POOLS: &str = "[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
                     [pools.web]\nbackends = [\"192.0.2.1\", \"192.0.2.2\"]\n\
                     [pools.dead]\nbackends = [\"127.0.0.1\"]\ncheck = \"tcp://:9\"\n\
                     [services.\"www.lb.example.test\"]\npools = [\"web\"]\n\
                     [services.\"down.lb.example.test\"]\npools = [\"dead\"]\nwhen_down = \"nodata\"\n\
                     [services.\"failing.lb.example.test\"]\npools = [\"dead\"]\nwhen_down = \"servfail\"\n";

impl Instance {
    fn start(server: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let (dns, admin) = (free_port("127.0.0.1"), free_port("127.0.0.1"));
        let config = format!(
            "[server]\nlisten = [\"127.0.0.1:{dns}\"]\n{server}[admin]\nlisten = \"127.0.0.1:{admin}\"\n{POOLS}"
        );
        let path = directory.path().join("steerd.toml");
        std::fs::write(&path, config).unwrap();
        std::fs::write(directory.path().join("zone"), ZONE).unwrap();
        let process = Process::start(Command::new(STEERD).arg("serve").arg("-c").arg(&path));
        let ready = |address: String| http_get(address.parse().unwrap(), "/readyz").0 == 200;
        wait_for("the admin server listens", || process.said("the admin server listens").pop());
        wait_for("DNS is answered", || ready(format!("127.0.0.1:{admin}")).then_some(()));
        Self { process, directory, dns }
    }

    fn check(&self, arguments: &[&str]) -> Output {
        let config = self.directory.path().join("steerd.toml");
        Command::new(STEERD).args(["healthcheck", "-c"]).arg(config).args(arguments).output().unwrap()
    }

    /// The sentence on standard error of a check that fails.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.check(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn an_instance_is_announced_while_it_answers() {
    let mut instance = Instance::start("");
    let passes = |arguments: &[&str]| {
        let output = instance.check(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(passes(&[]), "ready\n");
    assert_eq!(passes(&["--name", "www.lb.example.test"]), "ready; www.lb.example.test has 2 addresses\n");
    let dns = format!("127.0.0.1:{}", instance.dns);
    assert_eq!(
        passes(&["--name", "static.lb.example.test", "--dns", &dns]),
        "ready; static.lb.example.test has 1 address\n"
    );

    for (name, expected) in [
        ("www.lb.example.test --type AAAA", "without an address"),
        ("down.lb.example.test", "without an address"),
        ("failing.lb.example.test", "with SERVFAIL"),
        ("elsewhere.test", "with REFUSED"),
        ("none.lb.example.test", "with NXDOMAIN"),
    ] {
        let mut arguments = vec!["--name"];
        arguments.extend(name.split(' '));
        let said = instance.refused(&arguments);
        assert!(said.starts_with("error: 127.0.0.1:") && said.contains(expected), "{name}: {said}");
    }

    // Nothing listens at that port: the system tells so at once.
    let nowhere = format!("127.0.0.1:{}", free_port("127.0.0.1"));
    let said = instance.refused(&["--name", "www.lb.example.test", "--dns", &nowhere]);
    assert!(said.contains("does not answer a query for www.lb.example.test"), "{said}");
    // A socket that never answers: the time limit counts.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (silent_at, began) = (silent.local_addr().unwrap().to_string(), Instant::now());
    let said =
        instance.refused(&["--name", "www.lb.example.test", "--dns", &silent_at, "--timeout", "300ms"]);
    assert!(said.contains("not finished within 300ms") && began.elapsed() < PATIENCE, "{said}");

    instance.process.signal("TERM");
    instance.process.ended();
    let said = instance.refused(&[]);
    assert!(said.contains("no steerd answers at http://127.0.0.1:"), "{said}");
}

/// With `cookies = "required"`, UDP gives a client without a cookie only a truncated reply.
#[test]
fn a_truncated_reply_is_asked_for_again_over_tcp() {
    let instance = Instance::start("cookies = \"required\"\n");
    let output = instance.check(&["--name", "www.lb.example.test"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("2 addresses"));
}

#[test]
fn an_instance_that_does_not_answer_dns_yet_is_not_announced() {
    let directory = TempDir::new().unwrap();
    let (dns, admin) = (free_port("127.0.0.1"), free_port("127.0.0.1"));
    // The backend is silent, so its first outcome comes late.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:{dns}\"]\nstartup_wait = \"60s\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
         [zones.\"lb.example.test\"]\nfile = \"zone\"\n\
         [pools.web]\nbackends = [\"127.0.0.1\"]\n\
         check = {{ type = \"http\", port = {port}, interval = \"50s\", timeout = \"40s\" }}\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\n"
    );
    let path = directory.path().join("steerd.toml");
    std::fs::write(&path, config).unwrap();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    let process = Process::start(Command::new(STEERD).arg("serve").arg("-c").arg(&path));
    wait_for("the admin server listens", || process.said("the admin server listens").pop());
    let output = Command::new(STEERD).args(["healthcheck", "-c"]).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("DNS is not answered now"), "{said}");
}
