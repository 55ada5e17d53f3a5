//! Limits on clients: their counters, and the line when one begins to bite.

use std::net::TcpStream;

use crate::harness::{ZONE, wait_for};
use crate::support::client::Client;
use crate::support::message::{Query, wire};
use crate::support::{Steerd, full_dig, http_get};

fn start(keys: &str) -> Steerd {
    Steerd::start(&format!("{keys}[zones.\"lb.example.test\"]\nfile = \"zone\"\n"), &[("zone", ZONE)])
}

/// The sum of all series of a metric.
fn sum(server: &Steerd, name: &str) -> f64 {
    let (_, body) = http_get(server.admin, "/metrics");
    let own = body.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    own.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// The value of a series of `steerd_rate_limited_total`.
fn limited(server: &Steerd, kind: &str, action: &str) -> f64 {
    let labels = format!("family=\"ipv4\",kind=\"{kind}\",action=\"{action}\"");
    server.metric(&format!("steerd_rate_limited_total{{{labels}}}")).unwrap()
}

#[test]
fn limited_replies_are_counted_by_kind_and_told() {
    let server = start("rate_limit = { responses_per_second = 5, slip = 2 }\n");
    let client = Client::counting(server.dns, &server.ledger.sent);
    let flood = |name: &str| {
        let query = Query::plain(wire(name), 1);
        // A dropped reply is not waited for: the next query is sent at once.
        (0..60).for_each(|id| client.send(&query, id));
    };
    flood("static.lb.example.test");
    flood("no.lb.example.test");
    flood("other.example");
    wait_for("every query is counted", || (sum(&server, "steerd_queries_total") >= 180.0).then_some(()));
    for kind in ["answer", "nxdomain", "error"] {
        let (dropped, slipped) = (limited(&server, kind, "drop"), limited(&server, kind, "slip"));
        // A second may pass, in which five more are sent.
        assert!((40.0..=55.0).contains(&(dropped + slipped)), "{kind}: {dropped} {slipped}");
        assert!((dropped - slipped).abs() <= 1.0, "{kind}: {dropped} {slipped}");
    }
    let all = sum(&server, "steerd_rate_limited_total");
    let dropped = server.metric("steerd_dropped_total{reason=\"limited\"}").unwrap();
    assert_eq!(all, dropped + server.metric("steerd_slipped_total").unwrap());
    let told = wait_for("it is told", || server.process.said("a limit begins to bite").pop());
    for part in ["\"limit\":\"rate_limit\"", "\"network\":\"127.0.0.0/24\"", "\"level\":\"WARN\""] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let notices = server.request("GET", "/api/v1/status", "").1["notices"].to_string();
    assert!(notices.contains("the limit rate_limit bites") && notices.contains("127.0.0.0/24"), "{notices}");
}

#[test]
fn evictions_are_counted_by_cause_and_cookies_by_result() {
    let server = start("tcp_connections = 20\n");
    let mut connections: Vec<TcpStream> = Vec::new();
    for _ in 0..30 {
        connections.push(TcpStream::connect(server.dns).unwrap());
    }
    let evicted = |cause: &str| {
        server
            .metric(&format!("steerd_tcp_evictions_total{{places=\"connections\",cause=\"{cause}\"}}"))
            .unwrap()
    };
    wait_for("a network has its tenth", || (evicted("network") == 28.0).then_some(()));
    assert_eq!((evicted("all"), evicted("descriptors")), (0.0, 0.0));
    assert_eq!(server.metric("steerd_tcp_evicted_total"), Some(28.0));
    wait_for("it is told", || {
        server.process.said("a limit begins to bite: the idlest TCP connections of a network").pop()
    });
    drop(connections);

    let cookies =
        |result: &str| server.metric(&format!("steerd_cookies_total{{result=\"{result}\"}}")).unwrap();
    let ask =
        |option: &str| full_dig(server.dns, &server.ledger.sent, &["static.lb.example.test", "A", option]);
    ask("+nocookie");
    ask("+cookie=0123456789abcdef");
    let shown = ask("+cookie=0123456789abcdef");
    let (_, cookie) = shown.split_once("COOKIE: ").unwrap();
    let cookie = cookie.split_whitespace().next().unwrap();
    ask(&format!("+cookie={cookie}"));
    assert_eq!(["absent", "invalid", "valid"].map(cookies), [1.0, 2.0, 1.0]);
}
