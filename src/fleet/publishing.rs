//! Builds the answer table from the pools, and tells the changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::fleet::Fleet;
use crate::fleet::pools::Pools;
use crate::fleet::services::tell_pool;
use crate::pool::PoolId;
use crate::rules::{RuleTable, RuleTables};
use crate::service::{Service, ServiceId};
use crate::settings::Settings;
use crate::table::{PoolView, Services, Table};
use crate::zone::Catalog;

/// How often each draw gets one new order of its backends. So after a minute, all combinations in the
/// answers of a large pool are new.
const RENEWAL: Duration = Duration::from_secs(4);
/// The renewal is divided into this many parts, so that no turn takes long.
const RENEWED_PARTS: u32 = 16;

/// The table at the start; its counters begin at 0.
pub(super) fn first_table(
    settings: Settings,
    catalog: Catalog,
    (services, rule_tables): (Vec<Service>, Vec<Arc<RuleTable>>),
    pools: &Pools,
    counting_threads: usize,
    rng: &mut impl Rng,
) -> Table {
    let views = pools.0.iter().map(|pool| Arc::new(pool.view(None)));
    let services = Arc::new(Services::new(services));
    let (settings, catalog, rng) = (Arc::new(settings), Arc::new(catalog), SmallRng::from_rng(rng));
    Table::new(1, settings, catalog, services, views, rng)
        .with_rule_tables(rule_tables.into())
        .counted_by(counting_threads)
}

impl Fleet {
    /// Replaces the rule tables, because a file that they were compiled from has changed. Does nothing if the
    /// configuration has other services than when they were compiled, and so other tables.
    pub fn replace_rule_tables(&mut self, rule_tables: RuleTables) -> bool {
        let is_known = rule_tables.len() == self.table.rule_tables().len();
        if is_known {
            self.table = Arc::new(self.table.next_with_rule_tables(rule_tables));
        }
        is_known
    }

    /// Builds the next table if a pool, or the tier in use of a service, may have changed. Returns whether it has
    /// built one. `asked_by` is who requested the change, if anyone, for the log.
    pub fn publish(&mut self, asked_by: Option<&str>) -> bool {
        self.apply_failovers();
        let before = Arc::clone(&self.table);
        // Before the pools change, because answers until now have followed the earlier times.
        let is_certainty_changed = self.publish_certainty(true);
        if self.touched.is_empty() && self.returns.again.is_empty() {
            return is_certainty_changed;
        }
        let (touched, again) = (std::mem::take(&mut self.touched), std::mem::take(&mut self.returns.again));
        let rebuilt = touched.iter().filter_map(|&id| {
            let (view, pool) = (self.table.pool(id)?, self.pools.get(id)?);
            Some((id, Arc::new(pool.next_view(view))))
        });
        let rebuilt: Vec<(PoolId, Arc<PoolView>)> = rebuilt.collect();
        for (id, view) in &rebuilt {
            self.note_steady(*id, view);
        }
        let services = Arc::clone(self.table.services());
        let mut keeping: BTreeSet<usize> = touched.iter().flat_map(|id| services.keeping(*id)).collect();
        let mut others: Vec<ServiceId> = Vec::new();
        let mut pools = touched.clone();
        for (id, route) in again.keys().flat_map(|plan| services.routes_of(*plan)) {
            keeping.extend(Some(route.plan()).filter(|_| route.keeps()));
            others.push(id);
            pools.extend(&route.route.tiers);
        }
        let table = self.with_progress(|progress| self.table.with_changes(rebuilt, again, progress));
        let table = Arc::new(table);
        let previous = std::mem::replace(&mut self.table, Arc::clone(&table));
        self.note_safety(&pools, &before);
        self.note_tiers(&previous, keeping);
        for &id in &touched {
            if let (Some(before), Some(now), Some(pool)) =
                (previous.pool(id), table.pool(id), self.pools.get(id))
            {
                tell_pool(before, now, &pool.tally.to_string(), asked_by, &self.teller);
            }
        }
        let affected = touched.iter().flat_map(|id| services.of_pool(*id)).chain(others);
        self.service_log.look(&previous, &table, affected, asked_by, &self.teller);
        true
    }

    /// Replaces one order of those draws for which it is due.
    pub fn renew_orders(&mut self) {
        let period = self.now.as_millis() / (RENEWAL / RENEWED_PARTS).as_millis();
        if period == self.renewed {
            return;
        }
        self.renewed = period;
        let part = usize::try_from(period % u128::from(RENEWED_PARTS)).unwrap_or(0);
        if let Some(table) = self.table.with_new_orders(part, RENEWED_PARTS as usize) {
            self.table = Arc::new(table);
        }
    }
}
