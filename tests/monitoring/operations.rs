//! Runs every command of `docs/OPERATIONS.md` beside a server with the names that it uses.

use crate::beside::Beside;
use crate::runbook::commands;
use crate::{namespace, read};

/// Commands that go on until they are interrupted contain one of these.
const ENDLESS: [&str; 2] = ["--follow", "curl -sN"];
/// The exit code of `timeout` if it had to interrupt a command.
const INTERRUPTED: i32 = 124;
/// The path of the configuration in the document; the test has its own.
const CONFIG: &str = "-c /etc/steerd/steerd.toml";

#[test]
fn every_command_of_operations_works() {
    namespace::run("operations::every_command_of_operations_works", || {
        let beside = Beside::start_with_more();
        let commands = commands(&read("docs/OPERATIONS.md"));
        assert!(commands.len() > 10, "{} commands", commands.len());
        for command in commands {
            let line = command.replace(CONFIG, "-c steerd.toml").replace('\'', "'\\''");
            let output = beside.sh(&format!("timeout 3 sh -c '{line}'")).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            let is_endless = ENDLESS.iter().any(|part| command.contains(part));
            let expected = if is_endless { INTERRUPTED } else { 0 };
            assert_eq!(output.status.code(), Some(expected), "{command}: {said}");
        }
    });
}
