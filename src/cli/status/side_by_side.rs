//! The status of several servers side by side, and where they differ.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::columns::{Cell, Tone, render_on_page, wrapped};
use crate::cli::status::document::{RemoteBackend, RemoteService, RemoteStatus};
use crate::cli::status::page::{tone, with_notes};
use crate::cli::status::words::{self, Urgency};

/// The most lines of a table; the rest is counted.
const MOST: usize = 40;

/// A server, with its status or the reason why there is none.
pub(super) struct Answered {
    pub(super) url: String,
    pub(super) status: Result<RemoteStatus, String>,
}

/// A line of a table: the same thing at each server.
struct ComparedLine {
    name: String,
    /// None if the server does not have it, or has not answered.
    cells: Vec<Option<ToldCell>>,
}

/// The words of one server on one thing.
#[derive(Clone)]
struct ToldCell {
    text: String,
    urgency: Urgency,
    /// The reasons; shown where servers differ.
    notes: Vec<String>,
}

impl ComparedLine {
    /// Whether servers that have answered tell different things.
    fn differs(&self, servers: &[Answered]) -> bool {
        let answered = self.cells.iter().zip(servers).filter(|(_, server)| server.status.is_ok());
        let mut told = answered.map(|(cell, _)| cell.as_ref().map(|cell| &cell.text));
        told.next().is_some_and(|first| told.any(|other| other != first))
    }

    fn urgency(&self) -> Urgency {
        self.cells.iter().flatten().map(|cell| cell.urgency).min().unwrap_or(Urgency::Fine)
    }

    /// The reasons of each server, with its number.
    fn notes(&self) -> Vec<String> {
        let told = (1..).zip(&self.cells).filter_map(|(number, cell)| Some((number, cell.as_ref()?)));
        told.flat_map(|(number, cell)| cell.notes.iter().map(move |note| format!("[{number}] {note}")))
            .collect()
    }
}

/// All things of one kind, in the order of the servers that first tell of them.
fn lines(
    servers: &[Answered],
    of_server: impl Fn(&RemoteStatus) -> Vec<(String, ToldCell)>,
) -> Vec<ComparedLine> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut lines: Vec<ComparedLine> = Vec::new();
    for (index, server) in servers.iter().enumerate() {
        let Ok(status) = &server.status else { continue };
        for (name, cell) in of_server(status) {
            let place = *places.entry(name.clone()).or_insert_with(|| {
                lines.push(ComparedLine { name, cells: vec![None; servers.len()] });
                lines.len() - 1
            });
            if let Some(slot) = lines.get_mut(place).and_then(|line| line.cells.get_mut(index)) {
                *slot = Some(cell);
            }
        }
    }
    lines
}

fn all_lines(servers: &[Answered], now: Timestamp) -> [(&'static str, Vec<ComparedLine>); 3] {
    let services = |status: &RemoteStatus| {
        status.services.iter().map(|service| (service.name.clone(), of_service(service, now))).collect()
    };
    let pools = |status: &RemoteStatus| {
        let pools = status.pools.iter();
        pools
            .map(|pool| {
                let text = format!("{}, {}", pool.state, words::healthy(pool));
                (pool.name.clone(), ToldCell { text, urgency: words::of_pool(pool), notes: Vec::new() })
            })
            .collect()
    };
    let backends = |status: &RemoteStatus| {
        let backends =
            status.pools.iter().flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)));
        backends
            .map(|(pool, backend)| (format!("{}/{}", pool.name, backend.name), of_backend(backend, now)))
            .collect()
    };
    [
        ("SERVICE", lines(servers, services)),
        ("POOL", lines(servers, pools)),
        ("BACKEND", lines(servers, backends)),
    ]
}

/// The state with the weight, and why.
fn of_backend(backend: &RemoteBackend, now: Timestamp) -> ToldCell {
    let (state, urgency) = words::of_backend(backend, now);
    let text = format!("{state}, weight {}", words::weight(backend));
    let mut notes = words::notes(backend, now);
    if notes.is_empty() {
        notes.extend(words::last_outcomes(backend));
    }
    ToldCell { text, urgency, notes }
}

/// The state, with the pools that answer.
fn of_service(service: &RemoteService, now: Timestamp) -> ToldCell {
    let (state, urgency) = words::of_service(service);
    let tiers = [&service.tier.ipv4, &service.tier.ipv6];
    let mut pools: Vec<&str> = tiers.into_iter().flatten().map(String::as_str).collect();
    pools.dedup();
    let pools = if pools.is_empty() { String::new() } else { format!(", {}", pools.join(" and ")) };
    // Its end and its author may differ between servers.
    let failover = service.failover.as_ref().map(|failover| {
        let reason = failover.reason.as_deref().map(|reason| format!(": {reason}"));
        format!(", failover{}", reason.unwrap_or_default())
    });
    let text = format!("{state}{pools}{}", failover.unwrap_or_default());
    ToldCell { text, urgency, notes: words::notes_of_service(service, now) }
}

/// The page of several servers. Backends are shown if they have something to tell, or if they are `selected`.
pub(super) fn page(servers: &[Answered], now: Timestamp, selected: bool, color: bool) -> String {
    let mut heads = Vec::new();
    for (number, server) in (1..).zip(servers) {
        let said = match &server.status {
            Ok(status) => {
                let suspected = status.suspected.as_ref();
                let suspected = suspected.map(|suspected| {
                    format!("; {}", words::suspicion("this machine is suspected", suspected, now))
                });
                format!(
                    "steerd {}, generation {}{}",
                    status.version,
                    status.generation,
                    suspected.unwrap_or_default()
                )
            }
            Err(error) => format!("error: {error}"),
        };
        heads.push(wrapped(&format!("[{number}] {}  {said}", server.url), 0));
    }
    let mut parts = vec![heads.join("\n")];
    let mut differences = 0;
    for (kind, lines) in all_lines(servers, now) {
        differences += lines.iter().filter(|line| line.differs(servers)).count();
        parts.extend(table(servers, kind, lines, selected, color));
    }
    let answered = servers.iter().filter(|server| server.status.is_ok()).count();
    parts.push(match differences {
        _ if answered < 2 => "there is nothing to compare: fewer than two servers answered".to_owned(),
        0 => "the servers agree".to_owned(),
        1 => "the servers differ in 1 line".to_owned(),
        count => format!("the servers differ in {count} lines"),
    });
    parts.join("\n\n")
}

fn table(
    servers: &[Answered],
    kind: &str,
    mut lines: Vec<ComparedLine>,
    selected: bool,
    color: bool,
) -> Option<String> {
    lines.sort_by_key(|line| (line.urgency(), !line.differs(servers)));
    let all = lines.len();
    if kind == "BACKEND" && !selected {
        lines.retain(|line| line.urgency() < Urgency::Fine || line.differs(servers));
    }
    let shown = if selected { lines.len() } else { lines.len().min(MOST) };
    if shown == 0 {
        return (all > 0).then(|| format!("all {all} backends are fine"));
    }
    let numbers = (1..=servers.len()).map(|number| Cell::plain(&format!("[{number}]")));
    let mut rows = vec![[Cell::plain(kind)].into_iter().chain(numbers).chain([Cell::plain("")]).collect()];
    rows.extend(lines.iter().take(shown).map(|line| {
        let cells = line.cells.iter().map(|cell| match cell {
            Some(cell) => Cell::new(&cell.text, tone(cell.urgency)),
            None => Cell::plain("-"),
        });
        let mark = if line.differs(servers) { "differs" } else { "" };
        [Cell::plain(&line.name)]
            .into_iter()
            .chain(cells)
            .chain([Cell::new(mark, Tone::Bad)])
            .collect::<Vec<Cell>>()
    }));
    let notes = |index: usize| {
        let line = lines.get(index).filter(|line| line.differs(servers));
        line.map(ComparedLine::notes).unwrap_or_default()
    };
    let table = with_notes(&render_on_page(&rows, color), notes);
    Some(match lines.len() - shown {
        0 => table,
        more => format!("{table}\nand {more} more; name a pool or a service, or use --json"),
    })
}

/// All lines in which the servers differ, for JSON.
pub(super) fn differences(servers: &[Answered], now: Timestamp) -> Vec<Value> {
    let all = all_lines(servers, now)
        .into_iter()
        .flat_map(|(kind, lines)| lines.into_iter().map(move |line| (kind, line)));
    let told = |(kind, line): (&str, ComparedLine)| {
        let cells: Vec<Option<String>> = line.cells.into_iter().map(|cell| Some(cell?.text)).collect();
        json!({ "kind": kind.to_lowercase(), "name": line.name, "told": cells })
    };
    all.filter(|(_, line)| line.differs(servers)).map(told).collect()
}
