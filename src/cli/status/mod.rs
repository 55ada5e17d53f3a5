//! `steerd status`: how services are answered, and what is wrong; of one server, or of several side by side.

mod document;
mod page;
mod side_by_side;
#[cfg(test)]
mod tests;
mod words;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use hyper::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::client::AdminClient;
use crate::cli::servers::{ServerArguments, of_each};
use crate::cli::status::document::{RemoteService, RemoteStatus, select};
use crate::cli::status::page::PageSettings;
use crate::cli::status::side_by_side::Answered;
use crate::cli::status::words::Counts;
use crate::cli::{block_on, complain, has_color, print_as_it_is, print_json};

/// How often `--watch` asks.
const PERIOD: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// A pool or a service, with all its backends; without it, everything, and the backends that have something to tell
    #[arg(value_name = "POOL|SERVICE")]
    name: Option<String>,
    /// Show it again every 2 seconds; shares are then those since the start of this command
    #[arg(long)]
    watch: bool,
    /// Print the objects of the API as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    servers: ServerArguments,
}

/// The answer of one server.
struct ServerReport {
    answered: Answered,
    /// The document as JSON, reduced to what was asked for.
    document: Value,
}

pub(super) fn run(arguments: &StatusArguments) -> ExitCode {
    let clients = match arguments.servers.readable() {
        Ok(clients) => clients,
        Err(error) => {
            complain(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let mut before: Option<Counts> = None;
    loop {
        let Some(reports) = block_on(ask(&clients, arguments.name.as_deref())) else {
            return ExitCode::FAILURE;
        };
        let is_fine = show(arguments, &reports, before.as_ref());
        if !arguments.watch {
            return if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        if let [ServerReport { answered: Answered { status: Ok(status), .. }, .. }] = &*reports {
            before.get_or_insert_with(|| words::counts(&status.pools));
        }
        thread::sleep(PERIOD);
    }
}

async fn ask(clients: &[AdminClient], name: Option<&str>) -> Vec<ServerReport> {
    let replies = of_each(clients, |client| async move {
        client.request(Method::GET, "/api/v1/status", None).await.map_err(|error| error.to_string())
    });
    let replies = clients.iter().zip(replies.await);
    replies
        .map(|(client, reply)| {
            let read = reply.and_then(|document| read(document, name));
            let url = client.url.to_string();
            match read {
                Ok((status, document)) => {
                    ServerReport { answered: Answered { url, status: Ok(status) }, document }
                }
                Err(error) => {
                    ServerReport { answered: Answered { url, status: Err(error) }, document: Value::Null }
                }
            }
        })
        .collect()
}

/// The status in a document of the API, reduced to one pool or service.
fn read(mut document: Value, name: Option<&str>) -> Result<(RemoteStatus, Value), String> {
    let parse = |document: &Value| {
        RemoteStatus::deserialize(document).map_err(|error| format!("its status is not understood: {error}"))
    };
    let mut status = parse(&document)?;
    if let Some(name) = name {
        select(&mut document, &status, name)?;
        status = parse(&document)?;
    }
    Ok((status, document))
}

/// Shows the answers. Returns whether all servers have answered, and no service is down or fails open.
fn show(arguments: &StatusArguments, reports: &[ServerReport], before: Option<&Counts>) -> bool {
    let now = Timestamp::now();
    let (color, selected) = (has_color(&io::stdout()), arguments.name.is_some());
    match reports {
        [ServerReport { answered: Answered { url, status: Ok(status) }, document }] => {
            if arguments.json {
                print_json(&format!("{document:#}"));
            } else {
                let settings = PageSettings { now, color, selected, before };
                present(&page::page(url, status, &settings), arguments.watch);
            }
        }
        [ServerReport { answered: Answered { status: Err(error), .. }, .. }] => {
            complain(&format!("error: {error}"));
        }
        _ => several(arguments, reports, now, color),
    }
    let is_fine = |report: &ServerReport| match &report.answered.status {
        Ok(status) => !status.services.iter().any(RemoteService::is_troubled),
        Err(_) => false,
    };
    reports.iter().all(is_fine)
}

fn several(arguments: &StatusArguments, reports: &[ServerReport], now: Timestamp, color: bool) {
    let servers: Vec<Answered> = reports
        .iter()
        .map(|report| Answered { url: report.answered.url.clone(), status: report.answered.status.clone() })
        .collect();
    if arguments.json {
        let one = |report: &ServerReport| match &report.answered.status {
            Ok(_) => json!({ "server": report.answered.url, "status": report.document }),
            Err(error) => json!({ "server": report.answered.url, "error": error }),
        };
        let all: Vec<Value> = reports.iter().map(one).collect();
        let differences = side_by_side::differences(&servers, now);
        print_json(&format!("{:#}", json!({ "servers": all, "differences": differences })));
    } else {
        let selected = arguments.name.is_some();
        present(&side_by_side::page(&servers, now, selected, color), arguments.watch);
    }
}

/// Prints a page; with `--watch` on a terminal, in place of the one before.
fn present(page: &str, watch: bool) {
    if watch && io::stdout().is_terminal() {
        // Erases the display, and goes to its beginning.
        let _ = write!(io::stdout(), "\x1b[2J\x1b[H");
    }
    print_as_it_is(&format!("{page}{}", if watch && !io::stdout().is_terminal() { "\n" } else { "" }));
}
