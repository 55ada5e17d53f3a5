//! The pools at work: what the checks of each backend address say together, and since when.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::Rng;

use crate::checker::history::Transitions;
use crate::checker::targets::{Beginning, Key, Linker, Spot, Targets, User};
use crate::checker::weight::{self, SlowStart};
use crate::checker::{Check, PoolSetup, combine};
use crate::counters::Counters;
use crate::health::{HealthTable, Moment, TargetId, Verdict};
use crate::metrics::{Metrics, PoolSeries};
use crate::pool::{Backend, PoolId};
use crate::table::{FULL_WEIGHT, Place, PoolView, Standing};

/// How many of its longest intervals a pool may have no outcome, besides a timeout, before its probing
/// is said to have stalled.
const PATIENCE: u32 = 3;

/// All pools, by [`PoolId`].
#[derive(Debug, Default)]
pub(super) struct Pools(pub(super) Vec<PoolState>);

/// A pool at work.
#[derive(Debug)]
pub(super) struct PoolState {
    pub(super) setup: PoolSetup,
    /// The names of its checks, in order, to be shared.
    pub(super) checks: Box<[Arc<str>]>,
    pub(super) series: Arc<PoolSeries>,
    /// In order.
    pub(super) backends: Vec<BackendState>,
}

/// A backend at work.
#[derive(Debug)]
pub(super) struct BackendState {
    /// In order.
    pub(super) addresses: Box<[AddressState]>,
}

/// An address of a backend at work.
#[derive(Debug)]
pub(super) struct AddressState {
    /// By check, in order; none when the backend is not enabled.
    pub(super) targets: Box<[TargetId]>,
    /// What the checks say together.
    pub(super) standing: Standing,
    /// It would be healthy but for damping.
    pub(super) held: bool,
    /// Since when it has been what it is. For display.
    pub(super) since: SystemTime,
    pub(super) slow_start: SlowStart,
    /// Percent of its weight that it gets.
    pub(super) percent: u8,
    /// When that changes by itself, and is looked at again.
    pub(super) wake: Option<Moment>,
    pub(super) transitions: Transitions,
}

/// What is remembered of the checks of a pool from before the start.
pub(super) type Hints<'a> = HashMap<(&'a str, IpAddr, &'a str), (Verdict, SystemTime)>;

impl Pools {
    pub(super) fn get(&self, id: PoolId) -> Option<&PoolState> {
        self.0.get(id.index())
    }

    pub(super) fn address_mut(&mut self, spot: Spot) -> Option<&mut AddressState> {
        let backend = self.0.get_mut(spot.pool.index())?.backends.get_mut(spot.backend as usize)?;
        backend.addresses.get_mut(spot.address as usize)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PoolId, &PoolState)> {
        (0..).map(PoolId).zip(&self.0)
    }
}

impl PoolState {
    /// Links a pool to its targets.
    pub(super) fn new(
        id: PoolId,
        setup: PoolSetup,
        metrics: &Metrics,
        linker: &mut Linker<'_, impl Rng>,
        hints: &Hints<'_>,
    ) -> Self {
        let probed = setup.pool.backends.iter().any(|backend| backend.enabled) && !setup.checks.is_empty();
        let patience =
            setup.checks.iter().map(|check| PATIENCE * longest_interval(check) + check.timing.timeout);
        let patience = patience.max().filter(|_| probed);
        let series = Arc::new(PoolSeries::new(metrics, &setup.pool, patience, None));
        let checks = setup.checks.iter().map(|check| check.name.as_str().into()).collect();
        let mut backends = Vec::with_capacity(setup.pool.backends.len());
        for (at, backend) in (0..).zip(&setup.pool.backends) {
            let probes: Vec<_> = setup
                .checks
                .iter()
                .map(|check| {
                    linker.probe(match backend.port {
                        Some(port) => check.probe.with_port(port),
                        None => check.probe.clone(),
                    })
                })
                .collect();
            let addresses = (0..).zip(&backend.addresses).map(|(place, &address)| {
                let spot = Spot { pool: id, backend: at, address: place };
                let mut since = linker.wall;
                let mut targets = Vec::new();
                if backend.enabled {
                    for (index, (check, probe)) in (0..).zip(setup.checks.iter().zip(&probes)) {
                        let hint = hints.get(&(backend.name.as_str(), address, check.name.as_str()));
                        let beginning = Beginning {
                            verdict: None,
                            hint: hint.map(|(verdict, _)| *verdict),
                            since: hint.map_or(linker.wall, |(_, since)| *since),
                        };
                        let key = Key {
                            probe: Arc::clone(probe),
                            timing: check.timing,
                            host: backend.check_address.unwrap_or(address),
                        };
                        targets.push(linker.link(key, User { spot, check: index }, beginning));
                        since = since.min(beginning.since);
                    }
                }
                let mut state = AddressState::new(targets, since);
                (state.standing, state.held) = state.judge(&setup, backend, linker.targets, linker.health);
                series.stands(at as usize, place as usize, state.standing);
                state
            });
            backends.push(BackendState { addresses: addresses.collect() });
        }
        Self { setup, checks, series, backends }
    }

    pub(super) fn address(&self, backend: usize, address: usize) -> Option<&AddressState> {
        self.backends.get(backend)?.addresses.get(address)
    }

    /// What may be answered of it now.
    pub(super) fn view(&self, previous: Option<&PoolView>, answers: Arc<Counters>) -> PoolView {
        PoolView::build(&self.setup.pool, previous, answers, |backend, address| {
            let Some(state) = self.address(backend, address) else { return Place::from(Standing::Unknown) };
            Place { standing: state.standing, held: state.held, percent: state.percent, overridden: None }
        })
    }
}

impl AddressState {
    fn new(targets: Vec<TargetId>, since: SystemTime) -> Self {
        Self {
            targets: targets.into(),
            standing: Standing::Unknown,
            held: false,
            since,
            slow_start: SlowStart::default(),
            percent: FULL_WEIGHT,
            wake: None,
            transitions: Transitions::default(),
        }
    }

    /// Works out the percent of its weight anew, and when it changes next by itself.
    pub(super) fn weigh(
        &mut self,
        setup: &PoolSetup,
        targets: &mut Targets,
        now: Moment,
    ) -> (bool, Option<Moment>) {
        let mut next = self.slow_start.next_change(now);
        let checks = self.targets.iter().zip(&setup.checks).filter(|(_, check)| !check.observe_only);
        let loads = checks.filter_map(|(id, _)| {
            let load = &mut targets.get_mut(*id)?.load;
            let change = load.next_change(now);
            next = next.into_iter().chain(change).min();
            Some(load.percent(now))
        });
        let percent = weight::percent(self.slow_start.percent(now), loads);
        let changed = percent != self.percent;
        self.percent = percent;
        (changed, next)
    }

    /// What the checks say together, and whether it is damping alone that keeps it out.
    pub(super) fn judge(
        &self,
        setup: &PoolSetup,
        backend: &Backend,
        targets: &Targets,
        health: &HealthTable,
    ) -> (Standing, bool) {
        if !backend.enabled {
            return (Standing::Unknown, false);
        }
        let combined = |verdict: &dyn Fn(TargetId) -> Option<Verdict>| {
            let checks = self.targets.iter().zip(&setup.checks);
            combine(
                setup.require,
                checks.map(|(id, check)| (verdict(*id), check.critical, check.observe_only)),
            )
        };
        let verdict = combined(&|id| targets.verdict(health, id).0);
        let held = verdict == Some(Verdict::Unhealthy)
            && self.targets.iter().any(|id| health.held_until(*id).is_some())
            && combined(&|id| match health.held_until(id) {
                Some(_) => Some(Verdict::Healthy),
                None => targets.verdict(health, id).0,
            }) == Some(Verdict::Healthy);
        (standing(verdict), held)
    }
}

fn longest_interval(check: &Check) -> Duration {
    check.timing.interval.max(check.timing.interval_down)
}

/// The table's word for a verdict.
pub(super) fn standing(verdict: Option<Verdict>) -> Standing {
    match verdict {
        None => Standing::Unknown,
        Some(Verdict::Healthy) => Standing::Healthy,
        Some(Verdict::Unhealthy) => Standing::Unhealthy,
        Some(Verdict::Draining) => Standing::Draining,
    }
}
