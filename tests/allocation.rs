//! Answering allocates no memory, whatever the answer; reading a zone uses little, and so does a backend.

#[path = "../fuzz/checks/mod.rs"]
mod checks;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use steerd::answer::{Disposition, Responder};
use steerd::check::{Check, HttpProbe, PoolSetup, Probe, Timing};
use steerd::events::Events;
use steerd::fleet::{Capacity, Clocks, Fleet, FleetSetup, Launch, MAX_IN_FLIGHT, Memory, OUTCOMES, Outputs};
use steerd::health::Outcome;
use steerd::metrics::Metrics;
use steerd::name::Name;
use steerd::pool::{Backend, Pool, PoolId, Require};
use steerd::probe::Report;
use steerd::served::Served;
use steerd::service::{Answers, Route, Service};
use steerd::settings::Settings;
use steerd::tap::{AnsweredQuery, Drawn, SLOTS, SampleOutcome, SampleRate, Tap, Tapping, Taps};
use steerd::wire::MAX_MESSAGE;
use steerd::zone::{Catalog, reader};

use crate::checks::respond::Setting;
use crate::checks::world::World;
use crate::checks::{allocation, kinds};

#[test]
fn no_kind_of_answer_takes_memory() {
    let world = World::new();
    let mut responder = Responder::new(SmallRng::seed_from_u64(1));
    let mut buffer = vec![0; MAX_MESSAGE];
    for kind in kinds::all() {
        let setting = Setting::new(kind.transport);
        let table = kind.table(&world);
        for round in 0..3 {
            let (verdict, calls) = allocation::calls_during(|| {
                responder.respond(&kind.query, &setting.client, table, &mut buffer)
            });
            assert!(matches!(verdict, Disposition::Reply(_)), "{}: {verdict:?}", kind.name);
            assert_eq!(calls, 0, "{}, round {round}", kind.name);
        }
        kind.check(table);
    }
}

/// With the query log and dnstap on, whether their slots are free or all taken.
#[test]
fn a_sample_takes_no_memory() {
    let world = World::new();
    let mut responder = Responder::new(SmallRng::seed_from_u64(1));
    let mut buffer = vec![0; MAX_MESSAGE];
    let tap = || Arc::new(Tap::new(SampleRate::ALL, Arc::default()));
    let taps = Taps { query_log: Some(tap()), dnstap: Some(tap()) };
    let tapping = Tapping { taps: &taps, server: "192.0.2.53:53".parse().unwrap() };
    // The last kind finds all slots taken.
    let kinds = kinds::all();
    for (left, kind) in (0..kinds.len()).rev().zip(&kinds) {
        let setting = Setting::new(kind.transport);
        let table = kind.table(&world);
        let times = if left == 0 { SLOTS } else { 3 };
        let ((), calls) = allocation::calls_during(|| {
            for _ in 0..times {
                let chosen = tapping.choose().expect("each query is a sample");
                let Disposition::Reply(facts) =
                    responder.respond(&kind.query, &setting.client, table, &mut buffer)
                else {
                    panic!("{}: no reply", kind.name)
                };
                chosen.take(AnsweredQuery {
                    client: &setting.client,
                    query: &kind.query,
                    reply: &buffer[..facts.length],
                    outcome: SampleOutcome::of(&Ok((facts, false))),
                    drawn: facts.service.map(|service| Drawn { service, picked: responder.picked(), table }),
                });
            }
        });
        assert_eq!(calls, 0, "{}", kind.name);
    }
    let [log, dnstap] = [taps.query_log.unwrap(), taps.dnstap.unwrap()];
    let read = || while log.next(|_| ()).is_some() {};
    let ((), calls) = allocation::calls_during(read);
    assert_eq!((calls, dnstap.series().dropped() > 0), (0, true));
}

/// A word may be as long as its file, and suggesting a correction for it must not cost more than
/// reading it.
#[test]
fn a_long_word_in_a_zone_takes_little_memory() {
    let word = "w".repeat(1 << 20);
    for text in [format!("a {word} b\n"), format!("${word}\n"), format!("a 1 SVCB 1 . {word}=1\n")] {
        let read = || reader::read(Path::new("zone"), &Name::root(), &mut |_| Ok(text.clone().into_bytes()));
        let (read, peak) = allocation::peak_during(read);
        assert_eq!(read.map(drop).unwrap_err().len(), 1);
        assert!(peak < 16 * text.len(), "{peak} bytes for {}", text.len());
    }
}

/// The configuration of pools with HTTP checks, each answered by a service.
fn served(pools: u32, backends_each: u32) -> Served {
    let second = Duration::from_secs(1);
    let timing = Timing {
        interval: 10 * second,
        timeout: 2 * second,
        rise: 1,
        fall: 1,
        recheck: second,
        interval_down: 10 * second,
        damping: true,
    };
    let backend = |number: u32| {
        let address = Ipv4Addr::from(u32::from_be_bytes([127, 1, 0, 0]) + number);
        Backend::new(address.to_string(), vec![address.into()])
    };
    let pool = |number: u32| {
        let backends = (number * backends_each..(number + 1) * backends_each).map(backend).collect();
        PoolSetup {
            pool: Pool::new(format!("p{number}"), backends),
            checks: vec![Check::new(Probe::Http(HttpProbe::get(80, "/health")), timing)],
            require: Require::All,
        }
    };
    let service = |pool: u32| {
        let service = Service::new(Name::root(), vec![PoolId(pool)]);
        Service { default: Route { answers: Answers::AtMost(1), ..service.default }, ..service }
    };
    Served {
        settings: Settings::default(),
        catalog: Catalog::new(Vec::new()),
        services: (0..pools).map(service).collect(),
        rule_tables: Vec::new(),
        pools: (0..pools).map(pool).collect(),
        startup_wait: second,
    }
}

/// The memory of the checker, the table and the counters for a backend that is healthy and has a full history.
/// A process takes more than these bytes: the allocator adds a header to each block and rounds it up.
#[test]
fn a_backend_takes_little_memory() {
    const POOLS: u32 = 160;
    const BACKENDS_EACH: u32 = 100;
    let events = Events::new(SystemTime::UNIX_EPOCH);
    let run = |outcomes: usize| {
        let mut rng = SmallRng::seed_from_u64(1);
        let clocks = |now| Clocks { now, passed: now, wall: SystemTime::UNIX_EPOCH + now };
        let setup = FleetSetup { served: served(POOLS, BACKENDS_EACH), memory: Memory::default() };
        let capacity = Capacity { counting_threads: 2, probes: MAX_IN_FLIGHT };
        let outputs = Outputs { metrics: Arc::new(Metrics::new(2)), events: events.clone() };
        let mut fleet = Fleet::new(setup, capacity, outputs, clocks(Duration::ZERO), &mut rng);
        let mut launches = Vec::new();
        let mut ended = 0;
        while ended <= outcomes * (POOLS * BACKENDS_EACH) as usize {
            fleet.set_clocks(clocks(fleet.next_deadline().unwrap()));
            fleet.start_due(&mut launches);
            for Launch { running, .. } in launches.drain(..) {
                let report = Report { outcome: Outcome::Passed, cause: None, ..Report::void("200 OK") };
                fleet.ended(running, report, &mut rng);
                ended += 1;
            }
            fleet.settle();
            fleet.publish(None);
        }
        fleet
    };
    // The last events take the same memory for any number of backends, so they are there before.
    drop(run(1));
    let (fleet, kept) = allocation::kept_during(|| run(OUTCOMES));
    assert_eq!(fleet.unknown(), 0);
    let each = kept / (POOLS * BACKENDS_EACH) as usize;
    assert!(each <= 1450, "{each} bytes for each backend");
}

#[test]
fn what_takes_memory_is_counted() {
    let (_kept, calls) = allocation::calls_during(|| vec![0_u8; 100]);
    assert_eq!(calls, 1);
    let ((), peak) = allocation::peak_during(|| drop(vec![0_u8; 1000]));
    assert!((1000..2000).contains(&peak), "{peak}");
    let (_kept, bytes) = allocation::kept_during(|| {
        drop(vec![0_u8; 1000]);
        vec![0_u8; 500]
    });
    assert_eq!(bytes, 500);
}
