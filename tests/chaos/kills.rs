//! Kills at random moments, also in the middle of an upgrade; then a start in the same directory.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::is_full;
use crate::seed::seed;
use crate::server::{Server, children, kill, request};
use crate::support::{STEERD, wait_for};

const BACKENDS: usize = 6;
/// An override is in the files this long after its reply.
const KEPT_AFTER: Duration = Duration::from_secs(2);
const STATES: [&str; 3] = ["drain", "disabled", "down"];

/// The overrides of one backend that the next start may have: the last one that must be kept, and all later ones.
#[derive(Default)]
struct Overrides(Vec<(Option<Instant>, Option<&'static str>)>);

impl Overrides {
    fn possible(&self, killed: Instant) -> Vec<Option<&'static str>> {
        let is_kept = |reply: &Option<Instant>| reply.is_some_and(|reply| reply + KEPT_AFTER <= killed);
        let first = self.0.iter().rposition(|(reply, _)| is_kept(reply)).unwrap_or(0);
        self.0[first..].iter().map(|(_, state)| *state).collect()
    }
}

#[derive(Debug)]
enum Kill {
    Serving,
    Starting,
    OldInUpgrade,
    NewInUpgrade,
}

fn config(version: usize) -> String {
    let names: Vec<String> = (0..BACKENDS)
        .map(|number| format!("{{ name = \"b{number}\", address = \"192.0.2.{number}\" }}"))
        .collect();
    format!(
        "[pools.web]\nbackends = [{}]\n[pools.other]\nbackends = [\"198.51.100.{}\"]\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\", \"other\"]\n",
        names.join(", "),
        version % 250
    )
}

/// Sets and ends overrides until it is told to stop.
fn operate(admin: std::net::SocketAddr, overrides: &mut [Overrides], seed: u64, stop: &AtomicBool) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while !stop.load(Ordering::Relaxed) {
        let number = rng.random_range(0..BACKENDS);
        let state = STATES.get(rng.random_range(0..=STATES.len())).copied();
        let path = format!("/api/v1/pools/web/backends/b{number}/override");
        let body =
            state.map_or_else(String::new, |state| format!("{{\"state\":\"{state}\",\"force\":true}}"));
        let reply = request(admin, if state.is_some() { "PUT" } else { "DELETE" }, &path, &body);
        let known = &mut overrides[number].0;
        match reply {
            Some((200, reply)) if reply["survives_restart"] == true || state.is_none() => {
                known.push((Some(Instant::now()), state));
            }
            Some((503, _)) => {}
            Some((404 | 409, _)) if state.is_none() => {}
            Some((status, reply)) => {
                assert_eq!(status, 200, "{reply:#}");
                known.push((None, state));
            }
            None => known.push((None, state)),
        }
        std::thread::park_timeout(Duration::from_millis(rng.random_range(1..60)));
    }
}

fn kill_at_random(server: &mut Server, how: &Kill, rng: &mut SmallRng) -> Instant {
    let mut within = |milliseconds: u64| {
        std::thread::park_timeout(Duration::from_millis(rng.random_range(0..milliseconds)));
    };
    let old = server.first.id();
    match how {
        Kill::Serving | Kill::Starting => within(4000),
        Kill::OldInUpgrade | Kill::NewInUpgrade => {
            within(2500);
            let admin = server.admin;
            let upgrade = std::thread::spawn(move || request(admin, "POST", "/api/v1/upgrade", ""));
            let new = wait_for("the new process is there", || {
                children(old).pop().filter(|pid| server.processes().contains(pid))
            });
            within(3000);
            if matches!(how, Kill::OldInUpgrade) {
                kill(old);
                let killed = Instant::now();
                wait_for("the new process has ended, or has taken over", || {
                    let answers = || {
                        server.request("GET", "/api/v1/status", "").is_some_and(|(status, _)| status == 200)
                    };
                    let ended = !server.processes().contains(&new);
                    (ended || (server.serving() == new && answers())).then_some(())
                });
                kill(new);
                let _ = upgrade.join().unwrap();
                wait_for("all have ended", || server.processes().is_empty().then_some(()));
                return killed;
            }
            kill(new);
            let killed = Instant::now();
            let outcome = upgrade.join().unwrap();
            // If the new process had everything, the old one has ended.
            if outcome.is_some_and(|(status, _)| status == 200) {
                return killed;
            }
        }
    }
    let killed = Instant::now();
    kill(old);
    wait_for("all have ended", || server.processes().is_empty().then_some(()));
    killed
}

/// All files of the state directory can be read.
fn check_files(state: &Path) {
    let lines_are_json = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        for line in text.lines() {
            serde_json::from_str::<Value>(line)
                .unwrap_or_else(|error| panic!("{}: {error}: {line}", path.display()));
        }
    };
    lines_are_json(&state.join("audit.jsonl"));
    for entry in std::fs::read_dir(state.join("configurations")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            lines_are_json(&path);
        }
    }
    if let Ok(text) = std::fs::read_to_string(state.join("health.json")) {
        serde_json::from_str::<Value>(&text).expect("never half a snapshot");
    }
    let output = Command::new(STEERD).args(["audit", "--json", "--state-dir"]).arg(state).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn check_overrides(server: &Server, overrides: &mut [Overrides], killed: Instant) {
    let (_, pool) = server.request("GET", "/api/v1/pools/web", "").expect("a reply");
    for (number, known) in overrides.iter_mut().enumerate() {
        let backends = pool["backends"].as_array().unwrap();
        let name = format!("b{number}");
        let backend = backends.iter().find(|backend| backend["name"] == name.as_str()).unwrap();
        let found = backend["override"]["state"].as_str();
        let possible = known.possible(killed);
        assert!(possible.contains(&found), "{name}: {found:?}, expected one of {possible:?}");
        // It has been in the files since before the kill.
        let found = STATES.into_iter().find(|state| Some(*state) == found);
        known.0 = vec![(Some(killed.checked_sub(KEPT_AFTER).unwrap_or(killed)), found)];
    }
}

#[test]
fn killed_at_random_moments() {
    let seed = seed();
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut overrides: Vec<Overrides> =
        std::iter::repeat_with(|| Overrides(vec![(None, None)])).take(BACKENDS).collect();
    let mut server = Server::start(&config(0));
    for round in 0..if is_full() { 200 } else { 8 } {
        let how = match round % 4 {
            0 => Kill::Serving,
            1 => Kill::OldInUpgrade,
            2 => Kill::Starting,
            _ => Kill::NewInUpgrade,
        };
        eprintln!("{round}: {how:?}");
        let stop = AtomicBool::new(false);
        let killed = std::thread::scope(|scope| {
            let admin = server.admin;
            let (known, stop, seed) = (&mut overrides, &stop, seed.wrapping_add(round));
            let operator = scope.spawn(move || operate(admin, known, seed, stop));
            server.configure(&config(usize::try_from(round).unwrap()));
            let _ = server.request("POST", "/api/v1/reload", "");
            let killed = kill_at_random(&mut server, &how, &mut rng);
            stop.store(true, Ordering::Relaxed);
            operator.join().unwrap();
            killed
        });
        wait_for("all have ended", || {
            server.processes().into_iter().for_each(kill);
            server.processes().is_empty().then_some(())
        });
        check_files(&server.path("state"));
        server.start_again();
        if matches!(how, Kill::Starting) {
            for _ in 0..3 {
                std::thread::park_timeout(Duration::from_millis(rng.random_range(0..150)));
                kill(server.first.id());
                server.first.ended();
                server.start_again();
            }
        }
        server.wait_until_it_answers();
        check_overrides(&server, &mut overrides, killed);
    }
}
