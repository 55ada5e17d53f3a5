//! Random reloads, overrides and faults in sequence, with invariants that are checked after each.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, RngExt};

use super::*;
use crate::health::Verdict;
use crate::pool::{Override, OverrideValue};

/// The number of fleets in a test run.
const SEEDS: u64 = 60;
/// The number of events in each.
const STEPS: usize = 25;

/// A probed target: port and address.
type Probed = (u16, IpAddr);

/// A fleet of up to three pools, which often share addresses and checks.
fn fleet(rng: &mut impl Rng) -> Vec<PoolSetup> {
    let mut names = vec!["a", "b", "c"];
    if rng.random_bool(0.3) {
        names.reverse();
    }
    names.truncate(rng.random_range(0..=3));
    names.into_iter().map(|name| a_pool(name, rng)).collect()
}

fn a_pool(name: &str, rng: &mut impl Rng) -> PoolSetup {
    let mut hosts: Vec<u8> = (1..=6).filter(|_| rng.random_bool(0.6)).collect();
    if rng.random_bool(0.3) {
        hosts.reverse();
    }
    let backends = hosts.into_iter().map(|host| Backend {
        name: format!("h{host}"),
        addresses: vec![IpAddr::from([192, 0, 2, host])],
        weight: rng.random_range(0..3),
        enabled: rng.random_bool(0.9),
        port: rng.random_bool(0.1).then_some(9),
        check_address: rng.random_bool(0.1).then(|| IpAddr::from([198, 51, 100, 1])),
        ..backend("192.0.2.1")
    });
    let backends = backends.collect();
    let ports: Vec<u16> = (1..=2).filter(|_| rng.random_bool(0.7)).collect();
    let checks = ports.into_iter().map(|port| {
        let timing = if rng.random_bool(0.7) { DEFAULTS } else { Timing { fall: 2, ..DEFAULTS } };
        let observe_only = rng.random_bool(0.1);
        let critical = !observe_only && rng.random_bool(0.1);
        Check { name: format!("c{port}"), critical, observe_only, ..tcp(port, timing) }
    });
    let checks = checks.collect();
    let require = if rng.random_bool(0.7) { Require::All } else { Require::AtLeast(1) };
    let mut setup = PoolSetup { checks, require, ..pool(name, None, backends) };
    setup.pool.suspect_self = rng.random_bool(0.5).then_some(90);
    setup.pool.slow_start = if rng.random_bool(0.3) { SECOND * 10 } else { Duration::ZERO };
    setup
}

fn with_service(pools: Vec<PoolSetup>) -> Served {
    let tiers: Vec<u32> = (0..).take(pools.len()).collect();
    let services = if tiers.is_empty() { Vec::new() } else { vec![service(&tiers)] };
    setup(pools, services)
}

/// The targets that this configuration probes, each with its number of distinct timings.
fn wanted(pools: &[PoolSetup]) -> BTreeMap<Probed, usize> {
    let mut timings: BTreeMap<Probed, BTreeSet<u16>> = BTreeMap::new();
    for setup in pools {
        for backend in setup.pool.backends.iter().filter(|backend| backend.enabled) {
            for check in &setup.checks {
                let port = backend.port.unwrap_or_else(|| port_of(&check.probe));
                let host = backend.check_address.unwrap_or(backend.addresses[0]);
                timings.entry((port, host)).or_default().insert(check.timing.fall);
            }
        }
    }
    timings.into_iter().map(|(probed, timings)| (probed, timings.len())).collect()
}

fn started(script: &Script) -> BTreeMap<Probed, usize> {
    let started = script.0.started_on_port.lock().unwrap();
    started.iter().map(|((host, port), count)| ((*port, *host), *count)).collect()
}

/// Checks that the probes that start within some time are those of the configuration, each as often
/// as its timings require. There are no rechecks, because nothing fails.
async fn assert_probed(script: &Script, pools: &[PoolSetup], seed: u64) {
    let before = started(script);
    tokio::time::sleep(SECOND * 11).await;
    let after = started(script);
    let grown: BTreeSet<Probed> = after
        .iter()
        .filter(|(probed, count)| before.get(probed) != Some(count))
        .map(|(probed, _)| *probed)
        .collect();
    let expected: BTreeSet<Probed> = wanted(pools).into_keys().collect();
    assert_eq!(grown, expected, "seed {seed}: a probe exists if and only if the configuration has it");
}

fn standing(verdict: Option<Verdict>) -> Standing {
    match verdict {
        None => Standing::Unknown,
        Some(Verdict::Healthy) => Standing::Healthy,
        Some(Verdict::Draining) => Standing::Draining,
        Some(Verdict::Unhealthy) => Standing::Unhealthy,
    }
}

/// Checks each invariant as the documentation states it, from outside.
async fn assert_sound(handle: &CheckerHandle, pools: &[PoolSetup], seed: u64) {
    let mut told = status(handle).await;
    let mut table = handle.published.load();
    // Another table may have been published since the report.
    while told.generation != table.generation {
        (told, table) = (status(handle).await, handle.published.load());
    }
    assert_eq!(told.pools.len(), pools.len(), "seed {seed}");
    for ((told, setup), view) in told.pools.iter().zip(pools).zip(table.pools().iter()) {
        assert_eq!((&*told.name, &*view.name), (&*setup.pool.name, &*setup.pool.name), "seed {seed}");
        for (index, (told, backend)) in told.backends.iter().zip(&setup.pool.backends).enumerate() {
            assert_eq!(*told.name, *backend.name, "seed {seed}");
            let address = &told.addresses[0];
            let words = address.checks.iter().map(|check| {
                let verdict = match check.standing {
                    Standing::Unknown => None,
                    Standing::Healthy => Some(Verdict::Healthy),
                    Standing::Draining => Some(Verdict::Draining),
                    Standing::Unhealthy => Some(Verdict::Unhealthy),
                };
                (verdict, check.critical, check.observe_only)
            });
            let combined = standing(combine(setup.require, words));
            let expected = if backend.enabled { combined } else { Standing::Unknown };
            assert_eq!(address.standing, expected, "seed {seed}: {} {}", setup.pool.name, backend.name);
            let count = if backend.enabled { setup.checks.len() } else { 0 };
            assert_eq!(address.checks.len(), count, "seed {seed}");

            let over = told.overridden.as_ref().map(|status| status.value);
            let weight = told.weight_override.as_ref().map(|status| status.value);
            let members = &view.family(Family::Ipv4).eligible.members;
            let eligible = members.iter().any(|member| member.backend as usize == index);
            assert_eq!(eligible, address.eligible, "seed {seed}");
            let out = over.is_some_and(|value| value != OverrideValue::State(Override::Up))
                || weight == Some(OverrideValue::Weight(0));
            assert!(!(eligible && (out || !backend.enabled || backend.weight == 0)), "seed {seed}: {told:?}");
            let is_out_for_good = over.is_none() && expected == Standing::Unhealthy && !address.held;
            assert!(!(eligible && is_out_for_good), "seed {seed}: {told:?}");
        }
    }
}

async fn live(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut pools = fleet(&mut rng);
    let script = Script::default();
    script.0.seed.set(seed).unwrap();
    let metrics = Arc::new(Metrics::new(1));
    let handle = start_with(with_service(pools.clone()), CAPACITY, Arc::clone(&metrics), script.clone());
    ready(&handle).await;
    for _ in 0..STEPS {
        match rng.random_range(0..10) {
            0..4 => {
                let old = status(&handle).await;
                pools = if rng.random_bool(0.5) { fleet(&mut rng) } else { tweaked(&pools, &mut rng) };
                let difference = reload(&handle, with_service(pools.clone())).await;
                let new = status(&handle).await;
                assert_eq!(new.generation, difference.generation, "seed {seed}");
                assert_kept(&old, &new, &pools, seed);
                assert!(*handle.ready.borrow());
            }
            4..6 if !pools.is_empty() => {
                let pool = &pools[rng.random_range(0..pools.len())].pool;
                if !pool.backends.is_empty() {
                    let backend = &pool.backends[rng.random_range(0..pool.backends.len())];
                    let request = OverrideRequest {
                        pool: pool.name.clone(),
                        backend: backend.name.clone(),
                        change: if rng.random() {
                            OverrideChange::State(Override::ALL.get(rng.random_range(0..5)).copied())
                        } else {
                            OverrideChange::Weight([None, Some(0), Some(30)][rng.random_range(0..3)])
                        },
                        length: rng.random_bool(0.5).then(|| SECOND * rng.random_range(1..60)),
                        reason: None,
                        force: true,
                        by: "a test".into(),
                        expected: Precondition::Anything,
                    };
                    ask(&handle, |reply| CheckerCommand::Override(request, reply)).await.unwrap();
                }
            }
            _ => {
                let behaviours = [
                    Behaviour::Serve,
                    Behaviour::Serve,
                    Behaviour::Refuse,
                    Behaviour::Hang,
                    Behaviour::Drain,
                    Behaviour::Break,
                ];
                let behaviour = behaviours[rng.random_range(0..behaviours.len())];
                script.set(&format!("192.0.2.{}", rng.random_range(1..=6)), behaviour);
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..12_000))).await;
            }
        }
        assert_sound(&handle, &pools, seed).await;
    }
    // Everything recovers: exactly the configured targets are probed, and all of them are answered.
    for host in 1..=6 {
        script.set(&format!("192.0.2.{host}"), Behaviour::Serve);
    }
    tokio::time::sleep(SECOND * 400).await;
    assert_probed(&script, &pools, seed).await;
    let now = status(&handle).await;
    assert_sound(&handle, &pools, seed).await;
    let enabled = now.pools.iter().flat_map(|pool| &pool.backends).filter(|backend| backend.enabled);
    for backend in enabled {
        assert_eq!(backend.addresses[0].standing, Standing::Healthy, "seed {seed}: {backend:?}");
        assert_eq!(backend.addresses[0].percent, 100, "seed {seed}: {backend:?}");
        assert!(!backend.addresses[0].remembered, "seed {seed}: {backend:?}");
    }
    let in_flight = script.0.in_flight.load(Ordering::Relaxed);
    let targets: usize = wanted(&pools).values().sum();
    assert!(in_flight <= targets, "seed {seed}: {in_flight} in flight of {targets} targets");
}

/// One small change; most of the configuration stays.
fn tweaked(pools: &[PoolSetup], rng: &mut impl Rng) -> Vec<PoolSetup> {
    let mut pools = pools.to_vec();
    if pools.is_empty() {
        return pools;
    }
    let place = rng.random_range(0..pools.len());
    let setup = &mut pools[place];
    match rng.random_range(0..5) {
        0 => setup.require = if setup.require == Require::All { Require::AtLeast(1) } else { Require::All },
        1 => setup.pool.backends.reverse(),
        2 => drop(setup.pool.backends.pop()),
        3 => setup.checks.iter_mut().for_each(|check| check.timing.rise = 3),
        _ => pools.rotate_left(1),
    }
    pools
}

/// Checks that a known address that stays, with its checks, is never unknown after a reload, and
/// that checks with the same name keep their verdicts.
fn assert_kept(old: &Status, new: &Status, pools: &[PoolSetup], seed: u64) {
    let shares =
        pools.iter().flat_map(|setup| &setup.pool.backends).any(|backend| backend.check_address.is_some());
    for pool in &new.pools {
        let Some(before) = old.pools.iter().find(|before| before.name == pool.name) else { continue };
        for backend in pool.backends.iter().filter(|backend| backend.enabled) {
            let Some(earlier) = before.backends.iter().find(|earlier| earlier.name == backend.name) else {
                continue;
            };
            let (was, is) = (&earlier.addresses[0], &backend.addresses[0]);
            // Another `require` may need the verdict of a check without an outcome.
            let all_spoke = was.checks.iter().all(|check| check.standing != Standing::Unknown);
            if was.standing != Standing::Unknown && earlier.enabled && all_spoke {
                assert_ne!(is.standing, Standing::Unknown, "seed {seed}: {} {}", pool.name, backend.name);
            }
            for check in &is.checks {
                let same = was.checks.iter().find(|same| same.name == check.name);
                if let Some(same) = same.filter(|same| same.standing != Standing::Unknown) {
                    assert_ne!(check.standing, Standing::Unknown, "seed {seed}: {check:?}");
                    // If a target is shared, others may have a newer verdict.
                    if old.pools.len() == 1 && new.pools.len() == 1 && !shares {
                        assert_eq!(check.standing, same.standing, "seed {seed}: {check:?}");
                    }
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn any_sequence_of_reloads_overrides_and_faults_leaves_what_is_configured() {
    let one = std::env::var("STEERD_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds: Vec<u64> = one.map_or_else(|| (0..SEEDS).map(|_| rand::random()).collect(), |seed| vec![seed]);
    for seed in seeds {
        println!("fleet STEERD_SEED={seed}");
        live(seed).await;
    }
}
