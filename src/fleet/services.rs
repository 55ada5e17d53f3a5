//! Log lines for changes of services and pools.

use std::collections::HashMap;

use tracing::{info, warn};

use crate::fleet::answering::{Answering, ChangeKind, RouteChange, in_words, lost};
use crate::pool::{Family, PoolId};
use crate::service::{RouteIndex, ServiceId};
use crate::table::{PoolView, ServiceView, Table};

/// Logs the changes of a route of a service.
fn log(change: &RouteChange<'_>, asked_by: Option<&str>) {
    let (service, rule) = change.names();
    let (from, to) = change.tiers_of_both();
    for (kind, families) in change.kinds() {
        let (family, left) = (in_words(&families), change.left(&families));
        match kind {
            ChangeKind::Later | ChangeKind::Earlier if change.reaches_failover(&families) => {
                info!(
                    service,
                    rule, from, to, left, asked_by, "service is answered by the pool of its failover"
                );
            }
            ChangeKind::Later | ChangeKind::Earlier if change.leaves_failover(&families) => {
                warn!(
                    service,
                    rule,
                    from,
                    to,
                    left,
                    asked_by,
                    "service has left the pool of its failover, which is not usable; it returns to it as soon as it is"
                );
            }
            ChangeKind::Down if change.before.0.is_down() => {
                let instead = change.instead(&families);
                warn!(
                    service,
                    rule,
                    family,
                    from,
                    asked_by,
                    "service is down in {family} too: no tier is usable, it {instead}"
                );
            }
            ChangeKind::Down => {
                let instead = change.instead(&families);
                warn!(service, rule, family, from, asked_by, "service down: no tier is usable, it {instead}");
            }
            ChangeKind::Gone => {
                warn!(service, rule, family, from, asked_by, "service has no {family} address any more");
            }
            ChangeKind::Later => {
                warn!(
                    service,
                    rule,
                    from,
                    to,
                    left,
                    asked_by,
                    "service is answered by a later tier: none before it is usable"
                );
            }
            ChangeKind::Instead => {
                let instead = change.instead(&families);
                info!(service, rule, family, asked_by, "service is still down, and now {instead}");
            }
            ChangeKind::Drained => {
                warn!(
                    service,
                    rule,
                    family,
                    asked_by,
                    "service is still down, and answers with drained backends again: no other address is left"
                );
            }
            ChangeKind::OnTrust => {
                info!(
                    service,
                    rule,
                    family,
                    to,
                    asked_by,
                    "service is answered on trust: a tier is usable with addresses that are held back, or \
                     have had no outcome yet"
                );
            }
            ChangeKind::Up if change.now.0.is_down() => {
                info!(
                    service,
                    rule, family, to, left, asked_by, "service is up in {family}, not in all families"
                );
            }
            ChangeKind::Up => {
                info!(service, rule, family, to, left, asked_by, "service up: a tier is usable again");
            }
            ChangeKind::Earlier => {
                info!(service, rule, from, to, left, asked_by, "service is answered by another tier");
            }
            ChangeKind::Back => {
                info!(service, rule, family, to, asked_by, "service has {family} addresses again");
            }
        }
    }
}

/// Logs the families in which a pool has become usable or unusable.
pub(super) fn log_pool(before: &PoolView, now: &PoolView, left: &str, asked_by: Option<&str>) {
    let pool = &*now.name;
    for family in Family::ALL {
        if let Some(lost) = lost(before, now, family) {
            warn!(pool, family = family.as_str(), left, asked_by, "pool is not usable: it {lost}");
        }
        let is_back = now.family(family).usable && !before.family(family).usable;
        if is_back && before.family(family).is_configured() {
            info!(pool, family = family.as_str(), left, asked_by, "pool is usable again");
        }
    }
}

/// How each service was answered when last examined.
#[derive(Debug)]
pub(super) struct ServiceLog {
    /// Indexed by `ServiceId`.
    last: Vec<ServiceAnswering>,
}

/// How the routes of a service are answered.
#[derive(Debug)]
struct ServiceAnswering {
    default: Answering,
    rules: Box<[Answering]>,
}

impl ServiceAnswering {
    fn of(service: &ServiceView, table: &Table) -> Self {
        Self {
            default: Answering::of(service.default_route(), table),
            rules: service.routes().skip(1).map(|route| Answering::of(route, table)).collect(),
        }
    }

    /// In the order of the routes.
    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Answering> {
        std::iter::once(&mut self.default).chain(&mut self.rules)
    }
}

impl ServiceLog {
    /// Starts from the first table. Nothing is logged about it.
    pub(super) fn new(table: &Table) -> Self {
        Self { last: table.services().iter().map(|view| ServiceAnswering::of(view, table)).collect() }
    }

    /// Switches to another table, in which services and pools may have other ids. Logs the changes
    /// of the services that existed before.
    pub(super) fn go_on(&mut self, before: &Table, now: &Table, asked_by: Option<&str>) {
        let earlier = std::mem::replace(self, Self::new(now));
        let services = before.services().iter().map(|view| view.service.name.wire());
        let mut earlier: HashMap<&[u8], ServiceAnswering> = services.zip(earlier.last).collect();
        for (view, last) in now.services().iter().zip(&mut self.last) {
            let Some(old) = earlier.get_mut(view.service.name.wire()) else { continue };
            for ((route, last), old) in view.routes().zip(last.iter_mut()).zip(old.iter_mut()) {
                *last = last.after(old, route, now);
                log(&RouteChange { route, before: (old, before), now: (last, now) }, asked_by);
            }
        }
    }

    /// Takes the tier of a route from the previous run, so that only a change since then is logged.
    pub(super) fn recall(&mut self, id: ServiceId, route: RouteIndex, family: Family, pool: PoolId) {
        let of_service = self.last.get_mut(id.index());
        if let Some(last) = of_service.and_then(|last| last.iter_mut().nth(usize::from(route.0))) {
            last.set_tier(family, pool);
        }
    }

    /// Logs the changes of these services. A service that is repeated has changed only the first time.
    pub(super) fn look(
        &mut self,
        before: &Table,
        table: &Table,
        services: impl IntoIterator<Item = ServiceId>,
        asked_by: Option<&str>,
    ) {
        for id in services {
            let (Some(view), Some(last)) = (table.service(id), self.last.get_mut(id.index())) else {
                continue;
            };
            for (route, last) in view.routes().zip(last.iter_mut()) {
                let now = Answering::of(route, table).after(last, route, table);
                let old = std::mem::replace(last, now);
                if old != now {
                    log(&RouteChange { route, before: (&old, before), now: (&now, table) }, asked_by);
                }
            }
        }
    }
}
