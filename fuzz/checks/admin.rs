//! Checks the admin server with arbitrary bodies: the reply has a sensible status and a JSON body,
//! and the checker receives only text that may appear in a log line.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Request, StatusCode};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use steerd::admin::{self, Sources};
use steerd::alerts::{AdminLink, AlertSources, AlertsHandle};
use steerd::audit::AuditHandle;
use steerd::checker::{self, CheckerCommand};
use steerd::config;
use steerd::events::Events;
use steerd::fleet::{ChangeRequest, ServiceRequest};
use steerd::listener::{InForce, Limits};
use steerd::metrics::Metrics;
use steerd::notify;
use steerd::reload::{self, Configured, Reach};
use steerd::table::Published;
use steerd::visibility::Visibility;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use super::world::World;

/// Maximum length of a reply, bytes.
const LONGEST_REPLY: usize = 1 << 20;

/// Maximum length of an override's reason, characters.
const LONGEST_REASON: usize = 200;

/// The methods and paths to which bodies are sent.
const PLACES: [(Method, &str); 12] = [
    (Method::PUT, "/api/v1/pools/web/backends/one/override"),
    (Method::POST, "/api/v1/reload"),
    (Method::PUT, "/api/v1/pools/web/backends/%20%ff/override"),
    (Method::DELETE, "/api/v1/pools/web/backends/one/override"),
    (Method::POST, "/api/v1/pools"),
    (Method::GET, "/api/v1/services/x"),
    (Method::PUT, "/api/v1/pools/web/backends/one/weight"),
    (Method::PUT, "/api/v1/services/one.eight.svc.example/failover"),
    (Method::DELETE, "/api/v1/services/one.eight.svc.example/failover"),
    (Method::POST, "/api/v1/services/one.eight.svc.example/failback"),
    (Method::PUT, "/api/v1/query-log"),
    (Method::PUT, "/api/v1/dnstap"),
];

/// The admin server with a substitute for the checker that does not answer.
pub(crate) struct Server {
    runtime: Runtime,
    router: TowerToHyperService<Router>,
    /// The reasons of the requests that reached the checker.
    asked: Arc<Mutex<Vec<Option<String>>>>,
    _directory: TempDir,
}

impl Server {
    pub(crate) fn new(world: World) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("steerd.toml");
        std::fs::write(&file, "[zones.\"example\"]\nfile = \"zone\"\n").unwrap();
        std::fs::write(
            directory.path().join("zone"),
            "$TTL 60\n@ SOA ns1 host 1 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.1\n",
        )
        .unwrap();
        let source = runtime.block_on(async { source(world, file, Arc::clone(&asked)) });
        Self {
            runtime,
            router: TowerToHyperService::new(admin::router(source)),
            asked,
            _directory: directory,
        }
    }
}

fn source(world: World, file: PathBuf, asked: Arc<Mutex<Vec<Option<String>>>>) -> Sources {
    let (commands, mut received) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(command) = received.recv().await {
            match command {
                CheckerCommand::Override(request, _)
                | CheckerCommand::Preview(ChangeRequest::Backend(request), _) => {
                    asked.lock().unwrap().push(request.reason);
                }
                CheckerCommand::ChangeService(ServiceRequest::FailOver(request), _)
                | CheckerCommand::Preview(ChangeRequest::Service(ServiceRequest::FailOver(request)), _) => {
                    asked.lock().unwrap().push(request.reason);
                }
                _ => {}
            }
        }
    });
    let (_, ready) = watch::channel(true);
    let published = Published::new(world.into_table());
    let checker = checker::CheckerHandle { published, ready, commands };
    let metrics = Arc::new(Metrics::new(1));
    let (access, access_seen) = watch::channel(config::Access::default());
    let events = Events::new(SystemTime::now());
    let sources = AlertSources {
        checker: checker.clone(),
        events: events.clone(),
        metrics: Arc::clone(&metrics),
        admin: AdminLink::default(),
    };
    let state_dir = watch::channel(None).0;
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
        notify: notify::start(checker.published.clone(), Vec::new(), Arc::clone(&metrics)),
        limits,
        access,
        state_dir,
        metrics: Arc::clone(&metrics),
        events: events.clone(),
        visibility: visibility.clone(),
        serving: watch::channel(true).1,
    };
    let running = Configured::of(&config::load(&file).unwrap());
    let reload = reload::start(Some(file), running, reach);
    Sources {
        checker,
        metrics,
        serving: watch::channel(true).1,
        reload,
        upgrade: steerd::upgrade::UpgradeHandle::new().0,
        changes: steerd::upgrade::ChangeGate::default(),
        access: access_seen,
        lost_because: watch::channel(None).1,
        events,
        audit,
        visibility,
    }
}

/// Sends a body. The first byte selects the method and path.
pub(crate) fn check(server: &Server, input: &[u8]) {
    let [place, body @ ..] = input else { return };
    let (method, path) = &PLACES[usize::from(*place) % PLACES.len()];
    let request = Request::builder().method(method).uri(*path).header(CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body.to_vec())).unwrap();
    let (status, kind, said) = server.runtime.block_on(async {
        let reply = server.router.call(request).await.unwrap();
        let kind = reply.headers().get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
        (reply.status(), kind, to_bytes(reply.into_body(), LONGEST_REPLY).await.unwrap())
    });
    let expected = [
        StatusCode::OK,
        StatusCode::BAD_REQUEST,
        StatusCode::NOT_FOUND,
        StatusCode::METHOD_NOT_ALLOWED,
        StatusCode::CONFLICT,
        StatusCode::PAYLOAD_TOO_LARGE,
        StatusCode::UNPROCESSABLE_ENTITY,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    assert!(expected.contains(&status), "{status}: {said:?}");
    assert!(kind.is_some_and(|kind| kind.contains("json")), "{said:?}");
    let object: serde_json::Value = serde_json::from_slice(&said).expect("a reply in JSON");
    assert!(object.is_object() || status == StatusCode::OK, "{object}");
    for reason in server.asked.lock().unwrap().drain(..) {
        let reason = reason.unwrap_or_default();
        let one_line = !reason.chars().any(char::is_control) && reason.chars().count() <= LONGEST_REASON;
        assert!(one_line && reason.trim() == reason, "{reason:?}");
    }
}

/// Seeds: valid and invalid bodies.
pub(crate) fn first_inputs() -> Vec<Vec<u8>> {
    let bodies = [
        r#"{"state": "drain"}"#,
        r#"{"state": "disabled", "for": "30m", "reason": "kernel"}"#,
        r#"{"state": "up", "for": "1h30m"}"#,
        r#"{"state": "down", "reason": "  a\u00e4\ud83d\ude00  "}"#,
        r#"{"state": "drain", "for": "366d"}"#,
        r#"{"state": "drain", "for": "-1s"}"#,
        r#"{"state": "drain", "for": "0s", "for": "1s"}"#,
        r#"{"state": "drain", "force": true}"#,
        r#"{"state": "drain", "reason": "two\nlines"}"#,
        r#"{"state": "drain", "reason": "\u001b[2J\u009b"}"#,
        r#"{"state": "sideways"}"#,
        r#"{"state": null}"#,
        r#"{"for": "30m"}"#,
        "{}",
        "[]",
        "",
        "null",
        "{\"state\": \"drain\"",
        "\u{feff}{}",
        r#"{"state": "drain", "for": "99999999999999999999h"}"#,
        r#"{"state": "drain", "for": "PT1H"}"#,
        r#"{"state": 1e999}"#,
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    ];
    let weights = [
        r#"{"percent": 30, "for": "1h", "reason": "canary"}"#,
        r#"{"percent": 1001}"#,
        r#"{"percent": -1}"#,
        r#"{"percent": "30%"}"#,
    ];
    let failovers = [
        r#"{"pool": "eight", "for": "2h", "reason": "drill"}"#,
        r#"{"pool": "web", "force": true, "reason": "two\nlines"}"#,
        r#"{"pool": 1}"#,
    ];
    let mut inputs: Vec<Vec<u8>> = bodies.iter().map(|body| [&[0], body.as_bytes()].concat()).collect();
    inputs.extend(weights.iter().map(|body| [&[6], body.as_bytes()].concat()));
    inputs.extend(failovers.iter().map(|body| [&[7], body.as_bytes()].concat()));
    for place in 1..u8::try_from(PLACES.len()).unwrap() {
        inputs.push([&[place], bodies[1].as_bytes()].concat());
    }
    inputs.push([&[0][..], &b"{\"reason\": \""[..], &"x".repeat(17_000).into_bytes(), b"\"}"].concat());
    inputs
}
