//! `steerd config`: what a server runs, where it comes from, and whether a reload would change it. `steerd rollback`
//! goes back to an earlier configuration, or lists those that are kept.

use std::fmt::Write;
use std::io;
use std::process::ExitCode;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use crate::cli::client::{AdminClient, ClientError};
use crate::cli::columns::{Cell, Tone, render};
use crate::cli::reload::{changes_as_text, faults_as_text};
use crate::cli::servers::ServerArguments;
use crate::cli::{block_on, complain, has_color, print, print_as_it_is, print_json};
use crate::printable::printable;

/// The beginning of a SHA-256 that is shown to people, characters.
const SHORT: usize = 12;

#[derive(Debug, Args)]
pub(super) struct ConfigArguments {
    /// Print the running configuration as JSON, with the texts of its files
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Debug, Args)]
pub(super) struct RollbackArguments {
    /// The number of the configuration, as in the list; defaults to the one before the running one
    #[arg(value_name = "NUMBER", conflicts_with = "list")]
    to: Option<u64>,
    /// Show the kept configurations, and change nothing
    #[arg(long)]
    list: bool,
    /// Show the changes, and change nothing
    #[arg(long, conflicts_with = "list")]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArguments,
}

/// Sends one request; prints why it fails.
fn ask(
    client: Result<AdminClient, ClientError>,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Option<Result<Value, ClientError>> {
    match client {
        Ok(client) => block_on(async move { client.request(method, path, body).await }),
        Err(error) => Some(Err(error)),
    }
}

fn failed(error: &ClientError) -> ExitCode {
    complain(&format!("error: {error}"));
    ExitCode::FAILURE
}

pub(super) fn config(arguments: &ConfigArguments) -> ExitCode {
    let running = match ask(arguments.server.client(), Method::GET, "/api/v1/config", None) {
        Some(Ok(running)) => running,
        Some(Err(error)) => return failed(&error),
        None => return ExitCode::FAILURE,
    };
    if arguments.json {
        print_json(&format!("{running:#}"));
        return ExitCode::SUCCESS;
    }
    let on_disk = ask(arguments.server.own(), Method::POST, "/api/v1/reload?dry_run=true", None);
    let on_disk = match on_disk {
        Some(Ok(report)) if report["changed"] == false => "those that run".into(),
        Some(Ok(_)) => "others: `steerd diff` shows what a reload would change".into(),
        Some(Err(ClientError::Refused { problem, .. })) if problem["errors"].is_array() => {
            "faulty: `steerd diff` shows the mistakes".into()
        }
        Some(Err(error)) => format!("not known: {error}"),
        None => return ExitCode::FAILURE,
    };
    print(&config_as_text(&running, &on_disk));
    ExitCode::SUCCESS
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn short(hash: &Value) -> &str {
    text(hash).get(..SHORT).unwrap_or_default()
}

/// A time of day without fractions of a second.
fn time(value: &Value) -> String {
    let time = text(value).parse::<jiff::Timestamp>();
    time.map_or_else(|_| "-".into(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

fn config_as_text(running: &Value, on_disk: &str) -> String {
    let mut told = String::new();
    if let Some(notice) = running["notice"].as_str() {
        let _ = writeln!(told, "ATTENTION: {notice}\n");
    }
    let number = running["number"].as_u64().map_or_else(|| "not kept".into(), |number| number.to_string());
    for (name, value) in [
        ("file", running["file"].as_str().unwrap_or("none")),
        ("loaded", &format!("{} by {}", time(&running["loaded"]), text(&running["by"]))),
        ("number", &number),
        ("sha256", text(&running["sha256"])),
        ("on disk", on_disk),
    ] {
        let _ = writeln!(told, "{name:<8} {}", printable(value));
    }
    let files = running["files"].as_array().map_or(&[][..], Vec::as_slice);
    let rows = files.iter().map(|file| {
        let size = format!("{} bytes", file["size"]);
        [text(&file["kind"]), text(&file["path"]), &size, short(&file["sha256"])].map(Cell::plain).to_vec()
    });
    let rows: Vec<Vec<Cell>> = rows.collect();
    let _ = write!(told, "\n{}", render(&rows, false).trim_end());
    told
}

pub(super) fn rollback(arguments: &RollbackArguments) -> ExitCode {
    if arguments.list {
        return list(arguments);
    }
    let path = if arguments.dry_run { "/api/v1/rollback?dry_run=true" } else { "/api/v1/rollback" };
    let body = arguments.to.map(|to| json!({ "to": to }));
    match ask(arguments.server.own(), Method::POST, path, body.as_ref()) {
        Some(Ok(report)) => {
            if arguments.json {
                print_json(&format!("{report:#}"));
            } else {
                print(&rollback_as_text(&report, arguments.dry_run));
            }
            ExitCode::SUCCESS
        }
        Some(Err(ClientError::Refused { problem, .. })) if arguments.json => {
            print_json(&format!("{problem:#}"));
            ExitCode::FAILURE
        }
        Some(Err(error)) => {
            if let ClientError::Refused { problem, .. } = &error {
                complain(&(faults_as_text(problem) + &format!("not rolled back: {error}")));
                return ExitCode::FAILURE;
            }
            failed(&error)
        }
        None => ExitCode::FAILURE,
    }
}

fn rollback_as_text(report: &Value, is_dry_run: bool) -> String {
    let (number, loaded) = (&report["number"], time(&report["loaded"]));
    let (lines, upgrade) = changes_as_text(report);
    let did = if is_dry_run { "a rollback would go back" } else { "went back" };
    let mut told =
        format!("{did} to the configuration {number} of {loaded} (generation {})", report["generation"]);
    told += if lines.is_empty() { ": nothing changes" } else { ":\n" };
    told += &lines.join("\n");
    if !upgrade.is_empty() {
        let _ = write!(told, "\nneeds an upgrade, which reads the files on disk:\n{}", upgrade.join("\n"));
    }
    if !is_dry_run {
        let _ = write!(told, "\nNOTE: {}", text(&report["advice"]));
    }
    told
}

fn list(arguments: &RollbackArguments) -> ExitCode {
    match ask(arguments.server.client(), Method::GET, "/api/v1/configurations", None) {
        Some(Ok(kept)) if arguments.json => print_json(&format!("{kept:#}")),
        Some(Ok(kept)) => {
            let kept = kept["configurations"].as_array().map_or(&[][..], Vec::as_slice);
            if kept.is_empty() {
                complain("no configurations are kept: set `state_dir` under [server]");
            } else {
                print_as_it_is(&list_as_text(kept, has_color(&io::stdout())));
            }
        }
        Some(Err(error)) => return failed(&error),
        None => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

fn list_as_text(kept: &[Value], color: bool) -> String {
    let head = ["NUMBER", "LOADED", "BY", "SHA256", "CHANGES TO THE ONE BEFORE"].map(Cell::plain).to_vec();
    let row = |set: &Value| {
        let running = if set["running"] == true { " (runs)" } else { "" };
        let number = Cell::plain(&format!("{}{running}", set["number"]));
        if let Some(reason) = set["damaged"].as_str() {
            return vec![number, Cell::new(&format!("damaged: {reason}"), Tone::Bad)];
        }
        let from_place = set["files"].as_array().into_iter().flatten().filter(|file| file["kept"] == false);
        let from_place: Vec<&str> = from_place.map(|file| text(&file["path"])).collect();
        let mut changes = text(&set["changes"]).to_owned();
        if !from_place.is_empty() {
            let _ =
                write!(changes, " (too large to be kept, read from its place: {})", from_place.join(", "));
        }
        let rest =
            [&time(&set["loaded"]), text(&set["by"]), short(&set["sha256"]), &changes].map(Cell::plain);
        [number].into_iter().chain(rest).collect()
    };
    let rows: Vec<Vec<Cell>> = [head].into_iter().chain(kept.iter().map(row)).collect();
    render(&rows, color).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_configuration_for_a_person() {
        let running = json!({
            "file": "/etc/steerd/steerd.toml", "loaded": "2026-11-30T00:20:18.5Z", "by": "SIGHUP", "number": 12,
            "sha256": "0123456789abcdef", "notice": "runs another",
            "files": [{ "path": "/etc/steerd/steerd.toml", "kind": "configuration", "size": 5, "sha256": "abcdefabcdefabcd" }],
        });
        let expected = "ATTENTION: runs another\n\nfile     /etc/steerd/steerd.toml\n\
                        loaded   2026-11-30 00:20:18Z by SIGHUP\nnumber   12\nsha256   0123456789abcdef\n\
                        on disk  others\n\nconfiguration  /etc/steerd/steerd.toml  5 bytes  abcdefabcdef";
        assert_eq!(config_as_text(&running, "others"), expected);
    }

    #[test]
    fn kept_configurations_for_a_person() {
        let file = json!({ "path": "/z", "kept": false });
        let kept = [
            json!({ "number": 3, "running": true, "loaded": "2026-11-30T00:20:18Z", "by": "SIGHUP", "sha256": "0123456789abcdef",
                    "changes": "pool web added", "files": [file] }),
            json!({ "number": 2, "running": false, "damaged": "it is cut" }),
        ];
        let expected = "NUMBER    LOADED                BY      SHA256        CHANGES TO THE ONE BEFORE\n\
             3 (runs)  2026-11-30 00:20:18Z  SIGHUP  0123456789ab  pool web added (too large to be kept, read from its place: /z)\n\
             2         damaged: it is cut";
        assert_eq!(list_as_text(&kept, false), expected);
    }

    #[test]
    fn a_rollback_for_a_person() {
        let report = json!({
            "generation": 8, "number": 2, "loaded": "2026-11-30T00:20:18Z", "pools": { "added": ["new"] },
            "advice": "correct the files",
        });
        assert_eq!(
            rollback_as_text(&report, false),
            "went back to the configuration 2 of 2026-11-30 00:20:18Z (generation 8):\n  pool new: added\nNOTE: correct the files"
        );
    }
}
