//! `steerd events`: the last events of one server or of several, and the further ones as they happen.
//!
//! It asks again every second, so it goes on after a restart of a server, and says so.

use std::fmt::Write;
use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use hyper::Method;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cli::client::{AdminClient, segment};
use crate::cli::columns::{Cell, Tone, render};
use crate::cli::servers::{ServerArguments, of_each};
use crate::cli::{block_on, complain, has_color, print_as_it_is, print_json};

/// How often `--follow` asks.
const PERIOD: Duration = Duration::from_secs(1);
/// Fields of an event that the message or another column shows.
const SHOWN_ELSEWHERE: [&str; 6] = ["id", "at", "kind", "severity", "message", "until"];
/// Fields that name the subject of an event, in this order.
const SUBJECT: [&str; 3] = ["service", "pool", "backend"];

#[derive(Debug, Args)]
pub(super) struct EventsArguments {
    /// Only events of this pool or service
    #[arg(value_name = "POOL|SERVICE")]
    about: Option<String>,
    /// Go on with the events that happen from now on, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// How many earlier events to show, at most 1000
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    last: u32,
    /// Only events of these kinds, separated by commas, such as tier,service
    #[arg(long, value_name = "KIND,..")]
    kind: Option<String>,
    /// Print each event as JSON, one per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    servers: ServerArguments,
}

/// A server whose events are shown.
struct Followed {
    client: AdminClient,
    /// The last event that was seen.
    seen: Option<u64>,
    /// Whether it failed to answer the last time.
    is_silent: bool,
}

/// An event of one of the servers.
struct ServerEvent {
    /// The URL of the server, if there are several.
    server: Option<String>,
    event: Value,
}

pub(super) fn run(arguments: &EventsArguments) -> ExitCode {
    let clients = match arguments.servers.readable() {
        Ok(clients) => clients,
        Err(error) => {
            complain(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let mut followed: Vec<Followed> =
        clients.into_iter().map(|client| Followed { client, seen: None, is_silent: false }).collect();
    loop {
        let Some((events, errors)) = block_on(ask(&mut followed, arguments)) else {
            return ExitCode::FAILURE;
        };
        show(&events, arguments.json);
        for error in &errors {
            complain(error);
        }
        if !arguments.follow {
            return if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        // A mistake in the arguments does not mend itself.
        if followed.iter().all(|server| server.seen.is_none()) {
            return ExitCode::FAILURE;
        }
        thread::sleep(PERIOD);
    }
}

/// The new events of all servers in the order of their times, and what to say of servers that do not answer.
async fn ask(followed: &mut [Followed], arguments: &EventsArguments) -> (Vec<ServerEvent>, Vec<String>) {
    let clients: Vec<AdminClient> = followed.iter().map(|server| server.client.clone()).collect();
    let paths: Vec<String> = followed.iter().map(|server| path(arguments, server.seen)).collect();
    let asked: Vec<(AdminClient, String)> = clients.into_iter().zip(paths).collect();
    let replies =
        of_each(&asked, |(client, path)| async move { client.request(Method::GET, &path, None).await });
    let is_one = followed.len() == 1;
    let (mut events, mut messages) = (Vec::new(), Vec::new());
    for (server, reply) in followed.iter_mut().zip(replies.await) {
        let url = server.client.url.to_string();
        match reply {
            Ok(reply) => {
                if std::mem::take(&mut server.is_silent) {
                    messages.push(format!("{url} answers again"));
                }
                if reply["missed"] == true && server.seen.is_some() {
                    messages.push(format!("{url} has restarted, or some events were missed"));
                }
                server.seen = reply["last"].as_u64().or(server.seen);
                let name = (!is_one).then_some(url);
                let new = reply["events"].as_array().cloned().unwrap_or_default();
                events.extend(new.into_iter().map(|event| ServerEvent { server: name.clone(), event }));
            }
            Err(error) if !server.is_silent => {
                server.is_silent = true;
                messages.push(format!("error: {error}"));
            }
            Err(_) => {}
        }
    }
    events.sort_by_key(|shown| at(&shown.event));
    (events, messages)
}

fn at(event: &Value) -> Option<Timestamp> {
    event["at"].as_str()?.parse().ok()
}

fn path(arguments: &EventsArguments, seen: Option<u64>) -> String {
    let mut path = match seen {
        Some(seen) => format!("/api/v1/events?after={seen}"),
        None => format!("/api/v1/events?last={}", arguments.last),
    };
    for (name, value) in [("kind", &arguments.kind), ("about", &arguments.about)] {
        if let Some(value) = value {
            let _ = write!(path, "&{name}={}", segment(value));
        }
    }
    path
}

fn show(events: &[ServerEvent], json: bool) {
    if events.is_empty() {
        return;
    }
    if json {
        for ServerEvent { server, event } in events {
            let mut event = event.clone();
            if let (Some(server), Some(members)) = (server, event.as_object_mut()) {
                members.insert("server".into(), server.as_str().into());
            }
            print_json(&event.to_string());
        }
        return;
    }
    let rows: Vec<Vec<Cell>> = events.iter().map(row).collect();
    print_as_it_is(render(&rows, has_color(&io::stdout())).trim_end());
}

fn row(ServerEvent { server, event }: &ServerEvent) -> Vec<Cell> {
    let empty = Map::new();
    let members = event.as_object().unwrap_or(&empty);
    let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default();
    let tone = if text("severity") == "info" { Tone::Plain } else { Tone::Bad };
    let subject: Vec<&str> = SUBJECT.iter().map(|name| text(name)).filter(|name| !name.is_empty()).collect();
    let facts = members
        .iter()
        .filter(|(name, _)| !SHOWN_ELSEWHERE.contains(&name.as_str()) && !SUBJECT.contains(&name.as_str()));
    let facts: Vec<String> = facts.map(|(name, value)| format!("{name}={}", plain(value))).collect();
    // Seconds are enough for people; JSON has the rest.
    let at = at(event).map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()).unwrap_or_default();
    let server = server.iter().map(|server| Cell::plain(server));
    let rest = [
        Cell::new(text("kind"), tone),
        Cell::plain(&subject.join("/")),
        Cell::new(text("message"), tone),
        Cell::plain(&facts.join(" ")),
    ];
    [Cell::plain(&at)].into_iter().chain(server).chain(rest).collect()
}

/// A value without the quotes of JSON, unless it has spaces.
fn plain(value: &Value) -> String {
    match value.as_str() {
        Some(text) if !text.contains(' ') => text.to_owned(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let event = json!({
            "id": 7, "at": "2026-11-30T00:20:18.123456Z", "kind": "transition", "severity": "warning",
            "message": "backend is unhealthy", "pool": "web", "backend": "gw1", "from": "healthy",
            "reason": "connection refused", "left": "1/2",
        });
        let line = |server: Option<&str>| {
            let shown = ServerEvent { server: server.map(str::to_owned), event: event.clone() };
            render(&[row(&shown)], false)
        };
        let rest =
            "transition  web/gw1  backend is unhealthy  from=healthy left=1/2 reason=\"connection refused\"";
        assert_eq!(line(None).trim_end(), format!("2026-11-30 00:20:18Z  {rest}"));
        assert_eq!(
            line(Some("http://lb1:8053")).trim_end(),
            format!("2026-11-30 00:20:18Z  http://lb1:8053  {rest}")
        );
    }
}
