//! Makes a [`Status`] or a [`Memory`] step by step.
//!
//! At 100,000 backends one of them takes longer than probes may wait, so it is made between the
//! turns, a number of backends at a time. Each pool is told as it is at one moment.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::oneshot;

use crate::checker::calendar::{Calendar, Stamp};
use crate::checker::pools::{AddressState, BackendState, PoolState, Pools, standing};
use crate::checker::services::Answering;
use crate::checker::suspicion::Suspecting;
use crate::checker::targets::Targets;
use crate::checker::{
    AddressStatus, BackendStatus, Check, CheckStatus, Memory, NoSuchBackend, PoolStatus, ServiceStatus,
    Status,
};
use crate::health::{HealthTable, Moment, TargetId};
use crate::pool::{Backend, Family, PoolId};
use crate::service::Service;
use crate::table::{PoolView, Standing, Table};

/// How many backends are told in one step: well below a millisecond of work.
const BACKENDS_IN_A_STEP: usize = 500;

/// What surveys are made from.
pub(super) struct Sources<'a> {
    pub(super) pools: &'a Pools,
    pub(super) targets: &'a Targets,
    pub(super) health: &'a HealthTable,
    pub(super) table: &'a Table,
    pub(super) suspected: Option<&'a Suspecting>,
    pub(super) now: Moment,
    pub(super) at: Stamp,
    pub(super) calendar: Calendar,
    /// Whether what has been is told too.
    pub(super) history: bool,
}

/// Something that is being made for whoever asked.
#[derive(Debug)]
pub(super) struct Survey {
    wanted: Wanted,
    /// The next pool.
    pool: usize,
    /// The next backend of it.
    backend: usize,
    /// The status of that pool so far.
    half: Option<HalfPool>,
}

#[derive(Debug)]
enum Wanted {
    Status(Vec<PoolStatus>, oneshot::Sender<Status>),
    Overridden(Vec<PoolStatus>, oneshot::Sender<Result<Status, NoSuchBackend>>),
    Memory(Memory, oneshot::Sender<Memory>),
}

/// The status of a pool while its backends are told.
#[derive(Debug)]
struct HalfPool {
    status: PoolStatus,
    view: Arc<PoolView>,
    /// How many eligible members of each family have been told; they stand in the order of the
    /// backends.
    told: [usize; 2],
}

impl Survey {
    pub(super) fn status(reply: oneshot::Sender<Status>) -> Self {
        Self::new(Wanted::Status(Vec::new(), reply))
    }

    pub(super) fn after_override(reply: oneshot::Sender<Result<Status, NoSuchBackend>>) -> Self {
        Self::new(Wanted::Overridden(Vec::new(), reply))
    }

    pub(super) fn memory(reply: oneshot::Sender<Memory>) -> Self {
        Self::new(Wanted::Memory(Memory::default(), reply))
    }

    fn new(wanted: Wanted) -> Self {
        Self { wanted, pool: 0, backend: 0, half: None }
    }

    /// Begins from the start, as the pools are others now.
    pub(super) fn restart(&mut self) {
        (self.pool, self.backend, self.half) = (0, 0, None);
        match &mut self.wanted {
            Wanted::Status(pools, _) | Wanted::Overridden(pools, _) => pools.clear(),
            Wanted::Memory(memory, _) => *memory = Memory::default(),
        }
    }

    /// Goes on; gives itself back unless it is done.
    pub(super) fn step(mut self, sources: &Sources<'_>) -> Option<Self> {
        let mut left = BACKENDS_IN_A_STEP;
        while let Some(pool) = sources.pools.0.get(self.pool) {
            let end = pool.backends.len().min(self.backend + left);
            let range = self.backend..end;
            left -= range.len();
            match &mut self.wanted {
                Wanted::Status(pools, _) | Wanted::Overridden(pools, _) => {
                    let half = self.half.take().or_else(|| HalfPool::new(self.pool, pool, sources));
                    if let Some(mut half) = half {
                        range.for_each(|backend| half.tell(pool, backend, sources));
                        if end < pool.backends.len() {
                            self.half = Some(half);
                        } else {
                            pools.push(half.status);
                        }
                    }
                }
                Wanted::Memory(memory, _) => {
                    range.for_each(|backend| sources.remember(memory, pool, backend));
                }
            }
            if end < pool.backends.len() {
                self.backend = end;
                return Some(self);
            }
            (self.pool, self.backend) = (self.pool + 1, 0);
            if left == 0 {
                return Some(self);
            }
        }
        // Whoever asked may have left.
        match self.wanted {
            Wanted::Status(pools, reply) => drop(reply.send(sources.complete(pools))),
            Wanted::Overridden(pools, reply) => drop(reply.send(Ok(sources.complete(pools)))),
            Wanted::Memory(memory, reply) => drop(reply.send(memory)),
        }
        None
    }
}

impl HalfPool {
    fn new(index: usize, pool: &PoolState, sources: &Sources<'_>) -> Option<Self> {
        let view = Arc::clone(sources.table.pools.get(index)?);
        let status = PoolStatus {
            name: Arc::clone(pool.series.name()),
            usable: view.usable(),
            healthy_weight: 0,
            total_weight: 0,
            suspected: pool.suspected.as_ref().map(|suspected| suspected.shown(sources.calendar)),
            backends: Vec::with_capacity(pool.backends.len()),
        };
        Some(Self { status, view, told: [0; 2] })
    }

    fn tell(&mut self, pool: &PoolState, index: usize, sources: &Sources<'_>) {
        let (Some(configured), Some(state)) = (pool.setup.pool.backends.get(index), pool.backends.get(index))
        else {
            return;
        };
        let mut addresses = Vec::with_capacity(configured.addresses.len());
        for (&address, state) in configured.addresses.iter().zip(&state.addresses) {
            let family = Family::of(address);
            let told = self.told.get_mut(family.index());
            let member = told.as_ref().and_then(|told| self.view.family(family).eligible.members.get(**told));
            let eligible = member.is_some_and(|member| member.address == address);
            if let Some(told) = told {
                *told += usize::from(eligible);
            }
            let checks = sources.checks(pool, state);
            addresses.push(AddressStatus {
                address,
                standing: state.standing,
                since: sources.calendar.shown(state.since),
                remembered: checks.iter().any(|check| check.remembered && !check.observe_only),
                held: state.held,
                held_until: sources.held_until(state),
                percent: state.percent,
                eligible,
                checks,
                transitions: if sources.history {
                    state.transitions.shown(sources.calendar).collect()
                } else {
                    Vec::new()
                },
            });
        }
        if configured.enabled {
            let healthy = addresses.iter().filter(|address| address.standing == Standing::Healthy);
            self.status.healthy_weight += u64::from(configured.weight) * healthy.count() as u64;
            self.status.total_weight += u64::from(configured.weight) * addresses.len() as u64;
        }
        self.status.backends.push(backend_status(
            pool,
            index,
            configured,
            state,
            addresses,
            sources.calendar,
        ));
    }
}

fn backend_status(
    pool: &PoolState,
    index: usize,
    configured: &Backend,
    state: &BackendState,
    addresses: Vec<AddressStatus>,
    calendar: Calendar,
) -> BackendStatus {
    BackendStatus {
        name: pool.series.backend_name(index).cloned().unwrap_or_default(),
        site: configured.site.clone(),
        weight: configured.weight,
        enabled: configured.enabled,
        overridden: state.overridden.as_ref().map(|kept| kept.shown(calendar)),
        addresses,
    }
}

impl Sources<'_> {
    /// One pool at once.
    pub(super) fn pool(&self, name: &str) -> Option<PoolStatus> {
        let (index, pool) = self.pools.0.iter().enumerate().find(|(_, pool)| pool.setup.pool.name == name)?;
        let mut half = HalfPool::new(index, pool, self)?;
        (0..pool.backends.len()).for_each(|backend| half.tell(pool, backend, self));
        Some(half.status)
    }

    fn complete(&self, pools: Vec<PoolStatus>) -> Status {
        Status {
            generation: self.table.generation,
            pools,
            services: self.table.services.iter().map(|view| self.service(&view.service)).collect(),
            suspected: self.suspected.map(|suspected| suspected.shown(self.calendar)),
        }
    }

    fn checks(&self, pool: &PoolState, state: &AddressState) -> Vec<CheckStatus> {
        let checks = pool.checks.iter().zip(&pool.setup.checks).zip(&state.targets);
        checks.filter_map(|((name, check), id)| self.check(name, check, *id)).collect()
    }

    fn check(&self, name: &Arc<str>, check: &Check, id: TargetId) -> Option<CheckStatus> {
        let target = self.targets.get(id)?;
        let (verdict, remembered) = self.targets.verdict(self.health, id);
        Some(CheckStatus {
            name: Arc::clone(name),
            kind: check.probe.kind(),
            standing: standing(verdict),
            since: self.calendar.shown(target.since),
            remembered,
            critical: check.critical,
            observe_only: check.observe_only,
            last: target.outcomes.last_shown(self.calendar),
            outcomes: if self.history { target.outcomes.shown(self.calendar).collect() } else { Vec::new() },
        })
    }

    /// When the last hold of its checks ends.
    fn held_until(&self, state: &AddressState) -> Option<SystemTime> {
        let ends = state.targets.iter().filter_map(|id| self.health.held_until(*id));
        let end = ends.max().filter(|_| state.held)?;
        Some(self.calendar.shown(self.at.after(end.saturating_sub(self.now))))
    }

    fn service(&self, service: &Service) -> ServiceStatus {
        let answering = Answering::of(service, self.table);
        let name = |pool: PoolId| self.table.pool(pool).map(|view| view.name.to_string());
        ServiceStatus {
            name: service.name.to_plain(),
            tier: answering.tier.map(|tier| tier.and_then(name)),
            down: answering.down,
            fail_open: answering.fail_open,
            ttl: service.ttl,
        }
    }
}
