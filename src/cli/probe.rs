//! `steerd probe`: runs the checks of the configuration once, without a server. If a server runs, `held` asks it
//! which addresses are held by damping.

mod held;

use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::check::{Check, PoolSetup};
use crate::cli::columns::{self, Cell, Tone};
use crate::cli::{block_on, complain, has_color, is_toml, load, print_as_it_is, print_json};
use crate::fleet::combine;
use crate::health::{Outcome, Verdict};
use crate::pool::{Backend, Require};
use crate::probe::{self, Cause, Report};

/// Maximum number of probes in flight: below the usual limit of 1,024 descriptors in a shell.
const MAX_IN_FLIGHT: usize = 256;

/// The target to probe: a pool, or one backend of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProbeSelection {
    pool: String,
    backend: Option<String>,
}

impl FromStr for ProbeSelection {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (pool, backend) = match text.split_once('/') {
            Some((pool, backend)) => (pool, Some(backend)),
            None => (text, None),
        };
        if pool.is_empty() || backend.is_some_and(str::is_empty) {
            return Err("expected the name of a pool, or POOL/BACKEND");
        }
        if is_toml(text) {
            return Err("expected the name of a pool, or POOL/BACKEND; give a configuration file with -c");
        }
        Ok(Self { pool: pool.into(), backend: backend.map(Into::into) })
    }
}

/// One address of a backend with the results of its checks.
struct Probed {
    pool: String,
    backend: String,
    address: IpAddr,
    /// The probed address: the backend's `check_address` if it is set.
    target: IpAddr,
    word: Word,
    /// When the hold by damping in a running server ends.
    held_until: Option<Timestamp>,
    /// Empty if the pool has no checks or the backend is not enabled.
    checks: Vec<CheckRun>,
}

/// A check and its result.
struct CheckRun {
    check: Check,
    /// `None` if the probe panicked, which is a bug in steerd.
    report: Option<Report>,
}

/// The combined result of the checks of an address; each check decides by its first outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Healthy,
    /// Alive, but wants no new clients.
    Draining,
    Unhealthy,
    /// Too many probes were void.
    Unknown,
    /// The backend is not enabled.
    Disabled,
}

pub(super) fn run(config: &Path, target: Option<&ProbeSelection>, json: bool) -> ExitCode {
    let setup = match load(config) {
        Ok(setup) => setup,
        Err(code) => return code,
    };
    if let Some(fault) = target.and_then(|target| missing(target, &setup.served.pools)) {
        complain(&format!("error: {fault} in {}", config.display()));
        return ExitCode::FAILURE;
    }
    let probing = async {
        let mut probed = probe_all(&setup.served.pools, target).await;
        let server = held::mark(&mut probed, config).await;
        (probed, server)
    };
    let Some((probed, server)) = block_on(probing) else { return ExitCode::FAILURE };
    if json {
        print_json(&to_json(&probed));
    } else {
        let mut text = to_text(&probed, has_color(&io::stdout()));
        text.extend(server.and_then(|server| held::told(&probed, &server)));
        print_as_it_is(&text);
    }
    let all_healthy = probed.iter().all(|row| matches!(row.word, Word::Healthy | Word::Disabled));
    if all_healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The error if the configuration does not have the target.
fn missing(target: &ProbeSelection, pools: &[PoolSetup]) -> Option<String> {
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

/// Runs the checks of all chosen addresses concurrently. The result is in configuration order.
async fn probe_all(pools: &[PoolSetup], target: Option<&ProbeSelection>) -> Vec<Probed> {
    let places = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let mut started = Vec::new();
    for setup in pools.iter().filter(|setup| target.is_none_or(|target| target.pool == setup.pool.name)) {
        let name = target.and_then(|target| target.backend.as_ref());
        let chosen = |backend: &&Backend| name.is_none_or(|name| *name == backend.name);
        for backend in setup.pool.backends.iter().filter(chosen) {
            for &address in &backend.addresses {
                let target = backend.check_address.unwrap_or(address);
                let checks = if backend.enabled { setup.checks.as_slice() } else { &[] };
                let runs = checks.iter().map(|check| start(of_backend(check, backend), target, &places));
                started.push((setup, backend, address, target, runs.collect::<Vec<_>>()));
            }
        }
    }
    let mut probed = Vec::with_capacity(started.len());
    for (setup, backend, address, target, runs) in started {
        let mut checks = Vec::with_capacity(runs.len());
        for (check, task) in runs {
            checks.push(CheckRun { check, report: task.await.ok() });
        }
        let word = if backend.enabled { word(setup.require, &checks) } else { Word::Disabled };
        let (pool, backend) = (setup.pool.name.clone(), backend.name.clone());
        probed.push(Probed { pool, backend, address, target, word, held_until: None, checks });
    }
    probed
}

/// The check with the port and host of a backend.
fn of_backend(check: &Check, backend: &Backend) -> Check {
    Check { probe: check.probe.of_backend(backend), ..check.clone() }
}

fn start(check: Check, target: IpAddr, places: &Arc<Semaphore>) -> (Check, JoinHandle<Report>) {
    let (shared, places) = (check.clone(), Arc::clone(places));
    let task = tokio::spawn(async move {
        // The semaphore is never closed. Even if it were, the probe could run.
        let _place = places.acquire().await;
        probe::run(&shared.probe, target, shared.timing.timeout).await
    });
    (check, task)
}

fn word(require: Require, runs: &[CheckRun]) -> Word {
    let said = |run: &CheckRun| match run.report.as_ref().map(|report| report.outcome) {
        Some(Outcome::Passed) => Some(Verdict::Healthy),
        Some(Outcome::Draining) => Some(Verdict::Draining),
        Some(Outcome::Failed) => Some(Verdict::Unhealthy),
        Some(Outcome::Void) | None => None,
    };
    let checks = runs.iter().map(|run| (said(run), run.check.critical, run.check.observe_only));
    match combine(require, checks) {
        Some(Verdict::Healthy) => Word::Healthy,
        Some(Verdict::Draining) => Word::Draining,
        Some(Verdict::Unhealthy) => Word::Unhealthy,
        None => Word::Unknown,
    }
}

impl Word {
    fn shown(self) -> (&'static str, Tone) {
        match self {
            Self::Healthy => ("healthy", Tone::Good),
            Self::Draining => ("draining", Tone::Bad),
            Self::Unhealthy => ("unhealthy", Tone::Bad),
            Self::Unknown => ("unknown", Tone::Bad),
            Self::Disabled => ("disabled", Tone::Plain),
        }
    }
}

impl CheckRun {
    fn outcome(&self) -> (&'static str, Tone) {
        match self.report.as_ref().map(|report| report.outcome) {
            Some(Outcome::Passed) => ("passed", Tone::Good),
            Some(Outcome::Draining) => ("draining", Tone::Bad),
            Some(Outcome::Failed) => ("failed", Tone::Bad),
            Some(Outcome::Void) | None => ("void", Tone::Bad),
        }
    }

    fn detail(&self) -> &str {
        self.report
            .as_ref()
            .map_or("the probe panicked; this is a bug in steerd, please report it", |report| &report.detail)
    }

    /// Its name, and how it counts in the decision.
    fn shown(&self) -> String {
        let Check { name, critical, observe_only, .. } = &self.check;
        match (critical, observe_only) {
            (true, _) => format!("{name} (critical)"),
            (_, true) => format!("{name} (observed)"),
            _ => name.clone(),
        }
    }
}

/// One row per check; each row has the verdict of its address.
fn to_text(probed: &[Probed], color: bool) -> String {
    let headings = ["POOL", "BACKEND", "ADDRESS", "VERDICT", "CHECK", "OUTCOME", "TIME", "DETAIL", "PHASES"];
    let mut rows = vec![headings.map(Cell::plain).to_vec()];
    for row in probed {
        let address = if row.target == row.address {
            row.address.to_string()
        } else {
            format!("{} (probed at {})", row.address, row.target)
        };
        let (verdict, tone) = row.word.shown();
        let of_address = [
            Cell::plain(&row.pool),
            Cell::plain(&row.backend),
            Cell::plain(&address),
            Cell::new(verdict, tone),
        ];
        if row.checks.is_empty() {
            let detail = match row.word {
                Word::Disabled => "not enabled: not probed and not answered",
                _ => "no check: always healthy",
            };
            let of_check = ["none", "", "", detail].map(Cell::plain);
            rows.push(of_address.into_iter().chain(of_check).collect());
            continue;
        }
        for run in &row.checks {
            let (outcome, tone) = run.outcome();
            let time = run.report.as_ref().map_or_else(String::new, |report| shown(report.duration));
            let phases = run.report.iter().flat_map(|report| &report.phases);
            let phases: Vec<String> = phases.map(|(name, took)| format!("{name} {}", shown(*took))).collect();
            let of_check = [
                Cell::plain(&run.shown()),
                Cell::new(outcome, tone),
                Cell::plain(&time),
                Cell::plain(run.detail()),
                Cell::plain(&phases.join(", ")),
            ];
            rows.push(of_address.iter().cloned().chain(of_check).collect());
        }
    }
    let mut text = columns::render(&rows, color);
    let count = |word| probed.iter().filter(|row| row.word == word).count();
    // Writing to a string cannot fail.
    let _ = write!(text, "\n\n{} healthy, {} unhealthy", count(Word::Healthy), count(Word::Unhealthy));
    for (word, words) in
        [(Word::Draining, "draining"), (Word::Unknown, "without a verdict"), (Word::Disabled, "disabled")]
    {
        if count(word) > 0 {
            let _ = write!(text, ", {} {words}", count(word));
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
        probed_address: IpAddr,
        verdict: Word,
        held_until: Option<Timestamp>,
        checks: Vec<CheckRow<'a>>,
    }
    #[derive(Serialize)]
    struct CheckRow<'a> {
        name: &'a str,
        r#type: &'static str,
        critical: bool,
        observe_only: bool,
        outcome: &'static str,
        cause: Option<&'static str>,
        detail: &'a str,
        load: Option<u8>,
        certificate_expires: Option<Timestamp>,
        duration_ms: Option<f64>,
        phases: Vec<PhaseRow>,
    }
    #[derive(Serialize)]
    struct PhaseRow {
        name: &'static str,
        duration_ms: f64,
    }
    fn check_row(run: &CheckRun) -> CheckRow<'_> {
        let CheckRun { check, report } = run;
        let phase =
            |&(name, took): &(&'static str, Duration)| PhaseRow { name, duration_ms: milliseconds(took) };
        CheckRow {
            name: &check.name,
            r#type: check.probe.kind(),
            critical: check.critical,
            observe_only: check.observe_only,
            outcome: run.outcome().0,
            cause: report.as_ref().and_then(|report| report.cause).map(Cause::as_str),
            detail: run.detail(),
            load: report.as_ref().and_then(|report| report.load),
            certificate_expires: report
                .as_ref()
                .and_then(|report| Timestamp::try_from(report.certificate_expires?).ok()),
            duration_ms: report.as_ref().map(|report| milliseconds(report.duration)),
            phases: report.iter().flat_map(|report| &report.phases).map(phase).collect(),
        }
    }
    let rows: Vec<Row<'_>> = probed
        .iter()
        .map(|row| Row {
            pool: &row.pool,
            backend: &row.backend,
            address: row.address,
            probed_address: row.target,
            verdict: row.word,
            held_until: row.held_until,
            checks: row.checks.iter().map(check_row).collect(),
        })
        .collect();
    // Strings, numbers and addresses always have a JSON form.
    serde_json::to_string_pretty(&rows).unwrap_or_default()
}

#[cfg(test)]
mod tests;
