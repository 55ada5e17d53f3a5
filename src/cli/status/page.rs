//! The status of one server as tables, trouble first.

use std::cmp::Reverse;

use jiff::Timestamp;

use crate::cli::columns::{Cell, Tone, render_on_page, wrapped};
use crate::cli::status::document::{RemoteBackend, RemotePool, RemoteStatus};
use crate::cli::status::words::{self, Counts, Urgency};

/// The most lines of a table; the rest is counted.
const MOST: usize = 40;

/// The parts of a status to show, and how.
pub(super) struct PageSettings<'a> {
    pub(super) now: Timestamp,
    pub(super) color: bool,
    /// Whether one pool or service is meant, so that backends are shown that have nothing to tell.
    pub(super) selected: bool,
    /// The answers before the time for which shares are counted.
    pub(super) before: Option<&'a Counts>,
}

/// The page of a server.
pub(super) fn page(url: &str, status: &RemoteStatus, settings: &PageSettings<'_>) -> String {
    let now = settings.now;
    let mut parts =
        vec![wrapped(&format!("steerd {} at {url}, generation {}", status.version, status.generation), 0)];
    let notices = status.notices.iter().map(|notice| wrapped(&format!("ATTENTION: {notice}"), 0));
    parts.splice(0..0, notices);
    if let Some(suspected) = &status.suspected {
        parts.push(wrapped(&words::suspicion("this machine is suspected", suspected, now), 0));
    }
    parts.push(services(status, settings));
    parts.push(pools(status, settings));
    parts.extend(backends(status, settings));
    parts.join("\n\n")
}

pub(super) fn tone(urgency: Urgency) -> Tone {
    match urgency {
        Urgency::Trouble => Tone::Bad,
        Urgency::Notice => Tone::Plain,
        Urgency::Fine => Tone::Good,
    }
}

pub(super) fn heads<const N: usize>(names: [&str; N]) -> Vec<Cell> {
    names.map(Cell::plain).to_vec()
}

fn services(status: &RemoteStatus, settings: &PageSettings<'_>) -> String {
    let mut services: Vec<_> =
        status.services.iter().map(|service| (words::of_service(service), service)).collect();
    services.sort_by_key(|((_, urgency), _)| *urgency);
    let mut rows = vec![heads(["SERVICE", "STATE", "IPV4 FROM", "IPV6 FROM", "TTL"])];
    rows.extend(services.iter().take(MOST).map(|((state, urgency), service)| {
        vec![
            Cell::plain(service.unicode_name.as_ref().unwrap_or(&service.name)),
            Cell::new(state, tone(*urgency)),
            Cell::plain(words::tier(service.tier.ipv4.as_ref())),
            Cell::plain(words::tier(service.tier.ipv6.as_ref())),
            Cell::plain(&format!("{}s", service.ttl)),
        ]
    }));
    let rest = services.iter().skip(MOST).map(|((_, urgency), _)| *urgency);
    let notes = |index: usize| {
        let service = services.get(index);
        service.map(|(_, service)| words::notes_of_service(service, settings.now)).unwrap_or_default()
    };
    let table = with_notes(&render_on_page(&rows, settings.color), notes);
    with_rest(table, rest, "services")
}

/// A table, and a line for the entries that it leaves out.
fn with_rest(table: String, rest: impl Iterator<Item = Urgency>, what: &str) -> String {
    let rest: Vec<Urgency> = rest.collect();
    let fine = rest.iter().filter(|urgency| **urgency == Urgency::Fine).count();
    match rest.len() {
        0 => table,
        all if all == fine => format!("{table}\nand {all} more {what}, all fine"),
        all => format!(
            "{table}\nand {all} more {what}, {} of them not fine; name one, or use --json",
            all - fine
        ),
    }
}

fn pools(status: &RemoteStatus, settings: &PageSettings<'_>) -> String {
    let mut pools: Vec<_> = status.pools.iter().map(|pool| (words::of_pool(pool), pool)).collect();
    pools.sort_by_key(|(urgency, _)| *urgency);
    let mut rows = vec![heads(["POOL", "STATE", "HEALTHY", "WEIGHT"])];
    rows.extend(pools.iter().take(MOST).map(|(urgency, pool)| {
        vec![
            Cell::plain(&pool.name),
            Cell::new(&pool.state, tone(*urgency)),
            Cell::plain(&words::healthy(pool)),
            Cell::plain(&format!("{} of {}", pool.healthy_weight, pool.total_weight)),
        ]
    }));
    let rest = pools.iter().skip(MOST).map(|(urgency, _)| *urgency);
    let mut text = with_rest(render_on_page(&rows, settings.color), rest, "pools");
    for (_, pool) in pools {
        if let Some(suspected) = &pool.suspected {
            let what = format!("this machine is suspected, not the pool {},", pool.name);
            text += "\n";
            text += &wrapped(&words::suspicion(&what, suspected, settings.now), 2);
        }
    }
    text
}

/// A backend, with what decides its place.
struct Listed<'a> {
    pool: &'a RemotePool,
    backend: &'a RemoteBackend,
    state: String,
    urgency: Urgency,
}

/// The backends that have something to tell, or all; and a line for the others. None without backends.
fn backends(status: &RemoteStatus, settings: &PageSettings<'_>) -> Option<String> {
    let mut all: Vec<Listed<'_>> = Vec::new();
    for pool in &status.pools {
        for backend in &pool.backends {
            let (state, urgency) = words::of_backend(backend, settings.now);
            all.push(Listed { pool, backend, state, urgency });
        }
    }
    // Those with an override first, among equals.
    all.sort_by_key(|one| (one.urgency, Reverse(one.backend.weight_override.is_some())));
    let told = all.iter().filter(|one| settings.selected || one.urgency < Urgency::Fine).count();
    let shown = if settings.selected { told } else { told.min(MOST) };
    let mut rows = vec![heads(["BACKEND", "STATE", "SINCE", "WEIGHT", "WANTED", "GIVEN"])];
    rows.extend(all.iter().take(shown).map(|one| {
        vec![
            Cell::plain(&format!("{}/{}", one.pool.name, one.backend.name)),
            Cell::new(&one.state, tone(one.urgency)),
            Cell::plain(&words::since(one.backend, settings.now)),
            Cell::plain(&words::weight(one.backend)),
            Cell::plain(&words::wanted(one.backend)),
            Cell::plain(&words::given(one.pool, one.backend, settings.before)),
        ]
    }));
    if all.is_empty() {
        return None;
    }
    if shown == 0 {
        return Some(format!("all {} backends are fine", all.len()));
    }
    let notes =
        |index: usize| all.get(index).map(|one| words::notes(one.backend, settings.now)).unwrap_or_default();
    let table = with_notes(&render_on_page(&rows, settings.color), notes);
    let rest = all.iter().skip(shown).map(|one| one.urgency);
    Some(with_rest(table, rest, "backends"))
}

/// A table with notes below its rows; the first line has the heads.
pub(super) fn with_notes(table: &str, notes: impl Fn(usize) -> Vec<String>) -> String {
    let mut lines = Vec::new();
    for (index, line) in table.lines().enumerate() {
        lines.push(line.to_owned());
        let notes = index.checked_sub(1).map(&notes).unwrap_or_default();
        lines.extend(notes.iter().map(|note| wrapped(note, 4)));
    }
    lines.join("\n")
}
