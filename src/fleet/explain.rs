//! Explains an answer, with the state of the backends behind it.
//!
//! `answer::explain` says which parts of the table an answer comes from. This module adds the figures of each tier, and
//! the state of each backend, at the same moment.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::answer::{Asked, DrawnAddress, Explained, RouteExplained, TierVerdict, explain};
use crate::fleet::certainty::PendingChange;
use crate::fleet::report::{failover_status, waiting_status};
use crate::fleet::{BackendStatus, FailoverStatus, Fleet, WaitingStatus};
use crate::health::Verdict;
use crate::name::Name;
use crate::network::Network;
use crate::pool::{Family, MinHealthy, Override, PoolId};
use crate::service::{Route, Service};
use crate::table::{Decision, RouteView, ServiceView};
use crate::wire::subnet::ClientSubnet;

/// The most backends in an explanation, because probes wait while it is made.
pub const MOST_EXPLAINED: usize = 500;

/// A query to explain. [`Asked`] describes the members.
#[derive(Clone, Debug)]
pub struct ExplainRequest {
    /// The name in the question.
    pub name: Name,
    /// A or AAAA.
    pub family: Family,
    /// The address that sends the query.
    pub address: IpAddr,
    /// The client subnet that it sends.
    pub subnet: Option<ClientSubnet>,
    /// Determines the sample draw.
    pub seed: u64,
}

/// An answer with its reasons. [`Explained`] describes the first members.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The number of the table.
    pub generation: u64,
    /// The apex of the zone that answers.
    pub zone: Option<String>,
    /// The response code.
    pub rcode: u16,
    /// The scope in the client-subnet option of the reply.
    pub scope: Option<u8>,
    /// The addresses of the sample.
    pub addresses: Vec<IpAddr>,
    /// Their TTL, seconds.
    pub ttl: Option<u32>,
    /// The reasons, if a service answers.
    pub service: Option<ExplainedService>,
}

/// The reasons for the answer of a service.
#[derive(Clone, Debug)]
pub struct ExplainedService {
    /// As configured.
    pub service: Service,
    /// The number of the rule that applies; none for the default route.
    pub rule: Option<u16>,
    /// The prefix of clients for which this is the same; none if the service has no rules.
    pub clients: Option<Network>,
    /// The route that applies, as configured.
    pub route: Route,
    /// How it answers.
    pub outcome: ExplainedOutcome,
    /// The earliest pending change, if the TTL follows certainty and a change is pending.
    pub pending: Option<ExplainedChange>,
    /// The earlier tier that is usable and not taken yet.
    pub waiting: Option<WaitingStatus>,
    /// The pool that an operator has put first.
    pub failover: Option<FailoverStatus>,
    /// Its tiers, in order.
    pub tiers: Vec<ExplainedTier>,
    /// How many backends of the tiers are left out: see [`MOST_EXPLAINED`].
    pub left_out: usize,
}

/// A pending change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedChange {
    /// When it completes at the earliest.
    pub at: SystemTime,
    /// The change, as a sentence without the full stop.
    pub text: String,
}

/// How a service answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExplainedOutcome {
    /// From this pool. If `on_trust`, only with addresses that are held or have had no outcome yet.
    Tier {
        /// The pool.
        pool: Arc<str>,
        /// See `FamilyView::on_trust`.
        on_trust: bool,
    },
    /// From all backends of this pool as if they were healthy, because no tier is usable.
    FailOpen {
        /// The pool.
        pool: Arc<str>,
    },
    /// NODATA: the tier in use has no address of the family, or none has.
    NoAddress,
    /// According to `when_down`, because no tier is usable.
    Down,
}

/// A tier, with the figures that make it usable or not.
#[derive(Clone, Debug)]
pub struct ExplainedTier {
    /// Its pool.
    pub pool: Arc<str>,
    /// Its part in the answer.
    pub verdict: TierVerdict,
    /// How much of it must be healthy.
    pub min_healthy: MinHealthy,
    /// The number of its addresses of the family that are not disabled.
    pub addresses: usize,
    /// The number of those that may be in answers.
    pub eligible: usize,
    /// The configured weight of its addresses of the family that are not disabled.
    pub weight: u64,
    /// The configured weight of those that may be in answers.
    pub eligible_weight: u64,
    /// Its backends that have addresses of the family.
    pub backends: Vec<ExplainedBackend>,
}

/// A backend, and how often its addresses are drawn.
#[derive(Clone, Debug)]
pub struct ExplainedBackend {
    /// Its state, with its addresses of the family.
    pub status: BackendStatus,
    /// For each of these addresses, its part in the draw; none if it is not drawn.
    pub drawn: Vec<Option<DrawnAddress>>,
}

impl Fleet {
    /// Explains the answer to a query. Changes nothing.
    #[must_use]
    pub fn explain(&self, request: &ExplainRequest) -> Explanation {
        let ExplainRequest { name, family, address, subnet, seed } = request;
        let wall = self.calendar.shown(self.at).duration_since(UNIX_EPOCH);
        let time = wall.map_or(0, |since| u32::try_from(since.as_secs()).unwrap_or(u32::MAX));
        let asked = Asked { name, family: *family, address: *address, subnet: *subnet, time, seed: *seed };
        let Explained { zone, rcode, scope, addresses, ttl, route } = explain(&self.table, &asked);
        Explanation {
            generation: self.table.generation,
            zone: zone.and_then(Name::from_wire).map(|zone| zone.to_plain()),
            rcode,
            scope,
            addresses,
            ttl,
            service: route.map(|route| {
                let clients = self.clients(route.route.service, request, scope.is_some());
                ExplainedService { clients, ..self.explained_service(&route, *family) }
            }),
        }
    }

    /// The prefix of clients for which the same rule applies. `believed` says that the resolver's client subnet counts.
    fn clients(&self, service: &ServiceView, request: &ExplainRequest, believed: bool) -> Option<Network> {
        service.service.rule_table?;
        let subnet = request.subnet.filter(|_| believed).and_then(|subnet| subnet.client());
        let client = subnet.unwrap_or(request.address);
        let (_, bits) = self.table.route(service, || client.to_canonical());
        Some(Network::around(client, bits, bits))
    }

    fn explained_service(&self, explained: &RouteExplained<'_>, family: Family) -> ExplainedService {
        let RouteExplained { route, decision, tiers, pool, drawn } = explained;
        let mut room = MOST_EXPLAINED;
        let mut left_out = 0;
        let mut tier = |&(id, verdict): &(PoolId, TierVerdict)| {
            let drawn = if *pool == Some(id) { &**drawn } else { &[] };
            let mut tier = self.explained_tier(id, verdict, family)?;
            let (backends, rest) = self.explained_backends(id, family, drawn, room);
            room -= backends.len();
            left_out += rest;
            tier.backends = backends;
            Some(tier)
        };
        let tiers = tiers.iter().filter_map(&mut tier).collect();
        let name =
            |pool: &PoolId| self.table.pool(*pool).map(|view| Arc::clone(&view.name)).unwrap_or_default();
        ExplainedService {
            service: route.service.service.clone(),
            rule: route.index.rule(),
            clients: None,
            route: route.route.clone(),
            outcome: match decision {
                Decision::Tier { pool, on_trust, .. } => {
                    ExplainedOutcome::Tier { pool: name(pool), on_trust: *on_trust }
                }
                Decision::FailOpen { pool, .. } => ExplainedOutcome::FailOpen { pool: name(pool) },
                Decision::NoAddress => ExplainedOutcome::NoAddress,
                Decision::Down { .. } => ExplainedOutcome::Down,
            },
            pending: self.explained_change(*route),
            waiting: waiting_status(*route, family, &self.table),
            failover: failover_status(route.service, &self.table),
            tiers,
            left_out,
        }
    }

    /// The earliest pending change for a route whose TTL follows certainty.
    fn explained_change(&self, route: RouteView<'_>) -> Option<ExplainedChange> {
        if route.route.ttl.is_fixed() {
            return None;
        }
        let of_tiers = Family::ALL.into_iter().filter_map(|family| {
            let WaitingStatus { pool, until } = waiting_status(route, family, &self.table)?;
            let family = family.as_str();
            Some(ExplainedChange {
                at: until?,
                text: format!("the service returns to pool {pool} in {family}"),
            })
        });
        let failover =
            failover_status(route.service, &self.table).and_then(|FailoverStatus { pool, until, .. }| {
                Some(ExplainedChange { at: until?, text: format!("the failover to pool {pool} ends") })
            });
        let changes = of_tiers.chain(failover).chain(self.change_of_pools(route.route));
        changes.min_by_key(|change| change.at)
    }

    /// The earliest pending change in the pools of a route.
    fn change_of_pools(&self, route: &Route) -> Option<ExplainedChange> {
        let of_pool = |id: &PoolId| Some((self.certainty.earliest(*id)?, *id));
        let ((at, change), id) = route.tiers.iter().filter_map(of_pool).min()?;
        let pool = &self.pools.get(id)?.setup.pool;
        let text = match change {
            PendingChange::Verdict(target) => {
                let user = self.targets.get(target)?.users.iter().find(|user| user.spot.pool == id)?;
                let (_, backend, address) = self.pools.named(user.spot)?;
                let to = match self.health.state(target).verdict() {
                    None => "has its first outcome",
                    Some(Verdict::Healthy) => "may become unhealthy",
                    Some(Verdict::Draining) => "may leave draining",
                    Some(Verdict::Unhealthy) => "may become healthy",
                };
                format!("{backend} ({address}) of pool {} {to}", pool.name)
            }
            PendingChange::Share(spot) => {
                let (_, backend, address) = self.pools.named(spot)?;
                format!("{backend} ({address}) of pool {} gets another part of its weight", pool.name)
            }
            PendingChange::Override(backend, _) => {
                format!("an override of {} of pool {} ends", pool.backends.get(backend)?.name, pool.name)
            }
        };
        Some(ExplainedChange { at: self.calendar.shown(self.at.after(at.saturating_sub(self.now))), text })
    }

    fn explained_tier(&self, id: PoolId, verdict: TierVerdict, family: Family) -> Option<ExplainedTier> {
        let (pool, view) = (self.pools.get(id)?, self.table.pool(id)?.family(family));
        let weights = |members: &mut dyn Iterator<Item = u32>| -> u64 {
            let backends = &pool.setup.pool.backends;
            members
                .filter_map(|index| backends.get(index as usize))
                .map(|backend| u64::from(backend.weight))
                .sum()
        };
        let all = view.configured.iter().filter(|address| self.is_counted(id, address.member.backend));
        Some(ExplainedTier {
            pool: Arc::clone(pool.series.name()),
            verdict,
            min_healthy: pool.setup.pool.min_healthy,
            addresses: all.clone().count(),
            eligible: view.eligible.members.len(),
            weight: weights(&mut all.map(|address| address.member.backend)),
            eligible_weight: weights(&mut view.eligible.members.iter().map(|member| member.backend)),
            backends: Vec::new(),
        })
    }

    /// Whether a backend counts in the totals of its pool.
    fn is_counted(&self, id: PoolId, index: u32) -> bool {
        let pool = self.pools.get(id);
        let over = pool.and_then(|pool| pool.backends.get(index as usize)?.over());
        let enabled = pool
            .and_then(|pool| Some(pool.setup.pool.backends.get(index as usize)?.enabled))
            .unwrap_or(false);
        enabled && over != Some(Override::Disabled)
    }

    /// The first backends with addresses of the family, and the number of the others.
    fn explained_backends(
        &self,
        id: PoolId,
        family: Family,
        drawn: &[DrawnAddress],
        room: usize,
    ) -> (Vec<ExplainedBackend>, usize) {
        let Some(pool) = self.pools.get(id) else { return (Vec::new(), 0) };
        let has_family = |index: &usize| {
            let backend = pool.setup.pool.backends.get(*index);
            backend
                .is_some_and(|backend| backend.addresses.iter().any(|address| Family::of(*address) == family))
        };
        let mut indices = (0..pool.backends.len()).filter(has_family);
        let backends = indices.by_ref().take(room).filter_map(|index| {
            let mut status = self.one_backend(id, index)?;
            status.addresses.retain(|address| Family::of(address.address) == family);
            // They are in the order of the backends.
            let first = drawn.partition_point(|drawn| (drawn.member.backend as usize) < index);
            let own = || drawn.iter().skip(first).take_while(|drawn| drawn.member.backend as usize == index);
            let of_address = |address: IpAddr| own().find(|drawn| drawn.member.address == address);
            let drawn = status.addresses.iter().map(|shown| of_address(shown.address).copied()).collect();
            Some(ExplainedBackend { status, drawn })
        });
        let backends: Vec<ExplainedBackend> = backends.collect();
        let rest = indices.count();
        (backends, rest)
    }
}
