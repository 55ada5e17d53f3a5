//! Commands to the checker, and its replies.

use tokio::sync::oneshot;

use crate::fleet::{
    Configuration, Cursor, Memory, MemoryChanges, NewConfiguration, Overridden, OverrideRefused,
    OverrideRequest, Piece, Reloaded,
};

/// Commands to the checker.
#[derive(Debug)]
pub enum CheckerCommand {
    /// The state of some backends; none when another configuration has come into force since the
    /// table of that cursor.
    Tell(Cursor, oneshot::Sender<Option<Piece>>),
    /// The configuration that runs.
    Configuration(oneshot::Sender<Configuration>),
    /// To go on with another configuration. Unchanged probes keep their counters, timers and history.
    /// `reload` prepares it and reports what differs.
    Reload(Box<NewConfiguration>, oneshot::Sender<Reloaded>),
    /// To set what an operator says of a backend, or to go back to the checks' word.
    Override(OverrideRequest, oneshot::Sender<Result<Overridden, OverrideRefused>>),
    /// The state worth keeping over a restart, in some seconds. Changes go on being noted meanwhile.
    Memory(oneshot::Sender<Memory>),
    /// The changes since the last such command, whether or not the whole was asked for in between.
    MemoryChanges(oneshot::Sender<MemoryChanges>),
}
