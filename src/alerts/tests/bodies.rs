//! The bodies of the built-in templates, by the rules that their receivers publish.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::Value;

use crate::alerts::AdminLink;
use crate::alerts::body::{
    AlertSender, Heading, MOST_IN_A_REQUEST, MOST_LINES, MOST_TOLD, bodies, test_message,
};
use crate::alerts::ledger::{AlertMessage, MessagePart};
use crate::alerts::settings::AlertTemplate;
use crate::alerts::template::OwnTemplate;
use crate::alerts::tests::condition;
use crate::events::EventKind;

const NOW: Duration = Duration::from_secs(1000);

fn part(name: &str, ended: bool) -> MessagePart {
    let condition = condition(name).into();
    let since = Duration::from_secs(700);
    MessagePart { condition, since, ended: ended.then(|| Duration::from_secs(900)), is_new: true }
}

fn message(firing: usize, resolved: usize) -> AlertMessage {
    AlertMessage {
        firing: (0..firing).map(|index| part(&format!("f{index}"), false)).collect(),
        resolved: (0..resolved).map(|index| part(&format!("r{index}"), true)).collect(),
    }
}

fn made(template: &AlertTemplate, message: &AlertMessage) -> Vec<Value> {
    let sender = AlertSender {
        server: "lb1".into(),
        admin: AdminLink::new(Some("192.0.2.1:8053".parse().unwrap()), false),
    };
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_504_000);
    let heading = Heading { alert: "oncall", sender: &sender, now: NOW, wall };
    let bodies = bodies(template, message, &heading, Some("0123456789abcdef0123456789abcdef"));
    bodies.iter().map(|body| serde_json::from_str(body).expect("JSON")).collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn time(value: &Value) -> Timestamp {
    value.as_str().expect("a time").parse().expect("RFC 3339")
}

#[test]
fn json_has_every_fact() {
    let [body] = &made(&AlertTemplate::Json, &message(1, 1))[..] else { panic!("one body") };
    assert_eq!(
        (&body["status"], &body["alert"], &body["server"]),
        (&"firing".into(), &"oncall".into(), &"lb1".into())
    );
    assert_eq!(body["summary"], "pool f0 is not usable, and 1 resolved");
    let first = &body["conditions"][0];
    assert_eq!(
        (&first["state"], &first["kind"], &first["name"]),
        (&"firing".into(), &"pool".into(), &"f0".into())
    );
    assert_eq!(time(&first["since"]).to_string(), "2025-11-30T11:55:00Z");
    assert_eq!(first["ended"], Value::Null);
    assert_eq!(time(&body["conditions"][1]["ended"]).to_string(), "2025-11-30T11:58:20Z");
    let [many] = &made(&AlertTemplate::Json, &message(5000, 0))[..] else { panic!("one body") };
    assert_eq!(many["conditions"].as_array().unwrap().len(), MOST_TOLD);
    assert_eq!((&many["firing"], &many["omitted"]), (&5000.into(), &4900.into()));
    assert_eq!(made(&AlertTemplate::Json, &message(0, 3))[0]["status"], "resolved");
}

/// <https://docs.slack.dev/messaging/formatting-message-text>: `text` is required; three characters are escaped.
#[test]
fn slack_gets_a_text() {
    let mut message = message(30, 0);
    message.firing[0].condition =
        crate::fleet::Condition { reason: "<a> & b".into(), ..condition("x") }.into();
    let [body] = &made(&AlertTemplate::Slack, &message)[..] else { panic!("one body") };
    assert_eq!(keys(body), BTreeSet::from(["text"]));
    let text = body["text"].as_str().unwrap();
    assert!(
        text.starts_with(
            "*lb1: pool x is not usable, and 29 more*\n• pool x is not usable since 11:55:00 UTC: "
        ),
        "{text}"
    );
    assert!(text.contains("&lt;a&gt; &amp; b; ") && text.ends_with("• and 10 more"), "{text}");
    assert_eq!(text.lines().count(), MOST_LINES + 2);
    assert!(text.len() < 40_000);
}

/// The rules of `postableAlerts` in Alertmanager's document of its API, and of the Prometheus data model for labels.
#[test]
fn alertmanager_gets_alerts() {
    let all = made(&AlertTemplate::Alertmanager, &message(MOST_IN_A_REQUEST + 7, 5));
    assert_eq!(all.iter().map(|body| body.as_array().unwrap().len()).collect::<Vec<_>>(), [1000, 12]);
    for alert in all.iter().flat_map(|body| body.as_array().unwrap()) {
        assert_eq!(
            keys(alert),
            BTreeSet::from(["annotations", "endsAt", "generatorURL", "labels", "startsAt"])
        );
        for (name, value) in alert["labels"].as_object().unwrap() {
            let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            assert!(is_name && !value.as_str().unwrap().is_empty(), "{name}");
        }
        assert_eq!(alert["labels"]["alertname"], "SteerdPoolUnusable");
        assert!(
            alert["annotations"]["summary"].is_string() && alert["annotations"]["description"].is_string()
        );
        assert_eq!(alert["generatorURL"], "http://192.0.2.1:8053/");
        assert!(time(&alert["startsAt"]) < time(&alert["endsAt"]));
        let now: Timestamp = "2025-11-30T12:00:00Z".parse().unwrap();
        let is_resolved = alert["labels"]["pool"].as_str().unwrap().starts_with('r');
        assert_eq!(time(&alert["endsAt"]) <= now, is_resolved);
    }
}

/// A route in Alertmanager for the rules of Prometheus must also match the alerts that steerd sends.
#[test]
fn names_and_severities_are_those_of_the_rules() {
    let rules = include_str!("../../../examples/monitoring/rules.yml");
    let of_rule = |name: &str| {
        let (_, rule) = rules.split_once(&format!("- alert: {name}\n")).unwrap_or_else(|| panic!("{name}"));
        rule.split_once("severity: ").unwrap().1.split_once('}').unwrap().0.to_owned()
    };
    for (kind, fails_open, name) in [
        (EventKind::Pool, false, "SteerdPoolUnusable"),
        (EventKind::Service, true, "SteerdFailOpen"),
        (EventKind::Service, false, "SteerdServiceDown"),
        (EventKind::Tier, false, "SteerdLaterTier"),
        (EventKind::Suspicion, false, "SteerdSelfSuspected"),
        (EventKind::Reload, false, "SteerdReloadRefused"),
        (EventKind::Certificate, false, "SteerdCertificateExpires"),
        (EventKind::Audit, false, "SteerdAuditNotWritten"),
    ] {
        let mut message = message(1, 0);
        let condition = Arc::make_mut(&mut message.firing[0].condition);
        (condition.key.kind, condition.fails_open) = (kind, fails_open);
        let [body] = &made(&AlertTemplate::Alertmanager, &message)[..] else { panic!("one request") };
        let labels = &body[0]["labels"];
        assert_eq!(labels["alertname"], name);
        assert_eq!(labels["severity"], of_rule(name), "{name}");
    }
}

/// <https://developer.pagerduty.com/docs/send-alert-event>: the required fields, and their limits.
#[test]
fn pagerduty_gets_one_incident() {
    let [event] = &made(&AlertTemplate::PagerDuty, &message(200, 3))[..] else { panic!("one event") };
    assert_eq!((&event["event_action"], &event["client"]), (&"trigger".into(), &"steerd".into()));
    assert_eq!(event["routing_key"].as_str().unwrap().len(), 32);
    assert!(event["dedup_key"].as_str().unwrap().len() <= 255);
    let payload = &event["payload"];
    assert!((1..=1024).contains(&payload["summary"].as_str().unwrap().chars().count()));
    assert!(["critical", "error", "warning", "info"].contains(&payload["severity"].as_str().unwrap()));
    assert_eq!(payload["source"], "lb1");
    time(&payload["timestamp"]);
    assert!(event.to_string().len() < 512 * 1024, "the longest event that is accepted");
    let [end] = &made(&AlertTemplate::PagerDuty, &message(0, 3))[..] else { panic!("one event") };
    assert_eq!(end["event_action"], "resolve");
    assert_eq!(end["dedup_key"], event["dedup_key"]);
    assert_eq!(keys(end), BTreeSet::from(["dedup_key", "event_action", "routing_key"]));
}

#[test]
fn a_template_of_ones_own_gets_escaped_values() {
    let text = "{\"title\": \"{{server}}: {{summary}} ({{severity}})\", \"body\": \"{{text}}\", \"n\": {{count}}, \
                \"all\": {{conditions}}, \"is\": \"{{status}}\", \"at\": \"{{time}}\", \"of\": \"{{alert}}\"}";
    let template = AlertTemplate::Own(OwnTemplate::parse(text).unwrap());
    let mut message = message(2, 0);
    message.firing[1].condition =
        crate::fleet::Condition { reason: "a \"quote\"\nand \\".into(), ..condition("x") }.into();
    let [body] = &made(&template, &message)[..] else { panic!("one body") };
    assert_eq!(body["title"], "lb1: pool f0 is not usable, and 1 more (warning)");
    assert!(body["body"].as_str().unwrap().contains("a \"quote\"\nand \\; "));
    assert_eq!((&body["n"], &body["is"], &body["of"]), (&2.into(), &"firing".into(), &"oncall".into()));
    assert_eq!(body["all"].as_array().unwrap().len(), 2);
}

#[test]
fn a_test_is_marked_as_one() {
    let test = test_message("oncall", NOW);
    let json = &made(&AlertTemplate::Json, &test)[0];
    assert_eq!((&json["status"], &json["severity"]), (&"test".into(), &"info".into()));
    assert!(
        made(&AlertTemplate::Slack, &test)[0]["text"].as_str().unwrap().contains("TEST of the alert oncall")
    );
    assert_eq!(made(&AlertTemplate::Alertmanager, &test)[0][0]["labels"]["alertname"], "SteerdTest");
    let [begin, end] = &made(&AlertTemplate::PagerDuty, &test)[..] else { panic!("two events") };
    assert_eq!((&begin["event_action"], &end["event_action"]), (&"trigger".into(), &"resolve".into()));
    assert_eq!(begin["dedup_key"], end["dedup_key"]);
    assert_ne!(begin["dedup_key"], made(&AlertTemplate::PagerDuty, &message(1, 0))[0]["dedup_key"]);
}
