//! The table of targets: what is due, whose outcome is taken, and what is left of a removed target.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::health::{HealthTable, Moment, Outcome, State, TargetId, Ticket, Timing, Verdict};

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
    assert!(!bench.bring(stale, Outcome::Passed), "nobody has this id");
    assert_eq!(bench.table.state(old), State::Unknown);

    let new = bench.add(Some(Verdict::Unhealthy));
    assert_eq!(new, old, "ids are used again");
    assert!(!bench.bring(stale, Outcome::Passed), "it waits");
    let ticket = bench.ticket();
    assert!(!bench.bring(stale, Outcome::Passed), "it is in flight");
    assert_eq!(bench.table.state(new), State::Unhealthy { successes: 0 });
    assert!(bench.table.is_current(ticket), "the stale ticket has not taken its turn away");
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
