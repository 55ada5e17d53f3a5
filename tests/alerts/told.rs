//! The content and the time of messages: delay, group, repeat, resolve, selection and muting.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::receiver::{Got, Receiver};
use crate::scene::Scene;
use crate::support::wait_for;

fn alert(receiver: &Receiver, keys: &str) -> String {
    format!("[[alerts]]\nname = \"own\"\nurl = \"{}\"\n{keys}\n", receiver.url())
}

/// Kind, name and state of each condition.
fn conditions(body: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let all = body["conditions"].as_array().unwrap_or_else(|| panic!("{body}"));
    let mut all: Vec<_> =
        all.iter().map(|one| (text(&one["kind"]), text(&one["name"]), text(&one["state"]))).collect();
    all.sort();
    all
}

fn of(all: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    all.iter().map(|(kind, name, state)| ((*kind).into(), (*name).into(), (*state).into())).collect()
}

#[test]
fn a_failure_is_one_message_and_its_end_another() {
    let receiver = Receiver::start();
    let mut scene = Scene::start(61, &alert(&receiver, "delay = \"0s\"\ngroup = \"2s\""));
    scene.web_dies();
    let first = receiver.nth(0);
    assert!(first.head.starts_with("post /in http/1.1\r\n"), "{}", first.head);
    assert!(first.head.contains("content-type: application/json\r\n"), "{}", first.head);
    assert_eq!((&first.body["status"], &first.body["severity"]), (&"firing".into(), &"critical".into()));
    let expected = [
        ("pool", "web", "firing"),
        ("service", "api.lb.example.test", "firing"),
        ("tier", "www.lb.example.test", "firing"),
    ];
    assert_eq!(conditions(&first.body), of(&expected));
    assert_eq!(first.body["summary"], "service api.lb.example.test fails open, and 2 more");
    let words: Vec<String> = first.body["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{}: {}; {}", one["summary"], one["reason"], one["consequence"]).replace('"', ""))
        .collect();
    for expected in [
        "service api.lb.example.test fails open: no tier is usable; it draws from 2 ipv4 addresses of web, as if \
         healthy (fail open)",
        "pool web is not usable: it has no usable ipv4 address any more; service www.lb.example.test is answered by \
         standby, service api.lb.example.test fails open",
        "service www.lb.example.test is answered by a later tier, standby: none before it is usable; its clients get standby, \
         not web; 1 of 2 tiers usable",
    ] {
        assert!(words.iter().any(|words| words == expected), "{expected}\n{words:#?}");
    }
    scene.web_returns();
    let second = receiver.nth(1);
    assert_eq!(second.body["status"], "resolved");
    assert_eq!(conditions(&second.body), of(&expected.map(|(kind, name, _)| (kind, name, "resolved"))));
    assert_eq!(receiver.got().len(), 2);
    let sent = scene.server.metric("steerd_alerts_sent_total{alert=\"own\",outcome=\"success\"}");
    assert_eq!(sent, Some(2.0));
    assert_eq!(scene.server.metric("steerd_alerts_pending{alert=\"own\"}"), Some(0.0));
}

#[test]
fn nothing_is_sent_for_what_ends_within_the_delay() {
    let receiver = Receiver::start();
    let keys = "delay = \"6s\"\ngroup = \"0s\"\nevents = [\"pool\"]";
    let mut scene = Scene::start(62, &alert(&receiver, keys));
    let is_seen = |scene: &Scene, count: f64| {
        wait_for("the alert has looked", || {
            (scene.server.metric("steerd_alerts_firing{alert=\"own\"}") == Some(count)).then_some(())
        });
    };
    scene.web_dies();
    is_seen(&scene, 1.0);
    scene.web_returns();
    is_seen(&scene, 0.0);
    // The next one lasts: it alone is told, not before its delay.
    let began = Instant::now();
    scene.web_dies();
    let first = receiver.nth(0);
    assert!(first.at - began >= Duration::from_secs(6), "{:?}", first.at - began);
    assert_eq!(conditions(&first.body), of(&[("pool", "web", "firing")]));
}

#[test]
fn what_lasts_is_repeated_only_if_asked_for_and_selected() {
    let (chosen, other, silent) = (Receiver::start(), Receiver::start(), Receiver::start());
    let times = "delay = \"0s\"\ngroup = \"0s\"";
    let entry = |name: &str, receiver: &Receiver, keys: &str| {
        format!("[[alerts]]\nname = \"{name}\"\nurl = \"{}\"\n{times}\n{keys}\n", receiver.url())
    };
    let alerts = [
        entry("chosen", &chosen, "services = [\"api.lb.example.test\"]\nrepeat = \"never\"\nresolve = false"),
        entry("other", &other, "pools = [\"standby\"]"),
        entry("silent", &silent, "events = [\"certificate\", \"suspicion\", \"reload\"]"),
    ];
    let mut scene = Scene::start(63, &alerts.concat());
    scene.web_dies();
    let first = chosen.nth(0);
    assert_eq!(conditions(&first.body), of(&[("service", "api.lb.example.test", "firing")]));
    // A refused reload is told to those that want it, and is over with the next one.
    let reload = scene.reload("[[alerts]]\nurl = \"nowhere\"\n");
    assert!(reload.ends_with("exit 1"), "{reload}");
    let refused = silent.nth(0);
    assert_eq!(conditions(&refused.body), of(&[("reload", "", "firing")]));
    let reason = refused.body["conditions"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("1 error to correct, first ") && reason.contains("it is not a URL"), "{reason}");
    assert!(other.nth(0).body["summary"].as_str().unwrap().contains("the configuration was refused"));
    assert!(scene.reload(&alerts.concat()).ends_with("exit 0"));
    assert_eq!(silent.nth(1).body["status"], "resolved");
    scene.web_returns();
    scene.wait_for_pool("web", true);
    assert_eq!(other.nth(1).body["status"], "resolved");
    let firing = |receiver: &Receiver, name: &str| {
        receiver.got().iter().any(|got| conditions(&got.body).iter().any(|(_, known, _)| known == name))
    };
    assert!(!firing(&other, "web") && !firing(&silent, "web"));
    wait_for("all is over", || {
        (scene.server.metric("steerd_alerts_firing{alert=\"chosen\"}") == Some(0.0)).then_some(())
    });
    let ended = |got: &Got| got.body["resolved"] != 0;
    assert!(!chosen.got().iter().any(ended), "{:?}", chosen.got());
}

#[test]
fn an_override_mutes_what_it_explains() {
    let receiver = Receiver::start();
    let keys = "delay = \"0s\"\ngroup = \"0s\"";
    let mut scene = Scene::start(64, &alert(&receiver, keys));
    for backend in ["web/gw1", "web/gw2"] {
        let said = scene.command(&["drain", backend, "--force"]);
        assert!(said.ends_with("exit 0"), "{said}");
    }
    scene.wait_for_pool("web", false);
    let said = scene.command(&["failover", "www.lb.example.test", "standby"]);
    assert!(said.ends_with("exit 0"), "{said}");
    // They are muted. Then the backends really fail, so the pool would not be usable without the overrides either.
    scene.web_dies();
    let first = receiver.nth(0);
    assert_eq!(
        conditions(&first.body),
        of(&[
            ("pool", "web", "firing"),
            ("service", "api.lb.example.test", "firing"),
            ("tier", "www.lb.example.test", "firing"),
        ])
    );
    let unhealthy = || {
        let (_, status) = scene.server.request("GET", "/api/v1/pools/web", "");
        let states = status["backends"].as_array().unwrap().clone();
        states.iter().all(|backend| backend["addresses"][0]["state"] == "unhealthy")
    };
    assert!(unhealthy(), "it was told although the checks passed");
    // From now on the overrides alone explain them.
    scene.web_returns();
    let second = receiver.nth(1);
    assert_eq!(second.body["status"], "resolved");
    scene.wait_for_pool("web", false);
}
