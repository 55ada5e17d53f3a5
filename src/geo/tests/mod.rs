//! Tests of databases: what is written is read, and damaged files are refused without a panic or an endless search.

pub(crate) mod made;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::network::Network;
use crate::rules::{Conditions, Continent, Country, Fields, GeoRecord, RuleTable};

const ALL: Fields = Fields { country: true, continent: true, asn: true };

fn network(text: &str) -> Network {
    text.parse().unwrap()
}

fn record(country: &str, continent: &str, asn: impl Into<Option<u32>>) -> GeoRecord {
    GeoRecord { country: Country::known(country), continent: Continent::known(continent), asn: asn.into() }
}

/// The rule that applies to an address, of one rule for each of these conditions.
fn rule(bytes: &[u8], rules: &[Conditions], address: &str) -> (Option<u16>, u8) {
    let database = GeoDatabase::read(bytes, ALL).unwrap();
    let found = RuleTable::compile(rules, &[database.layer]).find(address.parse().unwrap());
    (found.rule, found.scope)
}

fn rules() -> [Conditions; 3] {
    let germany =
        Conditions { countries: Country::known("DE").into_iter().collect(), ..Conditions::default() };
    let europe =
        Conditions { continents: Continent::known("EU").into_iter().collect(), ..Conditions::default() };
    let system = Conditions { asns: vec![64_496], ..Conditions::default() };
    [germany, europe, system]
}

#[test]
fn a_database_of_countries_and_one_of_systems() {
    let networks = [
        (network("192.0.2.0/25"), record("DE", "EU", None)),
        (network("192.0.2.128/25"), record("FR", "EU", None)),
        (network("198.51.100.0/24"), record("US", "NA", 64_496)),
        (network("2001:db8::/32"), record("DE", "EU", None)),
    ];
    for size in [24, 28, 32] {
        let bytes = made::database(&networks, 6, size);
        let database = GeoDatabase::read(&bytes, ALL).unwrap();
        assert_eq!((database.networks, database.fields), (4, ALL));
        assert_eq!((database.kind.as_str(), database.built), ("Test", made::BUILT));
        assert_eq!(rule(&bytes, &rules(), "192.0.2.1"), (Some(0), 25));
        assert_eq!(rule(&bytes, &rules(), "192.0.2.129"), (Some(1), 25));
        assert_eq!(rule(&bytes, &rules(), "198.51.100.1"), (Some(2), 24));
        assert_eq!(rule(&bytes, &rules(), "203.0.113.1"), (None, 5));
        assert_eq!(rule(&bytes, &rules(), "2001:db8::1"), (Some(0), 32));
        assert_eq!(rule(&bytes, &rules(), "::192.0.2.1"), (None, 3), "IPv4 is no part of the IPv6 space");
    }
    let bytes = made::database(&networks[..3], 4, 24);
    assert_eq!(rule(&bytes, &rules(), "192.0.2.1"), (Some(0), 25));
    assert_eq!(rule(&bytes, &rules(), "2001:db8::1"), (None, 0));
}

#[test]
fn fields_that_nobody_wants_are_left_out() {
    let networks = [
        (network("192.0.2.0/25"), record("DE", "EU", 1)),
        (network("192.0.2.128/25"), record("FR", "EU", 2)),
    ];
    let bytes = made::database(&networks, 4, 24);
    let database = GeoDatabase::read(&bytes, Fields { continent: true, ..Fields::default() }).unwrap();
    assert_eq!(database.fields, ALL, "but it has them");
    let table = RuleTable::compile(&rules(), &[database.layer]);
    let found = table.find("192.0.2.1".parse().unwrap());
    assert_eq!((found.rule, found.scope), (Some(1), 24), "one network with one continent");
}

/// Made by another program: see `tests/fixtures/geo/make.py`.
#[test]
fn a_database_of_another_program() {
    let bytes = include_bytes!("../../../tests/fixtures/geo/places.mmdb");
    let database = GeoDatabase::read(bytes, ALL).unwrap();
    assert_eq!((database.kind.as_str(), database.fields), ("steerd-Test", ALL));
    for (address, expected) in [
        ("192.0.2.1", Some(0)),
        ("198.51.100.1", Some(1)),
        ("203.0.113.1", Some(2)),
        ("10.0.0.1", None),
        ("2001:db8:1::1", Some(0)),
    ] {
        assert_eq!(rule(bytes, &rules(), address).0, expected, "{address}");
    }
}

#[test]
fn other_files_are_refused() {
    let refused = |bytes: &[u8]| GeoDatabase::read(bytes, ALL).unwrap_err().to_string();
    for bytes in [&b""[..], b"192.0.2.0/24\n", &[0; 1000]] {
        assert!(
            refused(bytes).starts_with("it is not a database in the format of MaxMind"),
            "{}",
            refused(bytes)
        );
    }
    let whole = made::database(&[(network("192.0.2.0/24"), record("DE", "EU", None))], 4, 24);
    assert!(refused(&whole[whole.len() / 2..]).contains("take a complete copy"));
    assert!(refused(&whole[..whole.len() - 100]).contains("take a complete copy"));
}

#[test]
fn a_small_file_that_leads_to_endless_networks_is_refused_at_once() {
    let began = Instant::now();
    let shared: Vec<[u32; 2]> = (1..=127).map(|next| [next, next]).collect();
    let error = GeoDatabase::read(&made::of_nodes(&shared, &[], 6, 24), ALL).unwrap_err();
    assert!(matches!(error, DatabaseError::Large), "{error}");
    let error = GeoDatabase::read(&made::of_nodes(&[[1, 1], [0, 0]], &[], 6, 24), ALL).unwrap_err();
    assert!(error.to_string().contains("has a circle"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

fn any_database() -> impl Strategy<Value = Vec<u8>> {
    let network = (any::<bool>(), any::<[u8; 2]>(), 1..=16_u8).prop_map(|(ipv4, [a, b], length)| {
        let address = if ipv4 {
            IpAddr::from([a, b, 0, 0])
        } else {
            IpAddr::from([0x2000 | u16::from(a), u16::from(b), 0, 0, 0, 0, 0, 0])
        };
        Network::around(address, length, length + 16)
    });
    let record = prop::sample::select(vec![
        record("DE", "EU", 1),
        record("US", "NA", None),
        record("FR", "EU", 70_000),
    ]);
    let size = prop::sample::select(vec![24, 28, 32_u16]);
    (prop::collection::vec((network, record), 1..8), size).prop_map(|(mut networks, size)| {
        networks.sort_by_key(|(network, _)| (network.first(), network.length()));
        networks.dedup_by(|(later, _), (first, _)| first.contains(later.first()));
        made::database(&networks, 6, size)
    })
}

proptest! {
    #[test]
    fn damage_is_refused_or_harmless(
        mut bytes in any_database(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let began = Instant::now();
        if let Ok(database) = GeoDatabase::read(&bytes, ALL) {
            let _ = RuleTable::compile(&rules(), &[database.layer]).find(IpAddr::from([192, 0, 2, 1]));
        }
        prop_assert!(began.elapsed() < Duration::from_secs(30));
    }
}
