//! Counters of probes and health, one set per pool.
//!
//! The checker keeps references to its counters, so counting an outcome is an addition without a
//! look-up. Readers do not need the checker, so they can read the counters even if it is stuck.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::health::Outcome;
use crate::metrics::Metrics;
use crate::metrics::histogram::Histogram;
use crate::metrics::text::{Label, TextEncoder, flag};
use crate::pool::{Override, OverrideKind, OverrideValue, Pool};
use crate::probe::Cause;
use crate::table::{PoolView, Standing, Table};

/// While all pools together have at most this many backends, each counter is shown from 0 on, so that `increase` counts its
/// first event. In larger fleets rare series appear with their first event: for 100,000 backends, zeros would triple the
/// 51 MB of a scrape.
const BACKENDS_FROM_ZERO: usize = 1000;

/// In the order of their counters. The first two are shown even at 0.
const OUTCOMES: [Outcome; 4] = [Outcome::Passed, Outcome::Failed, Outcome::Draining, Outcome::Void];

/// In the order of their counters, which is the order of the enum.
const CAUSES: [Cause; 10] = [
    Cause::Refused,
    Cause::Reset,
    Cause::Closed,
    Cause::Timeout,
    Cause::Unreachable,
    Cause::Tls,
    Cause::Protocol,
    Cause::Status,
    Cause::Body,
    Cause::Local,
];

/// In the order of their numbers.
const STANDINGS: [Standing; 4] =
    [Standing::Unknown, Standing::Healthy, Standing::Draining, Standing::Unhealthy];

/// Stands for no override of the weight: no override has so large a percentage.
const NO_PERCENT: u16 = u16::MAX;

/// Buckets of the duration of probes, seconds.
const DURATIONS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Counters and gauges of a pool.
#[derive(Debug)]
pub struct PoolSeries {
    name: Arc<str>,
    backends: Box<[BackendSeries]>,
    /// The names of its checks; `None` for checks without TLS.
    with_tls: Box<[Option<Arc<str>>]>,
    /// For probes that gave a verdict. Probes in flight at a reload count in the same histogram.
    duration: Arc<Histogram>,
    /// When a probe of the pool last ended, or when the pool was added; nanoseconds since
    /// `Metrics::began`.
    last_probe: AtomicU64,
    /// The longest expected time between the ends of two probes; `None` if the pool has no probes.
    patience: Option<Duration>,
    suspected: AtomicBool,
    /// How often a suspicion instead of this pool has begun.
    suspicions: AtomicU64,
}

/// Counters and gauges of a backend.
#[derive(Debug)]
struct BackendSeries {
    name: Arc<str>,
    /// The configured weight.
    weight: AtomicU32,
    enabled: bool,
    /// Indexed as [`OUTCOMES`].
    outcomes: [AtomicU64; OUTCOMES.len()],
    /// Indexed as [`CAUSES`].
    causes: [AtomicU32; CAUSES.len()],
    /// 0 for none, otherwise the index in [`Override::ALL`] plus one.
    over: AtomicU8,
    /// The operator's percentage of the weight; [`NO_PERCENT`] for none.
    percent: AtomicU16,
    /// When the operator's override of each kind ends, seconds since 1970; 0 for no end.
    ends: [AtomicU64; OverrideKind::ALL.len()],
    addresses: Box<[AddressSeries]>,
}

/// Counters and gauges of a backend address.
#[derive(Debug)]
struct AddressSeries {
    address: IpAddr,
    /// The index in [`STANDINGS`].
    standing: AtomicU8,
    /// How often the address changed to each of [`STANDINGS`].
    transitions: [AtomicU32; STANDINGS.len()],
    /// Whether damping holds it back.
    held: AtomicBool,
    /// For each check, the expiry of the last certificate that it saw, in seconds since 1970; 0 for
    /// none. Empty if no check uses TLS.
    certificates: Box<[AtomicI64]>,
}

impl PoolSeries {
    /// Creates the series of a pool. Backends and addresses that are also in `previous`, the earlier
    /// pool with the same name, keep their values. `patience` is the longest expected time between
    /// the ends of two probes, `None` if the pool has no probes.
    #[must_use]
    pub fn new(metrics: &Metrics, pool: &Pool, patience: Option<Duration>, previous: Option<&Self>) -> Self {
        let by_name: HashMap<&str, &BackendSeries> = previous
            .into_iter()
            .flat_map(|series| series.backends.iter())
            .map(|backend| (&*backend.name, backend))
            .collect();
        let began = metrics.elapsed();
        let last = previous.map_or(began, |series| series.last_probe.load(Ordering::Relaxed));
        Self {
            name: previous.map_or_else(|| pool.name.as_str().into(), |series| Arc::clone(&series.name)),
            backends: pool
                .backends
                .iter()
                .map(|backend| {
                    let old = by_name.get(backend.name.as_str()).copied();
                    BackendSeries {
                        name: old.map_or_else(|| backend.name.as_str().into(), |old| Arc::clone(&old.name)),
                        weight: AtomicU32::new(backend.weight),
                        enabled: backend.enabled,
                        outcomes: old.map(|old| copied64(&old.outcomes)).unwrap_or_default(),
                        causes: old.map(|old| copied32(&old.causes)).unwrap_or_default(),
                        over: AtomicU8::new(old.map_or(0, |old| old.over.load(Ordering::Relaxed))),
                        percent: AtomicU16::new(
                            old.map_or(NO_PERCENT, |old| old.percent.load(Ordering::Relaxed)),
                        ),
                        ends: old.map(|old| copied64(&old.ends)).unwrap_or_default(),
                        addresses: backend.addresses.iter().map(|ip| AddressSeries::new(*ip, old)).collect(),
                    }
                })
                .collect(),
            with_tls: Box::default(),
            duration: previous
                .map_or_else(|| Arc::new(Histogram::new(&DURATIONS)), |series| Arc::clone(&series.duration)),
            last_probe: AtomicU64::new(last),
            patience,
            suspected: AtomicBool::new(previous.is_some_and(|old| old.suspected.load(Ordering::Relaxed))),
            suspicions: AtomicU64::new(previous.map_or(0, |old| old.suspicions.load(Ordering::Relaxed))),
        }
    }

    /// Adds series for the certificates that checks see. `checks` has the names of the checks; `None`
    /// stands for a check without TLS.
    #[must_use]
    pub fn with_certificates(mut self, checks: &[Option<&str>]) -> Self {
        if checks.iter().any(Option::is_some) {
            self.with_tls = checks.iter().map(|name| name.map(Arc::from)).collect();
            for address in self.backends.iter_mut().flat_map(|backend| &mut backend.addresses) {
                address.certificates = checks.iter().map(|_| AtomicI64::new(0)).collect();
            }
        }
        self
    }

    /// Records whether damping holds an address back.
    pub fn held(&self, backend: usize, address: usize, held: bool) {
        if let Some(series) = self.address(backend, address) {
            series.held.store(held, Ordering::Relaxed);
        }
    }

    /// Records the expiry of a certificate that a check of an address has seen.
    pub fn certificate_expires(&self, backend: usize, address: usize, check: usize, at: SystemTime) {
        let Some(series) = self.address(backend, address) else { return };
        let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if let Some(place) = series.certificates.get(check) {
            place.store(i64::try_from(seconds).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// Sets new weights. Backends and addresses must be unchanged.
    pub fn weigh(&self, pool: &Pool) {
        for (series, backend) in self.backends.iter().zip(&pool.backends) {
            series.weight.store(backend.weight, Ordering::Relaxed);
        }
    }

    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn duration(&self) -> &Histogram {
        &self.duration
    }

    /// The name of a backend.
    #[must_use]
    pub fn backend_name(&self, backend: usize) -> Option<&Arc<str>> {
        self.backends.get(backend).map(|backend| &backend.name)
    }

    /// Counts the end of a probe of a backend. The duration of a void probe is not recorded.
    pub fn probe_ended(&self, backend: usize, outcome: Outcome, cause: Option<Cause>, took: Duration) {
        let Some(series) = self.backends.get(backend) else { return };
        let place = OUTCOMES.iter().position(|known| *known == outcome);
        if let Some(count) = place.and_then(|place| series.outcomes.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(count) = cause.and_then(|cause| series.causes.get(cause as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if outcome != Outcome::Void {
            self.duration.observe(took);
        }
    }

    /// Records that a probe of the pool has ended now.
    pub fn probed(&self, metrics: &Metrics) {
        self.last_probe.store(metrics.elapsed(), Ordering::Relaxed);
    }

    /// Sets the standing of an address without counting a change.
    pub fn stands(&self, backend: usize, address: usize, standing: Standing) {
        if let Some(series) = self.address(backend, address) {
            series.standing.store(number(standing), Ordering::Relaxed);
        }
    }

    /// Sets the standing of an address and counts the change.
    pub fn changed(&self, backend: usize, address: usize, to: Standing) {
        self.stands(backend, address, to);
        let count =
            self.address(backend, address).and_then(|series| series.transitions.get(number(to) as usize));
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sets or ends the operator's override of this kind for a backend.
    pub fn overridden(&self, backend: usize, kind: OverrideKind, value: Option<OverrideValue>) {
        let Some(series) = self.backends.get(backend) else { return };
        match (kind, value) {
            (_, Some(OverrideValue::State(state))) => {
                let place = (1..).zip(Override::ALL).find(|(_, known)| *known == state);
                series.over.store(place.map_or(0, |(place, _)| place), Ordering::Relaxed);
            }
            (_, Some(OverrideValue::Weight(percent))) => series.percent.store(percent, Ordering::Relaxed),
            (OverrideKind::State, None) => series.over.store(0, Ordering::Relaxed),
            (OverrideKind::Weight, None) => series.percent.store(NO_PERCENT, Ordering::Relaxed),
        }
    }

    /// Sets when the operator's override of this kind for a backend ends; `None` if it has no end.
    pub fn override_ends(&self, backend: usize, kind: OverrideKind, end: Option<Duration>) {
        if let Some(place) = self.backends.get(backend).and_then(|backend| backend.ends.get(kind.index())) {
            place.store(end.map_or(0, |end| end.as_secs()), Ordering::Relaxed);
        }
    }

    /// Sets whether this machine is suspected, and not the pool, and counts the beginning of a suspicion.
    pub fn suspected(&self, suspected: bool) {
        note_suspicion(&self.suspected, &self.suspicions, suspected);
    }

    /// Time since a probe of the pool ended; `None` if it has no probes.
    #[must_use]
    pub fn last_probe_age(&self, metrics: &Metrics) -> Option<Duration> {
        self.patience?;
        let last = self.last_probe.load(Ordering::Relaxed);
        Some(Duration::from_nanos(metrics.elapsed().saturating_sub(last)))
    }

    /// The longest expected time between the ends of two probes.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        self.patience
    }

    fn address(&self, backend: usize, address: usize) -> Option<&AddressSeries> {
        self.backends.get(backend)?.addresses.get(address)
    }

    fn addresses(&self) -> impl Iterator<Item = (&BackendSeries, &AddressSeries)> {
        self.backends.iter().flat_map(|backend| backend.addresses.iter().map(move |one| (backend, one)))
    }

    fn healthy_weight(&self) -> u64 {
        let enabled = self.backends.iter().filter(|backend| backend.enabled && !backend.is_disabled());
        let healthy = |backend: &BackendSeries| {
            let count = backend.addresses.iter().filter(|address| address.is(Standing::Healthy)).count();
            u64::from(backend.weight.load(Ordering::Relaxed)) * count as u64
        };
        enabled.map(healthy).sum()
    }
}

impl BackendSeries {
    /// Whether an operator removes it from every total.
    fn is_disabled(&self) -> bool {
        let place = usize::from(self.over.load(Ordering::Relaxed)).checked_sub(1);
        place.and_then(|place| Override::ALL.get(place)) == Some(&Override::Disabled)
    }
}

impl AddressSeries {
    fn new(address: IpAddr, backend: Option<&BackendSeries>) -> Self {
        let mut known = backend.into_iter().flat_map(|backend| backend.addresses.iter());
        let old = known.find(|series| series.address == address);
        Self {
            address,
            standing: AtomicU8::new(old.map_or(0, |old| old.standing.load(Ordering::Relaxed))),
            transitions: old.map(|old| copied32(&old.transitions)).unwrap_or_default(),
            held: AtomicBool::new(old.is_some_and(|old| old.held.load(Ordering::Relaxed))),
            certificates: Box::default(),
        }
    }

    fn is(&self, standing: Standing) -> bool {
        self.standing.load(Ordering::Relaxed) == number(standing)
    }
}

/// Sets whether there is a suspicion, and counts its beginning.
pub(super) fn note_suspicion(present: &AtomicBool, begun: &AtomicU64, suspected: bool) {
    if !present.swap(suspected, Ordering::Relaxed) && suspected {
        begun.fetch_add(1, Ordering::Relaxed);
    }
}

fn number(standing: Standing) -> u8 {
    let place = (0..).zip(STANDINGS).find(|(_, known)| *known == standing);
    place.map_or(0, |(place, _)| place)
}

fn copied64<const N: usize>(counts: &[AtomicU64; N]) -> [AtomicU64; N] {
    counts.each_ref().map(|count| AtomicU64::new(count.load(Ordering::Relaxed)))
}

fn copied32<const N: usize>(counts: &[AtomicU32; N]) -> [AtomicU32; N] {
    counts.each_ref().map(|count| AtomicU32::new(count.load(Ordering::Relaxed)))
}

/// The name of an outcome in metrics and the API.
fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Draining => "draining",
        Outcome::Failed => "failed",
        Outcome::Void => "void",
    }
}

/// Writes the series of all pools.
pub(super) fn write(text: &mut TextEncoder<'_>, metrics: &Metrics, table: &Table) -> fmt::Result {
    let pools = metrics.pools();
    let views = table.pools().iter().map(|view| (&*view.name, &**view)).collect();
    let from_zero = pools.iter().map(|pool| pool.backends.len()).sum::<usize>() <= BACKENDS_FROM_ZERO;
    write_probes(text, &pools, from_zero)?;
    write_addresses(text, &pools, &views, from_zero)?;
    write_certificates(text, &pools)?;
    write_pools(text, &pools, &views, metrics)
}

type Views<'a> = HashMap<&'a str, &'a PoolView>;

fn write_probes(text: &mut TextEncoder<'_>, pools: &[Arc<PoolSeries>], from_zero: bool) -> fmt::Result {
    let backends = || pools.iter().flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)));
    let help = "Probes by outcome: passed, draining, failed, void (a fault of this machine).";
    let mut probes = text.counter("probes_total", help)?;
    for (pool, backend) in backends() {
        for (place, (outcome, count)) in OUTCOMES.into_iter().zip(&backend.outcomes).enumerate() {
            let count = count.load(Ordering::Relaxed);
            if from_zero || count > 0 || place < 2 {
                let labels = [("pool", &*pool.name), ("backend", &*backend.name), ("outcome", word(outcome))];
                probes.series(&labels, count)?;
            }
        }
    }
    let mut failures = text.counter("probe_failures_total", "Probes that failed or were void, by cause.")?;
    for (pool, backend) in backends() {
        for (cause, count) in CAUSES.into_iter().zip(&backend.causes) {
            let count = count.load(Ordering::Relaxed);
            if from_zero || count > 0 {
                let labels = [("pool", &*pool.name), ("backend", &*backend.name), ("cause", cause.as_str())];
                failures.series(&labels, count)?;
            }
        }
    }
    let help = "1 while an operator overrides the state of the backend.";
    let mut overridden = text.gauge("backend_overridden", help)?;
    for (pool, backend) in backends() {
        let over = backend.over.load(Ordering::Relaxed).checked_sub(1);
        if let Some(over) = over.and_then(|place| Override::ALL.get(usize::from(place))) {
            let labels = [("pool", &*pool.name), ("backend", &*backend.name), ("state", over.as_str())];
            overridden.series(&labels, 1)?;
        }
    }
    let help = "The part of its configured weight that an operator gives the backend, while one does.";
    let mut weights = text.gauge("backend_weight_override_ratio", help)?;
    for (pool, backend) in backends() {
        let percent = backend.percent.load(Ordering::Relaxed);
        if percent != NO_PERCENT {
            let labels = [("pool", &*pool.name), ("backend", &*backend.name)];
            weights.series(&labels, f64::from(percent) / 100.0)?;
        }
    }
    let help = "When the override of a backend ends, seconds since 1970; 0 if it has no end.";
    let mut ends = text.gauge("backend_override_end_timestamp_seconds", help)?;
    for (pool, backend) in backends() {
        let kinds = [
            ("state", backend.over.load(Ordering::Relaxed) != 0),
            ("weight", backend.percent.load(Ordering::Relaxed) != NO_PERCENT),
        ];
        for ((kind, is_set), end) in kinds.into_iter().zip(&backend.ends) {
            if is_set {
                let labels = [("pool", &*pool.name), ("backend", &*backend.name), ("kind", kind)];
                ends.series(&labels, end.load(Ordering::Relaxed))?;
            }
        }
    }
    let help = "1 for a backend with `enabled = false`.";
    let mut disabled = text.gauge("backend_disabled", help)?;
    for (pool, backend) in backends().filter(|(_, backend)| !backend.enabled) {
        disabled.series(&[("pool", &*pool.name), ("backend", &*backend.name)], 1)?;
    }
    Ok(())
}

fn write_addresses(
    text: &mut TextEncoder<'_>,
    pools: &[Arc<PoolSeries>],
    views: &Views<'_>,
    from_zero: bool,
) -> fmt::Result {
    let help = "Changes of state of backend addresses, by the new state.";
    let mut transitions = text.counter("backend_transitions_total", help)?;
    for pool in pools {
        for (backend, address) in pool.addresses() {
            for (standing, count) in STANDINGS.into_iter().zip(&address.transitions) {
                let count = count.load(Ordering::Relaxed);
                // Only a reload makes an address unknown again.
                if count > 0 || from_zero && standing != Standing::Unknown {
                    let shown = address.address.to_string();
                    let [pool, backend, address] = labels(pool, backend, &shown);
                    transitions.series(&[pool, backend, address, ("to", standing.as_str())], count)?;
                }
            }
        }
    }
    let mut healthy = text.gauge("backend_healthy", "1 if the checks find the address healthy.")?;
    for pool in pools {
        for (backend, address) in pool.addresses() {
            let is_healthy = flag(address.is(Standing::Healthy));
            healthy.series(&labels(pool, backend, &address.address.to_string()), is_healthy)?;
        }
    }
    let help = "1 while damping keeps an address out that passes its checks.";
    let mut held = text.gauge("backend_held", help)?;
    for pool in pools {
        for (backend, address) in pool.addresses().filter(|(_, one)| one.held.load(Ordering::Relaxed)) {
            held.series(&labels(pool, backend, &address.address.to_string()), 1)?;
        }
    }
    let mut eligible = text.gauge("backend_eligible", "1 if the address may appear in an answer now.")?;
    for pool in pools {
        let families = views.get(&*pool.name).into_iter().flat_map(|view| &view.families);
        let members = families.flat_map(|family| &family.eligible.members);
        let addresses: HashSet<IpAddr> = members.map(|member| member.address).collect();
        for (backend, address) in pool.addresses() {
            let is_eligible = flag(addresses.contains(&address.address));
            eligible.series(&labels(pool, backend, &address.address.to_string()), is_eligible)?;
        }
    }
    Ok(())
}

fn write_certificates(text: &mut TextEncoder<'_>, pools: &[Arc<PoolSeries>]) -> fmt::Result {
    let help = "Expiry of the certificate that a check saw last, in seconds since 1970.";
    let mut expiry = text.gauge("certificate_expiry_timestamp_seconds", help)?;
    for pool in pools {
        for (backend, address) in pool.addresses() {
            for (check, expires) in pool.with_tls.iter().zip(&address.certificates) {
                let expires = expires.load(Ordering::Relaxed);
                if let Some(check) = check.as_deref().filter(|_| expires != 0) {
                    let shown = address.address.to_string();
                    let [pool, backend, address] = labels(pool, backend, &shown);
                    expiry.series(&[pool, backend, address, ("check", check)], expires)?;
                }
            }
        }
    }
    Ok(())
}

fn labels<'a>(pool: &'a PoolSeries, backend: &'a BackendSeries, address: &'a str) -> [Label<'a>; 3] {
    [("pool", &pool.name), ("backend", &backend.name), ("address", address)]
}

fn write_pools(
    text: &mut TextEncoder<'_>,
    pools: &[Arc<PoolSeries>],
    views: &Views<'_>,
    metrics: &Metrics,
) -> fmt::Result {
    let mut usable = text.gauge("pool_usable", "1 if the pool may answer in every family it has.")?;
    for pool in pools {
        let is_usable = views.get(&*pool.name).is_some_and(|view| view.usable());
        usable.series(&[("pool", &pool.name)], flag(is_usable))?;
    }
    let mut weight = text.gauge("pool_healthy_weight", "Configured weight of the healthy addresses.")?;
    for pool in pools {
        weight.series(&[("pool", &pool.name)], pool.healthy_weight())?;
    }
    let help = "1 while this machine is suspected, not the pool; an empty pool label is all pools together.";
    let mut suspected = text.gauge("self_suspected", help)?;
    suspected.series(&[("pool", "")], flag(metrics.all_suspected.load(Ordering::Relaxed)))?;
    for pool in pools {
        suspected.series(&[("pool", &pool.name)], flag(pool.suspected.load(Ordering::Relaxed)))?;
    }
    let help =
        "How often this machine was suspected, not the pool; an empty pool label is all pools together.";
    let mut suspicions = text.counter("self_suspicions_total", help)?;
    suspicions.series(&[("pool", "")], metrics.all_suspicions.load(Ordering::Relaxed))?;
    for pool in pools {
        suspicions.series(&[("pool", &pool.name)], pool.suspicions.load(Ordering::Relaxed))?;
    }
    let help = "Time since a probe of the pool ended; it grows when probing stalls.";
    let mut ages = text.gauge("last_probe_age_seconds", help)?;
    for pool in pools {
        if let Some(age) = pool.last_probe_age(metrics) {
            ages.series(&[("pool", &pool.name)], age.as_secs_f64())?;
        }
    }
    Ok(())
}
