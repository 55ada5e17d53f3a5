//! The order of places, with time as an argument, and the cost of evicting.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use super::*;

const SECOND: u64 = 1_000_000;

/// Places taken at times that the test chooses.
#[derive(Default)]
struct Fixture {
    taken: Taken,
    now: u64,
}

impl Fixture {
    /// Takes a place; also returns the number of evicted places.
    fn enter(&mut self, crowd: u32, room: Room) -> (Arc<FiledPlace>, usize) {
        self.now += 1;
        let (place, evicted) = self.taken.enter(self.now, address(crowd), room, &Eviction::default());
        (place, evicted.total())
    }

    fn is_active(&mut self, filed_place: &FiledPlace) {
        self.now += 1;
        filed_place.active.fetch_max(self.now, Ordering::Relaxed);
    }

    fn sizes(&self) -> Vec<usize> {
        let counted: usize = self.taken.crowds.values().map(BTreeMap::len).sum();
        assert_eq!((counted, self.taken.largest.len()), (self.taken.count, self.taken.crowds.len()));
        let sizes: Vec<usize> = self.taken.largest.iter().map(|(size, ..)| *size).collect();
        assert!(sizes.is_sorted());
        sizes
    }
}

fn address(crowd: u32) -> IpAddr {
    IpAddr::V4(crowd.into())
}

fn room(all: usize, crowd: usize) -> Room {
    Room { all, crowd }
}

fn is_evicted(filed_place: &FiledPlace) -> bool {
    pin!(filed_place.eviction.told()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn some_of_the_largest_crowd_make_room_when_descriptors_run_out() {
    let connections = Connections::new();
    let evictions: Vec<Eviction> = (0..EVICTED_AT_ONCE + 3).map(|_| Eviction::default()).collect();
    // The first is alone in its crowd, and the idlest.
    let enter =
        |(index, eviction)| connections.enter(address(u32::from(index > 0)), room(99, 99), eviction).0;
    let places: Vec<Place> = evictions.iter().enumerate().map(enter).collect();
    assert_eq!(connections.evict_some(), EVICTED_AT_ONCE);
    let told =
        |eviction: &Eviction| pin!(eviction.told()).poll(&mut Context::from_waker(Waker::noop())).is_ready();
    let evicted: Vec<usize> =
        (0..).zip(&evictions).filter(|(_, eviction)| told(eviction)).map(|(at, _)| at).collect();
    assert_eq!(evicted, (1..=EVICTED_AT_ONCE).collect::<Vec<_>>());
    assert_eq!(connections.count(), 3);
    drop(places);
    assert_eq!(connections.evict_some(), 0, "there is none");
}

#[test]
fn the_idlest_makes_room_and_a_place_that_is_left_is_free() {
    let connections = Connections::new();
    let evictions = [(); 4].map(|()| Eviction::default());
    let mut places: Vec<Place> =
        (0..3).map(|crowd| connections.enter(address(crowd), room(3, 3), &evictions[0]).0).collect();
    assert_eq!(connections.count(), 3);
    drop(places.remove(1));
    let (_third, evicted) = connections.enter(address(1), room(3, 3), &evictions[1]);
    assert_eq!((connections.count(), evicted.total()), (3, 0));
    let (_fourth, evicted) = connections.enter(address(4), room(3, 3), &evictions[2]);
    assert_eq!((connections.count(), evicted), (3, Evicted { of_crowd: 0, of_all: 1 }));
    // An evicted place is not freed a second time.
    drop(places);
    assert_eq!(connections.count(), 2);
}

#[test]
fn activity_decides_who_is_idlest() {
    let mut fixture = Fixture::default();
    let places: Vec<_> = (0..4).map(|_| fixture.enter(7, room(4, 4)).0).collect();
    fixture.now += 2 * SECOND;
    for index in [0, 1, 3] {
        fixture.is_active(&places[index]);
    }
    for expected in [2, 0, 1, 3] {
        assert_eq!(fixture.enter(7, room(4, 4)).1, 1);
        let gone: Vec<bool> = places.iter().map(|place| is_evicted(place)).collect();
        assert!(gone[expected] && gone.iter().filter(|gone| **gone).count() == 1, "{expected}: {gone:?}");
    }
}

#[test]
fn a_crowd_takes_room_from_itself_only() {
    let mut fixture = Fixture::default();
    let other = fixture.enter(1, room(40, 4)).0;
    let crowd: Vec<_> = (0..4).map(|_| fixture.enter(2, room(40, 4))).collect();
    assert!(crowd.iter().all(|(_, evicted)| *evicted == 0));
    assert_eq!(fixture.enter(2, room(40, 4)).1, 1);
    assert!(is_evicted(&crowd[0].0) && !is_evicted(&other));
    assert_eq!(fixture.sizes(), [1, 4]);
}

#[test]
fn the_largest_crowd_makes_room_for_all_others() {
    let mut fixture = Fixture::default();
    // The oldest and idlest place is the only one of its crowd.
    let lonely = fixture.enter(1, room(10, 9)).0;
    for _ in 0..9 {
        fixture.enter(2, room(10, 9));
    }
    for crowd in 3..7 {
        assert_eq!(fixture.enter(crowd, room(10, 9)).1, 1);
        assert!(!is_evicted(&lonely));
    }
    assert_eq!(fixture.sizes(), [1, 1, 1, 1, 1, 5]);
    // Among crowds of equal size, the idlest place of all is evicted.
    for crowd in 7..12 {
        assert_eq!(fixture.enter(crowd, room(10, 9)).1, 1);
    }
    assert!(is_evicted(&lonely));
}

#[test]
fn a_place_younger_than_a_round_trip_stays_while_an_older_one_is_there() {
    let mut fixture = Fixture::default();
    let old: Vec<_> = (0..5).map(|crowd| fixture.enter(crowd, room(10, 9)).0).collect();
    fixture.now += 2 * SECOND;
    let young: Vec<_> = (5..10).map(|crowd| fixture.enter(crowd, room(10, 9)).0).collect();
    fixture.now += SECOND / 2;
    // The old places stay active; the first bytes of the young ones are still on the way.
    for round in 0..5 {
        for place in &old {
            fixture.is_active(place);
        }
        assert_eq!(fixture.enter(10 + round, room(10, 9)).1, 1);
    }
    assert!(old.iter().all(|place| is_evicted(place)) && !young.iter().any(|place| is_evicted(place)));
    // Activity during the grace period of a new place does not shorten it.
    fixture.is_active(&young[0]);
    assert_eq!(young[0].active.load(Ordering::Relaxed), young[0].key().0);
}

/// 40 networks open 10,000 connections in a second. Honest clients, one per network, send their
/// query 300 ms after they have connected.
#[test]
fn a_flood_from_some_networks_leaves_distant_clients_of_others_alone() {
    let mut fixture = Fixture::default();
    let (mut honest, mut served) = (Vec::new(), 0);
    for index in 0..30_000_u32 {
        fixture.now += 100;
        fixture.enter(index % 40, Room::of_many(1000));
        if index % 50 == 0 {
            honest.push((fixture.now, fixture.enter(1000 + index, Room::of_many(1000)).0));
        }
        while honest.first().is_some_and(|(begun, _)| begun + 300_000 <= fixture.now) {
            let (_, place) = honest.remove(0);
            assert!(!is_evicted(&place), "evicted before its query could arrive");
            fixture.taken.remove(&place);
            served += 1;
        }
    }
    assert!(served > 500, "{served}");
}

#[test]
fn smaller_room_closes_the_idlest_beyond_it_by_and_by() {
    let mut fixture = Fixture::default();
    let places: Vec<_> = (0..40).map(|crowd| fixture.enter(crowd, room(100, 10)).0).collect();
    assert_eq!(fixture.enter(50, room(3, 1)).1, MOST_EVICTED);
    assert_eq!(fixture.enter(51, room(3, 1)).1, MOST_EVICTED);
    assert_eq!(fixture.enter(52, room(3, 1)).1, 40 + 2 - 2 * MOST_EVICTED - 2);
    assert!(places.iter().all(|place| is_evicted(place)));
    assert_eq!(fixture.sizes(), [1, 1, 1]);
}

#[test]
fn room_of_many_is_never_none() {
    for (all, expected) in [(0, (1, 1)), (1, (1, 1)), (9, (9, 1)), (1000, (1000, 100))] {
        let room = Room::of_many(all);
        assert_eq!((room.all, room.crowd), expected);
    }
}

/// The mean cost of taking a place while `count` are taken in crowds of size `crowd`, if every
/// place to evict has been active since it was filed.
fn cost(count: u32, crowd: u32) -> Duration {
    // Few rounds, so that each of them has the maximum number of places to file again.
    const ROUNDS: u32 = 200;
    let mut fixture = Fixture::default();
    let room = Room { all: count as usize, crowd: count as usize };
    let places: Vec<_> = (0..count).map(|index| fixture.enter(index / crowd, room).0).collect();
    fixture.now += 2 * SECOND;
    for place in &places {
        fixture.is_active(place);
    }
    let begun = Instant::now();
    for index in 0..ROUNDS {
        assert_eq!(fixture.enter(count + index / crowd, room).1, 1);
    }
    begun.elapsed() / ROUNDS
}

/// A search through all places would take a hundred times as long.
#[test]
fn evicting_costs_the_same_with_a_hundred_times_as_many() {
    for crowd in [1, 10, 1000] {
        let (few, many) = (cost(1000, crowd), cost(100_000, crowd));
        println!("crowds of {crowd}: {few:?} with 1,000 places, {many:?} with 100,000");
        assert!(many < few * 12 + Duration::from_micros(100), "{few:?} and {many:?}");
    }
}
