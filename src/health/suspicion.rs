//! When nearly all of a group fails at once, the fault is more likely here than there: a cable, a
//! route, a firewall of this machine. Then nobody is judged for a while.
//!
//! A *group* is the targets of one pool, or of all pools. A member *fails freshly* while its present
//! run of failed outcomes is no older than the group's window (the longest time of its members from
//! the beginning of one probe to the end of the next: interval and timeout). Members are *watched*
//! that are healthy, or that were when their fresh run began: those that have fallen already in this
//! very event.
//!
//! ```text
//!                    with a failed outcome of a member: at least 3 watched, and
//!                    failing freshly x 100 >= share x watched
//!      trusted -----------------------------------------------------------------> suspected
//!         ^                                                                           |
//!         +---------------------------------------------------------------------------+
//!                    the longest interval of the members later
//! ```
//!
//! While a group is suspected, failures of its members are counted and flip nobody, and probing goes
//! on. Afterwards the next failed outcome of a member flips it if `fall` is reached. So an address that
//! is truly dead is found one interval late at most; and one that answers again meanwhile has never left.
//! Other effects of an outcome are not held up: a pass still brings an unhealthy member back, the first
//! outcome of an unknown one decides, and a draining one takes itself out.
//!
//! It takes nearly an interval to see that all fail. Those that are silent fall later than that; of those
//! that refuse at once, about half have fallen before (48 % with the default timing).
//!
//! A group is as slow as its slowest member: with one that is probed every hour, all of them would be
//! kept for an hour. A caller that makes groups puts together targets that are probed at about the same
//! interval, and gives each such group of a pool its own [`Group::pace`].
//!
//! An event is suspected once: runs that began before the end of a suspicion are not fresh any more
//! in that group. A target of several groups is kept if any of them is suspected.
//!
//! Each group counts its members as outcomes come in. A queue holds the runs in the order they began, so
//! those that grow old are at its head, and an outcome costs the same in a group of three and of 100,000.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::health::{Moment, Outcome, TargetId, Timing, Verdict};

/// With fewer watched members a group is never suspected: two of two fail together too easily.
pub const LEAST_WATCHED: usize = 3;

/// A queue of runs may hold this many that have ended, besides as many as go on.
const SPARE_RUNS: usize = 64;

/// Targets that are suspected together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The pool whose targets these are; none for all pools together.
    pub pool: Option<Arc<str>>,
    /// Tells the groups of one pool apart; whoever makes groups says what it stands for.
    pub pace: u32,
    /// Percent of the watched members that have to fail freshly, 1 to 100.
    pub share: u8,
    /// Its members, each counted once. Ids of no target are left out.
    pub members: Vec<TargetId>,
}

/// So much of a group fails at once that nobody is judged for the time being.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// The pool of the group; none for all pools together.
    pub pool: Option<Arc<str>>,
    /// When it began.
    pub since: Moment,
    /// When it ends: failures flip again from then on.
    pub until: Moment,
    /// How many members failed freshly when it began.
    pub failing: usize,
    /// Of how many that were watched then.
    pub members: usize,
}

/// A reportable change of a suspicion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// From now on failures of its members flip nobody.
    Began(Suspicion),
    /// They do again, or the group is gone.
    Ended(Suspicion),
}

/// All groups, and how their members stand.
#[derive(Debug, Default)]
pub(super) struct Suspicions {
    groups: Vec<Circle>,
    /// By [`TargetId`].
    members: Vec<Member>,
    /// How many runs have begun.
    runs: u64,
    /// The ends of suspicions that go on, with the index of the group.
    ends: BTreeSet<(Moment, usize)>,
    alarms: Vec<Alarm>,
}

/// A target as its groups see it.
#[derive(Debug, Default)]
struct Member {
    /// Indices of its groups.
    groups: Vec<usize>,
    stance: Stance,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stance {
    /// Never watched: not healthy, and not by a fall that could be part of an event.
    #[default]
    Apart,
    /// Healthy, and not failing.
    Passing,
    /// It was healthy when its present run of failed outcomes began.
    Failing { run: Run, fell: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    number: u64,
    since: Moment,
}

/// A group at work.
#[derive(Debug)]
struct Circle {
    pool: Option<Arc<str>>,
    pace: u32,
    share: usize,
    /// The longest interval of its members.
    interval: Duration,
    /// The longest interval and timeout of its members.
    window: Duration,
    /// How many members are watched, and how many of these fail freshly: by `horizon`.
    watched: usize,
    failing: usize,
    /// Runs that began before are not fresh.
    horizon: Moment,
    /// The end of the last suspicion; the horizon is never before.
    ended: Moment,
    /// The fresh runs in the order they began, and some that have ended.
    runs: VecDeque<(TargetId, u64)>,
    suspicion: Option<Suspicion>,
}

impl Suspicions {
    /// A target comes, in no group yet.
    pub(super) fn add(&mut self, id: TargetId, verdict: Option<Verdict>) {
        if self.members.len() <= id.index() {
            self.members.resize_with(id.index() + 1, Member::default);
        }
        if let Some(member) = self.members.get_mut(id.index()) {
            let stance = if verdict == Some(Verdict::Healthy) { Stance::Passing } else { Stance::Apart };
            *member = Member { groups: Vec::new(), stance };
        }
    }

    /// A target goes.
    pub(super) fn remove(&mut self, id: TargetId) {
        self.change(id, Stance::Apart);
        if let Some(member) = self.members.get_mut(id.index()) {
            *member = Member::default();
        }
    }

    /// A probe of the target has failed. Whether it must not fall for now.
    pub(super) fn fail(&mut self, id: TargetId, now: Moment) -> bool {
        self.expire(now);
        if self.members.get(id.index()).is_some_and(|member| member.stance == Stance::Passing) {
            self.runs += 1;
            let run = Run { number: self.runs, since: now };
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

    /// How the target stands after an outcome.
    pub(super) fn settle(&mut self, id: TargetId, outcome: Outcome, verdict: Option<Verdict>) {
        let Some(Member { stance, .. }) = self.members.get(id.index()) else { return };
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
            let mut circle = Circle::new(&group, before.remove(&(group.pool.clone(), group.pace)));
            let mut runs = Vec::new();
            for id in group.members {
                let Some(timing) = timing(id) else { continue };
                let Some(member) = self.members.get_mut(id.index()) else { continue };
                if member.groups.last() == Some(&index) {
                    continue;
                }
                member.groups.push(index);
                circle.stretch(timing);
                circle.count_in(member.stance);
                if let Stance::Failing { run, .. } = member.stance {
                    runs.push((run.number, id));
                }
            }
            runs.sort_unstable();
            circle.runs.extend(runs.into_iter().map(|(number, id)| (id, number)));
            circle.grow_old(now, &self.members);
            self.ends.extend(circle.suspicion.as_ref().map(|suspicion| (suspicion.until, index)));
            self.groups.push(circle);
        }
        self.alarms.extend(before.into_values().filter_map(|group| group.suspicion).map(Alarm::Ended));
    }

    /// Ends the suspicions whose time is over.
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

    /// The suspicions that go on, that which ends first at the head.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Suspicion> {
        self.ends.iter().filter_map(|(_, index)| self.groups.get(*index)?.suspicion.as_ref())
    }

    /// Alarms that began or ended since the last call.
    pub(super) fn take_alarms(&mut self, now: Moment) -> Vec<Alarm> {
        self.expire(now);
        std::mem::take(&mut self.alarms)
    }

    #[cfg(test)]
    pub(super) fn longest_queue(&self) -> usize {
        self.groups.iter().map(|group| group.runs.len()).max().unwrap_or_default()
    }

    /// Counts a target out of one column of its groups and into another.
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

impl Circle {
    /// A group without members, with what is left of its predecessor's suspicion.
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

    /// Takes the timing of a member into account.
    fn stretch(&mut self, timing: &Timing) {
        self.interval = self.interval.max(timing.interval);
        self.window = self.window.max(timing.interval.saturating_add(timing.timeout));
    }

    /// The amounts that a member in this stance adds to `watched` and `failing`.
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

    /// Takes note of a run that begins. The queue holds as many runs that go on as members fail
    /// freshly; when the others are more than half of it they are swept out, which costs each run a
    /// constant time on average.
    fn push_run(&mut self, id: TargetId, run: Run, members: &[Member]) {
        if self.runs.len() > 2 * self.failing + SPARE_RUNS {
            self.runs.retain(|(id, number)| present(members, *id, *number).is_some());
        }
        self.runs.push_back((id, run.number));
    }

    /// Moves the horizon, and counts anew those whose runs it has passed.
    fn grow_old(&mut self, now: Moment, members: &[Member]) {
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

    /// Whether so many fail freshly that the fault is more likely here.
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

/// The run of that number, if the member is still in it, and whether the member has fallen in it.
fn present(members: &[Member], id: TargetId, number: u64) -> Option<(Run, bool)> {
    match members.get(id.index())?.stance {
        Stance::Failing { run, fell } if run.number == number => Some((run, fell)),
        _ => None,
    }
}
