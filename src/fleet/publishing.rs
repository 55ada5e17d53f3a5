//! The answer table that follows from the pools, and the log of what changed by it.

use std::sync::Arc;

use crate::counters::Counters;
use crate::fleet::Fleet;
use crate::fleet::pools::{PoolState, Pools};
use crate::fleet::services::log_pool;
use crate::service::Service;
use crate::settings::Settings;
use crate::table::{PoolView, ServiceView, Table};
use crate::zone::Catalog;

/// The table at the start, whose counters begin at 0.
pub(super) fn first_table(
    settings: Settings,
    catalog: Catalog,
    services: Vec<Service>,
    pools: &Pools,
    counter_rows: usize,
) -> Table {
    let view =
        |pool: &PoolState| Arc::new(pool.view(None, PoolView::counters(&pool.setup.pool, counter_rows)));
    let service_view = |service: Service| {
        let answers = Counters::new(counter_rows, service.tiers.len() + 1);
        ServiceView { service, answers }
    };
    Table {
        generation: 1,
        settings: Arc::new(settings),
        catalog: Arc::new(catalog),
        pools: pools.0.iter().map(view).collect(),
        services: services.into_iter().map(service_view).collect(),
    }
}

impl Fleet {
    /// Makes the next table if a pool has changed, and says whether it has. `asked_by` is who asked for the
    /// change, if anybody did, for the log.
    pub fn publish(&mut self, asked_by: Option<&str>) -> bool {
        if self.touched.is_empty() {
            return false;
        }
        let touched = std::mem::take(&mut self.touched);
        let mut pools = self.table.pools.clone();
        for &id in &touched {
            let (Some(view), Some(pool)) = (pools.get_mut(id.index()), self.pools.get(id)) else { continue };
            *view = Arc::new(pool.view(Some(view), Arc::clone(&view.answers)));
        }
        let table = Arc::new(Table {
            generation: self.table.generation + 1,
            settings: Arc::clone(&self.table.settings),
            catalog: Arc::clone(&self.table.catalog),
            services: Arc::clone(&self.table.services),
            pools,
        });
        let previous = std::mem::replace(&mut self.table, Arc::clone(&table));
        self.note_safety(&touched);
        for &id in &touched {
            if let (Some(before), Some(now), Some(pool)) =
                (previous.pool(id), table.pool(id), self.pools.get(id))
            {
                log_pool(before, now, &pool.tally.to_string(), asked_by);
            }
        }
        self.service_log.look(&previous, &table, touched, asked_by);
        true
    }
}
