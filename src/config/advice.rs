//! Warnings, with figures, about valid settings that may not do what their author wants.
//!
//! There are few. Each warning names a promise that this configuration cannot keep.

mod persistent;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::check::{Check, PoolSetup, Probe, Timing};
use crate::config::check::ReadCheck;
use crate::config::pool::ReadPool;
use crate::config::service::{ReadRoute, ReadService};
use crate::config::source::At;
use crate::duration::Shown;
use crate::name::Name;
use crate::pool::{Backend, Family, MinHealthy, Pool, PoolId, Require};

/// Warns about pools and services without faults. `complete` says that everything was read without errors.
pub(super) fn give(pools: &[ReadPool<'_>], services: &[ReadService<'_>], complete: bool) {
    for pool in pools.iter().filter(|pool| !pool.faulty) {
        about_pool(pool);
        about_checks(pool);
        about_check_address(pool);
        about_hosts(pool);
    }
    for service in services.iter().filter(|service| !service.faulty) {
        let name = &service.service.name;
        for route in service.routes() {
            let tiers: Vec<&ReadPool<'_>> =
                route.route.tiers.iter().filter_map(|id| pools.get(id.index())).collect();
            if tiers.iter().all(|pool| !pool.faulty) {
                about_ttl(name, &route, &tiers);
                about_families(name, &route, &tiers);
                persistent::about_persistence(service, &tiers);
            }
        }
    }
    if complete {
        let used: HashSet<PoolId> = services.iter().flat_map(|service| service.service.pools()).collect();
        for (pool, id) in pools.iter().zip(0..) {
            if !used.contains(&PoolId(id)) {
                let message = format!("no service uses pool `{}`", pool.setup.pool.name);
                pool.at.warning(message, "its backends are probed, but never answered".to_owned());
            }
        }
    }
}

/// The longest time until a backend that stops answering is unhealthy, without jitter: it stops just after a probe, and
/// each further probe takes its whole time limit.
pub(super) fn detection(timing: &Timing) -> Duration {
    let again = u32::from(timing.fall.saturating_sub(1));
    timing.interval + timing.timeout + (timing.recheck + timing.timeout) * again
}

/// The detection time of a pool: that of its slowest deciding check, because the other checks may have to agree. None
/// if no check decides.
fn detection_of(pool: &ReadPool<'_>) -> Option<Duration> {
    pool.setup.checks.iter().filter(|check| !check.observe_only).map(|check| detection(&check.timing)).max()
}

fn about_pool(read: &ReadPool<'_>) {
    let pool = &read.setup.pool;
    let name = &pool.name;
    if pool.backends.iter().all(|backend| !backend.enabled) {
        read.at.warning(format!("no backend of pool `{name}` is enabled: it is never usable"), None);
        return;
    }
    if pool.backends.iter().filter(|backend| backend.enabled).all(|backend| backend.weight == 0) {
        let hint = "give at least one backend a weight of 1".to_owned();
        read.at.warning(format!("all weights of pool `{name}` are 0: it is never usable"), hint);
        return;
    }
    let MinHealthy::Count(minimum) = pool.min_healthy else { return };
    for family in Family::ALL {
        let count = weighty(pool, family).count();
        if (1..minimum as usize).contains(&count) {
            let message = format!(
                "`min_healthy` of pool `{name}` is {minimum}, and it has {count} {} with a weight: it is never \
                 usable for {} queries",
                addresses(family, count),
                record_type(family),
            );
            read.at.warning(message, None);
        }
    }
}

/// Checks that may decide differently, or cost more, than their author expects.
fn about_checks(read: &ReadPool<'_>) {
    let PoolSetup { pool, require, .. } = &read.setup;
    let name = &pool.name;
    let deciding = read.checks.iter().filter(|read| !read.check.observe_only).count();
    if deciding == 0 && !read.checks.is_empty() {
        let message =
            format!("every check of pool `{name}` is `observe_only`: none decides, so it is always healthy");
        read.at.warning(message, None);
    }
    for ReadCheck { at, critical_at, unverified_at, check, .. } in &read.checks {
        if let Some(critical_at) = critical_at {
            let reason = match (deciding, require) {
                (1, _) => Some("no other check decides"),
                (_, Require::All) => Some("with `require = \"all\"` each failure is enough"),
                _ => None,
            };
            if let Some(reason) = reason {
                let message = format!(
                    "`critical` changes nothing for check `{}` of pool `{name}`: {reason}",
                    check.name
                );
                critical_at.warning(message, None);
            }
        }
        if let Some(unverified_at) = unverified_at {
            unverified_at.warning(
                "with `verify = false` any server that answers at a backend's address passes for the backend",
                "to trust an authority of your own, name it in `tls.ca_file`".to_owned(),
            );
        }
        about_host(read, *at, check);
        let fastest = check.timing.interval.min(check.timing.interval_down);
        if matches!(check.probe, Probe::Exec(_)) && fastest < Duration::from_secs(1) {
            let addresses: usize = pool.backends.iter().map(|backend| backend.addresses.len()).sum();
            at.warning(
                format!(
                    "check `{}` of pool `{name}` starts a program every {} for each of {addresses} addresses",
                    check.name,
                    Shown(fastest),
                ),
                "set its intervals to \"1s\" or more".to_owned(),
            );
        }
    }
}

/// Only some kinds of check send and verify a host.
fn about_hosts(read: &ReadPool<'_>) {
    let pool = &read.setup.pool;
    let takes_host = |read: &ReadCheck<'_>| !matches!(read.check.probe, Probe::Tcp(_) | Probe::Exec(_));
    if let Some(backend) = pool.backends.iter().find(|backend| backend.host.is_some())
        && !read.checks.iter().any(takes_host)
    {
        let message =
            format!("no check of pool `{}` uses the `host` of backend `{}`", pool.name, backend.name);
        read.at.warning(message, "http, https, tls and grpc checks do".to_owned());
    }
}

/// A URL with an address looks as if that address were probed, but each backend is.
fn about_host(read: &ReadPool<'_>, at: At<'_>, check: &Check) {
    let host = match &check.probe {
        Probe::Http(http) => http.host.as_deref(),
        Probe::Grpc(grpc) => grpc.host.as_deref(),
        Probe::Tcp(_) | Probe::Tls(_) | Probe::Exec(_) => None,
    };
    let Some((host, address)) = host.and_then(|host| Some((host, address_in(host)?))) else { return };
    let pool = &read.setup.pool;
    let is_probed_at =
        |backend: &Backend| backend.addresses.contains(&address) || backend.check_address == Some(address);
    if !pool.backends.iter().any(is_probed_at) {
        let message = format!(
            "the host `{host}` of check `{}` is not an address of a backend of pool `{}`: it is only sent as the \
             host of the request, and each backend is probed at its own address",
            check.name, pool.name,
        );
        at.warning(message, "leave the address out, as in \"http://:8080/\"".to_owned());
    }
}

/// The address in a host with or without a port, if it is an address.
fn address_in(host: &str) -> Option<IpAddr> {
    let with_port = host.parse::<SocketAddr>().map(|address| address.ip());
    with_port.or_else(|_| host.trim_matches(['[', ']']).parse()).ok()
}

/// Backends that are probed at the same address change state together. This is rarely intended.
fn about_check_address(read: &ReadPool<'_>) {
    let pool = &read.setup.pool;
    let place = |backend: &Backend| Some((backend.check_address?, backend.port));
    let mut places = pool.backends.iter().map(place);
    if pool.backends.len() < 2 || read.checks.is_empty() {
        return;
    }
    if let Some(Some(first)) = places.next()
        && places.all(|place| place == Some(first))
    {
        let message = format!(
            "all {} backends of pool `{}` are probed at {}: they are healthy and unhealthy together",
            pool.backends.len(),
            pool.name,
            first.0,
        );
        read.at.warning(message, None);
    }
}

/// After a backend fails, clients use it for the detection time plus the TTL of cached answers. Fast checks are useless
/// if the TTL is more than double the detection time.
fn about_ttl(name: &Name, read: &ReadRoute<'_, '_>, tiers: &[&ReadPool<'_>]) {
    let ttl = read.route.ttl.max;
    if ttl == 0 {
        let message =
            format!("`ttl` of `{name}` is 0: every connection of every client becomes a query here");
        read.ttl_at.warning(message, None);
    }
    let slowest = tiers
        .iter()
        .filter_map(|tier| Some((detection_of(tier)?, &tier.setup.pool.name)))
        .max_by_key(|(detection, _)| *detection);
    let Some((detection, pool)) = slowest else { return };
    // A TTL is a whole number of seconds.
    let longest = (detection * 2).as_secs().max(1);
    if u64::from(ttl) > longest {
        read.ttl_at.warning(
            format!(
                "clients keep an answer of `{name}` for {}, but a silent backend of pool `{pool}` is found after {} \
                 at most: the TTL is most of an outage",
                Shown(Duration::from_secs(u64::from(ttl))),
                Shown(detection),
            ),
            format!("set `ttl` to \"{longest}s\" or less"),
        );
    }
}

/// If a standby has no addresses of a family, answers lose that family when it takes over.
fn about_families(name: &Name, read: &ReadRoute<'_, '_>, tiers: &[&ReadPool<'_>]) {
    let Some((first, later)) = tiers.split_first() else { return };
    for family in Family::ALL {
        let has = |tier: &ReadPool<'_>| weighty(&tier.setup.pool, family).next().is_some();
        if let Some(without) = later.iter().find(|tier| has(first) && !has(tier)) {
            read.at.warning(
                format!(
                    "pool `{}` of service `{name}` has {}, and its later tier `{}` has none: when that answers, {} \
                     queries get no address",
                    first.setup.pool.name,
                    addresses(family, 2),
                    without.setup.pool.name,
                    record_type(family),
                ),
                None,
            );
        }
    }
}

/// The addresses of a family that can be selected, each as its backend.
pub(super) fn weighty(pool: &Pool, family: Family) -> impl Iterator<Item = &Backend> {
    pool.backends.iter().filter(|backend| backend.enabled && backend.weight > 0).flat_map(move |backend| {
        let here = backend.addresses.iter().filter(move |address| Family::of(**address) == family);
        here.map(move |_| backend)
    })
}

pub(super) fn addresses(family: Family, count: usize) -> &'static str {
    match (family, count) {
        (Family::Ipv4, 1) => "IPv4 address",
        (Family::Ipv4, _) => "IPv4 addresses",
        (Family::Ipv6, 1) => "IPv6 address",
        (Family::Ipv6, _) => "IPv6 addresses",
    }
}

fn record_type(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "A",
        Family::Ipv6 => "AAAA",
    }
}
