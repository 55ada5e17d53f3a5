//! A server whose health, configuration and program change, and a record of which answers are right.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rustix::process::Signal;
use serde_json::Value;

use crate::load::{BACKENDS, Load, VERSION, WEB, World};
use crate::server::{Server, children, descriptors, kill, reads_queries, request, signal};
use crate::strangers;
use crate::support::{free_port, wait_for};

/// A backend is out of all answers this long after its end: an interval and a timeout, on a busy machine.
const GRACE: Duration = Duration::from_secs(4);
/// A disabled backend is out of all answers this long after the reply.
const PUBLISHED: Duration = Duration::from_secs(1);
/// Backends from this one on never listen.
const DEAD: usize = BACKENDS - 2;
/// The old process watches the new one at least this long after that one has begun to answer.
const WATCHED: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    Reload,
    BrokenReload,
    Rollback,
    /// A backend ends, or returns.
    Flip,
    /// An operator disables a backend, or ends that.
    Override,
    /// Opens this many connections that send nothing, in place of the earlier ones.
    Flood(usize),
    Nonsense,
    Upgrade,
    UpgradeBySignal,
    /// The files have a mistake.
    UpgradeWithBrokenFile,
    /// The new process fails while it answers.
    FaultyUpgrade(Fault),
    OtherProgram(NewProgram),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    Crash,
    Hang,
}

/// A program in place of steerd that cannot take over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum NewProgram {
    Exits,
    SaysNonsense,
    Hangs,
    HasAnotherProtocol,
    HasAnotherState,
    /// Says that it answers.
    AnswersNothing,
}

impl NewProgram {
    fn script(self) -> String {
        let says = |messages: &[&str]| messages.iter().map(|message| said(message)).collect::<String>();
        let hello = r#"{"message":"hello","protocol":1,"version":"99.0.0","pid":$$}"#;
        let bound = r#"{"message":"bound","startup_wait_milliseconds":0}"#;
        match self {
            Self::Exits => "exit 3".into(),
            Self::SaysNonsense => "echo nonsense >&0".into(),
            Self::Hangs => "exec sleep 60".into(),
            Self::HasAnotherProtocol => {
                says(&[r#"{"message":"hello","protocol":99,"version":"99.0.0","pid":$$}"#])
            }
            Self::HasAnotherState => {
                let failed = r#"{"message":"failed","reason":"the state is not understood"}"#;
                says(&[hello, bound, failed]) + "exit 1"
            }
            Self::AnswersNothing => {
                says(&[hello, bound, r#"{"message":"ready"}"#, r#"{"message":"answering"}"#])
                    // It takes all messages and descriptors.
                    + "exec cat >/dev/null"
            }
        }
    }
}

/// A line of a script that sends a message of the protocol: its length, and JSON.
fn said(message: &str) -> String {
    let message = message.replace('"', "\\\"");
    format!(
        "message=\"{message}\"; length=${{#message}}\n\
         printf \"\\\\000\\\\000\\\\$(printf %03o $((length / 256)))\\\\$(printf %03o $((length % 256)))%s\" \"$message\" >&0\n"
    )
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
        let _ = TcpStream::connect((self.address.0.as_str(), self.address.1));
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
pub(crate) struct Scene {
    pub(crate) server: Server,
    pub(crate) world: Arc<World>,
    port: u16,
    backends: Vec<Option<Backend>>,
    /// The one that is disabled.
    disabled: Option<usize>,
    flood: Vec<TcpStream>,
    /// The version of the configuration that runs, and of the files.
    running: u16,
    on_disk: u16,
    /// The versions of the kept configurations.
    kept: HashMap<u64, u16>,
    rng: SmallRng,
    /// Descriptors of the first process, before it had any client.
    descriptors: usize,
    /// `steerd_queries_total`, and how many answers had come then.
    counted: (u64, u64),
}

impl Scene {
    pub(crate) fn start(rng: SmallRng) -> Self {
        let port = free_port("127.0.0.1");
        let world = Arc::new(World::new(1));
        let backends: Vec<_> =
            (0..BACKENDS).map(|number| (number < DEAD).then(|| Backend::start(number, port))).collect();
        (0..DEAD).for_each(|number| world.lives(number));
        let server = Server::start(&config(port, 1));
        let descriptors = descriptors(server.serving());
        let kept = HashMap::new();
        let mut scene = Self {
            server,
            world,
            port,
            backends,
            disabled: None,
            flood: Vec::new(),
            running: 1,
            on_disk: 1,
            kept,
            rng,
            descriptors,
            counted: (0, 0),
        };
        scene.has_changed_to(1);
        scene
    }

    /// Takes a step, then checks the answers and the counters.
    pub(crate) fn run(&mut self, step: Step, load: &mut Load) {
        let loses_counts = matches!(step, Step::FaultyUpgrade(_));
        if loses_counts {
            load.may_lose_one_each();
        }
        self.take(step);
        load.may_lose_none();
        load.check();
        let (before, answered_before) = self.counted;
        let answered = load.answered();
        let now = self.server.metric_sum("steerd_queries_total");
        assert!(now >= before, "{step:?}: {before} queries, then {now}");
        // Answers on the way may be counted on either side of either reading.
        let uncounted = (answered - answered_before).saturating_sub(now - before);
        assert!(
            loses_counts || uncounted <= 2 * load.on_the_way(),
            "{step:?}: {uncounted} answers are not in the counters, of {}",
            answered - answered_before
        );
        self.counted = (now, load.answered());
    }

    /// One process serves, without a child, and with few more descriptors than at first.
    pub(crate) fn expect_nothing_left(&mut self) {
        const MORE: usize = 2;
        self.flood.clear();
        let serving = self.server.serving();
        wait_for("nothing is left behind", || {
            let few = descriptors(serving) <= self.descriptors + MORE;
            (self.server.is_alone(serving) && few).then_some(())
        });
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

    fn post(&self, path: &str, body: &str, expected: u16) -> Value {
        let (status, reply) = self.server.request("POST", path, body).expect("a reply");
        assert_eq!(status, expected, "{path}: {reply:#}");
        reply
    }

    fn break_file(&self) {
        self.server.configure(&format!("{}[pools.broken]\n", config(self.port, 255)));
    }

    fn write_file(&self) {
        self.server.configure(&config(self.port, self.on_disk));
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Reload => {
                self.on_disk = self.running % 200 + 1;
                self.write_file();
                self.world.changes(self.running, self.on_disk);
                self.post("/api/v1/reload", "", 200);
                self.has_changed_to(self.on_disk);
            }
            Step::BrokenReload => {
                self.break_file();
                self.post("/api/v1/reload", "", 422);
                self.write_file();
            }
            Step::Rollback => self.roll_back(),
            Step::Flip => {
                let number = self.backends.iter().position(Option::is_none).unwrap_or(DEAD);
                if number < DEAD {
                    self.world.lives(number);
                    self.backends[number] = Some(Backend::start(number, self.port));
                } else {
                    let number = self.any_living();
                    self.world.dies(number, GRACE);
                    self.backends[number] = None;
                }
            }
            Step::Override => self.change_override(),
            Step::Flood(count) => {
                self.flood.clear();
                self.flood = strangers::flood(self.server.dns, count);
            }
            Step::Nonsense => strangers::send_nonsense(self.server.dns, &mut self.rng),
            Step::Upgrade => {
                self.world.changes(self.running, self.on_disk);
                let old = self.server.serving();
                self.post("/api/v1/upgrade", "", 200);
                self.follow(old);
            }
            Step::UpgradeBySignal => {
                self.world.changes(self.running, self.on_disk);
                let old = self.server.serving();
                signal(old, Signal::USR2);
                self.follow(old);
            }
            Step::UpgradeWithBrokenFile => {
                self.break_file();
                self.post("/api/v1/upgrade", "", 502);
                self.write_file();
            }
            Step::OtherProgram(program) => {
                self.server.replace_program(&program.script());
                // Another attempt with another protocol would end in the same way.
                let refusal = if program == NewProgram::HasAnotherProtocol { 409 } else { 502 };
                self.post("/api/v1/upgrade", "", refusal);
                self.server.restore_program();
            }
            Step::FaultyUpgrade(fault) => self.fail(fault),
        }
    }

    /// One that listens and is not disabled.
    fn any_living(&mut self) -> usize {
        let is_living = |number: &usize| self.backends[*number].is_some() && self.disabled != Some(*number);
        let living: Vec<usize> = (0..DEAD).filter(is_living).collect();
        *living.choose(&mut self.rng).expect("one dies and one is disabled, at most")
    }

    fn change_override(&mut self) {
        let (method, body, number) = match self.disabled.take() {
            Some(number) => {
                self.world.lives(number);
                ("DELETE", "", number)
            }
            None => ("PUT", r#"{"state":"disabled"}"#, self.any_living()),
        };
        let path = format!("/api/v1/pools/web/backends/127.0.7.{}/override", number + 1);
        let (status, reply) = self.server.request(method, &path, body).expect("a reply");
        assert_eq!(status, 200, "{method} {path}: {reply:#}");
        if method == "PUT" {
            self.disabled = Some(number);
            self.world.dies(number, PUBLISHED);
        }
    }

    fn roll_back(&mut self) {
        let (_, list) = self.server.request("GET", "/api/v1/configurations", "").unwrap();
        let sets = list["configurations"].as_array().unwrap();
        let others: Vec<u64> = sets
            .iter()
            .filter(|set| set["running"] == false)
            .map(|set| set["number"].as_u64().unwrap())
            .collect();
        let Some(number) = others.choose(&mut self.rng) else { return };
        let version = self.kept[number];
        self.world.changes(self.running, version);
        self.post("/api/v1/rollback", &format!("{{\"to\": {number}}}"), 200);
        self.has_changed_to(version);
    }

    /// Waits until only the process after this one is there.
    fn follow(&mut self, old: u32) {
        wait_for("the new process serves alone", || {
            let new = self.server.serving();
            (new != old && self.server.is_alone(new)).then_some(())
        });
        self.has_changed_to(self.on_disk);
    }

    /// Upgrades, and lets the new process fail after it has begun to answer.
    fn fail(&mut self, fault: Fault) {
        self.world.changes(self.running, self.on_disk);
        let (old, admin) = (self.server.serving(), self.server.admin);
        let upgrade = std::thread::spawn(move || request(admin, "POST", "/api/v1/upgrade", ""));
        let mut silent = Instant::now();
        let new = wait_for("the new process answers", || {
            let asked = Instant::now();
            let new = children(old).into_iter().find(|child| reads_queries(*child));
            if new.is_none() {
                silent = asked;
            }
            new
        });
        signal(new, Signal::STOP);
        if silent.elapsed() >= WATCHED {
            // It may serve alone by now, so this is an upgrade like any other.
            signal(new, Signal::CONT);
            let outcome = upgrade.join().unwrap();
            assert!(outcome.is_some_and(|(status, _)| status == 200));
            return self.follow(old);
        }
        if fault == Fault::Crash {
            kill(new);
        }
        let outcome = upgrade.join().unwrap();
        assert!(outcome.as_ref().is_some_and(|(status, _)| *status == 502), "{fault:?}: {outcome:?}");
        wait_for("the old process goes on alone", || self.server.is_alone(old).then_some(()));
        self.world.changes(self.running, self.running);
    }
}
