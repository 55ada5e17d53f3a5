//! Who is connected over TCP, and who has to go when there is no room.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::listener;

/// A client prefix may hold this part of all connections.
const PREFIX_SHARE: usize = 10;
/// The most connections that one new one closes. Each is looked for among all, under the lock; so a
/// limit that has become much lower is reached by and by.
const MOST_EVICTED: usize = 16;

/// The open connections. The lock is taken when one opens and when one closes, never by a query.
#[derive(Debug)]
pub(super) struct Connections {
    since: Instant,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    entries: HashMap<u64, Arc<Entry>>,
}

/// What others may know of a connection, and do to it.
#[derive(Debug)]
struct Entry {
    prefix: IpAddr,
    /// When it last brought a whole query, in microseconds since the listeners began.
    active: AtomicU64,
    evicted: Notify,
}

/// A place among the connections; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    id: u64,
    entry: Arc<Entry>,
}

impl Connections {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { since: Instant::now(), open: Mutex::default() })
    }

    /// Gives a new connection a place, of `limit` at least 1. While all are taken, or those of the
    /// client's prefix, the idlest connection (of that prefix) is told to close; how many were is the
    /// second value: one, or up to [`MOST_EVICTED`] when the limit has become lower.
    pub(super) fn enter(self: &Arc<Self>, client: IpAddr, limit: usize) -> (Place, usize) {
        let prefix = listener::prefix_of(client);
        let entry = Arc::new(Entry { prefix, active: AtomicU64::new(self.now()), evicted: Notify::new() });
        let mut open = self.lock();
        let mut evicted = 0;
        while evicted < MOST_EVICTED
            && let Some(idlest) = open.in_the_way_of(prefix, limit.max(1))
        {
            // It leaves the count at once, so that one eviction makes one place.
            if let Some(entry) = open.entries.remove(&idlest) {
                entry.evicted.notify_one();
                evicted += 1;
            }
        }
        let id = open.next;
        open.next += 1;
        open.entries.insert(id, Arc::clone(&entry));
        drop(open);
        (Place { connections: Arc::clone(self), id, entry }, evicted)
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.lock().entries.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Open {
    /// The connection that must close before there is a place for another of `prefix`.
    fn in_the_way_of(&self, prefix: IpAddr, limit: usize) -> Option<u64> {
        let of_prefix = self.entries.values().filter(|entry| entry.prefix == prefix).count();
        let prefix_is_full = of_prefix >= (limit / PREFIX_SHARE).max(1);
        if !prefix_is_full && self.entries.len() < limit {
            return None;
        }
        self.entries
            .iter()
            .filter(|(_, entry)| !prefix_is_full || entry.prefix == prefix)
            .min_by_key(|(id, entry)| (entry.active.load(Ordering::Relaxed), **id))
            .map(|(id, _)| *id)
    }
}

impl Place {
    /// A whole query has come.
    pub(super) fn active(&self) {
        self.entry.active.store(self.connections.now(), Ordering::Relaxed);
    }

    /// Returns when the place is wanted for another connection.
    pub(super) async fn evicted(&self) {
        self.entry.evicted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().entries.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_evicted(place: &Place) -> bool {
        pin!(place.evicted()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_idlest_makes_room() {
        let connections = Connections::new();
        let client = |index: u8| address(&format!("10.0.{index}.1"));
        let places: Vec<Place> = (0..3).map(|index| connections.enter(client(index), 3).0).collect();
        places[0].active();
        while places[0].entry.active.load(Ordering::Relaxed) <= places[1].entry.active.load(Ordering::Relaxed)
        {
            places[0].active();
        }
        let (_fourth, evicted) = connections.enter(client(3), 3);
        assert_eq!(evicted, 1);
        let evicted: Vec<bool> = places.iter().map(is_evicted).collect();
        assert_eq!(evicted, [false, true, false]);
        assert_eq!(connections.count(), 3);
        drop(places);
        assert_eq!(connections.count(), 1);
    }

    #[test]
    fn a_prefix_takes_room_from_itself_only() {
        let connections = Connections::new();
        let (other, _) = connections.enter(address("192.0.2.1"), 40);
        let mut crowd: Vec<(Place, usize)> =
            (0..4).map(|host| connections.enter(address(&format!("2001:db8::{host}")), 40)).collect();
        assert!(crowd.iter().all(|(_, evicted)| *evicted == 0));
        crowd.push(connections.enter(address("2001:db8:0:ff::1"), 40));
        assert!(crowd[4].1 == 1 && is_evicted(&crowd[0].0) && !is_evicted(&other));
        let (_, evicted) = connections.enter(address("2001:db8:0:100::1"), 40);
        assert_eq!(evicted, 0, "another /56");
    }

    #[test]
    fn a_lower_limit_closes_the_idlest_beyond_it() {
        let connections = Connections::new();
        let client = |index: u8| address(&format!("10.0.{index}.1"));
        let places: Vec<Place> = (0..6).map(|index| connections.enter(client(index), 100).0).collect();
        let (_last, evicted) = connections.enter(client(6), 3);
        assert_eq!((evicted, connections.count()), (4, 3));
        assert_eq!(places.iter().map(is_evicted).collect::<Vec<_>>(), [true, true, true, true, false, false]);
    }
}
