//! A server with two pools whose backends are listeners of the test, and its alerts.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use crate::support::{STEERD, Steerd, wait_for};

const ZONE: &str = "$TTL 300\n@ SOA ns1 hostmaster 1 3600 900 604800 2\n@ NS ns1\nns1 A 127.0.0.1\n";

/// Two backends of `web` and one of `standby`, which count as alive while somebody listens.
pub(crate) struct Scene {
    pub(crate) server: Steerd,
    hosts: [SocketAddr; 3],
    alive: Vec<TcpListener>,
}

/// A configuration with these backends and alerts.
fn config(hosts: [SocketAddr; 3], alerts: &str) -> String {
    let check = |port: u16| {
        format!(
            "check = {{ type = \"tcp\", port = {port}, interval = \"200ms\", timeout = \"150ms\", recheck = \"100ms\", \
             rise = 1, fall = 2, damping = false }}\nsuspect_self = \"off\"\n"
        )
    };
    let [one, two, three] = hosts.map(|host| host.ip());
    format!(
        "[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
         [pools.web]\n{}backends = [{{ name = \"gw1\", address = \"{one}\" }}, {{ name = \"gw2\", address = \"{two}\" }}]\n\
         [pools.standby]\n{}backends = [{{ name = \"sb1\", address = \"{three}\" }}]\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\", \"standby\"]\n\
         [services.\"api.lb.example.test\"]\npools = [\"web\"]\n{alerts}",
        check(hosts[0].port()),
        check(hosts[2].port()),
    )
}

impl Scene {
    /// Everything is alive. `network` is the third byte of the addresses, another one for each test.
    pub(crate) fn start(network: u8, alerts: &str) -> Self {
        let port = crate::support::free_port(&format!("127.0.{network}.1"));
        let hosts = [1, 2, 3].map(|host| SocketAddr::from(([127, 0, network, host], port)));
        let alive = listen(&hosts);
        let files =
            [("zone", ZONE), ("token", "s3cr3t-t0ken\n"), ("key", "0123456789abcdef0123456789abcdef\n")];
        let server = Steerd::start(&config(hosts, alerts), &files);
        Self { server, hosts, alive }
    }

    /// The backends of `web` die.
    pub(crate) fn web_dies(&mut self) {
        let standby = self.hosts[2];
        self.alive.retain(|listener| listener.local_addr().unwrap() == standby);
    }

    pub(crate) fn web_returns(&mut self) {
        self.alive.extend(listen(&self.hosts[..2]));
    }

    /// Writes other alerts, and reloads.
    pub(crate) fn reload(&self, alerts: &str) -> String {
        self.server.configure(&config(self.hosts, alerts), "");
        self.command(&["reload"])
    }

    /// Runs a command with the configuration; returns all that it said.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let file = self.server.directory.path().join("steerd.toml");
        let admin = format!("http://{}", self.server.admin);
        let mut command = Command::new(STEERD);
        command.args(arguments).arg("-c").arg(file);
        if arguments[0] != "alerts" {
            command.args(["--admin", &admin]);
        }
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        format!("{}exit {}", String::from_utf8(said).unwrap(), output.status.code().unwrap())
    }

    /// Waits until a pool is usable, or is not.
    pub(crate) fn wait_for_pool(&self, pool: &str, usable: bool) {
        wait_for("the state of the pool", || {
            let (_, status) = self.server.request("GET", "/api/v1/status", "");
            let pools = status["pools"].as_array()?.clone();
            let found = pools.into_iter().find(|known| known["name"] == pool)?;
            (found["usable"] == usable).then_some(())
        });
    }
}

fn listen(hosts: &[SocketAddr]) -> Vec<TcpListener> {
    let listen = |host: &SocketAddr| wait_for("a backend listens", || TcpListener::bind(host).ok());
    hosts.iter().map(listen).collect()
}
