//! All of steering at once: four nginx in two sites, tiers, a rule, a canary at 10 %, a drill, and two servers that are
//! told together.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use crate::harness::{Nginx, STEERD, Server, free_port, wait_for};

const SERVICE: &str = "www.lb.example.test";
const HEALTHY: &str = "return 200 ok;";
/// The last bytes of the loopback addresses of the backends: two in `ams`, two in `fra`.
const BACKENDS: [u8; 4] = [61, 62, 63, 64];
/// The rule sends clients with this address to `fra` first.
const OF_FRA: &str = "127.0.0.69";
const QUERIES: u32 = 3000;
/// Fair draws deviate by fewer standard deviations, except in one run in a million.
const FAIR: f64 = 5.6;

fn config(port: u16) -> String {
    let [a, b, c, d] = BACKENDS.map(|last| format!("127.0.0.{last}"));
    format!(
        "[defaults.check]\ninterval = \"1s\"\ntimeout = \"500ms\"\nfall = 2\nrise = 1\n\
         [pools.ams]\ncheck = \"http://:{port}/healthz\"\nbackends = [\n\
         {{ name = \"a1\", address = \"{a}\", site = \"ams\" }},\n{{ name = \"a2\", address = \"{b}\", site = \"ams\" }},\n]\n\
         [pools.fra]\ncheck = \"http://:{port}/healthz\"\nbackends = [\n\
         {{ name = \"f1\", address = \"{c}\", site = \"fra\" }},\n{{ name = \"f2\", address = \"{d}\", site = \"fra\" }},\n]\n\
         [services.\"{SERVICE}\"]\npools = [\"ams\", \"fra\"]\nanswers = 1\nttl = {{ min = \"1s\", max = \"20s\" }}\n\
         rules = [{{ networks = [\"{OF_FRA}\"], pools = [\"fra\", \"ams\"] }}]\n"
    )
}

/// Runs a command for both servers. Returns its exit code and output.
fn steerd(servers: &[Server; 2], arguments: &[&str]) -> (i32, String) {
    let urls = servers.each_ref().map(|server| format!("http://{}", server.admin));
    let to = urls.iter().flat_map(|url| ["--admin", url]);
    let output = Command::new(STEERD)
        .args(arguments)
        .args(to)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap(), text)
}

/// The last bytes of all addresses that a client gets in many answers.
fn seen(server: &Server, client: &str) -> BTreeSet<u8> {
    (0..12).flat_map(|_| server.dig(&["-b", client, SERVICE, "A"])).map(|address| last(&address)).collect()
}

fn last(address: &str) -> u8 {
    address.rsplit('.').next().unwrap().parse().unwrap()
}

/// How often each backend is answered, in [`QUERIES`] queries of one client.
fn counted(server: &Server) -> BTreeMap<u8, u32> {
    let client = crate::client::Client::of(server);
    let mut counts = BTreeMap::new();
    for _ in 0..QUERIES {
        let answer = client.ask(&format!("{SERVICE}."), hickory_proto::rr::RecordType::A);
        for address in crate::client::addresses(&answer) {
            *counts.entry(address.octets()[3]).or_default() += 1;
        }
    }
    counts
}

#[test]
fn two_sites_a_rule_a_canary_and_a_drill_on_two_servers() {
    let port = free_port("127.0.0.61");
    let mut nginx: Vec<Option<Nginx>> =
        BACKENDS.iter().map(|last| Some(Nginx::start(&format!("127.0.0.{last}"), port, HEALTHY))).collect();
    let servers = [(); 2].map(|()| Server::start(&config(port)));
    let both = |client: &str, expected: &[u8]| {
        let expected: BTreeSet<u8> = expected.iter().copied().collect();
        for server in &servers {
            wait_for(&format!("{client} gets {expected:?}"), || {
                (seen(server, client) == expected).then_some(())
            });
        }
    };

    // Tiers, and the rule.
    both("127.0.0.1", &[61, 62]);
    both(OF_FRA, &[63, 64]);
    let (code, told) = steerd(&servers, &["status"]);
    assert_eq!(code, 0, "{told}");

    // A canary: a1 gets a tenth of its weight, so 1 of 11 answers.
    let (code, told) = steerd(&servers, &["weight", "ams/a1", "10%", "--for", "1h", "--reason", "canary"]);
    assert_eq!(code, 0, "{told}");
    for server in &servers {
        let counts = counted(server);
        let (n, p) = (f64::from(QUERIES), 1.0 / 11.0);
        let off = (f64::from(counts[&61]) - n * p).abs();
        assert!(off < FAIR * (n * p * (1.0 - p)).sqrt(), "{counts:?}");
    }
    assert_eq!(steerd(&servers, &["weight", "ams/a1", "auto"]).0, 0);

    // A drill: everyone is answered from fra, and returns when it ends.
    let (code, told) = steerd(&servers, &["failover", SERVICE, "fra", "--for", "1h", "--reason", "drill"]);
    assert_eq!(code, 0, "{told}");
    both("127.0.0.1", &[63, 64]);
    let (_, told) = steerd(&servers, &["status"]);
    assert!(told.contains("drill"), "{told}");
    assert_eq!(steerd(&servers, &["failover", SERVICE, "auto"]).0, 0);
    both("127.0.0.1", &[61, 62]);

    // fra fails: its clients get the other site.
    nginx[2] = None;
    nginx[3] = None;
    both(OF_FRA, &[61, 62]);
    let (code, told) = steerd(&servers, &["failover", SERVICE, "fra"]);
    assert_eq!(code, 1, "a pool that cannot answer is refused: {told}");

    // Everything fails: the services fail open, and status says so.
    nginx.clear();
    for server in &servers {
        wait_for("it fails open", || {
            let series = format!("steerd_service_fail_open{{service=\"{SERVICE}\"}}");
            (server.metric(&series) == Some(1.0)).then_some(())
        });
    }
    let (code, told) = steerd(&servers, &["status"]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("fail"), "{told}");
}
