//! When nearly everything fails, the fault may be here: who is suspected together, and the alarms.
//!
//! There are two signs. Nearly all backends of a pool, or of all pools, *fail* at once: `health` then
//! judges nobody for a while. Or nearly no probe can be *made*, as there are no descriptors, no ports,
//! no route: such outcomes are void and judge nobody anyway, but somebody must hear of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::checker::calendar::{Calendar, Stamp};
use crate::checker::pools::PoolState;
use crate::checker::targets::{Target, Targets};
use crate::checker::{Checker, Outside, Suspected};
use crate::health::{Alarm, Group, LEAST_WATCHED, Moment, Outcome, Suspicion, TargetId, Verdict};
use crate::pool::SUSPECT_SELF;

/// When so many percent of the targets could not be probed last time, this machine is at fault.
const BEGIN_PERCENT: usize = 90;

/// When it is less than that many percent, the fault is over.
const END_PERCENT: usize = 50;

/// Of fewer targets nothing can be said.
const FEWEST: usize = 3;

/// As long as no more targets than this cannot be probed, each is told by itself.
const TOLD_ALONE: usize = 10;

/// Whether probes can be made, by the last outcome of each target.
#[derive(Debug, Default)]
pub(super) struct LocalFaults {
    /// Targets with an outcome.
    spoken: usize,
    /// Of those, the ones whose last outcome is void.
    void: usize,
    /// Detail of the last void outcome.
    detail: Option<Arc<str>>,
    suspected: Option<Suspecting>,
}

/// This machine is suspected.
#[derive(Clone, Debug)]
pub(super) struct Suspecting {
    since: Stamp,
    reason: String,
}

impl Suspecting {
    pub(super) fn shown(&self, calendar: Calendar) -> Suspected {
        Suspected { since: calendar.shown(self.since), reason: self.reason.clone() }
    }
}

impl LocalFaults {
    /// An outcome of a target, before it is noted there.
    pub(super) fn note(&mut self, target: &Target, outcome: Outcome, detail: &Arc<str>) {
        let before = target.outcomes.last();
        self.spoken += usize::from(before.is_none());
        self.void -= usize::from(before == Some(Outcome::Void));
        if outcome == Outcome::Void {
            self.void += 1;
            self.detail = Some(Arc::clone(detail));
        }
    }

    /// Counts anew, after targets have come and gone.
    pub(super) fn recount(&mut self, targets: &Targets) {
        let last = targets.iter().filter_map(|(_, target)| target.outcomes.last());
        (self.spoken, self.void) =
            last.fold((0, 0), |(spoken, void), last| (spoken + 1, void + usize::from(last == Outcome::Void)));
    }

    pub(super) fn are_few(&self) -> bool {
        self.void < TOLD_ALONE
    }

    pub(super) fn suspected(&self) -> Option<&Suspecting> {
        self.suspected.as_ref()
    }

    /// Whether the alarm begins or ends; `None` when nothing changes.
    fn turn(&mut self, at: Stamp) -> Option<bool> {
        let is = |percent| self.void * 100 >= self.spoken * percent;
        if self.suspected.is_none() && self.spoken >= FEWEST && is(BEGIN_PERCENT) {
            let detail = self.detail.as_deref().unwrap_or("no reason was given");
            self.suspected =
                Some(Suspecting { since: at, reason: format!("probes cannot be made: {detail}") });
            return Some(true);
        }
        if self.suspected.is_some() && (self.spoken == 0 || !is(END_PERCENT)) {
            self.suspected = None;
            return Some(false);
        }
        None
    }
}

impl<O: Outside> Checker<O> {
    /// Says to `health` whose targets are suspected together: those of each pool that decide, and
    /// those of all pools, unless that is one pool only.
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
        let now = self.now();
        self.health.set_groups(groups, now);
        self.local_faults.recount(&self.targets);
        self.note_suspicions();
    }

    /// The groups of a pool, or of all: one for each [`pace`], as a group is as slow as its slowest
    /// member. One backend is no group however many checks it has: what is probed must be at
    /// [`LEAST_WATCHED`] hosts.
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

    /// Tells of what began or ended since the last turn.
    pub(super) fn heed_alarms(&mut self) {
        let at = self.stamp();
        if let Some(begins) = self.local_faults.turn(at) {
            let LocalFaults { spoken, void, .. } = self.local_faults;
            if begins {
                let reason = self.local_faults.suspected().map(|suspected| &*suspected.reason);
                warn!(
                    of = spoken,
                    void, reason, "this machine is suspected: no state of a backend changes by it"
                );
            } else if spoken == 0 {
                info!("this machine is no longer suspected: nothing is probed any more");
            } else {
                info!(of = spoken, void, "this machine is no longer suspected: probes can be made again");
            }
            self.show_suspicion();
        }
        let now = self.now();
        let alarms = self.health.take_alarms(now);
        if !alarms.is_empty() {
            self.tell_ends(&alarms, now);
            self.note_suspicions();
        }
    }

    /// Tells the ends of suspicions: none that was kept fails any more; or their time is over, and those
    /// that still fail are judged from now on. A pool may have several, and is told the end of the last.
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
                info!(
                    pool = name,
                    "this machine is no longer suspected rather than {of}: the configuration has changed"
                );
            } else if failing == 0 {
                info!(
                    pool = name,
                    "this machine is no longer suspected rather than {of}: none fails any more"
                );
            } else {
                warn!(
                    pool = name,
                    failing,
                    "this machine is no longer suspected rather than {of}: the time is over, and those that still \
                     fail are judged from now on"
                );
            }
        }
    }

    /// How many targets of these pools failed last time, and are still held to be healthy.
    fn kept_failing<'a>(&self, pools: impl Iterator<Item = &'a PoolState>) -> usize {
        let is_kept = |id: &&TargetId| {
            let last = self.targets.get(**id).and_then(|target| target.outcomes.last());
            last == Some(Outcome::Failed)
                && self.targets.verdict(&self.health, **id).0 == Some(Verdict::Healthy)
        };
        distinct(pools.flat_map(deciding).collect()).iter().filter(is_kept).count()
    }

    /// Takes over which suspicions there are now.
    fn note_suspicions(&mut self) {
        let (now, at) = (self.now(), self.stamp());
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
            take_over(&mut pool.suspected, present.remove(&Some(Arc::clone(&name))), &name);
            pool.series.suspected(pool.suspected.is_some());
        }
        take_over(&mut self.suspected, present.remove(&None), "");
        self.show_suspicion();
    }

    fn show_suspicion(&self) {
        self.metrics.all_suspected(self.suspected.is_some() || self.local_faults.suspected().is_some());
    }
}

/// The other possible culprit.
fn whom(pool: Option<&str>) -> &'static str {
    if pool.is_some() { "the pool" } else { "all pools together" }
}

/// Replaces what is suspected of a pool, or of all without a name, and tells of a beginning or an end.
fn take_over(place: &mut Option<Suspecting>, now: Option<Suspecting>, pool: &str) {
    let of = whom(Some(pool).filter(|pool| !pool.is_empty()));
    match (&*place, &now) {
        (None, Some(suspected)) => {
            let reason = &*suspected.reason;
            warn!(pool, reason, "this machine is suspected rather than {of}");
        }
        // It is the same one: what is known of it is as of its beginning.
        (Some(_), Some(_)) => return,
        // How it ended has been told.
        (_, None) => {}
    }
    *place = now;
}

/// The targets of a pool that decide, some of them perhaps twice.
fn deciding(pool: &PoolState) -> impl Iterator<Item = TargetId> {
    let addresses = pool.backends.iter().flat_map(|backend| &backend.addresses);
    let targets = addresses.flat_map(|address| address.targets.iter().zip(&pool.setup.checks));
    targets.filter(|(_, check)| !check.observe_only).map(|(id, _)| *id)
}

/// Checks of one pace have intervals within a factor of four.
fn pace(interval: Duration) -> u32 {
    interval.as_millis().max(1).ilog2() / 2
}

fn distinct(mut ids: Vec<TargetId>) -> Vec<TargetId> {
    ids.sort_unstable();
    ids.dedup();
    ids
}
