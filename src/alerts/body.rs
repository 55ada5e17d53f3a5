//! The bodies of messages, in the forms that receivers expect.
//!
//! ```text
//! json          our own fields
//! slack         text: Slack's incoming webhooks, Mattermost, Rocket.Chat
//! alertmanager  a list of alerts, for POST /api/v2/alerts (OpenAPI: postableAlerts)
//! pagerduty     an event of the Events API v2; one incident for each alert
//! ```
//!
//! A message has a limited length, however many conditions it tells of; for Alertmanager, which must hear of each one
//! again and again, it is divided.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::alerts::AdminLink;
use crate::alerts::ledger::{AlertMessage, MessagePart};
use crate::alerts::settings::AlertTemplate;
use crate::alerts::template::Placeholder;
use crate::duration::{Shown, time_of_day};
use crate::events::EventKind;
use crate::fleet::Condition;
use crate::health::Moment;
use crate::printable::printable;

/// How many conditions the fields of a message name; the others are counted.
pub const MOST_TOLD: usize = 100;
/// How many lines a text has.
pub const MOST_LINES: usize = 20;
/// How many alerts one request to Alertmanager has.
pub const MOST_IN_A_REQUEST: usize = 1000;
/// The longest summary that PagerDuty accepts, characters.
const LONGEST_SUMMARY: usize = 1024;
/// How often Alertmanager hears of a condition again, as from Prometheus.
pub const ALERTMANAGER_REPEAT: Duration = Duration::from_secs(60);
/// After this time without a repetition, Alertmanager takes a condition as ended.
const ALERTMANAGER_END: Duration = Duration::from_secs(4 * 60);

/// The server that sends messages.
#[derive(Clone, Debug)]
pub struct AlertSender {
    /// The name of this server.
    pub server: String,
    /// Its admin server.
    pub admin: AdminLink,
}

/// Everything that a body says besides its conditions.
#[derive(Clone, Copy, Debug)]
pub struct Heading<'a> {
    /// The name of the alert.
    pub alert: &'a str,
    /// Its sender.
    pub sender: &'a AlertSender,
    /// When it is made.
    pub now: Moment,
    /// `now` as a time of day.
    pub wall: SystemTime,
}

/// How serious a condition is: the words of `examples/monitoring`, which PagerDuty has too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ConditionSeverity {
    Critical,
    Warning,
    Info,
}

impl ConditionSeverity {
    fn of(condition: &Condition) -> Self {
        match condition.key.kind {
            EventKind::Service => Self::Critical,
            EventKind::Server => Self::Info,
            _ => Self::Warning,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// The parts of a message, the worst first, and what is not told of each.
struct Told<'m> {
    firing: Vec<&'m MessagePart>,
    resolved: Vec<&'m MessagePart>,
}

impl<'m> Told<'m> {
    fn of(message: &'m AlertMessage) -> Self {
        let sorted = |parts: &'m [MessagePart]| {
            let mut parts: Vec<&MessagePart> = parts.iter().collect();
            parts.sort_by_key(|part| (!part.is_new, ConditionSeverity::of(&part.condition)));
            parts
        };
        Self { firing: sorted(&message.firing), resolved: sorted(&message.resolved) }
    }

    fn count(&self) -> usize {
        self.firing.len() + self.resolved.len()
    }

    fn iter(&self) -> impl Iterator<Item = &'m MessagePart> {
        self.firing.iter().chain(&self.resolved).copied()
    }

    fn severity(&self) -> ConditionSeverity {
        let firing = self.firing.iter().map(|part| ConditionSeverity::of(&part.condition));
        firing.min().unwrap_or(ConditionSeverity::Info)
    }

    fn status(&self) -> &'static str {
        match () {
            () if self.is_test() => "test",
            () if self.firing.is_empty() => "resolved",
            () => "firing",
        }
    }

    fn is_test(&self) -> bool {
        self.iter().any(|part| part.condition.key.kind == EventKind::Server)
    }

    /// One line: the worst condition, and how many others there are.
    fn summary(&self) -> String {
        let Some(first) = self.iter().next() else { return String::new() };
        let resolved = if first.ended.is_some() { "resolved: " } else { "" };
        let mut summary = format!("{resolved}{}", first.condition.summary);
        let firing = self.firing.len().saturating_sub(1);
        let ended = if self.firing.is_empty() { self.resolved.len() - 1 } else { self.resolved.len() };
        for (count, words) in [(firing, "more"), (ended, "resolved")] {
            if count > 0 {
                let words = if self.firing.is_empty() { "more" } else { words };
                let _ = write!(summary, ", and {count} {words}");
            }
        }
        summary
    }
}

impl Heading<'_> {
    fn time(&self, at: Moment) -> SystemTime {
        let ago = self.now.saturating_sub(at);
        self.wall.checked_sub(ago).unwrap_or(self.wall)
    }

    fn timestamp(&self, at: Moment) -> Timestamp {
        timestamp(self.time(at))
    }

    fn link(&self) -> Option<String> {
        self.sender.admin.url()
    }

    /// A sentence on a condition.
    fn line(&self, part: &MessagePart) -> String {
        let Condition { summary, reason, consequence, .. } = &*part.condition;
        let since = time_of_day(self.timestamp(part.since), timestamp(self.wall));
        match part.ended {
            None => format!("{summary} since {since}: {reason}; {consequence}"),
            Some(ended) => {
                let lasted = Duration::from_secs(ended.saturating_sub(part.since).as_secs());
                format!("resolved: {summary}; it lasted {} from {since} on", Shown(lasted))
            }
        }
    }

    fn text(&self, told: &Told<'_>, bullet: &str) -> String {
        let shown = told.iter().take(MOST_LINES).map(|part| format!("{bullet}{}", self.line(part)));
        let mut lines: Vec<String> = shown.collect();
        if let Some(more) = told.count().checked_sub(MOST_LINES).filter(|more| *more > 0) {
            lines.push(format!("{bullet}and {more} more"));
        }
        lines.join("\n")
    }

    fn condition(&self, part: &MessagePart) -> Value {
        let Condition { key, summary, reason, consequence, .. } = &*part.condition;
        json!({
            "state": if part.ended.is_some() { "resolved" } else { "firing" },
            "new": part.is_new,
            "kind": key.kind.as_str(),
            "name": (!key.name.is_empty()).then_some(&*key.name),
            "rule": key.rule,
            "severity": ConditionSeverity::of(&part.condition).as_str(),
            "summary": summary,
            "reason": reason,
            "consequence": consequence,
            "since": self.timestamp(part.since),
            "ended": part.ended.map(|ended| self.timestamp(ended)),
        })
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or_default()
}

/// The bodies of a message, each for one request. `key` is the integration key, for PagerDuty.
#[must_use]
pub fn bodies(
    template: &AlertTemplate,
    message: &AlertMessage,
    heading: &Heading<'_>,
    key: Option<&str>,
) -> Vec<String> {
    let told = Told::of(message);
    match template {
        AlertTemplate::Json => vec![fields(&told, heading).to_string()],
        AlertTemplate::Slack => vec![slack(&told, heading).to_string()],
        AlertTemplate::Alertmanager => {
            let alerts: Vec<Value> = told.iter().map(|part| alertmanager(part, heading)).collect();
            alerts.chunks(MOST_IN_A_REQUEST).map(|alerts| Value::from(alerts).to_string()).collect()
        }
        AlertTemplate::PagerDuty => pagerduty(&told, heading, key.unwrap_or_default()),
        AlertTemplate::Own(template) => vec![template.fill(|placeholder| match placeholder {
            Placeholder::Status => told.status().into(),
            Placeholder::Summary => told.summary(),
            Placeholder::Text => heading.text(&told, ""),
            Placeholder::Severity => told.severity().as_str().into(),
            Placeholder::Server => heading.sender.server.clone(),
            Placeholder::Alert => heading.alert.into(),
            Placeholder::Time => timestamp(heading.wall).to_string(),
            Placeholder::Count => told.count().to_string(),
            Placeholder::Conditions => conditions(&told, heading).to_string(),
        })],
    }
}

fn conditions(told: &Told<'_>, heading: &Heading<'_>) -> Value {
    told.iter().take(MOST_TOLD).map(|part| heading.condition(part)).collect()
}

fn fields(told: &Told<'_>, heading: &Heading<'_>) -> Value {
    json!({
        "status": told.status(),
        "alert": heading.alert,
        "server": heading.sender.server,
        "admin": heading.sender.admin.address(),
        "time": timestamp(heading.wall),
        "severity": told.severity().as_str(),
        "summary": told.summary(),
        "firing": told.firing.len(),
        "resolved": told.resolved.len(),
        "conditions": conditions(told, heading),
        "omitted": told.count().saturating_sub(MOST_TOLD),
    })
}

/// Slack reads `&`, `<` and `>` as marks.
fn for_slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn slack(told: &Told<'_>, heading: &Heading<'_>) -> Value {
    let head = format!("{}: {}", heading.sender.server, told.summary());
    let lines = heading.text(told, "• ");
    json!({ "text": format!("*{}*\n{}", for_slack(&head), for_slack(&lines)) })
}

/// The name of a condition's alert: that of the rule for the same condition in `examples/monitoring`.
fn alert_name(condition: &Condition) -> &'static str {
    match condition.key.kind {
        EventKind::Pool => "SteerdPoolUnusable",
        EventKind::Tier => "SteerdLaterTier",
        EventKind::Suspicion => "SteerdSelfSuspected",
        EventKind::Reload => "SteerdReloadRefused",
        EventKind::Certificate => "SteerdCertificateExpires",
        EventKind::Audit => "SteerdAuditNotWritten",
        EventKind::Server => "SteerdTest",
        _ if condition.fails_open => "SteerdFailOpen",
        _ => "SteerdServiceDown",
    }
}

fn alertmanager(part: &MessagePart, heading: &Heading<'_>) -> Value {
    let Condition { key, summary, reason, consequence, .. } = &*part.condition;
    let mut labels = Map::new();
    labels.insert("alertname".into(), alert_name(&part.condition).into());
    labels.insert("severity".into(), ConditionSeverity::of(&part.condition).as_str().into());
    labels.insert("server".into(), heading.sender.server.clone().into());
    if !key.name.is_empty() {
        let label = if matches!(key.kind, EventKind::Service | EventKind::Tier) { "service" } else { "pool" };
        labels.insert(label.into(), (*key.name).into());
    }
    if let Some(rule) = key.rule {
        labels.insert("rule".into(), rule.to_string().into());
    }
    let end = match part.ended {
        Some(ended) => heading.time(ended),
        None => heading.wall + ALERTMANAGER_END,
    };
    let mut alert = json!({
        "labels": labels,
        "annotations": { "summary": summary, "description": format!("{reason}; {consequence}") },
        "startsAt": heading.timestamp(part.since),
        "endsAt": timestamp(end),
    });
    if let (Some(link), Value::Object(alert)) = (heading.link(), &mut alert) {
        alert.insert("generatorURL".into(), link.into());
    }
    alert
}

/// One event: it opens or updates the incident of this alert, or ends it. A test opens one of its own, and ends it.
fn pagerduty(told: &Told<'_>, heading: &Heading<'_>, key: &str) -> Vec<String> {
    let AlertSender { server, .. } = heading.sender;
    let test = if told.is_test() { "/test" } else { "" };
    let dedup_key = format!("steerd/{server}/{}{test}", heading.alert);
    let resolve = || json!({ "routing_key": key, "event_action": "resolve", "dedup_key": dedup_key });
    let summary: String = printable(&told.summary()).chars().take(LONGEST_SUMMARY).collect();
    let mut trigger = json!({
        "routing_key": key,
        "event_action": "trigger",
        "dedup_key": dedup_key,
        "client": "steerd",
        "payload": {
            "summary": summary,
            "source": server,
            "severity": told.severity().as_str(),
            "timestamp": timestamp(heading.wall),
            "component": heading.alert,
            "class": told.iter().next().map(|part| part.condition.key.kind.as_str()),
            "custom_details": {
                "text": heading.text(told, ""),
                "conditions": conditions(told, heading),
            },
        },
    });
    if let (Some(link), Value::Object(event)) = (heading.link(), &mut trigger) {
        event.insert("client_url".into(), link.into());
    }
    match () {
        () if told.is_test() => vec![trigger.to_string(), resolve().to_string()],
        () if told.firing.is_empty() => vec![resolve().to_string()],
        () => vec![trigger.to_string()],
    }
}

/// The message of a test: one condition, which says that it is none.
#[must_use]
pub fn test_message(alert: &str, now: Moment) -> AlertMessage {
    let key = crate::fleet::ConditionKey { kind: EventKind::Server, name: "".into(), rule: None };
    let condition = Condition {
        key,
        summary: format!("TEST of the alert {alert}: nothing is wrong"),
        reason: "an operator has run `steerd alerts test`".into(),
        consequence: "nothing has to be done".into(),
        fails_open: false,
        start: 0,
    };
    let part = MessagePart { condition: condition.into(), since: now, ended: None, is_new: true };
    AlertMessage { firing: vec![part], resolved: Vec::new() }
}
