//! Records which conditions a receiver has been told of, and decides on its next message. Pure: the present conditions and the time in, messages
//! out.
//!
//! ```text
//!            present                delay is over, message delivered
//! (unknown) ---------> pending ------------------------------------> told ---+ repeat: told again
//!     ^                  |                                           |  ^ <--+
//!     |  ends within     |                                     ends  |  | present again
//!     +------ delay -----+                                           v  |
//!     +-------------------- message with the end delivered ------- ended
//! ```
//!
//! A condition that ends after its delay, and before the receiver could be told of it, is told with its end.
//!
//! There is one record for each condition, and no list of messages. A message is made when it can be sent, from what is
//! true then, so a receiver that is slow or dead costs no memory and later gets one message with the present state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::alerts::settings::AlertTiming;
use crate::fleet::{Condition, ConditionKey};
use crate::health::Moment;

/// The pause after the first failure; each further one doubles it.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause of that kind, unless `repeat` is shorter: Alertmanager ends what it does not hear of.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The longest pause for which a receiver may ask.
pub const LONGEST_REQUESTED_PAUSE: Duration = Duration::from_secs(3600);

/// The present conditions, by their keys.
pub type PresentConditions = BTreeMap<ConditionKey, Arc<Condition>>;

/// The conditions that a receiver has been told of, or must be told of.
#[derive(Debug)]
pub struct Ledger {
    timing: AlertTiming,
    records: BTreeMap<ConditionKey, LedgerRecord>,
    /// Whether a message is on its way.
    sending: bool,
    /// Failures since the last message that was delivered.
    failures: u32,
    /// When the next attempt may be made.
    not_before: Moment,
}

#[derive(Debug)]
struct LedgerRecord {
    /// Its latest words.
    condition: Arc<Condition>,
    since: Moment,
    /// When it ended; none if it is present.
    ended: Option<Moment>,
    /// When the receiver was last told that it is present; none if it does not believe so.
    told: Option<Moment>,
    /// Whether its end was sent since it was last told. If that failed, the receiver may believe either.
    end_was_sent: bool,
}

/// A message to a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertMessage {
    /// All conditions that are present and old enough.
    pub firing: Vec<MessagePart>,
    /// Those that have ended since the last message.
    pub resolved: Vec<MessagePart>,
}

/// A condition in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessagePart {
    /// The condition.
    pub condition: Arc<Condition>,
    /// When it was first seen.
    pub since: Moment,
    /// When it ended.
    pub ended: Option<Moment>,
    /// Whether the receiver has not been told of it before.
    pub is_new: bool,
}

impl AlertMessage {
    /// Whether something is wrong.
    #[must_use]
    pub fn is_firing(&self) -> bool {
        !self.firing.is_empty()
    }
}

impl Ledger {
    /// A receiver that knows of nothing.
    #[must_use]
    pub fn new(timing: AlertTiming) -> Self {
        let (sending, failures, not_before) = (false, 0, Moment::ZERO);
        Self { timing, records: BTreeMap::new(), sending, failures, not_before }
    }

    /// Applies other times from now on.
    pub fn set_timing(&mut self, timing: AlertTiming) {
        self.timing = timing;
        if !timing.resolve {
            self.records.retain(|_, record| record.ended.is_none());
        }
    }

    /// Takes over the present conditions.
    pub fn see(&mut self, now: Moment, present: &PresentConditions) {
        let AlertTiming { delay, resolve, .. } = self.timing;
        for (key, condition) in present {
            let new = || LedgerRecord {
                condition: Arc::clone(condition),
                since: now,
                ended: None,
                told: None,
                end_was_sent: false,
            };
            let record = self.records.entry(key.clone()).or_insert_with(new);
            let has_returned = record.ended.take().is_some() && record.end_was_sent;
            // It may also have ended and begun again between two looks.
            let began_again = record.told.is_none() && record.condition.start != condition.start;
            if has_returned || began_again {
                (record.told, record.since) = (None, now);
            } else if record.condition.summary != condition.summary {
                // Another tier, a further family, or a certificate that has expired by now: told anew.
                record.told = None;
            }
            record.condition = Arc::clone(condition);
        }
        self.records.retain(|key, record| {
            if record.ended.is_some() || present.contains_key(key) {
                return true;
            }
            record.ended = Some(now);
            let is_due =
                record.told.is_some() || record.end_was_sent || now >= record.since.saturating_add(delay);
            is_due && resolve
        });
    }

    /// The message that can be sent now, if there is one. Until [`Ledger::delivered`] or [`Ledger::failed`] there is no
    /// other.
    pub fn take(&mut self, now: Moment) -> Option<AlertMessage> {
        if self.sending || self.next().is_none_or(|next| next > now) {
            return None;
        }
        let mut message = AlertMessage { firing: Vec::new(), resolved: Vec::new() };
        for record in self.records.values_mut() {
            let LedgerRecord { condition, since, ended, told, end_was_sent } = record;
            let (condition, is_new) = (Arc::clone(condition), told.is_none());
            let part = MessagePart { condition, since: *since, ended: *ended, is_new };
            if ended.is_some() {
                *end_was_sent = true;
                message.resolved.push(part);
            } else if told.is_some() || now >= since.saturating_add(self.timing.delay) {
                message.firing.push(part);
            }
        }
        self.sending = true;
        Some(message)
    }

    /// When there is a message to send if nothing changes; none while one is on its way, or if there is no news.
    #[must_use]
    pub fn next(&self) -> Option<Moment> {
        if self.sending {
            return None;
        }
        let AlertTiming { delay, group, repeat, .. } = self.timing;
        let due = |record: &LedgerRecord| match *record {
            LedgerRecord { ended: Some(ended), .. } => Some(ended.saturating_add(group)),
            LedgerRecord { told: Some(told), .. } => repeat.map(|repeat| told.saturating_add(repeat)),
            LedgerRecord { since, .. } => Some(since.saturating_add(delay).saturating_add(group)),
        };
        self.records.values().filter_map(due).min().map(|due| due.max(self.not_before))
    }

    /// The message was delivered.
    pub fn delivered(&mut self, now: Moment, message: &AlertMessage) {
        (self.sending, self.failures, self.not_before) = (false, 0, Moment::ZERO);
        for part in &message.firing {
            if let Some(record) = self.records.get_mut(&part.condition.key) {
                (record.told, record.end_was_sent) = (Some(now), false);
            }
        }
        for part in &message.resolved {
            let key = &part.condition.key;
            let Some(record) = self.records.get_mut(key) else { continue };
            // It may have come back meanwhile: the receiver is told again, unless that has ended within the delay.
            record.end_was_sent = false;
            let old = record.since.saturating_add(self.timing.delay);
            if record.ended.is_some_and(|ended| part.ended == Some(ended) || ended < old) {
                self.records.remove(key);
            }
        }
    }

    /// The message was not delivered. `requested` is the pause for which the receiver has asked; `chance`, from 0 to 1,
    /// spreads the attempts of many servers.
    pub fn failed(&mut self, now: Moment, requested: Option<Duration>, chance: f64) {
        self.sending = false;
        let longest = self.timing.repeat.map_or(LONGEST_PAUSE, |repeat| repeat.min(LONGEST_PAUSE));
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        let pause = doubled.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        let requested = requested.unwrap_or_default().min(LONGEST_REQUESTED_PAUSE);
        self.not_before = now.saturating_add(pause.max(requested));
    }

    /// The next attempt need not wait, because the settings have changed.
    pub fn retry(&mut self) {
        (self.failures, self.not_before) = (0, Moment::ZERO);
    }

    /// How many conditions the receiver must still be told of: that they are present, or that they have ended.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.records.values().filter(|record| record.ended.is_some() || record.told.is_none()).count()
    }

    /// How many conditions are present.
    #[must_use]
    pub fn present(&self) -> usize {
        self.records.values().filter(|record| record.ended.is_none()).count()
    }
}
