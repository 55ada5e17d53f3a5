//! The checker on a paused clock with scripted probes, and on the real one with real sockets.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::fmt::MakeWriter;

use super::services::Answering;
use super::*;
use crate::name::Name;
use crate::pool::{Backend, Family};
use crate::probe::tcp::TcpProbe;
use crate::service::{Answers, Policy, WhenDown};
use tokio::sync::oneshot;

const SECOND: Duration = Duration::from_secs(1);

const DEFAULTS: Timing = Timing {
    interval: Duration::from_secs(5),
    timeout: Duration::from_secs(2),
    rise: 2,
    fall: 3,
    recheck: SECOND,
    interval_down: Duration::from_secs(5),
    damping: true,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    Serve,
    Refuse,
    Hang,
    Panic,
}

/// Probes that do what the test says of their address; what is not mentioned serves.
#[derive(Clone, Default)]
struct Script(Arc<Scripted>);

#[derive(Default)]
struct Scripted {
    behaviours: Mutex<HashMap<IpAddr, Behaviour>>,
    started: Mutex<HashMap<IpAddr, usize>>,
    in_flight: AtomicUsize,
    peak: AtomicUsize,
}

impl Script {
    fn set(&self, address: &str, behaviour: Behaviour) {
        self.0.behaviours.lock().unwrap().insert(address.parse().unwrap(), behaviour);
    }

    /// How many probes of an address have started.
    fn started(&self, address: &str) -> usize {
        self.0.started.lock().unwrap().get(&address.parse().unwrap()).copied().unwrap_or(0)
    }
}

impl Prober for Script {
    async fn run(self, check: Arc<Check>, address: IpAddr) -> Report {
        *self.0.started.lock().unwrap().entry(address).or_default() += 1;
        let in_flight = self.0.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.peak.fetch_max(in_flight, Ordering::Relaxed);
        let behaviour = self.0.behaviours.lock().unwrap().get(&address).copied();
        let began = Instant::now();
        let outcome = match behaviour.unwrap_or(Behaviour::Serve) {
            Behaviour::Serve => Outcome::Passed,
            Behaviour::Refuse => Outcome::Failed,
            Behaviour::Hang => {
                tokio::time::sleep(check.timing.timeout).await;
                Outcome::Failed
            }
            Behaviour::Panic => panic!("a scripted defect"),
        };
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        Report {
            outcome,
            cause: None,
            detail: format!("scripted {outcome:?}").into(),
            load: None,
            duration: began.elapsed(),
            phases: Vec::new(),
        }
    }
}

fn check(timing: Timing) -> Check {
    tcp(80, timing)
}

fn tcp(port: u16, timing: Timing) -> Check {
    Check::new(Probe::Tcp(TcpProbe::connect(port)), timing)
}

fn backend(address: &str) -> Backend {
    Backend::new(address, vec![address.parse().unwrap()])
}

fn pool(name: &str, check: impl Into<Option<Check>>, backends: Vec<Backend>) -> PoolSetup {
    PoolSetup {
        pool: Pool::new(name, backends),
        checks: check.into().into_iter().collect(),
        require: Require::All,
    }
}

fn pool_of(name: &str, check: impl Into<Option<Check>>, addresses: &[&str]) -> PoolSetup {
    pool(name, check, addresses.iter().map(|address| backend(address)).collect())
}

fn service(tiers: &[u32]) -> Service {
    Service {
        name: Name::parse("www.example.com").unwrap(),
        tiers: tiers.iter().copied().map(PoolId).collect(),
        answers: Answers::AtMost(2),
        ttl: 20,
        policy: Policy::Weighted,
        when_down: WhenDown::FailOpen,
    }
}

fn setup(pools: Vec<PoolSetup>, services: Vec<Service>) -> Setup {
    Setup {
        settings: Settings::default(),
        catalog: Catalog::new(Vec::new()),
        services,
        pools,
        startup_wait: SECOND * 3,
        memory: Memory::default(),
    }
}

fn run(setup: Setup) -> (Handle, Script) {
    let script = Script::default();
    (start_with(setup, 1, Arc::new(Metrics::new(1)), script.clone()), script)
}

fn eligible(handle: &Handle, pool: usize) -> Vec<String> {
    let table = handle.published.load();
    let members = |family| table.pools[pool].family(family).eligible.members.iter();
    Family::ALL.into_iter().flat_map(members).map(|member| member.address.to_string()).collect()
}

async fn status(handle: &Handle) -> Status {
    let (reply, status) = oneshot::channel();
    handle.commands.send(Command::Status(reply)).await.unwrap();
    status.await.unwrap()
}

/// Waits until something holds; says how long that took.
async fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}

async fn ready(handle: &Handle) -> Duration {
    let began = Instant::now();
    handle.ready.clone().wait_for(|ready| *ready).await.unwrap();
    began.elapsed()
}

/// The log lines of this thread, as long as the guard lives.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        // As long as tracing knows of one subscriber only, it asks that of whatever thread comes first
        // whether a line is wanted, and keeps the answer of a test that does not listen.
        static ANOTHER: OnceLock<Dispatch> = OnceLock::new();
        ANOTHER.get_or_init(|| Dispatch::new(NoSubscriber::default()));
        let log = Self::default();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(log.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// Takes the lines that have this text.
    fn take(&self, text: &str) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let all = String::from_utf8(bytes).unwrap();
        all.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_outcomes_decide_and_make_it_ready() {
    let (log, _guard) = Log::listen();
    let pool = pool_of("web", check(DEFAULTS), &["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    let (handle, script) = run(setup(vec![pool], vec![service(&[0])]));
    script.set("192.0.2.2", Behaviour::Refuse);
    assert_eq!(handle.published.load().generation, 1);
    assert_eq!(eligible(&handle, 0).len(), 3, "nobody is judged yet");
    assert!(!*handle.ready.borrow());

    assert!(ready(&handle).await <= crate::health::FIRST_ROUND + Duration::from_millis(5));
    assert_eq!(eligible(&handle, 0), ["192.0.2.1", "2001:db8::1"], "ready comes after the publish");
    assert!((2..=4).contains(&handle.published.load().generation), "a publish for each moment with outcomes");
    let mut lines = log.take("backend is");
    lines.sort();
    assert_eq!(lines.len(), 3);
    assert!(
        lines[2].contains(
            "backend is unhealthy pool=\"web\" backend=\"192.0.2.2\" address=192.0.2.2 from=\"unknown\" \
             to=\"unhealthy\" reason=\"scripted Failed\" consecutive=1"
        ),
        "{lines:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_backend_delays_readiness_up_to_startup_wait_and_no_longer() {
    let silent = Timing { interval: SECOND * 20, timeout: SECOND * 10, ..DEFAULTS };
    let pools = vec![pool_of("web", check(silent), &["192.0.2.1", "192.0.2.2"])];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    script.set("192.0.2.1", Behaviour::Hang);
    let took = ready(&handle).await;
    assert!(took >= SECOND * 3 && took < SECOND * 3 + Duration::from_millis(5), "{took:?}");
    assert_eq!(eligible(&handle, 0), ["192.0.2.2"], "what is known to be well comes before what is unknown");
    assert_eq!(status(&handle).await.pools[0].backends[0].addresses[0].standing, Standing::Unknown);
}

#[tokio::test(start_paused = true)]
async fn without_targets_it_is_ready_at_once() {
    let off = Backend { enabled: false, ..backend("192.0.2.2") };
    let pools = vec![
        pool_of("unchecked", None, &["192.0.2.1"]),
        pool("off", check(DEFAULTS), vec![off]),
        pool_of("empty", check(DEFAULTS), &[]),
    ];
    let absent = Service { when_down: WhenDown::NoData, ..service(&[1]) };
    let (handle, script) = run(setup(pools, vec![service(&[0]), absent]));
    assert_eq!(ready(&handle).await, Duration::ZERO);
    assert_eq!(eligible(&handle, 0), ["192.0.2.1"]);
    assert_eq!(eligible(&handle, 1), [""; 0]);
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(script.started("192.0.2.1") + script.started("192.0.2.2"), 0);
    let status = status(&handle).await;
    let [unchecked, off, _] = &status.pools[..] else { panic!("three pools") };
    assert_eq!(unchecked.backends[0].addresses[0].standing, Standing::Healthy);
    assert!(unchecked.usable && unchecked.backends[0].addresses[0].check.is_none());
    assert_eq!(off.backends[0].addresses[0].standing, Standing::Unknown);
    assert_eq!((off.usable, off.total_weight), (false, 0));
    assert!(!status.services[1].down, "a service without any address is not down");
}

#[tokio::test(start_paused = true)]
async fn death_and_return_of_one_backend() {
    let pools = vec![pool_of("web", check(DEFAULTS), &["192.0.2.1", "192.0.2.2"])];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    ready(&handle).await;
    let before = status(&handle).await;
    assert_eq!((before.pools[0].healthy_weight, before.pools[0].total_weight), (2, 2));

    script.set("192.0.2.1", Behaviour::Refuse);
    let took = until("death is found", SECOND * 20, || eligible(&handle, 0) == ["192.0.2.2"]).await;
    assert!(took >= SECOND * 2 && took <= Duration::from_millis(7260), "{took:?}");
    let now = status(&handle).await;
    assert_eq!(now.generation, before.generation + 1);
    assert_eq!((now.pools[0].healthy_weight, now.pools[0].usable), (1, true));
    let address = &now.pools[0].backends[0].addresses[0];
    assert_eq!((address.standing, address.eligible), (Standing::Unhealthy, false));
    let check = address.check.as_ref().unwrap();
    let (_, report) = check.last.as_ref().unwrap();
    assert_eq!((check.name, &*report.detail), ("tcp", "scripted Failed"));

    script.set("192.0.2.1", Behaviour::Serve);
    let took = until("return is found", SECOND * 20, || eligible(&handle, 0).len() == 2).await;
    assert!(took >= SECOND && took <= Duration::from_millis(6260), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_backend_of_weight_0_is_probed_and_never_answered() {
    let idle = Backend { weight: 0, ..backend("192.0.2.2") };
    let pools = vec![pool("web", check(DEFAULTS), vec![backend("192.0.2.1"), idle])];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    ready(&handle).await;
    script.set("192.0.2.1", Behaviour::Refuse);
    until("death is found", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
    let status = status(&handle).await;
    assert_eq!(status.pools[0].backends[1].addresses[0].standing, Standing::Healthy);
    assert_eq!((status.pools[0].total_weight, status.pools[0].usable), (1, false));
    assert!(status.services[0].fail_open);
    let table = handle.published.load();
    let members = &table.pools[0].family(Family::Ipv4).everyone.members;
    assert_eq!(members.len(), 1, "not even when failing open, as another has weight");
}

#[tokio::test(start_paused = true)]
async fn pools_with_the_same_check_of_an_address_share_its_probes() {
    let other = Timing { fall: 2, ..DEFAULTS };
    let pools = vec![
        pool_of("one", check(DEFAULTS), &["192.0.2.1"]),
        pool_of("two", check(DEFAULTS), &["192.0.2.2", "192.0.2.1"]),
        pool_of("three", check(other), &["192.0.2.2"]),
    ];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    tokio::time::sleep(SECOND * 50).await;
    let (shared, apart) = (script.started("192.0.2.1"), script.started("192.0.2.2"));
    assert!((10..=12).contains(&shared) && (20..=24).contains(&apart), "{shared} and {apart} probes");
    let generation = handle.published.load().generation;
    script.set("192.0.2.1", Behaviour::Refuse);
    until("death is found", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
    assert_eq!(eligible(&handle, 1), ["192.0.2.2"]);
    assert_eq!(handle.published.load().generation, generation + 1, "both pools in one publish");
}

#[tokio::test(start_paused = true)]
async fn only_touched_pools_are_built_anew() {
    let pools = vec![
        pool_of("one", check(DEFAULTS), &["192.0.2.1"]),
        pool_of("two", check(DEFAULTS), &["192.0.2.2"]),
    ];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    ready(&handle).await;
    let before = handle.published.load();
    before.pools[0].answers.add(0, 0, 7);
    script.set("192.0.2.1", Behaviour::Refuse);
    until("death is found", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
    let after = handle.published.load();
    assert!(Arc::ptr_eq(&before.pools[1], &after.pools[1]));
    assert_eq!(after.pools[0].answers.sum(0), 7, "counters live on");
}

#[tokio::test(start_paused = true)]
async fn services_tell_of_tiers_and_of_being_down_once() {
    let (log, _guard) = Log::listen();
    let pools = vec![
        pool_of("main", check(DEFAULTS), &["192.0.2.1", "2001:db8::1"]),
        pool_of("standby", check(DEFAULTS), &["192.0.2.2", "2001:db8::2"]),
    ];
    let (handle, script) = run(setup(pools, vec![service(&[0, 1])]));
    ready(&handle).await;
    assert_eq!(log.take("service"), [""; 0], "a start in health has nothing to tell");
    let down = |handle: &Handle| {
        let table = handle.published.load();
        Answering::of(&table.services[0].service, &table)
    };
    script.set("192.0.2.1", Behaviour::Refuse);
    until("ipv4 has moved", SECOND * 20, || down(&handle).tier[0] == Some(PoolId(1))).await;
    let lines = log.take("service is answered");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("from=\"main\" to=\"standby (ipv4), main (ipv6)\""), "{lines:?}");
    let now = status(&handle).await;
    assert_eq!(now.services[0].tier, [Some("standby".into()), Some("main".into())]);
    assert!(!now.pools[0].usable, "not in every family");

    for address in ["192.0.2.2", "2001:db8::1", "2001:db8::2"] {
        script.set(address, Behaviour::Hang);
    }
    until("all is down", SECOND * 40, || down(&handle).tier == [None, None]).await;
    let lines = log.take("service down");
    assert_eq!(lines.len(), 1, "once for the service, not for each family: {lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("fail open"), "{lines:?}");
    let now = status(&handle).await;
    assert!(now.services[0].down && now.services[0].fail_open);
    assert_eq!(now.services[0].tier, [None, None]);

    for address in ["192.0.2.1", "2001:db8::1"] {
        script.set(address, Behaviour::Serve);
    }
    until("it is back", SECOND * 40, || down(&handle).tier == [Some(PoolId(0)); 2]).await;
    let lines = log.take("service up");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("INFO"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_is_void_and_its_target_is_probed_on() {
    let (log, _guard) = Log::listen();
    let pools = vec![pool_of("web", check(DEFAULTS), &["192.0.2.1"])];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    ready(&handle).await;
    script.set("192.0.2.1", Behaviour::Panic);
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(eligible(&handle, 0), ["192.0.2.1"]);
    assert!((12..=14).contains(&script.started("192.0.2.1")), "{}", script.started("192.0.2.1"));
    assert_eq!(log.take("could not be probed").len(), 1, "told once");
    script.set("192.0.2.1", Behaviour::Refuse);
    until("the target is alive", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn failures_while_this_process_did_not_run_do_not_count() {
    let once = Timing { fall: 1, ..DEFAULTS };
    let pools = vec![
        pool_of("web", check(once), &["192.0.2.1"]),
        // What should have run while this process did not: the other probe's end comes later.
        pool_of("often", check(milliseconds(100, 90, 90)), &["192.0.2.2"]),
    ];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    ready(&handle).await;
    script.set("192.0.2.1", Behaviour::Hang);
    let count = script.started("192.0.2.1");
    until("a probe is in flight", SECOND * 20, || script.started("192.0.2.1") > count).await;
    tokio::time::advance(SECOND).await;
    tokio::time::sleep(SECOND * 2).await;
    let check = status(&handle).await.pools[0].backends[0].addresses[0].check.clone().unwrap();
    let (_, report) = check.last.unwrap();
    assert_eq!(report.outcome, Outcome::Void, "{report:?}");
    assert!(report.detail.contains("too late to judge fairly"), "{report:?}");
    assert_eq!(eligible(&handle, 0), ["192.0.2.1"]);
    until("an honest failure counts", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
}

#[test]
fn only_failures_of_late_probes_are_void() {
    let report = |outcome, duration| Report {
        outcome,
        cause: None,
        detail: "x".into(),
        load: None,
        duration,
        phases: Vec::new(),
    };
    let judged = |outcome, duration, stalled| fair(report(outcome, duration), SECOND, stalled).outcome;
    assert_eq!(judged(Outcome::Failed, SECOND + LATE, false), Outcome::Failed);
    assert_eq!(judged(Outcome::Failed, SECOND * 2, false), Outcome::Void);
    assert_eq!(judged(Outcome::Failed, Duration::ZERO, true), Outcome::Void);
    assert_eq!(judged(Outcome::Passed, SECOND * 2, true), Outcome::Passed);
}

#[tokio::test(start_paused = true)]
async fn probes_in_flight_are_capped_and_nobody_is_forgotten() {
    let count = MAX_IN_FLIGHT + 500;
    let addresses: Vec<String> =
        (0..count).map(|index| format!("10.0.{}.{}", index / 250, index % 250)).collect();
    let pools = addresses.chunks(100).map(|addresses| {
        pool("web", check(DEFAULTS), addresses.iter().map(|address| backend(address)).collect())
    });
    let mut setup = setup(pools.collect(), Vec::new());
    setup.startup_wait = SECOND * 60;
    let script = Script::default();
    for address in &addresses {
        script.set(address, Behaviour::Hang);
    }
    let handle = start_with(setup, 1, Arc::new(Metrics::new(1)), script.clone());
    let took = ready(&handle).await;
    assert_eq!(script.0.peak.load(Ordering::Relaxed), MAX_IN_FLIGHT);
    assert!(took >= SECOND * 2 && took < SECOND * 5, "two batches of two seconds: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_its_last_handle() {
    let (handle, script) = run(setup(vec![pool_of("web", check(DEFAULTS), &["192.0.2.1"])], Vec::new()));
    ready(&handle).await;
    let kept = handle.clone();
    drop(handle);
    let count = script.started("192.0.2.1");
    until("it goes on", SECOND * 20, || script.started("192.0.2.1") > count).await;
    let mut is_ready = kept.ready.clone();
    is_ready.mark_unchanged();
    drop(kept);
    assert!(is_ready.changed().await.is_err());
    until("its probes have ended with it", SECOND, || Arc::strong_count(&script.0) == 1).await;
}

/// Addresses of this machine with a free port in common: 127.0.1.1 and on.
fn listeners(count: u8) -> (u16, Vec<std::net::TcpListener>) {
    for _ in 0..100 {
        let first = std::net::TcpListener::bind("127.0.1.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let rest =
            (2..=count).map(|last| std::net::TcpListener::bind((IpAddr::from([127, 0, 1, last]), port)));
        if let Ok(all) = std::iter::once(Ok(first)).chain(rest).collect() {
            return (port, all);
        }
    }
    panic!("no port is free on {count} addresses");
}

fn milliseconds(interval: u64, timeout: u64, recheck: u64) -> Timing {
    let [interval, timeout, recheck] = [interval, timeout, recheck].map(Duration::from_millis);
    Timing { interval, timeout, recheck, rise: 2, fall: 2, interval_down: interval, damping: true }
}

#[tokio::test]
async fn over_sockets_a_backend_dies_and_returns() {
    let (port, mut listening) = listeners(3);
    let timing = milliseconds(200, 150, 20);
    let pools = vec![pool_of("web", tcp(port, timing), &["127.0.1.1", "127.0.1.2", "127.0.1.3"])];
    let handle = start(setup(pools, vec![service(&[0])]), 1, Arc::new(Metrics::new(1)));
    ready(&handle).await;
    assert_eq!(eligible(&handle, 0).len(), 3);
    let dead = listening.remove(1);
    let address = dead.local_addr().unwrap();
    drop(dead);
    until("death is found", SECOND * 10, || eligible(&handle, 0) == ["127.0.1.1", "127.0.1.3"]).await;
    let report =
        status(&handle).await.pools[0].backends[1].addresses[0].check.clone().unwrap().last.unwrap().1;
    assert_eq!(&*report.detail, "connection refused");
    listening.push(std::net::TcpListener::bind(address).unwrap());
    until("return is found", SECOND * 10, || eligible(&handle, 0).len() == 3).await;
}

#[tokio::test]
async fn over_sockets_a_black_hole_among_fifty_delays_no_other() {
    let (port, mut listening) = listeners(50);
    // A full backlog: the kernel drops what else wants to connect.
    let hole = listening.remove(20);
    let hole_address = hole.local_addr().unwrap();
    socket2::SockRef::from(&hole).listen(0).unwrap();
    let mut held = Vec::new();
    let patience = Duration::from_millis(200);
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&hole_address, patience) {
        held.push(stream);
        assert!(held.len() < 100, "this kernel does not honour the backlog");
    }
    let timing = milliseconds(1500, 1400, 50);
    let addresses: Vec<String> = (1..=50).map(|last| format!("127.0.1.{last}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let handle = start(
        setup(vec![pool_of("web", tcp(port, timing), &addresses)], Vec::new()),
        1,
        Arc::new(Metrics::new(1)),
    );
    ready(&handle).await;
    assert_eq!(eligible(&handle, 0).len(), 49);
    let dead: SocketAddr = listening.pop().unwrap().local_addr().unwrap();
    let gone = || !eligible(&handle, 0).contains(&dead.ip().to_string());
    // Interval, jitter, one recheck; the rest is for a busy machine, and less than a timeout.
    let bound = Duration::from_millis(1500 + 75 + 50 + 800);
    until("death is found", bound, gone).await;
    assert_eq!(eligible(&handle, 0).len(), 48);
}
