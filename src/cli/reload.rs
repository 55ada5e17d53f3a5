//! `steerd reload`: makes a running server read its configuration again, and shows the changes. `steerd diff` only shows
//! them.

use std::borrow::Cow;
use std::fmt::Write;
use std::process::ExitCode;

use hyper::Method;
use serde_json::{Value, json};

use crate::cli::client::ClientError;
use crate::cli::servers::ServerArguments;
use crate::cli::{block_on, complain, print, print_json};
use crate::printable::printable;

/// The sections of a report: the member, and the word for one of its entries.
const SECTIONS: [(&str, &str); 9] = [
    ("pools", "pool "),
    ("services", "service "),
    ("zones", "zone "),
    ("overrides", "override of "),
    ("keys", "key "),
    ("server", "[server] "),
    ("admin", "[admin] "),
    ("geo", "[geo] "),
    ("alerts", "alert "),
];

/// Makes the change, or shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Reload,
    /// Succeeds if a reload would.
    DryRun,
    /// Succeeds if neither a reload nor an upgrade would change anything.
    Diff,
}

pub(super) fn run(server: &ServerArguments, purpose: Purpose, json: bool) -> ExitCode {
    let path = if purpose == Purpose::Reload { "/api/v1/reload" } else { "/api/v1/reload?dry_run=true" };
    let asked = server.own().map(|client| {
        let meant = client.file().map(|file| json!({ "file": file.to_string_lossy() }));
        block_on(async move { client.request(Method::POST, path, meant.as_ref()).await })
    });
    match asked {
        Ok(Some(Ok(report))) => {
            if json {
                print_json(&format!("{report:#}"));
            } else {
                print(&report_as_text(&report, purpose));
            }
            let is_no = purpose == Purpose::Diff && report["changed"] != false;
            if is_no { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Ok(Some(Err(error))) | Err(error) => {
            match &error {
                ClientError::Refused { problem, .. } if json => print_json(&format!("{problem:#}")),
                ClientError::Refused { problem, .. } => {
                    let what =
                        if purpose == Purpose::Reload { "not reloaded" } else { "a reload would be refused" };
                    complain(&(faults_as_text(problem) + &format!("{what}: {error}")));
                }
                _ => complain(&format!("error: {error}")),
            }
            ExitCode::FAILURE
        }
        Ok(None) => ExitCode::FAILURE,
    }
}

/// The elements of a list in a member; empty if there is no list.
fn list<'a>(value: &'a Value, member: &str) -> &'a [Value] {
    value[member].as_array().map_or(&[], Vec::as_slice)
}

/// Text from the server, printable on one line.
fn text(value: &Value) -> Cow<'_, str> {
    printable(value.as_str().unwrap_or_default())
}

/// The changes by kind, the changes that need an upgrade, then the warnings.
fn report_as_text(report: &Value, purpose: Purpose) -> String {
    let (lines, upgrade) = changes_as_text(report);
    let generation = &report["generation"];
    let only_an_upgrade = purpose != Purpose::Reload && lines.is_empty() && !upgrade.is_empty();
    let mut told = match (lines.as_slice(), purpose) {
        ([], Purpose::Reload) => format!("reloaded: nothing has changed (generation {generation})"),
        (lines, Purpose::Reload) => format!("reloaded (generation {generation}):\n{}", lines.join("\n")),
        ([], _) if only_an_upgrade => {
            format!("a reload would change nothing (generation {generation}), but an upgrade would:")
        }
        ([], _) => format!("a reload would change nothing (generation {generation})"),
        (lines, _) => format!("a reload would change (generation {generation}):\n{}", lines.join("\n")),
    };
    if only_an_upgrade {
        let _ = write!(told, "\n{}", upgrade.join("\n"));
    } else if !upgrade.is_empty() {
        let needs = if purpose == Purpose::Reload { "needs" } else { "would need" };
        let _ = write!(told, "\n{needs} an upgrade:\n{}", upgrade.join("\n"));
    }
    for warning in list(report, "warnings") {
        let _ = write!(told, "\n{}", fault_as_text("warning", warning));
    }
    told
}

/// The changes, and those that need an upgrade, one per line.
pub(super) fn changes_as_text(report: &Value) -> (Vec<String>, Vec<String>) {
    let mut lines = Vec::new();
    for (member, word) in SECTIONS {
        let section = &report[member];
        for (what, names) in [("added", list(section, "added")), ("removed", list(section, "removed"))] {
            lines.extend(names.iter().map(|name| format!("  {word}{}: {what}", text(name))));
        }
        for changed in list(section, "changed") {
            lines.extend(changed_as_text(word, changed));
        }
    }
    let upgrade =
        list(report, "restart_needed").iter().flat_map(|changed| changed_as_text("", changed)).collect();
    (lines, upgrade)
}

fn changed_as_text(word: &str, changed: &Value) -> Vec<String> {
    let name = text(&changed["name"]);
    match list(changed, "details") {
        [] => vec![format!("  {word}{name}: changed")],
        [only] => vec![format!("  {word}{name}: {}", text(only))],
        details => std::iter::once(format!("  {word}{name}:"))
            .chain(details.iter().map(|detail| format!("    {}", text(detail))))
            .collect(),
    }
}

/// Every fault that the server found, each followed by an empty line.
pub(super) fn faults_as_text(problem: &Value) -> String {
    let faults = |member, word| list(problem, member).iter().map(move |fault| fault_as_text(word, fault));
    faults("errors", "error").chain(faults("warnings", "warning")).map(|fault| fault + "\n\n").collect()
}

/// As `steerd check` shows it, without the line of text: the file may be on another machine.
fn fault_as_text(word: &str, fault: &Value) -> String {
    let place = match (fault["line"].as_u64(), fault["column"].as_u64()) {
        (Some(line), Some(column)) => format!("{}:{line}:{column}", text(&fault["file"])),
        _ => text(&fault["file"]).into_owned(),
    };
    let mut told = format!("{word}: {}\n --> {place}", text(&fault["message"]));
    if let Some(hint) = fault["hint"].as_str() {
        let _ = write!(told, "\n  = help: {hint}");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_for_a_person() {
        let report = json!({
            "generation": 8,
            "pools": {
                "added": ["new"], "removed": ["old"],
                "changed": [{ "name": "web", "details": ["backend a: weight 1 -> 3", "backend b added"] }],
            },
            "server": { "changed": [{ "name": "nsid", "details": ["none -> \"a\""] }] },
            "zones": { "changed": [{ "name": "example.com", "details": [] }] },
            "restart_needed": [{ "name": "server.workers", "details": ["0 -> 3"] }],
            "warnings": [{ "file": "a.toml", "line": 3, "column": 5, "message": "odd", "hint": "fix it" }],
        });
        assert_eq!(
            report_as_text(&report, Purpose::Reload),
            "reloaded (generation 8):
  pool new: added
  pool old: removed
  pool web:
    backend a: weight 1 -> 3
    backend b added
  zone example.com: changed
  [server] nsid: none -> \"a\"
needs an upgrade:
  server.workers: 0 -> 3
warning: odd
 --> a.toml:3:5
  = help: fix it"
        );
        assert_eq!(
            report_as_text(&json!({ "generation": 7 }), Purpose::Reload),
            "reloaded: nothing has changed (generation 7)"
        );
        assert_eq!(
            report_as_text(&json!({ "generation": 7 }), Purpose::Diff),
            "a reload would change nothing (generation 7)"
        );
        let report = json!({ "generation": 7, "restart_needed": [{ "name": "server.workers", "details": ["0 -> 3"] }] });
        assert_eq!(
            report_as_text(&report, Purpose::Diff),
            "a reload would change nothing (generation 7), but an upgrade would:\n  server.workers: 0 -> 3"
        );
        let report = json!({
            "generation": 7, "pools": { "added": ["new"] },
            "restart_needed": [{ "name": "server.workers", "details": ["0 -> 3"] }],
        });
        let expected = "a reload would change (generation 7):\n  pool new: added\nwould need an upgrade:\n  server.workers: 0 -> 3";
        assert_eq!(report_as_text(&report, Purpose::DryRun), expected);
    }

    #[test]
    fn faults_for_a_person() {
        let problem = json!({
            "errors": [
                { "file": "a.toml", "line": null, "column": null, "message": "one", "hint": null },
                { "file": "a.toml", "line": 2, "column": 1, "message": "two", "hint": "do it" },
            ],
        });
        assert_eq!(
            faults_as_text(&problem),
            "error: one\n --> a.toml\n\nerror: two\n --> a.toml:2:1\n  = help: do it\n\n"
        );
    }
}
