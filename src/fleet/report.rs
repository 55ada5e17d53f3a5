//! Reports on backends: on a single one, or on all pools piece by piece.
//!
//! A piece is made within one turn and has a bounded number of backends, because probes wait meanwhile. The
//! caller requests the next piece with the [`Cursor`] of the last one. So no state is kept for callers, and
//! one that disconnects costs nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::check::Check;
use crate::fleet::answering::Answering;
use crate::fleet::calendar::Calendar;
use crate::fleet::pools::{AddressState, BackendState, PoolState, standing};
use crate::fleet::{
    AddressStatus, BackendStatus, CheckStatus, FailoverStatus, Fleet, PoolStatus, ServiceStatus, Suspected,
    WaitingStatus,
};
use crate::health::TargetId;
use crate::pool::{Backend, Family, Override, OverrideKind, PoolId};
use crate::service::Failover;
use crate::table::{Choice, FamilyView, PoolView, RouteView, ServiceView, Standing, Table};

/// The most backends in a piece: well below a millisecond of work.
pub const BACKENDS_IN_A_PIECE: usize = 500;
/// The most backends with history in a piece; each takes 20 times as long.
pub const BACKENDS_WITH_HISTORY_IN_A_PIECE: usize = 50;

/// Where the next piece begins, and the table on which it reports.
#[derive(Clone, Debug)]
pub struct Cursor {
    table: Arc<Table>,
    pool: usize,
    /// The next backend in the current pool.
    backend: usize,
    /// The pool before which to stop.
    end: usize,
    history: bool,
}

/// Some backends of one or more pools.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The first one may continue the last pool of the previous piece.
    pub pools: Vec<PoolPiece>,
    /// Why this machine is suspected, and not all pools together.
    pub suspected: Option<Suspected>,
    /// Where the next piece begins; none after the last piece.
    pub next: Option<Cursor>,
}

/// Some backends of a pool.
#[derive(Clone, Debug)]
pub struct PoolPiece {
    /// The pool; none if it was in an earlier piece.
    pub pool: Option<PoolStatus>,
    /// In the order of the configuration.
    pub backends: Vec<BackendStatus>,
}

impl Cursor {
    /// The start of all pools of a table.
    #[must_use]
    pub fn all(table: Arc<Table>) -> Self {
        let end = table.pools().len();
        Self { table, pool: 0, backend: 0, end, history: false }
    }

    /// One backend of a pool, and those that follow it.
    #[must_use]
    pub fn at_backend(table: Arc<Table>, pool: PoolId, backend: usize) -> Self {
        Self { backend, ..Self::of_pool(table, pool) }
    }

    /// The start of one pool, without history.
    #[must_use]
    pub fn of_pool(table: Arc<Table>, pool: PoolId) -> Self {
        Self { history: false, ..Self::with_history(table, pool) }
    }

    /// The start of one pool, with history.
    #[must_use]
    pub fn with_history(table: Arc<Table>, pool: PoolId) -> Self {
        Self { table, pool: pool.index(), backend: 0, end: pool.index() + 1, history: true }
    }

    /// Whether this piece continues the last pool of the previous one.
    #[must_use]
    pub fn is_within_a_pool(&self) -> bool {
        self.backend > 0
    }

    fn backends_in_a_piece(&self) -> usize {
        if self.history { BACKENDS_WITH_HISTORY_IN_A_PIECE } else { BACKENDS_IN_A_PIECE }
    }
}

impl Fleet {
    /// The piece at a cursor; none if its table belongs to an earlier configuration, in which pools had
    /// other ids.
    #[must_use]
    pub fn piece(&self, mut cursor: Cursor) -> Option<Piece> {
        // Every reload makes new settings, and nothing else does.
        if !Arc::ptr_eq(&cursor.table.settings, &self.table.settings) {
            return None;
        }
        let mut left = cursor.backends_in_a_piece();
        let mut pools = Vec::new();
        while left > 0 && cursor.pool < cursor.end {
            let (Some(pool), Some(view)) =
                (self.pools.0.get(cursor.pool), cursor.table.pools().get(cursor.pool))
            else {
                cursor.pool = cursor.end;
                break;
            };
            let end = pool.backends.len().min(cursor.backend + left);
            let backends = cursor.backend..end;
            // A pool without backends also takes some work.
            left = left.saturating_sub(backends.len() + 1);
            let id = PoolId(u32::try_from(cursor.pool).unwrap_or(u32::MAX));
            let told = TellingPool { pool, view, fails_open: cursor.table.fails_open_to(id) };
            pools.push(PoolPiece {
                pool: (!cursor.is_within_a_pool()).then(|| pool_status(pool, view, self.calendar)),
                backends: backends.filter_map(|index| self.backend(&told, index, cursor.history)).collect(),
            });
            if end < pool.backends.len() {
                cursor.backend = end;
            } else {
                (cursor.pool, cursor.backend) = (cursor.pool + 1, 0);
            }
        }
        let next = (cursor.pool < cursor.end).then_some(cursor);
        let suspected = self.local_faults.suspected().or(self.suspected.as_ref());
        let suspected = suspected.map(|suspected| suspected.shown(self.calendar));
        Some(Piece { pools, suspected, next })
    }

    /// The current state of one backend.
    pub(super) fn one_backend(&self, pool: PoolId, index: usize) -> Option<BackendStatus> {
        let fails_open = self.table.fails_open_to(pool);
        let told = TellingPool { pool: self.pools.get(pool)?, view: self.table.pool(pool)?, fails_open };
        self.backend(&told, index, false)
    }

    fn backend(
        &self,
        TellingPool { pool, view, fails_open }: &TellingPool<'_>,
        index: usize,
        history: bool,
    ) -> Option<BackendStatus> {
        let configured = pool.setup.pool.backends.get(index)?;
        let state = pool.backends.get(index)?;
        let address = |(place, (&address, state)): (usize, (&_, &AddressState))| {
            let family = Family::of(address);
            let FamilyView { eligible, everyone, .. } = view.family(family);
            let eligible = is_member(eligible, index, address);
            let fails_open = *family.select(fails_open);
            let condition = pool.condition(index, place, None);
            let drawn = if eligible {
                condition.eligible_weight(configured.weight)
            } else if fails_open && is_member(everyone, index, address) {
                condition.fail_open_weight(configured.weight)
            } else {
                0
            };
            let checks = self.checks(pool, state, history);
            AddressStatus {
                address,
                standing: state.standing,
                since: self.calendar.shown(state.since),
                remembered: checks.iter().any(|check| check.remembered && !check.observe_only),
                held: state.held,
                held_until: self.held_until(state),
                percent: state.percent,
                eligible,
                drawn,
                checks,
                transitions: if history {
                    state.transitions.shown(self.calendar).collect()
                } else {
                    Vec::new()
                },
            }
        };
        let overridden = |kind| state.kept(kind).map(|kept| kept.shown(self.calendar));
        let addresses = configured.addresses.iter().zip(&state.addresses);
        Some(BackendStatus {
            name: pool.series.backend_name(index).cloned().unwrap_or_default(),
            site: configured.site.clone(),
            weight: configured.weight,
            enabled: configured.enabled,
            overridden: overridden(OverrideKind::State),
            weight_override: overridden(OverrideKind::Weight),
            addresses: addresses.enumerate().map(address).collect(),
        })
    }

    fn checks(&self, pool: &PoolState, state: &AddressState, history: bool) -> Vec<CheckStatus> {
        let checks = pool.checks.iter().zip(&pool.setup.checks).zip(&state.targets);
        checks.filter_map(|((name, check), id)| self.check(name, check, *id, history)).collect()
    }

    fn check(&self, name: &Arc<str>, check: &Check, id: TargetId, history: bool) -> Option<CheckStatus> {
        let target = self.targets.get(id)?;
        let (verdict, remembered) = self.targets.verdict(&self.health, id);
        Some(CheckStatus {
            name: Arc::clone(name),
            kind: check.probe.kind(),
            standing: standing(verdict),
            since: self.calendar.shown(target.since),
            remembered,
            critical: check.critical,
            observe_only: check.observe_only,
            certificate_expires: target.expiry.at(),
            void_since: target.outcomes.void_since(self.calendar),
            last: target.outcomes.last_shown(self.calendar),
            outcomes: if history { target.outcomes.shown(self.calendar).collect() } else { Vec::new() },
        })
    }

    /// When the last hold of its checks ends.
    fn held_until(&self, state: &AddressState) -> Option<SystemTime> {
        let ends = state.targets.iter().filter_map(|id| self.health.held_until(*id));
        let end = ends.max().filter(|_| state.held)?;
        Some(self.calendar.shown(self.at.after(end.saturating_sub(self.now))))
    }
}

/// A pool with its view, for reports on its backends.
struct TellingPool<'a> {
    pool: &'a PoolState,
    view: &'a PoolView,
    /// See [`Table::fails_open_to`].
    fails_open: [bool; 2],
}

/// Whether a choice contains an address of a backend. It has the same order as the backends.
fn is_member(choice: &Choice, backend: usize, address: IpAddr) -> bool {
    let first = choice.members.partition_point(|member| (member.backend as usize) < backend);
    let mut own = choice.members.iter().skip(first).take_while(|member| member.backend as usize == backend);
    own.any(|member| member.address == address)
}

/// A pool without its backends.
fn pool_status(pool: &PoolState, view: &PoolView, calendar: Calendar) -> PoolStatus {
    let mut status = PoolStatus {
        name: Arc::clone(pool.series.name()),
        usable: view.usable(),
        since: calendar.shown(pool.usability.since),
        enabled: 0,
        healthy: 0,
        unknown: 0,
        healthy_weight: 0,
        total_weight: 0,
        suspected: pool.suspected.as_ref().map(|suspected| suspected.shown(calendar)),
    };
    let backends = pool.setup.pool.backends.iter().zip(&pool.backends);
    let is_counted = |(configured, state): &(&Backend, &BackendState)| {
        configured.enabled && state.over() != Some(Override::Disabled)
    };
    for (Backend { weight, .. }, state) in backends.filter(is_counted) {
        for address in &state.addresses {
            let weight = u64::from(*weight);
            status.enabled += 1;
            status.total_weight += weight;
            match address.standing {
                Standing::Healthy => {
                    status.healthy += 1;
                    status.healthy_weight += weight;
                }
                Standing::Unknown => status.unknown += 1,
                Standing::Draining | Standing::Unhealthy => {}
            }
        }
    }
    status
}

impl ServiceStatus {
    /// The state of a service according to a table.
    #[must_use]
    pub fn of(view: &ServiceView, table: &Table) -> Self {
        let route = view.default_route();
        let answering = Answering::of(route, table);
        let name = |pool: PoolId| table.pool(pool).map(|view| view.name.to_string());
        let any = |is: fn(&Answering) -> bool| view.routes().any(|route| is(&Answering::of(route, table)));
        Self {
            name: view.service.name.to_plain(),
            pools: view.pools.iter().filter_map(|pool| name(*pool)).collect(),
            tier: answering.tier().map(|tier| tier.and_then(name)),
            down: any(Answering::is_down),
            fail_open: any(Answering::fails_open),
            ttl: route.route.ttl.max,
            failback: view.service.failback,
            waiting: Family::ALL.map(|family| waiting_status(route, family, table)),
            failover: failover_status(view, table),
        }
    }
}

/// The earlier tier of a route that is usable and not taken yet.
pub(super) fn waiting_status(route: RouteView<'_>, family: Family, table: &Table) -> Option<WaitingStatus> {
    let waiting = table.tier_in_use(route.plan(), family).waiting?;
    let pool = table.pool(*route.route.tiers.get(waiting.tier)?)?.name.to_string();
    Some(WaitingStatus { pool, until: waiting.until.map(|until| UNIX_EPOCH + until) })
}

/// The failover of a service.
pub(super) fn failover_status(view: &ServiceView, table: &Table) -> Option<FailoverStatus> {
    let Failover { pool, since, until, reason, by } = &**view.failover.as_ref()?;
    Some(FailoverStatus {
        pool: table.pool(*pool)?.name.to_string(),
        since: UNIX_EPOCH + *since,
        until: until.map(|until| UNIX_EPOCH + until),
        reason: reason.clone(),
        by: by.clone(),
    })
}
