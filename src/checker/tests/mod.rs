//! The checker on a paused clock with scripted probes, and on the real clock with real sockets.

mod basics;
mod bulk;
mod checks;
mod certainty;
mod conditions;
mod consequences;
mod expiry;
mod memory;
mod overrides;
mod probing;
mod shares;
mod sockets;
mod status;
mod suspicion;
mod sweep;
mod weights;

pub(crate) use std::collections::HashMap;
pub(crate) use std::net::IpAddr;
pub(crate) use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Mutex, OnceLock};

pub(crate) use rand::SeedableRng;
pub(crate) use tokio::sync::oneshot;
pub(crate) use tokio::time::Instant;

use super::*;
pub(crate) use crate::captured_log::CapturedLog;
pub(crate) use crate::check::{Check, PoolSetup, Probe, TcpProbe, Timing};
use crate::events::Events;
pub(crate) use crate::fleet::*;
pub(crate) use crate::health::Outcome;
pub(crate) use crate::metrics::Metrics;
pub(crate) use crate::name::Name;
pub(crate) use crate::pool::{Backend, Family, Pool, PoolId, Require};
pub(crate) use crate::probe::{Cause, Report};
pub(crate) use crate::selection::Spread;
pub(crate) use crate::served::Served;
pub(crate) use crate::service::{Answers, Policy, Service, WhenDown};
pub(crate) use crate::settings::Settings;
pub(crate) use crate::table::{PoolView, Standing, Table};
pub(crate) use crate::zone::Catalog;

pub(crate) const CAPACITY: Capacity = Capacity { counting_threads: 1, probes: MAX_IN_FLIGHT };

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) const DEFAULTS: Timing = Timing {
    interval: Duration::from_secs(5),
    timeout: Duration::from_secs(2),
    rise: 2,
    fall: 3,
    recheck: SECOND,
    interval_down: Duration::from_secs(5),
    damping: true,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Serve,
    Drain,
    Refuse,
    /// A fault of this machine.
    Break,
    Hang,
    Panic,
}

/// The time that each probe adds to the charge for searches.
pub(crate) const SEARCH: Duration = Duration::from_millis(1);

/// Probes that follow the script of a test, by address; unmentioned addresses serve.
#[derive(Clone, Default)]
pub(crate) struct Script(pub(crate) Arc<Scripted>);

#[derive(Default)]
pub(crate) struct Scripted {
    pub(crate) behaviours: Mutex<HashMap<IpAddr, Behaviour>>,
    /// The behaviour of single ports. It has priority over that of the address.
    pub(crate) on_port: Mutex<HashMap<(IpAddr, u16), Behaviour>>,
    pub(crate) started: Mutex<HashMap<IpAddr, usize>>,
    pub(crate) started_on_port: Mutex<HashMap<(IpAddr, u16), usize>>,
    /// The charge with which the last probe of an address began.
    pub(crate) search_charges: Mutex<HashMap<IpAddr, Duration>>,
    /// Loads that backends report.
    pub(crate) loads: Mutex<HashMap<IpAddr, u8>>,
    /// When the certificates of backends expire.
    pub(crate) certificates: Mutex<HashMap<IpAddr, SystemTime>>,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) peak: AtomicUsize,
    /// How far the time of day has jumped, seconds.
    pub(crate) jumped: AtomicI64,
    pub(crate) began: OnceLock<Instant>,
    pub(crate) seed: OnceLock<u64>,
}

impl Script {
    pub(crate) fn set(&self, address: &str, behaviour: Behaviour) {
        self.0.behaviours.lock().unwrap().insert(address.parse().unwrap(), behaviour);
    }

    pub(crate) fn load(&self, address: &str, percent: Option<u8>) {
        let address = address.parse().unwrap();
        let mut loads = self.0.loads.lock().unwrap();
        match percent {
            Some(percent) => drop(loads.insert(address, percent)),
            None => drop(loads.remove(&address)),
        }
    }

    pub(crate) fn certificate(&self, address: &str, expires: SystemTime) {
        self.0.certificates.lock().unwrap().insert(address.parse().unwrap(), expires);
    }

    /// Makes the time of day jump, in seconds.
    pub(crate) fn jump(&self, by: i64) {
        self.0.jumped.fetch_add(by, Ordering::Relaxed);
    }

    /// The time of day. It advances with the paused clock, from an arbitrary day on.
    pub(crate) fn time_of_day(&self) -> SystemTime {
        let began = *self.0.began.get_or_init(Instant::now);
        let jumped = self.0.jumped.load(Ordering::Relaxed);
        let base = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + began.elapsed();
        let jump = Duration::from_secs(jumped.unsigned_abs());
        if jumped < 0 { base - jump } else { base + jump }
    }

    pub(crate) fn set_on(&self, address: &str, port: u16, behaviour: Behaviour) {
        self.0.on_port.lock().unwrap().insert((address.parse().unwrap(), port), behaviour);
    }

    pub(crate) fn started_on(&self, address: &str, port: u16) -> usize {
        let key = (address.parse().unwrap(), port);
        self.0.started_on_port.lock().unwrap().get(&key).copied().unwrap_or(0)
    }

    /// How many probes of an address have started.
    pub(crate) fn started(&self, address: &str) -> usize {
        self.0.started.lock().unwrap().get(&address.parse().unwrap()).copied().unwrap_or(0)
    }
}

/// Counts a probe as in flight until it completes or is ended.
pub(crate) struct InFlight<'a>(&'a Scripted);

impl<'a> InFlight<'a> {
    fn new(script: &'a Scripted) -> Self {
        let in_flight = script.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        script.peak.fetch_max(in_flight, Ordering::Relaxed);
        Self(script)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The destination port of a probe; 0 if it has none.
pub(crate) fn port_of(probe: &Probe) -> u16 {
    match probe {
        Probe::Tcp(probe) => probe.port,
        Probe::Tls(probe) => probe.port,
        Probe::Http(probe) => probe.port,
        Probe::Grpc(probe) => probe.port,
        Probe::Exec(probe) => probe.port.unwrap_or(0),
    }
}

impl Outside for Script {
    async fn probe(self, ProbeRun { probe, address, timeout, search_charge }: ProbeRun) -> Report {
        let port = port_of(&probe);
        *self.0.started.lock().unwrap().entry(address).or_default() += 1;
        *self.0.started_on_port.lock().unwrap().entry((address, port)).or_default() += 1;
        self.0.search_charges.lock().unwrap().insert(address, search_charge);
        let _guard = InFlight::new(&self.0);
        let of_port = self.0.on_port.lock().unwrap().get(&(address, port)).copied();
        let behaviour = of_port.or_else(|| self.0.behaviours.lock().unwrap().get(&address).copied());
        let began = Instant::now();
        let outcome = match behaviour.unwrap_or(Behaviour::Serve) {
            Behaviour::Serve => Outcome::Passed,
            Behaviour::Drain => Outcome::Draining,
            Behaviour::Break => Outcome::Void,
            Behaviour::Refuse => Outcome::Failed,
            Behaviour::Hang => {
                tokio::time::sleep(timeout).await;
                Outcome::Failed
            }
            Behaviour::Panic => panic!("a scripted defect"),
        };
        Report {
            outcome,
            cause: match outcome {
                Outcome::Failed => Some(Cause::Refused),
                Outcome::Void => Some(Cause::Local),
                _ => None,
            },
            detail: format!("scripted {outcome:?}").into(),
            load: self.0.loads.lock().unwrap().get(&address).copied(),
            certificate_expires: probe
                .tls()
                .and_then(|_| self.0.certificates.lock().unwrap().get(&address).copied()),
            duration: began.elapsed(),
            phases: Vec::new(),
            search_charge: search_charge + SEARCH,
        }
    }

    fn wall(&self) -> SystemTime {
        self.time_of_day()
    }

    fn passed(&self) -> Duration {
        self.0.began.get_or_init(Instant::now).elapsed()
    }

    fn chance(&self) -> SmallRng {
        let seed = *self.0.seed.get_or_init(|| {
            let wanted = std::env::var("STEERD_SEED").ok().and_then(|seed| seed.parse().ok());
            wanted.unwrap_or_else(rand::random)
        });
        println!("STEERD_SEED={seed}");
        SmallRng::seed_from_u64(seed)
    }
}

pub(crate) fn check(timing: Timing) -> Check {
    tcp(80, timing)
}

pub(crate) fn tcp(port: u16, timing: Timing) -> Check {
    Check::new(Probe::Tcp(TcpProbe::connect(port)), timing)
}

pub(crate) fn backend(address: &str) -> Backend {
    Backend::new(address, vec![address.parse().unwrap()])
}

pub(crate) fn pool(name: &str, check: impl Into<Option<Check>>, backends: Vec<Backend>) -> PoolSetup {
    PoolSetup {
        pool: Pool::new(name, backends),
        checks: check.into().into_iter().collect(),
        require: Require::All,
    }
}

pub(crate) fn pool_of(name: &str, check: impl Into<Option<Check>>, addresses: &[&str]) -> PoolSetup {
    pool(name, check, addresses.iter().map(|address| backend(address)).collect())
}

pub(crate) fn service(tiers: &[u32]) -> Service {
    let name = Name::parse("www.example.com").unwrap();
    Service::new(name, tiers.iter().copied().map(PoolId).collect())
}

pub(crate) fn setup(pools: Vec<PoolSetup>, services: Vec<Service>) -> Served {
    Served {
        settings: Settings::default(),
        catalog: Catalog::new(Vec::new()),
        services,
        rule_tables: Vec::new(),
        pools,
        startup_wait: SECOND * 3,
    }
}

/// The checker on the runtime of the test, which controls its clock.
pub(crate) fn start_with(
    served: Served,
    capacity: Capacity,
    metrics: Arc<Metrics>,
    outside: Script,
) -> CheckerHandle {
    start_after(Memory::default(), served, capacity, metrics, outside)
}

pub(crate) fn start_after(
    memory: Memory,
    served: Served,
    capacity: Capacity,
    metrics: Arc<Metrics>,
    outside: Script,
) -> CheckerHandle {
    let (handle, work) = prepare(
        FleetSetup { served, memory },
        capacity,
        outputs(metrics),
        outside,
        Retired::start().unwrap(),
    );
    tokio::spawn(work);
    handle
}

fn outputs(metrics: Arc<Metrics>) -> Outputs {
    Outputs { metrics, events: Events::new(SystemTime::UNIX_EPOCH) }
}

pub(crate) fn run(served: Served) -> (CheckerHandle, Script) {
    run_after(Memory::default(), served)
}

pub(crate) fn run_after(memory: Memory, served: Served) -> (CheckerHandle, Script) {
    let script = Script::default();
    (start_after(memory, served, CAPACITY, Arc::new(Metrics::new(1)), script.clone()), script)
}

/// The view of a pool in a table.
pub(crate) fn view(table: &Table, pool: usize) -> &Arc<PoolView> {
    table.pools().get(pool).unwrap()
}

pub(crate) fn eligible(handle: &CheckerHandle, pool: usize) -> Vec<String> {
    let table = handle.published.load();
    let members = |family| view(&table, pool).family(family).eligible.members.iter();
    Family::ALL.into_iter().flat_map(members).map(|member| member.address.to_string()).collect()
}

pub(crate) async fn ask<T>(
    handle: &CheckerHandle,
    command: impl FnOnce(oneshot::Sender<T>) -> CheckerCommand,
) -> T {
    let (reply, answer) = oneshot::channel();
    handle.commands.send(command(reply)).await.unwrap();
    answer.await.unwrap()
}

/// The complete state, assembled from its pieces.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) generation: u64,
    pub(crate) pools: Vec<Told>,
    pub(crate) services: Vec<ServiceStatus>,
    pub(crate) suspected: Option<Suspected>,
}

/// A pool with its backends.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) pool: PoolStatus,
    pub(crate) backends: Vec<BackendStatus>,
}

impl std::ops::Deref for Told {
    type Target = PoolStatus;

    fn deref(&self) -> &PoolStatus {
        &self.pool
    }
}

pub(crate) async fn status(handle: &CheckerHandle) -> Status {
    let table = handle.published.load();
    let (pools, suspected) = told(handle, Cursor::all(Arc::clone(&table))).await.unwrap();
    let services = table.services().iter().map(|view| ServiceStatus::of(view, &table)).collect();
    Status { generation: table.generation, pools, services, suspected }
}

/// The reported status from a cursor on; none if another configuration comes into force meanwhile.
pub(crate) async fn told(handle: &CheckerHandle, cursor: Cursor) -> Option<(Vec<Told>, Option<Suspected>)> {
    let (mut pools, mut suspected, mut next) = (Vec::<Told>::new(), None, Some(cursor));
    while let Some(cursor) = next {
        let piece = ask(handle, |reply| CheckerCommand::Tell(cursor, reply)).await?;
        for PoolPiece { pool, backends } in piece.pools {
            match pool {
                Some(pool) => pools.push(Told { pool, backends }),
                None => pools.last_mut().unwrap().backends.extend(backends),
            }
        }
        (suspected, next) = (piece.suspected, piece.next);
    }
    Some((pools, suspected))
}

/// One pool with history.
pub(crate) async fn pool_told(handle: &CheckerHandle, pool: u32) -> Told {
    let (mut pools, _) =
        told(handle, Cursor::with_history(handle.published.load(), PoolId(pool))).await.unwrap();
    assert_eq!(pools.len(), 1);
    pools.remove(0)
}

/// Waits until a condition holds; returns how long that took.
pub(crate) async fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    // Each step costs real time, also with a paused clock.
    let step = (limit / 10_000).max(Duration::from_millis(5));
    while !holds() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(step).await;
    }
    began.elapsed()
}

/// Switches to another configuration, which shares unchanged pools with the running one.
async fn reload(handle: &CheckerHandle, served: Served) -> Reloaded {
    let running = ask(handle, CheckerCommand::Configuration).await;
    let wanted = NewConfiguration::of(&running, served);
    ask(handle, |reply| CheckerCommand::Reload(Box::new(wanted), reply)).await
}

pub(crate) async fn ready(handle: &CheckerHandle) -> Duration {
    let began = Instant::now();
    handle.ready.clone().wait_for(|ready| *ready).await.unwrap();
    began.elapsed()
}

pub(crate) fn milliseconds(interval: u64, timeout: u64, recheck: u64) -> Timing {
    let [interval, timeout, recheck] = [interval, timeout, recheck].map(Duration::from_millis);
    Timing { interval, timeout, recheck, rise: 2, fall: 2, interval_down: interval, damping: true }
}

/// The request for everything that survives a restart.
fn whole_memory(reply: oneshot::Sender<Memory>) -> CheckerCommand {
    CheckerCommand::Memory(Survey::default(), reply)
}
