//! Counts of the limits on clients: by family of the client, kind of reply and cause; and the network that was hit last.
//!
//! Labels never come from a query. A network is kept only for the log, where an example helps to find an attacker or a
//! victim.

use std::fmt;
use std::sync::Mutex;

use super::{Counted, FIRST_EVENT, FIRST_LIMIT, Metrics};
use crate::answer::{CookieProof, ResponseKind};
use crate::counters::CounterRow;
use crate::metrics::text::TextEncoder;
use crate::network::Network;
use crate::pool::Family;

/// The kinds of replies that response rate limiting counts together; `all` is the account of all kinds.
const REPLIES: [&str; 5] = ["answer", "nxdomain", "referral", "error", "all"];
const ACTIONS: [&str; 2] = ["drop", "slip"];
const COOKIES: [&str; 3] = ["absent", "invalid", "valid"];
const EVICTIONS: [(&str, &str); 5] = [
    ("connections", "network"),
    ("connections", "all"),
    ("connections", "descriptors"),
    ("unread_replies", "network"),
    ("unread_replies", "all"),
];
const FIRST_COOKIE: usize = 2 * REPLIES.len() * ACTIONS.len();
const FIRST_EVICTION: usize = FIRST_COOKIE + COOKIES.len();
/// The number of columns of these counts.
pub(super) const COLUMNS: usize = FIRST_EVICTION + EVICTIONS.len();

/// Why a TCP connection was closed to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicting {
    /// A network has its share of the connections.
    NetworkFull,
    /// All places for connections are taken.
    AllFull,
    /// No descriptor is free.
    NoDescriptor,
    /// A network has its share of the connections with unread replies.
    UnreadNetworkFull,
    /// All places for connections with unread replies are taken.
    UnreadAllFull,
}

/// A limited reply.
#[derive(Clone, Copy, Debug)]
pub struct LimitedReply<'a> {
    /// The client's network.
    pub network: Network,
    /// The kind of the reply.
    pub kind: ResponseKind<'a>,
    /// Whether the account of all kinds was empty, not that of equal replies.
    pub by_all: bool,
    /// Whether an empty truncated reply was sent; otherwise none was.
    pub slipped: bool,
}

impl LimitedReply<'_> {
    /// The column, from the first of this file.
    pub(super) fn column(&self) -> usize {
        let kind = match self.kind {
            _ if self.by_all => 4,
            ResponseKind::Answer(_) => 0,
            ResponseKind::NoName(_) => 1,
            ResponseKind::Referral(_) => 2,
            ResponseKind::Error(_) => 3,
        };
        let family = Family::of(self.network.first()).index();
        (family * REPLIES.len() + kind) * ACTIONS.len() + usize::from(self.slipped)
    }
}

/// The column of a cookie.
pub(super) fn cookie_column(proof: CookieProof) -> usize {
    FIRST_COOKIE
        + match proof {
            CookieProof::None => 0,
            CookieProof::Unproven => 1,
            CookieProof::Proven => 2,
        }
}

/// The column of an eviction.
pub(super) fn eviction_column(why: Evicting) -> usize {
    FIRST_EVICTION + why as usize
}

/// The limits that tell when they bite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// `rate_limit`.
    RateLimit,
    /// The share of a network in `tcp_connections`.
    TcpNetwork,
    /// `tcp_connections`, or the descriptors for them.
    TcpAll,
    /// The places for TCP connections with unread replies.
    UnreadReplies,
    /// The places of the admin server.
    Admin,
}

impl LimitKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::RateLimit, Self::TcpNetwork, Self::TcpAll, Self::UnreadReplies, Self::Admin];

    /// The name in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::TcpNetwork => "tcp_connections of a network",
            Self::TcpAll => "tcp_connections",
            Self::UnreadReplies => "unread replies over TCP",
            Self::Admin => "admin connections",
        }
    }

    /// The effect on clients.
    #[must_use]
    pub const fn effect(self) -> &'static str {
        match self {
            Self::RateLimit => "replies over UDP are dropped or sent empty with TC",
            Self::TcpNetwork => "the idlest TCP connections of a network are closed for its new ones",
            Self::TcpAll => "the idlest TCP connections of the largest networks are closed for new ones",
            Self::UnreadReplies => "TCP connections that do not read their replies are closed",
            Self::Admin => "idle connections to the admin server are closed for new ones",
        }
    }
}

/// A network that each limit has hit since the last look.
#[derive(Debug, Default)]
pub(super) struct LastNetworks([Mutex<Option<Network>>; LimitKind::ALL.len()]);

impl LastNetworks {
    /// Notes a network. If another thread is doing so, that one is as good an example.
    pub(super) fn note(&self, kind: LimitKind, network: Network) {
        if let Some(Ok(mut last)) = self.0.get(kind as usize).map(Mutex::try_lock) {
            *last = Some(network);
        }
    }

    fn take(&self, kind: LimitKind) -> Option<Network> {
        self.0.get(kind as usize)?.lock().ok()?.take()
    }
}

impl Metrics {
    /// Counts TCP connections that were closed to make room, and notes the network that has caused it, if one has.
    pub fn evicted(&self, why: Evicting, count: usize, network: Option<Network>) {
        if count == 0 {
            return;
        }
        self.happened(Counted::Evicted, count);
        self.traffic.add(CounterRow::Shared, FIRST_LIMIT + eviction_column(why), count as u64);
        let kind = match why {
            Evicting::NetworkFull => LimitKind::TcpNetwork,
            Evicting::AllFull | Evicting::NoDescriptor => LimitKind::TcpAll,
            Evicting::UnreadNetworkFull | Evicting::UnreadAllFull => LimitKind::UnreadReplies,
        };
        if let Some(network) = network {
            self.last_networks.note(kind, network);
        }
    }

    fn limits_sum(&self, column: usize) -> u64 {
        self.traffic.sum(FIRST_LIMIT + column)
    }

    /// How often a limit was hit since the start, and a network that it has hit since the last call, if one was to
    /// blame.
    #[must_use]
    pub fn hits(&self, kind: LimitKind) -> (u64, Option<Network>) {
        let own = |columns: std::ops::Range<usize>| columns.map(|column| self.limits_sum(column)).sum();
        let evicted = |why| self.limits_sum(eviction_column(why));
        let count = match kind {
            LimitKind::RateLimit => own(0..FIRST_COOKIE),
            LimitKind::TcpNetwork => evicted(Evicting::NetworkFull),
            LimitKind::TcpAll => evicted(Evicting::AllFull) + evicted(Evicting::NoDescriptor),
            LimitKind::UnreadReplies => {
                evicted(Evicting::UnreadNetworkFull) + evicted(Evicting::UnreadAllFull)
            }
            LimitKind::Admin => self.traffic.sum(FIRST_EVENT + Counted::AdminEvicted as usize),
        };
        (count, self.last_networks.take(kind))
    }

    pub(super) fn write_limits(&self, text: &mut TextEncoder<'_>) -> fmt::Result {
        let help = "Replies over UDP that response rate limiting dropped, or sent empty with TC (slip).";
        let mut limited = text.counter("rate_limited_total", help)?;
        let mut column = 0;
        for family in ["ipv4", "ipv6"] {
            for kind in REPLIES {
                for action in ACTIONS {
                    let labels = [("family", family), ("kind", kind), ("action", action)];
                    limited.series(&labels, self.limits_sum(column))?;
                    column += 1;
                }
            }
        }
        let help = "Queries that got a reply, by their DNS cookie.";
        let mut cookies = text.counter("cookies_total", help)?;
        for (column, result) in (FIRST_COOKIE..).zip(COOKIES) {
            cookies.series(&[("result", result)], self.limits_sum(column))?;
        }
        let help = "TCP connections closed to make room, by the places that were taken, and by whom.";
        let mut evictions = text.counter("tcp_evictions_total", help)?;
        for (column, (places, taken_by)) in (FIRST_EVICTION..).zip(EVICTIONS) {
            evictions.series(&[("places", places), ("cause", taken_by)], self.limits_sum(column))?;
        }
        Ok(())
    }
}
