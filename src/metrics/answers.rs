//! Figures of the answer table: how services and pools answer now, and how often they have.

use std::fmt;

use crate::metrics::text::{TextEncoder, flag};
use crate::pool::{Family, PoolId};
use crate::service::{Failback, ServiceId};
use crate::table::{Decision, PoolShares, RouteView, ServiceView, Table};

/// Writes the figures of a table.
pub(super) fn write(text: &mut TextEncoder<'_>, table: &Table) -> fmt::Result {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    text.gauge("build_info", "Always 1; the version is a label.")?.series(&version, 1)?;
    text.gauge("table_generation", "Number of the published answer table.")?.series(&[], table.generation)?;
    let help = "Answers for a service, by pool; an empty pool label is the all-down answer.";
    let mut answers = text.counter("service_answers_total", help)?;
    for (id, ServiceView { service, pools, .. }) in (0..).map(ServiceId).zip(table.services().iter()) {
        let name = service.name.to_plain();
        let pools = pools.iter().map(|pool| table.pool(*pool).map_or("", |view| &*view.name));
        for (column, pool) in pools.chain([""]).enumerate() {
            let count = table.answers().of_service(id, column);
            answers.series(&[("service", &name), ("pool", pool)], count)?;
        }
    }
    let help = "1 while no tier is usable and answers are drawn from all backends of the first tier that has addresses.";
    let mut fail_open = text.gauge("service_fail_open", help)?;
    for view in table.services().iter() {
        let mut decisions =
            view.routes().flat_map(|route| Family::ALL.map(|family| table.decision(route, family)));
        let fails_open = decisions.any(|decision| matches!(decision, Decision::FailOpen { .. }));
        fail_open.series(&[("service", &view.service.name.to_plain())], flag(fails_open))?;
    }
    write_tiers(text, table)?;
    write_returns(text, table)?;
    write_shares(text, table)?;
    let mut answers = text.counter("backend_answers_total", "Answers that contained the backend.")?;
    for (id, pool) in (0..).map(PoolId).zip(table.pools().iter()) {
        for (index, backend) in pool.backends.iter().enumerate() {
            let count = table.answers().of_backend(id, index);
            answers.series(&[("pool", &pool.name), ("backend", backend)], count)?;
        }
    }
    Ok(())
}

/// One series for each service, family and rule, if a tier has addresses of the family.
fn write_tiers(text: &mut TextEncoder<'_>, table: &Table) -> fmt::Result {
    let help =
        "The tier in use, from 1; 0 if no tier answers. An empty rule label is the route without a rule.";
    let mut tiers = text.gauge("service_tier", help)?;
    for view in table.services().iter() {
        let name = view.service.name.to_plain();
        for route in view.routes() {
            let rule = route.index.rule().map(|rule| rule.to_string()).unwrap_or_default();
            for family in Family::ALL {
                let of_pool = |pool: &PoolId| table.pool(*pool).map(|pool| pool.family(family));
                if route.route.tiers.iter().filter_map(of_pool).all(|pool| pool.configured.is_empty()) {
                    continue;
                }
                let tier = match table.decision(route, family) {
                    Decision::Tier { tier, .. } => *tier as u64 + 1,
                    Decision::NoAddress | Decision::FailOpen { .. } | Decision::Down { .. } => 0,
                };
                let labels = [("service", &*name), ("rule", &rule), ("family", family.as_str())];
                tiers.series(&labels, tier)?;
            }
        }
    }
    Ok(())
}

/// Which services wait for an earlier tier, and which have a failover.
fn write_returns(text: &mut TextEncoder<'_>, table: &Table) -> fmt::Result {
    let help =
        "1 while an earlier tier is usable and not taken yet, for services whose failback is not auto.";
    let mut waiting = text.gauge("service_failback_waiting", help)?;
    for view in table.services().iter().filter(|view| view.service.failback != Failback::Auto) {
        for family in Family::ALL {
            let waits = |route: RouteView<'_>| table.tier_in_use(route.plan(), family).waiting.is_some();
            let labels = [("service", &*view.service.name.to_plain()), ("family", family.as_str())];
            waiting.series(&labels, flag(view.routes().any(waits)))?;
        }
    }
    let help = "1 while an operator has put the pool first for the service.";
    let mut failovers = text.gauge("service_failover", help)?;
    for view in table.services().iter() {
        if let Some(pool) = view.failover.as_ref().and_then(|failover| table.pool(failover.pool)) {
            failovers.series(&[("service", &view.service.name.to_plain()), ("pool", &pool.name)], 1)?;
        }
    }
    Ok(())
}

/// One series for each backend and family, or a few if the services of its pool draw in different ways.
fn write_shares(text: &mut TextEncoder<'_>, table: &Table) -> fmt::Result {
    let help =
        "Wanted now: the probability of being first in an answer from the pool, by how its services draw.";
    let mut shares = text.gauge("backend_share", help)?;
    for (id, pool) in (0..).map(PoolId).zip(table.pools().iter()) {
        for family in Family::ALL {
            for PoolShares { first, of_backends } in table.shares(id, family) {
                let draw = first.label();
                for (backend, share) in pool.backends.iter().zip(of_backends) {
                    let Some(share) = share else { continue };
                    let labels = [
                        ("pool", &*pool.name),
                        ("backend", &**backend),
                        ("family", family.as_str()),
                        ("draw", &*draw),
                    ];
                    shares.series(&labels, share)?;
                }
            }
        }
    }
    Ok(())
}
