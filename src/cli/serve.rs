//! `steerd serve`: the server, from its configuration to its end.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::{Log, block_on, complain, load};
use crate::config::Setup;
use crate::server::{self, Ended, Running, Signals, StartError};

/// Why a server ended otherwise than by a signal.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It could not go on.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// It could not be told to stop, so it did not start.
    #[error("the system gives no signal handlers: {0}")]
    Signals(#[from] io::Error),
}

pub(super) fn run(config: &Path, log: &Log) -> ExitCode {
    let setup = match load(config) {
        Ok(setup) => setup,
        Err(code) => return code,
    };
    let lines = match log.start() {
        Ok(lines) => lines,
        Err(error) => {
            complain(&format!("error: the system gives no thread for the log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = block_on(until_stopped(setup, Some(config.into()), |_| ()));
    // The error that ended the server is printed after all that led to it.
    lines.wait();
    match outcome {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(failure)) => {
            complain(&format!("error: {failure}"));
            ExitCode::FAILURE
        }
        None => ExitCode::FAILURE,
    }
}

/// Runs a server until a signal stops it, or it can no longer do its work: whoever watches over
/// the process then starts it anew. SIGHUP reloads `file`. `started` is called once DNS is answered.
pub(super) async fn until_stopped(
    setup: Setup,
    file: Option<PathBuf>,
    started: impl FnOnce(&Running),
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let running = tokio::select! {
        running = server::start(setup, file) => running?,
        () = signals.stop() => return Ok(()),
    };
    started(&running);
    let outcome = tokio::select! {
        () = signals.stop_or_reload(&running.reload) => Ok(()),
        ended = running.failed() => Err(ended.into()),
    };
    running.stop().await;
    outcome
}
