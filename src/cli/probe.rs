//! `steerd probe`: the checks of the configuration, run once and without a server.

use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Semaphore;

use crate::checker::{Check, PoolSetup};
use crate::cli::columns::{self, Cell, Tone};
use crate::cli::{block_on, complain, has_color, load, print};
use crate::health::Outcome;
use crate::probe::Report;

/// Probes at a time: within the 1,024 descriptors a shell usually allows.
const MAX_IN_FLIGHT: usize = 256;

/// What to probe: a pool, or one backend of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pool: String,
    backend: Option<String>,
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (pool, backend) = match text.split_once('/') {
            Some((pool, backend)) => (pool, Some(backend)),
            None => (text, None),
        };
        if pool.is_empty() || backend.is_some_and(str::is_empty) {
            return Err("expected the name of a pool, or POOL/BACKEND");
        }
        Ok(Self { pool: pool.into(), backend: backend.map(Into::into) })
    }
}

/// One address of a backend, and what its check saw.
struct Probed {
    pool: String,
    backend: String,
    address: IpAddr,
    check: Option<&'static str>,
    verdict: Verdict,
    report: Option<Report>,
}

/// What a single probe says of an address: the first outcome decides alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Healthy,
    /// Alive, but asks for no new clients.
    Draining,
    Unhealthy,
    /// The probe could not be made, or not fairly.
    Unknown,
    /// The backend is not enabled.
    Disabled,
}

pub(super) fn run(config: &Path, target: Option<&Target>, json: bool) -> ExitCode {
    let setup = match load(config) {
        Ok(setup) => setup,
        Err(code) => return code,
    };
    if let Some(fault) = target.and_then(|target| missing(target, &setup.checker.pools)) {
        complain(&format!("error: {fault} in {}", config.display()));
        return ExitCode::FAILURE;
    }
    let Some(probed) = block_on(probe_all(&setup.checker.pools, target)) else { return ExitCode::FAILURE };
    print(&if json { to_json(&probed) } else { to_text(&probed, has_color(&io::stdout())) });
    let all_healthy = probed.iter().all(|row| matches!(row.verdict, Verdict::Healthy | Verdict::Disabled));
    if all_healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is wrong with a target that the configuration does not have.
fn missing(target: &Target, pools: &[PoolSetup]) -> Option<String> {
    let names = |names: Vec<&str>| if names.is_empty() { "none".into() } else { names.join(", ") };
    let Some(found) = pools.iter().find(|setup| setup.pool.name == target.pool) else {
        let known = names(pools.iter().map(|setup| setup.pool.name.as_str()).collect());
        return Some(format!("there is no pool `{}` (pools: {known})", target.pool));
    };
    let backend = target.backend.as_deref()?;
    let known: Vec<&str> = found.pool.backends.iter().map(|backend| backend.name.as_str()).collect();
    (!known.contains(&backend)).then(|| {
        format!("there is no backend `{backend}` in the pool `{}` (backends: {})", target.pool, names(known))
    })
}

/// Runs the checks of all chosen addresses side by side; the order is that of the configuration.
async fn probe_all(pools: &[PoolSetup], target: Option<&Target>) -> Vec<Probed> {
    let places = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let mut started = Vec::new();
    for PoolSetup { pool, checks, .. } in pools {
        if target.is_some_and(|target| target.pool != pool.name) {
            continue;
        }
        for backend in &pool.backends {
            if target.and_then(|target| target.backend.as_ref()).is_some_and(|name| *name != backend.name) {
                continue;
            }
            for &address in &backend.addresses {
                let check = checks.first().cloned();
                let task = check
                    .clone()
                    .filter(|_| backend.enabled)
                    .map(|check| tokio::spawn(probe_one(check, address, Arc::clone(&places))));
                let row = Probed {
                    pool: pool.name.clone(),
                    backend: backend.name.clone(),
                    address,
                    check: check.as_ref().map(|check| check.probe.kind()),
                    // A pool without a check is always healthy.
                    verdict: if backend.enabled { Verdict::Healthy } else { Verdict::Disabled },
                    report: None,
                };
                started.push((row, task));
            }
        }
    }
    let mut probed = Vec::with_capacity(started.len());
    for (mut row, task) in started {
        if let Some(task) = task {
            row.report = task.await.ok();
            row.verdict = match row.report.as_ref().map(|report| report.outcome) {
                Some(Outcome::Passed) => Verdict::Healthy,
                Some(Outcome::Draining) => Verdict::Draining,
                Some(Outcome::Failed) => Verdict::Unhealthy,
                Some(Outcome::Void) | None => Verdict::Unknown,
            };
        }
        probed.push(row);
    }
    probed
}

async fn probe_one(check: Check, address: IpAddr, places: Arc<Semaphore>) -> Report {
    // The semaphore is never closed; if it were, the probe could still be run.
    let _place = places.acquire().await;
    check.probe.run(address, check.timing.timeout).await
}

impl Probed {
    fn detail(&self) -> &str {
        match (&self.report, self.verdict) {
            (Some(report), _) => &report.detail,
            (None, Verdict::Healthy) => "no check: always healthy",
            (None, Verdict::Disabled) => "not enabled: neither probed nor answered",
            (None, _) => "the probe broke off; this is a fault in steerd",
        }
    }
}

fn to_text(probed: &[Probed], color: bool) -> String {
    let headings = ["POOL", "BACKEND", "ADDRESS", "CHECK", "VERDICT", "TIME", "DETAIL", "PHASES"];
    let mut rows = vec![headings.map(Cell::plain).to_vec()];
    for row in probed {
        let (verdict, tone) = match row.verdict {
            Verdict::Healthy => ("healthy", Tone::Good),
            Verdict::Draining => ("draining", Tone::Bad),
            Verdict::Unhealthy => ("unhealthy", Tone::Bad),
            Verdict::Unknown => ("unknown", Tone::Bad),
            Verdict::Disabled => ("disabled", Tone::Plain),
        };
        let time = row.report.as_ref().map_or_else(String::new, |report| shown(report.duration));
        let phases = row.report.iter().flat_map(|report| &report.phases);
        let phases: Vec<String> = phases.map(|(name, took)| format!("{name} {}", shown(*took))).collect();
        rows.push(vec![
            Cell::plain(&row.pool),
            Cell::plain(&row.backend),
            Cell::plain(&row.address.to_string()),
            Cell::plain(row.check.unwrap_or("none")),
            Cell::new(verdict, tone),
            Cell::plain(&time),
            Cell::plain(row.detail()),
            Cell::plain(&phases.join(", ")),
        ]);
    }
    let mut text = columns::render(&rows, color);
    let count = |verdict| probed.iter().filter(|row| row.verdict == verdict).count();
    // Writing to a string cannot fail.
    let _ = write!(text, "\n\n{} healthy, {} unhealthy", count(Verdict::Healthy), count(Verdict::Unhealthy));
    for (verdict, words) in [(Verdict::Unknown, "without a verdict"), (Verdict::Disabled, "disabled")] {
        if count(verdict) > 0 {
            let _ = write!(text, ", {} {words}", count(verdict));
        }
    }
    text
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn shown(duration: Duration) -> String {
    format!("{:.1} ms", milliseconds(duration))
}

fn to_json(probed: &[Probed]) -> String {
    #[derive(Serialize)]
    struct Row<'a> {
        pool: &'a str,
        backend: &'a str,
        address: IpAddr,
        check: Option<&'static str>,
        verdict: Verdict,
        duration_ms: Option<f64>,
        phases: Vec<Phase>,
        detail: &'a str,
    }
    #[derive(Serialize)]
    struct Phase {
        name: &'static str,
        duration_ms: f64,
    }
    let rows: Vec<Row<'_>> = probed
        .iter()
        .map(|row| Row {
            pool: &row.pool,
            backend: &row.backend,
            address: row.address,
            check: row.check,
            verdict: row.verdict,
            duration_ms: row.report.as_ref().map(|report| milliseconds(report.duration)),
            phases: row
                .report
                .iter()
                .flat_map(|report| &report.phases)
                .map(|&(name, took)| Phase { name, duration_ms: milliseconds(took) })
                .collect(),
            detail: row.detail(),
        })
        .collect();
    // Strings, numbers and addresses always have a JSON form.
    serde_json::to_string_pretty(&rows).unwrap_or_default()
}
