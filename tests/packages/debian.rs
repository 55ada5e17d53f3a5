//! The Debian package: installed, run, reloaded, upgraded under load, removed and purged.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tempfile::TempDir;

use crate::root::Root;
use crate::support::client::Client;
use crate::support::message::{A, Query, wire};
use crate::support::traffic::Sent;
use crate::support::{Process, STEERD, dig, program, wait_for};
use crate::{guide, namespace, output, source, text};

/// The server of the example in the package.
const DNS: &str = "127.0.0.1:5300";

fn dns() -> SocketAddr {
    DNS.parse().unwrap()
}

/// Builds the package from the program under test.
pub(crate) fn build(directory: &TempDir, version: &str) -> PathBuf {
    let built = output(
        Command::new(program("bash"))
            .arg(source("packaging/deb"))
            .args(["--version", version, "--to"])
            .arg(directory.path())
            .arg(STEERD),
    );
    PathBuf::from(built.trim())
}

/// Installs or upgrades to a package.
fn install(root: &Root, package: &std::path::Path) -> String {
    root.copy(package, "/tmp/steerd.deb");
    root.run(&["dpkg", "--install", "/tmp/steerd.deb"])
}

/// Starts the service as its unit says: its user, its capability and its command.
fn start(root: &Root) -> Process {
    let unit = root.read("/usr/lib/systemd/system/steerd.service");
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
    assert_eq!(value("AmbientCapabilities"), "CAP_NET_BIND_SERVICE");
    let mut line = vec![
        "setpriv",
        "--reuid",
        value("User"),
        "--regid",
        value("Group"),
        "--clear-groups",
        "--no-new-privs",
    ];
    line.extend([
        "--inh-caps=-all,+net_bind_service",
        "--ambient-caps=-all,+net_bind_service",
        "--bounding-set=-all,+net_bind_service",
    ]);
    line.extend(value("ExecStart").split(' '));
    let mut process = Process::start(&mut root.command(&line));
    wait_for("DNS is answered", || {
        assert!(process.is_running(), "steerd ended: {:?}", process.said(""));
        process.said("DNS is answered").pop()
    });
    process
}

fn stop(mut process: Process) {
    process.signal("TERM");
    assert_eq!(process.ended(), Some(0));
}

fn answers(name: &str) -> Vec<String> {
    dig(dns(), &Sent::default(), &[name])
}

/// Paths in the system that have the name of the package, except for those that dpkg keeps about it.
fn traces(root: &Root) -> BTreeSet<String> {
    let found = root.run(&["find", "/", "-xdev", "-iname", "*steerd*"]);
    found
        .lines()
        .filter(|path| !path.starts_with("/tmp/") && !path.starts_with("/var/lib/dpkg/"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn it_is_installed_run_upgraded_removed_and_purged() {
    namespace::run_with_users("debian::it_is_installed_run_upgraded_removed_and_purged", || {
        let directory = TempDir::new().unwrap();
        let (old, new) = (build(&directory, "0.1.0-1"), build(&directory, "0.1.0-2"));
        let root = Root::debian();
        assert_eq!(traces(&root), BTreeSet::new());

        // Installed: the user, the state directory, the service, the documents, a configuration that is right.
        let told = install(&root, &old);
        assert!(!told.contains("warning"), "{told}");
        assert_eq!(root.run(&["stat", "-c", "%U:%G %a", "/var/lib/steerd"]), "steerd:steerd 750\n");
        assert_eq!(root.run(&["stat", "-c", "%U:%G %a", "/etc/steerd/steerd.toml"]), "root:root 644\n");
        assert!(root.path("/etc/systemd/system/multi-user.target.wants/steerd.service").is_symlink());
        for path in [
            "/usr/share/bash-completion/completions/steerd",
            "/usr/share/zsh/vendor-completions/_steerd",
            "/usr/share/fish/vendor_completions.d/steerd.fish",
            "/usr/share/man/man1/steerd.1.gz",
            "/usr/share/man/man1/steerd-status.1.gz",
            "/usr/share/doc/steerd/copyright",
            "/usr/share/doc/steerd/changelog.gz",
            "/usr/share/doc/steerd/docs/INSTALL.md",
            "/usr/share/doc/steerd/config/example.toml",
            "/usr/share/doc/steerd/examples/clients/README.md",
        ] {
            assert!(root.path(path).exists(), "{path}");
        }
        assert_eq!(
            root.run(&["dpkg", "--verify", "steerd"]),
            "",
            "every file has the checksum that the package names"
        );
        let checked = root.command(&["steerd", "check"]).output().unwrap();
        assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
        let verified =
            root.command(&["systemd-analyze", "--man=no", "verify", "steerd.service"]).output().unwrap();
        assert!(verified.status.success() && verified.stderr.is_empty(), "{verified:?}");

        // It answers, and takes a changed configuration.
        let running = start(&root);
        assert_eq!(answers("www.steerd.test"), ["127.0.0.1"]);
        let config = root.path("/etc/steerd/steerd.toml");
        let mine = root
            .read("/etc/steerd/steerd.toml")
            .replace("address = \"127.0.0.1\"", "address = \"127.0.0.9\"");
        std::fs::write(&config, &mine).unwrap();
        let told = root.run(&["steerd", "reload"]);
        assert!(told.starts_with("reloaded"), "{told}");
        assert_eq!(answers("www.steerd.test"), ["127.0.0.9"]);
        root.run(&["steerd", "weight", "web/web1", "50%", "--reason", "upgrade"]);

        // Upgraded without systemd: the package leaves the service to another supervisor.
        install(&root, &new);
        stop(running);
        let running = start(&root);
        assert_eq!(root.run(&["dpkg-query", "-W", "-f", "${Version}", "steerd"]), "0.1.0-2");
        assert_eq!(root.read("/etc/steerd/steerd.toml"), mine, "the edited configuration stays");
        assert!(
            root.run(&["steerd", "status", "web"]).contains("upgrade"),
            "the override is kept over the restart"
        );
        assert_eq!(answers("www.steerd.test"), ["127.0.0.9"]);
        stop(running);

        // Removed: the configuration, the state and the user stay; a package that comes back takes them up.
        root.run(&["dpkg", "--remove", "steerd"]);
        assert!(!root.path("/usr/bin/steerd").exists());
        assert_eq!(root.read("/etc/steerd/steerd.toml"), mine);
        assert!(root.path("/var/lib/steerd/health.json").exists());
        let enabled = root.path("/etc/systemd/system/multi-user.target.wants/steerd.service");
        install(&root, &new);
        assert!(enabled.is_symlink());
        stop(start(&root));
        assert_eq!(root.read("/etc/steerd/steerd.toml"), mine);

        // Purged: nothing stays but the user.
        root.run(&["dpkg", "--purge", "steerd"]);
        assert_eq!(traces(&root), BTreeSet::new());
        assert!(!enabled.is_symlink());
        let user = root.run(&["id", "steerd"]);
        assert!(user.contains("(steerd)"), "{user}");
    });
}

/// The installation of a newer version while the service runs.
#[test]
fn an_upgrade_replaces_a_service_that_runs_without_losing_a_query() {
    namespace::run_with_users(
        "debian::an_upgrade_replaces_a_service_that_runs_without_losing_a_query",
        || {
            let directory = TempDir::new().unwrap();
            let (old, new) = (build(&directory, "0.1.0-1"), build(&directory, "0.1.0-2"));
            let (root, supervisor) = guide::debian_with_systemd();
            let process = || root.read("/run/steerd.pid").trim().to_owned();
            let program = || std::fs::read_link(root.path(&format!("/proc/{}/exe", process()))).unwrap();
            install(&root, &old);
            root.run(&["steerd", "weight", "web/web1", "50%", "--reason", "upgrade"]);
            let first = process();

            let load = Load::start();
            let told = install(&root, &new);
            let (answered, lost) = load.stop();
            println!("upgrade of the package: {answered} queries answered, {lost} lost");
            assert!(answered > 100 && lost == 0, "{answered} answered, {lost} lost\n{told}");
            wait_for("systemd follows another process", || (process() != first).then_some(()));
            assert!(program().ends_with("usr/bin/steerd"), "it runs what is installed: {:?}", program());
            assert!(root.run(&["steerd", "status", "web"]).contains("upgrade"), "the override is kept");
            let refused = supervisor.refused();
            assert!(refused.is_empty(), "systemd would complain: {refused:?}");
            root.run(&["systemctl", "stop", "steerd"]);
        },
    );
}

#[test]
fn an_upgrade_that_cannot_be_leaves_the_old_version_or_restarts_it() {
    namespace::run_with_users(
        "debian::an_upgrade_that_cannot_be_leaves_the_old_version_or_restarts_it",
        || {
            let directory = TempDir::new().unwrap();
            let (old, new) = (build(&directory, "0.1.0-1"), build(&directory, "0.1.0-2"));
            let (root, _) = guide::debian_with_systemd();
            let process = || root.read("/run/steerd.pid");
            let config = |change: &dyn Fn(&str) -> String| {
                let path = root.path("/etc/steerd/steerd.toml");
                let text = std::fs::read_to_string(&path).unwrap();
                std::fs::write(&path, change(&text)).unwrap();
                text
            };
            // The output of an upgrade that succeeds for dpkg in any case.
            let upgrade = || {
                root.copy(&new, "/tmp/steerd.deb");
                let upgraded = root.command(&["dpkg", "--install", "/tmp/steerd.deb"]).output().unwrap();
                assert!(upgraded.status.success(), "{upgraded:?}");
                text(&upgraded.stderr)
            };
            install(&root, &old);
            let first = process();

            // The new version refuses the configuration: the old process answers on, and the operator is told.
            let right = config(&|text| format!("unknown = 1\n{text}"));
            let told = upgrade();
            assert!(told.contains("there was no upgrade"), "{told}");
            assert!(told.contains("unknown"), "the fault is shown: {told}");
            assert_eq!(process(), first);
            assert_eq!(answers("www.steerd.test"), ["127.0.0.1"]);

            // The new process cannot have an address.
            let _other = std::net::UdpSocket::bind("127.0.0.1:5399").unwrap();
            config(&|_| right.replace("\"127.0.0.1:5300\"", "\"127.0.0.1:5300\", \"127.0.0.1:5399\""));
            let told = upgrade();
            assert!(told.contains("is still the old version") && told.contains("127.0.0.1:5399"), "{told}");
            assert_eq!(process(), first);
            assert_eq!(answers("www.steerd.test"), ["127.0.0.1"]);

            // The policy of the machine forbids it.
            config(&|_| right.clone());
            let policy = root.path("/usr/sbin/policy-rc.d");
            std::fs::write(&policy, "#!/bin/sh\nexit 101\n").unwrap();
            std::fs::set_permissions(&policy, std::fs::Permissions::from_mode(0o755)).unwrap();
            upgrade();
            assert_eq!(process(), first);
            std::fs::remove_file(&policy).unwrap();

            // The running process cannot be asked, as one of a version without upgrades cannot.
            config(&|_| right.replace("\"127.0.0.1:8053\"", "\"127.0.0.1:8054\""));
            let told = upgrade();
            assert!(told.contains("the service is restarted, as"), "{told}");
            let second = process();
            assert_ne!(second, first);
            assert_eq!(answers("www.steerd.test"), ["127.0.0.1"]);

            // Stopped by hand: it stays so.
            root.run(&["systemctl", "stop", "steerd"]);
            upgrade();
            assert_eq!(process(), second);
            assert!(!root.command(&["steerd", "healthcheck"]).status().unwrap().success());

            // A package that comes back starts again.
            root.run(&["dpkg", "--remove", "steerd"]);
            install(&root, &new);
            assert_eq!(answers("www.steerd.test"), ["127.0.0.1"]);
            root.run(&["systemctl", "stop", "steerd"]);
        },
    );
}

/// Clients that send one query after the other, over UDP and each over a connection of its own, until they are stopped.
struct Load {
    done: Arc<AtomicBool>,
    clients: [JoinHandle<(u32, u32)>; 2],
}

impl Load {
    fn start() -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let clients = [false, true].map(|over_tcp| {
            let done = Arc::clone(&done);
            thread::spawn(move || {
                let client = Client::of(dns());
                let query = Query::plain(wire("www.steerd.test"), A);
                let (mut answered, mut lost) = (0, 0);
                for id in (0..=u16::MAX).cycle() {
                    let reply =
                        if over_tcp { client.try_ask_tcp(&query, id) } else { client.try_ask(&query, id) };
                    *(if reply.is_some() { &mut answered } else { &mut lost }) += 1;
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    // While no server runs, the kernel refuses at once.
                    thread::park_timeout(Duration::from_millis(1));
                }
                (answered, lost)
            })
        });
        Self { done, clients }
    }

    /// How many queries were answered, and how many were not.
    fn stop(self) -> (u32, u32) {
        self.done.store(true, Ordering::Relaxed);
        let counts = self.clients.map(|client| client.join().unwrap());
        counts.into_iter().fold((0, 0), |(answered, lost), count| (answered + count.0, lost + count.1))
    }
}
