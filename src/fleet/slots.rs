//! Decides which due probes may start now: limits the probes in flight.
//!
//! A probe waits here for a slot; its time limit begins later, when it starts. Three limits apply at once: on
//! all probes, on probes to one host, and on probes that are processes. A probe that waits because of one limit
//! delays no other probe: a host that drops every packet fills only its own slots.
//!
//! ```text
//!  ask --> queue of its host and class --> next --> in flight --> release
//!                    |
//!                    +-- a host that may start one is in the ring of the class; next takes one
//!                        probe of the first host there, and the host goes to the end
//! ```
//!
//! Hosts take turns, and probes with the same host and class start in the order of their requests. Every step
//! takes amortized constant time, and a host uses memory only while one of its probes waits or is in flight.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::fleet::MAX_IN_FLIGHT;

/// The most probes in flight to one host. Backends that share an address are probed in parallel, but not so many
/// that probes become a load.
pub(super) const MOST_PER_HOST: u16 = 32;

/// The most processes in flight: a program takes memory and processor time that a connection does not.
pub(super) const MOST_PROCESSES: usize = 64;

/// The descriptors that a process needs in addition to the one that every probe has: its output, its supervisor
/// while it starts, and the notification of its end.
const DESCRIPTORS_OF_PROCESS: usize = 3;

/// The most descriptors that probes can use.
pub const MOST_DESCRIPTORS: usize = MAX_IN_FLIGHT + MOST_PROCESSES * DESCRIPTORS_OF_PROCESS;

/// How many probes may be in flight with this many descriptors, at most [`MAX_IN_FLIGHT`].
#[must_use]
pub fn probes_within(descriptors: usize) -> usize {
    let for_processes = (MOST_PROCESSES * DESCRIPTORS_OF_PROCESS).min(descriptors / 2);
    (descriptors - for_processes).clamp(1, MAX_IN_FLIGHT)
}

/// The kind of resource that a probe needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// A connection.
    Connection,
    /// A process.
    Process,
}

impl Class {
    const ALL: [Self; 2] = [Self::Connection, Self::Process];

    fn other(self) -> Self {
        match self {
            Self::Connection => Self::Process,
            Self::Process => Self::Connection,
        }
    }
}

/// One value per class.
#[derive(Debug, Default)]
struct ByClass<T> {
    connection: T,
    process: T,
}

impl<T> ByClass<T> {
    fn of(&mut self, class: Class) -> &mut T {
        match class {
            Class::Connection => &mut self.connection,
            Class::Process => &mut self.process,
        }
    }
}

/// The slots, and the probes that wait for one; `T` identifies a probe.
#[derive(Debug)]
pub(super) struct Slots<T> {
    /// The most probes in flight.
    most: usize,
    in_flight: usize,
    processes: usize,
    waiting: usize,
    hosts: HashMap<IpAddr, Host<T>>,
    rings: Rings,
    /// The class whose turn it is if both have a probe to start.
    turn: Class,
}

/// Hosts that have a waiting probe of the class. A host at its limit leaves the ring when its turn comes, and
/// returns when a slot is free.
type Rings = ByClass<VecDeque<IpAddr>>;

#[derive(Debug)]
struct Host<T> {
    in_flight: u16,
    queues: ByClass<HostQueue<T>>,
}

#[derive(Debug)]
struct HostQueue<T> {
    /// In the order of their requests.
    waiting: VecDeque<T>,
    /// Whether the host is in the ring of the class. It can be only while a probe waits.
    in_ring: bool,
}

impl<T> Default for Host<T> {
    fn default() -> Self {
        Self {
            in_flight: 0,
            queues: ByClass { connection: HostQueue::default(), process: HostQueue::default() },
        }
    }
}

impl<T> Default for HostQueue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), in_ring: false }
    }
}

impl<T> Host<T> {
    fn is_full(&self) -> bool {
        self.in_flight >= MOST_PER_HOST
    }

    fn is_idle(&self) -> bool {
        let ByClass { connection, process } = &self.queues;
        self.in_flight == 0 && connection.waiting.is_empty() && process.waiting.is_empty()
    }

    /// Adds the host to the end of the ring, unless it is in the ring or cannot start a probe.
    fn line_up(&mut self, host: IpAddr, class: Class, rings: &mut Rings) {
        let full = self.is_full();
        let queue = self.queues.of(class);
        if !full && !queue.in_ring && !queue.waiting.is_empty() {
            queue.in_ring = true;
            rings.of(class).push_back(host);
        }
    }
}

/// A probe that may start. It holds a slot until [`Slots::release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start<T> {
    /// The probe that requested the slot.
    pub(super) probe: T,
    /// To return with the slot.
    pub(super) host: IpAddr,
    /// To return with the slot.
    pub(super) class: Class,
}

impl<T> Slots<T> {
    /// Slots for `most` probes in flight, at least 1.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            in_flight: 0,
            processes: 0,
            waiting: 0,
            hosts: HashMap::new(),
            rings: Rings::default(),
            turn: Class::Connection,
        }
    }

    /// How many slots are in use.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether every slot is in use. Then due probes stay in the queue.
    pub(super) fn are_full(&self) -> bool {
        self.in_flight >= self.most
    }

    /// How many probes wait for a slot, including stale ones.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Requests a slot for a probe of `host`. [`Slots::next`] grants it, and must be called afterwards.
    pub(super) fn ask(&mut self, probe: T, host: IpAddr, class: Class) {
        self.waiting += 1;
        let known = self.hosts.entry(host).or_default();
        known.queues.of(class).waiting.push_back(probe);
        known.line_up(host, class, &mut self.rings);
    }

    /// The next probe that may start. Call it until it returns none: after requests, and after slots are
    /// released.
    ///
    /// Drops probes that are no longer current.
    pub(super) fn next(&mut self, is_current: impl Fn(&T) -> bool) -> Option<Start<T>> {
        while !self.are_full() {
            let (host, class) = self.first_in_turn()?;
            let Entry::Occupied(mut entry) = self.hosts.entry(host) else { continue };
            let known = entry.get_mut();
            known.queues.of(class).in_ring = false;
            if known.is_full() {
                continue;
            }
            let Some(probe) = known.queues.of(class).waiting.pop_front() else { continue };
            self.waiting -= 1;
            let current = is_current(&probe);
            if current {
                known.in_flight += 1;
            }
            known.line_up(host, class, &mut self.rings);
            if known.is_idle() {
                entry.remove();
            }
            if current {
                self.in_flight += 1;
                self.processes += usize::from(class == Class::Process);
                self.turn = class.other();
                return Some(Start { probe, host, class });
            }
        }
        None
    }

    /// Releases the slot of a probe that has ended.
    pub(super) fn release(&mut self, host: IpAddr, class: Class) {
        let Entry::Occupied(mut entry) = self.hosts.entry(host) else { return };
        let known = entry.get_mut();
        known.in_flight = known.in_flight.saturating_sub(1);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.processes = self.processes.saturating_sub(usize::from(class == Class::Process));
        for class in Class::ALL {
            known.line_up(host, class, &mut self.rings);
        }
        if known.is_idle() {
            entry.remove();
        }
    }

    /// Takes the next host of the class whose turn it is, or of the other class if it has none.
    fn first_in_turn(&mut self) -> Option<(IpAddr, Class)> {
        [self.turn, self.turn.other()].into_iter().find_map(|class| {
            if class == Class::Process && self.processes >= MOST_PROCESSES {
                return None;
            }
            self.rings.of(class).pop_front().map(|host| (host, class))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::Class::{Connection, Process};
    use super::*;

    fn host(index: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + index).into()
    }

    fn all_that_start<T>(slots: &mut Slots<T>) -> Vec<T> {
        std::iter::from_fn(|| slots.next(|_| true)).map(|start| start.probe).collect()
    }

    /// A slow model of the same rules.
    #[derive(Default)]
    struct Model {
        /// In the order of their requests: number, host, class, and whether it is still current.
        waiting: Vec<(u32, IpAddr, Class, bool)>,
        in_flight: Vec<(u32, IpAddr, Class)>,
    }

    impl Model {
        fn may_start(&self, most: usize, host: IpAddr, class: Class) -> bool {
            let count = |wanted: &dyn Fn(IpAddr, Class) -> bool| {
                self.in_flight.iter().filter(|(_, host, class)| wanted(*host, *class)).count()
            };
            count(&|_, _| true) < most
                && count(&|other, _| other == host) < MOST_PER_HOST.into()
                && (class == Connection || count(&|_, class| class == Process) < MOST_PROCESSES)
        }

        /// Handles a start, and fails if it violates a limit or the order.
        fn start(&mut self, most: usize, start: Start<u32>, context: &str) {
            let Start { probe, host, class } = start;
            assert!(self.may_start(most, host, class), "{context}: a cap is exceeded by {start:?}");
            let of_queue = |(_, other, kind, current): &(u32, IpAddr, Class, bool)| {
                *other == host && *kind == class && *current
            };
            let first = self.waiting.iter().position(of_queue).unwrap();
            assert_eq!(self.waiting[first].0, probe, "{context}: out of order");
            self.waiting.remove(first);
            self.in_flight.push((probe, host, class));
        }
    }

    #[test]
    fn caps_hold_and_nobody_waits_who_may_start() {
        for seed in 0..200 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let most = rng.random_range(1..300);
            let hosts = [1, 3, 10, 200][rng.random_range(0..4)];
            let mut slots = Slots::new(most);
            let mut model = Model::default();
            let mut number = 0;
            for step in 0..200 {
                let context = format!("seed {seed}, step {step}");
                for _ in 0..rng.random_range(0..20) {
                    // The first host gets more requests than all others together.
                    let host = host(if rng.random() { 0 } else { rng.random_range(0..hosts) });
                    let class = if rng.random_ratio(1, 3) { Process } else { Connection };
                    slots.ask(number, host, class);
                    model.waiting.push((number, host, class, true));
                    number += 1;
                }
                for waiting in &mut model.waiting {
                    waiting.3 &= !rng.random_ratio(1, 50);
                }
                for _ in 0..rng.random_range(0..20).min(model.in_flight.len()) {
                    let at = rng.random_range(0..model.in_flight.len());
                    let (_, host, class) = model.in_flight.swap_remove(at);
                    slots.release(host, class);
                }
                let current: Vec<u32> = model
                    .waiting
                    .iter()
                    .filter(|(.., current)| *current)
                    .map(|(number, ..)| *number)
                    .collect();
                while let Some(start) = slots.next(|number| current.binary_search(number).is_ok()) {
                    model.start(most, start, &context);
                }
                for (number, host, class, current) in &model.waiting {
                    assert!(
                        !current || !model.may_start(most, *host, *class),
                        "{context}: {number} waits in vain for {host} {class:?}"
                    );
                }
                assert_eq!(slots.in_flight(), model.in_flight.len(), "{context}");
                assert_eq!(slots.are_full(), model.in_flight.len() == most, "{context}");
                let left = model.waiting.iter().filter(|(.., current)| *current).count();
                assert!(slots.waiting() >= left && slots.waiting() <= model.waiting.len(), "{context}");
            }
            while let Some((_, host, class)) = model.in_flight.pop() {
                slots.release(host, class);
                while let Some(start) = slots.next(|number| {
                    model.waiting.iter().any(|(other, .., current)| other == number && *current)
                }) {
                    model.start(most, start, "at the end");
                }
            }
            assert!(
                model.waiting.iter().all(|(.., current)| !current),
                "seed {seed}: somebody was forgotten"
            );
            assert_eq!((slots.in_flight(), slots.waiting(), slots.hosts.len()), (0, 0, 0), "seed {seed}");
            assert!(slots.rings.connection.is_empty() && slots.rings.process.is_empty(), "seed {seed}");
        }
    }

    #[test]
    fn a_full_host_is_in_nobodys_way() {
        let mut slots = Slots::new(1000);
        for number in 0..500 {
            slots.ask(number, host(0), Connection);
        }
        assert_eq!(all_that_start(&mut slots), (0..u32::from(MOST_PER_HOST)).collect::<Vec<_>>());
        slots.ask(1000, host(1), Connection);
        slots.ask(1001, host(0), Process);
        assert_eq!(all_that_start(&mut slots), [1000]);
        slots.release(host(0), Connection);
        assert_eq!(all_that_start(&mut slots).len(), 1);
    }

    #[test]
    fn processes_have_a_cap_of_their_own() {
        let mut slots = Slots::new(1000);
        let most = u32::try_from(MOST_PROCESSES).unwrap();
        for number in 0..200 {
            slots.ask(number, host(number), Process);
        }
        slots.ask(1000, host(199), Connection);
        let mut started = all_that_start(&mut slots);
        started.sort_unstable();
        assert_eq!(started, (0..most).chain([1000]).collect::<Vec<_>>());
        slots.release(host(199), Connection);
        assert_eq!(all_that_start(&mut slots), [] as [u32; 0], "it was no process");
        slots.release(host(0), Process);
        assert_eq!(all_that_start(&mut slots), [most]);
    }

    /// One release can start two probes: one waited for the host, the other for a process.
    #[test]
    fn one_release_may_start_two() {
        let mut slots = Slots::new(1000);
        for number in 0..u32::from(MOST_PER_HOST) {
            slots.ask(number, host(0), Process);
            slots.ask(number, host(number + 1), Process);
        }
        assert_eq!(all_that_start(&mut slots).len(), MOST_PROCESSES);
        slots.ask(1000, host(0), Connection);
        slots.ask(1001, host(99), Process);
        assert_eq!(all_that_start(&mut slots), [] as [u32; 0]);
        slots.release(host(0), Process);
        let mut started = all_that_start(&mut slots);
        started.sort_unstable();
        assert_eq!(started, [1000, 1001]);
    }

    #[test]
    fn hosts_and_classes_take_turns() {
        let mut slots = Slots::new(1);
        for number in 0..100 {
            slots.ask((0, Connection, number), host(0), Connection);
        }
        for number in 0..3 {
            slots.ask((1, Connection, number), host(1), Connection);
            slots.ask((2, Connection, number), host(2), Connection);
            slots.ask((0, Process, number), host(0), Process);
        }
        let mut order = Vec::new();
        while let Some(start) = slots.next(|_| true) {
            order.push((start.probe.0, start.probe.1));
            slots.release(start.host, start.class);
        }
        let connections: Vec<u32> =
            order.iter().filter(|(_, class)| *class == Connection).map(|(host, _)| *host).collect();
        assert_eq!(connections[..10], [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(order.len(), 109);
        let classes: Vec<Class> = order.iter().map(|(_, class)| *class).take(7).collect();
        assert_eq!(classes, [Connection, Process, Connection, Process, Connection, Process, Connection]);
    }

    #[test]
    fn probes_take_no_more_descriptors_than_they_are_given() {
        for descriptors in 2..20_000 {
            let probes = probes_within(descriptors);
            let processes = MOST_PROCESSES.min(descriptors / 2 / DESCRIPTORS_OF_PROCESS);
            assert!(probes + processes * DESCRIPTORS_OF_PROCESS <= descriptors, "{descriptors}");
        }
        assert_eq!((probes_within(0), probes_within(MOST_DESCRIPTORS)), (1, MAX_IN_FLIGHT));
    }
}
