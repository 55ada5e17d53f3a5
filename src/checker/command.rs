//! Commands to the checker, and its replies.

use tokio::sync::oneshot;

use crate::fleet::{
    BulkOverridden, BulkRefused, BulkRequest, ChangeRefused, ChangeRequest, ConditionsRequest, Configuration,
    Consequence, Cursor, ExplainRequest, Explanation, FleetConditions, Memory, MemoryChanges,
    NewConfiguration, Overridden, OverrideRefused, OverrideRequest, Piece, Reloaded, ServiceChanged,
    ServiceRefused, ServiceRequest, Survey,
};
use crate::rules::RuleTables;

/// Commands to the checker.
#[derive(Debug)]
pub enum CheckerCommand {
    /// Reports the state of some backends; none if another configuration is in force since the table of the cursor.
    Tell(Cursor, oneshot::Sender<Option<Piece>>),
    /// Explains the answer to a query.
    Explain(Box<ExplainRequest>, oneshot::Sender<Explanation>),
    /// Returns the conditions for alerts that a table does not show; none if its configuration is not in force.
    Conditions(ConditionsRequest, oneshot::Sender<Option<FleetConditions>>),
    /// Returns the running configuration.
    Configuration(oneshot::Sender<Configuration>),
    /// Switches to another configuration, prepared by `reload`. Unchanged probes keep counters, timers and history.
    Reload(Box<NewConfiguration>, oneshot::Sender<Reloaded>),
    /// Replaces the rule tables. Replies whether they belong to the running configuration.
    RuleTables(RuleTables, oneshot::Sender<bool>),
    /// Sets or ends an operator's override.
    Override(OverrideRequest, oneshot::Sender<Result<Overridden, OverrideRefused>>),
    /// Sets or ends the overrides of several backends, of all or of none.
    OverrideMany(BulkRequest, oneshot::Sender<Result<BulkOverridden, BulkRefused>>),
    /// Lets a service return to its first usable tier, or sets or ends its failover.
    ChangeService(ServiceRequest, oneshot::Sender<Result<ServiceChanged, ServiceRefused>>),
    /// Reports the consequences of a request, and changes nothing.
    Preview(ChangeRequest, oneshot::Sender<Result<Vec<Consequence>, ChangeRefused>>),
    /// Returns the state to keep over a restart, after some seconds. Changes remain recorded.
    Memory(Survey, oneshot::Sender<Memory>),
    /// Returns the changes since the last such command, even if the whole memory was requested.
    MemoryChanges(oneshot::Sender<MemoryChanges>),
}
