//! The cost of a state change: from the new state of one backend to the table with the changed answers, without
//! the network and without the checker.
//!
//! ```text
//! cargo bench --bench flip
//! ```

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use steerd::name::Name;
use steerd::pool::{Backend, Pool, PoolId};
use steerd::selection::Spread;
use steerd::service::{Answers, Route, Service};
use steerd::table::{PoolView, Services, Standing, Table};
use steerd::zone::Catalog;

/// State changes per pool; the median and the largest time are shown.
const FLIPS: usize = 31;
/// Sites of a pool that has sites.
const SITES: usize = 3;
/// Small pools of one table.
const SMALL_POOLS: u32 = 1000;
/// The weights of a small pool. The lightest two are in no answer together, in any order.
const SMALL_WEIGHTS: [u32; 6] = [5, 3, 2, 2, 1, 1];

fn main() {
    println!(
        "{:>9} {:>8} {:>10} {:>10} {:>10} {:>10}",
        "backends", "sites", "pool us", "table us", "both us", "max us"
    );
    for count in [100, 10_000, 100_000] {
        for (sites, spread) in [(0, Spread::Shares), (SITES, Spread::Shares), (SITES, Spread::Always)] {
            measure(count, sites, spread);
        }
    }
    println!("\n{:>9} {:>8} {:>10} {:>10}", "pools", "sites", "layout us", "renewal us");
    for sites in [0, SITES] {
        measure_small(sites);
    }
}

/// The cost of orders for many small pools: all of them at the start, and one of each at a renewal.
fn measure_small(sites: usize) {
    let mut small = pool(SMALL_WEIGHTS.len(), sites);
    for (backend, weight) in small.backends.iter_mut().zip(SMALL_WEIGHTS) {
        backend.weight = weight;
    }
    let view = Arc::new(PoolView::build(&small, None, |_, _| Standing::Healthy.into()));
    let ids = || (0..SMALL_POOLS).map(PoolId);
    let services = Services::new(ids().map(|id| service(id, 2, Spread::Shares)));
    let (settings, catalog) = (Arc::default(), Arc::new(Catalog::new(Vec::new())));
    let rng = SmallRng::seed_from_u64(1);
    let begun = Instant::now();
    let table = Table::new(1, settings, catalog, Arc::new(services), ids().map(|_| Arc::clone(&view)), rng);
    let laid_out = begun.elapsed().as_micros();
    let begun = Instant::now();
    black_box(table.with_new_orders(0, 1));
    let renewed = begun.elapsed().as_micros();
    println!("{SMALL_POOLS:>9} {sites:>8} {laid_out:>10} {renewed:>10}");
}

fn service(pool: PoolId, answers: u16, spread: Spread) -> Service {
    let service = Service::new(Name::root(), vec![pool]);
    let answers = Answers::AtMost(answers);
    Service { default: Route { answers, ..service.default }, spread, ..service }
}

fn pool(count: usize, sites: usize) -> Pool {
    let backend = |index: usize| Backend {
        weight: u32::try_from(index % 7).unwrap_or(0) + 1,
        site: (sites > 0).then(|| format!("site{}", index % sites)),
        ..Backend::new(
            format!("backend{index}"),
            vec![IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + u32::try_from(index).unwrap_or(0)))],
        )
    };
    Pool::new("pool", (0..count).map(backend).collect())
}

fn measure(count: usize, sites: usize, spread: Spread) {
    let pool = pool(count, sites);
    let services = Services::new([service(PoolId(0), 4, spread)]);
    let all = PoolView::build(&pool, None, |_, _| Standing::Healthy.into());
    let next = |view: &PoolView, down: Option<usize>| {
        let standing = |backend| if down == Some(backend) { Standing::Unhealthy } else { Standing::Healthy };
        view.next(&pool, |backend, _| standing(backend).into())
    };
    let (settings, catalog) = (Arc::default(), Arc::new(Catalog::new(Vec::new())));
    let rng = SmallRng::seed_from_u64(1);
    let mut table = Table::new(1, settings, catalog, Arc::new(services), [Arc::new(all)], rng);
    let mut costs: Vec<[Duration; 3]> = Vec::new();
    for flip in 0..FLIPS {
        let begun = Instant::now();
        let down = (flip % 2 == 0).then_some(flip * 7919 % count);
        let Some(view) = table.pool(PoolId(0)) else { return };
        let view = Arc::new(next(view, down));
        let viewed = begun.elapsed();
        let next = black_box(table.with_pools([(PoolId(0), view)]));
        let both = begun.elapsed();
        costs.push([viewed, both.saturating_sub(viewed), both]);
        // Freed outside the measured time, as in the program.
        table = next;
    }
    let median = |part: usize| {
        let mut costs: Vec<u128> = costs.iter().map(|cost| cost[part].as_micros()).collect();
        costs.sort_unstable();
        (costs[FLIPS / 2], costs[FLIPS - 1])
    };
    let ((pool, _), (table, _), (both, most)) = (median(0), median(1), median(2));
    let sites = if sites == 0 { "none" } else { spread.as_str() };
    println!("{count:>9} {sites:>8} {pool:>10} {table:>10} {both:>10} {most:>10}");
}
