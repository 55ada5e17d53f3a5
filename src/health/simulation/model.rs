//! A naive model of the table, written from the rules: for every question it evaluates the whole
//! history of all targets.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::check::Timing;
use crate::health::schedule::longest_jitter;
use crate::health::{Alarm, Group, Moment, Outcome, Suspicion, TargetId, Verdict};

const TEN_MINUTES: Duration = Duration::from_secs(600);

/// All targets of a world.
#[derive(Default)]
pub(crate) struct Model {
    targets: BTreeMap<TargetId, Known>,
    groups: Vec<Circle>,
    alarms: Vec<Alarm>,
}

struct Known {
    timing: Timing,
    verdict: Option<Verdict>,
    /// All outcomes except void ones.
    history: Vec<(Moment, Outcome)>,
    /// The changes of the verdict: when, from, to.
    changes: Vec<(Moment, Option<Verdict>, Verdict)>,
    /// The time of the last outcome, including void ones.
    heard: Moment,
}

struct Circle {
    group: Group,
    /// The longest interval, and the longest interval plus timeout, of its initial members.
    interval: Duration,
    window: Duration,
    suspicion: Option<Suspicion>,
    /// The end of the last suspicion.
    ended: Moment,
}

/// The expected due time of the next probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Exactly at this moment.
    At(Moment),
    /// At the next tick of this period.
    Tick(Duration),
}

impl Next {
    /// The earliest and the latest due time, after an outcome just now.
    pub(crate) fn window(self, timeout: Duration, now: Moment) -> (Moment, Moment) {
        match self {
            Self::At(moment) => (moment, moment),
            Self::Tick(period) => (now, now + period + longest_jitter(period, timeout)),
        }
    }
}

impl Known {
    /// The outcomes at the end of the history that satisfy `like`.
    fn last(&self, like: impl Fn(Outcome) -> bool) -> &[(Moment, Outcome)] {
        let count = self.history.iter().rev().take_while(|(_, outcome)| like(*outcome)).count();
        &self.history[self.history.len() - count..]
    }

    /// The start of the current run of failures.
    fn failing_since(&self) -> Option<Moment> {
        self.last(|outcome| outcome == Outcome::Failed).first().map(|(at, _)| *at)
    }

    /// Whether the current run of failures began within the window, and after the last suspicion.
    fn fails_freshly(&self, now: Moment, window: Duration, ended: Moment) -> bool {
        self.failing_since().is_some_and(|since| since + window >= now && since >= ended)
    }

    /// Whether it has fallen from healthy in the current run of failures.
    fn fell_from_health(&self) -> bool {
        let (Some(since), Some((at, from, to))) = (self.failing_since(), self.changes.last()) else {
            return false;
        };
        *at >= since && *from == Some(Verdict::Healthy) && *to == Verdict::Unhealthy
    }

    fn falls(&self, now: Moment) -> usize {
        let falls = self
            .changes
            .iter()
            .filter(|(at, from, to)| from.is_some() && *to == Verdict::Unhealthy && *at + TEN_MINUTES >= now);
        if self.timing.damping { falls.count() } else { 0 }
    }

    /// The end of the hold, while the target passes and is unhealthy.
    fn hold_ends(&self) -> Option<Moment> {
        if self.verdict != Some(Verdict::Unhealthy) {
            return None;
        }
        let (since, _) = self.last(|outcome| outcome != Outcome::Failed).first()?;
        let hold = match self.falls(*since) {
            0..=2 => 0,
            3 => 30,
            4 => 60,
            5 => 120,
            6 => 240,
            _ => 300,
        };
        Some(*since + Duration::from_secs(hold))
    }

    /// The verdict according to the thresholds alone.
    fn by_thresholds(&self) -> Option<Verdict> {
        let (rise, fall) = (usize::from(self.timing.rise), usize::from(self.timing.fall));
        let failed = |outcome| outcome == Outcome::Failed;
        let own_word = match self.history.last()?.1 {
            Outcome::Draining => Verdict::Draining,
            Outcome::Failed => Verdict::Unhealthy,
            _ => Verdict::Healthy,
        };
        let changes = match (self.verdict, own_word) {
            (None, _) | (Some(Verdict::Healthy), Verdict::Draining) => true,
            (Some(Verdict::Unhealthy), _) => self.last(|outcome| !failed(outcome)).len() >= rise,
            (Some(_), Verdict::Unhealthy) => self.last(failed).len() >= fall,
            (Some(_), _) => self.last(|outcome| outcome == Outcome::Passed).len() >= rise,
        };
        if changes { Some(own_word) } else { self.verdict }
    }
}

impl Model {
    pub(crate) fn add(&mut self, id: TargetId, timing: Timing, verdict: Option<Verdict>, now: Moment) {
        let (history, changes) = (Vec::new(), Vec::new());
        let known = Known { timing, verdict, history, changes, heard: now };
        assert!(self.targets.insert(id, known).is_none(), "the id belongs to another");
    }

    pub(crate) fn knows(&self, id: TargetId) -> bool {
        self.targets.contains_key(&id)
    }

    pub(crate) fn remove(&mut self, id: TargetId) {
        self.targets.remove(&id);
        self.groups.iter_mut().for_each(|circle| circle.group.members.retain(|member| *member != id));
    }

    pub(crate) fn set_groups(&mut self, groups: Vec<Group>, now: Moment) {
        self.expire(now);
        let mut before = std::mem::take(&mut self.groups);
        for group in groups {
            let same = before
                .iter()
                .position(|circle| (&circle.group.pool, circle.group.pace) == (&group.pool, group.pace));
            let old = same.map(|index| before.remove(index));
            let (suspicion, ended) = old.map_or((None, Moment::ZERO), |old| (old.suspicion, old.ended));
            let timings = || group.members.iter().map(|id| &self.targets[id].timing);
            let interval = timings().map(|timing| timing.interval).max().unwrap_or_default();
            let window = timings().map(|timing| timing.interval + timing.timeout).max().unwrap_or_default();
            self.groups.push(Circle { group, interval, window, suspicion, ended });
        }
        self.alarms.extend(before.into_iter().filter_map(|circle| circle.suspicion).map(Alarm::Ended));
    }

    /// Ends the suspicions whose time has passed.
    pub(crate) fn expire(&mut self, now: Moment) {
        for circle in &mut self.groups {
            if let Some(suspicion) = circle.suspicion.take_if(|suspicion| suspicion.until <= now) {
                circle.ended = suspicion.until;
                self.alarms.push(Alarm::Ended(suspicion));
            }
        }
    }

    /// Takes an outcome. Returns the end of the suspicion that applies to it, if any.
    pub(crate) fn hear(&mut self, id: TargetId, outcome: Outcome, now: Moment) -> Option<Moment> {
        self.expire(now);
        let known = self.targets.get_mut(&id).unwrap();
        known.heard = now;
        if outcome == Outcome::Void {
            return None;
        }
        known.history.push((now, outcome));
        let mut suspected = None;
        if outcome == Outcome::Failed {
            self.suspect(id, now);
            let groups = self.groups.iter().filter(|circle| circle.group.members.contains(&id));
            suspected = groups.filter_map(|circle| Some(circle.suspicion.as_ref()?.until)).max();
        }
        let known = self.targets.get_mut(&id).unwrap();
        let before = known.verdict;
        let alive = outcome != Outcome::Failed;
        let held = alive && known.hold_ends().is_some_and(|end| now < end);
        let kept = before.is_some() && (held || suspected.is_some());
        let after = if kept { before } else { known.by_thresholds() };
        if after != before {
            known.changes.push((now, before, after.unwrap()));
            known.verdict = after;
        }
        suspected
    }

    /// Starts the suspicions that this failure causes.
    fn suspect(&mut self, id: TargetId, now: Moment) {
        for circle in &mut self.groups {
            let members = &circle.group.members;
            if circle.suspicion.is_some() || !members.contains(&id) {
                continue;
            }
            let all = || members.iter().map(|member| &self.targets[member]);
            let fresh = |known: &Known| known.fails_freshly(now, circle.window, circle.ended);
            let watched: Vec<&Known> = all()
                .filter(|known| {
                    known.verdict == Some(Verdict::Healthy) || (known.fell_from_health() && fresh(known))
                })
                .collect();
            let failing = watched.iter().filter(|known| fresh(known)).count();
            let share = usize::from(circle.group.share);
            if watched.len() >= 3 && failing * 100 >= share * watched.len() {
                let until = now + circle.interval;
                let pool = circle.group.pool.clone();
                let members = watched.len();
                let suspicion = Suspicion { pool, since: now, until, failing, members };
                self.alarms.push(Alarm::Began(suspicion.clone()));
                circle.suspicion = Some(suspicion);
            }
        }
    }

    pub(crate) fn verdict(&self, id: TargetId) -> Option<Verdict> {
        self.targets[&id].verdict
    }

    pub(crate) fn held_until(&self, id: TargetId) -> Option<Moment> {
        let known = &self.targets[&id];
        let passes = || known.last(|outcome| outcome != Outcome::Failed).len();
        known.hold_ends().filter(|_| passes() >= usize::from(known.timing.rise))
    }

    pub(crate) fn flaps(&self, id: TargetId) -> usize {
        let known = &self.targets[&id];
        known.falls(known.heard).min(7)
    }

    /// When the next probe must be due, after an outcome just now.
    pub(crate) fn next(&self, id: TargetId, outcome: Outcome, now: Moment) -> Next {
        let known = &self.targets[&id];
        let timing = &known.timing;
        let held = self.held_until(id).is_some();
        let down = known.verdict == Some(Verdict::Unhealthy) && !held;
        let period = if down { timing.interval_down } else { timing.interval };
        let doubt = match (known.verdict, outcome) {
            (Some(Verdict::Healthy), Outcome::Failed)
            | (Some(Verdict::Draining), Outcome::Failed | Outcome::Passed) => true,
            (Some(Verdict::Unhealthy), Outcome::Passed | Outcome::Draining) => !held,
            _ => false,
        };
        if doubt { Next::At(now + timing.recheck.min(period)) } else { Next::Tick(period) }
    }

    pub(crate) fn suspicions(&self) -> Vec<Suspicion> {
        self.groups.iter().filter_map(|circle| circle.suspicion.clone()).collect()
    }

    pub(crate) fn take_alarms(&mut self) -> Vec<Alarm> {
        std::mem::take(&mut self.alarms)
    }
}
