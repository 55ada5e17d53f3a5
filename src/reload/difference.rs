//! The changes to settings other than pools, services and zones, as text, key by key.
//!
//! Secrets are compared, but never shown.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::alerts::AllAlerts;
use crate::alerts::settings::AlertSettings;
use crate::config::{AdminSettings, AdminToken, ServerSettings};
use crate::duration::Shown;
use crate::listener::Steering;
use crate::listener::rate_limit::RateLimit;
use crate::name::Name;
use crate::reload::{Change, Configured};
use crate::settings::{Allowed, Chaos, Secondary, Settings};
use crate::visibility::{DnstapSettings, QueryLogSettings};

/// Changed keys that need an upgrade or a restart.
pub(super) fn restart_needed(running: &Configured, wanted: &Configured) -> Vec<Change> {
    let mut keys = KeyChanges::default();
    let list =
        |listen: &Vec<SocketAddr>| listen.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
    keys.compare("server.listen", &running.server.listen, &wanted.server.listen, list);
    keys.compare("server.workers", &running.server.workers, &wanted.server.workers, ToString::to_string);
    keys.compare("server.steering", &running.server.steering, &wanted.server.steering, |steering| {
        match steering {
            Steering::Hash => "hash",
            Steering::Cpu => "cpu",
        }
        .to_owned()
    });
    keys.compare("admin.listen", &running.admin.listen, &wanted.admin.listen, |listen| {
        if listen.is_empty() {
            none()
        } else {
            listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
    });
    keys.compare("admin.socket", &running.admin.socket, &wanted.admin.socket, ToString::to_string);
    keys.0
}

/// The settings in force after the reload: `wanted`, but with the old values where a change needs a
/// restart.
pub(super) fn without_restart(running: &Configured, wanted: Configured) -> Configured {
    let Configured { warnings, server, admin, settings, startup_wait, rule_files, alerts, files, origin } =
        wanted;
    let (listen, steering) = (running.server.listen.clone(), running.server.steering);
    Configured {
        warnings,
        server: ServerSettings { listen, workers: running.server.workers, steering, ..server },
        admin: AdminSettings { listen: running.admin.listen.clone(), socket: running.admin.socket, ..admin },
        settings,
        startup_wait,
        rule_files,
        alerts,
        files,
        origin,
    }
}

/// Changed keys of `[server]` that are in force now.
pub(super) fn server(running: &Configured, wanted: &Configured) -> Vec<Change> {
    let mut keys = KeyChanges::default();
    keys.settings(&running.settings, &wanted.settings);
    let (old, new) = (&running.server.limits, &wanted.server.limits);
    keys.compare("tcp_connections", &old.tcp.connections, &new.tcp.connections, ToString::to_string);
    keys.compare("tcp_idle", &old.tcp.idle, &new.tcp.idle, |idle| Shown(*idle).to_string());
    keys.compare("rate_limit", &old.rate, &new.rate, |rate| rate.as_ref().map_or_else(none, rate_limit));
    let path = |path: &Option<std::path::PathBuf>| or_none(path.as_deref().map(Path::display).as_ref());
    let (old, new) = (&running.server.visibility, &wanted.server.visibility);
    keys.compare("query_log", &old.query_log, &new.query_log, |log| {
        log.as_ref().map_or_else(none, |QueryLogSettings { sample, file, anonymize }| {
            format!("{sample} to {}{}", file.display(), if *anonymize { ", networks only" } else { "" })
        })
    });
    keys.compare("dnstap", &old.dnstap, &new.dnstap, |dnstap| {
        dnstap.as_ref().map_or_else(none, |DnstapSettings { sample, socket, identity }| {
            let identity = if identity.is_empty() { String::new() } else { format!(" as {identity}") };
            format!("{sample} to {}{identity}", socket.display())
        })
    });
    keys.compare("state_dir", &running.server.state_dir, &wanted.server.state_dir, path);
    let (old, new) = (running.server.start_with_last_good, wanted.server.start_with_last_good);
    keys.compare("start_with_last_good", &old, &new, ToString::to_string);
    keys.compare("watch", &running.server.watch, &wanted.server.watch, ToString::to_string);
    if running.startup_wait != wanted.startup_wait {
        let (old, new) = (Shown(running.startup_wait), Shown(wanted.startup_wait));
        keys.changed("startup_wait", format!("{old} -> {new}, from the next start on"));
    }
    keys.0
}

/// Changed keys of `[admin]` that are in force now.
pub(super) fn admin(running: &Configured, wanted: &Configured) -> Vec<Change> {
    let mut keys = KeyChanges::default();
    let (old, new) = (&running.admin.access, &wanted.admin.access);
    let mut names: Vec<_> = old.tokens.iter().chain(&new.tokens).map(|token| &token.name).collect();
    names.sort();
    names.dedup();
    for name in names {
        let details = match (old.token_named(name), new.token_named(name)) {
            (None, _) if old.tokens.is_empty() => vec!["a token is required now".to_owned()],
            (_, None) if new.tokens.is_empty() => vec!["no token is required any more".to_owned()],
            (None, Some(new)) => vec![format!("a new token, for {}", new.rights_in_words())],
            (Some(old), Some(new)) => changes_of_token(old, new),
            (_, None) => vec!["this token is no longer accepted".to_owned()],
        };
        let key = if **name == *"token_file" { name.to_string() } else { format!("tokens.{name}") };
        keys.changed_in(&key, details);
    }
    match (&old.tls, &new.tls) {
        (old, new) if old == new => {}
        (None, _) => keys.changed("tls", "TLS is required over TCP now".into()),
        (_, None) => keys.changed("tls", "plain HTTP over TCP from now on".into()),
        _ => keys.changed("tls", "another certificate or key".into()),
    }
    keys.compare("public_reads", &old.public_reads, &new.public_reads, ToString::to_string);
    keys.0
}

fn changes_of_token(old: &AdminToken, new: &AdminToken) -> Vec<String> {
    let mut details = Vec::new();
    if old.secret != new.secret {
        details.push("another token".to_owned());
    }
    if old.rights != new.rights {
        details.push(format!("rights: {} -> {}", old.rights_in_words(), new.rights_in_words()));
    }
    details
}

/// Changed keys of `[geo]`.
pub(super) fn geo(running: &Configured, wanted: &Configured) -> Vec<Change> {
    let mut keys = KeyChanges::default();
    let [old, new] = [running, wanted].map(|configured| configured.rule_files.sources.databases());
    keys.compare("database", &old, &new, |paths| {
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        if paths.is_empty() { none() } else { paths.join(", ") }
    });
    keys.0
}

/// Changed entries of `[[alerts]]`, by name. The values are not shown, because a URL may be a secret.
pub(super) fn alerts(running: &Configured, wanted: &Configured) -> Vec<Change> {
    let find = |alerts: &AllAlerts, name: &str| alerts.iter().find(|alert| alert.name == name).cloned();
    let removed = running.alerts.iter().filter(|old| find(&wanted.alerts, &old.name).is_none());
    let removed = removed.map(|old| Change::Removed(old.name.clone()));
    let present = wanted.alerts.iter().filter_map(|new| match find(&running.alerts, &new.name) {
        None => Some(Change::Added(new.name.clone())),
        Some(old) => {
            let keys = changed_keys(&old, new);
            (!keys.is_empty()).then(|| Change::Changed(new.name.clone(), keys))
        }
    });
    removed.chain(present).collect()
}

fn changed_keys(old: &AlertSettings, new: &AlertSettings) -> Vec<String> {
    let never =
        |repeat: Option<Duration>| repeat.map_or_else(|| "never".into(), |repeat| Shown(repeat).to_string());
    let (was, is) = (&old.timing, &new.timing);
    let times = [("delay", was.delay, is.delay), ("group", was.group, is.group)];
    let times = times.into_iter().filter(|(_, old, new)| old != new);
    let mut keys: Vec<String> =
        times.map(|(key, old, new)| format!("{key}: {} -> {}", Shown(old), Shown(new))).collect();
    if was.repeat != is.repeat {
        keys.push(format!("repeat: {} -> {}", never(was.repeat), never(is.repeat)));
    }
    if was.resolve != is.resolve {
        keys.push(format!("resolve: {} -> {}", was.resolve, is.resolve));
    }
    let others = [
        ("another receiver", old.destination == new.destination),
        ("another template", old.template == new.template),
        ("other conditions (events, pools, services)", old.wanted == new.wanted),
    ];
    keys.extend(others.into_iter().filter(|(_, same)| !same).map(|(words, _)| words.to_owned()));
    keys
}

/// Changed keys of `[keys]`, by name.
pub(super) fn keys(running: &Configured, wanted: &Configured) -> Vec<Change> {
    let (old, new) = (&running.settings.transfers.keys, &wanted.settings.transfers.keys);
    let mut names: Vec<&Name> = old.names().chain(new.names()).collect();
    names.sort_by_cached_key(|name| name.to_plain());
    names.dedup();
    let change = |name: &Name| {
        let plain = name.to_plain();
        Some(match (old.get(name), new.get(name)) {
            (Some(_), None) => Change::Removed(plain),
            (None, Some(_)) => Change::Added(plain),
            (Some(old), Some(new)) if old.algorithm() != new.algorithm() => {
                Change::Changed(plain, vec![format!("algorithm: {} -> {}", old.algorithm(), new.algorithm())])
            }
            (Some(old), Some(new)) if old != new => Change::Changed(plain, vec!["another secret".into()]),
            _ => return None,
        })
    };
    names.into_iter().filter_map(change).collect()
}

/// The changes to zones, including their transfer rights and secondaries.
pub(super) fn with_transfers(
    mut zones: Vec<Change>,
    running: &Configured,
    wanted: &Configured,
) -> Vec<Change> {
    let (old, new) = (&running.settings.transfers, &wanted.settings.transfers);
    if (&old.zones, &old.secondaries) == (&new.zones, &new.secondaries) {
        return zones;
    }
    let key = |name: &str| name.trim_end_matches('.').to_owned();
    let known: HashMap<String, usize> =
        zones.iter().enumerate().map(|(index, change)| (key(change.name()), index)).collect();
    let mut names: Vec<&Name> = [old, new]
        .into_iter()
        .flat_map(|transfers| transfers.zones.keys().chain(transfers.secondaries.keys()))
        .collect();
    names.sort_by_key(|name| name.to_plain());
    names.dedup();
    for name in names {
        let allowed = [old, new]
            .map(|transfers| transfers.zones.get(name).map_or_else(|| "nobody".into(), allowed_in_words));
        let secondaries = [old, new].map(|transfers| {
            let told = transfers.secondaries.get(name).filter(|told| !told.is_empty());
            told.map_or_else(none, |told| secondaries_in_words(told))
        });
        let details: Vec<String> = [("transfer", allowed), ("secondaries", secondaries)]
            .into_iter()
            .filter(|(_, [from, to])| from != to)
            .map(|(key, [from, to])| format!("{key}: {from} -> {to}"))
            .collect();
        if details.is_empty() {
            continue;
        }
        let plain = name.to_plain();
        match known.get(&key(&plain)).and_then(|index| zones.get_mut(*index)) {
            Some(Change::Changed(_, known)) => known.extend(details),
            // The report does not list the transfer rights of zones that were added or removed.
            Some(_) => {}
            None => zones.push(Change::Changed(plain, details)),
        }
    }
    zones
}

#[derive(Default)]
struct KeyChanges(Vec<Change>);

impl KeyChanges {
    fn changed(&mut self, key: &str, detail: String) {
        self.changed_in(key, vec![detail]);
    }

    fn changed_in(&mut self, key: &str, details: Vec<String>) {
        if !details.is_empty() {
            self.0.push(Change::Changed(key.into(), details));
        }
    }

    fn compare<T: PartialEq>(&mut self, key: &str, old: &T, new: &T, show: impl Fn(&T) -> String) {
        if old != new {
            self.changed(key, format!("{} -> {}", show(old), show(new)));
        }
    }

    fn settings(&mut self, old: &Settings, new: &Settings) {
        self.compare("udp_payload", &old.udp_payload, &new.udp_payload, ToString::to_string);
        self.compare("nsid", &old.nsid, &new.nsid, |nsid| {
            nsid.as_ref().map_or_else(none, |nsid| format!("\"{}\"", nsid.escape_ascii()))
        });
        self.compare("chaos", &old.chaos, &new.chaos, |chaos| match chaos {
            Chaos::Refuse => "refuse".into(),
            Chaos::Version => "version".into(),
        });
        let required = |settings: &Settings| settings.cookies.as_ref().map(|cookies| cookies.required);
        self.compare("cookies", &required(old), &required(new), |required| match required {
            None => "false".into(),
            Some(false) => "true".into(),
            Some(true) => "required".into(),
        });
        let secrets = |settings: &Settings| settings.cookies.as_ref().map(|cookies| cookies.secrets.clone());
        if let (Some(old), Some(new)) = (secrets(old), secrets(new))
            && old != new
        {
            self.changed("cookie_secret_file", "other secrets".into());
        }
        self.compare("client_subnet", &old.client_subnet, &new.client_subnet, |networks| {
            if networks.is_empty() { "nobody".into() } else { networks.to_string() }
        });
    }
}

fn rate_limit(limit: &RateLimit) -> String {
    let RateLimit { responses_per_second, all_responses_per_second, slip, networks_exempt } = limit;
    let all = all_responses_per_second.map_or_else(String::new, |all| format!(", {all} of all kinds"));
    let exempt =
        if networks_exempt.is_empty() { String::new() } else { format!(", except {networks_exempt}") };
    format!("{responses_per_second} a second{all}, slip {slip}{exempt}")
}

fn allowed_in_words(allowed: &Allowed) -> String {
    let mut keys: Vec<String> = allowed.keys.iter().map(|key| format!("key {}", key.to_plain())).collect();
    keys.sort();
    let networks = (!allowed.networks.is_empty()).then(|| allowed.networks.to_string());
    networks.into_iter().chain(keys).collect::<Vec<_>>().join(", ")
}

fn secondaries_in_words(secondaries: &[Secondary]) -> String {
    let shown = |Secondary { address, key }: &Secondary| match key {
        Some(key) => format!("{address} with key {}", key.to_plain()),
        None => address.to_string(),
    };
    secondaries.iter().map(shown).collect::<Vec<_>>().join(", ")
}

fn none() -> String {
    "none".into()
}

fn or_none(value: Option<&impl Display>) -> String {
    value.map_or_else(none, ToString::to_string)
}
