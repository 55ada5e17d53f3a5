//! The resolvers, each with a stub or forward zone for steerd.

use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::message::{NOERROR, Query, Reply, SOA, wire};
use crate::support::{Process, directory_of, free_port, program, wait_for};

/// A program that resolves names for clients.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program {
    Unbound,
    Named,
    Kresd,
    PdnsRecursor,
    /// With its subnet module, which sends the network of a client.
    UnboundSubnets,
    /// With client subnets.
    PdnsRecursorSubnets,
}

/// A running resolver, and a client for it.
pub(crate) struct Resolver {
    client: Client,
    address: SocketAddr,
    _process: Process,
    _directory: TempDir,
}

impl Resolver {
    /// Starts a resolver that gets `zone` from the server at `authority`, and waits until it
    /// resolves.
    pub(crate) fn start(program: Program, zone: &str, authority: SocketAddr) -> Self {
        let directory = TempDir::new().unwrap();
        let port = free_port("127.0.0.1");
        let mut process = Process::start(&mut command(program, &directory, port, zone, authority.port()));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let client = Client::of(address);
        let query = Query { recursion_desired: true, ..Query::plain(wire(zone), SOA) };
        wait_for(&format!("{program:?} answers"), || {
            assert!(process.is_running(), "{program:?} ended: {:?}", process.said(""));
            let reply = Reply::decode(&client.try_ask(&query, 1)?).ok()?;
            (reply.rcode == NOERROR && !reply.answer.is_empty()).then_some(())
        });
        Self { client, address, _process: process, _directory: directory }
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The reply as a client gets it that retries truncated replies over TCP.
    pub(crate) fn resolve(&self, query: &Query) -> Reply {
        let reply = Reply::decode(&self.client.ask(query, 1)).unwrap();
        if reply.truncated { Reply::decode(&self.client.ask_tcp(query, 1)).unwrap() } else { reply }
    }
}

/// The command that starts a resolver on `port`; its files are in `directory`.
fn command(resolver: Program, directory: &TempDir, port: u16, zone: &str, authority: u16) -> Command {
    let dir = directory_of(directory);
    let path = directory.path().join("config");
    let write = |config: String| std::fs::write(&path, config).unwrap();
    let mut command;
    match resolver {
        Program::Unbound => {
            write(unbound(&dir, port, zone, authority));
            command = Command::new(program("unbound"));
            command.arg("-d").arg("-c").arg(&path);
        }
        Program::UnboundSubnets => {
            let subnets = "module-config: \"subnetcache iterator\"\n send-client-subnet: 127.0.0.1\n \
                           max-client-subnet-ipv4: 24";
            write(unbound(&dir, port, zone, authority).replace("module-config: \"iterator\"", subnets));
            command = Command::new(program("unbound"));
            command.arg("-d").arg("-c").arg(&path);
        }
        Program::Named => {
            write(named(&dir, port, zone, authority));
            command = Command::new(program("named"));
            command.arg("-g").arg("-c").arg(&path);
        }
        Program::Kresd => {
            write(kresd(port, zone, authority));
            command = Command::new(program("kresd"));
            command.arg("-n").arg("-c").arg(&path).arg(&dir);
        }
        Program::PdnsRecursor => {
            command = Command::new(program("pdns_recursor"));
            command.args(pdns_recursor(&dir, port, zone, authority));
        }
        Program::PdnsRecursorSubnets => {
            command = Command::new(program("pdns_recursor"));
            command.args(pdns_recursor(&dir, port, zone, authority));
            // By default, addresses of this machine are not sent.
            command.args([format!("--edns-subnet-allow-list={zone}"), "--ecs-add-for=0.0.0.0/0".to_owned()]);
            command.args(["--ecs-ipv4-bits=24", "--ecs-ipv4-cache-bits=32"]);
        }
    }
    command
}

/// The strictest configuration: names are minimised without a fallback to the full name; names in
/// mixed case must be returned unchanged; names below one that does not exist are not queried (RFC
/// 9156, 8020).
fn unbound(dir: &str, port: u16, zone: &str, authority: u16) -> String {
    format!(
        "server:\n interface: 127.0.0.1@{port}\n do-daemonize: no\n use-syslog: no\n logfile: \"\"\n \
         username: \"\"\n chroot: \"\"\n directory: \"{dir}\"\n pidfile: \"{dir}/pid\"\n \
         do-not-query-localhost: no\n access-control: 127.0.0.0/8 allow\n module-config: \"iterator\"\n \
         num-threads: 1\n local-zone: \"test.\" nodefault\n use-caps-for-id: yes\n \
         qname-minimisation-strict: yes\n harden-below-nxdomain: yes\n edns-buffer-size: 1232\n\
         remote-control:\n control-enable: no\n\
         stub-zone:\n name: \"{zone}\"\n stub-addr: 127.0.0.1@{authority}\n"
    )
}

/// A stub zone in BIND has no port, so the port for all authoritative servers is set.
fn named(dir: &str, port: u16, zone: &str, authority: u16) -> String {
    format!(
        "options {{ directory \"{dir}\"; pid-file none; session-keyfile none; port {authority}; \
         listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion yes; \
         dnssec-validation no; empty-zones-enable no; qname-minimization strict; notify no; }};\n\
         controls {{ }};\n\
         zone \"{zone}\" {{ type static-stub; server-addresses {{ 127.0.0.1; }}; }};\n"
    )
}

fn kresd(port: u16, zone: &str, authority: u16) -> String {
    format!(
        "net.listen('127.0.0.1', {port})\n\
         trust_anchors.remove('.')\n\
         modules.unload('ta_update')\nmodules.unload('priming')\nmodules.unload('detect_time_skew')\n\
         cache.size = 10 * MB\n\
         policy.add(policy.suffix(policy.STUB({{'127.0.0.1@{authority}'}}), policy.todnames({{'{zone}.'}})))\n"
    )
}

fn pdns_recursor(dir: &str, port: u16, zone: &str, authority: u16) -> Vec<String> {
    let settings = [
        ("config-dir", dir),
        ("socket-dir", dir),
        ("local-address", "127.0.0.1"),
        ("local-port", &port.to_string()),
        ("forward-zones", &format!("{zone}=127.0.0.1:{authority}")),
        ("dont-query", ""),
        ("dnssec", "off"),
        ("threads", "1"),
        ("daemon", "no"),
        ("write-pid", "no"),
        ("disable-syslog", "yes"),
        ("security-poll-suffix", ""),
    ];
    settings.iter().map(|(key, value)| format!("--{key}={value}")).collect()
}
