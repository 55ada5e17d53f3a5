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
use steerd::service::{Answers, Policy, Service, WhenDown};
use steerd::table::{PoolView, Services, Standing, Table};
use steerd::zone::Catalog;

/// State changes per pool; the median and the largest time are shown.
const FLIPS: usize = 31;
/// Sites of a pool that has sites.
const SITES: usize = 3;

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
    let service = Service {
        name: Name::root(),
        tiers: vec![PoolId(0)],
        answers: Answers::AtMost(4),
        ttl: 20,
        policy: Policy::Weighted,
        spread,
        when_down: WhenDown::FailOpen,
    };
    let services = Services::new([service]);
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
