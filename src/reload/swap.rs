//! Hands a new configuration to the checker.
//!
//! ```text
//! here            get the running configuration -> compare -> share equal parts
//! on its thread   replace the pools that differ -> evaluate them -> publish one table
//! here            free unused parts
//! ```
//!
//! Comparing a million records, or freeing a hundred thousand backends, takes longer than probes may wait, so it
//! happens in this task.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::check::PoolSetup;
use crate::checker::{CheckerCommand, CheckerHandle};
use crate::fleet::{Configuration, NamedFailover, NamedOverride, NewConfiguration, Reloaded};
use crate::reload::named::{Compared, Difference, difference};
use crate::served::Served;
use crate::service::Service;

/// Why a configuration was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotReloaded {
    /// The checker has ended.
    #[error("the health checker has ended")]
    Ended,
    /// The comparison panicked.
    #[error("comparing the configurations panicked; this is a bug in steerd")]
    BrokeOff,
}

/// Makes the checker switch to a new configuration, and returns the differences. Does nothing if there are none.
/// `by` is who requested it, for the log. `startup_wait` is ignored. Only one caller at a time may call this.
///
/// # Errors
/// Why nothing has changed.
pub(super) async fn swap(
    checker: &CheckerHandle,
    served: Served,
    by: &str,
) -> Result<Difference, NotReloaded> {
    let (running, wanted, difference) = compared(checker, served, by).await?;
    let reloaded = if difference.is_empty() {
        Reloaded { generation: running.table.generation, lost: Vec::new(), lost_failovers: Vec::new() }
    } else {
        ask(checker, |reply| CheckerCommand::Reload(Box::new(wanted), reply)).await?
    };
    spawn_blocking(move || drop(running));
    Ok(difference.with(reloaded))
}

/// The differences that [`swap`] would make. Changes nothing.
///
/// # Errors
/// Why they are not known.
pub(super) async fn rehearse(checker: &CheckerHandle, served: Served) -> Result<Difference, NotReloaded> {
    let (running, wanted, difference) = compared(checker, served, "a dry run").await?;
    let generation = running.table.generation;
    let compare = move || {
        let lost = lost(&running, &wanted);
        drop((running, wanted));
        lost
    };
    let (lost, lost_failovers) = spawn_blocking(compare).await.map_err(|_| NotReloaded::BrokeOff)?;
    Ok(difference.with(Reloaded { generation, lost, lost_failovers }))
}

/// Compares a configuration with the running one.
async fn compared(
    checker: &CheckerHandle,
    served: Served,
    by: &str,
) -> Result<(Configuration, NewConfiguration, Difference), NotReloaded> {
    let running = ask(checker, CheckerCommand::Configuration).await?;
    let by = by.to_owned();
    let compare = move || {
        let (wanted, difference) = compare(&running, served, by);
        (running, wanted, difference)
    };
    spawn_blocking(compare).await.map_err(|_| NotReloaded::BrokeOff)
}

/// The overrides and failovers that would end because their backends, services or pools are gone.
fn lost(running: &Configuration, wanted: &NewConfiguration) -> (Vec<NamedOverride>, Vec<NamedFailover>) {
    let pools: HashMap<&str, &PoolSetup> =
        wanted.pools.iter().map(|setup| (setup.pool.name.as_str(), &**setup)).collect();
    let has_backend = |kept: &NamedOverride| {
        let setup = pools.get(&*kept.pool);
        setup.is_some_and(|setup| setup.pool.backends.iter().any(|backend| *backend.name == *kept.backend))
    };
    let has_pool = |kept: &NamedFailover| {
        let service = wanted.services.iter().find(|service| service.name.to_plain() == *kept.service);
        let mut pools = service.map(Service::pools).unwrap_or_default().into_iter();
        pools.any(|id| wanted.pools.get(id.index()).is_some_and(|setup| *setup.pool.name == *kept.pool))
    };
    let overrides = running.overrides.iter().filter(|kept| !has_backend(kept)).cloned();
    let failovers = running.failovers.iter().filter(|kept| !has_pool(kept)).cloned();
    (overrides.collect(), failovers.collect())
}

pub(super) async fn ask<T>(
    checker: &CheckerHandle,
    command: impl FnOnce(oneshot::Sender<T>) -> CheckerCommand,
) -> Result<T, NotReloaded> {
    let (reply, answer) = oneshot::channel();
    checker.commands.send(command(reply)).await.map_err(|_| NotReloaded::Ended)?;
    answer.await.map_err(|_| NotReloaded::Ended)
}

/// The changes that a setup makes, and the setup, which shares all unchanged parts with the running
/// configuration.
fn compare(running: &Configuration, served: Served, by: String) -> (NewConfiguration, Difference) {
    let Served { settings, catalog, services, rule_tables, pools, startup_wait: _ } = served;
    let table = &running.table;
    let old_services: Vec<&Service> = table.services().iter().map(|view| &view.service).collect();
    let old_pools: Vec<&PoolSetup> = running.pools.iter().map(|pool| &**pool).collect();
    let difference = difference(
        Compared {
            settings: &table.settings,
            catalog: &table.catalog,
            services: &old_services,
            rule_tables: table.rule_tables(),
            pools: &old_pools,
        },
        Compared {
            settings: &settings,
            catalog: &catalog,
            services: &services.iter().collect::<Vec<_>>(),
            rule_tables: &rule_tables,
            pools: &pools.iter().collect::<Vec<_>>(),
        },
    );
    // The zones refer to services by their index in the list.
    let same_services =
        old_services.iter().map(|service| &service.name).eq(services.iter().map(|new| &new.name));
    let same_zones = same_services && difference.zones.is_empty();
    let catalog = if same_zones { Arc::clone(&table.catalog) } else { Arc::new(catalog) };
    let by_name: HashMap<&str, &Arc<PoolSetup>> =
        running.pools.iter().map(|setup| (setup.pool.name.as_str(), setup)).collect();
    let share = |setup: PoolSetup| {
        let old = by_name.get(setup.pool.name.as_str()).filter(|old| *old.as_ref() == setup);
        old.map_or_else(|| Arc::new(setup), |old| Arc::clone(old))
    };
    let pools = pools.into_iter().map(share).collect();
    (NewConfiguration { settings, catalog, services, rule_tables, pools, by }, difference)
}
