//! Random configurations, and small changes to them.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::check::{Check, ExecProbe, PoolSetup, Probe, TcpProbe, Timing};
use crate::fleet::simulation::{DEFAULTS, milliseconds};
use crate::name::Name;
use crate::pool::{Backend, MinHealthy, Pool, PoolId, Require};
use crate::served::Served;
use crate::service::{Failback, Route, Service, Ttl, WhenDown};
use crate::settings::Settings;
use crate::zone::Catalog;

/// Draws the configurations for one world.
pub(super) struct Draw {
    /// Each has a different timeout, by which the world distinguishes targets.
    timings: Vec<Timing>,
    /// Whether there are many backends on few addresses, so that the limits on probes in flight are
    /// reached.
    pub(super) is_crowded: bool,
}

impl Draw {
    pub(super) fn new(is_crowded: bool, rng: &mut SmallRng) -> Self {
        let others = (1..5).map(|place| a_timing(place, rng));
        Self { timings: [DEFAULTS].into_iter().chain(others).collect(), is_crowded }
    }

    /// Up to three pools, which often share addresses and checks.
    pub(super) fn pools(&self, rng: &mut SmallRng) -> Vec<PoolSetup> {
        let mut names = vec!["a", "b", "c"];
        if rng.random_bool(0.3) {
            names.reverse();
        }
        names.truncate(if self.is_crowded { 1 } else { rng.random_range(0..=3) });
        names.into_iter().map(|name| self.pool(name, rng)).collect()
    }

    fn pool(&self, name: &str, rng: &mut SmallRng) -> PoolSetup {
        let hosts: Vec<u8> = if self.is_crowded {
            (1..=90).collect()
        } else {
            (1..=6).filter(|_| rng.random_bool(0.75)).collect()
        };
        let mut backends: Vec<Backend> = hosts.into_iter().map(|host| self.backend(host, rng)).collect();
        if rng.random_bool(0.3) {
            backends.reverse();
        }
        let ports: Vec<u16> = (1..=2).filter(|_| rng.random_bool(0.7)).collect();
        let checks: Vec<Check> = ports.into_iter().map(|port| self.check(port, rng)).collect();
        let mut pool = Pool::new(name, backends);
        pool.suspect_self = rng.random_bool(0.7).then(|| [50, 90][rng.random_range(0..2)]);
        pool.slow_start =
            if rng.random_bool(0.4) { milliseconds(rng.random_range(300..30_000)) } else { Duration::ZERO };
        pool.min_healthy = MinHealthy::Count(rng.random_range(1..3));
        let require = if rng.random_bool(0.7) { Require::All } else { Require::AtLeast(1) };
        PoolSetup { pool, checks, require }
    }

    fn backend(&self, host: u8, rng: &mut SmallRng) -> Backend {
        let mut addresses = vec![IpAddr::from([192, 0, 2, host])];
        if rng.random_bool(0.1) {
            addresses.push(IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into())));
        }
        let check_address = if self.is_crowded {
            Some(IpAddr::from([198, 51, 100, host % 3]))
        } else {
            rng.random_bool(0.1).then(|| IpAddr::from([198, 51, 100, 1]))
        };
        let port =
            if self.is_crowded { Some(100 + u16::from(host)) } else { rng.random_bool(0.1).then_some(9) };
        Backend {
            weight: rng.random_range(0..3),
            enabled: rng.random_bool(0.9),
            port,
            check_address,
            ..Backend::new(format!("h{host}"), addresses)
        }
    }

    fn check(&self, port: u16, rng: &mut SmallRng) -> Check {
        let timing = self.timings[if rng.random_bool(0.5) { 0 } else { rng.random_range(0..5) }];
        let observe_only = rng.random_bool(0.1);
        let critical = !observe_only && rng.random_bool(0.1);
        let probe = if rng.random_bool(if self.is_crowded { 0.5 } else { 0.1 }) {
            let (program, arguments) = (PathBuf::from("/bin/check"), Vec::new());
            Probe::Exec(ExecProbe { program, arguments, port: Some(port) })
        } else {
            Probe::Tcp(TcpProbe::connect(port))
        };
        Check { name: format!("c{port}"), critical, observe_only, ..Check::new(probe, timing) }
    }

    /// How the services of [`steered`] return to an earlier tier.
    pub(super) fn failback(rng: &mut SmallRng) -> [Failback; 2] {
        std::array::from_fn(|_| match rng.random_range(0..8) {
            0 => Failback::Auto,
            1..4 => Failback::Manual,
            _ => Failback::After(milliseconds(rng.random_range(1..12_000))),
        })
    }

    /// One small change; most of the configuration stays.
    pub(super) fn tweaked(&self, pools: &[PoolSetup], rng: &mut SmallRng) -> Vec<PoolSetup> {
        let mut pools = pools.to_vec();
        if pools.is_empty() {
            return pools;
        }
        let place = rng.random_range(0..pools.len());
        let PoolSetup { pool, checks, require } = &mut pools[place];
        match rng.random_range(0..11) {
            0 => *require = if *require == Require::All { Require::AtLeast(1) } else { Require::All },
            1 => pool.backends.reverse(),
            2 => drop(pool.backends.pop()),
            3 => {
                let timing = self.timings[rng.random_range(0..5)];
                for check in checks {
                    check.timing = timing;
                }
            }
            4 => checks.reverse(),
            5 => drop(checks.pop()),
            6 => pool.slow_start = milliseconds(rng.random_range(0..20_000)),
            7 => pool.suspect_self = if pool.suspect_self.is_some() { None } else { Some(90) },
            8 => pool.backends.iter_mut().for_each(|backend| backend.weight = rng.random_range(0..3)),
            9 if !pool.backends.is_empty() => {
                let place = rng.random_range(0..pool.backends.len());
                pool.backends[place].enabled ^= true;
            }
            _ => pools.rotate_left(1),
        }
        pools
    }
}

fn a_timing(place: u64, rng: &mut SmallRng) -> Timing {
    let interval = [400, 1000, 5000][rng.random_range(0..3)] + rng.random_range(0..1000);
    let timeout = rng.random_range(50..interval);
    let down = [interval, rng.random_range(timeout + 1..=interval * 4)][rng.random_range(0..2)];
    Timing {
        interval: milliseconds(interval),
        timeout: milliseconds(timeout) - Duration::from_micros(place),
        rise: rng.random_range(1..4),
        fall: rng.random_range(1..4),
        recheck: milliseconds(rng.random_range(10..=interval)),
        interval_down: milliseconds(down),
        damping: rng.random_bool(0.7),
    }
}

/// These pools, with services that use them as tiers, and two that return to an earlier tier in other ways.
pub(super) fn steered(pools: Vec<PoolSetup>, ttl: u32, failback: [Failback; 2]) -> Served {
    let mut served = served(pools, ttl);
    let names = ["one.example.com", "two.example.com"].map(|name| Name::parse(name).unwrap());
    let others = names.into_iter().zip(served.services.clone()).zip(failback);
    let others = others.map(|((name, service), failback)| Service { name, failback, ..service });
    served.services.extend(others.collect::<Vec<_>>());
    served
}

/// These pools, with services that use them as tiers.
pub(super) fn served(pools: Vec<PoolSetup>, ttl: u32) -> Served {
    let tiers: Vec<PoolId> = (0..).map(PoolId).take(pools.len()).collect();
    let service = |name: &str, tiers: Vec<PoolId>, ttl, when_down| {
        let service = Service::new(Name::parse(name).unwrap(), tiers);
        Service { default: Route { ttl, when_down, ..service.default }, ..service }
    };
    let mut services = Vec::new();
    if !tiers.is_empty() {
        let reverse = tiers.iter().rev().copied().collect();
        services.push(service("www.example.com", tiers, Ttl::fixed(ttl), WhenDown::FailOpen));
        services.push(service("api.example.com", reverse, Ttl { min: 1, max: ttl }, WhenDown::NoData));
    }
    Served {
        settings: Settings::default(),
        catalog: Catalog::new(Vec::new()),
        services,
        rule_tables: Vec::new(),
        pools,
        startup_wait: Duration::from_secs(3),
    }
}
