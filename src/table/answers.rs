//! Counts of the answers of services and backends.
//!
//! All counts of a table are in one block. With a block for each service and pool, each thread would
//! need whole cache lines in each. How a service answers does not belong here.

use std::collections::HashMap;
use std::sync::Arc;

use super::decision::{ServiceView, Services};
use super::pool_view::PoolView;
use crate::counters::{CounterRow, Counters};
use crate::pool::PoolId;
use crate::service::ServiceId;

/// How often each service answered from each of its tiers, and how often each backend was answered.
#[derive(Debug)]
pub struct AnswerCounts {
    counters: Counters,
    services: Arc<Services>,
    /// By [`ServiceId`]: a column for each of [`ServiceView::pools`], then one for the all-down answer.
    of_services: ColumnRanges,
    /// By [`PoolId`].
    pools: Box<[BackendNames]>,
    /// By [`PoolId`]: a column for each backend, in the order of the configuration.
    of_pools: ColumnRanges,
}

/// The names of a pool and its backends, shared with the views of the pool.
#[derive(Debug)]
struct BackendNames {
    pool: Arc<str>,
    names: Arc<[Box<str>]>,
}

/// Consecutive ranges of columns: where each starts, and where the last ends.
#[derive(Debug)]
struct ColumnRanges(Box<[usize]>);

impl ColumnRanges {
    /// Adjacent ranges of these lengths.
    fn new(start: usize, lengths: impl Iterator<Item = usize>) -> Self {
        let ends = lengths.scan(start, |end, length| {
            *end += length;
            Some(*end)
        });
        Self([start].into_iter().chain(ends).collect())
    }

    /// The column at an index of a range.
    fn column(&self, range: usize, index: usize) -> Option<usize> {
        let (&start, &end) = (self.0.get(range)?, self.0.get(range + 1)?);
        Some(start + index).filter(|column| *column < end)
    }

    fn end(&self) -> usize {
        self.0.last().copied().unwrap_or(0)
    }
}

impl AnswerCounts {
    /// Counts that start at 0, for `threads` threads that count alone and any others.
    pub(super) fn new<'p>(
        threads: usize,
        services: &Arc<Services>,
        pools: impl Iterator<Item = &'p PoolView>,
    ) -> Self {
        Self::counting(services, pools, |_, columns| Counters::new(threads, columns))
    }

    /// The counts of other services and pools. Services, tiers, pools and backends that have the same
    /// names as before go on with their counts.
    pub(super) fn continued<'p>(
        self: &Arc<Self>,
        services: &Arc<Services>,
        pools: impl Iterator<Item = &'p PoolView> + Clone,
    ) -> Arc<Self> {
        let is_same = |(old, new): (&BackendNames, &PoolView)| {
            old.pool == new.name && Arc::ptr_eq(&old.names, &new.backends)
        };
        if Arc::ptr_eq(&self.services, services)
            && self.pools.len() == pools.clone().count()
            && self.pools.iter().zip(pools.clone()).all(is_same)
        {
            return Arc::clone(self);
        }
        Arc::new(Self::counting(services, pools, |pools, _| {
            let columns = [self.earlier_tiers(services, pools), self.earlier_backends(pools)].concat();
            self.counters.continued(columns)
        }))
    }

    /// `counters` makes the counters, for these pools and this number of columns.
    fn counting<'p>(
        services: &Arc<Services>,
        pools: impl Iterator<Item = &'p PoolView>,
        counters: impl FnOnce(&[BackendNames], usize) -> Counters,
    ) -> Self {
        let names = |view: &PoolView| BackendNames {
            pool: Arc::clone(&view.name),
            names: Arc::clone(&view.backends),
        };
        let pools: Box<[BackendNames]> = pools.map(names).collect();
        let of_services = ColumnRanges::new(0, services.iter().map(|view| view.down_column() + 1));
        let of_pools = ColumnRanges::new(of_services.end(), pools.iter().map(|pool| pool.names.len()));
        let counters = counters(&pools, of_pools.end());
        Self { counters, services: Arc::clone(services), of_services, pools, of_pools }
    }

    /// For each column of these services, in order, the present one that it continues.
    fn earlier_tiers(&self, services: &Services, pools: &[BackendNames]) -> Vec<Option<usize>> {
        let known: HashMap<&[u8], usize> =
            self.services.iter().zip(0..).map(|(view, index)| (view.service.name.wire(), index)).collect();
        services
            .iter()
            .flat_map(|ServiceView { service, pools: tiers, .. }| {
                let earlier = known.get(service.name.wire()).copied();
                let earlier_tiers =
                    earlier.and_then(|index| self.services.get(index)).map(|view| &*view.pools);
                let position = |new: &PoolId| {
                    let name = &pools.get(new.index())?.pool;
                    let is_named =
                        |old: &PoolId| self.pools.get(old.index()).is_some_and(|old| old.pool == *name);
                    earlier_tiers?.iter().position(is_named)
                };
                let all_down = earlier_tiers.map(<[PoolId]>::len);
                let indices = tiers.iter().map(position).chain([all_down]);
                indices.map(|index| self.of_services.column(earlier?, index?)).collect::<Vec<_>>()
            })
            .collect()
    }

    /// For each backend of these pools, in order, the present column that it continues.
    fn earlier_backends(&self, pools: &[BackendNames]) -> Vec<Option<usize>> {
        let known: HashMap<&str, usize> =
            self.pools.iter().zip(0..).map(|(pool, index)| (&*pool.pool, index)).collect();
        pools
            .iter()
            .flat_map(|pool| {
                let earlier = known.get(&*pool.pool).copied();
                let names: &[Box<str>] =
                    earlier.and_then(|index| self.pools.get(index)).map_or(&[], |pool| &pool.names);
                let known: HashMap<&str, usize> =
                    names.iter().zip(0..).map(|(name, index)| (&**name, index)).collect();
                let column = |name: &str| self.of_pools.column(earlier?, *known.get(name)?);
                pool.names.iter().map(|name| column(name)).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Counts an answer of a service: see `RouteView::column` and [`ServiceView::down_column`].
    pub fn count_service(&self, row: CounterRow, service: ServiceId, column: usize) {
        if let Some(column) = self.of_services.column(service.index(), column) {
            self.counters.add(row, column, 1);
        }
    }

    /// Counts an answer that contains a backend.
    pub fn count_backend(&self, row: CounterRow, pool: PoolId, backend: usize) {
        if let Some(column) = self.of_pools.column(pool.index(), backend) {
            self.counters.add(row, column, 1);
        }
    }

    /// How often a service gave the answers of this column.
    #[must_use]
    pub fn of_service(&self, service: ServiceId, column: usize) -> u64 {
        self.of_services.column(service.index(), column).map_or(0, |column| self.counters.sum(column))
    }

    /// How often a service was answered, from any tier or from none.
    #[must_use]
    pub fn of_whole_service(&self, service: ServiceId, view: &ServiceView) -> u64 {
        (0..=view.down_column()).map(|column| self.of_service(service, column)).sum()
    }

    /// How often a backend was answered.
    #[must_use]
    pub fn of_backend(&self, pool: PoolId, backend: usize) -> u64 {
        self.of_pools.column(pool.index(), backend).map_or(0, |column| self.counters.sum(column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;
    use crate::pool::{Backend, Pool};
    use crate::service::Service;
    use crate::table::Standing;

    fn service(name: &str, tiers: &[u32]) -> Service {
        Service::new(Name::parse(name).unwrap(), tiers.iter().copied().map(PoolId).collect())
    }

    fn view(name: &str, backends: &[&str], previous: Option<&PoolView>) -> PoolView {
        let backend = |name: &&str| Backend::new(*name, vec!["192.0.2.1".parse().unwrap()]);
        let pool = Pool::new(name, backends.iter().map(backend).collect());
        PoolView::build(&pool, previous, |_, _| Standing::Healthy.into())
    }

    #[test]
    fn counts_go_on_by_the_names_of_services_tiers_pools_and_backends() {
        let pools = [view("a", &["x", "y"], None), view("b", &["x"], None)];
        let services = Arc::new(Services::new([service("one", &[0, 1]), service("two", &[1])]));
        let answers = Arc::new(AnswerCounts::new(1, &services, pools.iter()));
        let row = CounterRow::Own(0);
        let mut count = 0;
        for (pool, backend) in [(0, 0), (0, 1), (1, 0)] {
            count += 1;
            (0..count).for_each(|_| answers.count_backend(row, PoolId(pool), backend));
        }
        for (service, tier) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)] {
            count += 1;
            (0..count).for_each(|_| answers.count_service(row, ServiceId(service), tier));
        }
        // A missing column is ignored; it must never count for another.
        for (number, index) in [(0, 2), (1, 1), (2, 0)] {
            answers.count_backend(row, PoolId(number), index);
            answers.count_service(row, ServiceId(number), index + 1);
        }
        let shown = |answers: &AnswerCounts, [services, backends]: [&[(u32, usize)]; 2]| {
            let of_services = services.iter().map(|(id, tier)| answers.of_service(ServiceId(*id), *tier));
            let of_backends = backends.iter().map(|(id, index)| answers.of_backend(PoolId(*id), *index));
            of_services.chain(of_backends).collect::<Vec<_>>()
        };
        let all: [&[(u32, usize)]; 2] =
            [&[(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)], &[(0, 0), (0, 1), (1, 0), (1, 1)]];
        assert_eq!(shown(&answers, all), [4, 5, 6, 7, 8, 0, 1, 2, 3, 0]);

        let later = [view("b", &["x", "z"], None), view("a", &["y"], None), view("c", &["x"], None)];
        let services =
            Arc::new(Services::new([service("two", &[0, 2]), service("new", &[1]), service("one", &[1])]));
        let next = answers.continued(&services, later.iter());
        answers.count_service(row, ServiceId(0), 0);
        answers.count_backend(row, PoolId(0), 0);
        answers.count_backend(row, PoolId(0), 1);
        let all: [&[(u32, usize)]; 2] =
            [&[(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1)], &[(0, 0), (0, 1), (1, 0), (2, 0)]];
        assert_eq!(shown(&next, all), [7, 0, 8, 0, 0, 5, 6, 3, 0, 3, 0]);
    }

    #[test]
    fn tables_of_the_same_services_and_backends_share_their_counts() {
        let pools = [view("a", &["x", "y"], None), view("b", &["x"], None)];
        let services = Arc::new(Services::new([service("one", &[0])]));
        let answers = Arc::new(AnswerCounts::new(1, &services, pools.iter()));
        let again = [view("a", &["x", "y"], Some(&pools[0])), view("b", &["x"], Some(&pools[1]))];
        assert!(Arc::ptr_eq(&answers, &answers.continued(&services, again.iter())));
        let other = [view("a", &["x", "y"], Some(&pools[0])), view("b", &["z"], Some(&pools[1]))];
        assert!(!Arc::ptr_eq(&answers, &answers.continued(&services, other.iter())));
        assert!(!Arc::ptr_eq(&answers, &answers.continued(&services, again[..1].iter())));
    }

    /// However few backends a pool has, and however few tiers a service.
    #[test]
    fn sixty_four_threads_count_a_hundred_thousand_backends_in_little_memory() {
        let names: Vec<String> = (0..25_000).map(|index| format!("p{index}")).collect();
        let pools: Vec<PoolView> = names.iter().map(|name| view(name, &["a", "b", "c", "d"], None)).collect();
        let services =
            Arc::new(Services::new((0..25_000).map(|index| service(&names[index as usize], &[index]))));
        let AnswerCounts { counters, .. } = AnswerCounts::new(64, &services, pools.iter());
        assert_eq!(counters.columns(), 100_000 + 2 * 25_000);
        assert!(counters.size() < 21_000_000, "{} bytes", counters.size());
    }
}
