//! Switches the fleet to another configuration, and applies only the differences.
//!
//! The new configuration shares all unchanged parts with the running one, so only pools that differ are
//! examined. A target whose probe is unchanged keeps its state, timer, probe in flight and history. A check
//! that has changed keeps its verdict. Counters continue, and overrides stay. Everything takes effect with one
//! table.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::check::PoolSetup;
use crate::fleet::Fleet;
use crate::fleet::failback::{earlier_tiers, recalled_plans};
use crate::fleet::memory::Hints;
use crate::fleet::pools::{Linking, PoolState, Pools};
use crate::fleet::probing::Reason;
use crate::fleet::services::tell_pool;
use crate::fleet::targets::{Linker, Spot};
use crate::pool::{Backend, OverrideValue, Pool, PoolId};
use crate::rules::RuleTable;
#[cfg(test)]
use crate::served::Served;
use crate::service::{Service, ServiceId};
use crate::settings::Settings;
use crate::table::{PoolView, Services, Table};
use crate::zone::Catalog;

/// The running configuration.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The table with the settings, zones and services.
    pub table: Arc<Table>,
    /// Indexed by `PoolId`.
    pub pools: Vec<Arc<PoolSetup>>,
    /// The overrides in force, by name.
    pub overrides: Vec<NamedOverride>,
    /// The failovers in force, by name.
    pub failovers: Vec<NamedFailover>,
}

#[cfg(test)]
impl Configuration {
    /// For tests that replace the checker.
    pub(crate) fn of(served: Served, generation: u64) -> Self {
        let services = Services::new(served.services);
        let (settings, catalog) = (Arc::new(served.settings), Arc::new(served.catalog));
        let rng = SmallRng::seed_from_u64(generation);
        let table = Table::new(generation, settings, catalog, Arc::new(services), [], rng);
        let pools = served.pools.into_iter().map(Arc::new).collect();
        Self { table: Arc::new(table), pools, overrides: Vec::new(), failovers: Vec::new() }
    }
}

/// The configuration to switch to. Parts that it shares with the running one are unchanged.
#[derive(Clone, Debug)]
pub struct NewConfiguration {
    /// Settings for answers apart from zones, services and health.
    pub settings: Settings,
    /// The zones, with services bound to their names.
    pub catalog: Arc<Catalog>,
    /// Indexed by `ServiceId`.
    pub services: Vec<Service>,
    /// Indexed by `RuleTableId`.
    pub rule_tables: Vec<Arc<RuleTable>>,
    /// Indexed by `PoolId`.
    pub pools: Vec<Arc<PoolSetup>>,
    /// The client that requested it, for the log.
    pub by: String,
}

#[cfg(test)]
impl NewConfiguration {
    /// Shares the unchanged pools with the running configuration.
    pub(crate) fn of(running: &Configuration, served: Served) -> Self {
        let share = |setup: PoolSetup| {
            let same = running.pools.iter().find(|known| ***known == setup);
            same.map_or_else(|| Arc::new(setup.clone()), Arc::clone)
        };
        let Served { settings, catalog, services, rule_tables, pools, .. } = served;
        let pools = pools.into_iter().map(share).collect();
        let catalog = Arc::new(catalog);
        Self { settings, catalog, services, rule_tables, pools, by: "a test".into() }
    }
}

/// The result of a reload: the configuration is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The generation of the table that contains it.
    pub generation: u64,
    /// Overrides that ended because their backends are gone.
    pub lost: Vec<NamedOverride>,
    /// Failovers that ended because their services or pools are gone.
    pub lost_failovers: Vec<NamedFailover>,
}

/// A failover by hand, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFailover {
    /// The service's name.
    pub service: Arc<str>,
    /// The pool's name.
    pub pool: Arc<str>,
    /// Why it was set.
    pub reason: Option<String>,
}

/// An override, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedOverride {
    /// The pool's name.
    pub pool: Arc<str>,
    /// The backend's name.
    pub backend: Arc<str>,
    /// The override.
    pub value: OverrideValue,
    /// Why it was set.
    pub reason: Option<String>,
}

/// How a pool differs from the earlier pool with its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PoolChange {
    /// It is the same pool.
    None,
    /// Its probes are the same, so the results of its checks still apply.
    Unprobed,
    /// The pool, its checks or its backends are different.
    Linked,
}

impl PoolChange {
    fn of(old: Option<&PoolState>, wanted: &Arc<PoolSetup>) -> Self {
        match old.map(|old| &old.setup) {
            Some(old) if Arc::ptr_eq(old, wanted) => Self::None,
            Some(old) if is_probed_alike(old, wanted) => Self::Unprobed,
            _ => Self::Linked,
        }
    }
}

/// Whether two pools are probed in the same way and differ only in how their addresses are answered. The
/// patterns have no `..`, so that a new field cannot be forgotten.
fn is_probed_alike(old: &PoolSetup, new: &PoolSetup) -> bool {
    fn probed(backend: &Backend) -> impl PartialEq {
        let Backend { name, addresses, weight: _, enabled, site: _, port, host, check_address } = backend;
        (name, addresses, enabled, port, host, check_address)
    }
    let PoolSetup { pool, checks, require } = new;
    let Pool { name, min_healthy: _, slow_start: _, suspect_self: _, backends } = pool;
    (name, checks, require) == (&old.pool.name, &old.checks, &old.require)
        && backends.iter().map(probed).eq(old.pool.backends.iter().map(probed))
}

impl Fleet {
    /// The running configuration.
    #[must_use]
    pub fn configuration(&self) -> Configuration {
        let pools = self.pools.0.iter().map(|pool| Arc::clone(&pool.setup)).collect();
        let (overrides, failovers) = (self.named_overrides(), self.named_failovers());
        Configuration { table: Arc::clone(&self.table), pools, overrides, failovers }
    }

    /// Switches to another configuration, and builds its table. `rng` spreads the first probes of new targets.
    pub fn reload(&mut self, wanted: NewConfiguration, rng: &mut impl Rng) -> Reloaded {
        self.apply_failovers();
        let before = Arc::clone(&self.table);
        // Resolvers may still have earlier answers with the earlier TTLs.
        for index in 0..self.pools.0.len() {
            let id = PoolId(u32::try_from(index).unwrap_or(u32::MAX));
            let (at, certain_until) = (self.at, self.certain_until(id, &self.table));
            if let Some(pool) = self.pools.0.get_mut(index).filter(|pool| pool.ttl.is_some()) {
                pool.earlier_answers_end = pool.earlier_answers_end.max(pool.answers_end(at, certain_until));
            }
        }
        let NewConfiguration { settings, catalog, services, rule_tables, pools, by } = wanted;
        let earlier_tiers = earlier_tiers(&before, &services);
        self.let_go_of_tiers();
        self.let_go_of_failovers();
        let names: Vec<&str> = pools.iter().map(|setup| setup.pool.name.as_str()).collect();
        let lost_failovers = self.move_failovers(&before, &services, &names, &by);
        let changes: Vec<PoolChange> =
            (0..).zip(&pools).map(|(index, pool)| PoolChange::of(self.pools.0.get(index), pool)).collect();
        let gone = self.pools.0.len() > pools.len();
        let old_names: HashMap<&str, usize> =
            (0..).zip(before.pools().iter()).map(|(index, view)| (&*view.name, index)).collect();
        let relinked: HashSet<PoolId> = (0..)
            .map(PoolId)
            .zip(&changes)
            .filter(|(_, change)| **change == PoolChange::Linked)
            .map(|(id, _)| id)
            .collect();
        let is_linked_anew = gone || !relinked.is_empty();
        let suspected = |setup: &PoolSetup| setup.pool.suspect_self;
        let before_suspected = self.pools.0.iter().map(|pool| suspected(&pool.setup));
        let regroup = is_linked_anew || !before_suspected.eq(pools.iter().map(|setup| suspected(setup)));
        let mut lost = Vec::new();
        if is_linked_anew {
            let overridden = self.let_go_of_overrides();
            self.relink(pools, &relinked, rng);
            self.index_overrides();
            self.note_overrides();
            lost = self.lost_overrides(overridden, &by);
            self.unreported.everything();
            self.metrics.show(&self.pools.0.iter().map(|pool| Arc::clone(&pool.series)).collect());
            self.judge_all(&relinked, &by);
        } else {
            for (pool, setup) in self.pools.0.iter_mut().zip(pools) {
                pool.take_unprobed(setup);
            }
        }
        if regroup {
            self.set_groups();
        }
        self.pools.note_services(services.iter());
        let views = self.pools.iter().zip(&changes).map(|((id, pool), change)| {
            let old =
                old_names.get(pool.setup.pool.name.as_str()).and_then(|index| before.pools().get(*index));
            reloaded_view(pool, old, *change != PoolChange::None || self.touched.contains(&id))
        });
        let views: Vec<Arc<PoolView>> = views.collect();
        for (id, view) in (0..).map(PoolId).zip(&views) {
            self.note_steady(id, view);
        }
        let same_services =
            !is_linked_anew && before.services().iter().map(|view| &view.service).eq(services.iter());
        let services = if same_services {
            Arc::clone(before.services())
        } else {
            Arc::new(Services::with_failovers(services, &self.failovers.shown(self.calendar)))
        };
        let (generation, settings, rng) =
            (before.generation + 1, Arc::new(settings), SmallRng::from_rng(rng));
        let table = Table::new(generation, settings, catalog, services, views, rng)
            .with_rule_tables(rule_tables.into())
            .counting_on(&before);
        let plans = recalled_plans(&table, &earlier_tiers);
        let table = Arc::new(self.with_progress(|progress| table.with_tiers_in_use(plans, progress)));
        self.table = Arc::clone(&table);
        self.note_all_tiers();
        self.note_failovers();
        self.touched.clear();
        let all: BTreeSet<PoolId> = self.pools.iter().map(|(id, _)| id).collect();
        for (id, pool) in self.pools.iter() {
            let old =
                old_names.get(pool.setup.pool.name.as_str()).and_then(|index| before.pools().get(*index));
            if let (Some(old), Some(new)) = (old, table.pool(id))
                && !Arc::ptr_eq(old, new)
            {
                tell_pool(old, new, &pool.tally.to_string(), Some(&by), &self.teller);
            }
        }
        if same_services {
            let services = (0..).map(ServiceId).take(table.services().len());
            self.service_log.look(&before, &table, services, Some(&by), &self.teller);
        } else {
            self.service_log.go_on(&before, &table, Some(&by), &self.teller);
        }
        self.assess_certainty();
        self.publish_certainty(false);
        self.note_safety(&all, &table);
        Reloaded { generation: table.generation, lost, lost_failovers }
    }

    /// Replaces the pools; `relinked` are the pools whose targets may differ.
    fn relink(&mut self, setups: Vec<Arc<PoolSetup>>, relinked: &HashSet<PoolId>, rng: &mut impl Rng) {
        let mut old: Vec<Option<PoolState>> =
            std::mem::take(&mut self.pools.0).into_iter().map(Some).collect();
        let is_kept = |id: &PoolId| id.index() < setups.len() && !relinked.contains(id);
        self.targets.unlink(&(0..).map(PoolId).take(old.len()).filter(|id| !is_kept(id)).collect());
        let names: HashMap<String, usize> =
            old.iter().flatten().map(|pool| pool.setup.pool.name.clone()).zip(0..).collect();
        let hosts = (0..)
            .map(PoolId)
            .zip(&setups)
            .filter(|(id, _)| relinked.contains(id))
            .flat_map(|(_, setup)| hosts(setup))
            .collect();
        let mut linker = Linker::new(&mut self.targets, &mut self.health, self.now, self.at, rng, &hosts);
        // Pools that stay are taken first, so that a pool with another name cannot take their state.
        let kept: Vec<Option<PoolState>> = (0..setups.len())
            .zip((0..).map(PoolId))
            .map(|(index, id)| old.get_mut(index).filter(|_| is_kept(&id)).and_then(Option::take))
            .collect();
        let take = |(id, (setup, kept)): (PoolId, (Arc<PoolSetup>, Option<PoolState>))| match kept {
            Some(mut pool) => {
                pool.take_unprobed(setup);
                pool
            }
            None => {
                let place = names.get(&setup.pool.name).and_then(|index| old.get_mut(*index));
                let linking = Linking {
                    metrics: &self.metrics,
                    linker: &mut linker,
                    hints: &Hints::new(),
                    previous: place.and_then(Option::take),
                };
                PoolState::new(id, setup, linking)
            }
        };
        self.pools = Pools((0..).map(PoolId).zip(setups.into_iter().zip(kept)).map(take).collect());
        self.targets.remove_unused(&mut self.health);
    }

    /// Evaluates all addresses of these pools, and schedules the changes of their shares. Also evaluates
    /// addresses of other pools that share a target without an outcome: the reload may have given it a verdict.
    fn judge_all(&mut self, relinked: &HashSet<PoolId>, by: &str) {
        let detail = Arc::from("the configuration has changed");
        let reason =
            Reason { check: None, detail: &detail, cause: None, consecutive: None, asked_by: Some(by) };
        let pools = self.pools.0.len();
        self.wakes.retain(|wake| wake.0.1.pool.index() < pools && !relinked.contains(&wake.0.1.pool));
        let spots =
            self.pools.iter().filter(|(pool, _)| relinked.contains(pool)).flat_map(|(pool, state)| {
                (0..).zip(&state.backends).flat_map(move |(backend, state)| {
                    let count = u32::try_from(state.addresses.len()).unwrap_or(u32::MAX);
                    (0..count).map(move |address| Spot { pool, backend, address })
                })
            });
        let spots: Vec<Spot> = spots.collect();
        let hinted = self.targets.iter().filter(|(_, target)| target.hint.is_some());
        let sharing: Vec<Spot> = hinted
            .flat_map(|(_, target)| &target.users)
            .map(|user| user.spot)
            .filter(|spot| !relinked.contains(&spot.pool))
            .collect();
        for spot in sharing {
            self.judge(spot, &reason);
        }
        for spot in spots {
            if let Some(address) = self.pools.address_mut(spot) {
                address.wake = None;
            }
            self.judge(spot, &reason);
        }
    }
}

fn reloaded_view(pool: &PoolState, old: Option<&Arc<PoolView>>, changed: bool) -> Arc<PoolView> {
    match old {
        Some(old) if !changed => Arc::clone(old),
        _ => Arc::new(pool.view(old.map(|old| &**old))),
    }
}

/// The destinations of a pool's probes.
fn hosts(setup: &PoolSetup) -> impl Iterator<Item = IpAddr> {
    let of = |backend: &Backend| {
        backend.addresses.iter().copied().chain(backend.check_address).collect::<Vec<_>>()
    };
    setup.pool.backends.iter().flat_map(of)
}
