//! The state of the pools: for each backend address, the combined result of its checks and when it began.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use crate::check::{Check, PoolSetup, Probe};
use crate::fleet::calendar::{Calendar, Stamp};
use crate::fleet::history::Transitions;
use crate::fleet::kept_override::KeptOverride;
use crate::fleet::local_faults::Suspecting;
use crate::fleet::memory::{Hints, RememberedState, hints};
use crate::fleet::tally::Tally;
use crate::fleet::targets::{InitialState, Linker, Spot, TargetKey, Targets, User};
use crate::fleet::usability::Usability;
use crate::fleet::weight::{self, SlowStart};
use crate::fleet::{OverrideChange, combine};
use crate::health::{HealthTable, Moment, TargetId, Verdict};
use crate::metrics::{Metrics, PoolSeries};
use crate::pool::{Backend, Override, OverrideKind, OverrideValue, PoolId};
use crate::service::{Failback, Service, Ttl};
use crate::table::{AddressCondition, FULL_WEIGHT, PoolView, Standing};

/// The probing of a pool has stalled if there was no outcome for this many of its longest intervals, plus a
/// timeout.
const PATIENCE: u32 = 3;

/// How long after a table was replaced one of its answers may still be in transit.
pub(super) const ON_THE_WAY: Duration = Duration::from_secs(1);

/// All pools, indexed by [`PoolId`].
#[derive(Debug, Default)]
pub(super) struct Pools(pub(super) Vec<PoolState>);

/// A pool.
#[derive(Debug)]
pub(super) struct PoolState {
    pub(super) setup: Arc<PoolSetup>,
    /// The names of its checks, in order; reports share them.
    pub(super) checks: Box<[Arc<str>]>,
    pub(super) series: Arc<PoolSeries>,
    /// In configuration order.
    pub(super) backends: Vec<BackendState>,
    /// How many of its addresses are healthy.
    pub(super) tally: Tally,
    /// The longest TTLs of the routes that have it as a tier; none if no route has it.
    pub(super) ttl: Option<LongestTtl>,
    /// When all answers with other TTLs than now have expired: those from before the last reload, and those from when
    /// nothing was pending, or something else.
    pub(super) earlier_answers_end: Stamp,
    /// Why this machine is suspected, and not the pool.
    pub(super) suspected: Option<Suspecting>,
    /// Since when it is usable without a break, not on trust, by [`Family::index`](crate::pool::Family::index).
    pub(super) steady: [Option<Stamp>; 2],
    /// Whether it is usable in every family for which it has addresses, and since when that is so.
    pub(super) usability: Usability,
    /// Whether a service that has it as a tier does not always return to it at once.
    pub(super) is_awaited: bool,
}

/// The longest TTLs of several routes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LongestTtl {
    /// Of those with a fixed TTL.
    fixed: Duration,
    /// Of those whose TTL follows certainty: the longest minimum and the longest maximum.
    min: Duration,
    max: Duration,
}

impl LongestTtl {
    fn with(self, ttl: Ttl) -> Self {
        let [min, max] = [ttl.min, ttl.max].map(|seconds| Duration::from_secs(seconds.into()));
        if ttl.is_fixed() {
            Self { fixed: self.fixed.max(max), ..self }
        } else {
            Self { min: self.min.max(min), max: self.max.max(max), ..self }
        }
    }
}

/// A backend.
#[derive(Debug)]
pub(super) struct BackendState {
    /// In configuration order.
    pub(super) addresses: Box<[AddressState]>,
    /// The operator's overrides for it, by [`OverrideKind::index`].
    pub(super) overridden: KeptOverrides,
}

/// Boxed, because most backends have none.
type KeptOverrides = [Option<Box<KeptOverride>>; 2];

impl BackendState {
    /// The override of one kind.
    pub(super) fn kept(&self, kind: OverrideKind) -> Option<&KeptOverride> {
        self.overridden.get(kind.index())?.as_deref()
    }

    /// The state that an operator has set.
    pub(super) fn over(&self) -> Option<Override> {
        match self.kept(OverrideKind::State)?.value {
            OverrideValue::State(state) => Some(state),
            OverrideValue::Weight(_) => None,
        }
    }

    /// The operator's percentage of the configured weight.
    pub(super) fn weight(&self) -> u16 {
        match self.kept(OverrideKind::Weight).map(|kept| kept.value) {
            Some(OverrideValue::Weight(percent)) => percent,
            _ => FULL_WEIGHT.into(),
        }
    }
}

fn counted(configured: &Backend, state: &BackendState) -> Tally {
    let standings = state.addresses.iter().map(|address| address.standing);
    Tally::of(configured, state.over(), state.weight(), standings)
}

fn tally_of(setup: &PoolSetup, backends: &[BackendState]) -> Tally {
    let mut tally = Tally::default();
    for (configured, state) in setup.pool.backends.iter().zip(backends) {
        tally.replace(Tally::default(), counted(configured, state));
    }
    tally
}

/// An address of a backend.
#[derive(Debug)]
pub(super) struct AddressState {
    /// One target per check, in order; empty if the backend is not enabled.
    pub(super) targets: Box<[TargetId]>,
    /// The combined result of the checks.
    pub(super) standing: Standing,
    /// Whether it would be healthy without damping.
    pub(super) held: bool,
    /// When this standing began. For display.
    pub(super) since: Stamp,
    pub(super) slow_start: SlowStart,
    /// The percentage of its weight that it gets.
    pub(super) percent: u8,
    /// When the percentage changes by itself.
    pub(super) wake: Option<Moment>,
    pub(super) transitions: Transitions,
}

impl Pools {
    /// All pools at the start, with the remembered verdicts.
    pub(super) fn link(
        setups: Vec<PoolSetup>,
        remembered: &[RememberedState],
        calendar: Calendar,
        metrics: &Metrics,
        mut linker: Linker<'_, impl Rng>,
    ) -> Self {
        let mut hints = hints(remembered, calendar);
        let link = |(id, setup): (PoolId, PoolSetup)| {
            let hints = hints.remove(setup.pool.name.as_str()).unwrap_or_default();
            let linking = Linking { metrics, linker: &mut linker, hints: &hints, previous: None };
            PoolState::new(id, Arc::new(setup), linking)
        };
        let mut pools: Vec<PoolState> = (0..).map(PoolId).zip(setups).map(link).collect();
        for pool in &mut pools {
            pool.judge_again(linker.targets, linker.health);
        }
        Self(pools)
    }

    pub(super) fn get(&self, id: PoolId) -> Option<&PoolState> {
        self.0.get(id.index())
    }

    /// Finds a backend by its names.
    pub(super) fn find(&self, pool: &str, backend: &str) -> Option<(PoolId, usize)> {
        let (id, pool) = self.iter().find(|(_, state)| state.setup.pool.name == pool)?;
        let index = pool.setup.pool.backends.iter().position(|known| known.name == backend)?;
        Some((id, index))
    }

    /// The names of an address: pool, backend, address.
    pub(super) fn named(&self, spot: Spot) -> Option<(&str, &str, IpAddr)> {
        let pool = &self.get(spot.pool)?.setup.pool;
        let backend = pool.backends.get(spot.backend as usize)?;
        Some((&pool.name, &backend.name, *backend.addresses.get(spot.address as usize)?))
    }

    /// Records the longest TTLs of each pool, and whether a service may wait for it.
    pub(super) fn note_services<'a>(&mut self, services: impl Iterator<Item = &'a Service>) {
        for pool in &mut self.0 {
            (pool.ttl, pool.is_awaited) = (None, false);
        }
        for service in services {
            for (_, route) in service.routes() {
                for tier in &route.tiers {
                    if let Some(pool) = self.0.get_mut(tier.index()) {
                        pool.ttl = Some(pool.ttl.unwrap_or_default().with(route.ttl));
                        pool.is_awaited |= service.failback != Failback::Auto;
                    }
                }
            }
        }
    }

    pub(super) fn address_mut(&mut self, spot: Spot) -> Option<&mut AddressState> {
        let backend = self.0.get_mut(spot.pool.index())?.backends.get_mut(spot.backend as usize)?;
        backend.addresses.get_mut(spot.address as usize)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PoolId, &PoolState)> {
        (0..).map(PoolId).zip(&self.0)
    }
}

/// Inputs for linking a pool to its targets.
pub(super) struct Linking<'a, 'l, R> {
    pub(super) metrics: &'a Metrics,
    pub(super) linker: &'a mut Linker<'l, R>,
    /// The verdicts of its checks from the previous run.
    pub(super) hints: &'a Hints<'a>,
    /// The same pool before a reload.
    pub(super) previous: Option<PoolState>,
}

impl PoolState {
    /// Links a pool to its targets. Addresses that existed before keep their standing until the caller
    /// evaluates them again.
    pub(super) fn new(id: PoolId, setup: Arc<PoolSetup>, linking: Linking<'_, '_, impl Rng>) -> Self {
        let Linking { metrics, linker, hints, mut previous } = linking;
        let series = previous.as_ref().map(|previous| &*previous.series);
        let checks = setup.checks.iter();
        let with_tls: Vec<_> =
            checks.map(|check| Some(check.name.as_str()).filter(|_| check.probe.tls().is_some())).collect();
        let series =
            PoolSeries::new(metrics, &setup.pool, patience(&setup), series).with_certificates(&with_tls);
        let series = Arc::new(series);
        let mut link = PoolLink {
            id,
            setup: &setup,
            linker,
            hints,
            replaced: replaced(
                previous.as_ref().map_or(&[], |previous| &previous.setup.checks),
                &setup.checks,
            ),
        };
        let mut before = previous.as_mut().map(PoolState::take_backends).unwrap_or_default();
        let backends = (0..).zip(&setup.pool.backends).map(|(at, backend)| {
            link.backend(at, backend, before.remove(backend.name.as_str()).unwrap_or_default())
        });
        let backends: Vec<BackendState> = backends.collect();
        for (at, backend) in backends.iter().enumerate() {
            for (place, address) in backend.addresses.iter().enumerate() {
                series.stands(at, place, address.standing);
                for (check, id) in address.targets.iter().enumerate() {
                    let target = linker.targets.get(*id);
                    if let Some(expires) = target.and_then(|target| target.expiry.at()) {
                        series.certificate_expires(at, place, check, expires);
                    }
                }
            }
        }
        let usability = previous.as_ref().map(|previous| previous.usability);
        let usability = usability.unwrap_or_else(|| Usability::unknown(linker.at));
        let (ttl, earlier_answers_end, suspected, steady) = previous
            .map_or((None, linker.at, None, [None; 2]), |previous| {
                (previous.ttl, previous.earlier_answers_end, previous.suspected, previous.steady)
            });
        let checks = setup.checks.iter().map(|check| check.name.as_str().into()).collect();
        let tally = tally_of(&setup, &backends);
        let is_awaited = false;
        Self {
            setup,
            checks,
            series,
            backends,
            tally,
            ttl,
            earlier_answers_end,
            suspected,
            steady,
            usability,
            is_awaited,
        }
    }

    /// When answers with its addresses have expired everywhere, if they end now. `certain_until` is the time of the
    /// earliest pending change, if there is one.
    pub(super) fn answers_end(&self, now: Stamp, certain_until: Option<Stamp>) -> Stamp {
        let LongestTtl { fixed, min, max } = self.ttl.unwrap_or_default();
        let following = match certain_until {
            Some(until) => until.min(now.after(max)).max(now.after(min)),
            None => now.after(max),
        };
        following.max(now.after(fixed)).after(ON_THE_WAY)
    }

    /// Changes one backend and updates the tally.
    pub(super) fn change_backend<T>(
        &mut self,
        backend: usize,
        change: impl FnOnce(&mut BackendState) -> T,
    ) -> Option<T> {
        let configured = self.setup.pool.backends.get(backend)?;
        let state = self.backends.get_mut(backend)?;
        let before = counted(configured, state);
        let changed = change(state);
        self.tally.replace(before, counted(configured, state));
        Some(changed)
    }

    /// Evaluates all addresses again, because an address that was linked later may have given a shared target
    /// a verdict.
    fn judge_again(&mut self, targets: &Targets, health: &HealthTable) {
        let Self { setup, series, backends, tally, .. } = self;
        for (at, (configured, backend)) in setup.pool.backends.iter().zip(&mut *backends).enumerate() {
            for (place, address) in backend.addresses.iter_mut().enumerate() {
                (address.standing, address.held) = address.judge(setup, configured, targets, health);
                series.stands(at, place, address.standing);
            }
        }
        *tally = tally_of(setup, backends);
    }

    /// Takes a setup in which only settings differ that do not affect probes.
    pub(super) fn take_unprobed(&mut self, setup: Arc<PoolSetup>) {
        if !Arc::ptr_eq(&self.setup, &setup) {
            self.series.weigh(&setup.pool);
            self.setup = setup;
        }
    }

    /// Moves the backends out, keyed by name.
    fn take_backends(&mut self) -> HashMap<String, EarlierBackend> {
        let backends = std::mem::take(&mut self.backends);
        let named = self.setup.pool.backends.iter().zip(backends).map(|(configured, state)| {
            let addresses = configured.addresses.iter().copied().zip(state.addresses).collect();
            (configured.name.clone(), EarlierBackend { addresses, overridden: state.overridden })
        });
        named.collect()
    }

    pub(super) fn address(&self, backend: usize, address: usize) -> Option<&AddressState> {
        self.backends.get(backend)?.addresses.get(address)
    }

    /// The current view of the pool, for answers.
    pub(super) fn view(&self, previous: Option<&PoolView>) -> PoolView {
        debug_assert_eq!(self.tally, tally_of(&self.setup, &self.backends));
        self.view_with(previous, None)
    }

    /// The next view, if the configuration is the same.
    pub(super) fn next_view(&self, view: &PoolView) -> PoolView {
        debug_assert_eq!(self.tally, tally_of(&self.setup, &self.backends));
        view.next(&self.setup.pool, |backend, address| self.condition(backend, address, None))
    }

    /// The view of the pool after a change of overrides.
    pub(super) fn view_with(&self, previous: Option<&PoolView>, supposed: Option<Supposed<'_>>) -> PoolView {
        PoolView::build(&self.setup.pool, previous, |backend, address| {
            self.condition(backend, address, supposed)
        })
    }

    /// The state of an address, for answers.
    pub(super) fn condition(
        &self,
        backend: usize,
        address: usize,
        supposed: Option<Supposed<'_>>,
    ) -> AddressCondition {
        let Some((of_backend, state)) =
            self.backends.get(backend).and_then(|state| Some((state, state.addresses.get(address)?)))
        else {
            return AddressCondition::from(Standing::Unknown);
        };
        let mut condition = AddressCondition {
            standing: state.standing,
            held: state.held,
            percent: state.percent,
            overridden: of_backend.over(),
            weight: of_backend.weight(),
        };
        match supposed.filter(|supposed| supposed.backends.contains(&backend)).map(|supposed| supposed.change)
        {
            Some(OverrideChange::State(over)) => condition.overridden = over,
            Some(OverrideChange::Weight(percent)) => condition.weight = percent.unwrap_or(FULL_WEIGHT.into()),
            None => {}
        }
        condition
    }
}

/// A change of overrides whose consequences are examined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Supposed<'a> {
    /// The backends of the pool that it concerns.
    pub(super) backends: &'a BTreeSet<usize>,
    pub(super) change: OverrideChange,
}

/// A backend before a reload.
#[derive(Default)]
struct EarlierBackend {
    addresses: HashMap<IpAddr, AddressState>,
    overridden: KeptOverrides,
}

/// Inputs for linking the backends of a pool.
struct PoolLink<'a, 'l, R> {
    id: PoolId,
    setup: &'a PoolSetup,
    linker: &'a mut Linker<'l, R>,
    hints: &'a Hints<'a>,
    /// For each check, the earlier check that it replaces.
    replaced: Vec<Option<usize>>,
}

impl<R: Rng> PoolLink<'_, '_, R> {
    fn backend(&mut self, at: u32, backend: &Backend, mut before: EarlierBackend) -> BackendState {
        let probes: Vec<Arc<Probe>> = (self.setup.checks.iter())
            .map(|check| self.linker.probe(check.probe.of_backend(backend)))
            .collect();
        let addresses = (0..).zip(&backend.addresses).map(|(place, &address)| {
            let spot = Spot { pool: self.id, backend: at, address: place };
            self.address(spot, backend, address, &probes, before.addresses.remove(&address))
        });
        BackendState { addresses: addresses.collect(), overridden: before.overridden }
    }

    fn address(
        &mut self,
        spot: Spot,
        backend: &Backend,
        address: IpAddr,
        probes: &[Arc<Probe>],
        before: Option<AddressState>,
    ) -> AddressState {
        let mut since = None;
        let mut targets = Vec::new();
        let checks = self.setup.checks.iter().zip(probes).zip(&self.replaced).filter(|_| backend.enabled);
        for (index, ((check, probe), replaced)) in (0..).zip(checks) {
            let old = before.as_ref().and_then(|before| before.targets.get((*replaced)?));
            let mut progress = None;
            let beginning = match (old, &before) {
                (Some(old), _) => self.linker.targets.beginning(self.linker.health, *old),
                // Until a new check has an outcome, the address keeps its standing.
                (None, Some(before)) => InitialState::hint(verdict(before.standing), self.linker.at),
                (None, None) => {
                    let hint = self.hints.get(&(backend.name.as_str(), address, check.name.as_str()));
                    let since = hint.map_or(self.linker.at, |hint| hint.since);
                    let verdict = hint.map(|hint| hint.verdict);
                    progress = hint.and_then(|hint| hint.progress);
                    match progress {
                        Some(_) => InitialState { verdict, hint: None, since },
                        None => InitialState::hint(verdict, since),
                    }
                }
            };
            if !check.observe_only {
                // The combined result dates from the last change of a deciding check.
                since = since.max(Some(beginning.since));
            }
            let key = TargetKey {
                probe: Arc::clone(probe),
                timing: self.linker.timing(check.timing),
                host: backend.check_address.unwrap_or(address),
            };
            let target = self.linker.link(key, User { spot, check: index }, beginning);
            if let Some(progress) = progress {
                self.linker.health.resume(target, progress, self.linker.now);
            }
            targets.push(target);
        }
        match before {
            Some(before) => AddressState { targets: targets.into(), wake: None, ..before },
            None => {
                let mut state = AddressState::new(targets, since.unwrap_or(self.linker.at));
                (state.standing, state.held) =
                    state.judge(self.setup, backend, self.linker.targets, self.linker.health);
                state
            }
        }
    }
}

/// For each check, the earlier check that it replaces: the one with the same name, or the only one if there is
/// one check before and after.
fn replaced(before: &[Check], now: &[Check]) -> Vec<Option<usize>> {
    if let ([_], [_]) = (before, now) {
        return vec![Some(0)];
    }
    now.iter().map(|check| before.iter().position(|old| old.name == check.name)).collect()
}

/// The longest time from the end of one probe of a pool to the end of the next.
fn patience(setup: &PoolSetup) -> Option<Duration> {
    let is_probed = setup.pool.backends.iter().any(|backend| backend.enabled);
    let longest = setup.checks.iter().map(|check| PATIENCE * longest_interval(check) + check.timing.timeout);
    longest.max().filter(|_| is_probed)
}

impl AddressState {
    fn new(targets: Vec<TargetId>, since: Stamp) -> Self {
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

    /// Computes the percentage of its weight. Returns whether it has changed, and when it next changes by
    /// itself.
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

    /// The combined result of the checks, and whether the address is held only by damping.
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

fn verdict(standing: Standing) -> Option<Verdict> {
    match standing {
        Standing::Unknown => None,
        Standing::Healthy => Some(Verdict::Healthy),
        Standing::Unhealthy => Some(Verdict::Unhealthy),
        Standing::Draining => Some(Verdict::Draining),
    }
}

/// The standing that corresponds to a verdict.
pub(super) fn standing(verdict: Option<Verdict>) -> Standing {
    match verdict {
        None => Standing::Unknown,
        Some(Verdict::Healthy) => Standing::Healthy,
        Some(Verdict::Unhealthy) => Standing::Unhealthy,
        Some(Verdict::Draining) => Standing::Draining,
    }
}
