//! The signals of the process. Their effects are those of `server`, `reload` and `upgrade`.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// The signals that the server handles.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    upgrade: Signal,
}

impl Signals {
    /// Replaces the default actions of the signals, which would end the process at once.
    ///
    /// # Errors
    /// If a handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    /// Returns on SIGTERM or SIGINT. Other signals that arrive meanwhile are kept for [`Signals::stop_or`].
    pub async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => info!("SIGTERM: stopping"),
            _ = self.interrupt.recv() => info!("SIGINT: stopping"),
        }
    }

    /// Like [`Signals::stop`], but calls `reload` on each SIGHUP, and `upgrade` on each SIGUSR2.
    pub async fn stop_or(&mut self, reload: impl Fn(), upgrade: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return info!("SIGTERM: stopping"),
                _ = self.interrupt.recv() => return info!("SIGINT: stopping"),
                _ = self.hang_up.recv() => reload(),
                _ = self.upgrade.recv() => upgrade(),
            }
        }
    }
}
