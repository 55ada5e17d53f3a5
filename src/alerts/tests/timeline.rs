//! Delay, group, repeat, resolve and failures, each on its own.

use std::time::Duration;

use crate::alerts::ledger::{AlertMessage, Ledger, MessagePart, PresentConditions};
use crate::alerts::settings::AlertTiming;
use crate::alerts::tests::{condition, present};
use crate::fleet::Condition;
use crate::health::Moment;

fn at(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

const TIMING: AlertTiming = AlertTiming {
    delay: Duration::from_secs(30),
    group: Duration::from_secs(5),
    repeat: Some(Duration::from_secs(600)),
    resolve: true,
};

fn names(parts: &[MessagePart]) -> Vec<String> {
    parts.iter().map(|part| part.condition.key.name.to_string()).collect()
}

fn told(message: &AlertMessage) -> (Vec<String>, Vec<String>) {
    (names(&message.firing), names(&message.resolved))
}

/// Takes the next message, which is delivered at once.
fn sent(ledger: &mut Ledger, now: Moment) -> Option<(Vec<String>, Vec<String>)> {
    let message = ledger.take(now)?;
    ledger.delivered(now, &message);
    Some(told(&message))
}

fn of(firing: &[&str], resolved: &[&str]) -> (Vec<String>, Vec<String>) {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    (owned(firing), owned(resolved))
}

#[test]
fn nothing_is_sent_for_what_ends_within_the_delay() {
    let mut ledger = Ledger::new(TIMING);
    ledger.see(at(0), &present(&["a"]));
    assert_eq!(ledger.next(), Some(at(35)));
    ledger.see(at(29), &present(&[]));
    assert_eq!((ledger.next(), ledger.pending(), ledger.take(at(1000))), (None, 0, None));
}

/// The outages of a pool that fails again and again may be shorter than the time between two looks.
#[test]
fn an_outage_that_began_again_between_two_looks_has_its_own_delay() {
    let begun = |start| {
        let condition = Condition { start, ..condition("a") };
        PresentConditions::from([(condition.key.clone(), condition.into())])
    };
    let mut ledger = Ledger::new(TIMING);
    ledger.see(at(0), &begun(1));
    ledger.see(at(20), &begun(1));
    assert_eq!(ledger.next(), Some(at(35)));
    ledger.see(at(21), &begun(2));
    assert_eq!(ledger.next(), Some(at(56)));
    assert_eq!(sent(&mut ledger, at(56)), Some(of(&["a"], &[])));
    ledger.see(at(57), &begun(3));
    assert_eq!(ledger.next(), Some(at(656)), "the receiver knows of it already");
}

#[test]
fn what_becomes_worse_is_told_anew() {
    let words = |summary: &str| {
        let condition = Condition { summary: summary.into(), ..condition("a") };
        PresentConditions::from([(condition.key.clone(), condition.into())])
    };
    let mut ledger = Ledger::new(TIMING);
    ledger.see(at(0), &words("answered by tier 2"));
    assert_eq!(sent(&mut ledger, at(35)), Some(of(&["a"], &[])));
    ledger.see(at(40), &words("answered by tier 3"));
    let message = ledger.take(at(40)).unwrap();
    assert!(message.firing[0].is_new && message.firing[0].since == at(0), "{message:?}");
    ledger.delivered(at(40), &message);
    ledger.see(at(50), &words("answered by tier 3"));
    assert_eq!(ledger.next(), Some(at(640)));
    // Its end is told although the receiver has not been told of its last words.
    ledger.see(at(60), &words("answered by tier 4"));
    ledger.see(at(61), &present(&[]));
    assert_eq!(sent(&mut ledger, at(66)), Some(of(&[], &["a"])));
}

#[test]
fn many_within_seconds_are_one_message() {
    let mut ledger = Ledger::new(TIMING);
    ledger.see(at(0), &present(&["a"]));
    ledger.see(at(3), &present(&["a", "b"]));
    ledger.see(at(20), &present(&["a", "b", "c"]));
    assert_eq!(ledger.take(at(34)), None);
    assert_eq!(sent(&mut ledger, at(35)), Some(of(&["a", "b"], &[])), "c is not old enough");
    assert_eq!(ledger.next(), Some(at(55)));
    assert_eq!(sent(&mut ledger, at(55)), Some(of(&["a", "b", "c"], &[])));
}

#[test]
fn what_lasts_is_repeated_and_what_ends_is_resolved() {
    let mut ledger = Ledger::new(TIMING);
    ledger.see(at(0), &present(&["a", "b"]));
    assert_eq!(sent(&mut ledger, at(35)), Some(of(&["a", "b"], &[])));
    assert_eq!(ledger.next(), Some(at(635)));
    assert_eq!(sent(&mut ledger, at(635)), Some(of(&["a", "b"], &[])));
    ledger.see(at(700), &present(&["b"]));
    assert_eq!(ledger.next(), Some(at(705)));
    assert_eq!(sent(&mut ledger, at(705)), Some(of(&["b"], &["a"])));
    ledger.see(at(710), &present(&[]));
    assert_eq!(sent(&mut ledger, at(715)), Some(of(&[], &["b"])));
    assert_eq!((ledger.next(), ledger.pending()), (None, 0));
}

#[test]
fn without_resolve_and_repeat_only_the_beginning_is_sent() {
    let mut ledger = Ledger::new(AlertTiming { repeat: None, resolve: false, ..TIMING });
    ledger.see(at(0), &present(&["a"]));
    assert_eq!(sent(&mut ledger, at(35)), Some(of(&["a"], &[])));
    assert_eq!(ledger.next(), None);
    ledger.see(at(100), &present(&[]));
    assert_eq!(ledger.next(), None);
    ledger.see(at(200), &present(&["a"]));
    assert_eq!(sent(&mut ledger, at(235)), Some(of(&["a"], &[])));
}

#[test]
fn a_condition_that_returns_at_once_goes_on() {
    let mut ledger = Ledger::new(TIMING);
    ledger.see(at(0), &present(&["a"]));
    assert_eq!(sent(&mut ledger, at(35)), Some(of(&["a"], &[])));
    ledger.see(at(100), &present(&[]));
    ledger.see(at(104), &present(&["a"]));
    assert_eq!(ledger.next(), Some(at(635)), "the receiver has noticed nothing");
    // If it returns while its end is on the way, it begins again.
    ledger.see(at(200), &present(&[]));
    let message = ledger.take(at(205)).unwrap();
    ledger.see(at(206), &present(&["a"]));
    ledger.delivered(at(207), &message);
    assert_eq!(told(&message), of(&[], &["a"]));
    assert_eq!(ledger.next(), Some(at(241)));
}

/// The answer of the receiver was late, so an end that it took counts as failed.
#[test]
fn what_returns_after_its_end_was_sent_is_told_anew() {
    let mut ledger = Ledger::new(TIMING);
    ledger.see(at(0), &present(&["a"]));
    assert_eq!(sent(&mut ledger, at(35)), Some(of(&["a"], &[])));
    ledger.see(at(100), &present(&[]));
    let _ = ledger.take(at(105)).unwrap();
    ledger.failed(at(115), None, 1.0);
    ledger.see(at(115), &present(&["a"]));
    assert_eq!((ledger.next(), ledger.pending()), (Some(at(150)), 1));
    // It may have missed the end, so it is told of it even if the condition ends within its delay.
    ledger.see(at(120), &present(&[]));
    assert_eq!(sent(&mut ledger, at(125)), Some(of(&[], &["a"])));
    assert_eq!((ledger.next(), ledger.pending()), (None, 0));
}

#[test]
fn a_pause_is_no_longer_than_repeat_and_ends_with_new_settings() {
    let mut ledger = Ledger::new(AlertTiming { repeat: Some(at(60)), ..TIMING });
    ledger.see(at(0), &present(&["a"]));
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        let now = ledger.next().unwrap();
        let _ = ledger.take(now).unwrap();
        ledger.failed(now, None, 1.0);
        assert_eq!(ledger.next(), Some(now + at(pause)));
    }
    ledger.retry();
    assert_eq!(ledger.next(), Some(at(35)));
}

#[test]
fn a_receiver_that_returns_gets_one_message_with_what_is_true_then() {
    let mut ledger = Ledger::new(TIMING);
    ledger.see(at(0), &present(&["a", "b", "c"]));
    let message = ledger.take(at(35)).unwrap();
    assert_eq!(ledger.take(at(36)), None, "one message at a time");
    ledger.failed(at(45), None, 1.0);
    assert_eq!(ledger.next(), Some(at(46)), "the first pause");
    assert_eq!(told(&message), of(&["a", "b", "c"], &[]));
    ledger.see(at(46), &present(&["a", "c", "d"]));
    for pause in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        let now = ledger.next().unwrap();
        let _ = ledger.take(now).unwrap();
        ledger.failed(now, None, 1.0);
        assert_eq!(ledger.next(), Some(now + at(pause)));
    }
    let now = ledger.next().unwrap();
    assert_eq!(
        sent(&mut ledger, now),
        Some(of(&["a", "c", "d"], &["b"])),
        "b had lasted longer than its delay"
    );
    assert_eq!(ledger.pending(), 0);
}

#[test]
fn pauses_are_spread_and_a_receiver_may_ask_for_longer_ones() {
    let pause = |requested: Option<u64>, chance| {
        let mut ledger = Ledger::new(TIMING);
        ledger.see(at(0), &present(&["a"]));
        ledger.take(at(35)).unwrap();
        ledger.failed(at(35), requested.map(at), chance);
        ledger.next().unwrap().saturating_sub(at(35))
    };
    assert_eq!(pause(None, 0.0), Duration::from_millis(500));
    assert_eq!(pause(None, 1.0), at(1));
    assert_eq!(pause(Some(120), 0.5), at(120));
    assert_eq!(pause(Some(1_000_000), 0.5), at(3600), "but not for ever");
}
