//! Runs the first steps in the README unchanged.

use std::process::Command;

use tempfile::TempDir;

use crate::namespace;
use crate::support::{Process, STEERD, program, wait_for};

/// The first block in the README that is marked `language`.
fn first(language: &str) -> String {
    let readme = include_str!("../../README.md");
    let (_, block) = readme.split_once(&format!("```{language}\n")).unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

/// The line in the README that contains `text`, without its comment.
fn line(text: &str) -> &'static str {
    let readme = include_str!("../../README.md");
    readme.lines().find(|line| line.contains(text)).unwrap().split("   #").next().unwrap()
}

#[test]
fn the_first_configuration_serves_without_root() {
    namespace::run("first_page::the_first_configuration_serves_without_root", || {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("quickstart.toml");
        std::fs::write(&path, first("toml")).unwrap();
        std::fs::write(directory.path().join("quickstart.test.zone"), first("zone")).unwrap();
        let sh = |line: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", line]).current_dir(directory.path());
            command
        };
        let _backends = Process::start(&mut sh(&format!("{}\nwait", line("http.server"))));
        // A user without any privilege: root without its capabilities, which can still read the target
        // directory.
        let server = Process::start(
            Command::new(program("setpriv"))
                .args(["--inh-caps=-all", "--bounding-set=-all", STEERD, "serve", "-c"])
                .arg(&path),
        );
        wait_for("DNS is answered", || server.said("DNS is answered").pop());
        for backend in ["one", "two", "three"] {
            wait_for(backend, || {
                let lines = server.said("backend is healthy");
                lines.into_iter().find(|line| line.contains(&format!("\"{backend}\"")))
            });
        }
        let output = sh(line("dig @127.0.0.1 -p 5300 www.quickstart.test")).output().unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(["127.0.0.11\n", "127.0.0.12\n", "127.0.0.13\n"].contains(&answer.as_str()), "{answer}");
    });
}
