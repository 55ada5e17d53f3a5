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
query_log = { file = \"queries.jsonl\", sample = \"0%\" }
[admin]
listen = \"127.0.0.1:8053\"
[zones.\"lb.example.com\"]
file = \"zone\"
[pools.web]
backends = [
  { name = \"gw1\", address = \"127.0.0.11\", site = \"a\" },
  { name = \"gw2\", address = \"127.0.0.12\", site = \"b\" },
]
check = { type = \"tcp\", port = 7070, interval = \"500ms\", timeout = \"400ms\" }
[services.\"www.lb.example.com\"]
pools = [\"web\"]
";
const ZONE: &str = "$TTL 300\n@ SOA ns1 hostmaster 1 3600 900 604800 2\n@ NS ns1\n@ NS ns2\nns1 A 127.0.0.1\nns2 A 127.0.0.2\n";

const MORE: &str = "\
[zones.\"example.com\"]
file = \"example.com.zone\"
[[alerts]]
name = \"program\"
exec = [\"/bin/true\"]
";
const PARENT: &str = "$TTL 300\n@ SOA lb1 hostmaster 1 3600 900 604800 2\n@ NS lb1\n@ NS lb2\nlb1 A 127.0.0.1\nlb2 A 127.0.0.1\n";

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
        Self::start_with(CONFIG, &[])
    }

    /// Like [`Beside::start`], with a token for changes, an alert, and a zone with names for the server itself.
    pub(crate) fn start_with_more() -> Self {
        // On loopback alone, the admin server would accept no name of a machine.
        let admin = "listen = \"0.0.0.0:8053\"\npublic_reads = true\ntoken_file = \"admin.token\"\n";
        let config = CONFIG.replace("listen = \"127.0.0.1:8053\"\n", admin) + MORE;
        let token = ("admin.token", "0123456789abcdef");
        Self::start_with(&config, &[token, ("example.com.zone", PARENT)])
    }

    fn start_with(config_text: &str, files: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        programs(directory.path());
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        // The backends: the port of the checks on two addresses of loopback.
        let backends = ["127.0.0.11:7070", "127.0.0.12:7070"].map(Accepting::start);
        let config = directory.path().join("steerd.toml");
        fs::write(&config, config_text).unwrap();
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
        command.current_dir(own);
        command
    }
}
