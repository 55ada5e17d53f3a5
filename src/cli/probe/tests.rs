//! Tests of the selection of targets, of the result, and of its display.

use std::net::TcpListener;

use serde_json::{Value, json};

use super::Word::{Disabled, Draining, Healthy, Unhealthy, Unknown};
use super::*;
use crate::check::{Probe, TcpProbe, Timing};
use crate::pool::Pool;

fn check(name: &str, port: u16) -> Check {
    let second = Duration::from_secs(1);
    let timing = Timing {
        interval: second * 20,
        timeout: second * 10,
        rise: 1,
        fall: 1,
        recheck: second,
        interval_down: second * 20,
        damping: true,
    };
    Check { name: name.into(), ..Check::new(Probe::Tcp(TcpProbe::connect(port)), timing) }
}

fn pool(name: &str, backends: Vec<Backend>, checks: Vec<Check>, require: Require) -> PoolSetup {
    PoolSetup { pool: Pool::new(name, backends), checks, require }
}

fn backend(name: &str, address: &str) -> Backend {
    Backend::new(name, vec![address.parse().unwrap()])
}

/// A port on 127.0.0.1 on which a server listens, and one without.
fn ports() -> (TcpListener, u16, u16) {
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port = open.local_addr().unwrap().port();
    (open, port, closed)
}

async fn words(pools: &[PoolSetup]) -> Vec<Word> {
    probe_all(pools, None).await.iter().map(|row| row.word).collect()
}

#[tokio::test]
async fn all_checks_are_run_and_the_pool_says_what_they_decide() {
    let (_listener, open, closed) = ports();
    let two = |require| {
        let checks = vec![check("good", open), check("bad", closed)];
        pool("x", vec![backend("a", "127.0.0.1")], checks, require)
    };
    let with_bad = |change: fn(&mut Check)| {
        let mut setup = two(Require::AtLeast(1));
        change(&mut setup.checks[1]);
        setup
    };
    let pools = [
        two(Require::All),
        two(Require::AtLeast(1)),
        two(Require::AtLeast(2)),
        with_bad(|check| check.critical = true),
        PoolSetup { require: Require::All, ..with_bad(|check| check.observe_only = true) },
        pool("x", vec![backend("a", "127.0.0.1")], Vec::new(), Require::All),
        pool(
            "x",
            vec![Backend { enabled: false, ..backend("a", "127.0.0.1") }],
            vec![check("c", closed)],
            Require::All,
        ),
        // TCP has no route to a multicast group, so the probe cannot run.
        pool("x", vec![backend("a", "224.0.0.1")], vec![check("c", closed)], Require::All),
    ];
    let expected = [Unhealthy, Healthy, Unhealthy, Unhealthy, Healthy, Healthy, Disabled, Unknown];
    assert_eq!(words(&pools).await, expected);
    let runs = probe_all(&pools[..1], None).await;
    let outcomes: Vec<_> =
        runs[0].checks.iter().map(|run| (run.check.name.as_str(), run.outcome().0)).collect();
    assert_eq!(outcomes, [("good", "passed"), ("bad", "failed")]);
}

#[tokio::test]
async fn a_backend_is_probed_at_its_own_port_and_place() {
    let (_listener, open, closed) = ports();
    let elsewhere = Some("127.0.0.1".parse().unwrap());
    let backends = vec![
        Backend { port: Some(open), ..backend("port", "127.0.0.1") },
        Backend { port: Some(open), check_address: elsewhere, ..backend("place", "2001:db8::1") },
        backend("neither", "127.0.0.1"),
    ];
    let setup = pool("x", backends, vec![check("tcp", closed)], Require::All);
    assert_eq!(words(std::slice::from_ref(&setup)).await, [Healthy, Healthy, Unhealthy]);
    let chosen = ProbeSelection { pool: "x".into(), backend: Some("place".into()) };
    let probed = probe_all(&[setup], Some(&chosen)).await;
    assert_eq!(probed.len(), 1);
    let text = to_text(&probed, false);
    assert!(text.contains("2001:db8::1 (probed at 127.0.0.1)"), "{text}");
}

fn report(outcome: Outcome, cause: Option<Cause>, detail: &str) -> Report {
    Report {
        outcome,
        cause,
        detail: detail.into(),
        load: None,
        certificate_expires: None,
        duration: Duration::from_micros(1500),
        phases: vec![("connect", Duration::from_micros(1500))],
        search_charge: Duration::ZERO,
    }
}

fn probed() -> Vec<Probed> {
    let run = |name: &str, outcome, cause, detail| {
        let mut run = CheckRun { check: check(name, 1), report: Some(report(outcome, cause, detail)) };
        run.check.critical = name == "tcp-2";
        run.check.observe_only = name == "tcp-3";
        run
    };
    let row = |backend: &str, word, checks| {
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        Probed {
            pool: "x".into(),
            backend: backend.into(),
            address,
            target: address,
            word,
            held_until: None,
            checks,
        }
    };
    let refused = || run("tcp-2", Outcome::Failed, Some(Cause::Refused), "connection refused");
    vec![
        row("a", Unhealthy, vec![run("tcp", Outcome::Passed, None, "connected"), refused()]),
        row("b", Draining, vec![run("tcp-3", Outcome::Draining, None, "status 503")]),
        row("c", Disabled, Vec::new()),
        row("d", Healthy, Vec::new()),
    ]
}

#[test]
fn a_person_sees_a_row_for_each_check() {
    let expected = "\
POOL  BACKEND  ADDRESS    VERDICT    CHECK             OUTCOME   TIME    DETAIL                                    PHASES
x     a        192.0.2.1  unhealthy  tcp               passed    1.5 ms  connected                                 connect 1.5 ms
x     a        192.0.2.1  unhealthy  tcp-2 (critical)  failed    1.5 ms  connection refused                        connect 1.5 ms
x     b        192.0.2.1  draining   tcp-3 (observed)  draining  1.5 ms  status 503                                connect 1.5 ms
x     c        192.0.2.1  disabled   none                                not enabled: not probed and not answered
x     d        192.0.2.1  healthy    none                                no check: always healthy

1 healthy, 1 unhealthy, 1 draining, 1 disabled";
    assert_eq!(to_text(&probed(), false), expected);
}

#[test]
fn a_program_sees_the_checks_of_each_address() {
    let rows: Value = serde_json::from_str(&to_json(&probed())).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 4);
    assert_eq!(
        rows[0]["checks"][1],
        json!({
            "name": "tcp-2", "type": "tcp", "critical": true, "observe_only": false,
            "outcome": "failed", "cause": "refused", "detail": "connection refused", "load": null,
            "certificate_expires": null, "duration_ms": 1.5, "phases": [{ "name": "connect", "duration_ms": 1.5 }],
        })
    );
    assert_eq!(
        rows[3],
        json!({
            "pool": "x", "backend": "d", "address": "192.0.2.1", "probed_address": "192.0.2.1",
            "verdict": "healthy", "held_until": null, "checks": [],
        })
    );
}
