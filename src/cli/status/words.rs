//! The words and figures of a status, and the order in which it tells of trouble.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::cli::status::document::{
    RemoteAddress, RemoteBackend, RemoteCheck, RemoteFailover, RemoteOverride, RemotePool, RemoteService,
    RemoteSuspicion, RemoteTier, RemoteWaiting, RemoteWaitingTier,
};
use crate::duration::{Shown, time_of_day};
use crate::fleet::CERTIFICATE_SOON;

/// How urgent a line is; the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Clients get less than they should.
    Trouble,
    /// It will be trouble, or an operator has made it so.
    Notice,
    /// Nothing to tell.
    Fine,
}

/// Answers so far, by pool and backend.
pub(super) type Counts = HashMap<(String, String), u64>;

pub(super) fn counts(pools: &[RemotePool]) -> Counts {
    let of_pool = |pool: &RemotePool| {
        let name = pool.name.clone();
        let backends = pool.backends.iter();
        backends
            .map(move |backend| ((name.clone(), backend.name.clone()), backend.answers))
            .collect::<Vec<_>>()
    };
    pools.iter().flat_map(of_pool).collect()
}

/// The state of a service in a word, and how urgent it is.
pub(super) fn of_service(service: &RemoteService) -> (String, Urgency) {
    if service.down && service.fail_open {
        return ("fails open".into(), Urgency::Trouble);
    }
    if service.down {
        return ("down".into(), Urgency::Trouble);
    }
    let RemoteTier { ipv4, ipv6 } = &service.tier;
    let tier = |pool: &String| service.pools.iter().position(|known| known == pool);
    match [ipv4, ipv6].into_iter().flatten().filter_map(tier).max() {
        Some(later) if later > 0 => (format!("tier {}", later + 1), Urgency::Notice),
        Some(_) if service.failover.is_some() => ("up".into(), Urgency::Notice),
        Some(_) => ("up".into(), Urgency::Fine),
        None => ("no address".into(), Urgency::Notice),
    }
}

/// Notes on a service beside its state, one sentence each.
pub(super) fn notes_of_service(service: &RemoteService, now: Timestamp) -> Vec<String> {
    let failover = service.failover.as_ref().map(|RemoteFailover { pool, reason, by, until }| {
        lasting(&format!("failover to {pool}"), *until, by.as_deref(), reason.as_deref(), now)
    });
    let waiting = |waiting: &RemoteWaitingTier| {
        let RemoteWaitingTier { pool, until } = waiting;
        match until {
            Some(until) => {
                let (at, left) = (time_of_day(*until, now), age(now, *until));
                format!("{pool} is usable again: it answers from {at} (in {left}) if it stays usable")
            }
            None => format!("{pool} is usable again, and is not taken yet"),
        }
    };
    let RemoteWaiting { ipv4, ipv6 } = &service.waiting;
    let other = ipv6.as_ref().filter(|_| ipv4 != ipv6);
    failover.into_iter().chain(ipv4.iter().chain(other).map(waiting)).collect()
}

/// The pool that answers in a family.
pub(super) fn tier(pool: Option<&String>) -> &str {
    pool.map_or("-", |pool| pool)
}

pub(super) fn of_pool(pool: &RemotePool) -> Urgency {
    match (pool.usable, &*pool.state) {
        (false, _) => Urgency::Trouble,
        (true, "healthy") if pool.suspected.is_none() => Urgency::Fine,
        _ => Urgency::Notice,
    }
}

/// `2 of 3`: the healthy ones of the addresses that are enabled and not disabled.
pub(super) fn healthy(pool: &RemotePool) -> String {
    let is_counted = |backend: &&RemoteBackend| backend.enabled && !is_overridden(backend, "disabled");
    let addresses = || pool.backends.iter().filter(is_counted).flat_map(|backend| &backend.addresses);
    let healthy = addresses().filter(|address| address.state == "healthy").count();
    format!("{healthy} of {}", addresses().count())
}

fn is_overridden(backend: &RemoteBackend, state: &str) -> bool {
    backend.r#override.as_ref().is_some_and(|kept| kept.state.as_deref() == Some(state))
}

/// The state of a backend in a few words, and how urgent it is.
pub(super) fn of_backend(backend: &RemoteBackend, now: Timestamp) -> (String, Urgency) {
    if !backend.enabled {
        return ("not enabled".into(), Urgency::Fine);
    }
    let over = backend.r#override.as_ref().and_then(|kept| kept.state.as_deref());
    let of_checks = of_checks(&backend.addresses);
    let is_void = backend.addresses.iter().any(|address| address.checks.iter().any(RemoteCheck::is_void));
    let is_held = backend.addresses.iter().any(|address| address.held);
    let state = match over {
        Some(over) => format!("{over} ({of_checks})"),
        None if is_held => "held".into(),
        None => of_checks.clone(),
    };
    let state = if is_void { format!("{state}, no verdict") } else { state };
    let is_notable = over.is_some()
        || is_void
        || backend.weight_override.is_some()
        || backend
            .addresses
            .iter()
            .any(|address| address.percent < 100 || certificate(address, now).is_some());
    let urgency = match (&*of_checks, over) {
        (_, Some("up")) | ("healthy", _) if is_notable => Urgency::Notice,
        ("healthy", _) => Urgency::Fine,
        // An operator knows that it is out.
        (_, Some(_)) => Urgency::Notice,
        _ => Urgency::Trouble,
    };
    (state, urgency)
}

/// The state of the addresses in one word, if they agree.
fn of_checks(addresses: &[RemoteAddress]) -> String {
    let first = addresses.first().map_or("unknown", |address| &address.state);
    if addresses.iter().all(|address| address.state == first) {
        return first.to_owned();
    }
    let healthy = addresses.iter().filter(|address| address.state == "healthy").count();
    format!("{healthy} of {} healthy", addresses.len())
}

/// Since when the backend has its state: the last change of an address.
pub(super) fn since(backend: &RemoteBackend, now: Timestamp) -> String {
    let last = backend.addresses.iter().filter_map(|address| address.since).max();
    last.map_or_else(String::new, |since| age(since, now))
}

/// `3`, or `30% of 3`.
pub(super) fn weight(backend: &RemoteBackend) -> String {
    match backend.weight_override.as_ref().and_then(|kept| kept.percent) {
        Some(percent) => format!("{percent}% of {}", backend.weight),
        None => backend.weight.to_string(),
    }
}

/// The wanted shares: one if all families and ways of drawing agree.
pub(super) fn wanted(backend: &RemoteBackend) -> String {
    let mut shares: Vec<String> = backend.shares.iter().map(|share| percent(share.wanted)).collect();
    shares.dedup();
    shares.join(", ")
}

/// The part of the answers of the pool that contained the backend, among all that its backends got; empty without
/// answers. `before` are earlier counts, to leave out.
pub(super) fn given(pool: &RemotePool, backend: &RemoteBackend, before: Option<&Counts>) -> String {
    let new = |backend: &RemoteBackend| {
        let known = before.and_then(|before| before.get(&(pool.name.clone(), backend.name.clone())));
        backend.answers.saturating_sub(known.copied().unwrap_or(0))
    };
    let total: u64 = pool.backends.iter().map(new).sum();
    #[allow(clippy::cast_precision_loss, reason = "rounded for display")]
    let share = |count: u64| percent(count as f64 / total as f64);
    if total == 0 { String::new() } else { share(new(backend)) }
}

/// A probability in percent, with one decimal.
fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// Notes on a backend beside its state, one sentence each.
pub(super) fn notes(backend: &RemoteBackend, now: Timestamp) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(backend.r#override.as_ref().map(|kept| of_override(kept, now)));
    notes.extend(backend.weight_override.as_ref().map(|kept| of_override(kept, now)));
    notes.extend(backend.safe_at.map(|at| {
        if at > now {
            format!("clients may use its addresses until {}", time_of_day(at, now))
        } else {
            "no client uses its addresses any more, if clients respect TTLs".to_owned()
        }
    }));
    if !backend.enabled {
        return notes;
    }
    let several = backend.addresses.len() > 1;
    for address in &backend.addresses {
        let of = if several { format!("{}: ", address.ip) } else { String::new() };
        if address.held {
            let until = address
                .held_until
                .map_or_else(String::new, |until| format!(" until {}", time_of_day(until, now)));
            notes.push(format!("{of}passes its checks, and is held back{until}"));
        }
        for check in address.checks.iter().filter(|check| check.state != "healthy") {
            let last = check.last.as_ref().filter(|last| last.word != "passed" && !check.is_void());
            let detail = last.map_or_else(String::new, |last| format!(": {}", last.detail));
            notes.push(format!("{of}{} is {}{detail}", check.name, check.state));
        }
        notes.extend(
            address
                .checks
                .iter()
                .filter_map(|check| no_verdict(check, now))
                .map(|note| format!("{of}{note}")),
        );
        if address.percent < 100 {
            notes.push(format!("{of}slow start or load leave {}% of its weight", address.percent));
        }
        notes.extend(certificate(address, now).map(|note| format!("{of}{note}")));
    }
    notes
}

/// The last outcomes of a backend that has nothing else to tell, in one sentence.
pub(super) fn last_outcomes(backend: &RemoteBackend) -> Option<String> {
    let checks = backend.addresses.iter().flat_map(|address| &address.checks);
    let told = checks.filter_map(|check| {
        Some(format!("{} is {}: {}", check.name, check.state, check.last.as_ref()?.detail))
    });
    let mut told: Vec<String> = told.collect();
    told.dedup();
    (!told.is_empty()).then(|| told.join("; "))
}

/// `http-1 has no verdict since 12:00:00 UTC (12s ago): Network is unreachable`.
fn no_verdict(check: &RemoteCheck, now: Timestamp) -> Option<String> {
    let last = check.last.as_ref().filter(|_| check.is_void())?;
    let since = check.void_since.map_or_else(String::new, |since| {
        format!(" since {} ({} ago)", time_of_day(since, now), age(since, now))
    });
    let detail = last.detail.strip_prefix("no verdict: ").unwrap_or(&last.detail);
    Some(format!("{} has no verdict{since}: {detail}", check.name))
}

fn of_override(kept: &RemoteOverride, now: Timestamp) -> String {
    let value = match (&kept.state, kept.percent) {
        (Some(state), _) => state.clone(),
        (None, percent) => format!("{}% of its weight", percent.unwrap_or(100)),
    };
    lasting(&value, kept.until, kept.by.as_deref(), kept.reason.as_deref(), now)
}

/// `drain until 12:00:00 UTC, by 192.0.2.1:4711 with the token: kernel`.
fn lasting(
    what: &str,
    until: Option<Timestamp>,
    by: Option<&str>,
    reason: Option<&str>,
    now: Timestamp,
) -> String {
    let until = match until {
        Some(until) => format!("until {} (in {})", time_of_day(until, now), age(now, until)),
        None => "without an end".to_owned(),
    };
    let by = by.map_or_else(String::new, |by| format!(", by {by}"));
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{what} {until}{by}{reason}")
}

/// The certificate of an address that expires first, if that is soon.
fn certificate(address: &RemoteAddress, now: Timestamp) -> Option<String> {
    let checks = address.checks.iter();
    let (expires, check) =
        checks.filter_map(|check| Some((check.certificate_expires?, check))).min_by_key(|(at, _)| *at)?;
    let left = Duration::try_from(expires.duration_since(now)).unwrap_or_default();
    if left >= CERTIFICATE_SOON {
        return None;
    }
    let expires = if expires > now {
        format!("expires in {}", age(now, expires))
    } else {
        format!("has expired {} ago", age(expires, now))
    };
    Some(format!("the certificate that {} sees {expires}", check.name))
}

pub(super) fn suspicion(what: &str, suspected: &RemoteSuspicion, now: Timestamp) -> String {
    let since = suspected.since.map_or_else(String::new, |since| format!(" since {}", age(since, now)));
    format!("{what}{since}: {}", suspected.reason)
}

/// The time between two moments, with its two largest units.
pub(super) fn age(from: Timestamp, to: Timestamp) -> String {
    let seconds = Duration::try_from(to.duration_since(from)).unwrap_or_default().as_secs();
    let rounded = match seconds {
        0..3_600 => seconds,
        3_600..86_400 => seconds - seconds % 60,
        _ => seconds - seconds % 3_600,
    };
    let (days, rest) = (rounded / 86_400, rounded % 86_400);
    let rest = Shown(Duration::from_secs(rest)).to_string();
    match (days, &*rest) {
        (0, rest) => rest.to_owned(),
        (days, "0s") => format!("{days}d"),
        (days, rest) => format!("{days}d{rest}"),
    }
}
