//! The table of targets: due times, accepted outcomes, and removed targets.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::check::Timing;
use crate::health::{Alarm, Group, HealthTable, Moment, Outcome, State, TargetId, Ticket, Verdict};

const SECOND: Duration = Duration::from_secs(1);

const TIMING: Timing = Timing {
    interval: Duration::from_secs(5),
    timeout: Duration::from_secs(2),
    rise: 2,
    fall: 3,
    recheck: SECOND,
    interval_down: Duration::from_secs(5),
    damping: true,
};

struct Bench {
    table: HealthTable,
    rng: SmallRng,
    now: Moment,
}

impl Bench {
    fn new() -> Self {
        Self { table: HealthTable::new(), rng: SmallRng::seed_from_u64(1), now: Duration::ZERO }
    }

    fn add(&mut self, verdict: Option<Verdict>) -> TargetId {
        self.table.add(TIMING, verdict, self.now, &mut self.rng)
    }

    /// Waits for the next ticket.
    fn ticket(&mut self) -> Ticket {
        self.now = self.now.max(self.table.next_deadline().unwrap());
        self.table.due(self.now).unwrap()
    }

    fn bring(&mut self, ticket: Ticket, outcome: Outcome) -> bool {
        self.table.handle_outcome(ticket, outcome, self.now, &mut self.rng).is_some()
    }
}

#[test]
fn a_removed_target_is_never_due_again() {
    let mut bench = Bench::new();
    let (gone, kept) = (bench.add(None), bench.add(None));
    bench.table.remove(gone);
    assert_eq!(bench.table.unknown(), 1);
    for _ in 0..20 {
        let ticket = bench.ticket();
        assert_eq!(ticket.target, kept);
        bench.bring(ticket, Outcome::Passed);
    }
    assert!(bench.table.all_known());
    bench.table.remove(kept);
    assert_eq!(bench.table.next_deadline(), None);
    assert_eq!(bench.table.due(Duration::MAX), None);
    bench.table.remove(kept);
    bench.table.remove(TargetId(77));
    assert_eq!(bench.table.unknown(), 0);
}

#[test]
fn a_ticket_of_a_removed_target_changes_nothing_of_the_one_that_has_its_id_now() {
    let mut bench = Bench::new();
    let old = bench.add(None);
    let stale = bench.ticket();
    assert!(bench.table.is_current(stale));
    bench.table.remove(old);
    assert!(!bench.table.is_current(stale));
    assert!(!bench.bring(stale, Outcome::Passed), "no target has this id");
    assert_eq!(bench.table.state(old), State::Unknown);

    let new = bench.add(Some(Verdict::Unhealthy));
    assert_eq!(new, old, "ids are reused");
    assert!(!bench.bring(stale, Outcome::Passed), "it waits");
    let ticket = bench.ticket();
    assert!(!bench.bring(stale, Outcome::Passed), "it is in flight");
    assert_eq!(bench.table.state(new), State::Unhealthy { successes: 0 });
    assert!(bench.table.is_current(ticket), "the stale ticket did not use up its turn");
    bench.bring(ticket, Outcome::Passed);
    assert_eq!(bench.table.state(new), State::Unhealthy { successes: 1 });
    assert!(!bench.table.is_current(ticket), "an outcome is taken once");
    assert!(!bench.bring(ticket, Outcome::Passed));
    assert_eq!(bench.table.state(new), State::Unhealthy { successes: 1 });
}

#[test]
fn ids_stay_dense_however_often_targets_come_and_go() {
    let mut bench = Bench::new();
    let mut ids: Vec<TargetId> = (0..10).map(|_| bench.add(None)).collect();
    for round in 0..1000 {
        let id = ids.remove(round * 7 % ids.len());
        bench.table.remove(id);
        ids.push(bench.add(None));
    }
    let mut indices: Vec<usize> = ids.iter().map(|id| id.index()).collect();
    indices.sort_unstable();
    assert!(indices.into_iter().eq(0..10));
}

/// Takes a target through one fall and back. Returns the time from the first pass to the return.
fn fall_and_return(bench: &mut Bench, id: TargetId) -> Duration {
    while bench.table.state(id).verdict() != Some(Verdict::Unhealthy) {
        let ticket = bench.ticket();
        bench.bring(ticket, Outcome::Failed);
    }
    assert_eq!(bench.table.held_until(id), None);
    let mut first = None;
    while bench.table.state(id).verdict() == Some(Verdict::Unhealthy) {
        let ticket = bench.ticket();
        bench.bring(ticket, Outcome::Passed);
        first = first.or(Some(bench.now));
    }
    assert_eq!(bench.table.held_until(id), None);
    bench.now - first.unwrap()
}

#[test]
fn the_holds_of_one_that_falls_whenever_it_has_returned() {
    let quick = Duration::from_millis(100);
    let timing = Timing { interval: quick, timeout: quick / 2, recheck: quick, rise: 1, fall: 1, ..TIMING };
    for interval_down in [quick, SECOND * 60] {
        let mut bench = Bench::new();
        let timing = Timing { interval_down, ..timing };
        let id = bench.table.add(timing, Some(Verdict::Healthy), bench.now, &mut bench.rng);
        let mut holds = Vec::new();
        for falls in 1..=7 {
            holds.push(fall_and_return(&mut bench, id));
            assert!(bench.table.flaps(id) <= falls);
        }
        let seconds: Vec<u64> = holds.iter().map(Duration::as_secs).collect();
        if interval_down == quick {
            assert_eq!(bench.table.flaps(id), 2, "the other falls are older than 10 minutes");
            assert_eq!(seconds, [0, 0, 30, 60, 120, 240, 300]);
        }
        // A held address is probed as often as a healthy one, even if `interval_down` is long.
        let late = holds.iter().map(|hold| hold.as_millis() % 30_000).max().unwrap();
        assert!(late <= 210, "{holds:?}");
        let undamped = Timing { damping: false, ..timing };
        let id = bench.table.add(undamped, Some(Verdict::Healthy), bench.now, &mut bench.rng);
        bench.table.remove(TargetId(0));
        for _ in 0..10 {
            assert_eq!(fall_and_return(&mut bench, id), Duration::ZERO);
            assert_eq!(bench.table.flaps(id), 0);
        }
    }
}

#[test]
fn damping_saves_clients_from_the_worst_flapper() {
    let mut falls = [0, 0];
    for (count, damping) in falls.iter_mut().zip([true, false]) {
        let mut bench = Bench::new();
        let timing = Timing { damping, ..TIMING };
        let id = bench.table.add(timing, Some(Verdict::Healthy), bench.now, &mut bench.rng);
        while bench.now < SECOND * 36_000 {
            fall_and_return(&mut bench, id);
            *count += 1;
        }
    }
    let [damped, undamped] = falls.map(|count| count / 10);
    println!("falls per hour of a target that fails after every return: {damped}, undamped {undamped}");
    assert!(damped * 10 < undamped, "{damped} and {undamped}");
}

#[test]
fn a_target_takes_little_memory() {
    let bytes = size_of::<Option<crate::health::ScheduledTarget>>();
    println!("{bytes} bytes for a target, without its entries in the queue and in its groups");
    assert!(bytes <= 200, "{bytes}");
}

#[test]
fn a_failure_while_held_begins_the_way_back_anew() {
    let mut bench = Bench::new();
    let timing = Timing { fall: 1, rise: 1, ..TIMING };
    let id = bench.table.add(timing, Some(Verdict::Healthy), bench.now, &mut bench.rng);
    for _ in 0..2 {
        fall_and_return(&mut bench, id);
    }
    let ticket = bench.ticket();
    bench.bring(ticket, Outcome::Failed);
    for outcome in [Outcome::Passed, Outcome::Void, Outcome::Draining, Outcome::Passed] {
        let ticket = bench.ticket();
        assert!(!bench.bring(ticket, outcome));
        assert!(bench.table.held_until(id).is_some());
    }
    let first = bench.table.held_until(id).unwrap();
    let ticket = bench.ticket();
    bench.bring(ticket, Outcome::Failed);
    assert_eq!(bench.table.held_until(id), None);
    let ticket = bench.ticket();
    bench.bring(ticket, Outcome::Passed);
    assert_eq!(bench.table.held_until(id), Some(bench.now + SECOND * 30));
    assert!(bench.now + SECOND * 30 > first);
}

#[test]
fn an_unhealthy_target_is_probed_at_its_own_interval() {
    let mut bench = Bench::new();
    let timing = Timing { interval_down: SECOND * 60, ..TIMING };
    let id = bench.table.add(timing, None, bench.now, &mut bench.rng);
    let mut last = Duration::ZERO;
    for probe in 0..20 {
        let ticket = bench.ticket();
        bench.bring(ticket, Outcome::Failed);
        let gap = bench.now - last;
        assert!(probe < 2 || (gap >= SECOND * 57 && gap <= SECOND * 63), "{gap:?}");
        last = bench.now;
    }
    let ticket = bench.ticket();
    bench.bring(ticket, Outcome::Passed);
    assert_eq!(bench.table.next_deadline(), Some(bench.now + SECOND), "in doubt");
    let ticket = bench.ticket();
    bench.bring(ticket, Outcome::Void);
    let due = bench.table.next_deadline().unwrap();
    assert!(due > bench.now && due <= bench.now + SECOND * 63, "after a void outcome the usual tick is due");
    assert_eq!(bench.table.state(id), State::Unhealthy { successes: 1 });
}

/// All probes are in flight, so the end of the suspicion is the only deadline.
#[test]
fn a_suspicion_ends_on_time_while_nothing_is_due() {
    let mut bench = Bench::new();
    let members: Vec<TargetId> = (0..3).map(|_| bench.add(Some(Verdict::Healthy))).collect();
    let group = Group { pool: Some("pool".into()), pace: 0, share: 90, members };
    bench.table.set_groups(vec![group], bench.now);
    while bench.table.suspicions().next().is_none() {
        let ticket = bench.ticket();
        bench.bring(ticket, Outcome::Failed);
    }
    let until = bench.table.suspicions().next().unwrap().until;
    for _ in 0..3 {
        bench.ticket();
    }
    assert!(bench.now < until);
    assert_eq!(bench.table.next_deadline(), Some(until));
    assert!(matches!(bench.table.take_alarms(until).as_slice(), [Alarm::Began(_), Alarm::Ended(_)]));
    assert_eq!(bench.table.next_deadline(), None);
}

#[test]
fn a_group_remembers_hardly_more_runs_than_go_on_however_long_its_window() {
    let mut bench = Bench::new();
    let mut members = vec![bench.add(Some(Verdict::Healthy))];
    let slow = Timing { interval: SECOND * 3600, interval_down: SECOND * 3600, ..TIMING };
    members.push(bench.table.add(slow, Some(Verdict::Healthy), bench.now, &mut bench.rng));
    let tenth = SECOND / 10;
    let quick =
        Timing { interval: tenth, interval_down: tenth, timeout: tenth / 2, recheck: tenth, ..TIMING };
    for _ in 0..98 {
        members.push(bench.table.add(quick, Some(Verdict::Healthy), bench.now, &mut bench.rng));
    }
    let steady = members[0];
    bench.table.set_groups(vec![Group { pool: None, pace: 0, share: 100, members }], bench.now);
    let mut longest = 0;
    for _ in 0..50_000 {
        let ticket = bench.ticket();
        let fails = bench.table.state(ticket.target) == State::Healthy { failures: 0 };
        let outcome = if fails && ticket.target != steady { Outcome::Failed } else { Outcome::Passed };
        bench.bring(ticket, outcome);
        longest = longest.max(bench.table.suspicions.longest_queue());
    }
    println!("25,000 runs in one window, at most {longest} remembered");
    assert!(longest <= 2 * 99 + 64 + 1, "{longest}");
    assert_eq!(bench.table.take_alarms(bench.now), []);
}
