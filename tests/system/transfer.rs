//! Zone transfers: who may transfer, who may not, and real secondaries that take a zone over.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Process, ZONE, dig, free_port, wait_for};
use crate::support::traffic::Sent;
use crate::support::{Steerd, directory_of, program, relay};

/// 32 bytes, in base64 and for `dig -y`.
const SECRET: &str = "c3RlZXJkLXRyYW5zZmVyLXRlc3Qta2V5LTMyLWJ5dGU=";
const OTHER: &str = "YW5vdGhlci1zZWNyZXQtb2YtdGhpcnR5LXR3by1ieXQ=";

/// A zone of a few thousand records, so that a transfer takes several messages.
fn large_zone() -> String {
    let mut zone = String::from(ZONE);
    for index in 0..5000 {
        writeln!(zone, "host{index} A 192.0.2.{}", index % 250).unwrap();
    }
    zone
}

fn start(transfer: &str) -> Steerd {
    start_with(transfer, "")
}

/// Starts a server with more keys for the zone.
fn start_with(transfer: &str, more: &str) -> Steerd {
    let config = format!(
        "[keys.\"transfer.test\"]\nsecret_file = \"secret\"\n\
         [zones.\"lb.example.test\"]\nfile = \"zone\"\ntransfer = {transfer}\n{more}\n\
         [pools.web]\nbackends = [\"192.0.2.11\"]\n[services.\"www.lb.example.test\"]\npools = [\"web\"]\n"
    );
    Steerd::start(&config, &[("zone", &large_zone()), ("secret", SECRET)])
}

/// The complete output of `dig` for a transfer.
fn transfer(server: &Steerd, arguments: &[&str]) -> String {
    transfer_of("lb.example.test", server, arguments)
}

fn transfer_of(zone: &str, server: &Steerd, arguments: &[&str]) -> String {
    if arguments.contains(&"+notcp") {
        server.ledger.sent.datagram();
    } else {
        server.ledger.sent.message();
    }
    told(server.dns, zone, arguments)
}

/// The complete output of `dig` for a zone's name.
fn told(server: SocketAddr, zone: &str, arguments: &[&str]) -> String {
    let output = Command::new(program("dig"))
        .args(["+tries=1", "-p", &server.port().to_string()])
        .args([&format!("@{}", server.ip()), zone])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn records(told: &str) -> usize {
    told.lines().filter(|line| line.starts_with("host") || line.contains("\tIN\tSOA")).count()
}

#[test]
fn whoever_is_allowed_gets_the_whole_zone() {
    let by_network = start("{ networks = [\"127.0.0.1\"] }");
    let told = transfer(&by_network, &["AXFR"]);
    assert_eq!(records(&told), 5002, "{}", told.lines().last().unwrap_or_default());
    let mut service = told.lines().filter(|line| line.starts_with("www."));
    assert!(
        service.next().is_some_and(|line| line.contains("\tTXT\t")),
        "what stands beside a service is there"
    );
    assert_eq!(service.next(), None, "addresses of services are not zone data");
    // An incremental transfer gets the whole zone, or only the SOA record if nothing is new.
    assert_eq!(records(&transfer(&by_network, &["IXFR=0"])), 5002);
    assert_eq!(records(&transfer(&by_network, &["IXFR=1"])), 1);
    // Other queries on the same connection are answered as usual.
    assert_eq!(
        dig(by_network.dns, &by_network.ledger.sent, &["www.lb.example.test", "A", "+tcp"]),
        ["192.0.2.11"]
    );
}

#[test]
fn a_key_opens_the_zone_and_nothing_else_does() {
    let server = start("{ networks = [\"192.0.2.0/24\"], keys = [\"transfer.test\"] }");
    let signed = |key: &str| transfer(&server, &["AXFR", "-y", &format!("hmac-sha256:{key}")]);
    let told = signed(&format!("transfer.test:{SECRET}"));
    assert_eq!(records(&told), 5002);
    assert!(!told.contains("BADSIG") && !told.contains("verify failure"), "every message is signed");
    assert_eq!(records(&transfer(&server, &["AXFR"])), 0, "without a key");
    for key in [format!("transfer.test:{OTHER}"), format!("unknown.test:{SECRET}")] {
        let told = signed(&key);
        assert_eq!(records(&told), 0, "{told}");
    }
    assert_eq!(records(&transfer_of("sub.lb.example.test", &server, &["AXFR"])), 0, "no zone");
    let over_udp = transfer(&server, &["IXFR=0", "+notcp", "+noall", "+comments"]);
    assert!(over_udp.contains("status: REFUSED"), "{over_udp}");
}

/// Secondaries query the SOA record with the key for the transfer, and accept no unsigned reply.
#[test]
fn any_signed_query_gets_a_signed_reply() {
    let server = start("{ keys = [\"transfer.test\"] }");
    let counted = relay::start(server.dns, &server.ledger.sent);
    let ask = |key: &str, more: &[&str]| {
        let key = format!("hmac-sha256:{key}");
        told(counted, "lb.example.test", &[&["-y", key.as_str()], more].concat())
    };
    for more in
        [&["SOA", "+notcp"][..], &["SOA", "+tcp"], &["NS", "+noedns"], &["ANY", "+edns=1", "+noednsneg"]]
    {
        let told = ask(&format!("transfer.test:{SECRET}"), more);
        assert!(told.contains("TSIG PSEUDOSECTION") && told.contains("NOERROR 0"), "{told}");
        assert!(!told.contains("could not be validated"), "{told}");
    }
    for (key, error) in
        [(format!("transfer.test:{OTHER}"), "BADSIG"), (format!("unknown.test:{SECRET}"), "BADKEY")]
    {
        let told = ask(&key, &["SOA"]);
        assert!(told.contains("status: NOTAUTH") && told.contains(error), "{told}");
    }
}

/// A running secondary, and its address.
struct Secondary {
    _process: Process,
    _directory: TempDir,
    address: SocketAddr,
}

impl Secondary {
    /// Starts BIND on a loopback port; its primary is on another one. Notifications must be signed.
    fn bind(port: u16, primary: SocketAddr) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("named.conf");
        let config = format!(
            "options {{ directory \"{0}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; \
             pid-file \"{0}/pid\"; session-keyfile \"{0}/session\"; dnssec-validation no; }};\ncontrols {{ }};\n\
             key \"transfer.test\" {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
             zone \"lb.example.test\" {{ type secondary; file \"zone\"; allow-notify {{ key transfer.test; }}; \
             primaries {{ 127.0.0.1 port {1} key transfer.test; }}; }};\n",
            directory_of(&directory),
            primary.port()
        );
        std::fs::write(&path, config).unwrap();
        let process =
            Process::start(Command::new(program("named")).args(["-4", "-g", "-n", "1", "-c"]).arg(&path));
        Self { _process: process, _directory: directory, address: SocketAddr::new(primary.ip(), port) }
    }

    /// Starts NSD in the same way.
    fn nsd(port: u16, primary: SocketAddr) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("nsd.conf");
        let config = format!(
            "server:\n ip-address: 127.0.0.1@{port}\n server-count: 1\n username: \"\"\n chroot: \"\"\n database: \"\"\n \
             zonesdir: \"{0}\"\n zonelistfile: \"{0}/zonelist\"\n xfrdfile: \"{0}/xfrd\"\n pidfile: \"{0}/pid\"\n \
             xfrdir: \"{0}\"\n logfile: \"{0}/log\"\n rrl-ratelimit: 0\nremote-control:\n control-enable: no\n\
             key:\n name: transfer.test\n algorithm: hmac-sha256\n secret: \"{SECRET}\"\n\
             zone:\n name: lb.example.test\n zonefile: zone\n request-xfr: AXFR 127.0.0.1@{1} transfer.test\n \
             allow-notify: 127.0.0.1 transfer.test\n",
            directory_of(&directory),
            primary.port()
        );
        std::fs::write(&path, config).unwrap();
        let process = Process::start(Command::new(program("nsd")).arg("-d").arg("-c").arg(&path));
        Self { _process: process, _directory: directory, address: SocketAddr::new(primary.ip(), port) }
    }

    fn wait_for(&self, what: &str, host: &str, address: &str) {
        let name = format!("{host}.lb.example.test");
        wait_for(what, || (dig(self.address, &Sent::default(), &[&name, "A"]) == [address]).then_some(()));
    }
}

/// Another secondary, which queries the SOA record first.
#[test]
fn bind_takes_the_zone_over() {
    let server = start("{ keys = [\"transfer.test\"] }");
    let primary = relay::start(server.dns, &server.ledger.sent);
    let secondary = Secondary::bind(free_port("127.0.0.1"), primary);
    secondary.wait_for("the secondary has the zone", "host4999", "192.0.2.249");
}

/// The refresh time is an hour, so only NOTIFY makes a secondary fetch a new version.
fn takes_a_new_version(start_secondary: fn(u16, SocketAddr) -> Secondary) {
    let port = free_port("127.0.0.1");
    let server = start_with(
        "{ keys = [\"transfer.test\"] }",
        &format!("secondaries = [{{ address = \"127.0.0.1:{port}\", key = \"transfer.test\" }}]"),
    );
    let primary = relay::start(server.dns, &server.ledger.sent);
    let secondary = start_secondary(port, primary);
    secondary.wait_for("the secondary has the zone", "static", "192.0.2.80");
    let results =
        |result: &str| server.metric(&format!("steerd_notify_results_total{{result=\"{result}\"}}")).unwrap();
    let before = results("acknowledged");
    let zone = large_zone().replace("hostmaster 1 ", "hostmaster 2 ").replace("192.0.2.80", "192.0.2.81");
    std::fs::write(server.directory.path().join("zone"), zone).unwrap();
    let (status, report) = server.request("POST", "/api/v1/reload", "");
    assert_eq!(status, 200, "{report:#}");
    secondary.wait_for("the secondary has the new version", "static", "192.0.2.81");
    wait_for("it has acknowledged", || (results("acknowledged") > before).then_some(()));
    assert_eq!(results("refused"), 0.0);
}

#[test]
fn bind_takes_a_new_version_when_it_is_told() {
    takes_a_new_version(Secondary::bind);
}

#[test]
fn nsd_takes_a_new_version_when_it_is_told() {
    takes_a_new_version(Secondary::nsd);
}

#[test]
fn nobody_may_transfer_unless_the_configuration_says_so() {
    let config = "[zones.\"lb.example.test\"]\nfile = \"zone\"\n";
    let server = Steerd::start(config, &[("zone", ZONE)]);
    assert_eq!(records(&transfer(&server, &["AXFR"])), 0);
}

/// A real secondary takes the zone over with a key, and answers from it.
#[test]
fn nsd_takes_the_zone_over() {
    let server = start("{ keys = [\"transfer.test\"] }");
    let primary = relay::start(server.dns, &server.ledger.sent);
    let secondary = Secondary::nsd(free_port("127.0.0.1"), primary);
    secondary.wait_for("the secondary has the zone", "host4999", "192.0.2.249");
    secondary.wait_for("and all of it", "static", "192.0.2.80");
}
