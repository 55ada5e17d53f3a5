//! Runs every command of the runbook, on the ports that it names, beside a server with the names that it uses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Process, STEERD, wait_for};
use crate::{namespace, read};

const CONFIG: &str = "\
[server]
listen = [\"127.0.0.1:53\"]
[admin]
listen = \"127.0.0.1:8053\"
[zones.\"lb.example.com\"]
file = \"zone\"
[pools.web]
backends = [{ name = \"gw1\", address = \"127.0.0.11\" }, { name = \"gw2\", address = \"127.0.0.12\" }]
check = { type = \"tcp\", port = 8053, interval = \"500ms\", timeout = \"400ms\" }
[services.\"www.lb.example.com\"]
pools = [\"web\"]
";
const ZONE: &str = "$TTL 300\n@ SOA ns1 hostmaster 1 3600 900 604800 2\n@ NS ns1\n@ NS ns2\nns1 A 127.0.0.1\nns2 A 127.0.0.2\n";

/// Programs that speak to the service manager or the kernel of the machine, which the test must not do.
const STAND_INS: [&str; 3] = ["systemctl", "journalctl", "sysctl"];

/// The commands of all blocks marked `sh`.
fn commands(document: &str) -> Vec<String> {
    let blocks = document.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

/// A directory of programs: steerd, and stand-ins.
fn programs(directory: &Path) {
    std::os::unix::fs::symlink(STEERD, directory.join("steerd")).unwrap();
    for name in STAND_INS {
        let path = directory.join(name);
        fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn every_command_of_the_runbook_works() {
    namespace::run("runbook::every_command_of_the_runbook_works", || {
        let directory = TempDir::new().unwrap();
        programs(directory.path());
        // The backends: the port of the checks on two addresses of loopback.
        let _backends =
            ["127.0.0.11:8053", "127.0.0.12:8053"].map(|at| std::net::TcpListener::bind(at).unwrap());
        let config = directory.path().join("steerd.toml");
        fs::write(&config, CONFIG).unwrap();
        fs::write(directory.path().join("zone"), ZONE).unwrap();
        let server = Process::start(Command::new(STEERD).arg("serve").arg("-c").arg(&config));
        wait_for("DNS is answered", || server.said("DNS is answered").pop());
        let path =
            format!("{}:{}:/usr/sbin:/sbin", directory.path().display(), std::env::var("PATH").unwrap());
        let commands = commands(&read("docs/RUNBOOK.md"));
        assert!(commands.len() > 60, "{} commands", commands.len());
        for command in commands {
            let output = Command::new("sh")
                .args(["-c", &command])
                .env("PATH", &path)
                .env("STEERD_CONFIG", &config)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command}: {said}");
            if command.starts_with("dig") {
                assert!(said.contains("status: NOERROR") && !said.contains("ANSWER: 0"), "{command}: {said}");
            }
        }
    });
}
