//! The admin server over real sockets, with a substitute for the checker.

mod changes;
mod openapi;
mod page;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, timeout};

use tempfile::TempDir;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::gate::names_this_machine;
use super::{AdminServer, Sources, bind};
use crate::alerts::{AdminLink, AlertSources, AlertsHandle};
use crate::audit::AuditHandle;
use crate::checker::{CheckerCommand, CheckerHandle};
use crate::config::{self, Access, AdminListen, AdminToken, BearerToken, SocketRights};
use crate::events::Events;
use crate::fleet::{
    AddressStatus, BackendStatus, ChangeRequest, CheckStatus, Configuration, Consequence, Overridden,
    OverrideChange, OverrideRefused, OverrideRequest, OverrideStatus, OverrideVersion, PastOutcome,
    PastTransition, Piece, PoolPiece, PoolStatus, Precondition, Reloaded, ServiceRefused, ServiceStatus,
    Suspected,
};
use crate::health::Outcome;
use crate::listener::{InForce, Limits};
use crate::metrics::Metrics;
use crate::name::Name;
use crate::pool::{Backend, Override, OverrideValue, Pool, PoolId};
use crate::probe::Cause;
use crate::reload::{self, Configured, Reach};
use crate::service::{Failback, Service};
use crate::table::{PoolView, Published, Services, Standing, Table};
use crate::visibility::Visibility;
use crate::zone::Catalog;

struct Fixture {
    address: SocketAddr,
    running: AdminServer,
    serving: watch::Sender<bool>,
    /// Override requests that reached the checker.
    overrides: mpsc::UnboundedReceiver<OverrideRequest>,
    /// The checker answers no request for an override while this is locked.
    answering: Arc<Mutex<()>>,
    /// The configuration to reload.
    directory: TempDir,
}

const CONFIG: &str = "[zones.\"example.com\"]\nfile = \"zone\"\n\
    [pools.web]\nbackends = [{ name = \"one\", address = \"192.0.2.1\" }]\n";
const ZONE: &str =
    "$TTL 60\n@ SOA ns1 host 1 3600 600 604800 30\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.1\nns2 A 192.0.2.2\n";

/// The checker's status of the pool.
fn status(detail: &str) -> PoolPiece {
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
        certificate_expires: Some(at + Duration::from_secs(86_400)),
        void_since: None,
        last: Some(last.clone()),
        outcomes: vec![last],
    };
    let past = PastTransition {
        at,
        from: Standing::Healthy,
        to: Standing::Unhealthy,
        cause: Some(Cause::Status),
        detail: "x".into(),
    };
    let address = AddressStatus {
        address: "192.0.2.1".parse().unwrap(),
        standing: Standing::Unhealthy,
        since: at,
        remembered: false,
        held: true,
        held_until: Some(at),
        percent: 100,
        eligible: false,
        drawn: 15,
        checks: vec![check],
        transitions: vec![past],
    };
    PoolPiece {
        pool: Some(PoolStatus {
            name: "web".into(),
            usable: false,
            since: at,
            enabled: 1,
            healthy: 0,
            unknown: 0,
            healthy_weight: 0,
            total_weight: 3,
            suspected: Some(Suspected { since: at, reason: "all of it fails".into() }),
        }),
        backends: vec![BackendStatus {
            name: "one".into(),
            site: Some("a".into()),
            weight: 3,
            enabled: true,
            overridden: Some(OverrideStatus {
                value: OverrideValue::State(Override::Drain),
                since: at,
                until: None,
                reason: Some("kernel".into()),
                by: Some("an operator".into()),
                safe_at: Some(at),
            }),
            weight_override: None,
            addresses: vec![address],
        }],
    }
}

/// A pool `web` with a backend `one`, and a service that uses it.
fn table() -> Table {
    let pool = Pool::new("web", vec![Backend::new("one", vec!["192.0.2.1".parse().unwrap()])]);
    let view = PoolView::build(&pool, None, |_, _| Standing::Healthy.into());
    let service = Service::new(Name::parse("www.lb.example.com").unwrap(), vec![PoolId(0)]);
    let services = Services::new([service]);
    let catalog = Arc::new(Catalog::new(Vec::new()));
    Table::new(7, Arc::default(), catalog, Arc::new(services), [Arc::new(view)], SmallRng::seed_from_u64(1))
}

/// The admin server on loopback, accessible to every program on this machine.
fn start(status: Option<PoolPiece>) -> Fixture {
    start_at("127.0.0.1:0", Access::default(), status)
}

/// The admin server; the checker behind it answers with `status`, or has ended if there is none.
fn start_at(listen: &str, access: Access, status: Option<PoolPiece>) -> Fixture {
    let (commands, received) = mpsc::channel(1);
    let (asked, overrides) = mpsc::unbounded_channel();
    let published = Published::new(table());
    let (_, ready) = watch::channel(true);
    let checker = CheckerHandle { published, ready, commands };
    let metrics = Arc::new(Metrics::new(1));

    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    let file = directory.path().join("steerd.toml");
    std::fs::write(&file, CONFIG).unwrap();
    let (access, access_seen) = watch::channel(access);
    let events = Events::new(SystemTime::now());
    let state_dir = watch::channel(None).0;
    let sources = AlertSources {
        checker: checker.clone(),
        events: events.clone(),
        metrics: Arc::clone(&metrics),
        admin: AdminLink::default(),
    };
    let alerts = AlertsHandle::new(sources);
    let audit =
        AuditHandle::start(state_dir.subscribe(), None, Arc::clone(&metrics), events.clone(), alerts.clone())
            .unwrap();
    let limits = InForce::new(Limits::default(), usize::MAX);
    let visibility = Visibility::new(limits.clone(), Arc::clone(&metrics), events.clone());
    let reach = Reach {
        alerts,
        audit: audit.clone(),
        checker: checker.clone(),
        notify: crate::notify::start(checker.published.clone(), Vec::new(), Arc::clone(&metrics)),
        limits,
        access,
        state_dir,
        metrics: Arc::clone(&metrics),
        events: events.clone(),
        visibility: visibility.clone(),
        serving: watch::channel(false).1,
    };
    let setup = config::load(&file).unwrap();
    let running = Configured::of(&setup);
    let answering = Arc::new(Mutex::new(()));
    match status {
        Some(status) => {
            let configuration = Configuration::of(setup.served, 7);
            drop(tokio::spawn(answer_commands(
                received,
                status,
                configuration,
                asked,
                Arc::clone(&answering),
            )));
        }
        None => drop(received),
    }
    let reload = reload::start(Some(file), running, reach);

    let (serving, serving_seen) = watch::channel(true);
    let bound = bind(&[listen.parse().unwrap()], SocketRights::default()).unwrap();
    let address = bound.address().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let running = bound.serve(Sources {
        checker,
        metrics,
        serving: serving_seen,
        reload,
        upgrade: crate::upgrade::UpgradeHandle::new().0,
        changes: crate::upgrade::ChangeGate::default(),
        access: access_seen,
        lost_because: watch::channel(None).1,
        events,
        audit,
        visibility,
    });
    Fixture { address, running, serving, overrides, answering, directory }
}

async fn answer_commands(
    mut received: mpsc::Receiver<CheckerCommand>,
    status: PoolPiece,
    running: Configuration,
    asked: mpsc::UnboundedSender<OverrideRequest>,
    answering: Arc<Mutex<()>>,
) {
    while let Some(command) = received.recv().await {
        match command {
            CheckerCommand::Tell(_, reply) => {
                let piece = Piece { pools: vec![status.clone()], suspected: None, next: None };
                drop(reply.send(Some(piece)));
            }
            CheckerCommand::Override(request, reply) => {
                let (pool, backend) = (request.pool.clone(), request.backend.clone());
                if request.expected == Precondition::OneOf(vec![OverrideVersion(0xbad)]) {
                    let present = status.backends[0].overridden.clone().map(Box::new);
                    drop(reply.send(Err(OverrideRefused::Unexpected(present))));
                    continue;
                }
                let known = pool == "web" && backend == "one";
                let told = known.then(|| Overridden {
                    backend: status.backends[0].clone(),
                    before: None,
                    consequences: Vec::new(),
                });
                asked.send(request).unwrap();
                drop(answering.lock().await);
                drop(reply.send(told.ok_or(OverrideRefused::NoSuchBackend { pool, backend })));
            }
            CheckerCommand::Preview(request, reply) => {
                let told = match request {
                    ChangeRequest::Backend(request) => {
                        let text = format!("{} is tried", request.backend);
                        vec![Consequence { takes_away: true, text }]
                    }
                    ChangeRequest::Bulk(_) | ChangeRequest::Service(_) => Vec::new(),
                };
                drop(reply.send(Ok(told)));
            }
            CheckerCommand::Configuration(reply) => drop(reply.send(running.clone())),
            CheckerCommand::Reload(_, reply) => {
                drop(reply.send(Reloaded { generation: 8, lost: Vec::new(), lost_failovers: Vec::new() }));
            }
            CheckerCommand::ChangeService(_, reply) => {
                drop(reply.send(Err(ServiceRefused::NotUsable(vec!["primary".into()]))));
            }
            CheckerCommand::Conditions(..)
            | CheckerCommand::OverrideMany(..)
            | CheckerCommand::Explain(..)
            | CheckerCommand::RuleTables(..)
            | CheckerCommand::Memory(..)
            | CheckerCommand::MemoryChanges(_) => {}
        }
    }
}

impl Fixture {
    /// Sends one request and reads until the server closes. Returns the head, in lower case, and
    /// the body.
    async fn exchange(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_ascii_lowercase(), body.to_owned())
    }

    async fn request(&self, method: &str, path: &str) -> (String, String) {
        self.send(method, path, "", None).await
    }

    /// Sends a request with additional header lines and a JSON body.
    async fn send(&self, method: &str, path: &str, headers: &str, body: Option<&str>) -> (String, String) {
        let body = body.map_or_else(String::new, |body| {
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        });
        let end = if body.is_empty() { "\r\n" } else { "" };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}");
        self.exchange(&format!("{head}{body}{end}")).await
    }

    /// The entries of the audit, the oldest first, once there are this many.
    async fn audited(&self, count: usize) -> Vec<serde_json::Value> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut reply = self.json("GET", "/api/v1/audit", None).await;
            let mut entries = reply["entries"].as_array_mut().map(std::mem::take).unwrap();
            entries.reverse();
            if entries.len() >= count {
                return entries;
            }
            assert!(Instant::now() < deadline, "{count} entries: {entries:#?}");
            tokio::task::yield_now().await;
        }
    }

    async fn json(&self, method: &str, path: &str, body: Option<&str>) -> serde_json::Value {
        let (head, body) = self.send(method, path, "", body).await;
        assert!(head.starts_with("http/1.1 200 "), "{head}{body}");
        assert!(head.contains("content-type: application/json"), "{head}");
        serde_json::from_str(&body).unwrap()
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
    let fixture = start(Some(status("")));
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
    let fixture = start(Some(status("status 503, expected 200-299")));
    let (head, body) = fixture.request("GET", "/api/v1/status").await;
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(body.starts_with("{\n") && body.ends_with("}\n"), "people read it with curl: {body}");
    let mut shown: serde_json::Value = serde_json::from_str(&body).unwrap();
    let at = shown.as_object_mut().unwrap().remove("at").unwrap();
    assert!(at.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{at}");
    let check = serde_json::json!({
        "name": "web-1", "type": "http", "state": "unhealthy", "since": "2023-11-14T22:13:20Z",
        "remembered": false, "critical": true, "observe_only": false,
        "certificate_expires": "2023-11-15T22:13:20Z",
        "last": {
            "at": "2023-11-14T22:13:20Z", "duration_ms": 1.5, "outcome": "failed", "cause": "status",
            "detail": "status 503, expected 200-299",
        },
    });
    let overridden = serde_json::json!({
        "state": "drain", "reason": "kernel", "by": "an operator", "since": "2023-11-14T22:13:20Z", "until": null,
        "etag": "\"45122d1e1364c0b3\"",
    });
    let suspected = serde_json::json!({"since": "2023-11-14T22:13:20Z", "reason": "all of it fails"});
    let mut expected = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "generation": 7, "queries": 0, "suspected": null,
        "services": [{
            "name": "www.lb.example.com", "pools": ["web"], "tier": {"ipv4": "web", "ipv6": null},
            "down": false, "fail_open": false, "ttl": 20,
            "failback": "auto", "waiting": {"ipv4": null, "ipv6": null}, "failover": null, "answers": 0,
        }],
        "pools": [{
            "name": "web", "state": "critical", "usable": false, "since": "2023-11-14T22:13:20Z", "healthy_weight": 0, "total_weight": 3,
            "suspected": suspected,
            "backends": [{
                "name": "one", "site": "a", "enabled": true, "weight": 3, "effective_weight": 0.15,
                "override": overridden, "weight_override": null, "safe_at": "2023-11-14T22:13:20Z",
                "shares": [{ "family": "ipv4", "draw": "weights", "wanted": 1.0 }], "answers": 0,
                "addresses": [{
                    "address": "192.0.2.1", "state": "unhealthy", "since": "2023-11-14T22:13:20Z",
                    "remembered": false, "held": true, "held_until": "2023-11-14T22:13:20Z",
                    "percent": 100, "eligible": false,
                    "checks": [check],
                }],
            }],
        }],
    });
    expected["notices"] = serde_json::json!([]);
    // One more member would be too deep for the macro.
    expected["pools"][0]["backends"][0]["safe_in_seconds"] = 0.into();
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let fixture = start(Some(status("")));
    let (head, body) = fixture.request("GET", "/metrics").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.lines().any(|line| line.starts_with("steerd_table_generation ")), "{body}");
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let fixture = start(Some(status("")));
    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/status", "/api/v1/services"] {
        let (get, body) = fixture.request("GET", path).await;
        let (head, nothing) = fixture.request("HEAD", path).await;
        assert!(head.starts_with("http/1.1 200 "), "{path}: {head}");
        assert_eq!(nothing, "", "{path}");
        assert!(get.contains(&format!("content-length: {}", body.len())), "{path}: {get}");
        // The metrics, and the time in the status, may have changed between the two requests.
        let may_change = ["/metrics", "/api/v1/status"].contains(&path);
        let length = format!("content-length: {}", body.len());
        assert!(may_change || head.contains(&length), "{path}: {head}");
        assert!(head.contains("content-length: "), "{path}: {head}");
    }
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let fixture = start(Some(status("")));
    let (head, body) = fixture.request("GET", "/nothing").await;
    assert_problem(&head, &body, 404);
    for method in ["POST", "DELETE", "OPTIONS"] {
        let (head, body) = fixture.request(method, "/api/v1/status").await;
        assert_problem(&head, &body, 405);
        assert!(head.contains("allow: get,head"), "{head}");
    }
    let (head, body) = fixture.request("GET", "/api/v1/reload").await;
    assert_problem(&head, &body, 405);
    assert!(head.contains("allow: post"), "{head}");
    for path in ["/api/v1/pools/%ff", "/api/v1/pools/web/backends/%ff/override"] {
        let method = if path.ends_with("override") { "DELETE" } else { "GET" };
        let (head, body) = fixture.request(method, path).await;
        assert_problem(&head, &body, 400);
    }
    let without_checker = start(None);
    for path in ["/api/v1/status", "/readyz"] {
        let (head, body) = without_checker.request("GET", path).await;
        assert_problem(&head, &body, 503);
        assert!(body.contains("checker has ended"), "{body}");
    }
    let (head, body) = without_checker.request("GET", "/metrics").await;
    assert!(head.starts_with("http/1.1 200 "), "the end of the checker must be visible: {head}");
    assert!(body.contains("steerd_checker_turn_age_seconds "), "{body}");
}

#[tokio::test]
async fn a_web_page_under_a_name_of_its_own_is_refused() {
    let fixture = start(Some(status("")));
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

/// The others are answered long before any time limit of these connections.
#[tokio::test]
async fn clients_that_never_finish_their_request_do_not_keep_others_out() {
    let fixture = start(Some(status("")));
    let begun = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: local").await.unwrap();
        silent.push(stream);
    }
    for path in ["/healthz", "/readyz", "/api/v1/status"] {
        assert!(fixture.request("GET", path).await.0.starts_with("http/1.1 200 "));
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_client_that_never_reads_does_not_hold_up_the_end() {
    // More bytes than the socket buffers of both sides can hold.
    let fixture = start(Some(status(&"x".repeat(32 << 20))));
    let mut deaf = TcpStream::connect(fixture.address).await.unwrap();
    deaf.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    deaf.readable().await.unwrap();
    timeout(Duration::from_secs(6), fixture.running.stop()).await.expect("an end");
    let refused = TcpStream::connect(fixture.address).await;
    assert!(refused.is_err(), "the listener is closed");
}

#[tokio::test]
async fn a_taken_port_is_said_in_a_sentence() {
    let fixture = start(None);
    let error = bind(&[AdminListen::Tcp(fixture.address)], SocketRights::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&fixture.address.to_string()) && text.contains("another program"), "{text}");
}

#[test]
fn a_service_is_shown_with_both_of_its_names() {
    let shown = |name: &str| {
        let (tier, name) = ([None, None], name.to_owned());
        let service = ServiceStatus {
            name,
            pools: vec!["web".into()],
            tier,
            down: false,
            fail_open: false,
            ttl: 20,
            failback: Failback::Auto,
            waiting: [None, None],
            failover: None,
        };
        serde_json::to_value(super::status::Service::from(&service)).unwrap()
    };
    let service = shown("xn--mnchen-3ya.lb.example.com.");
    assert_eq!(service["name"], "xn--mnchen-3ya.lb.example.com");
    assert_eq!(service["unicode_name"], "münchen.lb.example.com");
    assert_eq!(shown("www.example.com.").get("unicode_name"), None);
}

#[tokio::test]
async fn pools_and_services_all_or_one() {
    let fixture = start(Some(status("")));
    let all = fixture.json("GET", "/api/v1/status", None).await;
    let pools = fixture.json("GET", "/api/v1/pools", None).await;
    assert_eq!(pools, serde_json::json!({ "generation": 7, "pools": all["pools"] }));
    let mut expected = all["pools"][0].clone();
    let address = &mut expected["backends"][0]["addresses"][0];
    address["transitions"] = serde_json::json!([{
        "at": "2023-11-14T22:13:20Z", "from": "healthy", "to": "unhealthy", "cause": "status", "detail": "x",
    }]);
    address["checks"][0]["outcomes"] = serde_json::json!([address["checks"][0]["last"]]);
    assert_eq!(fixture.json("GET", "/api/v1/pools/web", None).await, expected);
    let services = fixture.json("GET", "/api/v1/services", None).await;
    assert_eq!(services, serde_json::json!({ "generation": 7, "services": all["services"] }));
    for name in ["www.lb.example.com", "WWW.lb.example.com."] {
        assert_eq!(fixture.json("GET", &format!("/api/v1/services/{name}"), None).await, all["services"][0]);
    }
    for (path, expected) in [
        ("pools/wbe", "there is no pool `wbe`; did you mean `web`? There is web"),
        ("pools/database", "there is no pool `database`; there is web"),
        ("services/ww.lb.example.com", "did you mean `www.lb.example.com`?"),
    ] {
        let (head, body) = fixture.request("GET", &format!("/api/v1/{path}")).await;
        assert_problem(&head, &body, 404);
        assert!(body.contains(expected), "{body}");
    }
}
