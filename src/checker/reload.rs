//! Another configuration, compared with the running one outside of the checker's thread.
//!
//! ```text
//! on the caller's side   ask for the configuration that runs -> compare -> share what is the same
//! between two turns      take over the pools that are not shared -> judge them -> publish one table
//! on the caller's side   free what is not used any more
//! ```
//!
//! Comparing a million records, or freeing a hundred thousand backends, takes longer than a probe may wait.

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::checker::{Command, Handle};
use crate::fleet::{Difference, Reloaded, Setup, compare};

/// Why a configuration has not been taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReloaded {
    /// The checker has ended.
    #[error("the health checker has ended")]
    Ended,
    /// To compare it broke off.
    #[error("comparing the configurations broke off")]
    BrokeOff,
}

impl Handle {
    /// Goes on with another configuration; says what differs. Without a difference nothing happens.
    /// `by` is the one who asks, for the log. `memory` and `startup_wait` of the setup are not looked at. Must be called within a tokio
    /// runtime, by one caller at a time.
    ///
    /// # Errors
    /// When nothing has changed: why.
    pub async fn reload(&self, setup: Setup, by: &str) -> Result<Difference, NotReloaded> {
        let running = self.ask(Command::Configuration).await?;
        let by = by.to_owned();
        let compare = move || {
            let (wanted, difference) = compare(&running, setup, by);
            (running, wanted, difference)
        };
        let compared = spawn_blocking(compare).await.map_err(|_| NotReloaded::BrokeOff)?;
        let (running, wanted, difference) = compared;
        let reloaded = if difference.is_empty() {
            Reloaded { generation: running.table.generation, lost: Vec::new() }
        } else {
            self.ask(|reply| Command::Reload(Box::new(wanted), reply)).await?
        };
        spawn_blocking(move || drop(running));
        Ok(difference.with(reloaded))
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, NotReloaded> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| NotReloaded::Ended)?;
        answer.await.map_err(|_| NotReloaded::Ended)
    }
}
