//! The same override for several backends: for all of them in one turn and one table, or for none.
//!
//! Their consequences are those of all of them together: to drain each backend of a site may be harmless, and to drain
//! all of them takes the last usable one away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::fleet::pools::PoolState;
use crate::fleet::{BackendSelection, BulkOverridden, BulkRefused, BulkRequest, Fleet, SelectedBy};
use crate::pool::{Backend, PoolId};

/// The most backends of one request: the checker serves nothing else meanwhile.
pub const MOST_AT_ONCE: usize = 1000;

/// Some backends of each pool, by index.
pub(super) type Selected = BTreeMap<PoolId, BTreeSet<usize>>;

impl Fleet {
    /// Sets or ends the overrides of all selected backends, and makes the next table. A request that takes something
    /// away from clients is refused unless it is forced.
    ///
    /// # Errors
    /// See [`BulkRefused`]. Then nothing has changed.
    pub fn override_many(&mut self, request: BulkRequest) -> Result<BulkOverridden, BulkRefused> {
        let BulkRequest { selection, change, length, reason, force, by } = request;
        let selected = self.selected(&selection)?;
        let consequences = self.consequences(&selected, change);
        if !force && consequences.iter().any(|consequence| consequence.takes_away) {
            return Err(BulkRefused::TakesAway(consequences));
        }
        let places = selected
            .into_iter()
            .flat_map(|(id, backends)| backends.into_iter().map(move |index| (id, index)));
        let changed: Vec<_> = places
            .map(|(id, index)| {
                let before = self.say((id, index, change.kind()), (change, length, reason.clone()), &by);
                (id, index, before)
            })
            .collect();
        self.publish(Some(&by));
        let told = changed.into_iter().filter_map(|(id, index, before)| {
            let pool = Arc::clone(self.pools.get(id)?.series.name());
            Some((pool, self.one_backend(id, index)?, before))
        });
        Ok(BulkOverridden { backends: told.collect(), consequences })
    }

    /// The selected backends.
    pub(super) fn selected(&self, selection: &BackendSelection) -> Result<Selected, BulkRefused> {
        let BackendSelection { pool, backend, site } = selection;
        let pools: Vec<(PoolId, &PoolState)> =
            self.pools.iter().filter(|(_, state)| pool.matches(&state.setup.pool.name)).collect();
        if pools.is_empty() {
            let known = self.pools.iter().map(|(_, state)| &*state.setup.pool.name);
            return Err(nothing(SelectedBy::Pool, known));
        }
        let named: Vec<(PoolId, usize, &Backend)> = pools
            .iter()
            .flat_map(|(id, state)| {
                state.setup.pool.backends.iter().enumerate().map(|(index, known)| (*id, index, known))
            })
            .filter(|(_, _, known)| backend.matches(&known.name))
            .collect();
        if named.is_empty() {
            let known = pools.iter().flat_map(|(_, state)| &state.setup.pool.backends);
            return Err(nothing(SelectedBy::Backend, known.map(|known| &*known.name)));
        }
        let is_there = |known: &Backend| site.is_none() || known.site == *site;
        let mut selected = Selected::new();
        for (id, index, _) in named.iter().filter(|(_, _, known)| is_there(known)) {
            selected.entry(*id).or_default().insert(*index);
        }
        if selected.is_empty() {
            return Err(nothing(
                SelectedBy::Site,
                named.iter().filter_map(|(_, _, known)| known.site.as_deref()),
            ));
        }
        match selected.values().map(BTreeSet::len).sum() {
            count if count > MOST_AT_ONCE => Err(BulkRefused::TooMany(count)),
            _ => Ok(selected),
        }
    }
}

/// The first few of the names that there are, each once.
fn nothing<'a>(by: SelectedBy, known: impl Iterator<Item = &'a str>) -> BulkRefused {
    let mut names = BTreeSet::new();
    for name in known {
        if names.len() == MOST_AT_ONCE {
            break;
        }
        names.insert(name);
    }
    BulkRefused::Nothing { by, known: names.into_iter().map(Arc::from).collect() }
}
