//! Finds the present conditions: in the published table, from the checker, and from reloads.
//!
//! Events wake it, and their content is not read: after a flood, the table still shows what is true.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::alerts::AlertSources;
use crate::alerts::ledger::PresentConditions;
use crate::checker::CheckerCommand;
use crate::fleet::{Condition, ConditionsRequest, ServerFaults, conditions_of_table, unusable_pools};

/// How long it waits for further events after one.
const SETTLE: Duration = Duration::from_millis(300);
/// The shortest time between two looks.
const LEAST: Duration = Duration::from_secs(1);
/// The longest time between two looks: not every change is an event, such as a renewed certificate.
const MOST: Duration = Duration::from_secs(10);

/// The present conditions; none before the first look.
pub(super) type Present = Option<Arc<PresentConditions>>;

/// Follows the present conditions once the server is ready. Ends with the checker.
pub(super) async fn watch(
    sources: &AlertSources,
    mut faults: watch::Receiver<ServerFaults>,
    present: &watch::Sender<Present>,
) {
    let mut ready = sources.checker.ready.clone();
    if ready.wait_for(|ready| *ready).await.is_err() {
        return;
    }
    let mut latest = sources.events.latest();
    loop {
        latest.mark_unchanged();
        let own = faults.borrow_and_update().clone();
        let looked = Instant::now();
        let Some(mut found) = look(sources).await else { return };
        found.extend(own.conditions());
        let found: PresentConditions =
            found.into_iter().map(|condition| (condition.key.clone(), Arc::new(condition))).collect();
        present.send_if_modified(|present| {
            let is_new = present.as_deref() != Some(&found);
            if is_new {
                *present = Some(found.into());
            }
            is_new
        });
        tokio::select! {
            Ok(()) = latest.changed() => {}
            Ok(()) = faults.changed() => {}
            () = sleep(MOST) => {}
        }
        sleep(SETTLE).await;
        sleep_until(looked + LEAST).await;
    }
}

/// The conditions of the table and the fleet; none if the checker has ended.
async fn look(sources: &AlertSources) -> Option<Vec<Condition>> {
    loop {
        let table = sources.checker.published.load();
        let unusable = unusable_pools(&table);
        let request = ConditionsRequest { table: Arc::clone(&table), unusable: unusable.clone() };
        let (reply, told) = oneshot::channel();
        sources.checker.commands.send(CheckerCommand::Conditions(request, reply)).await.ok()?;
        if let Some(fleet) = told.await.ok()? {
            let mut conditions = conditions_of_table(&table, &unusable, &fleet);
            conditions.extend(fleet.conditions);
            return Some(conditions);
        }
        // Another configuration has come into force meanwhile; its table is published at the end of the turn.
        drop(table);
        sleep(SETTLE).await;
    }
}
