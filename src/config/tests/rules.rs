//! Rules of services: faults with their places, files, databases, and tables that services share.

use std::net::IpAddr;

use super::*;
use crate::service::{Answers, Service};

const PLACES: &[u8] = include_bytes!("../../../tests/fixtures/geo/places.mmdb");

/// As [`in_service`], for a service with one rule with these keys, which begin in column 12 of line 3.
fn in_rule(keys: &str, expected: &str) {
    in_service(&format!("pools = [\"web\"]\nrules = [{{ {keys} }}]"), expected);
}

/// Loads services `a.example.com` and `b.example.com` with these lines, and these files.
fn load_two([a, b]: [&str; 2], top: &str, files: &[(&str, &[u8])]) -> Result<Setup, ConfigFaults> {
    let directory = tempfile::tempdir().unwrap();
    let pools = "[pools.near]\nbackends = [\"192.0.2.21\", \"192.0.2.22\", \"192.0.2.23\"]\n";
    let services = format!("[services.\"a.example.com\"]\n{a}\n[services.\"b.example.com\"]\n{b}\n");
    let main = format!("{services}{top}\n{pools}{REST}");
    for (name, bytes) in
        [("example.com.zone", ZONE.as_bytes()), ("steerd.toml", main.as_bytes())].iter().chain(files)
    {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    load(&directory.path().join("steerd.toml"))
}

/// The number of the rule for a client of a service, and the scope.
fn rule(setup: &Setup, service: &Service, client: &str) -> (Option<u16>, u8) {
    let found =
        setup.served.rule_tables[service.rule_table.unwrap().index()].find(client.parse::<IpAddr>().unwrap());
    (found.rule, found.scope)
}

#[test]
fn faults_of_a_rule() {
    in_service(
        "pools = [\"web\"]\nrules = []",
        "3:9 `rules` must be a list of rules, such as [{ networks = [\"192.0.2.0/24\"], pools = [\"near\"] }] with at least one element",
    );
    in_rule(
        "pools = [\"web\"]",
        "3:10 this rule does not say for which clients it is | name them by `networks`, `networks_file`, `countries`, `continents` or `asns`; `pools` of the service is for all others",
    );
    in_rule(
        "networks = [\"192.0.2.1/24\"]",
        "3:24 `192.0.2.1/24` has address bits beyond its prefix: write `192.0.2.0/24` for the network, or `192.0.2.1` for the one address",
    );
    in_rule("networks = [\"::/0\", \"::/0\"]", "3:32 this is in the list twice");
    in_rule(
        "countries = [\"UK\"]",
        "3:25 `UK` is not the code of a country (ISO 3166-1, two letters) | did you mean \"GB\"?",
    );
    in_rule(
        "countries = [\"de\"]",
        "3:25 `de` is not the code of a country (ISO 3166-1, two letters) | did you mean \"DE\"?",
    );
    in_rule(
        "continents = [\"Europe\"]",
        "3:26 `Europe` is not the code of a continent: AF (Africa), AN (Antarctica), AS (Asia), EU (Europe), NA (North America), OC (Oceania), SA (South America) | did you mean \"EU\"?",
    );
    in_rule(
        "asns = [\"AS64496\"]",
        "3:20 each element of `asns` must be an integer from 1 to 4294967295; this is a string | write the number alone: 64496",
    );
    in_rule(
        "countries = [\"DE\"]",
        "3:24 `countries` needs a geographic database, and there is none | name its file by `database` in [geo]",
    );
    in_rule("networks = [\"::/0\"], pools = [\"wbe\"]", "3:42 there is no pool `wbe` | did you mean `web`?");
    in_rule(
        "networks = [\"::/0\"], policy = \"all\"",
        "3:33 unknown key `policy` | `policy` belongs to a service, [services.\"NAME\"]",
    );
}

#[test]
fn the_keys_of_a_rule_default_to_those_of_the_service() {
    let lines = "pools = [\"web\"]\nanswers = 1\nttl = \"5s\"\nrules = [{ networks = [\"10.0.0.0/8\"], pools = [\"near\"] }, { networks = [\"::/0\"], answers = 2, when_down = \"nodata\" }]";
    let setup = load_two([lines, "pools = [\"web\"]"], "", &[]).unwrap();
    let [a, b, ..] = &setup.served.services[..] else { panic!() };
    let [first, second] = &a.rules[..] else { panic!() };
    assert_eq!((first.route.answers, first.route.ttl), (Answers::AtMost(1), a.default.ttl));
    assert_ne!(first.route.tiers, a.default.tiers);
    assert_eq!((second.route.answers, &second.route.tiers), (Answers::AtMost(2), &a.default.tiers));
    assert_eq!((b.rules.len(), b.rule_table), (0, None));
    assert_eq!(rule(&setup, a, "10.1.2.3"), (Some(0), 8));
    assert_eq!(rule(&setup, a, "11.1.2.3"), (None, 8));
    assert_eq!(rule(&setup, a, "2001:db8::1"), (Some(1), 0));
}

#[test]
fn services_with_the_same_conditions_share_a_table() {
    let lines = |pool: &str, network: &str| {
        format!("pools = [\"web\"]\nrules = [{{ networks = [\"{network}\"], pools = [\"{pool}\"] }}]")
    };
    let setup = load_two([&lines("web", "::/0"), &lines("near", "::/0")], "", &[]).unwrap();
    assert_eq!(setup.served.rule_tables.len(), 1);
    let setup = load_two([&lines("web", "::/0"), &lines("web", "::/1")], "", &[]).unwrap();
    assert_eq!(setup.served.rule_tables.len(), 2);
    let defaults = "[defaults.service]\nrules = [{ networks = [\"10.0.0.0/8\"], pools = [\"near\"] }]";
    let setup = load_two(["pools = [\"web\"]", "pools = [\"web\"]"], defaults, &[]).unwrap();
    assert!(setup.served.services.iter().all(|service| service.rules.len() == 1));
    assert_eq!(setup.served.rule_tables.len(), 1);
}

#[test]
fn a_file_of_networks_and_its_faults() {
    let lines = "pools = [\"web\"]\nrules = [{ networks_file = \"list\", networks = [\"10.0.0.0/8\"], pools = [\"near\"] }]";
    let both = [lines, "pools = [\"web\"]"];
    let setup = load_two(both, "", &[("list", b"# ours\n192.0.2.0/24\n")]).unwrap();
    let service = &setup.served.services[0];
    assert_eq!(rule(&setup, service, "192.0.2.1"), (Some(0), 24));
    assert_eq!(rule(&setup, service, "10.0.2.1"), (Some(0), 8));
    let result = load_two(both, "", &[("list", b"192.0.2.0/24\n 192.0.2.1/24 # x\nhost\n")]);
    let [first, second] = &errors(&result)[..] else { panic!("{result:?}") };
    assert!(first.starts_with("list:2:2 `192.0.2.1/24` has address bits beyond its prefix"), "{first}");
    assert!(second.starts_with("list:3:1 `host` is not a network"), "{second}");
    let missing = errors(&load_two(both, "", &[]));
    assert!(
        missing[0].starts_with("steerd.toml:3:28 cannot read `networks_file` `list`: No such file"),
        "{missing:?}"
    );
    let empty = load_two(both, "", &[("list", b"# nobody\n")]).unwrap();
    assert!(empty.warnings.iter().any(|warning| told(warning).contains("names no network")));
}

#[test]
fn databases_and_their_faults() {
    let lines =
        "pools = [\"web\"]\nrules = [{ countries = [\"DE\"], pools = [\"near\"] }, { asns = [64496] }]";
    let (both, geo) = ([lines, "pools = [\"web\"]"], "[geo]\ndatabase = [\"places.mmdb\"]");
    let setup = load_two(both, geo, &[("places.mmdb", PLACES)]).unwrap();
    assert!(
        setup.warnings.iter().all(|warning| !warning.message.contains("rule")),
        "{}",
        setup.warnings.render(false)
    );
    let service = &setup.served.services[0];
    assert_eq!(rule(&setup, service, "192.0.2.1"), (Some(0), 24));
    assert_eq!(rule(&setup, service, "203.0.113.1"), (Some(1), 24));
    assert_eq!(rule(&setup, service, "198.51.100.1").0, None);
    assert_eq!(setup.rule_files.built.len(), 1);

    let refused = |files: &[(&str, &[u8])]| errors(&load_two(both, geo, files)).join("\n");
    let told = refused(&[]);
    assert!(told.contains(":7:13 cannot use the geographic database `places.mmdb`: No such file"), "{told}");
    let told = refused(&[("places.mmdb", &PLACES[..PLACES.len() - 200])]);
    assert!(
        told.contains("it is not a database in the format of MaxMind")
            && told.contains("take a complete copy"),
        "{told}"
    );
    let told = errors(&load_two(
        both,
        "[geo]\ndatabase = [\"places.mmdb\", \"places.mmdb\"]",
        &[("places.mmdb", PLACES)],
    ));
    assert!(told[0].contains("this is in the list twice"), "{told:?}");
}

#[test]
fn rules_that_never_apply_are_warned_of() {
    let lines = "pools = [\"web\"]\nrules = [{ networks = [\"10.0.0.0/8\"], pools = [\"near\"] }, { networks = [\"10.1.0.0/16\"] }]";
    let setup = load_two([lines, "pools = [\"web\"]"], "", &[]).unwrap();
    let warnings: Vec<String> = setup.warnings.iter().map(told).collect();
    assert!(
        warnings.iter().any(|warning| warning
            .starts_with("steerd.toml:3:59 rule 2 of service `a.example.com.` never applies")),
        "{warnings:?}"
    );
}

#[test]
fn a_field_that_no_database_has_is_warned_of_with_figures() {
    let only_places = crate::geo::tests::made::countries();
    let lines = "pools = [\"web\"]\nrules = [{ asns = [64496], pools = [\"near\"] }]";
    let geo = "[geo]\ndatabase = [\"c.mmdb\"]";
    let setup = load_two([lines, "pools = [\"web\"]"], geo, &[("c.mmdb", &only_places)]).unwrap();
    let warnings: Vec<String> = setup.warnings.iter().map(told).collect();
    let expected = "no client meets `asns`: no database has this field (Test has 1 networks, with `countries` and `continents`)";
    assert!(warnings.iter().any(|warning| warning.contains(expected)), "{warnings:?}");
}

/// A million networks: as text, and as a table. The bound is for an optimised build, and generous for others.
#[test]
fn a_million_networks_are_read_in_time() {
    use std::fmt::Write as _;
    use std::time::{Duration, Instant};
    let mut list = String::new();
    for index in 0..1_000_000_u32 {
        let address = std::net::Ipv4Addr::from_bits(index << 9);
        writeln!(list, "{address}/24").unwrap();
    }
    let lines = "pools = [\"web\"]\nrules = [{ networks_file = \"list\", pools = [\"near\"] }]";
    let began = Instant::now();
    let setup = load_two([lines, "pools = [\"web\"]"], "", &[("list", list.as_bytes())]).unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 2 }), "{took:?}");
    assert!(setup.served.rule_tables[0].ranges() >= 2_000_000);
}
