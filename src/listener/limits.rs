//! Limits on clients, and the cell with the limits in force, which a reload changes while the
//! listeners run.
//!
//! The taps that are on are in the same cell, so that both cost one load.
//!
//! They are not part of the answer table because no answer depends on them. Like the table, they
//! are loaded once per batch without waiting.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use tracing::warn;

use crate::listener::rate_limit::{Limiter, RateLimit};
use crate::tap::Taps;

/// Limits on TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    /// Maximum number of connections at a time, at least 1. A client prefix (/24, /56) may hold a
    /// tenth of them.
    pub connections: usize,
    /// Maximum time between queries, and from the first byte of a query to its last.
    pub idle: Duration,
}

impl Default for TcpLimits {
    fn default() -> Self {
        Self { connections: 1000, idle: Duration::from_secs(10) }
    }
}

/// Limits on clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Over TCP.
    pub tcp: TcpLimits,
    /// On UDP, where source addresses may be forged; `None` means no limit.
    pub rate: Option<RateLimit>,
}

/// The only cell with the limits in force. Clones share it.
#[derive(Clone, Debug)]
pub struct InForce {
    active: Arc<ArcSwap<Active>>,
    /// Maximum number of TCP connections that the limit of open descriptors allows.
    most_connections: usize,
}

/// The limits in the form that the listeners use.
#[derive(Clone, Debug)]
pub(super) struct Active {
    pub(super) tcp: TcpLimits,
    pub(super) limiter: Option<Arc<Limiter>>,
    rate: Option<RateLimit>,
    /// `None` if no tap is on.
    pub(super) taps: Option<Taps>,
}

/// A worker's view of the cell. It costs one atomic load if nothing has changed.
pub(super) type LimitsReader = Cache<Arc<ArcSwap<Active>>, Arc<Active>>;

impl InForce {
    /// Creates the cell. Caps TCP connections at `most_connections` and logs a warning if the
    /// configured number is higher.
    #[must_use]
    pub fn new(limits: Limits, most_connections: usize) -> Self {
        let active = Active::new(within(limits, most_connections), None);
        Self { active: Arc::new(ArcSwap::from_pointee(active)), most_connections }
    }

    /// Replaces the limits. A connection that is already waiting keeps the old ones until its wait
    /// ends. If the rate limit is unchanged, its accounts stay, so that a reload gives a flood no
    /// new allowance.
    pub fn change(&self, limits: Limits) {
        let limits = within(limits, self.most_connections);
        self.active.rcu(|active| Active::new(limits.clone(), Some(active)));
    }

    /// Replaces the taps that are on. A worker that waits for queries notices within 0.1 seconds.
    pub fn tap(&self, taps: &Taps) {
        let taps = Some(taps).filter(|taps| !taps.is_empty());
        self.active.rcu(|active| Active { taps: taps.cloned(), ..(**active).clone() });
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let active = self.load();
        Limits { tcp: active.tcp, rate: active.rate.clone() }
    }

    pub(super) fn load(&self) -> Arc<Active> {
        self.active.load_full()
    }

    pub(super) fn reader(&self) -> LimitsReader {
        Cache::new(Arc::clone(&self.active))
    }
}

/// The limits with no more connections than there may be.
fn within(mut limits: Limits, most_connections: usize) -> Limits {
    let tcp = &mut limits.tcp;
    if tcp.connections > most_connections {
        warn!(
            "`tcp_connections` is {}, but the limit of open descriptors leaves room for {most_connections} \
                 TCP connections: steerd accepts no more. Raise the limit (LimitNOFILE= of systemd, ulimit -n of \
                 a shell) and restart steerd, or lower `tcp_connections`",
            tcp.connections
        );
        tcp.connections = most_connections;
    }
    limits
}

impl Active {
    fn new(limits: Limits, previous: Option<&Arc<Self>>) -> Self {
        let Limits { tcp, rate } = limits;
        let kept = previous.filter(|previous| previous.rate == rate).map(|previous| previous.limiter.clone());
        let limiter = kept.unwrap_or_else(|| rate.clone().map(|rate| Arc::new(Limiter::new(rate))));
        Self { tcp, limiter, rate, taps: previous.and_then(|previous| previous.taps.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Networks;

    fn limits(responses_per_second: u32) -> Limits {
        let rate = RateLimit {
            responses_per_second,
            all_responses_per_second: None,
            slip: 2,
            networks_exempt: Networks::default(),
        };
        Limits { rate: Some(rate), ..Limits::default() }
    }

    #[test]
    fn only_a_changed_rate_limit_starts_its_accounts_anew() {
        let in_force = InForce::new(limits(5), usize::MAX);
        let first = in_force.load().limiter.clone().unwrap();
        let tcp = TcpLimits { connections: 7, ..TcpLimits::default() };
        in_force.change(Limits { tcp, ..limits(5) });
        let active = in_force.load();
        assert_eq!(active.tcp, tcp);
        assert!(Arc::ptr_eq(&first, active.limiter.as_ref().unwrap()));
        in_force.change(limits(6));
        assert!(!Arc::ptr_eq(&first, in_force.load().limiter.as_ref().unwrap()));
        in_force.change(Limits::default());
        assert!(in_force.load().limiter.is_none());
    }

    #[test]
    fn there_are_no_more_connections_than_descriptors_for_them() {
        let tcp = |connections| TcpLimits { connections, ..TcpLimits::default() };
        let in_force = InForce::new(Limits { tcp: tcp(100_000), rate: None }, 500);
        assert_eq!(in_force.load().tcp, tcp(500));
        for (wanted, kept) in [(499, 499), (500, 500), (501, 500)] {
            in_force.change(Limits { tcp: tcp(wanted), rate: None });
            assert_eq!(in_force.load().tcp, tcp(kept), "{wanted}");
        }
    }

    #[test]
    fn a_reader_sees_what_is_changed() {
        let in_force = InForce::new(Limits::default(), usize::MAX);
        let mut reader = in_force.reader();
        assert_eq!(reader.load().tcp, TcpLimits::default());
        let tcp = TcpLimits { connections: 7, idle: Duration::from_millis(100) };
        in_force.clone().change(Limits { tcp, ..Limits::default() });
        assert_eq!(reader.load().tcp, tcp);
    }
}
