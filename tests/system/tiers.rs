//! Two sites with two nginx each: a drill by hand, and returns to the first site, with restarts in between.

use std::fmt::Write;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Nginx, STEERD, ZONE, dig, free_port, wait_for};
use crate::support::Steerd;

const HEALTHY: &str = "return 200 ok;";

/// A site: the addresses of its two nginx, and the running ones.
struct Site {
    addresses: [String; 2],
    port: u16,
    nginx: Vec<Nginx>,
}

impl Site {
    fn start(first: u8) -> Self {
        let addresses = [first, first + 1].map(|host| format!("127.0.32.{host}"));
        let port = free_port(&addresses[0]);
        let mut site = Self { addresses, port, nginx: Vec::new() };
        site.returns();
        site
    }

    fn fails(&mut self) {
        self.nginx.clear();
    }

    fn returns(&mut self) {
        self.nginx = self.addresses.iter().map(|at| Nginx::start(at, self.port, HEALTHY)).collect();
    }

    fn pool(&self, name: &str) -> String {
        let Self { addresses: [one, two], port, .. } = self;
        format!(
            "[pools.{name}]\ncheck = {{ type = \"http\", port = {port}, path = \"/healthz\", interval = \"500ms\", \
             timeout = \"250ms\", recheck = \"100ms\", fall = 2, rise = 2 }}\nsuspect_self = \"off\"\n\
             backends = [{{ address = \"{one}\", site = \"{name}\" }}, {{ address = \"{two}\", site = \"{name}\" }}]\n"
        )
    }
}

/// Two sites, and a server whose services prefer the first one. Each service has a `failback`.
struct Sites {
    a: Site,
    b: Site,
    server: Steerd,
}

impl Sites {
    fn start(first: u8, services: &[(&str, &str)]) -> Self {
        let (a, b) = (Site::start(first), Site::start(first + 2));
        let mut config = format!(
            "state_dir = \"state\"\nstartup_wait = \"10s\"\n[zones.\"lb.example.test\"]\nfile = \"zone\"\n{}{}",
            a.pool("a"),
            b.pool("b")
        );
        for (name, failback) in services {
            let _ = write!(
                config,
                "[services.\"{name}.lb.example.test\"]\npools = [\"a\", \"b\"]\nanswers = 2\nttl = \"2s\"\n\
                 failback = \"{failback}\"\n"
            );
        }
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("zone"), ZONE).unwrap();
        std::fs::create_dir(directory.path().join("state")).unwrap();
        let server = Steerd::start_in(directory, &config);
        std::fs::write(server.directory.path().join("services"), &config).unwrap();
        Self { a, b, server }
    }

    fn restart(self) -> Self {
        let Self { a, b, server } = self;
        let directory = server.end("TERM");
        let config = std::fs::read_to_string(directory.path().join("services")).unwrap();
        Self { a, b, server: Steerd::start_in(directory, &config) }
    }

    fn answers(&self, name: &str) -> Vec<String> {
        let mut answers =
            dig(self.server.dns, &self.server.ledger.sent, &[&format!("{name}.lb.example.test"), "A"]);
        answers.sort();
        answers
    }

    /// Whether a service is answered by all of a site, and by nothing else.
    fn is_answered_by(&self, name: &str, site: &Site) -> bool {
        self.answers(name) == site.addresses
    }

    fn service(&self, name: &str) -> Value {
        let (status, service) =
            self.server.request("GET", &format!("/api/v1/services/{name}.lb.example.test"), "");
        assert_eq!(status, 200, "{service}");
        service
    }

    fn steerd(&self, arguments: &[&str]) -> (i32, String, String) {
        let admin = format!("http://{}", self.server.admin);
        let output: Output = Command::new(STEERD).args(arguments).args(["--admin", &admin]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }
}

#[test]
fn a_drill_moves_a_service_to_the_other_site_and_back() {
    let mut sites = Sites::start(1, &[("www", "auto")]);
    let www = "www.lb.example.test";
    assert!(sites.is_answered_by("www", &sites.a));
    let (code, out, _) = sites.steerd(&["failover", www, "b", "--for", "1h", "--reason", "drill"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.starts_with(&format!("{www}: failover to b until 20")), "{out}");
    assert!(out.contains("clients may use its other pools until 20"), "{out}");
    assert!(out.contains("is answered by b instead of a"), "{out}");
    assert!(sites.is_answered_by("www", &sites.b), "at once");
    let failover = sites.service("www")["failover"].clone();
    assert_eq!((&failover["pool"], &failover["reason"]), (&"b".into(), &"drill".into()));
    let series = format!("steerd_service_failover{{service=\"{www}\",pool=\"b\"}}");
    assert_eq!(sites.server.metric(&series), Some(1.0));

    // A restart keeps it, with its end.
    let end = failover["until"].as_str().unwrap()[..19].to_owned();
    sites = sites.restart();
    assert!(sites.is_answered_by("www", &sites.b));
    let kept = sites.service("www")["failover"].clone();
    assert_eq!((&kept["pool"], &kept["reason"]), (&"b".into(), &"drill".into()));
    let [end, kept_end] = [format!("{end}Z"), kept["until"].as_str().unwrap().into()]
        .map(|time| time.parse::<jiff::Timestamp>().unwrap());
    assert!(kept_end.duration_since(end).abs() <= jiff::SignedDuration::from_secs(2), "{end} {kept_end}");

    // The pool fails: the normal order applies, and it returns to the pool by itself.
    sites.b.fails();
    wait_for("the first site answers", || sites.is_answered_by("www", &sites.a).then_some(()));
    assert_eq!(sites.server.process.said("service has left the pool of its failover").len(), 1);
    let (code, _, error) = sites.steerd(&["failback", www]);
    assert_eq!(code, 1);
    assert!(error.contains("a failover to the pool `b` decides"), "{error}");
    sites.b.returns();
    wait_for("the second site answers", || sites.is_answered_by("www", &sites.b).then_some(()));

    let (code, out, _) = sites.steerd(&["failover", www, "auto"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.starts_with(&format!("{www}: the failover to b has ended\n")), "{out}");
    assert!(sites.is_answered_by("www", &sites.a), "at once");
    assert_eq!(sites.service("www")["failover"], Value::Null);
    assert_eq!(sites.server.metric(&series), None);

    // A pool that cannot answer is refused, unless it is forced.
    sites.b.fails();
    let is_usable = |sites: &Sites| sites.server.metric("steerd_pool_usable{pool=\"b\"}") == Some(1.0);
    wait_for("the second site has failed", || (!is_usable(&sites)).then_some(()));
    let (code, _, error) = sites.steerd(&["failover", www, "b"]);
    assert_eq!(code, 1);
    assert!(error.contains("pool b is not usable in ipv4"), "{error}");
    assert!(error.contains("to do it anyway, add --force"), "{error}");
    assert_eq!(sites.service("www")["failover"], Value::Null);
    assert_eq!(sites.steerd(&["failover", www, "b", "--force", "--for", "5m"]).0, 0);
    assert!(sites.is_answered_by("www", &sites.a));
    sites.b.returns();
    wait_for("the second site answers", || sites.is_answered_by("www", &sites.b).then_some(()));
    let (code, out, _) = sites.steerd(&["failover", www, "b", "--for", "1s"]);
    assert_eq!(code, 0, "{out}");
    wait_for("the failover ends by itself", || sites.is_answered_by("www", &sites.a).then_some(()));

    let (code, _, error) = sites.steerd(&["failover", www, "c"]);
    assert!(code == 1 && error.contains("there is no pool `c` in this service"), "{error}");
    let (code, _, error) = sites.steerd(&["failover", "ww.lb.example.test", "b"]);
    assert!(code == 1 && error.contains("did you mean `www.lb.example.test`?"), "{error}");
}

#[test]
fn services_return_at_once_after_a_while_or_by_hand() {
    let mut sites = Sites::start(11, &[("www", "auto"), ("slow", "6s"), ("hand", "manual")]);
    let all = ["www", "slow", "hand"];
    assert!(all.iter().all(|name| sites.is_answered_by(name, &sites.a)));
    sites.a.fails();
    wait_for("the second site answers", || {
        all.iter().all(|name| sites.is_answered_by(name, &sites.b)).then_some(())
    });
    let (code, _, error) = sites.steerd(&["failback", "hand.lb.example.test"]);
    assert_eq!(code, 1);
    assert!(error.contains("cannot return to an earlier tier, because none is usable (a)"), "{error}");

    sites.a.returns();
    wait_for("the first site answers for one service", || {
        sites.is_answered_by("www", &sites.a).then_some(())
    });
    let usable_from = Instant::now();
    assert!(["slow", "hand"].iter().all(|name| sites.is_answered_by(name, &sites.b)));
    let waiting = |sites: &Sites, name| sites.service(name)["waiting"]["ipv4"].clone();
    assert_eq!(waiting(&sites, "hand")["pool"], "a");
    assert_eq!(waiting(&sites, "hand")["until"], Value::Null);
    let until = |sites: &Sites| {
        let until: jiff::Timestamp = waiting(sites, "slow")["until"].as_str()?.parse().ok()?;
        Some(until)
    };
    let before = until(&sites).expect("it waits for a time");
    let series = "steerd_service_failback_waiting{service=\"hand.lb.example.test\",family=\"ipv4\"}";
    assert_eq!(sites.server.metric(series), Some(1.0));

    // A restart keeps the tiers in use, and adds its own length to the time.
    let stopped = Instant::now();
    sites = sites.restart();
    let gap = stopped.elapsed();
    assert!(["slow", "hand"].iter().all(|name| sites.is_answered_by(name, &sites.b)), "after the restart");
    let after = until(&sites).expect("it still waits");
    let moved = after.duration_since(before).as_secs_f64();
    assert!(moved > -1.0 && moved < gap.as_secs_f64() + 1.0, "by {moved} s, {gap:?} after the stop");
    wait_for("it returns after a while", || sites.is_answered_by("slow", &sites.a).then_some(()));
    assert!(usable_from.elapsed() > Duration::from_secs(5), "{:?}", usable_from.elapsed());
    assert_eq!(waiting(&sites, "slow"), Value::Null);

    assert!(sites.is_answered_by("hand", &sites.b));
    let (code, out, _) = sites.steerd(&["failback", "HAND.lb.example.test."]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("is answered by a instead of b"), "{out}");
    assert!(sites.is_answered_by("hand", &sites.a), "at once");
    let (code, out, _) = sites.steerd(&["failback", "hand.lb.example.test"]);
    assert!(code == 0 && out.contains("it is answered by its first usable tier already"), "{out}");
}
