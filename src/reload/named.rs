//! The differences between two configurations in pools, services and zones, as text for people.
//!
//! Items are the same if they have the same name. Each is described by a list of facts: keys of the configuration
//! with their values. A value that may contain a secret is compared, but never shown. The facts come from patterns
//! without `..`, so that a new field cannot be forgotten here.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::check::{
    Check, ClientFiles, ExecProbe, Expected, GrpcProbe, HttpProbe, PoolSetup, Probe, ProxyProtocol, Talk,
    TcpProbe, Timing, TlsProbe, TlsSettings, Version,
};
use crate::duration::Shown;
use crate::fleet::{NamedFailover, NamedOverride, Reloaded};
use crate::name::Name;
use crate::pool::{Backend, MinHealthy, OverrideKind, Pool, PoolId, Require};
use crate::rules::{Conditions, RuleTable, RuleTableId};
use crate::service::{Answers, Persistence, Policy, Route, Rule, Service, Ttl, WhenDown};
use crate::settings::Settings;
use crate::zone::{Catalog, Zone};

/// The changes made by a reload, in configuration order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// The generation of the table that contains them.
    pub generation: u64,
    /// Pools, with backends and checks.
    pub pools: Vec<Change>,
    /// Services.
    pub services: Vec<Change>,
    /// Zones.
    pub zones: Vec<Change>,
    /// Overrides that have ended because their backends are gone.
    pub overrides: Vec<Change>,
    /// Whether other settings for answers have changed.
    pub settings: bool,
    /// Whether the numbers of rule tables have changed. The tables that are compiled from replaced files have the
    /// numbers of the last configuration, so the running ones must have them too.
    pub rule_tables: bool,
}

/// An item that a reload changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The item is new.
    Added(String),
    /// The item is gone.
    Removed(String),
    /// The item has changed. The details are for people: `backend b2: weight 1 -> 3`.
    Changed(String, Vec<String>),
}

impl Change {
    /// The name of the changed item.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Added(name) | Self::Removed(name) | Self::Changed(name, _) => name,
        }
    }
}

/// A key of the configuration and its value.
#[derive(Debug)]
struct Fact {
    key: &'static str,
    value: String,
    /// Whether the value may contain a password or a token; it is compared, but never shown.
    secret: bool,
}

fn fact(key: &'static str, value: impl Into<String>) -> Fact {
    Fact { key, value: value.into(), secret: false }
}

fn secret(key: &'static str, value: impl Into<String>) -> Fact {
    Fact { key, value: value.into(), secret: true }
}

/// The parts of a configuration that are compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compared<'a> {
    pub(super) settings: &'a Settings,
    pub(super) catalog: &'a Catalog,
    pub(super) services: &'a [&'a Service],
    pub(super) rule_tables: &'a [Arc<RuleTable>],
    pub(super) pools: &'a [&'a PoolSetup],
}

/// The changes from `before` to `now`. The caller adds the generation and the lost overrides.
pub(super) fn difference(before: Compared<'_>, now: Compared<'_>) -> Difference {
    let name = |pool: &&PoolSetup| pool.pool.name.clone();
    let service_name = |service: &&Service| service.name.to_plain();
    let zone_name = |zone: &Zone| {
        Name::from_wire(zone.apex_name()).map_or_else(|| "?".to_owned(), |name| name.to_plain())
    };
    Difference {
        generation: 0,
        pools: changes(before.pools, now.pools, name, |a, b| pool_changes(a, b)),
        services: changes(before.services, now.services, service_name, |a, b| {
            service_changes((a, &before), (b, &now))
        }),
        zones: changes(before.catalog.zones(), now.catalog.zones(), zone_name, zone_changes),
        overrides: Vec::new(),
        settings: before.settings != now.settings,
        rule_tables: numbers_of_tables(before.services) != numbers_of_tables(now.services),
    }
}

/// The rule table of each service that has one.
fn numbers_of_tables<'s>(services: &[&'s Service]) -> HashMap<&'s Name, RuleTableId> {
    services.iter().filter_map(|service| Some((&service.name, service.rule_table?))).collect()
}

impl Difference {
    /// Adds the result of the reload to the difference.
    pub(super) fn with(self, Reloaded { generation, lost, lost_failovers }: Reloaded) -> Self {
        let change = |NamedOverride { pool, backend, value, reason }: NamedOverride| {
            let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
            let what = match value.kind() {
                OverrideKind::State => "",
                OverrideKind::Weight => "weight ",
            };
            let detail = format!("{what}{value}{reason} has ended, because the backend is gone");
            Change::Changed(format!("{pool}/{backend}"), vec![detail])
        };
        let of_service = |NamedFailover { service, pool, reason }: NamedFailover| {
            let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
            let detail =
                format!("failover to {pool}{reason} has ended, because the service no longer has the pool");
            Change::Changed(service.to_string(), vec![detail])
        };
        let failovers = lost_failovers.into_iter().map(of_service);
        Self { generation, overrides: lost.into_iter().map(change).chain(failovers).collect(), ..self }
    }

    /// Whether nothing differs.
    pub(super) fn is_empty(&self) -> bool {
        let has_changed = self.settings || self.rule_tables;
        !has_changed && [&self.pools, &self.services, &self.zones].iter().all(|changes| changes.is_empty())
    }
}

/// Compares two lists by name. Added and changed items come in the new order, then removed items.
fn changes<T>(
    before: &[T],
    now: &[T],
    name: impl Fn(&T) -> String,
    details: impl Fn(&T, &T) -> Vec<String>,
) -> Vec<Change> {
    let old: HashMap<String, &T> = before.iter().map(|thing| (name(thing), thing)).collect();
    let kept: HashSet<String> = now.iter().map(&name).collect();
    let present = now.iter().filter_map(|thing| {
        let name = name(thing);
        match old.get(&name) {
            None => Some(Change::Added(name)),
            Some(old) => Some(details(old, thing))
                .filter(|details| !details.is_empty())
                .map(|details| Change::Changed(name, details)),
        }
    });
    let gone = before.iter().map(&name).filter(|name| !kept.contains(name)).map(Change::Removed);
    present.chain(gone).collect()
}

/// Describes each fact that differs as `weight 1 -> 3`, with the prefix `of`; a secret only as `send changed`.
fn fact_changes(of: &str, before: &[Fact], now: &[Fact]) -> Vec<String> {
    let value = |facts: &[Fact], key| {
        let known = facts.iter().find(|fact| fact.key == key);
        known.map_or_else(|| "none".to_owned(), |fact| fact.value.clone())
    };
    // If a check has another type, its other facts cannot be compared.
    let is_other_type = value(before, "type") != value(now, "type");
    let only_before = before.iter().filter(|fact| now.iter().all(|known| known.key != fact.key));
    now.iter()
        .chain(only_before)
        .filter(|fact| !is_other_type || fact.key == "type")
        .filter_map(|&Fact { key, secret, .. }| {
            let (from, to) = (value(before, key), value(now, key));
            let shown = || if secret { "changed".to_owned() } else { format!("{from} -> {to}") };
            (from != to).then(|| format!("{of}{key} {}", shown()))
        })
        .collect()
}

fn pool_changes(before: &PoolSetup, now: &PoolSetup) -> Vec<String> {
    if before == now {
        return Vec::new();
    }
    let mut details = fact_changes("", &pool_facts(before), &pool_facts(now));
    let backends = [&*before.pool.backends, &*now.pool.backends];
    details.extend(part_changes("backend", backends, |backend: &Backend| &backend.name, backend_facts));
    let checks = [&*before.checks, &*now.checks];
    details.extend(part_changes("check", checks, |check: &Check| &check.name, check_facts));
    if details.is_empty() {
        details.push("the order of its backends or checks".into());
    }
    details
}

fn part_changes<T>(
    kind: &str,
    [before, now]: [&[T]; 2],
    name: impl Fn(&T) -> &String,
    facts: impl Fn(&T) -> Vec<Fact>,
) -> Vec<String>
where
    T: PartialEq,
{
    let old: HashMap<&String, &T> = before.iter().map(|part| (name(part), part)).collect();
    let kept: HashSet<&String> = now.iter().map(&name).collect();
    let mut details = Vec::new();
    for part in now {
        let name = name(part);
        match old.get(name) {
            None => details.push(format!("{kind} {name} added")),
            Some(old) if *old != part => {
                details.extend(fact_changes(&format!("{kind} {name}: "), &facts(old), &facts(part)));
            }
            Some(_) => {}
        }
    }
    let gone = before.iter().map(&name).filter(|name| !kept.contains(name));
    details.extend(gone.map(|name| format!("{kind} {name} removed")));
    details
}

fn pool_facts(setup: &PoolSetup) -> Vec<Fact> {
    let PoolSetup { pool, checks: _, require } = setup;
    let Pool { name: _, min_healthy, slow_start, suspect_self, backends: _ } = pool;
    vec![
        fact(
            "min_healthy",
            match min_healthy {
                MinHealthy::Count(count) => count.to_string(),
                MinHealthy::Percent(percent) => format!("{percent}%"),
            },
        ),
        fact("slow_start", Shown(*slow_start).to_string()),
        fact("suspect_self", suspect_self.map_or_else(|| "off".into(), |percent| format!("{percent}%"))),
        fact(
            "require",
            match require {
                Require::All => "all".into(),
                Require::AtLeast(count) => count.to_string(),
            },
        ),
    ]
}

fn backend_facts(backend: &Backend) -> Vec<Fact> {
    let Backend { name: _, addresses, weight, enabled, site, port, host, check_address } = backend;
    vec![
        fact("addresses", list(addresses)),
        fact("weight", weight.to_string()),
        fact("enabled", enabled.to_string()),
        fact("site", or_none(site.as_ref())),
        fact("port", or_none(*port)),
        fact("host", or_none(host.as_ref())),
        fact("check_address", or_none(*check_address)),
    ]
}

fn check_facts(check: &Check) -> Vec<Fact> {
    let Check { name: _, probe, timing, critical, observe_only } = check;
    let Timing { interval, timeout, rise, fall, recheck, interval_down, damping } = timing;
    let mut facts = vec![
        fact("type", probe.kind().to_owned()),
        fact("interval", Shown(*interval).to_string()),
        fact("timeout", Shown(*timeout).to_string()),
        fact("rise", rise.to_string()),
        fact("fall", fall.to_string()),
        fact("recheck", Shown(*recheck).to_string()),
        fact("interval_down", Shown(*interval_down).to_string()),
        fact("damping", damping.to_string()),
        fact("critical", critical.to_string()),
        fact("observe_only", observe_only.to_string()),
    ];
    match probe {
        Probe::Tcp(TcpProbe { port, talk, proxy }) => {
            facts.push(fact("port", port.to_string()));
            facts.push(proxy_fact(*proxy));
            facts.extend(talk_facts(talk));
        }
        Probe::Tls(TlsProbe { port, tls, talk, proxy }) => {
            facts.push(fact("port", port.to_string()));
            facts.push(proxy_fact(*proxy));
            facts.extend(tls_facts(Some(tls)));
            facts.extend(talk_facts(talk));
        }
        Probe::Http(probe) => facts.extend(http_facts(probe)),
        Probe::Grpc(GrpcProbe { port, tls, host, service, headers, proxy }) => {
            facts.push(fact("port", port.to_string()));
            facts.push(proxy_fact(*proxy));
            facts.push(secret("headers", format!("{headers:?}")));
            facts.push(fact("host", or_none(host.as_ref())));
            facts.push(fact("service", format!("{service:?}")));
            facts.extend(tls_facts(tls.as_ref()));
        }
        Probe::Exec(ExecProbe { program, arguments, port }) => {
            facts.push(fact("program", program.display().to_string()));
            facts.push(secret("arguments", format!("{arguments:?}")));
            facts.push(fact("port", or_none(*port)));
        }
    }
    facts
}

fn http_facts(probe: &HttpProbe) -> Vec<Fact> {
    let HttpProbe {
        port,
        tls,
        version,
        method,
        host,
        path,
        headers,
        status,
        drain_status,
        body,
        body_without,
        body_limit,
        weight_header,
        proxy,
    } = probe;
    let version = match version {
        Version::Default => "default",
        Version::Http1 => "1.1",
        Version::Http2 => "2",
    };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut facts = vec![
        fact("port", port.to_string()),
        fact("http_version", version.to_owned()),
        fact("method", method.clone()),
        fact("host", or_none(host.as_ref())),
        fact("path", path),
        secret("query", query),
        secret("headers", format!("{headers:?}")),
        fact("status", ranges(status)),
        fact("drain_status", ranges(drain_status)),
        secret("body", format!("{body_without} {}", expected(body.as_ref()))),
        fact("body_limit", format!("{body_limit} bytes")),
        fact("weight_header", or_none(weight_header.as_ref())),
        proxy_fact(*proxy),
    ];
    facts.extend(tls_facts(tls.as_ref()));
    facts
}

fn tls_facts(tls: Option<&TlsSettings>) -> Vec<Fact> {
    let Some(TlsSettings { name, insecure, ca_file, min_days_left, client }) = tls else {
        return vec![fact("tls", "off")];
    };
    let of_client =
        |path: fn(&ClientFiles) -> &PathBuf| or_none(client.as_ref().map(|files| path(files).display()));
    vec![
        fact("tls", "on"),
        fact("tls.name", or_none(name.as_ref())),
        fact("tls.verify", (!insecure).to_string()),
        fact("tls.ca_file", or_none(ca_file.as_ref().map(|path| path.display()))),
        fact("tls.min_days_left", or_none(*min_days_left)),
        fact("tls.client_certificate", of_client(|files| &files.certificate)),
        fact("tls.client_key", of_client(|files| &files.key)),
    ]
}

fn proxy_fact(proxy: Option<ProxyProtocol>) -> Fact {
    let version = proxy.map(|version| match version {
        ProxyProtocol::V1 => "v1",
        ProxyProtocol::V2 => "v2",
    });
    fact("proxy_protocol", or_none(version))
}

fn talk_facts(talk: &Talk) -> [Fact; 2] {
    let Talk { send, expect } = talk;
    let sent = send.as_ref().map(|bytes| bytes.escape_ascii());
    [secret("send", or_none(sent)), secret("expect", expected(expect.as_ref()))]
}

fn shown_ttl(ttl: Ttl) -> String {
    let [min, max] = [ttl.min, ttl.max].map(|seconds| Shown(Duration::from_secs(seconds.into())));
    if ttl.is_fixed() { max.to_string() } else { format!("{min} to {max}") }
}

fn service_changes(
    (before, all_before): (&Service, &Compared<'_>),
    (now, all_now): (&Service, &Compared<'_>),
) -> Vec<String> {
    let mut details =
        fact_changes("", &service_facts(before, all_before.pools), &service_facts(now, all_now.pools));
    for (number, pair) in (1..).zip(before.rules.iter().zip(&now.rules)) {
        let (from, to) = (rule_facts(pair.0, all_before.pools), rule_facts(pair.1, all_now.pools));
        details.extend(fact_changes(&format!("rule {number}: "), &from, &to));
    }
    let (old, new) = (before.rules.len(), now.rules.len());
    details.extend((old + 1..=new).map(|number| format!("rule {number} added")));
    details.extend((new + 1..=old).map(|number| format!("rule {number} removed")));
    let table = |service: &Service, all: &Compared<'_>| {
        service.rule_table.and_then(|id| all.rule_tables.get(id.index())).cloned()
    };
    if details.is_empty() && table(before, all_before) != table(now, all_now) {
        details.push("the networks in the files of its rules, or the geographic databases".into());
    }
    details
}

fn service_facts(service: &Service, pools: &[&PoolSetup]) -> Vec<Fact> {
    let Service { name: _, default, rules: _, rule_table: _, policy, spread, failback } = service;
    let mut facts = route_facts(default, pools);
    facts.push(fact("policy", policy.as_str()));
    facts.push(fact(
        "persistence",
        match policy {
            Policy::Persistent(Persistence { ipv4, ipv6 }) => format!("/{ipv4} and /{ipv6}"),
            Policy::Weighted | Policy::All => "none".into(),
        },
    ));
    facts.push(fact("spread", spread.as_str()));
    facts.push(fact("failback", failback.to_string()));
    facts
}

fn rule_facts(rule: &Rule, pools: &[&PoolSetup]) -> Vec<Fact> {
    let Rule { clients, networks_file, route } = rule;
    let Conditions { networks, countries, continents, asns } = clients;
    let mut facts = route_facts(route, pools);
    let networks = networks.as_ref().map_or_else(|| "any".into(), |networks| list(networks));
    facts.push(fact("networks", networks));
    facts.push(fact("networks_file", or_none(networks_file.as_ref().map(|file| file.display()))));
    facts.push(fact("countries", list_or_any(countries)));
    facts.push(fact("continents", list_or_any(continents)));
    facts.push(fact("asns", list_or_any(asns)));
    facts
}

/// The accepted values of a condition.
fn list_or_any<T: Display>(values: &[T]) -> String {
    if values.is_empty() { "any".to_owned() } else { list(values) }
}

fn route_facts(route: &Route, pools: &[&PoolSetup]) -> Vec<Fact> {
    let Route { tiers, answers, ttl, when_down } = route;
    let pool_name = |id: &PoolId| pools.get(id.index()).map_or("?", |setup| setup.pool.name.as_str());
    let tiers: Vec<&str> = tiers.iter().map(pool_name).collect();
    vec![
        fact("pools", list(&tiers)),
        fact(
            "answers",
            match answers {
                Answers::AtMost(count) => count.to_string(),
                Answers::All => "all".into(),
            },
        ),
        fact("ttl", shown_ttl(*ttl)),
        fact(
            "when_down",
            match when_down {
                WhenDown::FailOpen => "fail-open".into(),
                WhenDown::NoData => "nodata".into(),
                WhenDown::ServFail => "servfail".into(),
                WhenDown::Addresses { ipv4, ipv6 } => {
                    let all =
                        ipv4.iter().map(ToString::to_string).chain(ipv6.iter().map(ToString::to_string));
                    list(&all.collect::<Vec<_>>())
                }
            },
        ),
    ]
}

fn zone_changes(before: &Zone, now: &Zone) -> Vec<String> {
    if is_same_zone(before, now) {
        return Vec::new();
    }
    let [from, to] = [before, now].map(|zone| or_none(zone.serial()));
    let records = match (before.records(), now.records()) {
        (from, to) if from == to => format!("{to} records"),
        (from, to) => format!("records {from} -> {to}"),
    };
    if from == to {
        vec![format!("{records}; its content has changed, though its serial is still {to}")]
    } else {
        vec![format!("serial {from} -> {to}"), records]
    }
}

/// Whether the same names have the same records. Names without records are ignored: they exist because of other
/// names, or of services, which are reported separately.
fn is_same_zone(before: &Zone, now: &Zone) -> bool {
    before.records() == now.records()
        && now.nodes().all(|node| {
            let old = before.node(node.name());
            old.map_or_else(|| node.rrsets().next().is_none(), |old| old.rrsets().eq(node.rrsets()))
        })
}

fn or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| "none".into(), |value| value.to_string())
}

fn list(values: &[impl Display]) -> String {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    if values.is_empty() { "none".into() } else { values.join(", ") }
}

fn ranges(ranges: &[RangeInclusive<u16>]) -> String {
    let shown = ranges.iter().map(|range| match (range.start(), range.end()) {
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start}-{end}"),
    });
    list(&shown.collect::<Vec<_>>())
}

fn expected(expected: Option<&Expected>) -> String {
    or_none(expected.map(|expected| match expected {
        Expected::Text(text) => format!("contains \"{}\"", text.escape_ascii()),
        Expected::Pattern(pattern) => format!("matches \"{}\"", pattern.as_str()),
    }))
}
