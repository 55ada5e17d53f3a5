//! The main purpose: a delegated name always leads to live backends only, as seen through a
//! resolver.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::harness::{Nginx, Server, Unbound, free_port, http_get, wait_for};

const INTERVAL: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(2);
const FALL: u32 = 2;
const HEALTHY: &str = "return 200 ok;";

/// The longest time until a backend that refuses is out of the answers: up to an interval until the
/// first failure, `fall` - 1 rechecks, and jitter. Then caches may keep the answer for its TTL,
/// which resolvers count in whole seconds. The last second is a reserve for this machine.
fn out_of_answers() -> Duration {
    INTERVAL * FALL + INTERVAL / 10 + TTL + Duration::from_secs(1) + Duration::from_secs(1)
}

struct Fleet {
    nginx: Vec<Option<Nginx>>,
    port: u16,
    server: Server,
    unbound: Unbound,
}

impl Fleet {
    /// Starts three real nginx servers on 127.0.0.`first` and the next two addresses, steerd, and
    /// Unbound.
    fn start(first: u8) -> Self {
        let port = free_port(&format!("127.0.0.{first}"));
        let nginx = (0..3)
            .map(|index| Some(Nginx::start(&format!("127.0.0.{}", first + index), port, HEALTHY)))
            .collect();
        let backends: Vec<String> = (0..3).map(|index| format!("\"127.0.0.{}\"", first + index)).collect();
        let server = Server::start(&format!(
            "[pools.web]\ncheck = {{ type = \"http\", port = {port}, path = \"/healthz\", interval = \"1s\", \
             timeout = \"500ms\", fall = {FALL}, rise = 2 }}\nbackends = [{}]\n\
             [services.\"www.lb.example.test\"]\npools = [\"web\"]\nanswers = 2\nttl = \"2s\"\n",
            backends.join(", ")
        ));
        let unbound = Unbound::start("lb.example.test", &server);
        Self { nginx, port, server, unbound }
    }

    /// All addresses that answers contain during this time.
    fn seen(&self, for_so_long: Duration) -> BTreeSet<String> {
        let end = Instant::now() + for_so_long;
        let mut seen = BTreeSet::new();
        while Instant::now() < end {
            seen.extend(self.unbound.dig(&["www.lb.example.test", "A"]));
        }
        seen
    }

    fn wait_until_seen(&self, wanted: &[&str]) {
        let mut seen = BTreeSet::new();
        wait_for(&format!("all of {wanted:?} are answered"), || {
            seen.extend(self.unbound.dig(&["www.lb.example.test", "A"]));
            wanted.iter().all(|address| seen.contains(*address)).then_some(())
        });
    }

    /// Waits as long as answers may still contain the backend; afterwards they must not.
    fn assert_out(&self, address: &str) {
        self.seen(out_of_answers());
        let seen = self.seen(2 * TTL);
        assert!(!seen.contains(address) && !seen.is_empty(), "{address} is dead, answers hold {seen:?}");
    }
}

/// A working server shows exactly the metrics that the documents name.
fn assert_metrics_are_documented(server: &Server) {
    let (_, text) = http_get(server.admin, "/metrics");
    let shown: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let documents = include_str!("../../docs/OPERATIONS.md");
    let documented: BTreeSet<&str> = documents
        .lines()
        .filter(|line| line.starts_with("| `steerd_"))
        .flat_map(|row| row.split('|').nth(1).unwrap().split(','))
        .map(|name| name.trim().trim_matches('`'))
        .collect();
    assert_eq!(shown, documented);
}

#[test]
fn stop_start_and_stop_all_through_a_real_resolver() {
    let mut fleet = Fleet::start(11);
    let (one, two, three) = ("127.0.0.11", "127.0.0.12", "127.0.0.13");
    fleet.wait_until_seen(&[one, two, three]);
    assert_eq!(fleet.server.metric("steerd_service_fail_open{service=\"www.lb.example.test\"}"), Some(0.0));
    assert_metrics_are_documented(&fleet.server);

    fleet.nginx[1] = None;
    fleet.assert_out(two);
    assert_eq!(http_get(fleet.server.admin, "/readyz").0, 200);

    fleet.nginx[1] = Some(Nginx::start(two, fleet.port, HEALTHY));
    fleet.wait_until_seen(&[two]);

    fleet.nginx.clear();
    let gauge = "steerd_service_fail_open{service=\"www.lb.example.test\"}";
    wait_for("the fail-open gauge is 1", || (fleet.server.metric(gauge) == Some(1.0)).then_some(()));
    fleet.wait_until_seen(&[one, two, three]);
    assert_eq!(fleet.server.process.said("service down").len(), 1);
    assert_eq!(fleet.server.process.said("service up").len(), 0);

    fleet.nginx.push(Some(Nginx::start(three, fleet.port, HEALTHY)));
    wait_for("the fail-open gauge is 0", || (fleet.server.metric(gauge) == Some(0.0)).then_some(()));
    assert_eq!(fleet.server.process.said("service down").len(), 1);
    assert_eq!(fleet.server.process.said("service up").len(), 1);
    fleet.assert_out(one);
}

#[test]
fn a_server_that_hangs_is_found_by_the_time_limit() {
    let fleet = Fleet::start(21);
    fleet.wait_until_seen(&["127.0.0.21", "127.0.0.22", "127.0.0.23"]);
    fleet.nginx[2].as_ref().unwrap().hang();
    fleet.assert_out("127.0.0.23");
    let (_, status) = http_get(fleet.server.admin, "/api/v1/status");
    assert!(status.contains("no answer within"), "{status}");
}

#[test]
fn errors_and_redirects_are_out() {
    let port = free_port("127.0.0.41");
    let elsewhere = format!("return 302 http://127.0.0.41:{port}/healthz;");
    let _nginx = [
        Nginx::start("127.0.0.41", port, HEALTHY),
        Nginx::start("127.0.0.42", port, "return 500;"),
        Nginx::start("127.0.0.43", port, &elsewhere),
    ];
    let server = Server::start(&format!(
        "[pools.web]\ncheck = \"http://:{port}/healthz\"\n\
         backends = [\"127.0.0.41\", \"127.0.0.42\", \"127.0.0.43\"]\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\nanswers = \"all\"\n"
    ));
    assert_eq!(server.dig(&["www.lb.example.test", "A"]), ["127.0.0.41"]);
    let (_, status) = http_get(server.admin, "/api/v1/status");
    assert!(status.contains("500 Internal Server Error") && status.contains("302"), "{status}");
}

#[test]
fn statics_negatives_and_tcp_with_dig() {
    let server = Server::start(
        "[pools.web]\nbackends = [\"192.0.2.11\"]\n[services.\"www.lb.example.test\"]\npools = [\"web\"]\n",
    );
    let ask = |question: &[&str]| server.dig(question);
    assert_eq!(ask(&["static.lb.example.test", "A"]), ["192.0.2.80"]);
    assert_eq!(ask(&["WWW.lb.example.test", "A", "+tcp"]), ["192.0.2.11"]);
    assert_eq!(ask(&["www.lb.example.test", "TXT"]), ["\"beside the service\""]);
    assert!(ask(&["www.lb.example.test", "AAAA"]).is_empty());
    let full = server.full_dig(&["+norec", "nothing.lb.example.test", "A"]);
    assert!(full.contains("status: NXDOMAIN") && full.contains("flags: qr aa"), "{full}");
    assert!(full.contains("SOA\tns1.lb.example.test."), "{full}");
    assert!(server.full_dig(&["+norec", "example.org", "A"]).contains("status: REFUSED"));
}
