//! The messages to systemd: the start and the end, reloads, upgrades, signs of life. No systemd runs here, so
//! [`crate::supervisor`] or the test listens in its place.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;

use crate::supervisor::{Message, Supervisor};
use crate::support::client::Client;
use crate::support::message::{A, Query, wire};
use crate::support::traffic::Sent;
use crate::support::{PATIENCE, Process, STEERD, dig, free_port, http_get, program, wait_for};
use crate::text;
use crate::unit::ZONE;

/// A directory with a copy of the program, which a test may replace, and a configuration.
struct Service {
    directory: TempDir,
    dns: std::net::SocketAddr,
    admin: std::net::SocketAddr,
}

impl Service {
    /// The backend listens and says nothing, so the start takes the whole of `startup_wait`.
    fn new(startup_wait: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let [dns, admin] = [(); 2].map(|()| ([127, 0, 0, 1], free_port("127.0.0.1")).into());
        let service = Self { directory, dns, admin };
        std::fs::write(service.at("zone"), ZONE).unwrap();
        std::fs::create_dir(service.at("state")).unwrap();
        service.configure(startup_wait, "answers = 1");
        service.restore_program();
        service
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn configure(&self, startup_wait: &str, end: &str) {
        let Self { dns, admin, .. } = self;
        let text = format!(
            "[server]\nlisten = [\"{dns}\"]\nstartup_wait = \"{startup_wait}\"\nstate_dir = \"state\"\n\
             [admin]\nlisten = \"{admin}\"\n[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
             [pools.web]\ncheck = {{ type = \"exec\", program = \"/bin/sleep\", arguments = [\"100\"], interval = \"100s\", \
             timeout = \"90s\" }}\nbackends = [\"127.0.0.1\"]\n\
             [services.\"www.lb.example.test\"]\npools = [\"web\"]\n{end}\n"
        );
        std::fs::write(self.at("steerd.toml"), text).unwrap();
    }

    /// Replaces the program while it runs, as a package does.
    fn replace_program(&self, script: &str) {
        std::fs::write(self.at("new"), script).unwrap();
        std::fs::set_permissions(self.at("new"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(self.at("new"), self.at("steerd")).unwrap();
    }

    fn restore_program(&self) {
        std::fs::copy(STEERD, self.at("new")).unwrap();
        std::fs::rename(self.at("new"), self.at("steerd")).unwrap();
    }

    /// The program as a service with this time between two signs of life.
    fn command(&self, watchdog: Duration) -> Command {
        let mut command = Command::new(program("sh"));
        // systemd names the process that must give signs of life.
        command
            .args(["-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh"])
            .arg(self.at("steerd"))
            .args(["serve", "-c"])
            .arg(self.at("steerd.toml"))
            .env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        command
    }

    /// Calls a command that asks the running server.
    fn ask(&self, command: &[&str]) -> Output {
        Command::new(STEERD).args(command).arg("-c").arg(self.at("steerd.toml")).output().unwrap()
    }
}

/// The next message to a socket.
fn next(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).expect("a message to systemd");
    text(&buffer[..length])
}

/// A reload before DNS is answered is not told: its end would say that the service has started.
#[test]
fn systemd_is_told_when_dns_is_answered_and_when_steerd_stops() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let name = format!("steerd-test-{}", std::process::id());
    let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
    for (socket, environment) in [
        (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
        (UnixDatagram::bind_addr(&abstract_address).unwrap(), format!("@{name}")),
    ] {
        let service = Service::new("3s");
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut process = Process::start(
            Command::new(STEERD)
                .args(["serve", "-c"])
                .arg(service.at("steerd.toml"))
                .env("NOTIFY_SOCKET", &environment),
        );
        wait_for("it starts", || process.said("admin server listens").pop());
        process.signal("HUP");
        wait_for("the reload", || process.said("reloaded").pop());
        assert!(process.said("DNS is answered").is_empty(), "the reload came too late for this test");
        assert_eq!(next(&socket), "READY=1");
        assert_eq!(http_get(service.admin, "/readyz").0, 200, "it waits for the outcomes first");
        assert_eq!(dig(service.dns, &Sent::default(), &["www.lb.example.test"]), ["127.0.0.1"]);
        process.signal("TERM");
        assert_eq!(next(&socket), "STOPPING=1");
        assert_eq!(process.ended(), Some(0));
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert!(socket.recv(&mut [0; 1]).is_err(), "nothing else is told");
        assert!(process.said("WARN").iter().all(|line| !line.contains("systemd")), "{:?}", process.said(""));
    }
}

/// The begin and the end of a reload or a refused upgrade by a process.
fn assert_reload(told: &[Message], by: u32) {
    let [begin, end] = told else { panic!("{told:?}") };
    assert!(begin.text.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{begin:?}");
    assert_eq!((&*end.text, begin.from, end.from), ("READY=1", by, by));
}

#[test]
fn systemd_is_told_of_reloads_and_upgrades_and_follows_the_new_process() {
    const WATCHDOG: Duration = Duration::from_secs(4);
    let service = Service::new("0s");
    let supervisor = Supervisor::listen(&service.at("notify"), |_| ());
    let mut first = Process::start(service.command(WATCHDOG).env("NOTIFY_SOCKET", &supervisor.path));
    let ready = supervisor.wait_told(0, 1).remove(0);
    assert_eq!((&*ready.text, ready.from), ("READY=1", first.id()));

    // Reloads: by a signal, by the API, a refused one, a rollback. One that is only shown is none.
    let mut count = 1;
    let mut expect_reload = |by: u32| {
        assert_reload(&supervisor.wait_told(count, 2), by);
        count += 2;
    };
    first.signal("HUP");
    expect_reload(first.id());
    assert!(service.ask(&["reload", "--dry-run"]).status.success());
    service.configure("0s", "answers = 2");
    assert!(service.ask(&["reload"]).status.success());
    expect_reload(first.id());
    service.configure("0s", "answers = \"all of them\"");
    assert!(!service.ask(&["reload", "--admin", &format!("http://{}", service.admin)]).status.success());
    expect_reload(first.id());
    service.configure("0s", "answers = 1");
    assert!(service.ask(&["rollback"]).status.success());
    expect_reload(first.id());

    // An upgrade that fails: the service stays the same process.
    service.replace_program("#!/bin/sh\nexit 3\n");
    let refused = service.ask(&["upgrade"]);
    assert!(!refused.status.success(), "{refused:?}");
    expect_reload(first.id());
    assert_eq!(supervisor.main(), Some(first.id()));

    // One that succeeds: the old process names the new one, which goes on with the signs of life and with reloads.
    service.restore_program();
    let upgraded = service.ask(&["upgrade"]);
    assert!(upgraded.status.success(), "{upgraded:?}");
    let told = supervisor.wait_told(count, 2);
    let second = supervisor.main().unwrap();
    let _second = Killed(second);
    assert_ne!(second, first.id());
    assert!(told[0].text.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{told:?}");
    assert_eq!(told[1].text, format!("MAINPID={second}\nREADY=1\nWATCHDOG=1"));
    assert_eq!([told[0].from, told[1].from], [first.id(); 2]);
    assert_eq!(first.ended(), Some(0), "the old process ends");
    let ready = supervisor.wait_told(count + 2, 1).remove(0);
    assert_eq!((&*ready.text, ready.from), ("READY=1", second));
    let alive = wait_for("signs of life of the new process", || {
        let alive = supervisor.alive();
        (alive.iter().filter(|message| message.from == second).count() >= 3).then_some(alive)
    });
    for pair in alive.windows(2) {
        let between = pair[1].at - pair[0].at;
        assert!(between < WATCHDOG, "systemd would have ended the service after {between:?}: {pair:?}");
        let is_regular = pair.iter().all(|message| message.text == "WATCHDOG=1" && message.from == second);
        assert!(!is_regular || between > WATCHDOG / 4, "twice in the time is enough: {pair:?}");
    }
    signal(second, "HUP");
    assert_reload(&supervisor.wait_told(count + 3, 2), second);

    signal(second, "TERM");
    let stopping = supervisor.wait_told(count + 5, 1).remove(0);
    assert_eq!((&*stopping.text, stopping.from), ("STOPPING=1", second));
    let refused = supervisor.refused();
    assert!(refused.is_empty(), "systemd would complain: {refused:?}");
}

/// A process that is killed on drop.
struct Killed(u32);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = Command::new("sh").args(["-c", &format!("kill -KILL {}", self.0)]).output();
    }
}

fn signal(process: u32, name: &str) {
    let kill = format!("kill -{name} {process}");
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// strace makes the threads that answer over UDP hang at their first reply. Everything else goes on.
#[test]
fn a_service_that_no_longer_answers_gives_no_sign_of_life() {
    const WATCHDOG: Duration = Duration::from_secs(2);
    let service = Service::new("0s");
    let supervisor = Supervisor::listen(&service.at("notify"), |_| ());
    let run = service.command(WATCHDOG);
    let mut hanging = Process::start(
        Command::new(program("strace"))
            .args(["--daemonize", "--follow-forks", "--quiet=all", "--trace=sendmmsg"])
            .args(["--inject=sendmmsg:delay_enter=25000000", "--output=/dev/null"])
            .arg(run.get_program())
            .args(run.get_args())
            .envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .env("NOTIFY_SOCKET", &supervisor.path),
    );
    supervisor.wait_told(0, 1);
    wait_for("signs of life", || (supervisor.alive().len() >= 3).then_some(()));
    Client::of(service.dns).send(&Query::plain(wire("www.lb.example.test"), A), 1);
    wait_for("the service would be restarted", || {
        let last = supervisor.alive().last().unwrap().at;
        (last.elapsed() > WATCHDOG).then_some(())
    });
    wait_for("the reason", || hanging.said("over UDP is stuck").pop());
    assert!(hanging.is_running());
    assert_eq!(http_get(service.admin, "/healthz").0, 200, "the rest of it lives");
}
