//! Hours of conditions that come and go, and of receivers that fail, against a model that is too simple to be wrong: what
//! a receiver believes, from the messages that it took.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::alerts::ledger::{AlertMessage, LONGEST_PAUSE, Ledger};
use crate::alerts::settings::AlertTiming;
use crate::alerts::tests::present;
use crate::health::Moment;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// The other side: what it believes, and since when each condition is really present.
#[derive(Default)]
struct Model {
    believed: BTreeSet<String>,
    since: std::collections::BTreeMap<String, Moment>,
    last: Option<Moment>,
    /// Their end was sent in a message that counts as failed, so it may come again.
    repeatable: BTreeSet<String>,
}

impl Model {
    fn take(&mut self, now: Moment, message: &AlertMessage, timing: AlertTiming) {
        assert!(!message.firing.is_empty() || !message.resolved.is_empty(), "an empty message");
        for part in &message.firing {
            let name = part.condition.key.name.to_string();
            // It was true when the message was made, and old enough.
            if self.believed.insert(name.clone()) {
                assert!(now >= part.since + timing.delay, "{name} is sent too early");
            }
        }
        for part in &message.resolved {
            assert!(timing.resolve);
            let ended = part.ended.expect("the time of its end");
            assert!(ended >= part.since && ended <= now);
            let name = &*part.condition.key.name;
            if !self.believed.remove(name) && !self.repeatable.contains(name) {
                assert!(ended >= part.since + timing.delay, "what ended within its delay is never told");
            }
        }
        self.last = Some(now);
    }
}

/// A run with this seed. Returns how many messages were taken.
fn run(seed: u64, timing: AlertTiming) -> usize {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut ledger, mut model) = (Ledger::new(timing), Model::default());
    let (mut now, mut taken, mut on_its_way): (Moment, usize, Option<(Moment, AlertMessage)>) =
        (Moment::ZERO, 0, None);
    let mut names: BTreeSet<&str> = BTreeSet::new();
    let mut is_dead = false;
    for step in 0..3000 {
        // In the last part nothing changes and the receiver lives, so it must learn everything.
        let is_calm = step >= 2500;
        let until = now + Duration::from_millis(rng.random_range(0..20_000));
        is_dead = !is_calm && if rng.random_bool(0.05) { !is_dead } else { is_dead };
        if !is_calm {
            let name = NAMES[rng.random_range(0..NAMES.len())];
            if !names.remove(name) {
                names.insert(name);
            }
        }
        loop {
            let arrival = on_its_way.as_ref().map(|(at, _)| *at);
            let Some(next) =
                [arrival, ledger.next()].into_iter().flatten().min().filter(|next| *next <= until)
            else {
                break;
            };
            now = now.max(next);
            if let Some((_, message)) = on_its_way.take_if(|(at, _)| *at <= now) {
                let ended = message.resolved.iter().map(|part| part.condition.key.name.to_string());
                let ended: BTreeSet<String> = ended.collect();
                if is_dead {
                    model.repeatable.extend(ended);
                    ledger.failed(now, None, rng.random());
                } else if !is_calm && rng.random_bool(0.1) {
                    // Taken, but reported as failed: the answer was late.
                    model.take(now, &message, timing);
                    model.repeatable.extend(ended);
                    ledger.failed(now, None, rng.random());
                } else {
                    model.take(now, &message, timing);
                    ledger.delivered(now, &message);
                    model.repeatable.retain(|name| !ended.contains(name));
                    taken += 1;
                }
            } else {
                let message = ledger.take(now).expect("there is one at this time");
                assert_eq!(ledger.take(now), None, "one at a time");
                on_its_way = Some((now + Duration::from_millis(rng.random_range(0..15_000)), message));
            }
        }
        now = until;
        let list: Vec<&str> = names.iter().copied().collect();
        ledger.see(now, &present(&list));
        model.since.retain(|name, _| names.contains(name.as_str()));
        for name in &names {
            model.since.entry((*name).to_owned()).or_insert(now);
        }
        assert!(ledger.pending() <= NAMES.len() && ledger.present() == names.len());
    }
    // Calm has lasted for longer than any pause.
    let long = timing.delay + timing.group + LONGEST_PAUSE * 2;
    assert!(model.since.values().all(|since| now > *since + long), "the calm is too short");
    if timing.resolve {
        let truth: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(model.believed, truth, "seed {seed}");
    } else {
        assert!(names.iter().all(|name| model.believed.contains(*name)), "seed {seed}");
    }
    assert_eq!(ledger.pending(), 0);
    match timing.repeat {
        Some(repeat) if !names.is_empty() => {
            let last = model.last.expect("a message");
            assert!(now < last + repeat + timing.group + Duration::from_secs(40), "nothing is repeated");
        }
        _ => {}
    }
    taken
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_receiver_that_lives_learns_what_is_true(
        seed in any::<u64>(),
        delay in 0_u64..120,
        group in 0_u64..30,
        repeat in proptest::option::of(60_u64..3600),
        resolve in any::<bool>(),
    ) {
        let seconds = Duration::from_secs;
        let (delay, group, repeat) = (seconds(delay), seconds(group), repeat.map(seconds));
        let taken = run(seed, AlertTiming { delay, group, repeat, resolve });
        prop_assert!(taken > 0);
    }
}
