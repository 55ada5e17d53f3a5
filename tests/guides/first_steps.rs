//! `docs/guides/FIRST_STEPS.md` and `docs/guides/INSTANCES.md`: two web servers, a parent zone in NSD, and Unbound as
//! the resolver of the machine.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::guide::Guide;
use crate::hosts::{add_addresses, write_ssh, write_web_server};
use crate::namespace;
use crate::support::{Process, program, wait_for};

const SERVERS: [&str; 2] = ["192.0.2.53", "198.51.100.53"];
const PARENT: &str = "203.0.113.53";
const BACKENDS: [(&str, &str); 2] = [("web1", "192.0.2.11"), ("web2", "192.0.2.12")];
const START_BACKENDS: &str = "for host in web1 web2; do ssh $host sudo systemctl start web; done";

/// The parent zone, without and with the lines that `steerd init` prints for it.
const ZONE: &str =
    "$ORIGIN example.com.\n$TTL 60\n@ SOA ns hostmaster 1 60 60 600 1\n@ NS ns\nns A 203.0.113.53\n";
const DELEGATION: &str = "lb.example.com. NS ns1.lb.example.com.\nlb.example.com. NS ns2.lb.example.com.\n\
     ns1.lb.example.com. A 192.0.2.53\nns2.lb.example.com. A 198.51.100.53\n";

struct Scene {
    directory: TempDir,
    _resolver: Process,
}

impl Scene {
    fn start() -> Self {
        add_addresses(SERVERS.into_iter().chain([PARENT]).chain(BACKENDS.map(|(_, address)| address)));
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        for (name, address) in BACKENDS {
            write_web_server(path, name, address, "location / { return 200 ok; }");
        }
        write_ssh(path);
        Self { _resolver: start_resolver(path), directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn guide(&self, name: &str) -> Guide {
        let mut guide = Guide::open(name, self.path());
        guide.also(&format!("PATH={}:$PATH", self.path().display()));
        guide.also(START_BACKENDS);
        guide
    }

    /// Starts the server of the parent zone.
    fn start_parent(&self, zone: &str) -> Process {
        let here = self.path().display();
        std::fs::write(self.path().join("example.com.zone"), zone).unwrap();
        let config = format!(
            "server:\n ip-address: {PARENT}\n username: \"\"\n chroot: \"\"\n pidfile: \"{here}/nsd.pid\"\n \
             zonesdir: \"{here}\"\n database: \"\"\n xfrdfile: \"{here}/xfrd\"\n xfrdir: \"{here}\"\n zonelistfile: \
             \"{here}/zones\"\n server-count: 1\n\
             remote-control:\n control-enable: no\nzone:\n name: example.com\n zonefile: example.com.zone\n"
        );
        let file = self.path().join("nsd.conf");
        std::fs::write(&file, config).unwrap();
        let process = Process::start(Command::new(program("nsd")).arg("-d").arg("-c").arg(&file));
        wait_for("the parent answers", || TcpStream::connect((PARENT, 53)).ok());
        process
    }
}

/// A resolver for the machine, which finds example.com at its server.
fn start_resolver(directory: &Path) -> Process {
    let here = directory.display();
    let config = format!(
        "server:\n interface: 127.0.0.1\n do-daemonize: no\n use-syslog: no\n logfile: \"\"\n username: \"\"\n \
         chroot: \"\"\n directory: \"{here}\"\n pidfile: \"{here}/unbound.pid\"\n do-not-query-localhost: no\n \
         access-control: 127.0.0.0/8 allow\n module-config: \"iterator\"\n num-threads: 1\n\
         remote-control:\n control-enable: no\nstub-zone:\n name: example.com\n stub-addr: {PARENT}\n"
    );
    let file = directory.join("unbound.conf");
    std::fs::write(&file, config).unwrap();
    let process = Process::start(Command::new(program("unbound")).arg("-d").arg("-c").arg(&file));
    wait_for("the resolver listens", || TcpStream::connect(("127.0.0.1", 53)).ok());
    process
}

#[test]
fn from_a_delegation_to_the_first_failover() {
    namespace::run("first_steps::from_a_delegation_to_the_first_failover", || {
        let scene = Scene::start();
        let mut guide = scene.guide("FIRST_STEPS.md");
        guide.follow_until("Delegate the name");
        let _parent = scene.start_parent(&format!("{ZONE}{DELEGATION}"));
        guide.follow();
    });
}

#[test]
fn several_instances() {
    namespace::run("first_steps::several_instances", || {
        let scene = Scene::start();
        let _parent = scene.start_parent(&format!("{ZONE}{DELEGATION}"));
        scene.guide("INSTANCES.md").follow();
    });
}
