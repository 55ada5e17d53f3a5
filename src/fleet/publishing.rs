//! The answer table that follows from the pools, and the log of what changed by it.

use std::sync::Arc;

use crate::counters::Counters;
use crate::fleet::Fleet;
use crate::fleet::pools::{PoolState, Pools};
use crate::fleet::services::log_pool;
use crate::service::Service;
use crate::settings::Settings;
use crate::table::{PoolView, Services, Table};
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
    let counted = |service: Service| {
        let answers = Counters::new(counter_rows, service.tiers.len() + 1);
        (service, answers)
    };
    let services = Services::new(services.into_iter().map(counted));
    Table::new(1, Arc::new(settings), Arc::new(catalog), Arc::new(services), pools.0.iter().map(view))
}

impl Fleet {
    /// Makes the next table if a pool has changed, and says whether it has. `asked_by` is who asked for the
    /// change, if anybody did, for the log.
    pub fn publish(&mut self, asked_by: Option<&str>) -> bool {
        if self.touched.is_empty() {
            return false;
        }
        let touched = std::mem::take(&mut self.touched);
        let rebuilt = touched.iter().filter_map(|&id| {
            let (view, pool) = (self.table.pool(id)?, self.pools.get(id)?);
            Some((id, Arc::new(pool.view(Some(view), Arc::clone(&view.answers)))))
        });
        let table = Arc::new(self.table.with_pools(rebuilt));
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
