//! Runs every command of the runbook, on the ports that it names, beside a server with the names that it uses.

use crate::beside::Beside;
use crate::{namespace, read};

/// The commands of all blocks marked `sh`.
pub(crate) fn commands(document: &str) -> Vec<String> {
    let blocks = document.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

#[test]
fn every_command_of_the_runbook_works() {
    namespace::run("runbook::every_command_of_the_runbook_works", || {
        let beside = Beside::start();
        let commands = commands(&read("docs/RUNBOOK.md"));
        assert!(commands.len() > 60, "{} commands", commands.len());
        for command in commands {
            let output = beside.sh(&command).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command}: {said}");
            if command.starts_with("dig") {
                assert!(said.contains("status: NOERROR") && !said.contains("ANSWER: 0"), "{command}: {said}");
            }
        }
    });
}
