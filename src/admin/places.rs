//! The places for connections of the admin server, and the choice of the connection to evict.
//!
//! ```text
//!               +-- a head for a public request ----> OPEN -----+
//! accepted --> HEADS -- any other head -----------> REQUESTS ---+-- answered --> HEADS
//!               +-- a head with the token --------> KNOWN, until the connection ends
//! ```
//!
//! Each kind has its own places, and a new connection evicts the idlest one of its kind. So clients
//! that never complete a head, or do not read their replies, do not keep others out.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::admin::gate::ClientStanding;
use crate::listener::connections::{Connections, Eviction, Place, Room};
use crate::metrics::{Counted, Metrics};

/// Connections without a complete request head; one address may hold half.
const HEADS: Room = Room { all: 256, crowd: 128 };
/// Connections with a public request; one address may hold half.
const OPEN: Room = Room { all: 64, crowd: 32 };
/// Connections with any other request, without the token; one address may hold half.
const REQUESTS: Room = Room { all: 192, crowd: 96 };
/// Connections that have sent the token.
const KNOWN: Room = Room { all: 128, crowd: 128 };
/// Maximum number of connections with a place.
pub(super) const ALL: usize = HEADS.all + OPEN.all + REQUESTS.all + KNOWN.all;
/// With this many connections without a complete head, new ones get less time to complete it.
const MANY_HEADS: usize = 32;

/// The places of all connections.
#[derive(Debug)]
pub(super) struct Places {
    heads: Arc<Connections>,
    open: Arc<Connections>,
    requests: Arc<Connections>,
    known: Arc<Connections>,
    metrics: Arc<Metrics>,
}

/// A connection. It moves between kinds of places.
#[derive(Debug)]
pub(super) struct Guest {
    places: Arc<Places>,
    address: IpAddr,
    pub(super) eviction: Eviction,
    stay: Mutex<Stay>,
}

#[derive(Debug, Default)]
struct Stay {
    place: Option<Place>,
    /// Whether the connection is ending and takes no further place.
    is_over: bool,
}

/// A request in progress; when it is dropped, its connection returns to [`HEADS`].
#[derive(Debug)]
pub(super) struct Asking(Arc<Guest>);

impl Places {
    pub(super) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        let new = Connections::new;
        Arc::new(Self { heads: new(), open: new(), requests: new(), known: new(), metrics })
    }

    pub(super) fn has_many_heads(&self) -> bool {
        self.heads.count() >= MANY_HEADS
    }

    /// Evicts the idlest connections when no descriptor is free, starting with those without a
    /// complete head.
    pub(super) fn evict_idlest(&self) {
        let mut kinds = [&self.heads, &self.requests, &self.open].into_iter();
        let evicted = kinds.find_map(|kind| Some(kind.evict_some()).filter(|evicted| *evicted > 0));
        self.metrics.happened(Counted::AdminEvicted, evicted.unwrap_or(0));
    }

    /// The places for a standing; `None` means that the head is not complete.
    fn of(&self, standing: Option<ClientStanding>) -> (&Arc<Connections>, Room) {
        match standing {
            None => (&self.heads, HEADS),
            Some(ClientStanding::Open) => (&self.open, OPEN),
            Some(ClientStanding::Other) => (&self.requests, REQUESTS),
            Some(ClientStanding::Known) => (&self.known, KNOWN),
        }
    }
}

impl Guest {
    /// Takes a place for an accepted connection, according to its standing so far.
    pub(super) fn arrive(
        places: &Arc<Places>,
        address: IpAddr,
        standing: Option<ClientStanding>,
    ) -> Arc<Self> {
        let guest = Self {
            places: Arc::clone(places),
            address: crowd_of(address),
            eviction: Eviction::default(),
            stay: Mutex::default(),
        };
        guest.go_to(standing);
        Arc::new(guest)
    }

    /// Gives up the current place and takes one for this standing.
    fn go_to(&self, standing: Option<ClientStanding>) {
        let mut stay = self.stay();
        if stay.is_over {
            return;
        }
        // Free the old place first: with two at once the connection could evict another one for no
        // reason.
        stay.place = None;
        let (kind, room) = self.places.of(standing);
        let (place, evicted) = kind.enter(self.address, room, &self.eviction);
        self.places.metrics.happened(Counted::AdminEvicted, evicted.total());
        stay.place = Some(place);
    }

    /// Moves to the place for a complete head.
    pub(super) fn ask(self: &Arc<Self>, standing: ClientStanding) -> Option<Asking> {
        self.go_to(Some(standing));
        (standing != ClientStanding::Known).then(|| Asking(Arc::clone(self)))
    }

    /// Ends the connection and frees its place. Requests that are dropped later do not take a place again.
    pub(super) fn leave(&self) {
        *self.stay() = Stay { place: None, is_over: true };
    }

    fn stay(&self) -> MutexGuard<'_, Stay> {
        self.stay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.go_to(None);
    }
}

/// The IPv4 address, or the /64 of the IPv6 address: one machine may have all addresses of a /64.
fn crowd_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << 64)).into()),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::connections::EVICTED_AT_ONCE;

    #[test]
    fn a_crowd_is_a_machine() {
        let crowd = |text: &str| crowd_of(text.parse().unwrap());
        assert_ne!(crowd("192.0.2.1"), crowd("192.0.2.2"));
        assert_eq!(crowd("::ffff:192.0.2.1"), crowd("192.0.2.1"));
        assert_eq!(crowd("2001:db8::1"), crowd("2001:db8::ffff:1"));
        assert_ne!(crowd("2001:db8::1"), crowd("2001:db8:0:1::1"));
    }

    #[test]
    fn each_kind_makes_room_from_itself() {
        let places = Places::new(Arc::new(Metrics::new(1)));
        let counts =
            || [&places.heads, &places.open, &places.requests, &places.known].map(|kind| kind.count());
        let arrive = || Guest::arrive(&places, "192.0.2.1".parse().unwrap(), None);
        let ask = |guest: Arc<Guest>| (guest.ask(ClientStanding::Other), guest);
        let known = arrive();
        assert!(known.ask(ClientStanding::Known).is_none());
        let probe = arrive();
        let liveness = probe.ask(ClientStanding::Open);
        let (requests, guests): (Vec<_>, Vec<_>) = (0..2 * REQUESTS.crowd).map(|_| ask(arrive())).unzip();
        let silent: Vec<_> = (0..2 * HEADS.crowd).map(|_| arrive()).collect();
        assert_eq!(counts(), [HEADS.crowd, 1, REQUESTS.crowd, 1], "the liveness probe keeps its place");
        drop(silent);
        drop(requests);
        assert_eq!(counts(), [HEADS.crowd, 1, 0, 1], "clients that are answered may ask again");
        drop(guests);
        assert_eq!(counts(), [0, 1, 0, 1]);
        drop(liveness);
        assert_eq!(counts(), [1, 0, 0, 1], "the liveness probe may ask again");
        drop((probe, known));
        assert_eq!(counts(), [0; 4]);
    }

    #[test]
    fn without_descriptors_those_go_who_have_shown_least() {
        let places = Places::new(Arc::new(Metrics::new(1)));
        let arrive = |standing| Guest::arrive(&places, "192.0.2.1".parse().unwrap(), standing);
        let counts =
            || [&places.heads, &places.open, &places.requests, &places.known].map(|kind| kind.count());
        let _silent: Vec<_> = (0..=EVICTED_AT_ONCE).map(|_| arrive(None)).collect();
        let _others = [ClientStanding::Open, ClientStanding::Other, ClientStanding::Known]
            .map(|standing| arrive(Some(standing)));
        for left in [[1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1]] {
            places.evict_idlest();
            assert_eq!(counts(), left);
        }
    }

    #[test]
    fn a_request_that_breaks_off_evicts_nobody() {
        let places = Places::new(Arc::new(Metrics::new(1)));
        let address = "192.0.2.1".parse().unwrap();
        let broken = Guest::arrive(&places, address, Some(ClientStanding::Other));
        let request = broken.ask(ClientStanding::Other);
        broken.leave();
        assert_eq!(places.requests.count(), 0);
        drop(request);
        assert_eq!(places.heads.count(), 0);
    }
}
