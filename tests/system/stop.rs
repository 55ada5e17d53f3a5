//! Stops while the server starts.

use std::net::TcpListener;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Process, STEERD, ZONE, wait_for};

/// Log lines of the start, in order. The stop follows one of them.
const MOMENTS: [&str; 4] =
    ["steerd starts", "the limit of open descriptors", "no state_dir is set", "the admin server listens"];

/// How often the stop is tried after each line. Polling sees a line up to 20 ms late, so the rounds
/// differ.
const ROUNDS: usize = 5;

#[test]
fn a_stop_at_any_moment_of_the_start_is_orderly() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    // It accepts connections and never answers, so the start does not end by itself.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let check = format!("check = \"http://:{}/\"", silent.local_addr().unwrap().port());
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nstartup_wait = \"5m\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [zones.\"lb.example.test\"]\nfile = \"zone\"\n\
         [defaults.check]\ntimeout = \"59s\"\ninterval = \"60s\"\n\
         [pools.first]\nbackends = [\"127.0.0.1\"]\n{check}\n[pools.second]\nbackends = [\"127.0.0.1\"]\n{check}\n\
         [services.\"www.lb.example.test\"]\npools = [\"first\", \"second\"]\n"
    );
    let path = directory.path().join("steerd.toml");
    std::fs::write(&path, config).unwrap();
    for moment in MOMENTS.into_iter().cycle().take(MOMENTS.len() * ROUNDS) {
        let mut process = Process::start(Command::new(STEERD).arg("serve").arg("-c").arg(&path));
        wait_for(moment, || process.said(moment).pop());
        process.signal("TERM");
        assert_eq!(process.ended(), Some(0), "{moment}");
        wait_for("the line of the stop", || process.said(" stopped").pop());
        let said = process.said("");
        for word in ["panic", "WARN", "ERROR", "DNS is answered"] {
            assert!(process.said(word).is_empty(), "{moment}: {said:#?}");
        }
        let first = said.first().unwrap();
        for text in [
            concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""),
            &format!("file={}", path.display()),
            "zones=1 services=1 pools=2 backends=2",
        ] {
            assert!(first.contains(text), "{first}");
        }
    }
}
