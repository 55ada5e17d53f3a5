//! Reloads real files, with a substitute for the checker that accepts every configuration.
#![allow(clippy::float_cmp, reason = "metrics are counts here, whole numbers that floats hold exactly")]

mod keys;
mod swap;
mod taps;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use tempfile::TempDir;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::alerts::{AdminLink, AlertSources};
use crate::checker::CheckerCommand;
use crate::fleet::{Configuration, NewConfiguration, Reloaded};
use crate::listener::Limits;
use crate::printable::quoted;
use crate::reload::report::lines;
use crate::table::{Published, Table};
use crate::visibility::{TapKind, TapStatus};
use crate::zone::Catalog;

const ZONE: &str =
    "$TTL 60\n@ SOA ns1 host 1 3600 600 604800 30\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.1\nns2 A 192.0.2.2\n";
const REST: &str = "[zones.\"example.com\"]\nfile = \"zone\"\n";
const SECRET: &str = "c3RlZXJkLXRyYW5zZmVyLXRlc3Qta2V5LTMyLWJ5dGU=";
const OTHER_SECRET: &str = "YW5vdGhlci1zZWNyZXQtb2YtdGhpcnR5LXR3by1ieXQ=";

/// A handle that reloads a file, and all parts that a reload changes.
struct Fixture {
    directory: TempDir,
    handle: ReloadHandle,
    audit: AuditHandle,
    limits: InForce,
    visibility: Visibility,
    access: watch::Receiver<Access>,
    state_dir: watch::Receiver<Option<StateDirectory>>,
    metrics: Arc<Metrics>,
    /// The settings and the `startup_wait` passed to the checker.
    given: Arc<Mutex<Vec<Settings>>>,
    /// How many reloads the checker is executing, the most at one time, and the total.
    at_work: Arc<[AtomicUsize; 3]>,
}

fn table() -> Table {
    Table::new(
        1,
        Arc::default(),
        Arc::new(Catalog::new(Vec::new())),
        Arc::default(),
        [],
        SmallRng::seed_from_u64(1),
    )
}

/// The next generation of a table, with the requested configuration.
fn renewed(table: &Table, wanted: Option<NewConfiguration>) -> Arc<Table> {
    let (settings, catalog) = match wanted {
        Some(wanted) => (Arc::new(wanted.settings), wanted.catalog),
        None => (Arc::clone(&table.settings), Arc::clone(&table.catalog)),
    };
    Arc::new(Table::new(
        table.generation + 1,
        settings,
        catalog,
        Arc::clone(table.services()),
        [],
        SmallRng::seed_from_u64(1),
    ))
}

/// Alerts of a server that has none.
fn no_alerts(checker: &checker::CheckerHandle) -> AlertsHandle {
    let (events, metrics) = (Events::new(SystemTime::now()), Arc::new(Metrics::new(1)));
    AlertsHandle::new(AlertSources { checker: checker.clone(), events, metrics, admin: AdminLink::default() })
}

impl Fixture {
    fn start(config: &str) -> Self {
        let directory = TempDir::new().unwrap();
        for (name, text) in [
            ("zone", ZONE),
            ("secrets", "000102030405060708090a0b0c0d0e0f\n"),
            ("other-secrets", "f00102030405060708090a0b0c0d0e0f\n"),
            ("token", "0123456789abcdef"),
            ("other-token", "fedcba9876543210"),
            ("key", SECRET),
            ("other-key", OTHER_SECRET),
        ] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        std::fs::create_dir(directory.path().join("state")).unwrap();
        let file = directory.path().join("steerd.toml");
        std::fs::write(&file, format!("{config}\n{REST}")).unwrap();
        let setup = config::load(&file).unwrap_or_else(|faults| panic!("{config}\n{faults}"));

        let (commands, mut received) = mpsc::channel(8);
        let given = Arc::new(Mutex::new(vec![setup.served.settings.clone()]));
        let running = Configuration::of(config::load(&file).unwrap().served, 1);
        let at_work = Arc::new([const { AtomicUsize::new(0) }; 3]);
        let (taken, counts) = (Arc::clone(&given), Arc::clone(&at_work));
        tokio::spawn(async move {
            let mut running = running;
            while let Some(command) = received.recv().await {
                match command {
                    CheckerCommand::Configuration(reply) => {
                        running.table = renewed(&running.table, None);
                        let (counts, running) = (Arc::clone(&counts), running.clone());
                        tokio::spawn(async move {
                            let now = counts[0].fetch_add(1, Ordering::SeqCst) + 1;
                            counts[1].fetch_max(now, Ordering::SeqCst);
                            // Long enough for another reload to run in between, if that were
                            // possible.
                            tokio::time::sleep(Duration::from_millis(20)).await;
                            counts[0].fetch_sub(1, Ordering::SeqCst);
                            counts[2].fetch_add(1, Ordering::SeqCst);
                            let _ = reply.send(running);
                        });
                    }
                    CheckerCommand::Reload(wanted, reply) => {
                        taken.lock().unwrap().push(wanted.settings.clone());
                        running.pools = wanted.pools.clone();
                        running.table = renewed(&running.table, Some(*wanted));
                        let _ = reply.send(Reloaded {
                            generation: running.table.generation,
                            lost: Vec::new(),
                            lost_failovers: Vec::new(),
                        });
                    }
                    _ => {}
                }
            }
        });
        let limits = InForce::new(setup.server.limits.clone(), usize::MAX);
        let (access, access_seen) = watch::channel(setup.admin.access.clone());
        let (state_dir, state_dir_seen) =
            watch::channel(setup.server.state_dir.clone().map(StateDirectory::unlocked));
        let metrics = Arc::new(Metrics::new(1));
        let ready = watch::channel(true).1;
        let published = Published::new(table());
        let checker = checker::CheckerHandle { published, ready, commands };
        let alerts = no_alerts(&checker);
        let events = Events::new(SystemTime::now());
        let audit = {
            let (place, metrics) = (state_dir.subscribe(), Arc::clone(&metrics));
            AuditHandle::start(place, None, metrics, events.clone(), alerts.clone()).unwrap()
        };
        let visibility = Visibility::new(limits.clone(), Arc::clone(&metrics), events.clone());
        let reach = Reach {
            visibility: visibility.clone(),
            notify: notify::start(checker.published.clone(), Vec::new(), Arc::clone(&metrics)),
            alerts,
            audit: audit.clone(),
            checker,
            limits: limits.clone(),
            access,
            state_dir,
            metrics: Arc::clone(&metrics),
            events,
            serving: watch::channel(false).1,
        };
        let handle = start(Some(file), Configured::of(&setup), reach);
        Self {
            directory,
            handle,
            audit,
            limits,
            visibility,
            access: access_seen,
            state_dir: state_dir_seen,
            metrics,
            given,
            at_work,
        }
    }

    fn write(&self, config: &str) {
        std::fs::write(self.directory.path().join("steerd.toml"), format!("{config}\n{REST}")).unwrap();
    }

    async fn reload(&self, config: &str) -> Result<ReloadReport, ReloadRefusal> {
        self.write(config);
        self.handle.reload("a test".into(), None).await
    }

    /// The settings in force in the checker, the listeners, the admin server, the keeper of the memory,
    /// the query log and dnstap.
    fn in_force(&self) -> (Option<Settings>, Limits, Access, Option<PathBuf>, [TapStatus; 2]) {
        let given = self.given.lock().unwrap().last().cloned();
        let directory = self.state_dir.borrow().as_ref().map(|place| place.directory().to_owned());
        let taps = [TapKind::QueryLog, TapKind::Dnstap].map(|kind| self.visibility.status(kind));
        (given, self.limits.limits(), self.access.borrow().clone(), directory, taps)
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.render(&Arc::new(table()));
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    }
}

/// The content of a report, one change per line.
fn told(report: &ReloadReport) -> Vec<String> {
    report.sections().iter().flat_map(|(of, changes)| lines(of, changes)).collect()
}

/// The configuration before, after, and the reported changes.
fn cases() -> Vec<(String, String, Vec<&'static str>)> {
    let server = "[server]\nlisten = [\"127.0.0.1:0\"]\n";
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"\n";
    let key = |algorithm: &str, file: &str| {
        format!("[keys.\"k.test\"]\nalgorithm = \"{algorithm}\"\nsecret_file = \"{file}\"\n")
    };
    vec![
        (
            server.into(),
            "[server]\nlisten = [\"127.0.0.2:0\", \"[::1]:0\"]".into(),
            vec!["upgrade needed for server.listen: 127.0.0.1:0 -> 127.0.0.2:0, [::1]:0"],
        ),
        (server.into(), format!("{server}workers = 2"), vec!["upgrade needed for server.workers: 0 -> 2"]),
        (
            server.into(),
            format!("{server}steering = \"cpu\""),
            vec!["upgrade needed for server.steering: hash -> cpu"],
        ),
        (server.into(), format!("{server}udp_payload = 1400"), vec!["[server] udp_payload: 1232 -> 1400"]),
        (
            format!("{server}nsid = \"a\""),
            format!("{server}nsid = \"b\""),
            vec!["[server] nsid: \"a\" -> \"b\""],
        ),
        (server.into(), format!("{server}chaos = \"version\""), vec!["[server] chaos: refuse -> version"]),
        (
            server.into(),
            format!("{server}cookies = \"required\""),
            vec!["[server] cookies: true -> required"],
        ),
        (server.into(), format!("{server}cookies = false"), vec!["[server] cookies: true -> false"]),
        (
            format!("{server}cookie_secret_file = \"secrets\""),
            format!("{server}cookie_secret_file = \"other-secrets\""),
            vec!["[server] cookie_secret_file: other secrets"],
        ),
        (
            server.into(),
            format!("{server}client_subnet = [\"192.0.2.0/24\"]"),
            vec!["[server] client_subnet: nobody -> 192.0.2.0/24"],
        ),
        (server.into(), format!("{server}tcp_connections = 7"), vec!["[server] tcp_connections: 1000 -> 7"]),
        (server.into(), format!("{server}tcp_idle = \"2s\""), vec!["[server] tcp_idle: 10s -> 2s"]),
        (
            format!("{server}rate_limit = {{ responses_per_second = 5, networks_exempt = [\"192.0.2.1\"] }}"),
            format!(
                "{server}rate_limit = {{ responses_per_second = 6, all_responses_per_second = 60, slip = 3 }}"
            ),
            vec![
                "[server] rate_limit: 5 a second, slip 2, except 192.0.2.1 -> 6 a second, 60 of all kinds, slip 3",
            ],
        ),
        (server.into(), format!("{server}state_dir = \"state\""), vec!["[server] state_dir: none -> state"]),
        (
            server.into(),
            format!("{server}startup_wait = \"5s\""),
            vec!["[server] startup_wait: 3s -> 5s, from the next start on"],
        ),
        (admin.into(), String::new(), vec!["upgrade needed for admin.listen: 127.0.0.1:0 -> none"]),
        (
            admin.into(),
            format!("{admin}token_file = \"token\""),
            vec!["[admin] token_file: a token is required now"],
        ),
        (
            format!("{admin}token_file = \"token\""),
            format!("{admin}token_file = \"other-token\""),
            vec!["[admin] token_file: another token"],
        ),
        (admin.into(), format!("{admin}public_reads = true"), vec!["[admin] public_reads: false -> true"]),
        (String::new(), key("hmac-sha256", "key"), vec!["key k.test added"]),
        (key("hmac-sha256", "key"), String::new(), vec!["key k.test removed"]),
        (
            key("hmac-sha256", "key"),
            key("hmac-sha512", "key"),
            vec!["key k.test: algorithm: hmac-sha256 -> hmac-sha512"],
        ),
        (key("hmac-sha256", "key"), key("hmac-sha256", "other-key"), vec!["key k.test: another secret"]),
        (
            "[zones.\"a.test\"]\nfile = \"zone\"\n".into(),
            "[zones.\"a.test\"]\nfile = \"zone\"\ntransfer = { networks = [\"192.0.2.1\"] }\n".into(),
            vec!["zone a.test: transfer: nobody -> 192.0.2.1"],
        ),
        (
            format!(
                "{}[zones.\"a.test\"]\nfile = \"zone\"\nsecondaries = [\"192.0.2.1\"]\n",
                key("hmac-sha256", "key")
            ),
            format!(
                "{}[zones.\"a.test\"]\nfile = \"zone\"\nsecondaries = [\"192.0.2.1\", {{ address = \"[2001:db8::1]:5353\", key = \"k.test\" }}]\n",
                key("hmac-sha256", "key")
            ),
            vec![
                "zone a.test: secondaries: 192.0.2.1:53 -> 192.0.2.1:53, [2001:db8::1]:5353 with key k.test",
            ],
        ),
    ]
}

/// Every key of `[server]`, `[admin]`, `[keys]` and of a zone's `transfer`: before, after, and the
/// reported change. Except for keys that need an upgrade, the change is in force at once, in the
/// module that owns it.
#[tokio::test]
async fn every_key_is_told_and_in_force() {
    for (before, after, expected) in cases().into_iter().chain([taps::case()]) {
        let fixture = Fixture::start(&before);
        fixture.reload(&before).await.unwrap();
        let was = fixture.in_force();
        fixture.write(&after);
        let rehearsed = fixture.handle.rehearse("a test".into(), None).await.unwrap();
        assert_eq!(fixture.in_force(), was, "a dry run changes nothing:\n{after}");
        let report = fixture.reload(&after).await.unwrap_or_else(|refusal| panic!("{after}\n{refusal:?}"));
        let directory = format!("{}/", fixture.directory.path().display());
        let lines: Vec<String> = told(&report).iter().map(|line| line.replace(&directory, "")).collect();
        assert_eq!(lines, expected, "{before} ->\n{after}");
        assert_eq!(told(&rehearsed), told(&report), "a dry run tells the same:\n{after}");
        let only_later = lines[0].contains("upgrade") || lines[0].contains("next start");
        assert_eq!(fixture.in_force() == was, only_later, "{before} ->\n{after}\n{was:?}");

        let again = fixture.reload(&after).await.unwrap();
        let still_needed: Vec<&str> =
            expected.iter().filter(|line| line.contains("upgrade")).copied().collect();
        assert_eq!(told(&again), still_needed, "the second time only an upgrade is still due");
        assert!(fixture.reload(&before).await.is_ok());
        assert_eq!(fixture.in_force(), was, "{after} ->\n{before}: there and back again");
    }
}

#[tokio::test]
async fn a_restart_and_the_rest_at_once() {
    let fixture = Fixture::start("");
    let report =
        fixture.reload("[server]\nworkers = 2\nudp_payload = 1400\ntcp_connections = 7").await.unwrap();
    assert_eq!(
        told(&report),
        [
            "[server] udp_payload: 1232 -> 1400",
            "[server] tcp_connections: 1000 -> 7",
            "upgrade needed for server.workers: 0 -> 2",
        ]
    );
    assert_eq!(fixture.given.lock().unwrap().last().unwrap().udp_payload, 1400);
    assert_eq!(fixture.metric("steerd_reloads_total{result=\"success\"}"), 1.0);
}

/// A fault in any kind of file leaves everything unchanged, and nothing reaches the checker.
#[tokio::test]
async fn a_refused_configuration_changes_nothing() {
    let good = "[server]\nudp_payload = 1300\n[keys.\"k.test\"]\nsecret_file = \"key\"\n";
    let fixture = Fixture::start(good);
    let loaded_at = fixture.metric("steerd_config_last_load_timestamp_seconds");
    let was = fixture.in_force();
    let zone = fixture.directory.path().join("zone");
    let file = fixture.directory.path().join("steerd.toml");
    let breaks: [(&str, &dyn Fn()); 7] = [
        ("is not TOML", &|| fixture.write("[server")),
        ("unknown key", &|| fixture.write("[server]\ntcp_connections = 7\nworkrs = 1")),
        ("no [zones] are configured", &|| std::fs::write(&file, "").unwrap()),
        ("cannot read the configuration", &|| std::fs::remove_file(&file).unwrap()),
        ("cannot read ", &|| fixture.write("include = [\"gone.toml\"]")),
        ("cannot open the zone file", &|| std::fs::remove_file(&zone).unwrap()),
        ("expected", &|| std::fs::write(&zone, "@ SOA nonsense").unwrap()),
    ];
    for (index, (expected, break_it)) in breaks.into_iter().enumerate() {
        fixture.write(good);
        break_it();
        let refusal = fixture.handle.reload("a test".into(), None).await.unwrap_err();
        let ReloadRefusal::Faults(faults) = &refusal else { panic!("{refusal:?}") };
        let shown = faults.to_string();
        assert!(index == 6 || shown.contains(expected), "{expected}: {shown}");
        assert!(refusal.to_string().contains("nothing has changed"), "{refusal}");
        assert_eq!(fixture.in_force(), was);
        let failures = fixture.metric("steerd_reloads_total{result=\"failure\"}");
        assert_eq!(failures, f64::from(u32::try_from(index).unwrap()) + 1.0);
        assert_eq!(fixture.metric("steerd_config_last_reload_success"), 0.0);
        if !zone.exists() {
            std::fs::write(&zone, ZONE).unwrap();
        }
    }
    assert_eq!(fixture.metric("steerd_config_last_load_timestamp_seconds"), loaded_at);
    std::fs::write(&zone, ZONE).unwrap();
    assert!(fixture.reload(good).await.unwrap().is_empty());
    assert_eq!(fixture.metric("steerd_config_last_reload_success"), 1.0);
    assert!(fixture.metric("steerd_config_last_load_timestamp_seconds") > loaded_at);
}

#[tokio::test]
async fn one_at_a_time_and_everyone_is_answered() {
    let fixture = Fixture::start("");
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..3 * REQUESTS {
        let handle = fixture.handle.clone();
        waiting.spawn(async move { handle.reload("a test".into(), None).await.unwrap().generation });
    }
    let mut generations = waiting.join_all().await;
    generations.sort_unstable();
    let expected: Vec<u64> = (2..2 + 3 * REQUESTS as u64).collect();
    assert_eq!(generations, expected);
    assert_eq!(fixture.at_work[1].load(Ordering::SeqCst), 1, "two reloads were at work at once");
}

/// A zone whose parsing takes minutes, in a file that is read at once.
fn long_zone() -> String {
    format!("{ZONE}{}", "$GENERATE 0-1048575 a$ A 192.0.2.1\n".repeat(500))
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_load_whose_client_leaves_is_given_up_on_and_holds_up_no_other() {
    let fixture = Fixture::start("");
    let zone = fixture.directory.path().join("zone");
    std::fs::write(&zone, long_zone()).unwrap();
    let (reply, outcome) = oneshot::channel();
    fixture
        .handle
        .requests
        .send(ReloadRequest { by: "a test".into(), wanted: WantedSet::Files(None), is_dry_run: false, reply })
        .await
        .unwrap();
    eventually("its turn has come", || fixture.handle.requests.capacity() == REQUESTS).await;
    drop(outcome);
    std::fs::write(&zone, ZONE).unwrap();
    let began = Instant::now();
    assert!(fixture.handle.reload("a test".into(), None).await.unwrap().is_empty());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(fixture.metric("steerd_reloads_total{result=\"failure\"}"), 1.0);
}

#[tokio::test]
async fn what_clients_that_have_left_asked_for_is_not_done() {
    let fixture = Fixture::start("");
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let handle = fixture.handle.clone();
        waiting.spawn(async move { handle.reload("a test".into(), None).await });
    }
    // One is with the checker, and the others wait.
    eventually("a reload is at work", || fixture.at_work[0].load(Ordering::SeqCst) == 1).await;
    waiting.shutdown().await;
    fixture.handle.reload("a test".into(), None).await.unwrap();
    let done = fixture.at_work[2].load(Ordering::SeqCst);
    assert!(done <= 2, "{done} reloads were done for two");
}

#[tokio::test]
async fn signals_are_heeded_and_many_before_their_turn_are_one() {
    let fixture = Fixture::start("");
    for _ in 0..100 {
        fixture.handle.signal();
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while fixture.metric("steerd_reloads_total{result=\"success\"}") < 1.0 {
        assert!(Instant::now() < deadline, "SIGHUP is not heeded");
        tokio::task::yield_now().await;
    }
    // This reload runs after all reloads that the signals have requested.
    fixture.handle.reload("a test".into(), None).await.unwrap();
    fixture.handle.reload("a test".into(), None).await.unwrap();
    let reloads = fixture.at_work[2].load(Ordering::SeqCst);
    assert!(reloads <= 4, "{reloads}");
}

/// If another server has the directory, nothing changes, and the previous one stays locked. A
/// successful reload releases it only after the new one is locked.
#[tokio::test]
async fn another_state_directory_is_taken_before_the_one_before_is_left() {
    let fixture = Fixture::start("");
    let server =
        |directory: &str| format!("[server]\nstate_dir = \"{directory}\"\nlisten = [\"127.0.0.1:0\"]\n");
    let path = |name: &str| fixture.directory.path().join(name);
    std::fs::create_dir(path("other")).unwrap();
    fixture.reload(&server("state")).await.unwrap();
    assert!(StateDirectory::take(path("state")).is_err(), "it is locked");
    let held = StateDirectory::take(path("other")).unwrap();
    let before = fixture.in_force();
    let given = fixture.given.lock().unwrap().len();
    let refusal = fixture.reload(&server("other")).await.unwrap_err();
    let text = refusal.to_string();
    let expected =
        format!("nothing has changed: `state_dir` {} is in use by process", path("other").display());
    assert!(text.starts_with(&expected), "{text}");
    assert_eq!(fixture.in_force(), before);
    assert_eq!(fixture.given.lock().unwrap().len(), given, "the checker was not asked");
    assert!(StateDirectory::take(path("state")).is_err(), "the one before is still locked");
    drop(held);
    fixture.reload(&server("other")).await.unwrap();
    StateDirectory::take(path("state")).expect("it is free again");
    assert!(StateDirectory::take(path("other")).is_err());
    // The same directory under another path does not mean another server.
    std::os::unix::fs::symlink(path("other"), path("link")).unwrap();
    fixture.reload(&server("link")).await.unwrap();
    assert!(StateDirectory::take(path("other")).is_err());
    fixture.reload("").await.unwrap();
    StateDirectory::take(path("other")).expect("without a directory nothing is locked");
}

#[tokio::test]
async fn the_file_that_is_meant_must_be_the_one_that_is_running() {
    let fixture = Fixture::start("");
    let file = fixture.directory.path().join("steerd.toml");
    let link = fixture.directory.path().join("link.toml");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    std::fs::write(fixture.directory.path().join("copy.toml"), std::fs::read(&file).unwrap()).unwrap();
    fixture.write("[server]\nnsid = \"new\"");
    // A client resolves links; the server never accesses a client's path.
    for other in ["copy.toml", "none.toml", "link.toml", ".", "none\n\u{1b}[2J`"] {
        let meant = fixture.directory.path().join(other);
        let refusal = fixture.handle.reload("a test".into(), Some(meant.clone())).await.unwrap_err();
        assert!(matches!(refusal, ReloadRefusal::OtherFile { .. }), "{refusal:?}");
        let told = refusal.to_string();
        assert!(told.contains(&quoted(&file.to_string_lossy())), "{told}");
        assert!(
            told.contains(&quoted(&meant.to_string_lossy())) && told.contains("nothing has changed"),
            "{told}"
        );
        assert!(told.chars().all(crate::printable::is_printable), "{told}");
    }
    assert_eq!(fixture.limits.limits(), Limits::default());
    assert_eq!(fixture.metric("steerd_config_last_reload_success"), 1.0);
    for same in [file.clone(), file.canonicalize().unwrap()] {
        fixture.handle.reload("a test".into(), Some(same)).await.unwrap();
    }
    assert_eq!(fixture.given.lock().unwrap().last().unwrap().nsid.as_deref(), Some(&b"new"[..]));
    // A broken file can still be compared with the one that the client means.
    fixture.write("[server");
    let broken = fixture.handle.reload("a test".into(), Some(file.clone())).await.unwrap_err();
    assert!(matches!(broken, ReloadRefusal::Faults(_)), "{broken:?}");
    let other =
        fixture.handle.reload("a test".into(), Some(file.with_file_name("copy.toml"))).await.unwrap_err();
    assert!(matches!(other, ReloadRefusal::OtherFile { .. }), "{other:?}");
}

#[tokio::test]
async fn without_a_file_or_without_a_checker() {
    let fixture = Fixture::start("");
    let setup = config::load(&fixture.directory.path().join("steerd.toml")).unwrap();
    let checker = || checker::CheckerHandle {
        published: Published::new(table()),
        ready: watch::channel(true).1,
        commands: mpsc::channel(1).0,
    };
    let reach = || Reach {
        visibility: Visibility::new(
            InForce::new(Limits::default(), usize::MAX),
            Arc::new(Metrics::new(1)),
            Events::new(SystemTime::now()),
        ),
        checker: checker(),
        alerts: no_alerts(&checker()),
        notify: notify::start(Published::new(table()), Vec::new(), Arc::new(Metrics::new(1))),
        limits: InForce::new(Limits::default(), usize::MAX),
        access: watch::channel(Access::default()).0,
        state_dir: watch::channel(None).0,
        metrics: Arc::new(Metrics::new(1)),
        events: Events::new(SystemTime::now()),
        audit: fixture.audit.clone(),
        serving: watch::channel(false).1,
    };
    let demo = start(None, Configured::of(&setup), reach());
    assert!(matches!(demo.reload("a test".into(), None).await, Err(ReloadRefusal::NoFile)));
    let file = fixture.directory.path().join("steerd.toml");
    let limits = reach();
    let kept = limits.limits.clone();
    let ended = start(Some(file), Configured::of(&setup), limits);
    fixture.write("[server]\ntcp_connections = 7");
    assert!(matches!(ended.reload("a test".into(), None).await, Err(ReloadRefusal::Ending)));
    assert_eq!(kept.limits(), Limits::default(), "without a checker nothing changes");
}

#[tokio::test]
async fn a_report_in_the_log_is_bounded() {
    let many = (0..1000).map(|index| Change::Added(format!("pool-{index}"))).collect();
    let fixture = Fixture::start("");
    let report = ReloadReport { pools: many, ..fixture.reload("").await.unwrap() };
    assert_eq!(told(&report).len(), 1000);
    let shown = report.shown();
    assert!(shown.contains("pool pool-99 added") && !shown.contains("pool-100 "), "{shown}");
    assert!(shown.ends_with("and 900 more"), "{shown}");
}
