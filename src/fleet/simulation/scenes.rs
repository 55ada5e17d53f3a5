//! Scenes: defects that random worlds have found, and what they cannot compare exactly.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::check::{Check, PoolSetup, Probe, TcpProbe};
use crate::events::Events;
use crate::fleet::simulation::configuration::{served, steered};
use crate::fleet::simulation::planted::time_of_day;
use crate::fleet::simulation::world::report;
use crate::fleet::simulation::{DEFAULTS, milliseconds};
use crate::fleet::{
    Capacity, Clocks, FailoverRequest, Fleet, FleetSetup, Launch, Memory, NewConfiguration, Outputs,
    OverrideChange, OverrideRequest, Precondition, RememberedOverride, RememberedState, RememberedTier,
    Running,
};
use crate::health::{Moment, Outcome, Verdict};
use crate::metrics::Metrics;
use crate::name::Name;
use crate::pool::{Backend, Family, Override, OverrideValue, Pool, Require};
use crate::service::Failback;

const SECOND: Duration = Duration::from_secs(1);

/// A pool with this many backends, checked at these ports.
fn pool(name: &str, backends: u8, ports: &[u16]) -> PoolSetup {
    let backend = |host| Backend::new(format!("h{host}"), vec![[192, 0, 2, host].into()]);
    let check = |port: &u16| Check {
        name: format!("c{port}"),
        ..Check::new(Probe::Tcp(TcpProbe::connect(*port)), DEFAULTS)
    };
    let pool = Pool::new(name, (1..=backends).map(backend).collect());
    PoolSetup { pool, checks: ports.iter().map(check).collect(), require: Require::All }
}

/// A fleet with its own clock.
struct Scene {
    fleet: Fleet,
    rng: SmallRng,
    now: Moment,
    /// Each with the port of its probe.
    running: Vec<(u16, Running)>,
}

impl Scene {
    fn new(pools: Vec<PoolSetup>, probes: usize) -> Self {
        Self::with(FleetSetup { served: served(pools, 20), memory: Memory::default() }, probes)
    }

    fn with(setup: FleetSetup, probes: usize) -> Self {
        let mut rng = SmallRng::seed_from_u64(1);
        let capacity = Capacity { counting_threads: 1, probes };
        let outputs =
            Outputs { metrics: Arc::new(Metrics::new(1)), events: Events::new(SystemTime::UNIX_EPOCH) };
        let fleet = Fleet::new(setup, capacity, outputs, clocks(Moment::ZERO), &mut rng);
        Self { fleet, rng, now: Moment::ZERO, running: Vec::new() }
    }

    /// Advances to the next deadline and starts the due probes.
    fn wake(&mut self) {
        self.now = self.fleet.next_deadline().unwrap().max(self.now);
        self.fleet.set_clocks(clocks(self.now));
        self.fleet.settle();
        self.fleet.publish(None);
        let mut launches = Vec::new();
        self.fleet.start_due(&mut launches);
        self.running.extend(launches.into_iter().map(|Launch { run, running }| match &*run.probe {
            Probe::Tcp(probe) => (probe.port, running),
            _ => unreachable!("all checks are of one kind"),
        }));
    }

    /// Ends the running probes.
    fn end(&mut self, outcome: Outcome) {
        for (_, running) in self.running.drain(..) {
            self.fleet.ended(running, report(outcome, None, Duration::ZERO), &mut self.rng);
        }
        self.fleet.settle();
        self.fleet.publish(None);
    }

    /// For each pool, whether it is usable only with addresses that are not known to be healthy.
    fn on_trust(&self) -> Vec<bool> {
        self.fleet.table().pools().iter().map(|view| view.family(Family::Ipv4).on_trust).collect()
    }

    fn is_suspected(&self) -> bool {
        self.fleet.health.suspicions().next().is_some()
    }
}

fn clocks(now: Moment) -> Clocks {
    Clocks { now, passed: now, wall: time_of_day(now) }
}

#[test]
fn a_suspicion_ends_on_time_while_every_slot_is_taken() {
    let mut scene = Scene::new(vec![pool("a", 3, &[1])], 1);
    while scene.fleet.unknown() > 0 {
        scene.wake();
        scene.end(Outcome::Passed);
    }
    while !scene.is_suspected() {
        scene.wake();
        scene.end(Outcome::Failed);
    }
    let end = scene.fleet.health.suspicions().next().unwrap().until;
    while scene.running.is_empty() {
        scene.wake();
    }
    assert!(scene.is_suspected() && scene.now < end);
    assert_eq!(scene.fleet.next_deadline(), Some(end));
    scene.wake();
    assert_eq!((scene.now, scene.is_suspected()), (end, false));
}

#[test]
fn an_override_ends_on_time_while_nothing_else_is_due() {
    let mut scene = Scene::new(vec![pool("a", 2, &[])], 1);
    assert_eq!(scene.fleet.next_deadline(), None);
    let request = OverrideRequest {
        pool: "a".into(),
        backend: "h1".into(),
        change: OverrideChange::State(Some(Override::Down)),
        length: Some(SECOND * 90),
        reason: None,
        force: false,
        by: "a test".into(),
        expected: Precondition::default(),
    };
    scene.fleet.override_backend(request).unwrap();
    let eligible = |scene: &Scene| {
        scene.fleet.table().pools().get(0).unwrap().family(Family::Ipv4).eligible.members.len()
    };
    assert_eq!(eligible(&scene), 1);
    scene.now = milliseconds(1);
    scene.fleet.set_clocks(clocks(scene.now));
    assert_eq!(scene.fleet.next_deadline(), Some(SECOND * 90));
    scene.wake();
    assert_eq!((scene.now, eligible(&scene)), (SECOND * 90, 2));
    assert_eq!(scene.fleet.next_deadline(), None);
}

#[test]
fn a_verdict_that_a_reload_lends_to_a_target_counts_in_every_pool_that_shares_it() {
    let mut scene = Scene::new(vec![pool("a", 1, &[1]), pool("b", 1, &[2])], 1000);
    // The probe of pool a does not end, that of pool b passes.
    let mut unended = Vec::new();
    while scene.fleet.unknown() == 2 {
        scene.wake();
        let of_a = scene.running.extract_if(.., |(port, _)| *port == 1);
        unended.extend(of_a);
        scene.end(Outcome::Passed);
    }
    assert_eq!(scene.on_trust(), [true, false]);
    // Pool b now has the same checks as pool a, and keeps its known state.
    let alike = served(vec![pool("a", 1, &[1]), pool("b", 1, &[1])], 20);
    let wanted = NewConfiguration::of(&scene.fleet.configuration(), alike);
    scene.fleet.reload(wanted, &mut scene.rng);
    assert_eq!(scene.on_trust(), [false, false]);
}

#[test]
fn a_remembered_verdict_counts_in_every_pool_that_shares_its_target() {
    let pools = vec![pool("a", 1, &[1]), pool("b", 1, &[1])];
    let state = RememberedState {
        pool: "b".into(),
        backend: "h1".into(),
        address: [192, 0, 2, 1].into(),
        check: "c1".into(),
        verdict: Verdict::Healthy,
        since: time_of_day(SECOND),
        progress: None,
    };
    let memory = Memory { states: vec![state], overrides: Vec::new(), ..Memory::default() };
    let scene = Scene::with(FleetSetup { served: served(pools, 20), memory }, 1000);
    assert_eq!(scene.on_trust(), [false, false]);
}

/// Answers of the pool that is left expire with the longest TTL that was handed out, also with one of an earlier
/// configuration.
#[test]
fn a_failover_says_when_the_other_pools_are_safe() {
    let pools = || vec![pool("a", 2, &[]), pool("b", 2, &[])];
    let setup = FleetSetup { served: served(pools(), 300), memory: Memory::default() };
    let mut scene = Scene::with(setup, 1);
    let fail_over = |scene: &mut Scene, pool: Option<&str>| {
        let request = FailoverRequest {
            service: Name::parse("www.example.com").unwrap(),
            pool: pool.map(Into::into),
            length: None,
            reason: None,
            force: false,
            by: "a test".into(),
            expected: Precondition::default(),
        };
        scene.fleet.fail_over(request).unwrap()
    };
    let advance = |scene: &mut Scene, to: Duration| {
        scene.now = to;
        scene.fleet.set_clocks(clocks(to));
    };
    let seconds = |seconds: u64| Some(time_of_day(SECOND * u32::try_from(seconds).unwrap()));
    let drained = |scene: &mut Scene, pool: &str, backend: &str| {
        let request = OverrideRequest {
            pool: pool.into(),
            backend: backend.into(),
            change: OverrideChange::State(Some(Override::Drain)),
            length: None,
            reason: None,
            force: false,
            by: "a test".into(),
            expected: Precondition::default(),
        };
        scene.fleet.override_backend(request).unwrap().backend.overridden.unwrap().safe_at
    };
    advance(&mut scene, SECOND * 10);
    assert_eq!(fail_over(&mut scene, Some("b")).safe_at, seconds(10 + 1 + 300));
    // Drained later, a backend is said to be safe no earlier than that.
    advance(&mut scene, SECOND * 20);
    assert_eq!(drained(&mut scene, "a", "h1"), seconds(20 + 1 + 300));
    fail_over(&mut scene, None);
    advance(&mut scene, SECOND * 30);
    let wanted = NewConfiguration::of(&scene.fleet.configuration(), served(pools(), 20));
    scene.fleet.reload(wanted, &mut scene.rng);
    advance(&mut scene, SECOND * 40);
    assert_eq!(
        fail_over(&mut scene, Some("b")).safe_at,
        seconds(30 + 1 + 300),
        "of the earlier configuration"
    );
    advance(&mut scene, SECOND * 340);
    assert_eq!(fail_over(&mut scene, Some("a")).safe_at, seconds(340 + 1 + 20));
    // It goes on, and only the time until answers of others have expired is another.
    assert_eq!(fail_over(&mut scene, Some("a")).before.map(|before| before.pool), Some("a".into()));
}

/// A tier that is usable only because of an override stays in use over a restart, whether it is the first or the second.
#[test]
fn a_start_considers_overrides_before_it_chooses_a_tier() {
    for (name, expected) in [("a", 0), ("b", 1)] {
        let pools =
            ["a", "b"].map(|pool_name| pool(pool_name, 1, if pool_name == name { &[1] } else { &[] }));
        let mut served = steered(pools.into(), 20, [Failback::Manual; 2]);
        served.services.retain(|service| service.name == Name::parse("one.example.com").unwrap());
        let since = time_of_day(Duration::ZERO);
        let (of_pool, backend, address) = (Arc::from(name), Arc::from("h1"), [192, 0, 2, 1].into());
        let failing = RememberedState {
            pool: Arc::clone(&of_pool),
            backend: Arc::clone(&backend),
            address,
            check: "c1".into(),
            verdict: Verdict::Unhealthy,
            since,
            progress: None,
        };
        let value = OverrideValue::State(Override::Up);
        let up =
            RememberedOverride { pool: of_pool, backend, value, since, until: None, reason: None, by: None };
        let tier = RememberedTier {
            service: "one.example.com".into(),
            route: 0,
            family: Family::Ipv4,
            tiers: vec!["a".into(), "b".into()],
            pool: (expected > 0).then(|| name.into()),
        };
        let memory =
            Memory { states: vec![failing], overrides: vec![up], tiers: vec![tier], ..Memory::default() };
        let scene = Scene::with(FleetSetup { served, memory }, 1);
        let table = scene.fleet.table();
        let in_use = table.tier_in_use(table.services()[0].default_route().plan(), Family::Ipv4);
        assert_eq!((in_use.tier, in_use.waiting.is_some()), (expected, expected > 0), "{name}");
    }
}
