//! Suspicion: if nearly all targets of a group fail at once, the fault is probably on this machine
//! (a cable, a route, a firewall), so failures change no verdict for a while.
//!
//! A *group* is the targets of one pool, or of all pools. A member *fails freshly* if its current
//! run of failed outcomes started within the group's window (the longest interval plus timeout of
//! its members: the time from the start of one probe to the end of the next). *Watched* members are
//! the healthy ones, and those that were healthy when their fresh run began, because they fell in
//! the same event.
//!
//! ```text
//!                    on a failed outcome of a member: at least 3 watched, and
//!                    failing freshly x 100 >= share x watched
//!      trusted -----------------------------------------------------------------> suspected
//!         ^                                                                           |
//!         +---------------------------------------------------------------------------+
//!                    after the longest interval of the members
//! ```
//!
//! While a group is suspected, probing continues, and failures of its members are counted but flip
//! no state. Afterwards the next failed outcome of a member flips it if `fall` is reached. So a
//! dead address is detected at most one interval later, and one that recovers in the meantime was
//! never out. Other outcomes act as usual: a pass still brings an unhealthy member back, the first
//! outcome of an unknown member decides, and a member may still drain itself.
//!
//! Almost an interval passes until all members have failed. Silent members fall only after that. Of
//! members that refuse connections at once, about half fall before it (48 % with the default
//! timing).
//!
//! The slowest member determines the pace of its group: one member that is probed every hour would
//! keep the verdicts of all others for an hour. So callers group targets with similar intervals,
//! and distinguish the groups of a pool by [`Group::pace`].
//!
//! An event is suspected once: runs that began before the end of a suspicion are no longer fresh in
//! that group. A target in several groups keeps its verdict if any of them is suspected.
//!
//! Each group updates its counts with each outcome. A queue has the runs in order of their start,
//! the oldest at its head, so an outcome costs the same in a group of three and of 100,000.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::check::Timing;
use crate::health::{Moment, Outcome, TargetId, Verdict};

/// A group with fewer watched members is never suspected: two of two may fail together by
/// coincidence.
pub const LEAST_WATCHED: usize = 3;

/// The number of ended runs that a queue may hold besides the active ones.
const SPARE_RUNS: usize = 64;

/// A group of targets that are suspected together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The pool of these targets; `None` for all pools together.
    pub pool: Option<Arc<str>>,
    /// Distinguishes groups of one pool; its meaning is up to the caller.
    pub pace: u32,
    /// The percentage of watched members that must fail freshly, 1 to 100.
    pub share: u8,
    /// Each member counts once. Unknown ids are ignored.
    pub members: Vec<TargetId>,
}

/// Nearly all of a group fails at once, so failures flip no state for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// The pool of the group; `None` for all pools together.
    pub pool: Option<Arc<str>>,
    /// The start of the suspicion.
    pub since: Moment,
    /// The end of the suspicion; failures flip states again from then on.
    pub until: Moment,
    /// The number of members that failed freshly at the start.
    pub failing: usize,
    /// The number of members watched at the start.
    pub members: usize,
}

/// A change to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// From now on failures of its members flip no state.
    Began(Suspicion),
    /// Failures count again, or the group is gone.
    Ended(Suspicion),
}

/// All groups, and the part that each target plays in them.
#[derive(Debug, Default)]
pub(super) struct Suspicions {
    groups: Vec<CountedGroup>,
    /// Indexed by [`TargetId`].
    members: Vec<GroupMember>,
    /// The number of runs so far.
    runs: u64,
    /// The ends of active suspicions, with the index of the group.
    ends: BTreeSet<(Moment, usize)>,
    alarms: Vec<Alarm>,
}

/// A target as seen by its groups.
#[derive(Debug, Default)]
struct GroupMember {
    /// The indices of its groups.
    groups: Vec<usize>,
    stance: Stance,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stance {
    /// Not watched: it is not healthy, and has not fallen in the current event.
    #[default]
    Apart,
    /// Healthy, and not failing.
    Passing,
    /// It was healthy when its current run of failed outcomes began.
    Failing { run: FailureRun, fell: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FailureRun {
    number: u64,
    since: Moment,
}

/// A group with its counts.
#[derive(Debug)]
struct CountedGroup {
    pool: Option<Arc<str>>,
    pace: u32,
    share: usize,
    /// The longest interval of its members.
    interval: Duration,
    /// The longest sum of interval and timeout of its members.
    window: Duration,
    /// The number of watched members, and how many of them fail freshly; both as of `horizon`.
    watched: usize,
    failing: usize,
    /// Runs that began earlier are not fresh.
    horizon: Moment,
    /// The end of the last suspicion; `horizon` is never earlier.
    ended: Moment,
    /// The fresh runs in order of their start, and some ended ones.
    runs: VecDeque<(TargetId, u64)>,
    suspicion: Option<Suspicion>,
}

impl Suspicions {
    /// Adds a target without groups.
    pub(super) fn add(&mut self, id: TargetId, verdict: Option<Verdict>) {
        if self.members.len() <= id.index() {
            self.members.resize_with(id.index() + 1, GroupMember::default);
        }
        if let Some(member) = self.members.get_mut(id.index()) {
            let stance = if verdict == Some(Verdict::Healthy) { Stance::Passing } else { Stance::Apart };
            *member = GroupMember { groups: Vec::new(), stance };
        }
    }

    /// Removes a target.
    pub(super) fn remove(&mut self, id: TargetId) {
        self.change(id, Stance::Apart);
        if let Some(member) = self.members.get_mut(id.index()) {
            *member = GroupMember::default();
        }
    }

    /// Handles a failed probe. Returns whether the target must not fall for now.
    pub(super) fn fail(&mut self, id: TargetId, now: Moment) -> bool {
        self.expire(now);
        if self.members.get(id.index()).is_some_and(|member| member.stance == Stance::Passing) {
            self.runs += 1;
            let run = FailureRun { number: self.runs, since: now };
            self.change(id, Stance::Failing { run, fell: false });
        }
        let Self { groups, members, ends, alarms, .. } = self;
        let Some(member) = members.get(id.index()) else { return false };
        let mut suspected = false;
        for &index in &member.groups {
            let Some(group) = groups.get_mut(index) else { continue };
            group.grow_old(now, members);
            if group.suspicion.is_none() && group.is_conspicuous() {
                let suspicion = group.begin(now);
                ends.insert((suspicion.until, index));
                alarms.push(Alarm::Began(suspicion));
            }
            suspected |= group.suspicion.is_some();
        }
        suspected
    }

    /// Updates the stance of a target after an outcome.
    pub(super) fn settle(&mut self, id: TargetId, outcome: Outcome, verdict: Option<Verdict>) {
        let Some(GroupMember { stance, .. }) = self.members.get(id.index()) else { return };
        let next = match (outcome, *stance) {
            (Outcome::Void, _) => return,
            (Outcome::Failed, Stance::Failing { run, .. }) => {
                Stance::Failing { run, fell: verdict == Some(Verdict::Unhealthy) }
            }
            (Outcome::Passed, _) if verdict == Some(Verdict::Healthy) => Stance::Passing,
            _ => Stance::Apart,
        };
        self.change(id, next);
    }

    /// Replaces all groups. A group of the same pool and pace keeps its suspicion.
    pub(super) fn set_groups<'a>(
        &mut self,
        groups: Vec<Group>,
        timing: impl Fn(TargetId) -> Option<&'a Timing>,
        now: Moment,
    ) {
        self.expire(now);
        self.ends.clear();
        self.members.iter_mut().for_each(|member| member.groups.clear());
        let mut before: HashMap<_, _> =
            self.groups.drain(..).map(|group| ((group.pool.clone(), group.pace), group)).collect();
        for (index, group) in groups.into_iter().enumerate() {
            let mut counted = CountedGroup::new(&group, before.remove(&(group.pool.clone(), group.pace)));
            let mut runs = Vec::new();
            for id in group.members {
                let Some(timing) = timing(id) else { continue };
                let Some(member) = self.members.get_mut(id.index()) else { continue };
                if member.groups.last() == Some(&index) {
                    continue;
                }
                if member.groups.capacity() == 0 {
                    // Usually that of its pool and that of all pools.
                    member.groups.reserve_exact(2);
                }
                member.groups.push(index);
                counted.stretch(timing);
                counted.count_in(member.stance);
                if let Stance::Failing { run, .. } = member.stance {
                    runs.push((run.number, id));
                }
            }
            runs.sort_unstable();
            counted.runs.extend(runs.into_iter().map(|(number, id)| (id, number)));
            counted.grow_old(now, &self.members);
            self.ends.extend(counted.suspicion.as_ref().map(|suspicion| (suspicion.until, index)));
            self.groups.push(counted);
        }
        self.alarms.extend(before.into_values().filter_map(|group| group.suspicion).map(Alarm::Ended));
    }

    /// Ends the suspicions whose time has passed.
    pub(super) fn expire(&mut self, now: Moment) {
        while let Some((until, index)) = self.ends.first().copied().filter(|(until, _)| *until <= now) {
            self.ends.pop_first();
            if let Some(group) = self.groups.get_mut(index) {
                group.ended = until;
                self.alarms.extend(group.suspicion.take().map(Alarm::Ended));
            }
        }
    }

    /// When the next suspicion ends.
    pub(super) fn next_end(&self) -> Option<Moment> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// The active suspicions, the first to end first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Suspicion> {
        self.ends.iter().filter_map(|(_, index)| self.groups.get(*index)?.suspicion.as_ref())
    }

    /// The alarms that began or ended since the last call.
    pub(super) fn take_alarms(&mut self, now: Moment) -> Vec<Alarm> {
        self.expire(now);
        std::mem::take(&mut self.alarms)
    }

    #[cfg(test)]
    pub(super) fn longest_queue(&self) -> usize {
        self.groups.iter().map(|group| group.runs.len()).max().unwrap_or_default()
    }

    /// Moves a target from one stance to another in the counts of its groups.
    fn change(&mut self, id: TargetId, next: Stance) {
        let Self { groups, members, .. } = self;
        let Some(member) = members.get_mut(id.index()) else { return };
        let last = std::mem::replace(&mut member.stance, next);
        if last == next {
            return;
        }
        let Some(member) = members.get(id.index()) else { return };
        for &index in &member.groups {
            let Some(group) = groups.get_mut(index) else { continue };
            group.count_out(last);
            group.count_in(next);
            if let (Stance::Passing, Stance::Failing { run, .. }) = (last, next) {
                group.push_run(id, run, members);
            }
        }
    }
}

impl CountedGroup {
    /// A group without members, with the suspicion of its predecessor.
    fn new(group: &Group, before: Option<Self>) -> Self {
        let (ended, suspicion) = before.map(|before| (before.ended, before.suspicion)).unwrap_or_default();
        Self {
            pool: group.pool.clone(),
            pace: group.pace,
            share: group.share.clamp(1, 100).into(),
            interval: Duration::ZERO,
            window: Duration::ZERO,
            watched: 0,
            failing: 0,
            horizon: Moment::ZERO,
            ended,
            runs: VecDeque::new(),
            suspicion,
        }
    }

    /// Extends interval and window by the timing of a member.
    fn stretch(&mut self, timing: &Timing) {
        self.interval = self.interval.max(timing.interval);
        self.window = self.window.max(timing.interval.saturating_add(timing.timeout));
    }

    /// How much a member in this stance adds to `watched` and `failing`.
    fn shares(&self, stance: Stance) -> (usize, usize) {
        match stance {
            Stance::Apart => (0, 0),
            Stance::Passing => (1, 0),
            Stance::Failing { run, .. } if run.since >= self.horizon => (1, 1),
            Stance::Failing { fell, .. } => (usize::from(!fell), 0),
        }
    }

    fn count_in(&mut self, stance: Stance) {
        let (watched, failing) = self.shares(stance);
        self.watched += watched;
        self.failing += failing;
    }

    fn count_out(&mut self, stance: Stance) {
        let (watched, failing) = self.shares(stance);
        self.watched -= watched;
        self.failing -= failing;
    }

    /// Adds a run to the queue. The queue holds `failing` active runs; once more than half are
    /// ended ones, they are removed. The cost per run is constant on average.
    fn push_run(&mut self, id: TargetId, run: FailureRun, members: &[GroupMember]) {
        if self.runs.len() > 2 * self.failing + SPARE_RUNS {
            self.runs.retain(|(id, number)| present(members, *id, *number).is_some());
        }
        self.runs.push_back((id, run.number));
    }

    /// Advances the horizon, and stops counting the runs that began before it.
    fn grow_old(&mut self, now: Moment, members: &[GroupMember]) {
        let horizon = now.saturating_sub(self.window).max(self.ended).max(self.horizon);
        while let Some((id, number)) = self.runs.front().copied() {
            if let Some((run, fell)) = present(members, id, number) {
                if run.since >= horizon {
                    break;
                }
                self.failing -= 1;
                self.watched -= usize::from(fell);
            }
            self.runs.pop_front();
        }
        self.horizon = horizon;
    }

    /// Whether so many members fail freshly that the fault is probably on this machine.
    fn is_conspicuous(&self) -> bool {
        self.watched >= LEAST_WATCHED && self.failing * 100 >= self.share * self.watched
    }

    fn begin(&mut self, now: Moment) -> Suspicion {
        let until = now.saturating_add(self.interval);
        let (pool, failing, members) = (self.pool.clone(), self.failing, self.watched);
        let suspicion = Suspicion { pool, since: now, until, failing, members };
        self.suspicion = Some(suspicion.clone());
        suspicion
    }
}

/// The run with this number, and whether the member fell in it; none if the member has left that
/// run.
fn present(members: &[GroupMember], id: TargetId, number: u64) -> Option<(FailureRun, bool)> {
    match members.get(id.index())?.stance {
        Stance::Failing { run, fell } if run.number == number => Some((run, fell)),
        _ => None,
    }
}
