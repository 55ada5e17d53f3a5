//! The recipes of `docs/OPERATIONS.md` that announce an instance while it answers, as they are written there.

use std::process::Command;

use crate::beside::Beside;
use crate::support::{Process, full_dig, traffic::Sent, wait_for};
use crate::{namespace, read};

/// The part of the document about `steerd healthcheck`.
fn section() -> String {
    let document = read("docs/OPERATIONS.md");
    let (_, after) = document.split_once("### Anycast, and health checks of containers\n").unwrap();
    after.split_once("\n### ").unwrap().0.to_owned()
}

#[test]
fn the_command_of_the_document_passes() {
    namespace::run("anycast::the_command_of_the_document_passes", || {
        let beside = Beside::start();
        let section = section();
        let (_, block) = section.split_once("```sh\n").unwrap();
        let output = beside.sh(block.split_once("```").unwrap().0).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "ready; www.lb.example.com has 2 addresses\n");
    });
}

/// Starts a command line, and collects its standard output as the lines that it says.
fn started(beside: &Beside, line: &str) -> Process {
    Process::start(&mut beside.sh(&format!("exec 1>&2; {line}")))
}

#[test]
fn exabgp_announces_the_address_and_withdraws_it() {
    namespace::run("anycast::exabgp_announces_the_address_and_withdraws_it", || {
        let beside = Beside::start();
        let section = section();
        let line = section.lines().find_map(|line| line.trim().strip_prefix("run ")).unwrap();
        // Nobody acknowledges the announcements here. Its parent is a shell, because it ends when its parent is process 1,
        // as the test is in this namespace.
        let line = format!("{} --no-ack --no-syslog; exit", line.trim_end_matches(';'));
        let exabgp = started(&beside, &line);
        wait_for("the route is announced", || exabgp.said("announce route 192.0.2.53/32").pop());
        beside.server.signal("KILL");
        wait_for("the route is withdrawn", || exabgp.said("withdraw route 192.0.2.53/32").pop());
    });
}

#[test]
fn the_script_for_bird_adds_the_address_and_removes_it() {
    namespace::run("anycast::the_script_for_bird_adds_the_address_and_removes_it", || {
        let beside = Beside::start();
        let section = section();
        let (_, script) = section.split_once("```text\n#!/bin/sh\n").unwrap();
        let script = script.split_once("```").unwrap().0;
        let running = started(&beside, script);
        let is_there = || {
            let shown = Command::new("ip").args(["address", "show", "dev", "lo"]).output().unwrap().stdout;
            String::from_utf8(shown).unwrap().contains("192.0.2.53/32")
        };
        wait_for("the address is added", || is_there().then_some(()));
        let reply = full_dig("192.0.2.53:53".parse().unwrap(), &Sent::default(), &["www.lb.example.com"]);
        assert!(reply.contains("ANSWER: 2"), "{reply}");
        // One check fails, because the server pauses, and the address stays.
        let failures = || running.said("error:").len();
        beside.server.signal("STOP");
        wait_for("a check fails", || (failures() == 1).then_some(()));
        beside.server.signal("CONT");
        let passed = running.said("ready;").len();
        wait_for("a check passes", || (running.said("ready;").len() > passed).then_some(()));
        assert_eq!((failures(), is_there()), (1, true));
        running.signal("TERM");
        wait_for("the ended script removes the address", || (!is_there()).then_some(()));
        let _running = started(&beside, script);
        wait_for("the next script adds it", || is_there().then_some(()));
        beside.server.signal("KILL");
        wait_for("the address is removed", || (!is_there()).then_some(()));
    });
}
