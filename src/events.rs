//! Events: one record for each thing that operators want to know of, in the order in which they happened.
//!
//! `tell!` writes a log line and keeps the same words as an event; the last [`KEPT`] are kept in memory. The admin
//! server shows them, and alerts read them. Nothing that decides about health or answers may read them back.
//!
//! ```text
//! fleet, reload, state --tell!--> log line
//!                            `--> the last events --wakes--> streams of the admin server
//! ```

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// How many events are kept.
pub const KEPT: usize = 1_000;

/// The largest first id. Ids stay below 2^53, which JavaScript represents exactly.
const LAST_FIRST_ID: u64 = 1 << 52;

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A backend address has changed its state.
    Transition,
    /// A backend address is held back by damping, or no longer.
    Hold,
    /// A pool has become usable or unusable.
    Pool,
    /// A service is down, fails open, or is up again.
    Service,
    /// A service is answered by another tier, or waits for an earlier one.
    Tier,
    /// An override of a backend has begun or ended.
    Override,
    /// A failover of a service has begun or ended.
    Failover,
    /// The configuration or a file of rules was read again, or refused.
    Reload,
    /// This machine is suspected instead of its backends, or no longer.
    Suspicion,
    /// A certificate of a backend expires soon, or has expired.
    Certificate,
    /// The audit cannot be written, or is written again.
    Audit,
    /// Something about this server itself: it is ready, its clock has jumped, its state cannot be written.
    Server,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::Transition,
        Self::Hold,
        Self::Pool,
        Self::Service,
        Self::Tier,
        Self::Override,
        Self::Failover,
        Self::Reload,
        Self::Suspicion,
        Self::Certificate,
        Self::Audit,
        Self::Server,
    ];

    /// The name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transition => "transition",
            Self::Hold => "hold",
            Self::Pool => "pool",
            Self::Service => "service",
            Self::Tier => "tier",
            Self::Override => "override",
            Self::Failover => "failover",
            Self::Reload => "reload",
            Self::Suspicion => "suspicion",
            Self::Certificate => "certificate",
            Self::Audit => "audit",
            Self::Server => "server",
        }
    }
}

/// How serious an event is: the level of its log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventSeverity {
    /// Worth knowing.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Something was refused or has failed.
    Error,
}

impl EventSeverity {
    /// The name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Grows with each event, also over restarts unless the clock is set back.
    pub id: u64,
    /// The time of day.
    pub at: SystemTime,
    /// Its kind.
    pub kind: EventKind,
    /// Its severity.
    pub severity: EventSeverity,
    /// A sentence for people, without the fields.
    pub message: Box<str>,
    /// Its fields, as in the log line: `pool`, `backend`, `reason` and so on.
    pub fields: Vec<(&'static str, FieldValue)>,
}

impl Event {
    /// The text of a field.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.iter().find_map(|(field, value)| match value {
            FieldValue::Text(text) if *field == name => Some(&**text),
            _ => None,
        })
    }
}

/// The value of a field of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// A text.
    Text(Box<str>),
    /// A number.
    Number(i64),
}

impl fmt::Display for FieldValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Number(number) => write!(formatter, "{number}"),
        }
    }
}

/// Values that a field can have. `None` is a field that this event does not have.
pub(crate) trait EventField {
    fn value(&self) -> Option<FieldValue>;
}

macro_rules! fields_of_text {
    ($($type:ty),*) => {
        $(impl EventField for $type {
            fn value(&self) -> Option<FieldValue> {
                Some(FieldValue::Text(self.to_string().into()))
            }
        })*
    };
}

macro_rules! fields_of_numbers {
    ($($type:ty),*) => {
        $(impl EventField for $type {
            fn value(&self) -> Option<FieldValue> {
                i64::try_from(*self).ok().map(FieldValue::Number)
            }
        })*
    };
}

fields_of_text!(str, String, Arc<str>, Cow<'_, str>, IpAddr, bool, f64);
fields_of_numbers!(u8, u16, u32, u64, usize, i64);

impl<T: EventField + ?Sized> EventField for &T {
    fn value(&self) -> Option<FieldValue> {
        (**self).value()
    }
}

impl<T: EventField> EventField for Option<T> {
    fn value(&self) -> Option<FieldValue> {
        self.as_ref().and_then(EventField::value)
    }
}

/// Something about this server itself that operators should see until it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notice {
    /// The last reload was refused.
    Reload,
    /// The last upgrade failed.
    Upgrade,
    /// This limit on clients bites.
    Limit(&'static str),
}

/// The last events, and the notices. Clones share them.
#[derive(Clone, Debug)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ring: Mutex<EventRing>,
    notices: Mutex<BTreeMap<Notice, String>>,
    /// The id of the latest event; before the first one, the id before it.
    latest: watch::Sender<u64>,
}

#[derive(Debug)]
struct EventRing {
    kept: VecDeque<Arc<Event>>,
    next: u64,
}

/// The events after some event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Following {
    /// The events, the latest last.
    pub events: Vec<Arc<Event>>,
    /// Whether some in between are no longer kept.
    pub missed: bool,
    /// The id to ask after next.
    pub newest: u64,
}

impl Events {
    /// No events yet. Ids begin with the microseconds of this time, so they grow over restarts too.
    #[must_use]
    pub fn new(start: SystemTime) -> Self {
        let microseconds = start.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
        let first = u64::try_from(microseconds).unwrap_or(u64::MAX).min(LAST_FIRST_ID);
        let ring = EventRing { kept: VecDeque::new(), next: first + 1 };
        let (notices, latest) = (Mutex::default(), watch::Sender::new(first));
        Self(Arc::new(Shared { ring: Mutex::new(ring), notices, latest }))
    }

    /// Shows a sentence to operators until it is replaced or, with none, taken back.
    pub fn show(&self, notice: Notice, sentence: Option<String>) {
        let mut notices = self.0.notices.lock().unwrap_or_else(PoisonError::into_inner);
        match sentence {
            Some(sentence) => drop(notices.insert(notice, sentence)),
            None => drop(notices.remove(&notice)),
        }
    }

    /// The sentences that are shown now.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        let notices = self.0.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.values().cloned().collect()
    }

    /// Tells events that happen at this time.
    #[must_use]
    pub fn at(&self, at: SystemTime) -> Teller {
        Teller { events: self.clone(), at }
    }

    /// Tells events that happen now.
    #[must_use]
    pub fn now(&self) -> Teller {
        self.at(SystemTime::now())
    }

    /// The kept events after the one with this id; all without an id.
    #[must_use]
    pub fn after(&self, id: Option<u64>) -> Following {
        let ring = self.ring();
        let newest = ring.next.saturating_sub(1);
        let oldest = ring.kept.front().map_or(ring.next, |event| event.id);
        // Ids have no gaps within a run. A larger one is of an earlier run, before the clock was set back.
        let (first, missed) = match id {
            None => (0, false),
            Some(id) if id > newest => (0, true),
            Some(id) => (ring.kept.partition_point(|event| event.id <= id), id.saturating_add(1) < oldest),
        };
        Following { events: ring.kept.range(first..).cloned().collect(), missed, newest }
    }

    /// Changes with each event; the value is the id of the latest.
    #[must_use]
    pub fn latest(&self) -> watch::Receiver<u64> {
        self.0.latest.subscribe()
    }

    fn ring(&self) -> MutexGuard<'_, EventRing> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: impl FnOnce(u64) -> Event) {
        let mut ring = self.ring();
        let id = ring.next;
        ring.next += 1;
        // One is freed before the next is added, so the ring never grows.
        if ring.kept.len() == KEPT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(Arc::new(event(id)));
        // Under the lock, so that the ids arrive in their order.
        self.0.latest.send_replace(id);
    }
}

/// Tells events that happen at one time.
#[derive(Clone, Debug)]
pub struct Teller {
    events: Events,
    at: SystemTime,
}

impl Teller {
    /// Sets the time of the following events.
    pub fn set_time(&mut self, at: SystemTime) {
        self.at = at;
    }

    /// The events of all tellers.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Keeps an event; called by `tell!`.
    pub(crate) fn keep(
        &self,
        kind: EventKind,
        severity: EventSeverity,
        message: Box<str>,
        fields: Vec<(&'static str, FieldValue)>,
    ) {
        let at = self.at;
        self.events.push(|id| Event { id, at, kind, severity, message, fields });
    }
}

/// Writes a log line and keeps it as an event: `tell!(teller, warn, Kind, field, %field, name = value, "message")`. The
/// fields have the syntax of `tracing`.
macro_rules! tell {
    ($teller:expr, $level:ident, $kind:ident, $($line:tt)*) => {{
        ::tracing::$level!($($line)*);
        #[allow(unused_mut, reason = "some events have no fields")]
        let mut fields = Vec::new();
        let message = $crate::events::tell!(@fields fields, $($line)*);
        $teller.keep(
            $crate::events::EventKind::$kind,
            $crate::events::tell!(@severity $level),
            message,
            fields,
        );
    }};
    (@severity info) => { $crate::events::EventSeverity::Info };
    (@severity warn) => { $crate::events::EventSeverity::Warning };
    (@severity error) => { $crate::events::EventSeverity::Error };
    (@fields $fields:ident, $name:ident = % $value:expr, $($rest:tt)*) => {{
        $crate::events::push(&mut $fields, stringify!($name), &$value.to_string());
        $crate::events::tell!(@fields $fields, $($rest)*)
    }};
    (@fields $fields:ident, $name:ident = $value:expr, $($rest:tt)*) => {{
        $crate::events::push(&mut $fields, stringify!($name), &$value);
        $crate::events::tell!(@fields $fields, $($rest)*)
    }};
    (@fields $fields:ident, % $name:ident, $($rest:tt)*) => {{
        $crate::events::push(&mut $fields, stringify!($name), &$name.to_string());
        $crate::events::tell!(@fields $fields, $($rest)*)
    }};
    (@fields $fields:ident, ? $name:ident, $($rest:tt)*) => {{
        $crate::events::push(&mut $fields, stringify!($name), &format!("{:?}", $name));
        $crate::events::tell!(@fields $fields, $($rest)*)
    }};
    (@fields $fields:ident, $name:ident, $($rest:tt)*) => {{
        $crate::events::push(&mut $fields, stringify!($name), &$name);
        $crate::events::tell!(@fields $fields, $($rest)*)
    }};
    (@fields $fields:ident, $message:literal $(, $argument:expr)* $(,)?) => {
        format!($message $(, $argument)*).into_boxed_str()
    };
}

pub(crate) use tell;

/// Adds a field unless it is absent; called by `tell!`.
pub(crate) fn push(
    fields: &mut Vec<(&'static str, FieldValue)>,
    name: &'static str,
    value: &(impl EventField + ?Sized),
) {
    fields.extend(value.value().map(|value| (name, value)));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::captured_log::CapturedLog;

    fn noon() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_764_504_000)
    }

    fn told(events: &Events, number: usize) {
        tell!(events.at(noon()), info, Server, number, "told");
    }

    #[test]
    fn an_event_says_what_its_log_line_says() {
        let (log, _guard) = CapturedLog::listen();
        let events = Events::new(noon());
        let (pool, address, absent) = ("web", IpAddr::from([192, 0, 2, 1]), None::<&str>);
        let (took, left) = (Duration::from_secs(2), 3_usize);
        tell!(
            events.at(noon()),
            warn,
            Pool,
            pool,
            %address,
            absent,
            reason = %address,
            ?took,
            left = left + 1,
            "pool {pool} is {}",
            "gone",
        );
        let lines = log.take("pool web is gone");
        let fields = r#"pool="web" address=192.0.2.1 reason=192.0.2.1 took=2s left=4"#;
        assert!(lines.len() == 1 && lines[0].contains("WARN") && lines[0].contains(fields), "{lines:?}");
        let following = events.after(None);
        let [event] = &following.events[..] else { panic!("{following:?}") };
        assert_eq!((event.kind, event.severity, event.at), (EventKind::Pool, EventSeverity::Warning, noon()));
        assert_eq!(&*event.message, "pool web is gone");
        let written = event.fields.iter().map(|(name, value)| format!("{name}={value}"));
        assert_eq!(
            written.collect::<Vec<_>>(),
            ["pool=web", "address=192.0.2.1", "reason=192.0.2.1", "took=2s", "left=4"]
        );
        assert_eq!(event.text("pool"), Some("web"));
        assert_eq!(event.text("absent"), None);
    }

    #[test]
    fn a_reader_that_returns_gets_what_followed() {
        let events = Events::new(noon());
        let first = *events.latest().borrow();
        assert!(first < 1 << 53);
        assert_eq!(events.after(Some(first)), Following { events: Vec::new(), missed: false, newest: first });
        (0..KEPT).for_each(|number| told(&events, number));
        let all = events.after(None).events;
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0].id, first + 1);
        assert_eq!(*events.latest().borrow(), all[KEPT - 1].id);
        for index in [0, 1, KEPT - 2, KEPT - 1] {
            let (following, newest) = (all[index + 1..].to_vec(), all[KEPT - 1].id);
            let expected = Following { events: following, missed: false, newest };
            assert_eq!(events.after(Some(all[index].id)), expected, "{index}");
        }
        // The oldest goes with the next one, and a reader that had not seen it is told so.
        told(&events, KEPT);
        assert!(!events.after(Some(all[0].id)).missed);
        told(&events, KEPT + 1);
        let following = events.after(Some(all[0].id));
        assert!(following.missed);
        assert_eq!(following.events.len(), KEPT);
    }

    #[test]
    fn a_reader_of_an_earlier_run_gets_all_of_this_one() {
        let before = Events::new(noon());
        told(&before, 1);
        let seen = *before.latest().borrow();
        // Also if the clock was set back meanwhile.
        for start in [noon() + Duration::from_micros(50), noon() - Duration::from_secs(1)] {
            let events = Events::new(start);
            (0..3).for_each(|number| told(&events, number));
            let following = events.after(Some(seen));
            assert_eq!((following.events.len(), following.missed), (3, true));
        }
    }

    #[test]
    fn readers_are_woken() {
        let events = Events::new(noon());
        let mut latest = events.latest();
        assert!(!latest.has_changed().unwrap());
        told(&events, 1);
        assert!(latest.has_changed().unwrap());
        assert_eq!(*latest.borrow_and_update(), events.after(None).events[0].id);
    }
}
