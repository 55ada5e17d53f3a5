//! The tiers in use, since when pools are usable, and failovers.

use super::*;
use crate::fleet::{MemoryChanges, RememberedFailover, RememberedPool, RememberedTier};
use crate::pool::Family;
use crate::state::disk::System;
use crate::state::journal::Journal;

fn tier(family: Family, pool: Option<&str>) -> RememberedTier {
    RememberedTier {
        service: "www.lb.example.".into(),
        route: 0,
        family,
        tiers: vec!["near".into(), "far".into()],
        pool: pool.map(Into::into),
    }
}

fn pool(family: Family, since: Option<u64>) -> RememberedPool {
    RememberedPool { pool: "near".into(), family, since: since.map(at) }
}

fn failover(service: &str, until: Option<u64>) -> RememberedFailover {
    RememberedFailover {
        service: service.into(),
        pool: "far".into(),
        since: at(1),
        until: until.map(at),
        reason: Some("drill".into()),
        by: None,
    }
}

/// Both families in a later tier, and one of the first tier usable.
fn remembered() -> Memory {
    Memory {
        tiers: Family::ALL.map(|family| tier(family, Some("far"))).into(),
        pools: vec![pool(Family::Ipv4, Some(4))],
        ..Memory::default()
    }
}

#[test]
fn they_survive_a_snapshot_and_its_journal() {
    let directory = tempfile::TempDir::new().unwrap();
    let text = file::encode(remembered(), Some(7), at(10)).unwrap();
    fs::write(directory.path().join(FILE), text).unwrap();
    assert_eq!(recall(directory.path(), at(10)), remembered());

    let mut journal = Journal::begin(&mut System, directory.path(), 7).unwrap();
    let changes = MemoryChanges {
        tiers: vec![tier(Family::Ipv4, None)],
        pools: vec![pool(Family::Ipv4, None), pool(Family::Ipv6, Some(11))],
        ..MemoryChanges::default()
    };
    journal.append(&mut System, vec![changes], at(12)).unwrap();
    let expected = Memory {
        tiers: vec![tier(Family::Ipv6, Some("far"))],
        pools: vec![pool(Family::Ipv6, Some(11))],
        ..Memory::default()
    };
    assert_eq!(recall(directory.path(), at(12)), expected);
}

#[test]
fn failovers_last_until_their_end_whatever_happens() {
    let directory = tempfile::TempDir::new().unwrap();
    let failovers = vec![failover("a", None), failover("b", Some(100)), failover("c", None)];
    let text = file::encode(Memory { failovers, ..Memory::default() }, Some(7), at(10)).unwrap();
    fs::write(directory.path().join(FILE), text).unwrap();
    let known = |now| {
        let failovers = recall(directory.path(), now).failovers;
        failovers.into_iter().map(|kept| (kept.service.to_string(), kept.until)).collect::<Vec<_>>()
    };
    let of = |service: &str, until: Option<u64>| (service.to_owned(), until.map(at));
    assert_eq!(known(at(99)), [of("a", None), of("b", Some(100)), of("c", None)]);
    assert_eq!(known(at(100)), [of("a", None), of("c", None)]);
    let mut journal = Journal::begin(&mut System, directory.path(), 7).unwrap();
    let changes = MemoryChanges {
        failovers: vec![failover("a", Some(50))],
        ended_failovers: vec!["c".into()],
        ..MemoryChanges::default()
    };
    journal.append(&mut System, vec![changes], at(12)).unwrap();
    assert_eq!(known(at(20)), [of("a", Some(50)), of("b", Some(100))]);
}

#[test]
fn the_time_while_nothing_was_written_does_not_count() {
    let text = file::encode(remembered(), Some(7), at(10)).unwrap();
    let since = |now| {
        let recalled = decode(text.as_bytes(), now).unwrap().memory;
        assert_eq!(recalled.tiers, remembered().tiers, "the tiers stay, however old");
        recalled.pools[0].since.unwrap()
    };
    assert_eq!(since(at(10)), at(4));
    assert_eq!(since(at(70)), at(64), "usable for six seconds, as when it was written");
    assert_eq!(since(at(10) + DAY * 9), at(4) + DAY * 9);
    assert_eq!(since(at(2)), at(2), "the clock was set back: the time begins again");
}
