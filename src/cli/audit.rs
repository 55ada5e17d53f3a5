//! `steerd audit`: who has changed what, when and why. It reads from a server, from several together, or from files.

use std::fmt::Write;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use hyper::Method;
use jiff::Timestamp;
use serde_json::Value;

use crate::audit::{AuditFilter, files, read_file};
use crate::cli::client::{AdminClient, segment};
use crate::cli::columns::{Cell, Tone, render};
use crate::cli::servers::{ServerArguments, of_each};
use crate::cli::{block_on, complain, has_color, print_as_it_is, print_json};
use crate::config::parse_duration;

#[derive(Debug, Args)]
pub(super) struct AuditArguments {
    /// Only entries since then: a duration back, such as 1d, or a time
    #[arg(long, value_name = "DURATION|TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// Only entries of these actions, separated by commas: override, weight, failover, failback, reload, rollback,
    /// upgrade, query-log, dnstap, audit
    #[arg(long, value_name = "ACTION,..")]
    action: Option<String>,
    /// Only entries of authors with this text: a token, a user or an address
    #[arg(long, value_name = "TEXT")]
    by: Option<String>,
    /// How many entries to show, at most 2000
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50)]
    last: u32,
    /// Read the files in this `state_dir`; no server is needed
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "file")]
    state_dir: Option<PathBuf>,
    /// Read this file; no server is needed
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print each entry as JSON, one per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    servers: ServerArguments,
}

/// An entry, and the URL of its server if there are several.
type ServerEntry = (Option<String>, Value);

pub(super) fn run(arguments: &AuditArguments) -> ExitCode {
    let of_files = match (&arguments.state_dir, &arguments.file) {
        (Some(directory), _) => {
            Some(files(directory).into_iter().rev().filter(|path| path.exists()).collect())
        }
        (None, Some(file)) => Some(vec![file.clone()]),
        (None, None) => None,
    };
    let (entries, errors) = match of_files {
        Some(files) => from_files(arguments, files),
        None => match from_servers(arguments) {
            Some(found) => found,
            None => return ExitCode::FAILURE,
        },
    };
    show(&entries, arguments.json);
    for error in &errors {
        complain(&format!("error: {error}"));
    }
    if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The entries of all servers in the order of their times, and why some do not answer.
fn from_servers(arguments: &AuditArguments) -> Option<(Vec<ServerEntry>, Vec<String>)> {
    let clients = match arguments.servers.readable() {
        Ok(clients) => clients,
        Err(error) => return Some((Vec::new(), vec![error.to_string()])),
    };
    let is_one = clients.len() == 1;
    let path = path(arguments);
    let ask = |client: AdminClient| {
        let path = path.clone();
        async move { (client.url.to_string(), client.request(Method::GET, &path, None).await) }
    };
    let (mut entries, mut errors) = (Vec::new(), Vec::new());
    for (url, reply) in block_on(of_each(&clients, ask))? {
        match reply {
            Ok(reply) => {
                if let Some(reason) = reply["failing"].as_str() {
                    complain(&format!("warning: {url} cannot write its audit: {reason}"));
                }
                if reply["survives_restart"] == false {
                    complain(&format!(
                        "note: {url} has no state_dir, so its audit is not kept over a restart"
                    ));
                }
                let server = (!is_one).then_some(url);
                let found = reply["entries"].as_array().cloned().unwrap_or_default();
                entries.extend(found.into_iter().rev().map(|entry| (server.clone(), entry)));
            }
            Err(error) => errors.push(error.to_string()),
        }
    }
    entries.sort_by_key(|(_, entry)| at(entry));
    Some((entries, errors))
}

/// The entries in files, and why some cannot be read.
fn from_files(arguments: &AuditArguments, files: Vec<PathBuf>) -> (Vec<ServerEntry>, Vec<String>) {
    let actions = arguments.action.as_deref().unwrap_or_default().split(',');
    let filter = AuditFilter {
        before: None,
        actions: actions.filter(|action| !action.is_empty()).map(str::to_owned).collect(),
        by: arguments.by.clone(),
        since: arguments.since,
    };
    let (mut entries, mut errors) = (Vec::new(), Vec::new());
    if files.is_empty() {
        errors.push("there is no audit in this directory: it is in the `state_dir` of [server]".into());
    }
    for path in files {
        match read_file(&path) {
            Ok(read) => {
                if read.torn > 0 {
                    let (torn, path) = (read.torn, path.display());
                    complain(&format!(
                        "note: {torn} lines of {path} are no entries; a crash may have cut them off"
                    ));
                }
                let wanted = read.records.into_iter().filter(|record| filter.wants(record));
                entries.extend(wanted.filter_map(|record| Some((None, serde_json::to_value(record).ok()?))));
            }
            Err(error) => errors.push(format!("{}: {error}", path.display())),
        }
    }
    let surplus = entries.len().saturating_sub(usize::try_from(arguments.last).unwrap_or(usize::MAX));
    entries.drain(..surplus);
    (entries, errors)
}

fn path(arguments: &AuditArguments) -> String {
    let mut path = format!("/api/v1/audit?limit={}", arguments.last);
    let since = arguments.since.map(|since| since.to_string());
    for (name, value) in [("action", &arguments.action), ("by", &arguments.by), ("since", &since)] {
        if let Some(value) = value {
            let _ = write!(path, "&{name}={}", segment(value));
        }
    }
    path
}

/// A time, or a duration back from now.
fn since(text: &str) -> Result<Timestamp, String> {
    let back = parse_duration(text).and_then(|length| SystemTime::now().checked_sub(length));
    let back = back.and_then(|time| Timestamp::try_from(time).ok());
    back.or_else(|| text.parse().ok())
        .ok_or_else(|| "write a duration such as 1d, or a time such as 2026-11-30T12:00:00Z".into())
}

fn at(entry: &Value) -> Option<Timestamp> {
    entry["at"].as_str()?.parse().ok()
}

fn show(entries: &[ServerEntry], json: bool) {
    if json {
        for (server, entry) in entries {
            let mut entry = entry.clone();
            if let (Some(server), Some(members)) = (server, entry.as_object_mut()) {
                members.insert("server".into(), server.as_str().into());
            }
            print_json(&entry.to_string());
        }
    } else if !entries.is_empty() {
        let rows: Vec<Vec<Cell>> = entries.iter().map(row).collect();
        print_as_it_is(render(&rows, has_color(&io::stdout())).trim_end());
    }
}

fn row((server, entry): &ServerEntry) -> Vec<Cell> {
    let text = |name: &str| entry[name].as_str().unwrap_or_default();
    let is_done = text("outcome") == "done";
    let change = match (text("before"), text("after")) {
        (before, "") => before.to_owned(),
        ("", after) => after.to_owned(),
        (before, after) => format!("{before} -> {after}"),
    };
    let facts = [("reason", text("reason")), ("why", text("why"))];
    let facts =
        facts.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name}={value:?}"));
    let facts: Vec<String> = facts.collect();
    let at = at(entry).map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()).unwrap_or_default();
    let rest = [
        Cell::plain(text("action")),
        Cell::plain(text("subject")),
        Cell::new(text("outcome"), if is_done { Tone::Plain } else { Tone::Bad }),
        Cell::plain(&change),
        Cell::plain(&format!("by {}", text("by"))),
        Cell::plain(&facts.join(" ")),
    ];
    let server = server.iter().map(|server| Cell::plain(server));
    [Cell::plain(&at)].into_iter().chain(server).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_is_a_line() {
        let entry = json!({
            "id": 7, "at": "2026-11-30T00:20:18.123456Z", "action": "override", "subject": "web/gw1",
            "by": "192.0.2.1:4 with the token `ops`", "reason": "new kernel", "before": "auto", "after": "drain for 30m",
            "outcome": "refused", "why": "it is the last one",
        });
        let rest = "override  web/gw1  refused  auto -> drain for 30m  by 192.0.2.1:4 with the token `ops`  \
                    reason=\"new kernel\" why=\"it is the last one\"";
        let line = |server: Option<&str>| render(&[row(&(server.map(str::to_owned), entry.clone()))], false);
        assert_eq!(line(None).trim_end(), format!("2026-11-30 00:20:18Z  {rest}"));
        assert_eq!(line(Some("http://a")).trim_end(), format!("2026-11-30 00:20:18Z  http://a  {rest}"));
    }
}
