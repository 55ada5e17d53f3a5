//! `[[alerts]]`: who is told of conditions, how, and when.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use reqwest::Url;

use crate::alerts::AllAlerts;
use crate::alerts::settings::{
    AlertSettings, AlertTemplate, AlertTiming, Destination, Secret, Wanted, WantedNames, Webhook,
};
use crate::alerts::template::OwnTemplate;
use crate::config::check::{authorities, program};
use crate::config::document::unique;
use crate::config::value::{Located, TomlTable, TomlValue};
use crate::events::EventKind;
use crate::file::{self, FileKind};
use crate::printable::quoted;
use crate::spelling::closest;

/// The most entries: each has a task, and a request at a time.
const MOST_ALERTS: usize = 64;
const LONGEST_NAME: usize = 64;
const DELAYS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);
const GROUPS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(300);
const REPEATS: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 24 * 3600);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Where PagerDuty receives events.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";
/// Where Alertmanager receives alerts.
const ALERTMANAGER_PATH: &str = "/api/v2/alerts";

/// The kinds of conditions; the words are those of `steerd events`.
const KINDS: [EventKind; 7] = [
    EventKind::Pool,
    EventKind::Service,
    EventKind::Tier,
    EventKind::Suspicion,
    EventKind::Reload,
    EventKind::Certificate,
    EventKind::Audit,
];

/// The names that an alert may select.
pub(super) struct KnownNames<'a> {
    pub(super) pools: HashSet<&'a str>,
    pub(super) services: HashSet<String>,
}

/// Reads all entries.
pub(super) fn read(entries: &[TomlValue<'_>], known: &KnownNames<'_>) -> AllAlerts {
    let mut first = HashMap::new();
    let mut alerts = Vec::new();
    for entry in entries {
        let Some(mut table) = entry.table(entry.at) else { continue };
        // The line of an inline table has the URL too.
        if table.at.is_inline_table() {
            table.at = table.at.concealed();
        }
        let at = table.at;
        let Some(alert) = read_alert(table, known) else { continue };
        if unique(&mut first, alert.name.clone(), at, || format!("alert `{}`", alert.name)) {
            alerts.push(Arc::new(alert));
        }
    }
    if let Some(entry) = entries.get(MOST_ALERTS) {
        entry.at.error(format!("there are more than {MOST_ALERTS} alerts"));
    }
    alerts
}

fn read_alert(mut table: TomlTable<'_>, known: &KnownNames<'_>) -> Option<AlertSettings> {
    let at = table.at;
    let name = table.read("name", name);
    let own = table.read("template_file", own_template);
    let words = [
        ("json", AlertTemplate::Json),
        ("slack", AlertTemplate::Slack),
        ("alertmanager", AlertTemplate::Alertmanager),
        ("pagerduty", AlertTemplate::PagerDuty),
    ];
    let remedy = "a template of your own is named by `template_file`".to_owned();
    let word = table.read("template", |value| value.word_or(&words, None, Some(remedy)));
    if let (Some(own), Some(word)) = (&own, &word) {
        own.at.error_beside("an alert has one template: `template` or `template_file`", word.at, "the other");
    }
    let template = own
        .as_ref()
        .map(|own| AlertTemplate::Own(own.value.clone()))
        .or_else(|| word.map(|word| word.value))
        .unwrap_or(AlertTemplate::Json);
    let destination = read_destination(&mut table, &template);
    let wanted = read_wanted(&mut table, known);
    let timing = read_timing(&mut table, &template);
    table.close();
    let (destination, by_default) = destination?;
    let name = name.map_or(by_default, |name| name.value);
    if name.is_empty() {
        at.error("an alert without `name` takes that of its template or program, and this has none");
        return None;
    }
    Some(AlertSettings { name, destination, template, wanted, timing })
}

fn name(value: TomlValue<'_>) -> Option<String> {
    let text = value.string("a name")?;
    let is_allowed = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
    if text.is_empty() || text.len() > LONGEST_NAME || !text.chars().all(is_allowed) {
        value.must_be(format!("a name of at most {LONGEST_NAME} letters, digits and -_."), None);
        return None;
    }
    Some(text.to_owned())
}

/// The keys of a receiver.
struct ReceiverKeys<'s> {
    url: Option<Located<'s, Url>>,
    exec: Option<Located<'s, (PathBuf, Vec<String>)>>,
    token: Option<Located<'s, Secret>>,
    token_header: Option<Located<'s, String>>,
    ca_file: Option<Located<'s, PathBuf>>,
    timeout: Duration,
}

/// The receiver, and the name of an alert that has none.
fn read_destination(table: &mut TomlTable<'_>, template: &AlertTemplate) -> Option<(Destination, String)> {
    let at = table.at;
    let url = table.read("url", url).map(|url| Located { at: url.at.concealed(), ..url });
    let url_file = table.read("url_file", url_file);
    let exec = table.read("exec", exec);
    let token = table.read("token_file", token);
    let token_header = table.read("token_header", token_header);
    let ca_file = table.read("ca_file", authorities);
    let timeout = table.read("timeout", |value| value.duration(TIMEOUTS));
    let timeout = timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.value);

    let mut named =
        ["url", "url_file", "exec"].into_iter().filter_map(|key| Some(table.get(key)?.at.concealed()));
    let is_named = match (named.next(), named.next()) {
        (Some(first), Some(second)) => {
            second.error_beside("an alert has one receiver: `url`, `url_file` or `exec`", first, "the other");
            return None;
        }
        (first, _) => first.is_some(),
    };
    let is_pagerduty = *template == AlertTemplate::PagerDuty;
    if is_pagerduty && table.get("exec").is_none() && table.get("token_file").is_none() {
        at.error_with_hint(
            "an alert for PagerDuty needs an integration key",
            "write the key to a file, and name it by `token_file`".to_owned(),
        );
    }
    let mut url = url.or(url_file);
    if !is_named && is_pagerduty {
        url = parse_url(PAGERDUTY).ok().map(|value| Located { value, at, inherited: true });
    } else if !is_named {
        at.error("this alert has no receiver: write `url`, `url_file` or `exec`");
    }
    let keys = ReceiverKeys { url, exec, token, token_header, ca_file, timeout };
    keys.program(template).or_else(|| keys.webhook(template))
}

impl ReceiverKeys<'_> {
    fn program(&self, template: &AlertTemplate) -> Option<(Destination, String)> {
        let Located { value: (path, arguments), at, .. } = self.exec.as_ref()?;
        if matches!(template, AlertTemplate::PagerDuty | AlertTemplate::Alertmanager) {
            at.error("this template is for a URL, and this alert runs a program");
        }
        let of_web = [
            ("token_file", self.token.as_ref().map(|read| read.at)),
            ("token_header", self.token_header.as_ref().map(|read| read.at)),
            ("ca_file", self.ca_file.as_ref().map(|read| read.at)),
        ];
        for (key, other) in of_web {
            if let Some(other) = other {
                other.error_beside(
                    format!("`{key}` is for a URL, and this alert runs a program"),
                    *at,
                    "here",
                );
            }
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (path, arguments, timeout) = (path.clone(), arguments.clone(), self.timeout);
        Some((Destination::Program { path, arguments, timeout }, name))
    }

    fn webhook(self, template: &AlertTemplate) -> Option<(Destination, String)> {
        let url = self.url?;
        if *template == AlertTemplate::Alertmanager && !url.value.path().ends_with(ALERTMANAGER_PATH) {
            url.at.error_with_hint(
                format!("Alertmanager takes alerts at {ALERTMANAGER_PATH}, and this URL has another path"),
                format!("write the URL with {ALERTMANAGER_PATH} at its end"),
            );
        }
        if url.value.scheme() == "http" {
            if let Some(token) = &self.token {
                let message = "this is sent without encryption, because the URL begins with http:";
                token.at.warning(message, None);
            }
            if let Some(ca_file) = &self.ca_file {
                ca_file.at.error_beside("`ca_file` is for https", url.at, "this URL begins with http:");
            }
        }
        if let (Some(header), None) = (&self.token_header, &self.token) {
            header.at.error("`token_header` says where the token of `token_file` goes, and there is none");
        }
        let name = match template {
            AlertTemplate::Json | AlertTemplate::Own(_) => {
                url.value.host_str().unwrap_or_default().to_owned()
            }
            AlertTemplate::Slack => "slack".into(),
            AlertTemplate::Alertmanager => "alertmanager".into(),
            AlertTemplate::PagerDuty => "pagerduty".into(),
        };
        let webhook = Webhook {
            url: Secret::new(String::from(url.value)),
            token: self.token.map(|read| read.value),
            token_header: self.token_header.map(|read| read.value),
            ca_file: self.ca_file.map(|read| read.value),
            timeout: self.timeout,
        };
        Some((Destination::Web(webhook), name))
    }
}

fn url_file(value: TomlValue<'_>) -> Option<Url> {
    let (path, text) = value.secret_file()?;
    parse_url(text.trim()).map_err(|reason| value.refuse_file(&path, reason)).ok()
}

fn token(value: TomlValue<'_>) -> Option<Secret> {
    let (path, text) = value.secret_file()?;
    let token = text.trim();
    let is_sound = !token.is_empty() && HeaderValue::from_str(token).is_ok();
    if !is_sound {
        value.refuse_file(&path, "it must hold one line of text that a header can have");
    }
    is_sound.then(|| Secret::new(token))
}

fn token_header(value: TomlValue<'_>) -> Option<String> {
    let text = value.string("the name of a header")?;
    if HeaderName::from_bytes(text.as_bytes()).is_err() {
        value.must_be("the name of a header, such as \"X-Api-Key\"", None);
        return None;
    }
    Some(text.to_owned())
}

fn url(mut value: TomlValue<'_>) -> Option<Url> {
    // The path may contain a secret.
    value.at = value.at.concealed();
    let text = value.string("a URL such as \"https://chat.example.com/hooks/..\"")?;
    parse_url(text).map_err(|reason| value.at.error(format!("`url` cannot be used: {reason}"))).ok()
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("it is not a URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it must begin with https:// or http://".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user before the host; write the value of the header Authorization to a file, and name it \
                    by `token_file`, with token_header = \"Authorization\""
            .into());
    }
    Ok(url)
}

fn exec(value: TomlValue<'_>) -> Option<(PathBuf, Vec<String>)> {
    let what = "a list of a program and its arguments, such as [\"/usr/local/bin/notify\", \"--urgent\"]";
    let values = value.list(what)?;
    let path =
        program::checked(*values.first()?, values.first()?.string("the path of a program")?, "of the alert")?;
    let arguments: Option<Vec<String>> = values.into_iter().skip(1).map(program::argument).collect();
    Some((path, arguments?))
}

fn own_template(value: TomlValue<'_>) -> Option<OwnTemplate> {
    let (path, content) = value.file(FileKind::Template, file::SECRET)?;
    let text = content.text().map_err(|error| value.refuse_file(&path, error)).ok()?;
    let refuse = |reason: String| refuse_template(value, &path, &reason);
    OwnTemplate::parse(text).map_err(refuse).ok()
}

fn refuse_template(value: TomlValue<'_>, path: &Path, reason: &str) {
    value.at.error(format!("the template {} cannot be used: {reason}", quoted(&path.to_string_lossy())));
}

fn read_wanted(table: &mut TomlTable<'_>, known: &KnownNames<'_>) -> Wanted {
    let kinds = table.read("events", |value| {
        let words = KINDS.map(|kind| (kind.as_str(), kind));
        let values = value.list("a list of kinds, such as [\"service\", \"pool\"]")?;
        Some(values.into_iter().filter_map(|value| value.word(&words, None)).collect::<BTreeSet<_>>())
    });
    let pools = table.read("pools", |value| {
        names(value, "pool", |name| {
            known
                .pools
                .contains(name)
                .then(|| name.to_owned())
                .ok_or_else(|| closest(name, known.pools.iter().copied()).map(str::to_owned))
        })
    });
    let services = table.read("services", |value| {
        names(value, "service", |name| {
            let plain = name.trim_end_matches('.').to_ascii_lowercase();
            let near = || closest(&plain, known.services.iter().map(String::as_str)).map(str::to_owned);
            if known.services.contains(&plain) { Ok(plain) } else { Err(near()) }
        })
    });
    let is_selected = pools.is_some() || services.is_some();
    let names = is_selected.then(|| WantedNames {
        pools: pools.map(|pools| pools.value).unwrap_or_default(),
        services: services.map(|services| services.value).unwrap_or_default(),
    });
    Wanted { kinds: kinds.map_or_else(|| KINDS.into(), |kinds| kinds.value), names }
}

/// Names of a kind that are known; `find` returns the name, or a similar one.
fn names(
    value: TomlValue<'_>,
    kind: &str,
    find: impl Fn(&str) -> Result<String, Option<String>>,
) -> Option<BTreeSet<String>> {
    let values = value.list_or_none(&format!("a list of the names of {kind}s"))?;
    let mut found = BTreeSet::new();
    for value in values {
        let Some(name) = value.string(&format!("the name of a {kind}")) else { continue };
        match find(name) {
            Ok(name) => drop(found.insert(name)),
            Err(near) => {
                let hint = near.map(|near| format!("did you mean \"{near}\"?"));
                value.at.error_with_hint(format!("there is no {kind} `{name}`"), hint);
            }
        }
    }
    Some(found)
}

fn read_timing(table: &mut TomlTable<'_>, template: &AlertTemplate) -> AlertTiming {
    let default = AlertTiming::default();
    let delay = table.read("delay", |value| value.duration(DELAYS));
    let group = table.read("group", |value| value.duration(GROUPS));
    let repeat = table.read("repeat", |value| match value.as_str() {
        Some("never") => Some(None),
        _ => value.duration(REPEATS).map(Some),
    });
    let resolve = table.read("resolve", TomlValue::boolean);
    let is_alertmanager = *template == AlertTemplate::Alertmanager;
    if let Some(repeat) = repeat.as_ref().filter(|_| is_alertmanager) {
        repeat.at.error_with_hint(
            "Alertmanager decides itself how often it repeats a notification",
            "leave out `repeat`, and set repeat_interval in a route of Alertmanager".to_owned(),
        );
    }
    let repeat = match repeat {
        _ if is_alertmanager => Some(crate::alerts::body::ALERTMANAGER_REPEAT),
        Some(repeat) => repeat.value,
        None => default.repeat,
    };
    AlertTiming {
        delay: delay.map_or(default.delay, |delay| delay.value),
        group: group.map_or(default.group, |group| group.value),
        repeat,
        resolve: resolve.is_none_or(|resolve| resolve.value),
    }
}
