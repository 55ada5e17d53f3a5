//! A naive model of the fleet: derives each standing, share and override from everything that has happened in
//! the world.
//!
//! The states of targets come from the model of `health`. When a reload has created a target, the model adopts
//! its first verdict from the fleet; the invariants for reloads check that verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::check::{Check, PoolSetup, Probe, Timing};
use crate::fleet::simulation::longest_start;
use crate::fleet::{CheckStatus, combine};
use crate::health::simulation::behaviour::Behaviour;
use crate::health::simulation::model::Model;
use crate::health::{Group, Moment, Outcome, TargetId, Verdict};
use crate::pool::{Backend, Override, OverrideKind, OverrideValue};
use crate::table::Standing;

/// A target, identified by the properties of its probes. The timeout represents the timing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) host: IpAddr,
    pub(super) port: u16,
    pub(super) process: bool,
    pub(super) timeout: Duration,
}

impl Key {
    pub(super) fn new(probe: &Probe, host: IpAddr, timeout: Duration) -> Self {
        let (port, process) = match probe {
            Probe::Tcp(probe) => (probe.port, false),
            Probe::Exec(probe) => (probe.port.unwrap_or(0), true),
            _ => unreachable!("no configuration has such a check"),
        };
        Self { host, port, process, timeout }
    }

    fn of(check: &Check, backend: &Backend, address: IpAddr) -> Self {
        let host = backend.check_address.unwrap_or(address);
        Self::new(&check.probe.of_backend(backend), host, check.timing.timeout)
    }
}

/// A probed target.
pub(super) struct Target {
    /// Its id in the model of `health`.
    pub(super) id: TargetId,
    pub(super) timing: Timing,
    /// The verdict from before the start or the reload, until the first outcome.
    pub(super) hint: Option<Verdict>,
    pub(super) in_flight: bool,
    /// The earliest and the latest due time of the next probe.
    pub(super) next: (Moment, Moment),
    pub(super) last: Option<Outcome>,
    /// The reported loads, without those that had expired when the next one came.
    pub(super) loads: Vec<u8>,
    /// When they expire.
    pub(super) loads_end: Moment,
    pub(super) behaviour: Behaviour,
    /// From this moment on, the verdict must match the behaviour.
    pub(super) judged_from: Moment,
}

/// An address of a backend in a pool.
pub(super) struct Address {
    /// The names of the pool and the backend, and the address.
    pub(super) name: (String, String, IpAddr),
    pub(super) pool: usize,
    pub(super) backend: usize,
    /// One per check; empty if the backend is not enabled.
    pub(super) keys: Vec<Key>,
    pub(super) standing: Standing,
    pub(super) held: bool,
    /// The percentage of its weight that the fleet last reported.
    pub(super) percent: u8,
    /// When its slow start began, and its length.
    pub(super) growth: Option<(Moment, Duration)>,
}

/// An operator's override.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) value: OverrideValue,
    /// On the clock of elapsed time.
    pub(super) until: Option<Duration>,
}

/// Pool, backend, and what of it is overridden.
pub(super) type OverrideName = (String, String, OverrideKind);

/// The expected state of the fleet.
#[derive(Default)]
pub(super) struct Fleet {
    pub(super) pools: Vec<PoolSetup>,
    pub(super) health: Model,
    pub(super) targets: BTreeMap<Key, Target>,
    pub(super) addresses: Vec<Address>,
    pub(super) overrides: BTreeMap<OverrideName, Kept>,
    /// Whether probes cannot run.
    pub(super) is_broken: bool,
    /// The number of targets so far.
    ids: u32,
}

impl Fleet {
    /// A fleet that starts with these overrides.
    pub(super) fn new(overrides: BTreeMap<OverrideName, Kept>) -> Self {
        Self { overrides, ..Self::default() }
    }

    /// Takes another configuration; new targets have no outcomes.
    pub(super) fn configure(&mut self, pools: Vec<PoolSetup>, now: Moment, late: Duration) {
        let mut before: BTreeMap<_, Address> =
            self.addresses.drain(..).map(|address| (address.name.clone(), address)).collect();
        let mut wanted: BTreeMap<Key, Timing> = BTreeMap::new();
        for (pool, setup) in pools.iter().enumerate() {
            for (backend, configured) in setup.pool.backends.iter().enumerate() {
                for &address in &configured.addresses {
                    let checks = setup.checks.iter().filter(|_| configured.enabled);
                    let keys: Vec<Key> = checks.map(|check| Key::of(check, configured, address)).collect();
                    wanted.extend(keys.iter().copied().zip(setup.checks.iter().map(|check| check.timing)));
                    let name = (setup.pool.name.clone(), configured.name.clone(), address);
                    let old = before.remove(&name);
                    self.addresses.push(match old {
                        Some(old) => Address { pool, backend, keys, ..old },
                        None => {
                            let (standing, held, percent, growth) = (Standing::Unknown, false, 100, None);
                            Address { name, pool, backend, keys, standing, held, percent, growth }
                        }
                    });
                }
            }
        }
        let gone: Vec<Key> = self.targets.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        for key in gone {
            self.health.remove(self.targets[&key].id);
            self.targets.remove(&key);
        }
        for (key, timing) in wanted {
            if self.targets.contains_key(&key) {
                continue;
            }
            let id = TargetId(self.ids);
            self.ids += 1;
            self.targets.insert(
                key,
                Target {
                    id,
                    timing,
                    hint: None,
                    in_flight: false,
                    next: (now, now + longest_start(&timing)),
                    last: None,
                    loads: Vec::new(),
                    loads_end: Moment::ZERO,
                    behaviour: Behaviour::Serve,
                    judged_from: now + Behaviour::Serve.bound(&timing, late) + longest_start(&timing),
                },
            );
        }
        self.pools = pools;
    }

    /// Adopts the first verdict of a target, as reported for a check.
    pub(super) fn adopt(&mut self, key: &Key, shown: &CheckStatus, now: Moment) {
        let Some(target) = self.targets.get_mut(key) else { return };
        let verdict = match shown.standing {
            Standing::Unknown => None,
            Standing::Healthy => Some(Verdict::Healthy),
            Standing::Draining => Some(Verdict::Draining),
            Standing::Unhealthy => Some(Verdict::Unhealthy),
        };
        if !self.health.knows(target.id) {
            let known = verdict.filter(|_| !shown.remembered);
            self.health.add(target.id, target.timing, known, now);
        }
        if shown.remembered && target.hint.is_none() {
            target.hint = verdict;
        }
    }

    /// Regroups the targets that are watched together, after a reload or a start.
    pub(super) fn regroup(&mut self, now: Moment) {
        let (mut groups, mut all, mut pools) = (Vec::new(), BTreeSet::new(), 0);
        for (index, setup) in self.pools.iter().enumerate() {
            let Some(share) = setup.pool.suspect_self else { continue };
            let of_pool = self.addresses.iter().filter(|address| address.pool == index);
            let deciding = of_pool.flat_map(|address| address.keys.iter().zip(&setup.checks));
            let members: BTreeSet<Key> =
                deciding.filter(|(_, check)| !check.observe_only).map(|(key, _)| *key).collect();
            pools += usize::from(!members.is_empty());
            all.extend(members.iter().copied());
            groups.extend(self.by_pace(Some(&setup.pool.name), share, &members));
        }
        if pools > 1 {
            groups.extend(self.by_pace(None, 90, &all));
        }
        self.health.set_groups(groups, now);
    }

    /// Intervals from 4^n up to 4^(n + 1) milliseconds have the same pace. Fewer than three hosts do not form
    /// a group.
    fn by_pace(&self, pool: Option<&str>, share: u8, members: &BTreeSet<Key>) -> Vec<Group> {
        let pace = |key: &Key| {
            let interval = self.targets[key].timing.interval.as_millis();
            (0..64).find(|pace| interval < 4_u128.pow(pace + 1)).unwrap()
        };
        let paces: BTreeSet<u32> = members.iter().map(pace).collect();
        let group = |number: u32| {
            let same: Vec<&Key> = members.iter().filter(|key| pace(key) == number).collect();
            let hosts: BTreeSet<IpAddr> = same.iter().map(|key| key.host).collect();
            let members = same.iter().map(|key| self.targets[*key].id).collect();
            (hosts.len() >= 3).then(|| Group { pool: pool.map(Into::into), pace: number, share, members })
        };
        paces.into_iter().filter_map(group).collect()
    }

    /// The operator's state and percentage of the weight of a backend.
    pub(super) fn said(&self, pool: &str, backend: &str) -> (Option<Override>, u16) {
        let of = |kind| self.overrides.get(&(pool.to_owned(), backend.to_owned(), kind));
        let state = match of(OverrideKind::State).map(|kept| kept.value) {
            Some(OverrideValue::State(state)) => Some(state),
            _ => None,
        };
        match of(OverrideKind::Weight).map(|kept| kept.value) {
            Some(OverrideValue::Weight(percent)) => (state, percent),
            _ => (state, 100),
        }
    }

    /// The verdict of a target: its own, otherwise the remembered one.
    pub(super) fn verdict(&self, key: &Key) -> Option<Verdict> {
        let target = &self.targets[key];
        self.health.verdict(target.id).or(target.hint)
    }

    /// Evaluates the addresses that use a target, or all addresses.
    pub(super) fn judge(&mut self, used: Option<&Key>, now: Moment) {
        for index in 0..self.addresses.len() {
            let address = &self.addresses[index];
            if used.is_some_and(|key| !address.keys.contains(key)) {
                continue;
            }
            let (standing, held) = self.standing(address);
            let length = self.pools[address.pool].pool.slow_start;
            let address = &mut self.addresses[index];
            if standing != address.standing {
                let was_out = matches!(address.standing, Standing::Unhealthy | Standing::Draining);
                let recovers = was_out && standing == Standing::Healthy && !length.is_zero();
                address.growth = recovers.then_some((now, length));
            }
            (address.standing, address.held) = (standing, held);
        }
    }

    fn standing(&self, address: &Address) -> (Standing, bool) {
        let setup = &self.pools[address.pool];
        if !setup.pool.backends[address.backend].enabled {
            return (Standing::Unknown, false);
        }
        let combined = |verdict: &dyn Fn(&Key) -> Option<Verdict>| {
            let checks = address.keys.iter().zip(&setup.checks);
            combine(
                setup.require,
                checks.map(|(key, check)| (verdict(key), check.critical, check.observe_only)),
            )
        };
        let verdict = combined(&|key| self.verdict(key));
        let is_held = |key: &Key| self.health.held_until(self.targets[key].id).is_some();
        let without_holds =
            combined(&|key| if is_held(key) { Some(Verdict::Healthy) } else { self.verdict(key) });
        let held = verdict == Some(Verdict::Unhealthy)
            && address.keys.iter().any(is_held)
            && without_holds == Some(Verdict::Healthy);
        let standing = match verdict {
            None => Standing::Unknown,
            Some(Verdict::Healthy) => Standing::Healthy,
            Some(Verdict::Draining) => Standing::Draining,
            Some(Verdict::Unhealthy) => Standing::Unhealthy,
        };
        (standing, held)
    }

    /// The lowest and the highest percentage of its weight that an address may have, and the latest time at
    /// which it changes by itself.
    pub(super) fn percent(&self, address: &Address, now: Moment) -> (f64, f64, Option<Moment>) {
        let (mut low, mut high, mut end) = (100.0, 100.0, None);
        if let Some((began, length)) = address.growth
            && now < began + length - Duration::from_nanos(20)
        {
            let steps = (length.as_secs_f64() / 0.5).floor().clamp(1.0, 20.0);
            let linear = 1.0 + 99.0 * (now - began).as_secs_f64() / length.as_secs_f64();
            (low, high) = ((linear - 99.0 / steps - 1.0).max(1.0), linear + 0.1);
            // The next step is at most one step length away.
            end = Some(now + length.div_f64(steps) + Duration::from_micros(1));
        }
        let deciding = address.keys.iter().zip(&self.pools[address.pool].checks);
        let loads = deciding.filter(|(_, check)| !check.observe_only).map(|(key, _)| &self.targets[key]);
        let means = loads.filter(|target| now < target.loads_end).filter_map(|target| {
            let (first, rest) = target.loads.split_first()?;
            let mean = rest.iter().fold(f64::from(*first), |mean, load| 0.7 * mean + 0.3 * f64::from(*load));
            Some((mean, target.loads_end))
        });
        let (mut lowest, mut loads_end) = (None, Moment::ZERO);
        for (mean, target_end) in means {
            lowest = Some(lowest.map_or(mean, |lowest: f64| lowest.min(mean)));
            loads_end = loads_end.max(target_end);
        }
        if let Some(mean) = lowest {
            // A change of less than 5 percentage points is not published.
            (low, high) =
                (low * (mean - 6.0).max(0.0) / 100.0, (high * (mean + 6.0) / 100.0 + 1.0).min(100.0));
            if mean < 90.0 {
                end = end.into_iter().chain([loads_end]).min();
            }
        }
        (low, high, end)
    }

    /// Records a reported load.
    pub(super) fn loaded(&mut self, key: &Key, percent: u8, now: Moment) {
        let Some(target) = self.targets.get_mut(key) else { return };
        if now >= target.loads_end {
            target.loads.clear();
        }
        target.loads.push(percent);
        target.loads_end = now + target.timing.interval * 3;
    }

    /// Whether this machine is suspected because probes cannot run, as of the end of a turn.
    pub(super) fn settle_broken(&mut self) {
        let spoken = self.targets.values().filter(|target| target.last.is_some()).count();
        let void = self.targets.values().filter(|target| target.last == Some(Outcome::Void)).count();
        let is = |percent| void * 100 >= spoken * percent;
        self.is_broken = if self.is_broken { spoken > 0 && is(50) } else { spoken >= 3 && is(90) };
    }

    pub(super) fn unknown(&self) -> usize {
        self.targets.values().filter(|target| self.health.verdict(target.id).is_none()).count()
    }
}
