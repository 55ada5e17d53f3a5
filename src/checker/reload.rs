//! Another configuration, of which only the difference is carried out.
//!
//! What is the same by its names goes on: a target that is probed alike keeps its machine, its timer,
//! the probe in flight and its history; a check that has changed keeps its verdict; counters go on,
//! overrides stay. All of it becomes one publish.

use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use crate::checker::difference::{Compared, difference};
use crate::checker::memory::Hints;
use crate::checker::overrides::{ON_THE_WAY, tell_lost_override};
use crate::checker::pools::{Linking, PoolState, Pools};
use crate::checker::probing::Reason;
use crate::checker::targets::{Linker, Spot};
use crate::checker::{Checker, Difference, Outside, PoolSetup, Setup};
use crate::counters::Counters;
use crate::pool::PoolId;
use crate::service::Service;
use crate::table::{PoolView, ServiceView, Table};

impl<O: Outside> Checker<O> {
    /// Goes on with another configuration; says what differs. Without a difference nothing happens.
    pub(super) fn reload(&mut self, setup: Setup) -> Difference {
        let before = self.published.load();
        let old_services: Vec<&Service> = before.services.iter().map(|view| &view.service).collect();
        let old_pools: Vec<&PoolSetup> = self.pools.0.iter().map(|pool| &pool.setup).collect();
        let mut difference = difference(
            Compared {
                settings: &before.settings,
                catalog: &before.catalog,
                services: &old_services,
                pools: &old_pools,
            },
            Compared {
                settings: &setup.settings,
                catalog: &setup.catalog,
                services: &setup.services.iter().collect::<Vec<_>>(),
                pools: &setup.pools.iter().collect::<Vec<_>>(),
            },
        );
        difference.generation = before.generation;
        if difference.is_empty() {
            return difference;
        }
        // Answers of before may live on in resolvers with the TTLs of before.
        let wall = self.outside.wall();
        for pool in self.pools.0.iter_mut().filter(|pool| !pool.ttl.is_zero()) {
            pool.earlier_answers_end = pool.earlier_answers_end.max(wall + ON_THE_WAY + pool.ttl);
        }
        let old_names: HashMap<String, usize> =
            by_name(before.pools.iter().map(|view| view.name.to_string()));
        let Setup { settings, catalog, services, pools, .. } = setup;
        let relinked = self.relink(pools);
        self.pools.note_ttls(services.iter());
        self.index_overrides();
        self.set_groups();
        self.metrics.show(&self.pools.0.iter().map(|pool| Arc::clone(&pool.series)).collect());
        for survey in &mut self.surveys {
            survey.restart();
        }
        self.judge_all(&relinked);
        let views = self.pools.iter().map(|(id, pool)| {
            let old = old_names.get(&pool.setup.pool.name).and_then(|index| before.pools.get(*index));
            self.reloaded_view(pool, old, relinked.contains(&id) || self.touched.contains(&id))
        });
        let table = Table {
            generation: before.generation + 1,
            settings: Arc::new(settings),
            catalog: Arc::new(catalog),
            pools: views.collect(),
            services: self.reloaded_services(services, &before),
        };
        difference.generation = table.generation;
        self.published.store(table);
        self.touched.clear();
        let table = self.published.load();
        self.service_log.go_on(&before, &table);
        let all: BTreeSet<PoolId> = self.pools.iter().map(|(id, _)| id).collect();
        self.note_safety(&table, &all);
        difference
    }

    /// Takes up the pools, and says which of them are not simply what they were where they were.
    fn relink(&mut self, setups: Vec<PoolSetup>) -> HashSet<PoolId> {
        let mut old: Vec<Option<PoolState>> =
            std::mem::take(&mut self.pools.0).into_iter().map(Some).collect();
        let is_same = |(index, setup): (usize, &PoolSetup)| {
            old.get(index).and_then(Option::as_ref).is_some_and(|pool| pool.setup == *setup)
        };
        let same: Vec<bool> = setups.iter().enumerate().map(is_same).collect();
        let changed = |index: &usize| !same.get(*index).copied().unwrap_or(false);
        let id = |index: usize| PoolId(u32::try_from(index).unwrap_or(u32::MAX));
        self.targets.unlink(&(0..old.len()).filter(changed).map(id).collect());
        let names = by_name(
            old.iter().map(|pool| pool.as_ref().map(|pool| pool.setup.pool.name.clone()).unwrap_or_default()),
        );
        let (now, wall) = (self.now(), self.outside.wall());
        let mut linker = Linker::new(&mut self.targets, &mut self.health, now, wall, &mut self.rng);
        // Those that stay are taken out first, so that none of another name can take them.
        let mut pools: Vec<Option<PoolState>> = Vec::with_capacity(setups.len());
        for (index, is_same) in same.iter().enumerate() {
            pools.push(old.get_mut(index).filter(|_| *is_same).and_then(Option::take));
        }
        let take = |(index, (setup, pool)): (usize, (PoolSetup, Option<PoolState>))| {
            pool.unwrap_or_else(|| {
                let place = names.get(&setup.pool.name).and_then(|index| old.get_mut(*index));
                let linking = Linking {
                    metrics: &self.metrics,
                    linker: &mut linker,
                    hints: &Hints::new(),
                    previous: place.and_then(Option::take),
                };
                PoolState::new(id(index), setup, linking)
            })
        };
        self.pools = Pools(setups.into_iter().zip(pools).enumerate().map(take).collect());
        self.targets.remove_unused(&mut self.health);
        for pool in old.into_iter().flatten() {
            for (configured, state) in pool.setup.pool.backends.iter().zip(&pool.backends) {
                tell_lost_override(&pool.setup.pool.name, &configured.name, state.overridden.as_deref());
            }
        }
        (0..self.pools.0.len()).filter(changed).map(id).collect()
    }

    /// Judges all addresses of these pools anew, and sets all clocks of shares anew.
    fn judge_all(&mut self, relinked: &HashSet<PoolId>) {
        let (now, wall) = (self.now(), self.outside.wall());
        let detail = Arc::from("the configuration has changed");
        let reason = Reason { check: None, detail: &detail, cause: None, consecutive: None };
        self.wakes = BinaryHeap::new();
        let spots = self.pools.iter().flat_map(|(pool, state)| {
            (0..).zip(&state.backends).flat_map(move |(backend, state)| {
                let count = u32::try_from(state.addresses.len()).unwrap_or(u32::MAX);
                (0..count).map(move |address| Spot { pool, backend, address })
            })
        });
        let spots: Vec<Spot> = spots.collect();
        for spot in spots {
            if let Some(address) = self.pools.address_mut(spot) {
                address.wake = None;
            }
            if relinked.contains(&spot.pool) {
                self.judge(spot, &reason, now, wall);
            } else {
                self.weigh(spot, now);
            }
        }
    }

    fn reloaded_view(&self, pool: &PoolState, old: Option<&Arc<PoolView>>, changed: bool) -> Arc<PoolView> {
        let Some(old) = old else {
            return Arc::new(pool.view(None, PoolView::counters(&pool.setup.pool, self.counter_rows)));
        };
        if !changed {
            return Arc::clone(old);
        }
        let names = || pool.setup.pool.backends.iter().map(|backend| backend.name.as_str());
        let answers = if old.backends.iter().map(|name| &**name).eq(names()) {
            Arc::clone(&old.answers)
        } else {
            let columns: HashMap<&str, usize> =
                old.backends.iter().enumerate().map(|(column, name)| (&**name, column)).collect();
            Arc::new(old.answers.continued(names().map(|name| columns.get(name).copied())))
        };
        Arc::new(pool.view(Some(old), answers))
    }

    /// The services with their counters; those of a service go on by the names of its tiers.
    fn reloaded_services(&self, services: Vec<Service>, before: &Table) -> Arc<[ServiceView]> {
        let old: HashMap<&[u8], &ServiceView> =
            before.services.iter().map(|view| (view.service.name.wire(), view)).collect();
        let view = |service: Service| {
            let Some(old) = old.get(service.name.wire()) else {
                let answers = Counters::new(self.counter_rows, service.tiers.len() + 1);
                return ServiceView { service, answers };
            };
            let old_name = |id: &PoolId| before.pool(*id).map(|pool| &*pool.name);
            let name = |id: &PoolId| self.pools.get(*id).map(|pool| pool.setup.pool.name.as_str());
            let tiers = &old.service.tiers;
            let answers = if tiers.iter().map(old_name).eq(service.tiers.iter().map(name)) {
                old.answers.clone()
            } else {
                let column = |id| tiers.iter().position(|tier| old_name(tier) == name(id));
                // The last column is the all-down answer.
                old.answers.continued(service.tiers.iter().map(column).chain([Some(tiers.len())]))
            };
            ServiceView { service, answers }
        };
        services.into_iter().map(view).collect()
    }
}

fn by_name(names: impl Iterator<Item = String>) -> HashMap<String, usize> {
    names.enumerate().map(|(index, name)| (name, index)).collect()
}
