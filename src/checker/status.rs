//! The state of everything at one moment, for those who ask.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::checker::pools::{AddressState, PoolState, Pools, standing};
use crate::checker::services::Answering;
use crate::checker::targets::Targets;
use crate::checker::{Check, PastOutcome, PastTransition};
use crate::health::{HealthTable, TargetId};
use crate::pool::PoolId;
use crate::service::Service;
use crate::table::{PoolView, Standing, Table};

/// The state of everything at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Generation of the published table.
    pub generation: u64,
    /// By `PoolId`.
    pub pools: Vec<PoolStatus>,
    /// By `ServiceId`.
    pub services: Vec<ServiceStatus>,
}

/// The state of a pool.
#[derive(Clone, Debug)]
pub struct PoolStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Usable in every family it has addresses of.
    pub usable: bool,
    /// Configured weight of the healthy addresses.
    pub healthy_weight: u64,
    /// Configured weight of all enabled addresses.
    pub total_weight: u64,
    /// In the order of the configuration.
    pub backends: Vec<BackendStatus>,
}

/// The state of a backend.
#[derive(Clone, Debug)]
pub struct BackendStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its failure domain.
    pub site: Option<String>,
    /// Configured weight.
    pub weight: u32,
    /// Whether it is enabled.
    pub enabled: bool,
    /// In the order of the configuration.
    pub addresses: Vec<AddressStatus>,
}

/// The state of a backend address.
#[derive(Clone, Debug)]
pub struct AddressStatus {
    /// The address.
    pub address: IpAddr,
    /// What the checks say of it together; unknown when the backend is not enabled, as it is not
    /// probed.
    pub standing: Standing,
    /// Since when it has been in that state.
    pub since: SystemTime,
    /// Whether that is what was known before the last start, and no outcome has confirmed it yet.
    pub remembered: bool,
    /// It would be healthy, but has changed so often that it must stay so for a while.
    pub held: bool,
    /// Percent of its weight that it gets while it is eligible.
    pub percent: u8,
    /// Whether it may appear in an answer now.
    pub eligible: bool,
    /// In the order of the configuration; none when the backend is not enabled.
    pub checks: Vec<CheckStatus>,
    /// Its last changes, the newest last; only of a pool that was asked for by name.
    pub transitions: Vec<PastTransition>,
}

/// The state of a check of one address.
#[derive(Clone, Debug)]
pub struct CheckStatus {
    /// Its name.
    pub name: Arc<str>,
    /// `http`, `https`, `tcp`, `tls`, `grpc` or `exec`.
    pub kind: &'static str,
    /// What it says.
    pub standing: Standing,
    /// Since when.
    pub since: SystemTime,
    /// Whether that is what was known before the last start.
    pub remembered: bool,
    /// Its failure alone is enough.
    pub critical: bool,
    /// It never decides.
    pub observe_only: bool,
    /// What the last probe brought.
    pub last: Option<PastOutcome>,
    /// What the last probes brought, the newest last; only of a pool that was asked for by name.
    pub outcomes: Vec<PastOutcome>,
}

/// The state of a service.
#[derive(Clone, Debug)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// The pool that answers now, by `Family::index`; none when no tier is usable or has such
    /// an address.
    pub tier: [Option<String>; 2],
    /// Whether no tier is usable in a family that the service has addresses of.
    pub down: bool,
    /// Whether it answers with all backends of the first tier because nothing is usable.
    pub fail_open: bool,
    /// Seconds.
    pub ttl: u32,
}

/// What a status is made from.
pub(super) struct Sources<'a> {
    pub(super) pools: &'a Pools,
    pub(super) targets: &'a Targets,
    pub(super) health: &'a HealthTable,
    pub(super) table: &'a Table,
    /// Whether what has been is told too.
    pub(super) history: bool,
}

impl Sources<'_> {
    pub(super) fn status(&self) -> Status {
        let pools = self.pools.iter().zip(&self.table.pools);
        Status {
            generation: self.table.generation,
            pools: pools.map(|((_, pool), view)| self.pool(pool, view)).collect(),
            services: self.table.services.iter().map(|view| self.service(&view.service)).collect(),
        }
    }

    pub(super) fn pool(&self, pool: &PoolState, view: &PoolView) -> PoolStatus {
        let members = view.families.iter().flat_map(|family| &family.eligible.members);
        let eligible: HashSet<IpAddr> = members.map(|member| member.address).collect();
        let mut status = PoolStatus {
            name: Arc::clone(pool.series.name()),
            usable: view.usable(),
            healthy_weight: 0,
            total_weight: 0,
            backends: Vec::with_capacity(pool.backends.len()),
        };
        for (index, (configured, state)) in pool.setup.pool.backends.iter().zip(&pool.backends).enumerate() {
            let addresses: Vec<AddressStatus> = configured
                .addresses
                .iter()
                .zip(&state.addresses)
                .map(|(&address, state)| self.address(pool, address, state, eligible.contains(&address)))
                .collect();
            if configured.enabled {
                let healthy = addresses.iter().filter(|address| address.standing == Standing::Healthy);
                status.healthy_weight += u64::from(configured.weight) * healthy.count() as u64;
                status.total_weight += u64::from(configured.weight) * addresses.len() as u64;
            }
            status.backends.push(BackendStatus {
                name: pool.series.backend_name(index).cloned().unwrap_or_default(),
                site: configured.site.clone(),
                weight: configured.weight,
                enabled: configured.enabled,
                addresses,
            });
        }
        status
    }

    fn address(
        &self,
        pool: &PoolState,
        address: IpAddr,
        state: &AddressState,
        eligible: bool,
    ) -> AddressStatus {
        let checks = pool.checks.iter().zip(&pool.setup.checks).zip(&state.targets);
        let checks: Vec<CheckStatus> =
            checks.filter_map(|((name, check), id)| self.check(name, check, *id)).collect();
        AddressStatus {
            address,
            standing: state.standing,
            since: state.since,
            remembered: checks.iter().any(|check| check.remembered && !check.observe_only),
            held: state.held,
            percent: state.percent,
            eligible,
            checks,
            transitions: if self.history { state.transitions.iter().collect() } else { Vec::new() },
        }
    }

    fn check(&self, name: &Arc<str>, check: &Check, id: TargetId) -> Option<CheckStatus> {
        let target = self.targets.get(id)?;
        let (verdict, remembered) = self.targets.verdict(self.health, id);
        Some(CheckStatus {
            name: Arc::clone(name),
            kind: check.probe.kind(),
            standing: standing(verdict),
            since: target.since,
            remembered,
            critical: check.critical,
            observe_only: check.observe_only,
            last: target.outcomes.iter().next_back(),
            outcomes: if self.history { target.outcomes.iter().collect() } else { Vec::new() },
        })
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
