//! Bulk overrides: of all selected backends in one table, or of none, with the consequences of all of them together.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::RngExt;

use crate::fleet::simulation::model::Kept;
use crate::fleet::simulation::world::World;
use crate::fleet::simulation::{Checked, ensure, milliseconds};
use crate::fleet::{BackendSelection, BulkRefused, BulkRequest, Consequence, OverrideChange};
use crate::pattern::NamePattern;
use crate::pool::{Family, Override, PoolId};
use crate::table::{AddressCondition, FULL_WEIGHT, PoolView};

impl World {
    pub(super) fn override_many(&mut self) -> Checked {
        let change = if self.rng.random_bool(0.3) {
            OverrideChange::Weight([None, Some(0), Some(50)][self.rng.random_range(0..3)])
        } else {
            OverrideChange::State(Override::ALL.get(self.rng.random_range(0..5)).copied())
        };
        let pool = self.rng.random_range(0..3);
        let pool = self.model.pools.get(pool).map_or("*", |setup| &*setup.pool.name).to_owned();
        let ending = ["", "0", "1", "3"][self.rng.random_range(0..4)];
        // The definition of a selection.
        let all = self.model.pools.iter().enumerate().flat_map(|(index, setup)| {
            setup.pool.backends.iter().map(move |backend| (index, &setup.pool, backend))
        });
        let is_selected = |(_, of, backend): &(usize, &crate::pool::Pool, &crate::pool::Backend)| {
            (pool == "*" || pool == of.name) && backend.name.ends_with(ending)
        };
        let selected: Vec<(usize, String, String)> = all
            .filter(is_selected)
            .map(|(index, of, backend)| (index, of.name.clone(), backend.name.clone()))
            .collect();
        let length = self.rng.random_bool(0.6).then(|| milliseconds(self.rng.random_range(1..8_000)));
        let force = self.rng.random_bool(0.5);
        let selection = BackendSelection {
            pool: NamePattern::new(pool),
            backend: NamePattern::new(format!("*{ending}")),
            site: None,
        };
        let request = BulkRequest { selection, change, length, reason: None, force, by: "a test".into() };
        let (before, lost) = (Arc::clone(self.subject.fleet.table()), self.lost(&selected, change));
        match self.subject.override_many(request) {
            Ok(done) => {
                let names: Vec<(String, String)> = done
                    .backends
                    .iter()
                    .map(|(pool, status, _)| (pool.to_string(), status.name.to_string()))
                    .collect();
                ensure!(
                    names.iter().eq(selected
                        .iter()
                        .map(|(_, pool, backend)| (pool.clone(), backend.clone()))
                        .collect::<Vec<_>>()
                        .iter()),
                    "{names:?} are overridden, not {selected:?}"
                );
                check_lost(&done.consequences, &lost)?;
                self.met.bulk += 1;
                let until = length.map(|length| self.passed + length);
                for (index, pool, backend) in selected {
                    self.touched[index] = true;
                    let name = (pool, backend, change.kind());
                    match change.value() {
                        Some(value) => drop(self.model.overrides.insert(name, Kept { value, until })),
                        None => drop(self.model.overrides.remove(&name)),
                    }
                }
                // It publishes one table itself.
                self.check_table(&before)?;
                self.watch_tiers(Some(&before));
                self.table = Arc::clone(self.subject.fleet.table());
            }
            Err(BulkRefused::TakesAway(consequences)) if !force => {
                check_lost(&consequences, &lost)?;
                self.met.refused_bulk += 1;
                let after = self.subject.fleet.table();
                ensure!(Arc::ptr_eq(after, &before), "a refused bulk override makes a table");
            }
            Err(BulkRefused::Nothing { .. }) if selected.is_empty() => {}
            Err(refused) => return Err(format!("a bulk override of {selected:?} is refused: {refused:?}")),
        }
        Ok(())
    }

    /// The pools and families that would not be usable any more after this change for all of these backends, by the
    /// definition of a view.
    fn lost(
        &self,
        selected: &[(usize, String, String)],
        change: OverrideChange,
    ) -> BTreeSet<(String, Family)> {
        let is_changed = |pool: usize, name: &str| {
            selected.iter().any(|(index, _, backend)| *index == pool && backend == name)
        };
        let of_pool = |(index, setup): (usize, &crate::check::PoolSetup)| {
            let place = |backend: usize, place: usize| {
                let addresses = self.model.addresses.iter().filter(|address| address.pool == index);
                let address = addresses.filter(|address| address.backend == backend).nth(place).unwrap();
                let (pool, name, _) = &address.name;
                let (mut overridden, mut weight) = self.model.said(pool, name);
                match change {
                    OverrideChange::State(state) if is_changed(index, name) => overridden = state,
                    OverrideChange::Weight(percent) if is_changed(index, name) => {
                        weight = percent.unwrap_or(FULL_WEIGHT.into());
                    }
                    _ => {}
                }
                let (standing, held, percent) = (address.standing, address.held, address.percent);
                AddressCondition { standing, held, percent, overridden, weight }
            };
            let after = PoolView::build(&setup.pool, None, place);
            let id = PoolId(u32::try_from(index).unwrap_or(u32::MAX));
            let before = self
                .subject
                .fleet
                .table()
                .pool(id)
                .map(|view| Family::ALL.map(|family| view.family(family).usable));
            let lost = Family::ALL.into_iter().zip(before.unwrap_or_default());
            let lost = lost.filter(|(family, was)| *was && !after.family(*family).usable);
            lost.map(|(family, _)| (setup.pool.name.clone(), family)).collect::<Vec<_>>()
        };
        self.model.pools.iter().enumerate().flat_map(of_pool).collect()
    }
}

/// Checks that exactly these pools are told to be lost; there are fewer than are told at most.
fn check_lost(told: &[Consequence], lost: &BTreeSet<(String, Family)>) -> Checked {
    let of_pools = told.iter().filter(|consequence| consequence.text.starts_with("pool ")).count();
    let missing = lost.iter().find(|(pool, family)| {
        let text = |consequence: &&Consequence| {
            consequence.text.starts_with(&format!("pool {pool} has "))
                && consequence.text.contains(family.as_str())
        };
        told.iter().find(text).is_none()
    });
    ensure!(missing.is_none() && of_pools == lost.len(), "{told:?} is told, and {lost:?} are lost");
    Ok(())
}
