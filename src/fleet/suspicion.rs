//! Suspicion of this machine: which targets form a group, and the alarms.
//!
//! If nearly all backends of a pool, or of all pools, fail at once, the fault may be on this machine. `health`
//! then changes no state for a while. `local_faults` handles the other symptom: probes that cannot run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::events::{Teller, tell};
use crate::fleet::Fleet;
use crate::fleet::local_faults::{LocalFaults, Suspecting};
use crate::fleet::pools::PoolState;
use crate::health::{Alarm, Group, LEAST_WATCHED, Moment, Outcome, Suspicion, TargetId, Verdict};
use crate::pool::SUSPECT_SELF;

impl Fleet {
    /// Gives `health` its groups: the deciding targets of each pool, and those of all pools if there are
    /// several.
    pub(super) fn set_groups(&mut self) {
        let (mut groups, mut all, mut pools) = (Vec::new(), Vec::new(), 0);
        for pool in &self.pools.0 {
            let Some(share) = pool.setup.pool.suspect_self else { continue };
            let members = distinct(deciding(pool).collect());
            pools += usize::from(!members.is_empty());
            all.extend_from_slice(&members);
            groups.extend(self.groups(Some(pool.series.name()), share, members));
        }
        if pools > 1 {
            groups.extend(self.groups(None, SUSPECT_SELF, distinct(all)));
        }
        let now = self.now;
        self.health.set_groups(groups, now);
        self.local_faults.recount(&self.targets);
        self.recount_expiring();
        self.note_suspicions();
    }

    /// The groups of a pool, or of all pools: one per [`pace`], because the slowest member determines the pace
    /// of its group. A group needs targets at [`LEAST_WATCHED`] hosts, so one backend with many checks is not
    /// enough.
    fn groups(&self, pool: Option<&Arc<str>>, share: u8, members: Vec<TargetId>) -> Vec<Group> {
        let mut paces: BTreeMap<u32, (HashSet<IpAddr>, Vec<TargetId>)> = BTreeMap::new();
        for id in members {
            let Some(target) = self.targets.get(id) else { continue };
            let (hosts, same) = paces.entry(pace(target.key.timing.interval)).or_default();
            hosts.insert(target.key.host);
            same.push(id);
        }
        let enough = paces.into_iter().filter(|(_, (hosts, _))| hosts.len() >= LEAST_WATCHED);
        enough.map(|(pace, (_, members))| Group { pool: pool.cloned(), pace, share, members }).collect()
    }

    /// Tells the alarms that began or ended since the last turn.
    pub(super) fn heed_alarms(&mut self) {
        let at = self.at;
        if let Some(begins) = self.local_faults.turn(at) {
            let LocalFaults { spoken, void, .. } = self.local_faults;
            if begins {
                let reason = self.local_faults.suspected().map(|suspected| &*suspected.reason);
                tell!(
                    self.teller,
                    warn,
                    Suspicion,
                    of = spoken,
                    void,
                    reason,
                    "this machine is suspected: nearly no probe can be made, so no state changes"
                );
            } else if spoken == 0 {
                tell!(
                    self.teller,
                    info,
                    Suspicion,
                    "this machine is no longer suspected: nothing is probed any more"
                );
            } else {
                tell!(
                    self.teller,
                    info,
                    Suspicion,
                    of = spoken,
                    void,
                    "this machine is no longer suspected: probes can be made again"
                );
            }
            self.show_suspicion();
        }
        let now = self.now;
        let alarms = self.health.take_alarms(now);
        if !alarms.is_empty() {
            self.tell_ends(&alarms, now);
            self.note_suspicions();
        }
    }

    /// Tells the end of a suspicion and why it ended: the backends recovered, or the time is over and failures
    /// count again. If a pool has several suspicions, only the end of the last one is told.
    fn tell_ends(&self, alarms: &[Alarm], now: Moment) {
        let mut ends: BTreeMap<Option<Arc<str>>, Moment> = BTreeMap::new();
        for alarm in alarms {
            if let Alarm::Ended(Suspicion { pool, until, .. }) = alarm {
                let end = ends.entry(pool.clone()).or_default();
                *end = (*end).max(*until);
            }
        }
        for (pool, until) in ends {
            if self.health.suspicions().any(|other| other.pool == pool) {
                continue;
            }
            let of = whom(pool.as_deref());
            let name = pool.as_deref().unwrap_or_default();
            let known = self
                .pools
                .0
                .iter()
                .filter(|known| pool.as_ref().is_none_or(|pool| pool == known.series.name()));
            let failing = self.kept_failing(known);
            if until > now {
                tell!(
                    self.teller,
                    info,
                    Suspicion,
                    pool = name,
                    "this machine is no longer suspected instead of {of}: the configuration has changed"
                );
            } else if failing == 0 {
                tell!(
                    self.teller,
                    info,
                    Suspicion,
                    pool = name,
                    "this machine is no longer suspected instead of {of}: none fails any more"
                );
            } else {
                tell!(
                    self.teller,
                    warn,
                    Suspicion,
                    pool = name,
                    failing,
                    "this machine is no longer suspected instead of {of}: the time is over, and backends that still fail \
                     become unhealthy"
                );
            }
        }
    }

    /// How many targets of these pools failed in their last probe and still count as healthy.
    fn kept_failing<'a>(&self, pools: impl Iterator<Item = &'a PoolState>) -> usize {
        let is_kept = |id: &&TargetId| {
            let last = self.targets.get(**id).and_then(|target| target.outcomes.last());
            last == Some(Outcome::Failed)
                && self.targets.verdict(&self.health, **id).0 == Some(Verdict::Healthy)
        };
        distinct(pools.flat_map(deciding).collect()).iter().filter(is_kept).count()
    }

    /// Exports and tells the current suspicions.
    fn note_suspicions(&mut self) {
        let (now, at) = (self.now, self.at);
        let suspected = |suspicion: &Suspicion| Suspecting {
            since: at.before(now.saturating_sub(suspicion.since)),
            reason: format!(
                "{} of {} fail at once: their states are kept for {:?}, until they have failed for longer",
                suspicion.failing,
                suspicion.members,
                suspicion.until.saturating_sub(suspicion.since)
            ),
        };
        let mut present: HashMap<Option<Arc<str>>, Suspecting> =
            self.health.suspicions().map(|found| (found.pool.clone(), suspected(found))).collect();
        for pool in &mut self.pools.0 {
            let name = Arc::clone(pool.series.name());
            take_over(&mut pool.suspected, present.remove(&Some(Arc::clone(&name))), &name, &self.teller);
            pool.series.suspected(pool.suspected.is_some());
        }
        take_over(&mut self.suspected, present.remove(&None), "", &self.teller);
        self.show_suspicion();
    }

    fn show_suspicion(&self) {
        self.metrics.all_suspected(self.suspected.is_some() || self.local_faults.suspected().is_some());
    }
}

/// Other possible causes.
fn whom(pool: Option<&str>) -> &'static str {
    if pool.is_some() { "the pool" } else { "all pools together" }
}

/// Replaces the suspicion of a pool, or of all pools if `pool` is empty, and tells the beginning.
fn take_over(place: &mut Option<Suspecting>, now: Option<Suspecting>, pool: &str, teller: &Teller) {
    let of = whom(Some(pool).filter(|pool| !pool.is_empty()));
    match (&*place, &now) {
        (None, Some(suspected)) => {
            let reason = &*suspected.reason;
            tell!(teller, warn, Suspicion, pool, reason, "this machine is suspected instead of {of}");
        }
        // It is the same suspicion. Its figures date from its beginning.
        (Some(_), Some(_)) => return,
        // Its end was already told.
        (_, None) => {}
    }
    *place = now;
}

/// The deciding targets of a pool; a target may occur twice.
fn deciding(pool: &PoolState) -> impl Iterator<Item = TargetId> {
    let addresses = pool.backends.iter().flat_map(|backend| &backend.addresses);
    let targets = addresses.flat_map(|address| address.targets.iter().zip(&pool.setup.checks));
    targets.filter(|(_, check)| !check.observe_only).map(|(id, _)| *id)
}

/// Checks with the same pace have intervals within a factor of four.
fn pace(interval: Duration) -> u32 {
    interval.as_millis().max(1).ilog2() / 2
}

fn distinct(mut ids: Vec<TargetId>) -> Vec<TargetId> {
    ids.sort_unstable();
    ids.dedup();
    ids
}
