//! One process replaces another without losing a query.
//!
//! This room has the protocol between the two, and both of its ends. Which parts of the server are handed over, and
//! when they start and stop, is in `server`.
//!
//! ```text
//! process that serves (Successor)             process that takes over (Predecessor)
//!
//! start the program  ---------------------->
//!                    <----------------------  Hello
//! Descriptors: sockets, the lock of state_dir ->
//!                                             load the configuration, bind new ports
//!                    <----------------------  Bound
//! from here on, no reload and no override
//! State: health and overrides  ------------->
//!                                             compile the table, start to probe
//!                    <----------------------  Ready
//! Answer  ---------------------------------->
//!                                             bind sockets that share a port, answer DNS
//!                    <----------------------  Answering
//! stop reading queries
//! Connection, for each open one  ----------->  serve it
//! ask a query on each address, again and again
//! Commit: counters  ------------------------>
//!                                             state_dir, admin server, alerts
//!                    <----------------------  Committed
//! end
//! ```
//!
//! Both processes have the same sockets, and both read between `Answering` and the next step. Until `Committed`, the end
//! of the new process makes the old one read again, and the end of the old one ends the new one.

mod channel;
mod message;
mod predecessor;
mod successor;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, mpsc, oneshot};

use crate::audit::Author;
use crate::printable::quoted;

pub use predecessor::{Conversation, HandOverStep, Handed, Predecessor};
pub use successor::{Descriptors, Successor};

/// The environment variable that makes a process take over from the one at the other end of its standard input.
pub const TAKE_OVER: &str = "STEERD_TAKE_OVER";

/// The report of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeReport {
    /// The process that serves now.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// How long the upgrade took.
    pub took: Duration,
    /// The number of DNS connections that it has taken over.
    pub connections: usize,
    /// Says so if the process before ran a configuration other than that of the files on disk.
    pub warning: Option<String>,
}

/// Why an upgrade did not happen. The process that received the request goes on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeRefused {
    /// The end of the first process of a container ends the container.
    #[error(
        "steerd is process 1 of its container, so another process cannot replace it: replace the container instead, \
         one instance after the other"
    )]
    FirstProcess,
    /// DNS is not answered yet, or not any more.
    #[error("steerd does not answer DNS now, so there is nothing to hand over; try again when it is ready")]
    NotServing,
    /// Another upgrade is under way, or the server is stopping.
    #[error("another upgrade is under way, or steerd is stopping")]
    Busy,
    /// The program cannot be started.
    #[error("{} cannot be started: {error}; this process goes on", quoted(&.program.to_string_lossy()))]
    NotStarted {
        /// The program.
        program: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The new process speaks another protocol.
    #[error(
        "steerd {version} cannot take over from this version (its protocol is {protocol}, this one's is {}): restart \
         steerd instead; this process goes on",
        message::PROTOCOL
    )]
    Protocol {
        /// Its protocol.
        protocol: u32,
        /// Its version.
        version: String,
    },
    /// The new process has given a reason.
    #[error("the new process gave up: {0}; this process goes on")]
    GaveUp(String),
    /// The new process has ended.
    #[error("the new process ended while it was to {step}{}; this process goes on", ended.as_ref().map_or_else(String::new, |status| format!(" ({status})")))]
    Ended {
        /// Its step at that time.
        step: &'static str,
        /// Its exit status, if it has one.
        ended: Option<std::process::ExitStatus>,
    },
    /// The new process is too slow.
    #[error("the new process took longer than {limit:?} to {step}, so it was ended; this process goes on")]
    Slow {
        /// Its step at that time.
        step: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The new process answers no query.
    #[error("the new process answers no query on {0}, so it was ended; this process goes on")]
    Silent(std::net::SocketAddr),
    /// The messages or descriptors could not be exchanged.
    #[error("the new process could not be told to {step}: {error}; this process goes on")]
    Channel {
        /// Its next step.
        step: &'static str,
        /// The system's error.
        error: std::io::Error,
    },
    /// This process could not collect its state.
    #[error("the state of this process could not be collected: {0}; this process goes on")]
    State(String),
}

impl UpgradeRefused {
    /// Whether the new process has failed, so that a restart may fail in the same way.
    #[must_use]
    pub fn is_of_new_process(&self) -> bool {
        match self {
            Self::NotStarted { .. }
            | Self::GaveUp(_)
            | Self::Ended { .. }
            | Self::Slow { .. }
            | Self::Silent(_)
            | Self::Channel { .. } => true,
            Self::FirstProcess | Self::NotServing | Self::Busy | Self::Protocol { .. } | Self::State(_) => {
                false
            }
        }
    }
}

/// The program of this process, to start it again.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// The program that this process was started with. A path is kept as it was given or found in `PATH`, also a link,
    /// because the file may be another one by then.
    #[must_use]
    pub fn of_this_process() -> Self {
        let mut arguments = std::env::args_os();
        let own = std::env::current_exe().ok();
        let given = arguments.next().map(PathBuf::from).and_then(|given| {
            if given.components().count() > 1 {
                return std::path::absolute(given).ok();
            }
            let places = std::env::var_os("PATH")?;
            let mut paths = std::env::split_paths(&places).map(|place| place.join(&given));
            // Another program of the name is not this one.
            paths.find(|path| path.is_absolute() && path.canonicalize().ok() == own)
        });
        Self { path: given.or(own).unwrap_or_default(), arguments: arguments.collect() }
    }
}

/// A request for an upgrade.
#[derive(Debug)]
pub struct UpgradeRequest {
    /// The client.
    pub by: Author,
    /// Takes the outcome.
    pub reply: oneshot::Sender<Result<UpgradeReport, UpgradeRefused>>,
}

/// Requests upgrades.
#[derive(Clone, Debug)]
pub struct UpgradeHandle(mpsc::Sender<UpgradeRequest>);

impl UpgradeHandle {
    /// A handle, and its requests in order.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<UpgradeRequest>) {
        let (sender, requests) = mpsc::channel(1);
        (Self(sender), requests)
    }

    /// Upgrades, and waits for the outcome. `by` is the client.
    ///
    /// # Errors
    /// Why this process goes on.
    pub async fn upgrade(&self, by: Author) -> Result<UpgradeReport, UpgradeRefused> {
        let (reply, outcome) = oneshot::channel();
        self.0.try_send(UpgradeRequest { by, reply }).map_err(|_| UpgradeRefused::Busy)?;
        outcome.await.unwrap_or(Err(UpgradeRefused::Busy))
    }

    /// Requests an upgrade without waiting for it.
    pub fn signal(&self) {
        let (reply, _) = oneshot::channel();
        let _ = self.0.try_send(UpgradeRequest { by: Author::named("SIGUSR2"), reply });
    }
}

/// Keeps operators' changes out while the state is handed over: the new process would not have them.
#[derive(Clone, Debug, Default)]
pub struct ChangeGate(Arc<RwLock<()>>);

impl ChangeGate {
    /// Permission for a change; none while an upgrade is under way.
    #[must_use]
    pub fn begin(&self) -> Option<OwnedRwLockReadGuard<()>> {
        Arc::clone(&self.0).try_read_owned().ok()
    }

    /// Waits for the changes under way, and refuses others while the guard exists.
    pub async fn hold(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.0).write_owned().await
    }
}
