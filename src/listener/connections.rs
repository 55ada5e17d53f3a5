//! Limits how many places clients hold, and chooses which to evict when there is no room. A place
//! may be a TCP connection, unsent replies or an admin request.
//!
//! ```text
//! crowds of clients, the largest last; of crowds of equal size, the one with the idlest place last
//!   192.0.2.0/24      [idlest ........ latest]
//!   198.51.100.0/24   [idlest .................... latest]
//!                      ^ evicted first when all places are taken
//! ```
//!
//! Recording activity only stores a number and takes no lock, so a place may be filed under an older time
//! than its last activity. If a place that is about to be evicted has been active since, it is filed again
//! instead. So every step costs the same with ten places and with 100,000.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A new place counts as active for this long, the longest expected round trip: its client's first bytes
/// may still be on the way. So all older places of its crowd are evicted before it.
const ROUND_TRIP: Duration = Duration::from_secs(1);
/// Maximum number of places that one new place evicts. So a lowered limit takes effect gradually.
const MOST_EVICTED: usize = 16;
/// Maximum number of places that are filed again in a search for the idlest. If all of them have been
/// active, the idlest of them is evicted.
const MOST_FILED_ANEW: usize = 4;

/// How many connections are evicted when one cannot be accepted because no descriptor is free. Then the
/// kernel's queue of new connections is full too.
pub(crate) const EVICTED_AT_ONCE: usize = 16;

/// How many places may be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// For all clients together, at least 1.
    pub(crate) all: usize,
    /// For one crowd, at least 1.
    pub(crate) crowd: usize,
}

/// The occupied places. The lock is held briefly when a place is taken or freed, never for a query.
#[derive(Debug)]
pub(crate) struct Connections {
    since: Instant,
    taken: Mutex<Taken>,
}

/// Notifies a connection that its place is evicted. A connection has one, even if it takes several places.
#[derive(Clone, Debug, Default)]
pub(crate) struct Eviction(Arc<Notify>);

/// How many places were evicted for a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evicted {
    /// Because its crowd had its share.
    pub(crate) of_crowd: usize,
    /// Because all places were taken.
    pub(crate) of_all: usize,
}

impl Evicted {
    pub(crate) fn total(self) -> usize {
        self.of_crowd + self.of_all
    }
}

/// A place; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    filed_place: Arc<FiledPlace>,
}

/// The time under which a place is filed, in microseconds since `Connections::since`, and its number.
type FilingKey = (u64, u64);

#[derive(Debug)]
struct FiledPlace {
    crowd: IpAddr,
    id: u64,
    /// When its holder was last active, or when the grace period of a new place ends; microseconds.
    active: AtomicU64,
    /// The time in the key under which it is filed. Changed only under the lock.
    filed: AtomicU64,
    eviction: Eviction,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    count: usize,
    crowds: HashMap<IpAddr, BTreeMap<FilingKey, Arc<FiledPlace>>>,
    /// The last one is the crowd to evict from.
    largest: BTreeSet<(usize, Reverse<FilingKey>, IpAddr)>,
}

impl Room {
    /// Room of which one crowd may take a tenth.
    pub(crate) fn of_many(all: usize) -> Self {
        Self { all: all.max(1), crowd: (all / 10).max(1) }
    }
}

impl Eviction {
    /// Returns when the place is evicted.
    pub(crate) async fn told(&self) {
        self.0.notified().await;
    }
}

impl Connections {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { since: Instant::now(), taken: Mutex::default() })
    }

    /// Takes a place for a client of this crowd. If there is no room, evicts the idlest place: of this
    /// crowd if it is full, otherwise of the largest crowd. Also returns the numbers of evicted places: at
    /// most one in total, or up to [`MOST_EVICTED`] if the room has shrunk.
    pub(crate) fn enter(
        self: &Arc<Self>,
        crowd: IpAddr,
        room: Room,
        eviction: &Eviction,
    ) -> (Place, Evicted) {
        let (filed_place, evicted) = self.lock().enter(self.now(), crowd, room, eviction);
        (Place { connections: Arc::clone(self), filed_place }, evicted)
    }

    /// Evicts the idlest places of the largest crowds, at most [`EVICTED_AT_ONCE`], because no descriptor
    /// is free. Returns their number.
    pub(crate) fn evict_some(&self) -> usize {
        let mut taken = self.lock();
        let evict = |_| taken.idlest(None).inspect(|filed_place| taken.evict(filed_place));
        (0..EVICTED_AT_ONCE).map_while(evict).count()
    }

    /// Returns the number of places taken.
    pub(crate) fn count(&self) -> usize {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        microseconds(self.since.elapsed())
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Taken {
    fn enter(
        &mut self,
        now: u64,
        crowd: IpAddr,
        room: Room,
        eviction: &Eviction,
    ) -> (Arc<FiledPlace>, Evicted) {
        let mut evicted = Evicted::default();
        while evicted.total() < MOST_EVICTED
            && let Some((filed_place, crowd_is_full)) = self.in_the_way_of(crowd, room)
        {
            self.evict(&filed_place);
            *if crowd_is_full { &mut evicted.of_crowd } else { &mut evicted.of_all } += 1;
        }
        let active = now.saturating_add(microseconds(ROUND_TRIP));
        let filed_place = Arc::new(FiledPlace {
            crowd,
            id: self.next,
            active: AtomicU64::new(active),
            filed: AtomicU64::new(active),
            eviction: eviction.clone(),
        });
        self.next += 1;
        self.insert(Arc::clone(&filed_place));
        (filed_place, evicted)
    }

    /// The place to evict so that another one of `crowd` fits, and whether that is because the crowd is full.
    fn in_the_way_of(&mut self, crowd: IpAddr, room: Room) -> Option<(Arc<FiledPlace>, bool)> {
        let of_crowd = self.crowds.get(&crowd).map_or(0, BTreeMap::len);
        let crowd_is_full = of_crowd >= room.crowd;
        if !crowd_is_full && self.count < room.all {
            return None;
        }
        self.idlest(crowd_is_full.then_some(crowd)).map(|filed_place| (filed_place, crowd_is_full))
    }

    /// The idlest place of this crowd, or of the largest crowd.
    fn idlest(&mut self, crowd: Option<IpAddr>) -> Option<Arc<FiledPlace>> {
        let mut idlest: Option<(FilingKey, Arc<FiledPlace>)> = None;
        for _ in 0..MOST_FILED_ANEW {
            let crowd = crowd.or_else(|| Some(self.largest.last()?.2))?;
            let filed_place = Arc::clone(self.crowds.get(&crowd)?.first_key_value()?.1);
            let active = filed_place.active.load(Ordering::Relaxed);
            let was_active = active > filed_place.filed.load(Ordering::Relaxed);
            if was_active {
                self.remove(&filed_place);
                filed_place.filed.store(active, Ordering::Relaxed);
                self.insert(Arc::clone(&filed_place));
            }
            let key = filed_place.key();
            if idlest.as_ref().is_none_or(|(idlest, _)| key < *idlest) {
                idlest = Some((key, filed_place));
            }
            if !was_active {
                break;
            }
        }
        idlest.map(|(_, filed_place)| filed_place)
    }

    /// Evicts a place. It no longer counts from then on, so one eviction makes room for one place.
    fn evict(&mut self, filed_place: &FiledPlace) {
        self.remove(filed_place);
        filed_place.eviction.0.notify_one();
    }

    fn insert(&mut self, filed_place: Arc<FiledPlace>) {
        let crowd = filed_place.crowd;
        self.change(crowd, |places| places.insert(filed_place.key(), filed_place).is_none());
    }

    /// Removes a place from the order, if it is still there.
    fn remove(&mut self, filed_place: &FiledPlace) {
        self.change(filed_place.crowd, |places| places.remove(&filed_place.key()).is_some());
    }

    /// Applies a change to the places of a crowd and updates the order of crowds. `change` returns
    /// whether it changed anything.
    fn change(
        &mut self,
        crowd: IpAddr,
        change: impl FnOnce(&mut BTreeMap<FilingKey, Arc<FiledPlace>>) -> bool,
    ) {
        let places = self.crowds.entry(crowd).or_default();
        let (before, rank) = (places.len(), rank(places, crowd));
        if change(places) {
            if let Some(rank) = rank {
                self.largest.remove(&rank);
            }
            self.count = (self.count + places.len()).saturating_sub(before);
            self.largest.extend(self::rank(places, crowd));
        }
        if places.is_empty() {
            self.crowds.remove(&crowd);
        }
    }
}

/// The position of a crowd in the order.
fn rank(
    places: &BTreeMap<FilingKey, Arc<FiledPlace>>,
    crowd: IpAddr,
) -> Option<(usize, Reverse<FilingKey>, IpAddr)> {
    places.first_key_value().map(|(idlest, _)| (places.len(), Reverse(*idlest), crowd))
}

impl FiledPlace {
    fn key(&self) -> FilingKey {
        (self.filed.load(Ordering::Relaxed), self.id)
    }
}

impl Place {
    /// Records activity of the holder.
    pub(crate) fn active(&self) {
        self.filed_place.active.fetch_max(self.connections.now(), Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.filed_place);
    }
}

#[cfg(test)]
mod tests;
