//! Pages of made-up servers.

use serde_json::{Value, json};

use super::*;
use crate::cli::columns::PAGE;

fn now() -> Timestamp {
    "2030-01-01T12:00:00Z".parse().unwrap()
}

fn address(state: &str) -> Value {
    json!({
        "address": "192.0.2.1", "state": state, "since": "2030-01-01T11:57:00Z", "held": false,
        "held_until": null, "percent": 100,
        "checks": [{
            "name": "http-1", "state": state,
            "last": { "outcome": if state == "healthy" { "passed" } else { "failed" }, "detail": "status 503, expected 200-299" },
        }],
    })
}

fn backend(name: &str, state: &str, wanted: f64, answers: u64) -> Value {
    json!({
        "name": name, "enabled": true, "weight": 3, "override": null, "weight_override": null, "safe_at": null,
        "shares": [{ "wanted": wanted }], "answers": answers, "addresses": [address(state)],
    })
}

fn pool(name: &str, state: &str, backends: &[Value]) -> Value {
    json!({
        "name": name, "state": state, "usable": state != "critical", "healthy_weight": 3, "total_weight": 6,
        "suspected": null, "backends": backends,
    })
}

fn service(name: &str, pools: &[&str], tier: Option<&str>, fails_open: bool) -> Value {
    json!({
        "name": name, "pools": pools, "tier": { "ipv4": tier, "ipv6": null }, "down": fails_open,
        "fail_open": fails_open, "ttl": 20,
    })
}

fn document(services: &[Value], pools: &[Value]) -> Value {
    json!({ "version": "0.1.0", "generation": 12, "suspected": null, "services": services, "pools": pools })
}

/// A service in trouble after one that is fine, an override of each kind, a hold, and a certificate.
fn troubled() -> Value {
    let mut drained = backend("gw2", "healthy", 0.0, 300);
    drained["override"] = json!({
        "state": "drain", "reason": "kernel", "by": "192.0.2.200:4711 with the token", "until": "2030-01-01T12:30:00Z",
    });
    drained["safe_at"] = "2030-01-01T12:00:20Z".into();
    let mut canary = backend("gw3", "healthy", 0.25, 100);
    canary["weight_override"] = json!({ "percent": 30, "reason": null, "by": null, "until": null });
    let mut held = backend("gw4", "unhealthy", 0.0, 0);
    held["addresses"][0]["held"] = true.into();
    held["addresses"][0]["held_until"] = "2030-01-01T12:01:00Z".into();
    let mut aged = backend("gw5", "healthy", 0.75, 600);
    aged["addresses"][0]["checks"][0]["certificate_expires"] = "2030-01-06T12:00:00Z".into();
    let dead = backend("gw1", "unhealthy", 0.0, 0);
    let fine = backend("gw6", "healthy", 0.0, 0);
    document(
        &[
            service("www.lb.example.com", &["web", "standby"], Some("web"), false),
            service("api.lb.example.com", &["dead"], None, true),
            service("img.lb.example.com", &["dead", "web"], Some("web"), false),
        ],
        &[
            pool("web", "degraded", &[aged, fine, dead.clone(), drained, canary, held]),
            pool("standby", "healthy", &[]),
            pool("dead", "critical", &[dead]),
        ],
    )
}

fn told(document: Value, name: Option<&str>, before: Option<&Counts>) -> String {
    let (status, _) = read(document, name).unwrap();
    let settings = PageSettings { now: now(), color: false, selected: name.is_some(), before };
    let page = page::page("http://127.0.0.1:8053", &status, &settings);
    let widest = page.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= PAGE, "{widest} columns:\n{page}");
    page
}

#[test]
fn a_failover_and_a_tier_that_waits_are_told_below_their_service() {
    let mut moved = service("www.lb.example.com", &["a", "b"], Some("a"), false);
    moved["failover"] = json!({
        "pool": "a", "reason": "drill", "by": "192.0.2.200:4711 with the token", "since": null,
        "until": "2030-01-01T12:30:00Z",
    });
    let mut late = service("img.lb.example.com", &["a", "b"], Some("b"), false);
    let waiting = json!({ "pool": "a", "until": "2030-01-01T12:05:00Z" });
    late["waiting"] = json!({ "ipv4": waiting, "ipv6": waiting });
    let mut manual = late.clone();
    manual["name"] = "api.lb.example.com".into();
    manual["waiting"] = json!({ "ipv4": { "pool": "a", "until": null }, "ipv6": null });
    let fine = service("fine.lb.example.com", &["a", "b"], Some("a"), false);
    let page = told(document(&[fine, late, manual, moved], &[pool("a", "healthy", &[])]), None, None);
    assert_in_order(
        &page,
        &[
            "img.lb.example.com   tier 2  b",
            "\n    a is usable again: it answers from 12:05:00 UTC (in 5m) if it stays usable\n",
            "api.lb.example.com   tier 2  b",
            "\n    a is usable again, and is not taken yet\n",
            "www.lb.example.com   up      a",
            "\n    failover to a until 12:30:00 UTC (in 30m), by 192.0.2.200:4711 with the token: drill\n",
            "fine.lb.example.com  up      a",
        ],
    );
    assert_eq!(page.matches("usable again: it answers").count(), 1, "families that agree are told once");
}

/// The lines that contain each of these texts, in this order.
fn assert_in_order(page: &str, texts: &[&str]) {
    let mut rest = page;
    for text in texts {
        let Some((_, after)) = rest.split_once(text) else { panic!("no `{text}` in its place:\n{page}") };
        rest = after;
    }
}

#[test]
fn trouble_comes_first_with_its_reasons() {
    let page = told(troubled(), None, None);
    assert_in_order(
        &page,
        &[
            "steerd 0.1.0 at http://127.0.0.1:8053, generation 12",
            "SERVICE",
            "api.lb.example.com  fails open  -          -          20s",
            "img.lb.example.com  tier 2      web",
            "www.lb.example.com  up          web",
            "POOL",
            "dead     critical  0 of 1",
            "web      degraded  4 of 6   3 of 6",
            "standby  healthy",
            "BACKEND",
            "web/gw1   unhealthy        3m     3         0.0%    0.0%",
            "http-1 is unhealthy: status 503, expected 200-299",
            "dead/gw1  unhealthy",
            "web/gw3   healthy          3m     30% of 3  25.0%   10.0%",
            "    30% of its weight without an end",
            "web/gw5   healthy          3m     3         75.0%   60.0%",
            "the certificate that http-1 sees expires in 5d",
            "web/gw2   drain (healthy)",
            "drain until 12:30:00 UTC (in 30m), by 192.0.2.200:4711 with the token: kernel",
            "clients may use its addresses until 12:00:20 UTC",
        ],
    );
    assert!(page.contains("held ") && page.contains("is held back until 12:01:00 UTC"), "{page}");
    assert!(!page.contains("gw6") && page.ends_with("and 1 more backends, all fine"), "{page}");
}

/// A backend whose last probe could not run.
fn unprobed(name: &str, state: &str) -> Value {
    let mut backend = backend(name, state, 1.0, 0);
    let check = &mut backend["addresses"][0]["checks"][0];
    check["last"] =
        json!({ "outcome": "void", "detail": "no verdict: Network is unreachable (os error 101)" });
    check["void_since"] = "2030-01-01T11:59:48Z".into();
    backend
}

#[test]
fn backends_that_cannot_be_probed_are_not_fine() {
    let pools = [pool("web", "healthy", &[unprobed("gw1", "healthy"), unprobed("gw2", "unhealthy")])];
    let page = told(document(&[], &pools), None, None);
    let note = "http-1 has no verdict since 11:59:48 UTC (12s ago): Network is unreachable";
    assert_in_order(
        &page,
        &[
            "web/gw2  unhealthy, no verdict",
            "http-1 is unhealthy\n",
            note,
            "web/gw1  healthy, no verdict",
            note,
        ],
    );
    assert!(!page.contains("fine"), "{page}");
    let two = document(
        &[],
        &[pool("web", "healthy", &[backend("gw1", "healthy", 1.0, 0), unprobed("gw2", "healthy")])],
    );
    let page = told(two, None, None);
    assert!(page.contains("web/gw2") && page.ends_with("and 1 more backends, all fine"), "{page}");
}

#[test]
fn one_pool_or_service_is_shown_with_all_its_backends() {
    let page = told(troubled(), Some("web"), None);
    assert!(page.contains("web/gw6") && !page.contains("dead/gw1") && !page.contains("api.lb"), "{page}");
    assert_in_order(&page, &["img.lb.example.com", "www.lb.example.com"]);
    let page = told(troubled(), Some("API.lb.example.com."), None);
    assert!(page.contains("dead/gw1") && !page.contains("web/gw1") && !page.contains("www.lb"), "{page}");
    let error = read(troubled(), Some("wbe")).unwrap_err();
    assert_eq!(error, "there is no pool or service `wbe`; did you mean `web`?");
    let (_, document) = read(troubled(), Some("dead")).unwrap();
    assert_eq!(
        (document["pools"].as_array().unwrap().len(), &document["pools"][0]["name"]),
        (1, &json!("dead"))
    );
    assert_eq!(document["services"].as_array().unwrap().len(), 2);
}

#[test]
fn shares_are_counted_from_the_start_of_a_watch() {
    let (status, _) = read(troubled(), None).unwrap();
    let before = words::counts(&status.pools);
    let mut later = troubled();
    later["pools"][0]["backends"][0]["answers"] = 603.into();
    later["pools"][0]["backends"][4]["answers"] = 101.into();
    let page = told(later, None, Some(&before));
    assert_in_order(&page, &["web/gw3", "25.0%   25.0%", "web/gw5", "75.0%   75.0%"]);
    let page = told(troubled(), None, Some(&before));
    assert_in_order(&page, &["web/gw5   healthy          3m     3         75.0%\n"]);
}

#[test]
fn nothing_is_wider_than_a_page() {
    let label = "a".repeat(60);
    let name = format!("{label}.{label}.{label}.example");
    let mut long = backend(&label, "unhealthy", 1.0 / 3.0, 5);
    long["addresses"][0]["checks"][0]["last"]["detail"] = format!("body: {}", "x".repeat(300)).into();
    long["weight_override"] =
        json!({ "percent": 1000, "reason": "r".repeat(200), "by": "b".repeat(60), "until": null });
    let many = vec![long; 60];
    let services: Vec<Value> =
        (0..60).map(|index| service(&format!("{index}.{name}"), &[&label], None, index < 50)).collect();
    let mut all = document(&services, &[pool(&label, "critical", &many)]);
    all["suspected"] = json!({ "since": "2030-01-01T11:00:00Z", "reason": "all of it fails ".repeat(20) });
    all["pools"][0]["suspected"] = all["suspected"].clone();
    let page = told(all, None, None);
    assert!(page.contains("and 20 more services, 20 of them not fine"), "{page}");
    assert!(page.contains("and 20 more backends, 20 of them not fine"), "{page}");
    assert!(page.contains("this machine is suspected since 1h: all of it fails"), "{page}");
}

fn answered(document: Value) -> Answered {
    Answered { url: "http://192.0.2.1:8053".into(), status: read(document, None).map(|(status, _)| status) }
}

#[test]
fn servers_stand_side_by_side_and_their_differences_are_marked() {
    let mut other = troubled();
    other["services"][1] = service("api.lb.example.com", &["dead"], Some("dead"), false);
    other["pools"][0]["backends"][4]["weight_override"] = Value::Null;
    other["pools"][0]["backends"][4]["addresses"][0]["checks"][0]["last"]["detail"] = "status 200".into();
    other["pools"][0]["backends"][3] = backend("gw2", "unhealthy", 0.0, 300);
    other["pools"].as_array_mut().unwrap().remove(1);
    let gone = Answered { url: "http://192.0.2.3:8053".into(), status: Err("no steerd answers".into()) };
    let servers = [answered(troubled()), answered(other), gone];
    let page = side_by_side::page(&servers, now(), false, false);
    assert_in_order(
        &page,
        &[
            "[1] http://192.0.2.1:8053  steerd 0.1.0, generation 12",
            "[3] http://192.0.2.3:8053  error: no steerd answers",
            "SERVICE             [1]          [2]          [3]",
            "api.lb.example.com  fails open   up, dead     -    differs",
            "img.lb.example.com  tier 2, web  tier 2, web  -\n",
            "POOL     [1]",
            "standby  healthy, 0 of 0   -                 -    differs",
            "BACKEND   [1]",
            "web/gw3   healthy, weight 30% of 3   healthy, weight 3",
            "\n    [1] 30% of its weight without an end\n    [2] http-1 is healthy: status 200\n",
            "the servers differ in 5 lines",
        ],
    );
    assert_in_order(
        &page,
        &[
            "web/gw2   drain (healthy), weight 3",
            "[1] drain until 12:30:00 UTC (in 30m), by 192.0.2.200:4711 with the token: kernel",
            "[2] http-1 is unhealthy: status 503, expected 200-299",
        ],
    );
    assert_eq!(page.matches("status 503").count(), 1, "only lines that differ have reasons: {page}");
    assert!(page.lines().all(|line| line.chars().count() <= PAGE), "{page}");
    let differences = side_by_side::differences(&servers, now());
    assert_eq!(
        differences[0],
        json!({ "kind": "service", "name": "api.lb.example.com", "told": ["fails open", "up, dead", null] })
    );
    let same = [answered(troubled()), answered(troubled())];
    assert!(side_by_side::page(&same, now(), false, false).ends_with("the servers agree"));
    assert_eq!(side_by_side::differences(&same, now()), [] as [Value; 0]);
}

#[test]
fn the_exit_code_follows_the_services_that_are_shown() {
    let arguments = |name: Option<&str>| name.map(str::to_owned);
    for (name, expected) in
        [(None, true), (Some("web"), false), (Some("www.lb.example.com"), false), (Some("dead"), true)]
    {
        let (status, _) = read(troubled(), arguments(name).as_deref()).unwrap();
        assert_eq!(status.services.iter().any(RemoteService::is_troubled), expected, "{name:?}");
    }
}
