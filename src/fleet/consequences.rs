//! The consequences of overrides for the pools and their services, computed before the overrides are set.
//!
//! A table with all of them is built and compared with the published one: is each pool still usable, and how
//! are the services answered that have it as a tier?

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::fleet::answering::{Answering, ChangeKind, RouteChange, addresses, in_words, lost};
use crate::fleet::bulk::Selected;
use crate::fleet::pools::Supposed;
use crate::fleet::{Consequence, Fleet, OverrideChange};
use crate::pool::{Backend, Family, Override, PoolId};
use crate::service::ServiceId;
use crate::table::{Choice, Decision, PoolView, Progress, RouteView, ServiceView, Table, TiersInUse};

/// The most consequences in a reply. A pool may be a tier of any number of services.
const MOST_TOLD: usize = 20;
/// The most backends named in one consequence.
const MOST_NAMED: usize = 3;

impl Fleet {
    /// The changes for the pools and their services after this change for all of these backends together.
    pub(super) fn consequences(&self, selected: &Selected, wanted: OverrideChange) -> Vec<Consequence> {
        let before = Arc::clone(&self.table);
        let changed = selected.iter().filter_map(|(id, backends)| {
            let (pool, view) = (self.pools.get(*id)?, before.pool(*id)?);
            Some((*id, Arc::new(pool.view_with(Some(view), Some(Supposed { backends, change: wanted })))))
        });
        let changed: BTreeMap<PoolId, Arc<PoolView>> = changed.collect();
        // A pool that becomes usable by the override begins its time with it.
        let steady_for = |pool: PoolId, family| {
            let known = self.steady_for(pool, family);
            match changed.get(&pool) {
                None => known,
                Some(view) => view.is_steady(family).then(|| known.unwrap_or_default()),
            }
        };
        let progress = Progress { at: self.calendar.shown_since_1970(self.at), steady_for: &steady_for };
        let after = before.with_changes(changed.clone(), TiersInUse::new(), &progress);
        let mut consequences = Vec::new();
        for (id, now) in &changed {
            let Some(view) = before.pool(*id) else { continue };
            // A pool that no service uses takes nothing from clients.
            let takes_away = before.services().of_pool(*id).next().is_some();
            for family in Family::ALL {
                let text = lost(view, now, family).map(|lost| format!("pool {} {lost}", view.name));
                consequences.extend(text.map(|text| Consequence { takes_away, text }));
            }
        }
        let services: BTreeSet<ServiceId> =
            changed.keys().flat_map(|id| before.services().of_pool(*id)).collect();
        let backends: Vec<&Backend> = self.configured(selected).collect();
        for route in services.iter().filter_map(|id| before.service(*id)).flat_map(ServiceView::routes) {
            let [old, new] = [&*before, &after].map(|table| Answering::of(route, table));
            if old != new {
                let change = RouteChange { route, before: (&old, &before), now: (&new, &after) };
                of_route(&change, &mut consequences);
            }
            let decisions = |family| [before.decision(route, family), after.decision(route, family)];
            for family in Family::ALL {
                if let [Decision::FailOpen { draw: old, .. }, Decision::FailOpen { draw: new, .. }] =
                    decisions(family)
                {
                    let choices = [&*old.choice, &*new.choice];
                    in_fail_open(&name_of(route), family, (&backends, wanted), choices, &mut consequences);
                }
            }
        }
        consequences.sort_by_key(|consequence| !consequence.takes_away);
        bounded(consequences)
    }

    /// The configuration of some backends.
    fn configured<'a>(&'a self, selected: &'a Selected) -> impl Iterator<Item = &'a Backend> {
        selected.iter().flat_map(|(id, backends)| {
            let all = self.pools.get(*id).map_or(&[][..], |pool| &pool.setup.pool.backends);
            backends.iter().filter_map(|backend| all.get(*backend))
        })
    }
}

/// Adds the changes for a service that fails open before and after the override, according to the addresses in
/// its answers.
fn in_fail_open(
    route: &str,
    family: Family,
    (backends, wanted): (&[&Backend], OverrideChange),
    [old, new]: [&Choice; 2],
    consequences: &mut Vec<Consequence>,
) {
    let addresses_in =
        |choice: &Choice| choice.members.iter().map(|member| member.address).collect::<BTreeSet<_>>();
    let (old, new) = (addresses_in(old), addresses_in(new));
    let own: BTreeSet<&IpAddr> = backends.iter().flat_map(|backend| &backend.addresses).collect();
    let mut tell = |takes_away, text: String| {
        let text = format!("{route} {text}");
        consequences.push(Consequence { takes_away, text });
    };
    let is_kept = |address: &IpAddr| old.contains(address) && new.contains(address);
    let kept = backends.iter().filter(|backend| backend.addresses.iter().any(is_kept));
    let kept: Vec<&str> = kept.map(|backend| &*backend.name).collect();
    let takes_out = match wanted {
        OverrideChange::State(state) => matches!(state, Some(Override::Drain | Override::Down)),
        OverrideChange::Weight(percent) => percent == Some(0),
    };
    if !kept.is_empty() && takes_out {
        let names = first_of(&kept);
        tell(false, format!("goes on answering with {names} ({}), because it fails open", family.as_str()));
    }
    // All other added addresses are drained ones, because nothing else has changed.
    let back = new.difference(&old).filter(|address| !own.contains(address)).count();
    if back > 0 {
        let takes_away = old.is_disjoint(&new);
        let back = addresses(back, family);
        tell(takes_away, format!("answers with {back} of drained backends again: no other address is left"));
    }
}

/// The first few of some names, and the number of the others.
fn first_of(names: &[&str]) -> String {
    let (first, others) = names.split_at(names.len().min(MOST_NAMED));
    let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    first.join(", ") + &more
}

/// The changes for the routes of a service between two tables of one configuration.
pub(super) fn of_service(id: ServiceId, [before, after]: [&Table; 2]) -> Vec<Consequence> {
    let mut consequences = Vec::new();
    // Another failover may give plans other numbers, so each table is asked with its own routes.
    let routes = |table| Table::service(table, id).into_iter().flat_map(ServiceView::routes);
    for (earlier, route) in routes(before).zip(routes(after)) {
        let (old, new) = (Answering::of(earlier, before), Answering::of(route, after));
        if old != new {
            let change = RouteChange { route, before: (&old, before), now: (&new, after) };
            of_route(&change, &mut consequences);
        }
    }
    consequences.sort_by_key(|consequence| !consequence.takes_away);
    bounded(consequences)
}

/// `service www.example.com`, with `(rule 2)` if this is not the default route.
fn name_of(route: RouteView<'_>) -> String {
    let name = route.service.service.name.to_plain();
    match route.index.rule() {
        None => format!("service {name}"),
        Some(rule) => format!("service {name} (rule {rule})"),
    }
}

/// Adds the changes for a route of a service.
fn of_route(change: &RouteChange<'_>, consequences: &mut Vec<Consequence>) {
    let name = name_of(change.route);
    let (from, to) = change.tiers_of_both();
    for (kind, families) in change.kinds() {
        let family = in_words(&families);
        let instead = || change.instead(&families);
        let text = match kind {
            ChangeKind::Down => format!("is down ({family}): no tier is usable, it {}", instead()),
            ChangeKind::Gone => format!("has no {family} address any more"),
            ChangeKind::Later | ChangeKind::Earlier => format!("is answered by {to} instead of {from}"),
            ChangeKind::Instead => format!("is still down ({family}), and {}", instead()),
            // `in_fail_open` reports this by its addresses.
            ChangeKind::Drained => continue,
            ChangeKind::Up | ChangeKind::OnTrust => format!("is up again ({family}), answered by {to}"),
            ChangeKind::Back => format!("has {family} addresses again, those of {to}"),
        };
        let takes_away = matches!(kind, ChangeKind::Down | ChangeKind::Gone);
        consequences.push(Consequence { takes_away, text: format!("{name} {text}") });
    }
}

/// The first [`MOST_TOLD`] consequences, and the number of the others. Those that take something away come
/// first.
fn bounded(mut consequences: Vec<Consequence>) -> Vec<Consequence> {
    if consequences.len() > MOST_TOLD {
        let rest = consequences.split_off(MOST_TOLD);
        let takes_away = rest.iter().any(|consequence| consequence.takes_away);
        consequences.push(Consequence { takes_away, text: format!("and {} more like these", rest.len()) });
    }
    consequences
}
