//! The pools that answer for each service now, and the log of their changes.

use std::collections::HashMap;

use tracing::{info, warn};

use crate::pool::{Family, PoolId};
use crate::service::{Service, ServiceId, WhenDown};
use crate::table::{Source, Table};

/// The pools that answer for a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answering {
    /// The pool in charge, by [`Family::index`]; none when no tier is usable or has an address.
    pub(super) tier: [Option<PoolId>; 2],
    /// Whether no tier is usable in a family that the service has addresses of.
    pub(super) down: bool,
    /// Whether it is down and all backends of a tier answer instead.
    pub(super) fail_open: bool,
}

impl Answering {
    pub(super) fn of(service: &Service, table: &Table) -> Self {
        let mut answering = Self::default();
        for (family, tier) in Family::ALL.into_iter().zip(&mut answering.tier) {
            let configured = service
                .tiers
                .iter()
                .filter_map(|pool| table.pool(*pool))
                .any(|pool| pool.family(family).is_configured());
            match table.source(service, family) {
                Source::Tier { pool, .. } => *tier = Some(pool),
                Source::FailOpen { .. } => {
                    answering.fail_open = true;
                    answering.down = true;
                }
                // A family without any address is absent, not down.
                Source::Down(_) => answering.down |= configured,
                Source::NoAddress => {}
            }
        }
        answering
    }

    /// `s3`, or `s3 (ipv4), s3-standby (ipv6)` where the families differ.
    fn describe(&self, table: &Table) -> String {
        let name = |id: PoolId| table.pool(id).map_or("?", |pool| &*pool.name);
        match self.tier {
            [None, None] => "none".into(),
            [Some(pool), None] | [None, Some(pool)] => name(pool).into(),
            [Some(ipv4), Some(ipv6)] if ipv4 == ipv6 => name(ipv4).into(),
            [Some(ipv4), Some(ipv6)] => format!("{} (ipv4), {} (ipv6)", name(ipv4), name(ipv6)),
        }
    }
}

/// The pools that answered for each service at the last look.
#[derive(Debug)]
pub(super) struct ServiceLog {
    /// By [`ServiceId`].
    last: Vec<Answering>,
    /// By [`PoolId`]: the services that have it as a tier.
    by_pool: Vec<Vec<ServiceId>>,
}

impl ServiceLog {
    /// Starts from a first table, about which nothing is logged.
    pub(super) fn new(table: &Table) -> Self {
        let mut by_pool = vec![Vec::new(); table.pools.len()];
        for (id, view) in (0..).map(ServiceId).zip(table.services.iter()) {
            for pool in &view.service.tiers {
                if let Some(services) = by_pool.get_mut(pool.index()) {
                    services.push(id);
                }
            }
        }
        let last = table.services.iter().map(|view| Answering::of(&view.service, table)).collect();
        Self { last, by_pool }
    }

    /// Goes on with another table, in which services and pools may stand elsewhere, and logs what
    /// has changed for the services that were there before.
    pub(super) fn go_on(&mut self, before: &Table, now: &Table) {
        let earlier = std::mem::replace(self, Self::new(now));
        let services = before.services.iter().map(|view| view.service.name.wire());
        let earlier: HashMap<&[u8], Answering> = services.zip(earlier.last).collect();
        for (view, last) in now.services.iter().zip(&self.last) {
            if let Some(old) = earlier.get(view.service.name.wire()) {
                log_change(&view.service, old, last, &old.describe(before), &last.describe(now));
            }
        }
    }

    /// The services that have a pool as a tier.
    pub(super) fn services_of(&self, pool: PoolId) -> &[ServiceId] {
        self.by_pool.get(pool.index()).map_or(&[], Vec::as_slice)
    }

    /// All tiers of the services that have a pool as a tier.
    pub(super) fn tiers_beside<'a>(
        &'a self,
        pool: PoolId,
        table: &'a Table,
    ) -> impl Iterator<Item = PoolId> + 'a {
        let services = self.services_of(pool).iter().filter_map(|service| table.service(*service));
        services.flat_map(|view| view.service.tiers.iter().copied())
    }

    /// Logs what has changed for the services of these pools. A service with several of them is
    /// looked at several times, and finds nothing new after the first.
    pub(super) fn look(&mut self, table: &Table, pools: impl IntoIterator<Item = PoolId>) {
        for pool in pools {
            for id in self.by_pool.get(pool.index()).into_iter().flatten() {
                let (Some(view), Some(last)) = (table.service(*id), self.last.get_mut(id.index())) else {
                    continue;
                };
                let now = Answering::of(&view.service, table);
                let before = std::mem::replace(last, now);
                if before != now {
                    log_change(&view.service, &before, &now, &before.describe(table), &now.describe(table));
                }
            }
        }
    }
}

/// Tells what differs; `from` and `to` are the names of who answers.
fn log_change(service: &Service, before: &Answering, now: &Answering, from: &str, to: &str) {
    let name = service.name.to_plain();
    if now.down && !before.down {
        let instead = match service.when_down {
            WhenDown::FailOpen => "all backends of the first tier, as if they were healthy (fail open)",
            WhenDown::NoData => "no addresses (NODATA)",
            WhenDown::ServFail => "SERVFAIL",
            WhenDown::Addresses { .. } => "the addresses of when_down",
        };
        warn!(service = name, from, "service down: no tier is usable, it answers with {instead}");
    } else if before.down && !now.down {
        info!(service = name, to, "service up: a tier is usable again");
    } else if from != to {
        info!(service = name, from, to, "service is answered by another tier");
    }
}
