//! The state of everything at one moment, for those who ask.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::SystemTime;

use crate::checker::PoolSetup;
use crate::checker::services::Answering;
use crate::checker::targets::Targets;
use crate::health::HealthTable;
use crate::pool::{Backend, PoolId};
use crate::probe::Report;
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
    pub name: String,
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
    pub name: String,
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
    /// What the checks say of it; unknown when the backend is not enabled, as it is not probed.
    pub standing: Standing,
    /// Since when it has been in that state.
    pub since: SystemTime,
    /// Whether it may appear in an answer now.
    pub eligible: bool,
    /// The check's kind (`http`, `https`, `tcp`) and its last report; none without a check.
    pub check: Option<CheckStatus>,
}

/// The state of a check of one address.
#[derive(Clone, Debug)]
pub struct CheckStatus {
    /// `http`, `https` or `tcp`.
    pub name: &'static str,
    /// When the last probe ended, and what it brought.
    pub last: Option<(SystemTime, Report)>,
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
    pub(super) pools: &'a [PoolSetup],
    pub(super) targets: &'a Targets,
    pub(super) health: &'a HealthTable,
    pub(super) table: &'a Table,
    /// When the checker started: since then a state that never changed has been as it is.
    pub(super) started: SystemTime,
}

impl Sources<'_> {
    pub(super) fn status(&self) -> Status {
        let pools = (0..).map(PoolId).zip(self.pools).zip(&self.table.pools);
        Status {
            generation: self.table.generation,
            pools: pools.map(|((id, setup), view)| self.pool(id, setup, view)).collect(),
            services: self.table.services.iter().map(|view| self.service(&view.service)).collect(),
        }
    }

    fn pool(&self, id: PoolId, setup: &PoolSetup, view: &PoolView) -> PoolStatus {
        let eligible: HashSet<IpAddr> = view
            .families
            .iter()
            .flat_map(|family| family.eligible.members.iter().map(|member| member.address))
            .collect();
        let backends: Vec<BackendStatus> = setup
            .pool
            .backends
            .iter()
            .enumerate()
            .map(|(index, backend)| self.backend(id, index, backend, &eligible))
            .collect();
        let weight_of = |wanted: &dyn Fn(&AddressStatus) -> bool| {
            backends
                .iter()
                .filter(|backend| backend.enabled)
                .flat_map(|backend| backend.addresses.iter().map(move |address| (backend.weight, address)))
                .filter(|(_, address)| wanted(address))
                .map(|(weight, _)| u64::from(weight))
                .sum()
        };
        PoolStatus {
            name: setup.pool.name.clone(),
            usable: view.usable(),
            healthy_weight: weight_of(&|address| address.standing == Standing::Healthy),
            total_weight: weight_of(&|_| true),
            backends,
        }
    }

    fn backend(
        &self,
        pool: PoolId,
        index: usize,
        backend: &Backend,
        eligible: &HashSet<IpAddr>,
    ) -> BackendStatus {
        let address = |(place, &address): (usize, &IpAddr)| {
            let target = self.targets.of(pool, index, place).and_then(|id| self.targets.get(id));
            AddressStatus {
                address,
                standing: self.targets.standing(self.health, pool, index, place),
                since: target.map_or(self.started, |target| target.since),
                eligible: eligible.contains(&address),
                check: target
                    .map(|target| CheckStatus { name: target.check.probe.kind(), last: target.last.clone() }),
            }
        };
        BackendStatus {
            name: backend.name.clone(),
            weight: backend.weight,
            enabled: backend.enabled,
            addresses: backend.addresses.iter().enumerate().map(address).collect(),
        }
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
