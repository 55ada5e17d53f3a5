//! Random rules and geography, against an evaluation that shares nothing with the code under test.

use std::net::IpAddr;

use proptest::prelude::*;

use crate::network::Network;
use crate::rules::{Conditions, Continent, Country, Fields, GeoLayer, GeoRecord, LayerBuilder, RuleTable};

const ALL_FIELDS: Fields = Fields { country: true, continent: true, asn: true };

/// Rules, and databases as lists of disjoint networks.
#[derive(Clone, Debug)]
struct World {
    rules: Vec<Conditions>,
    databases: Vec<Vec<(Network, GeoRecord)>>,
}

impl World {
    fn table(&self) -> RuleTable {
        let layers: Vec<GeoLayer> = self.databases.iter().map(|database| layer(database)).collect();
        RuleTable::compile(&self.rules, &layers)
    }

    /// The first rule that applies to an address, from the definition.
    fn rule(&self, address: IpAddr) -> Option<u16> {
        let known = self
            .databases
            .iter()
            .map(|database| database.iter().find(|(network, _)| holds(*network, address)))
            .map(|found| found.map_or_else(GeoRecord::default, |(_, record)| *record));
        let mut record = GeoRecord::default();
        for known in known {
            record.country = record.country.or(known.country);
            record.continent = record.continent.or(known.continent);
            record.asn = record.asn.or(known.asn);
        }
        let applies = |rule: &Conditions| {
            rule.networks
                .as_ref()
                .is_none_or(|networks| networks.iter().any(|network| holds(*network, address)))
                && (rule.countries.is_empty()
                    || record.country.is_some_and(|it| rule.countries.contains(&it)))
                && (rule.continents.is_empty()
                    || record.continent.is_some_and(|it| rule.continents.contains(&it)))
                && (rule.asns.is_empty() || record.asn.is_some_and(|it| rule.asns.contains(&it)))
        };
        self.rules.iter().position(applies).map(|rule| u16::try_from(rule).unwrap())
    }

    /// The addresses at which the rule can change: the edges of all networks and their neighbours outside.
    fn edges(&self) -> Vec<IpAddr> {
        let networks = self.rules.iter().flat_map(|rule| rule.networks.iter().flatten().copied());
        let located = self.databases.iter().flatten().map(|(network, _)| *network);
        networks.chain(located).flat_map(edges).collect()
    }
}

fn layer(database: &[(Network, GeoRecord)]) -> GeoLayer {
    let mut builder = LayerBuilder::new(ALL_FIELDS);
    for (network, record) in database {
        builder.add(*network, *record).unwrap();
    }
    builder.finish()
}

/// The bits as text.
fn bits(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{:032b}", u32::from(address)),
        IpAddr::V6(address) => format!("{:0128b}", u128::from(address)),
    }
}

fn holds(network: Network, address: IpAddr) -> bool {
    let (prefix, all) = (bits(network.first()), bits(address));
    prefix.len() == all.len() && prefix[..network.length().into()] == all[..network.length().into()]
}

fn number(address: IpAddr) -> u128 {
    u128::from_str_radix(&bits(address), 2).unwrap()
}

fn address(ipv4: bool, number: u128) -> IpAddr {
    if ipv4 { IpAddr::V4(u32::try_from(number).unwrap().into()) } else { IpAddr::V6(number.into()) }
}

fn edges(network: Network) -> Vec<IpAddr> {
    let ipv4 = network.first().is_ipv4();
    let highest = if ipv4 { u128::from(u32::MAX) } else { u128::MAX };
    let (first, last) = (number(network.first()), number(network.last()));
    let outside = [first.checked_sub(1), last.checked_add(1).filter(|after| *after <= highest)];
    [first, last].into_iter().chain(outside.into_iter().flatten()).map(|it| address(ipv4, it)).collect()
}

/// Addresses with few distinct bytes, so that networks nest, touch and repeat.
fn any_address() -> impl Strategy<Value = IpAddr> {
    let crowded = prop::sample::select(vec![0_u8, 1, 2, 127, 128, 254, 255]);
    (any::<bool>(), any::<bool>(), prop::array::uniform16(crowded)).prop_map(|(ipv4, high, mut bytes)| {
        let [a, b, c, d, ..] = bytes;
        if ipv4 {
            return IpAddr::from([a, b, c, d]);
        }
        bytes[0] = 0x20;
        if high {
            bytes[4..].fill(0);
        }
        IpAddr::from(bytes)
    })
}

/// IPv6 networks are no longer than `longest`.
fn any_network(longest: u8) -> impl Strategy<Value = Network> {
    (any_address(), 0..=longest).prop_map(|(address, length)| Network::around(address, length % 33, length))
}

fn any_record() -> impl Strategy<Value = GeoRecord> {
    let country = prop::sample::select(vec![None, Some("DE"), Some("FR"), Some("US")]);
    let continent = prop::sample::select(vec![None, Some("EU"), Some("NA")]);
    let asn = prop::sample::select(vec![None, Some(1), Some(64_496)]);
    (country, continent, asn).prop_map(|(country, continent, asn)| GeoRecord {
        country: country.and_then(Country::known),
        continent: continent.and_then(Continent::known),
        asn,
    })
}

fn any_rule(longest: u8) -> impl Strategy<Value = Conditions> {
    let networks = prop::option::of(prop::collection::vec(any_network(longest), 0..5));
    (networks, any_record(), any_record(), any::<bool>()).prop_map(|(networks, one, other, located)| {
        let some = |located: bool| if located { [one, other] } else { [GeoRecord::default(); 2] };
        Conditions {
            networks,
            countries: some(located).iter().filter_map(|record| record.country).collect(),
            continents: some(located && one.asn.is_none()).iter().filter_map(|it| it.continent).collect(),
            asns: some(located).iter().filter_map(|record| record.asn).collect(),
        }
    })
}

fn any_database(longest: u8) -> impl Strategy<Value = Vec<(Network, GeoRecord)>> {
    prop::collection::vec((any_network(longest), any_record()), 0..12).prop_map(|mut database| {
        database.sort_by_key(|(network, _)| (network.first(), network.length()));
        // The wider of two that overlap comes first.
        let mut disjoint: Vec<(Network, GeoRecord)> = Vec::new();
        for (network, record) in database {
            if disjoint.last().is_none_or(|(before, _)| !holds(*before, network.first())) {
                disjoint.push((network, record));
            }
        }
        disjoint
    })
}

fn any_world() -> impl Strategy<Value = World> {
    prop::sample::select(vec![48, 64, 128_u8]).prop_flat_map(|longest| {
        (prop::collection::vec(any_rule(longest), 0..8), prop::collection::vec(any_database(longest), 0..3))
            .prop_map(|(rules, databases)| World { rules, databases })
    })
}

proptest! {
    #[test]
    fn the_first_rule_that_applies_and_its_scope(
        world in any_world(),
        addresses in prop::collection::vec(any_address(), 10),
    ) {
        let table = world.table();
        let edges = world.edges();
        for address in addresses.iter().chain(&edges).copied() {
            let found = table.find(address);
            prop_assert_eq!(found.rule, world.rule(address), "{}", address);
            // Within a prefix, the rule changes only at edges.
            let differs = |length: u8| {
                let prefix = Network::around(address, length, length);
                let inside = edges.iter().copied().filter(|edge| holds(prefix, *edge));
                inside.chain([prefix.first(), prefix.last()]).any(|other| world.rule(other) != found.rule)
            };
            prop_assert!(!differs(found.scope), "{} has scope {}: another rule is in it", address, found.scope);
            prop_assert!(
                found.scope == 0 || differs(found.scope - 1),
                "{} has scope {}: it could be wider", address, found.scope
            );
        }
    }

    #[test]
    fn rules_that_apply_to_nobody(world in any_world()) {
        let table = world.table();
        let ends = [Network::all(crate::pool::Family::Ipv4), Network::all(crate::pool::Family::Ipv6)];
        let everywhere = world.edges().into_iter().chain(ends.into_iter().flat_map(edges));
        let used: Vec<Option<u16>> = everywhere.map(|address| world.rule(address)).collect();
        let count = u16::try_from(world.rules.len()).unwrap();
        let idle: Vec<u16> = (0..count).filter(|rule| !used.contains(&Some(*rule))).collect();
        prop_assert_eq!(table.idle(), idle);
    }
}

fn rule(networks: &[&str]) -> Conditions {
    let networks = networks.iter().map(|text| text.parse().unwrap()).collect();
    Conditions { networks: Some(networks), ..Conditions::default() }
}

#[test]
fn an_earlier_rule_counts_though_a_later_one_is_more_specific() {
    let rules = [rule(&["10.0.0.0/8"]), rule(&["10.1.0.0/16", "192.0.2.0/25"]), Conditions::default()];
    let table = RuleTable::compile(&rules, &[]);
    let find = |text: &str| {
        let found = table.find(text.parse().unwrap());
        (found.rule, found.scope)
    };
    assert_eq!(find("10.1.2.3"), (Some(0), 8));
    assert_eq!(find("192.0.2.1"), (Some(1), 25));
    assert_eq!(find("192.0.2.200"), (Some(2), 25));
    assert_eq!(find("192.0.3.1"), (Some(2), 24));
    assert_eq!(find("11.0.0.1"), (Some(2), 8));
    assert_eq!(find("2001:db8::1"), (Some(2), 0));
    assert!(table.idle().is_empty());
    assert_eq!(RuleTable::compile(&[rule(&["10.0.0.0/8"]), rule(&["10.1.0.0/16"])], &[]).idle(), [1]);
}

#[test]
fn without_rules_the_scope_is_everything() {
    let table = RuleTable::compile(&[], &[]);
    for address in ["0.0.0.0", "255.255.255.255", "::", "ffff::"] {
        let found = table.find(address.parse().unwrap());
        assert_eq!((found.rule, found.scope), (None, 0));
    }
}

#[test]
fn networks_out_of_order_are_refused() {
    let network = |text: &str| text.parse::<Network>().unwrap();
    for (first, second) in [("10.0.0.0/8", "10.1.0.0/16"), ("10.0.0.0/8", "9.0.0.0/8"), ("::/0", "::/0")] {
        let mut builder = LayerBuilder::new(ALL_FIELDS);
        builder.add(network(first), GeoRecord::default()).unwrap();
        builder.add(network("::/1"), GeoRecord::default()).ok();
        let error = builder.add(network(second), GeoRecord::default()).unwrap_err().to_string();
        assert!(error.contains(&format!("{second} begins before the end")), "{error}");
    }
}
