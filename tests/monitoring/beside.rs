//! A server with the names and ports that the documents use, in a network namespace, and a shell beside it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::accepting::Accepting;
use crate::support::{Process, STEERD, wait_for};

const CONFIG: &str = "\
[server]
listen = [\"0.0.0.0:53\"]
[admin]
listen = \"127.0.0.1:8053\"
[zones.\"lb.example.com\"]
file = \"zone\"
[pools.web]
backends = [{ name = \"gw1\", address = \"127.0.0.11\" }, { name = \"gw2\", address = \"127.0.0.12\" }]
check = { type = \"tcp\", port = 7070, interval = \"500ms\", timeout = \"400ms\" }
[services.\"www.lb.example.com\"]
pools = [\"web\"]
";
const ZONE: &str = "$TTL 300\n@ SOA ns1 hostmaster 1 3600 900 604800 2\n@ NS ns1\n@ NS ns2\nns1 A 127.0.0.1\nns2 A 127.0.0.2\n";

/// Programs that speak to the service manager or the kernel of the machine, which the test must not do.
const STAND_INS: [&str; 3] = ["systemctl", "journalctl", "sysctl"];

/// A directory of programs: steerd, and stand-ins.
fn programs(directory: &Path) {
    std::os::unix::fs::symlink(STEERD, directory.join("steerd")).unwrap();
    for name in STAND_INS {
        let path = directory.join(name);
        fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// The server, and the directory of its files.
pub(crate) struct Beside {
    pub(crate) server: Process,
    directory: TempDir,
    _backends: [Accepting; 2],
}

impl Beside {
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().unwrap();
        programs(directory.path());
        // The backends: the port of the checks on two addresses of loopback.
        let backends = ["127.0.0.11:7070", "127.0.0.12:7070"].map(Accepting::start);
        let config = directory.path().join("steerd.toml");
        fs::write(&config, CONFIG).unwrap();
        fs::write(directory.path().join("zone"), ZONE).unwrap();
        let server = Process::start(Command::new(STEERD).arg("serve").arg("-c").arg(&config));
        wait_for("DNS is answered", || server.said("DNS is answered").pop());
        Self { server, directory, _backends: backends }
    }

    /// A command line, with the programs and the configuration of the documents.
    pub(crate) fn sh(&self, line: &str) -> Command {
        let own = self.directory.path();
        let path = format!("{}:{}:/usr/sbin:/sbin", own.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("PATH", path).env("STEERD_CONFIG", own.join("steerd.toml"));
        command
    }
}
