//! `steerd serve`: runs the server until a signal or a failure ends it.

mod last_good;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use last_good::LastGood;
use tracing::{error, field, info, warn};

use crate::cli::{Log, has_color, hint_for_missing, lines, no_runtime, try_block_on};
use crate::config::fault::{ConfigFault, ConfigFaults, Severity};
use crate::config::{self, Setup};
use crate::file::Reading;
use crate::served::Served;
use crate::server::{self, Attention, Ended, Server, Signals, StartError};
use crate::sys::process::{hang_up, terminate};
use crate::upgrade::{Predecessor, UpgradeRequest};

/// Maximum number of configuration faults that are logged.
const MOST_TOLD: usize = 100;

/// The beginning of the reason why an earlier configuration cannot be used.
const NO_EARLIER: &str = "no start with an earlier configuration";

/// Why a server ended without a signal.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It failed while running.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// Signals could not be handled, so it did not start.
    #[error("cannot install signal handlers: {0}")]
    Signals(#[from] io::Error),
}

pub(super) fn run(config: &Path, log: &Log) -> ExitCode {
    let predecessor = match Predecessor::from_environment() {
        Ok(predecessor) => predecessor,
        Err(error) => {
            let text =
                format!("cannot take over: standard input is not the socket of a running steerd: {error}");
            log.last_words(&lines(&format!("error: {text}")), || error!("{text}"));
            return ExitCode::FAILURE;
        }
    };
    let reading = Arc::new(Reading::recorded());
    let (setup, faults) = match config::load_by(&reading, config) {
        Ok(setup) => (setup, None),
        Err(faults) => {
            // A server that runs is better than an earlier configuration.
            let LastGood { setup, failed } =
                if predecessor.is_some() { LastGood::default() } else { last_good::find(config, &faults) };
            let Some(mut setup) = setup else {
                if let Some(predecessor) = &predecessor {
                    predecessor.give_up(told_in_one(&faults));
                }
                let hint = hint_for_missing(config);
                let help = hint.map_or_else(String::new, |hint| format!("\nhelp: {hint}"));
                let mut text = faults.render(has_color(&io::stderr())) + &help;
                for reason in &failed {
                    text.extend(["\n", NO_EARLIER, ": ", reason]);
                }
                log.last_words(&text, || {
                    tell_faults(&faults, hint);
                    tell_failed(&failed);
                });
                return ExitCode::FAILURE;
            };
            setup.files.add_looked_at(reading.record());
            (*setup, Some((faults, failed)))
        }
    };
    let complain = |text: &str| log.last_words(&lines(&format!("error: {text}")), || error!("{text}"));
    let flush = match log.start() {
        Ok(flush) => flush,
        Err(error) => {
            complain(&format!("cannot start the thread of the log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    if let Some((faults, failed)) = faults {
        tell_faults(&faults, None);
        tell_failed(&failed);
    }
    let outcome = try_block_on(until_stopped(setup, Some(config.into()), predecessor, |_| ()));
    // The error that ended the server is printed after the log lines that precede it.
    flush.wait();
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            complain(&failure.to_string());
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&no_runtime(&error));
            ExitCode::FAILURE
        }
    }
}

/// Logs why earlier configurations cannot be used.
fn tell_failed(failed: &[String]) {
    for reason in failed {
        error!(reason, "{NO_EARLIER}");
    }
}

/// The first error of a configuration, and how many there are.
fn told_in_one(faults: &ConfigFaults) -> String {
    let first = faults.errors().next().map(|fault| format!("{}: {}", fault.location, fault.message));
    let count = faults.errors().count();
    format!("the configuration is not valid ({count} to correct), first {}", first.unwrap_or_default())
}

/// Logs the faults of a configuration, one per line. `help` is for faults without a hint.
fn tell_faults(faults: &ConfigFaults, help: Option<&str>) {
    for ConfigFault { severity, message, location, hint, .. } in faults.iter().take(MOST_TOLD) {
        let hint = hint.as_deref().or(help);
        match severity {
            Severity::Error => error!(hint, "{location}: {message}"),
            Severity::Warning => warn!(hint, "{location}: {message}"),
        }
    }
    match faults.iter().count().checked_sub(MOST_TOLD) {
        None | Some(0) => {}
        Some(more) => error!("and {more} more faults in the configuration"),
    }
}

/// Runs a server until a signal stops it or it fails; after a failure, a process supervisor restarts it.
/// SIGHUP reloads `file`. `started` is called once DNS is answered.
pub(super) async fn until_stopped(
    setup: Setup,
    file: Option<PathBuf>,
    predecessor: Option<Predecessor>,
    started: impl FnOnce(&Server),
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    log_start(&setup, file.as_deref());
    let start = async {
        match predecessor {
            None => server::start(setup, file).await,
            Some(predecessor) => server::take_over(setup, file, predecessor).await,
        }
    };
    let outcome = tokio::select! {
        running = start => attend(running?, &mut signals, started).await,
        () = signals.stop() => Ok(()),
    };
    info!("stopped");
    outcome
}

/// Logs the configuration at the start: the first line of the log.
fn log_start(setup: &Setup, file: Option<&Path>) {
    let Served { catalog, services, pools, .. } = &setup.served;
    let file = file.map(|file| std::path::absolute(file).unwrap_or_else(|_| file.into()));
    info!(
        version = env!("CARGO_PKG_VERSION"),
        file = file.as_deref().map(|file| field::display(file.display())),
        zones = catalog.zones().len(),
        services = services.len(),
        pools = pools.len(),
        backends = pools.iter().map(|pool| pool.pool.backends.len()).sum::<usize>(),
        "steerd starts"
    );
}

/// Ends this process after another one has taken over, and passes on signals that were meant for the one that serves.
async fn leave(running: Server, signals: &mut Signals, reload_wanted: bool, successor: u32) {
    let pass_on = |signal: fn(u32) -> io::Result<()>| {
        if let Err(error) = signal(successor) {
            warn!(pid = successor, %error, "a signal could not be passed on to the new process");
        }
    };
    if reload_wanted {
        pass_on(hang_up);
    }
    let mut leaving = std::pin::pin!(running.leave());
    let stop = tokio::select! {
        () = &mut leaving => false,
        () = signals.stop_or(|| pass_on(hang_up), || ()) => true,
    };
    if stop {
        pass_on(terminate);
        leaving.await;
    }
}

/// Waits until a signal stops a started server, another process takes over, or the server can no longer continue.
async fn attend(
    mut running: Server,
    signals: &mut Signals,
    started: impl FnOnce(&Server),
) -> Result<(), Failure> {
    let (reload, upgrade) = (running.reload.clone(), running.upgrade.clone());
    let answered = tokio::select! {
        () = signals.stop_or(|| reload.signal(), || ()) => None,
        answered = running.answer() => Some(answered),
    };
    match answered {
        Some(Ok(())) => started(&running),
        None => {
            running.stop().await;
            return Ok(());
        }
        Some(Err(error)) => {
            running.stop().await;
            return Err(error.into());
        }
    }
    loop {
        let request = tokio::select! {
            () = signals.stop_or(|| reload.signal(), || upgrade.signal()) => None,
            event = running.next() => Some(event),
        };
        let UpgradeRequest { by, reply } = match request {
            Some(Attention::Upgrade(request)) => request,
            Some(Attention::Failed(failure)) => {
                running.stop().await;
                return Err(failure.into());
            }
            None => {
                running.stop().await;
                return Ok(());
            }
        };
        let reload_wanted = AtomicBool::new(false);
        let upgraded = tokio::select! {
            () = signals.stop_or(|| reload_wanted.store(true, Ordering::Relaxed), || ()) => None,
            upgraded = running.upgrade(&by, &reload_wanted) => Some(upgraded),
        };
        let successor = upgraded.as_ref().and_then(|upgraded| Some(upgraded.as_ref().ok()?.pid));
        if let Some(upgraded) = upgraded {
            // The client may have disconnected.
            let _ = reply.send(upgraded);
        } else {
            running.stop().await;
            return Ok(());
        }
        if let Some(successor) = successor {
            leave(running, signals, reload_wanted.into_inner(), successor).await;
            return Ok(());
        }
        if reload_wanted.into_inner() {
            reload.signal();
        }
    }
}
