//! An upgrade, as the process that takes over sees it. The order of the steps is in `upgrade`.

use std::path::PathBuf;
use std::time::SystemTime;

use tokio::task::spawn_blocking;
use tracing::{debug, info};

use crate::admin;
use crate::config::Setup;
use crate::events::tell;
use crate::listener;
use crate::server::handing::audit_entry;
use crate::server::{self, Foundation, Server, StartError};
use crate::state::{self, StateDirectory};
use crate::upgrade::{Conversation, HandOverStep, Handed, Predecessor};

/// Like [`server::start`], with the sockets, the state and the lock of the process that serves. [`Server::answer`]
/// then replaces it.
///
/// # Errors
/// Those of [`server::start`], and if the process that serves ends.
pub async fn take_over(
    setup: Setup,
    file: Option<PathBuf>,
    predecessor: Predecessor,
) -> Result<Server, StartError> {
    let mut talk = predecessor.talk().map_err(|error| StartError::Predecessor(error.to_string()))?;
    let taken = prepare(setup, file, &mut talk).await;
    match taken {
        Ok(mut server) => {
            server.predecessor = Some(talk);
            Ok(server)
        }
        Err(error) => {
            talk.give_up(error.to_string()).await;
            Err(error)
        }
    }
}

async fn prepare(setup: Setup, file: Option<PathBuf>, talk: &mut Conversation) -> Result<Server, StartError> {
    let lost = |error: std::io::Error| StartError::Predecessor(error.to_string());
    let Handed { endpoints, admin, state_dir } = talk.handed().await.map_err(lost)?;
    let bound = listener::bind_after(&setup.server.listen, setup.server.workers, endpoints)?;
    let admin = server::bind_admin(&setup, |wanted| admin::bind_after(&wanted.listen, wanted.socket, admin))?;
    let place = take_directory(setup.server.state_dir.clone(), state_dir).await?;
    let memory = talk.bound(setup.served.startup_wait).await.map_err(lost)?;
    let memory = spawn_blocking(move || state::decode(&memory)).await;
    let memory = memory.map_err(|panic| StartError::Predecessor(panic.to_string()))?.map_err(|reason| {
        StartError::Predecessor(format!("its health and overrides are not understood: {reason}"))
    })?;
    let (states, overrides) = (memory.states.len(), memory.overrides.len());
    info!(states, overrides, "health and overrides are taken over");
    // The other process writes to the directory until it ends.
    let mut server = server::assemble(setup, file, Foundation { bound, admin, place: None, memory })?;
    if let Some(deferred) = &mut server.deferred {
        deferred.place = place;
    }
    Ok(server)
}

/// The state directory with the lock that was handed over. Another directory is locked now.
async fn take_directory(
    wanted: Option<PathBuf>,
    handed: Option<(PathBuf, std::os::fd::OwnedFd)>,
) -> Result<Option<StateDirectory>, StartError> {
    let Some(wanted) = wanted else { return Ok(None) };
    let taking = spawn_blocking(move || {
        let handed = handed.and_then(|(directory, lock)| StateDirectory::taken_over(directory, lock).ok());
        match handed.and_then(|handed| handed.by_path(&wanted)) {
            Some(same) => Ok(same),
            None => match StateDirectory::take(wanted.clone()) {
                // As at a start: nothing is written until it can be locked.
                Err(state::LockError::Refused { .. }) => Ok(StateDirectory::unlocked(wanted)),
                taken => taken,
            },
        }
    });
    let taken = taking.await.map_err(|panic| StartError::Predecessor(panic.to_string()))?;
    Ok(Some(taken?))
}

impl Server {
    /// Answers DNS in place of the process that serves, and takes over everything else when that one commits. Returns
    /// whether a reload was requested meanwhile.
    pub(super) async fn take_over(&mut self, mut talk: Conversation) -> Result<bool, StartError> {
        let lost = |error: std::io::Error| StartError::Predecessor(error.to_string());
        talk.ready().await.map_err(lost)?;
        if let Err(error) = self.serve() {
            talk.give_up(error.to_string()).await;
            return Err(StartError::Listeners(error));
        }
        talk.answering().await.map_err(lost)?;
        let (counters, reload, author) = loop {
            match talk.next().await.map_err(lost)? {
                HandOverStep::Connection(stream) => {
                    if let Some(listeners) = &self.listeners
                        && let Err(error) = listeners.adopt(stream)
                    {
                        debug!(%error, "a connection has ended while it was handed over");
                    }
                }
                HandOverStep::Commit { counters, reload, by } => break (counters, reload, by),
            }
        };
        let metrics = self.metrics.clone();
        let _ = spawn_blocking(move || metrics.go_on_from(&counters)).await;
        if let Err(error) = self.operate() {
            talk.give_up(error.to_string()).await;
            return Err(error);
        }
        talk.committed().await.map_err(lost)?;
        if let Some(listeners) = &mut self.listeners {
            listeners.retire();
        }
        let place = self.keeper.place().borrow().clone();
        if let Some(place) = place {
            let _ = spawn_blocking(move || place.name_holder()).await;
        }
        let version = env!("CARGO_PKG_VERSION");
        self.audit.note(audit_entry(author, version, None));
        tell!(
            self.events.at(SystemTime::now()),
            info,
            Server,
            pid = std::process::id(),
            version,
            "this process has taken over from the one before it"
        );
        // Until then, systemd takes messages only from the other process.
        talk.left().await;
        Ok(reload)
    }
}
