//! Reloads, rollbacks and upgrades in random order, under load.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use crate::load::{BACKENDS, Load, VERSION, WEB, World};
use crate::server::{Server, children, descriptors};
use crate::support::{STEERD, free_port, wait_for};
use crate::{is_full, seed};

/// A backend is out of all answers this long after its end: an interval and a timeout, on a busy machine.
const GRACE: Duration = Duration::from_secs(4);
/// Backends from this one on never listen.
const DEAD: usize = BACKENDS - 2;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Reload,
    BrokenReload,
    Rollback,
    /// A backend ends, or returns.
    Flip,
    Upgrade,
    UpgradeBySignal,
    /// The files have a mistake.
    UpgradeWithBrokenFile,
    /// The new program is a script.
    FailedUpgrade(&'static str),
    /// The new process is killed while it answers.
    CrashedUpgrade,
}

const EXITS: Step = Step::FailedUpgrade("exit 3");
const SAYS_NONSENSE: Step = Step::FailedUpgrade("echo nonsense >&0");
/// Its protocol is another one, and so is its state.
const IS_ANOTHER_VERSION: Step = Step::FailedUpgrade(
    "printf '\\000\\000\\000\\100{\"message\":\"hello\",\"protocol\":99,\"version\":\"99.0.0\",\"pid\":12345}' >&0; sleep 1",
);
const HANGS: Step = Step::FailedUpgrade("exec sleep 30");

fn steps() -> Vec<Step> {
    use Step::{
        BrokenReload, CrashedUpgrade, Flip, Reload, Rollback, Upgrade, UpgradeBySignal, UpgradeWithBrokenFile,
    };

    let counts = if is_full() {
        [
            (Reload, 180),
            (BrokenReload, 20),
            (Rollback, 40),
            (Flip, 30),
            (Upgrade, 8),
            (UpgradeBySignal, 4),
            (UpgradeWithBrokenFile, 3),
            (CrashedUpgrade, 5),
            (EXITS, 3),
            (SAYS_NONSENSE, 3),
            (IS_ANOTHER_VERSION, 3),
            (HANGS, 1),
        ]
    } else {
        [
            (Reload, 10),
            (BrokenReload, 2),
            (Rollback, 3),
            (Flip, 4),
            (Upgrade, 1),
            (UpgradeBySignal, 1),
            (UpgradeWithBrokenFile, 1),
            (CrashedUpgrade, 1),
            (EXITS, 1),
            (SAYS_NONSENSE, 1),
            (IS_ANOTHER_VERSION, 1),
            (HANGS, 0),
        ]
    };
    counts.into_iter().flat_map(|(step, count)| std::iter::repeat_n(step, count)).collect()
}

/// A backend that accepts connections until it ends.
struct Backend {
    ended: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
    address: (String, u16),
}

impl Backend {
    fn start(number: usize, port: u16) -> Self {
        let address = (format!("127.0.7.{}", number + 1), port);
        let listener = TcpListener::bind((address.0.as_str(), port)).unwrap();
        let ended = Arc::<AtomicBool>::default();
        let sees = Arc::clone(&ended);
        let accepting =
            std::thread::spawn(move || while listener.accept().is_ok() && !sees.load(Ordering::SeqCst) {});
        Self { ended, accepting: Some(accepting), address }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread.
        let _ = std::net::TcpStream::connect((self.address.0.as_str(), self.address.1));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn config(port: u16, version: u16) -> String {
    let addresses: Vec<String> = (1..=BACKENDS).map(|number| format!("\"127.0.7.{number}\"")).collect();
    format!(
        "[pools.web]\nbackends = [{}]\n\
         check = {{ type = \"tcp\", port = {port}, interval = \"500ms\", timeout = \"300ms\", recheck = \"100ms\", \
         rise = 1, fall = 1, damping = false }}\n\
         [pools.version]\nbackends = [\"192.0.2.{version}\"]\n\
         [services.\"{WEB}\"]\npools = [\"web\"]\nanswers = 3\n[services.\"{VERSION}\"]\npools = [\"version\"]\n",
        addresses.join(", ")
    )
}

/// The server, its backends, and what each configuration is.
struct Scene {
    server: Server,
    world: Arc<World>,
    port: u16,
    backends: Vec<Option<Backend>>,
    /// The version of the configuration that runs, and of the files.
    running: u16,
    on_disk: u16,
    /// The versions of the kept configurations.
    kept: HashMap<u64, u16>,
    rng: SmallRng,
}

impl Scene {
    fn start(rng: SmallRng) -> Self {
        let port = free_port("127.0.0.1");
        let world = Arc::new(World::new(1));
        let backends: Vec<_> =
            (0..BACKENDS).map(|number| (number < DEAD).then(|| Backend::start(number, port))).collect();
        (0..DEAD).for_each(|number| world.lives(number));
        let server = Server::start(&config(port, 1));
        let mut scene =
            Self { server, world, port, backends, running: 1, on_disk: 1, kept: HashMap::new(), rng };
        scene.has_changed_to(1);
        scene
    }

    /// Runs a change to this version; nothing else may be answered afterwards.
    fn has_changed_to(&mut self, version: u16) {
        self.running = version;
        self.world.changes(version, version);
        let list = || {
            let (_, list) = self.server.request("GET", "/api/v1/configurations", "")?;
            list["configurations"].as_array()?.iter().find(|set| set["running"] == true)?["number"].as_u64()
        };
        let number = wait_for("the configuration is kept", list);
        self.kept.insert(number, version);
    }

    fn post(&self, path: &str, body: &str, expected: &[u16]) -> serde_json::Value {
        let (status, reply) = self.server.request("POST", path, body).expect("a reply");
        assert!(expected.contains(&status), "{path}: {status} {reply:#}");
        reply
    }

    fn break_file(&self) {
        self.server.configure(&format!("{}[pools.broken]\n", config(self.port, 255)));
    }

    fn write_file(&self) {
        self.server.configure(&config(self.port, self.on_disk));
    }

    fn fail_upgrade(&self, script: &str) {
        self.server.replace_program(script);
        self.post("/api/v1/upgrade", "", &[502, 409]);
        self.server.restore_program();
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Reload => {
                self.on_disk = self.running % 200 + 1;
                self.write_file();
                self.world.changes(self.running, self.on_disk);
                self.post("/api/v1/reload", "", &[200]);
                self.has_changed_to(self.on_disk);
            }
            Step::BrokenReload => {
                self.break_file();
                self.post("/api/v1/reload", "", &[422]);
                self.write_file();
            }
            Step::Rollback => {
                let (_, list) = self.server.request("GET", "/api/v1/configurations", "").unwrap();
                let others: Vec<u64> = list["configurations"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|set| set["running"] == false)
                    .map(|set| set["number"].as_u64().unwrap())
                    .collect();
                let Some(number) = others.choose(&mut self.rng) else { return };
                let version = self.kept[number];
                self.world.changes(self.running, version);
                self.post("/api/v1/rollback", &format!("{{\"to\": {number}}}"), &[200]);
                self.has_changed_to(version);
            }
            Step::Flip => {
                let number = self.backends.iter().position(Option::is_none).unwrap_or(DEAD);
                if number < DEAD {
                    self.world.lives(number);
                    self.backends[number] = Some(Backend::start(number, self.port));
                } else {
                    let number = self.rng.random_range(0..DEAD);
                    self.world.dies(number, GRACE);
                    self.backends[number] = None;
                }
            }
            Step::Upgrade => {
                self.world.changes(self.running, self.on_disk);
                let reply = self.post("/api/v1/upgrade", "", &[200]);
                assert_eq!(reply["pid"], self.server.serving());
                self.has_changed_to(self.on_disk);
            }
            Step::UpgradeBySignal => {
                self.world.changes(self.running, self.on_disk);
                let old = self.server.serving();
                let pid = rustix::process::Pid::from_raw(old.cast_signed()).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::USR2).unwrap();
                wait_for("the new process serves alone", || {
                    (self.server.serving() != old && self.server.processes() == [self.server.serving()])
                        .then_some(())
                });
                self.has_changed_to(self.on_disk);
            }
            Step::UpgradeWithBrokenFile => {
                self.break_file();
                self.post("/api/v1/upgrade", "", &[502]);
                self.write_file();
            }
            Step::FailedUpgrade(script) => self.fail_upgrade(script),
            Step::CrashedUpgrade => {
                self.world.changes(self.running, self.on_disk);
                // Its parent watches it for 2 s, so it never serves alone.
                let killer = "(exec <&-; sleep 1.5; kill -9 $$) &";
                self.fail_upgrade(&format!("{killer}\nexec {STEERD} \"$@\""));
                self.world.changes(self.running, self.running);
            }
        }
    }
}

#[test]
fn changes_under_load() {
    let mut rng = SmallRng::seed_from_u64(seed());
    let mut steps = steps();
    steps.shuffle(&mut rng);
    let mut scene = Scene::start(rng);
    let at_first = descriptors(scene.server.serving());
    let (udp, tcp) = if is_full() { (100, 500) } else { (16, 48) };
    let pauses = [Duration::from_millis(5), Duration::from_millis(100)];
    let load = Load::start(scene.server.dns, &scene.world, udp, tcp, pauses);
    let began = std::time::Instant::now();
    let (mut counted, mut most_lost) = (0, 0);
    for (number, step) in steps.into_iter().enumerate() {
        if step == Step::CrashedUpgrade {
            // The killed process may have read one query of each client.
            most_lost += u64::try_from(udp + tcp).unwrap();
        }
        eprintln!("{number}: {step:?}, after {:?}", began.elapsed());
        scene.run(step);
        load.check(most_lost);
        let now = scene.server.metric_sum("steerd_queries_total");
        assert!(now >= counted, "{number}: {step:?}: {counted} queries, then {now}");
        counted = now;
    }
    let outcomes = Arc::clone(&load.outcomes);
    load.end(most_lost);
    let [udp, tcp, lost] =
        [&outcomes.udp, &outcomes.tcp, &outcomes.lost].map(|count| count.load(Ordering::Relaxed));
    eprintln!("{udp} answers over UDP, {tcp} over TCP, {lost} lost, in {:?}", began.elapsed());
    assert!(udp > 1000 && tcp > 1000, "{udp} and {tcp} answers");
    let serving = scene.server.serving();
    wait_for("nothing is left behind", || {
        let is_alone = scene.server.processes() == [serving] && children(serving).is_empty();
        (is_alone && descriptors(serving) <= at_first + 2).then_some(())
    });
}
