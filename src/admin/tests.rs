//! The admin server over real sockets, in front of a stand-in for the checker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::{Running, Source, bind, names_this_machine};
use crate::checker::{
    AddressStatus, BackendStatus, CheckStatus, Command, Handle, PastOutcome, PoolStatus, ServiceStatus,
    Status,
};
use crate::health::Outcome;
use crate::metrics::Metrics;
use crate::probe::Cause;
use crate::table::{Published, Standing, Table};
use crate::zone::Catalog;

struct Fixture {
    address: SocketAddr,
    running: Running,
    serving: watch::Sender<bool>,
}

fn status(detail: &str) -> Status {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let last = PastOutcome {
        at,
        duration: Duration::from_micros(1500),
        outcome: Outcome::Failed,
        cause: Some(Cause::Status),
        detail: detail.into(),
    };
    let check = CheckStatus {
        name: "web-1".into(),
        kind: "http",
        standing: Standing::Unhealthy,
        since: at,
        remembered: false,
        critical: true,
        observe_only: false,
        last: Some(last),
        outcomes: Vec::new(),
    };
    let address = AddressStatus {
        address: "192.0.2.1".parse().unwrap(),
        standing: Standing::Unhealthy,
        since: at,
        remembered: false,
        held: true,
        percent: 100,
        eligible: false,
        checks: vec![check],
        transitions: Vec::new(),
    };
    Status {
        generation: 7,
        pools: vec![PoolStatus {
            name: "web".into(),
            usable: false,
            healthy_weight: 0,
            total_weight: 3,
            backends: vec![BackendStatus {
                name: "one".into(),
                site: Some("a".into()),
                weight: 3,
                enabled: true,
                addresses: vec![address],
            }],
        }],
        services: vec![ServiceStatus {
            name: "www.lb.example.com".into(),
            tier: [Some("web".into()), None],
            down: true,
            fail_open: true,
            ttl: 20,
        }],
    }
}

/// The admin server; the checker behind it answers with `status`, or has ended when there is none.
async fn start(status: Option<Status>) -> Fixture {
    let (commands, mut received) = mpsc::channel(1);
    if let Some(status) = status {
        tokio::spawn(async move {
            while let Some(Command::Status(reply)) = received.recv().await {
                let _ = reply.send(status.clone());
            }
        });
    } else {
        drop(received);
    }
    let published = Published::new(Table {
        settings: Arc::default(),
        generation: 7,
        catalog: Arc::new(Catalog::new(Vec::new())),
        services: Arc::new([]),
        pools: Box::new([]),
    });
    let (_, ready) = watch::channel(true);
    let (serving, serving_seen) = watch::channel(true);
    let bound = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = bound.address();
    let running = bound.serve(Source {
        checker: Handle { published, ready, commands },
        metrics: Arc::new(Metrics::new(1)),
        serving: serving_seen,
    });
    Fixture { address, running, serving }
}

impl Fixture {
    /// Sends one request and reads until the server closes: head in lower case, and body.
    async fn exchange(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_ascii_lowercase(), body.to_owned())
    }

    async fn request(&self, method: &str, path: &str) -> (String, String) {
        self.exchange(&format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
            .await
    }
}

fn assert_problem(head: &str, body: &str, status: u16) {
    assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
    assert!(head.contains("content-type: application/problem+json"), "{head}");
    let problem: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["type"], "about:blank");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{body}");
}

#[tokio::test]
async fn liveness_and_readiness() {
    let fixture = start(Some(status(""))).await;
    let (head, body) = fixture.request("GET", "/healthz").await;
    assert!(head.starts_with("http/1.1 200 ") && head.contains("cache-control: no-store"), "{head}");
    assert_eq!(body, "alive\n");
    let (head, body) = fixture.request("GET", "/readyz").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!(body, "ready\n");
    fixture.serving.send_replace(false);
    let (head, body) = fixture.request("GET", "/readyz").await;
    assert_problem(&head, &body, 503);
    let (head, _) = fixture.request("GET", "/healthz").await;
    assert!(head.starts_with("http/1.1 200 "), "alive though not ready: {head}");
}

#[tokio::test]
async fn the_status_has_the_objects_of_the_api() {
    let fixture = start(Some(status("status 503, expected 200-299"))).await;
    let (head, body) = fixture.request("GET", "/api/v1/status").await;
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(body.starts_with("{\n") && body.ends_with("}\n"), "people read it with curl: {body}");
    let shown: serde_json::Value = serde_json::from_str(&body).unwrap();
    let check = serde_json::json!({
        "name": "web-1", "type": "http", "state": "unhealthy", "since": "2023-11-14T22:13:20Z",
        "remembered": false, "critical": true, "observe_only": false,
        "last": {
            "at": "2023-11-14T22:13:20Z", "duration_ms": 1.5, "outcome": "failed", "cause": "status",
            "detail": "status 503, expected 200-299",
        },
    });
    let expected = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "generation": 7,
        "services": [{
            "name": "www.lb.example.com", "tier": {"ipv4": "web", "ipv6": null},
            "down": true, "fail_open": true, "ttl": 20,
        }],
        "pools": [{
            "name": "web", "state": "critical", "usable": false, "healthy_weight": 0, "total_weight": 3,
            "backends": [{
                "name": "one", "site": "a", "enabled": true, "weight": 3, "effective_weight": 3,
                "override": null, "safe_at": null,
                "addresses": [{
                    "address": "192.0.2.1", "state": "unhealthy", "since": "2023-11-14T22:13:20Z",
                    "remembered": false, "held": true, "eligible": false,
                    "checks": [check],
                }],
            }],
        }],
    });
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let fixture = start(Some(status(""))).await;
    let (head, body) = fixture.request("GET", "/metrics").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.lines().any(|line| line.starts_with("steerd_table_generation ")), "{body}");
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let fixture = start(Some(status(""))).await;
    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/status"] {
        let (get, body) = fixture.request("GET", path).await;
        let (head, nothing) = fixture.request("HEAD", path).await;
        assert!(head.starts_with("http/1.1 200 "), "{path}: {head}");
        assert_eq!(nothing, "", "{path}");
        let length = format!("content-length: {}", body.len());
        assert!(get.contains(&length) && head.contains(&length), "{path}: {head}");
    }
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let fixture = start(Some(status(""))).await;
    let (head, body) = fixture.request("GET", "/nothing").await;
    assert_problem(&head, &body, 404);
    for method in ["POST", "DELETE", "OPTIONS"] {
        let (head, body) = fixture.request(method, "/api/v1/status").await;
        assert_problem(&head, &body, 405);
        assert!(head.contains("allow: get,head"), "{head}");
    }
    let without_checker = start(None).await;
    for path in ["/api/v1/status", "/readyz"] {
        let (head, body) = without_checker.request("GET", path).await;
        assert_problem(&head, &body, 503);
        assert!(body.contains("checker has ended"), "{body}");
    }
    let (head, body) = without_checker.request("GET", "/metrics").await;
    assert!(head.starts_with("http/1.1 200 "), "that it has ended must be seen: {head}");
    assert!(body.contains("steerd_checker_turn_age_seconds "), "{body}");
}

#[tokio::test]
async fn a_web_page_under_a_name_of_its_own_is_refused() {
    let fixture = start(Some(status(""))).await;
    let (head, body) = fixture
        .exchange("GET /api/v1/status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        .await;
    assert_problem(&head, &body, 403);
    let (head, body) =
        fixture.exchange("GET /nothing HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert_problem(&head, &body, 403);
    let (head, _) = fixture.exchange("GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(head.starts_with("http/1.0 200 "), "{head}");

    for host in
        ["localhost", "LocalHost:8053", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8053", "192.0.2.7"]
    {
        assert!(names_this_machine(host), "{host}");
    }
    for host in
        ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "127.0.0.1@evil.example"]
    {
        assert!(!names_this_machine(host), "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_never_finish_their_request_do_not_keep_others_out() {
    let fixture = start(Some(status(""))).await;
    let begun = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: local").await.unwrap();
        silent.push(stream);
    }
    let (_, body) = fixture.request("GET", "/healthz").await;
    assert_eq!(body, "alive\n");
    // With 64 places the request waits for three rounds of silent clients to be closed after 10 s.
    let waited = begun.elapsed();
    assert!((29..45).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_does_not_hold_up_the_end() {
    // More than the socket buffers of both sides take.
    let fixture = start(Some(status(&"x".repeat(32 << 20)))).await;
    let mut deaf = TcpStream::connect(fixture.address).await.unwrap();
    deaf.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    deaf.readable().await.unwrap();
    timeout(Duration::from_secs(6), fixture.running.stop()).await.expect("an end");
    let refused = TcpStream::connect(fixture.address).await;
    assert!(refused.is_err(), "the listener is closed");
}

#[tokio::test]
async fn a_taken_port_is_said_in_a_sentence() {
    let fixture = start(None).await;
    let error = bind(fixture.address).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&fixture.address.to_string()) && text.contains("another program"), "{text}");
}
