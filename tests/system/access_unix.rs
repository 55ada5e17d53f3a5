//! The Unix socket of the admin server: who may open it, what the audit says of its clients, and its file over the
//! life of a process.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Process, STEERD, ZONE, wait_for};
use crate::support::{TOKEN, over_unix};

/// A user without rights.
const NOBODY: u32 = 65534;
const OVERRIDE: &str = "/api/v1/pools/web/backends/one/override";
const DRAIN: &str = r#"{"state":"drain"}"#;

/// A server that listens on a Unix socket, and over TCP with a token.
struct Local {
    process: Process,
    directory: TempDir,
}

fn start(socket: &str) -> Local {
    let directory = TempDir::new().unwrap();
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nstartup_wait = \"0s\"\n\
         [admin]\nlisten = [\"unix:admin.sock\", \"127.0.0.1:0\"]\ntoken_file = \"token\"\n{socket}\n\
         [zones.\"lb.example.test\"]\nfile = \"zone\"\n\
         [pools.web]\nbackends = [{{ name = \"one\", address = \"192.0.2.1\" }}, \"192.0.2.2\", \"192.0.2.3\"]\n"
    );
    for (name, text) in [("zone", ZONE), ("token", TOKEN), ("steerd.toml", &config)] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    Local { process: serve(directory.path()), directory }
}

fn serve(directory: &Path) -> Process {
    let mut process =
        Process::start(Command::new(STEERD).arg("serve").arg("-c").arg(directory.join("steerd.toml")));
    wait_for("DNS is answered", || {
        assert!(process.is_running(), "steerd ended: {:?}", process.said(""));
        process.said("DNS is answered").pop()
    });
    process
}

impl Local {
    fn socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    /// Runs a command with the configuration, or for this server alone.
    fn steerd(&self, arguments: &[&str]) -> (i32, String) {
        let output =
            Command::new(STEERD).args(arguments).current_dir(self.directory.path()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }
}

#[test]
fn the_file_is_the_lock_and_the_audit_names_the_user() {
    let server = start("");
    let socket = server.socket();
    assert_eq!(std::fs::metadata(&socket).unwrap().mode() & 0o777, 0o660);
    assert_eq!(over_unix(&socket, "GET", "/readyz", "").unwrap().0, 200);
    let (status, reply) = over_unix(&socket, "PUT", OVERRIDE, DRAIN).unwrap();
    assert_eq!(status, 200, "{reply:#}");
    let (_, audit) = over_unix(&socket, "GET", "/api/v1/audit", "").unwrap();
    let entry = &audit["entries"][0];
    let uid = std::fs::metadata("/proc/self").unwrap().uid();
    assert_eq!((&entry["action"], &entry["uid"]), (&json!("override"), &json!(uid)), "{entry:#}");
    assert!(entry.get("address").is_none() && entry.get("token").is_none(), "{entry:#}");
    assert_eq!(entry["by"], format!("uid {uid} over the Unix socket, without a token"));
    // No token that could be proved.
    assert_eq!(
        over_unix(&socket, "GET", &format!("/api/v1/proof?nonce={}", "0".repeat(64)), "").unwrap().0,
        409
    );
}

#[test]
fn commands_speak_to_it_without_a_token() {
    let server = start("");
    // The token of the configuration is not even read.
    std::fs::remove_file(server.directory.path().join("token")).unwrap();
    for arguments in [
        &["healthcheck", "--admin", "unix:admin.sock"][..],
        &["healthcheck", "-c", "steerd.toml"],
        &["status", "-c", "steerd.toml"],
        &["status", "--admin", "unix:admin.sock"],
        &["drain", "web/one", "-c", "steerd.toml"],
        &["drain", "web/192.0.2.2", "--admin", "unix:admin.sock"],
    ] {
        let (code, said) = server.steerd(arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}");
    }
    let (code, said) = server.steerd(&["status", "--admin", "unix:none.sock"]);
    assert!(code == 1 && said.contains("no steerd answers at unix:none.sock"), "{said}");
}

/// Only root can become another user; for any other user, a socket without rights has the same effect.
#[test]
fn another_user_may_not_open_it() {
    let server = start("socket = { mode = \"0600\" }");
    let socket = server.socket();
    let permissions =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    permissions(server.directory.path(), 0o755).unwrap();
    let mut status = Command::new(STEERD);
    status.args(["status", "--admin", &format!("unix:{}", socket.display())]);
    if std::fs::metadata(&socket).unwrap().uid() == 0 {
        status.uid(NOBODY).gid(NOBODY);
    } else {
        permissions(&socket, 0o000).unwrap();
    }
    let output = status.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("this user may not open unix:"), "{said}");
    permissions(&socket, 0o666).unwrap();
    assert!(status.output().unwrap().status.success(), "the rights decide");
}

#[test]
fn the_file_lives_as_long_as_its_process() {
    let Local { mut process, directory } = start("");
    let socket = directory.path().join("admin.sock");
    // A second process leaves it alone, also when it ends.
    let second = Command::new(STEERD)
        .arg("serve")
        .arg("-c")
        .arg(directory.path().join("steerd.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && said.contains("another steerd, listens there"), "{said}");
    assert_eq!(over_unix(&socket, "GET", "/readyz", "").unwrap().0, 200);
    // A crash leaves the file, and the next start replaces it.
    process.signal("KILL");
    process.ended();
    assert!(socket.exists() && UnixStream::connect(&socket).is_err());
    let mut process = serve(directory.path());
    assert_eq!(over_unix(&socket, "GET", "/readyz", "").unwrap().0, 200);
    process.signal("TERM");
    process.ended();
    assert!(!socket.exists(), "a regular stop removes it");
    // Another file is never replaced.
    std::fs::write(&socket, "text").unwrap();
    let third = Command::new(STEERD)
        .arg("serve")
        .arg("-c")
        .arg(directory.path().join("steerd.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8(third.stderr).unwrap();
    assert!(!third.status.success() && said.contains("a file that is no socket"), "{said}");
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "text");
}
