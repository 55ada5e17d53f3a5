//! Imports of whole configurations: the result is valid, and each thing is carried over or listed.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::config::Setup;
use crate::pool::MinHealthy;
use crate::selection::Spread;
use crate::service::{Answers, Policy};

/// The setup that a draft results in.
fn loaded(draft: &ImportDraft) -> Setup {
    let directory = tempfile::tempdir().unwrap();
    write(draft, "a test", directory.path()).unwrap();
    config::load(&directory.path().join(CONFIG))
        .unwrap_or_else(|faults| panic!("{}\n{}", faults.render(false), draft.toml("a test")))
}

fn fixture(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import");
    fs::read_to_string(root.join(path)).unwrap()
}

fn gdnsd(config: &str, zones: &[(&str, &str)]) -> ImportDraft {
    let zones: Vec<(String, String)> = zones.iter().map(|&(name, text)| (name.into(), text.into())).collect();
    draft_of_gdnsd(&Vscf::parse(config).unwrap(), &zones)
}

fn of_records(records: &str, checks: Option<&str>) -> ImportDraft {
    let json = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let mut draft = ImportDraft::default();
    route53::import(&json(records), checks.map(json).as_ref(), &mut draft).unwrap();
    draft
}

/// The pools of a service, each with its addresses and weights.
fn tiers(setup: &Setup, name: &str) -> Vec<Vec<(String, u32)>> {
    let service = setup.served.services.iter().find(|service| service.name.to_plain() == name);
    let tiers = &service.unwrap_or_else(|| panic!("no service {name}")).default.tiers;
    let backends = |id: &crate::pool::PoolId| {
        let pool = &setup.served.pools[id.index()].pool;
        pool.backends.iter().map(|backend| (backend.addresses[0].to_string(), backend.weight)).collect()
    };
    tiers.iter().map(backends).collect()
}

fn even(addresses: &[&str]) -> Vec<(String, u32)> {
    addresses.iter().map(|&address| (address.to_owned(), 1)).collect()
}

fn lists(draft: &ImportDraft, what: &str) -> bool {
    draft.lost.iter().any(|lost| lost.what.contains(what))
}

#[test]
fn a_configuration_of_gdnsd_keeps_its_pools_and_tiers() {
    let draft = gdnsd(&fixture("gdnsd/config"), &[("example.com", &fixture("gdnsd/zones/example.com"))]);
    let setup = loaded(&draft);
    assert_eq!(
        setup.server.listen,
        ["127.0.0.1:5353", "[::1]:5353"].map(|address| address.parse::<std::net::SocketAddr>().unwrap())
    );
    let tiers = |name: &str| tiers(&setup, name);
    assert_eq!(tiers("www.example.com"), [even(&["192.0.2.1", "192.0.2.2", "192.0.2.3"])]);
    assert_eq!(
        tiers("both.example.com"),
        [even(&["192.0.2.11", "192.0.2.12", "2001:db8::11", "2001:db8::12"])]
    );
    assert_eq!(tiers("cdn.example.com"), [[("192.0.2.21".to_owned(), 30), ("192.0.2.22".to_owned(), 10)]]);
    assert_eq!(tiers("mail.example.com"), [even(&["192.0.2.41"]), even(&["198.51.100.41"])]);
    assert_eq!(tiers("prod.example.com"), [even(&["192.0.2.51", "192.0.2.52"]), even(&["198.51.100.51"])]);
    assert_eq!(tiers("one.prod.example.com"), [even(&["192.0.2.51", "192.0.2.52"])]);
    assert_eq!(tiers("near.example.com"), [even(&["192.0.2.61"]), even(&["198.51.100.61"])]);

    let service = |name: &str| {
        setup.served.services.iter().find(|service| service.name.to_plain() == name).unwrap().clone()
    };
    let www = service("www.example.com");
    assert_eq!((www.policy, www.default.answers), (Policy::All, Answers::All));
    assert_eq!((www.default.ttl.min, www.default.ttl.max), (60, 180));
    assert_eq!(service("cdn.example.com").default.ttl.max, 300);
    assert_eq!(service("near.example.com").rules.len(), 2);
    let pool = |name: &str| setup.served.pools.iter().find(|pool| pool.pool.name == name).unwrap();
    let check = &pool("www").checks[0];
    assert_eq!((check.timing.interval.as_secs(), check.timing.rise, check.timing.fall), (4, 3, 3));
    assert_eq!(pool("www").pool.min_healthy, MinHealthy::Percent(30));
    assert_eq!(pool("grouped").pool.backends[0].site.as_deref(), Some("east"));
    assert_eq!(service("grouped.example.com").spread, Spread::Shares);

    let zone = &draft.zones["example.com"];
    assert!(!zone.contains("DYN"), "{zone}");
    assert!(zone.contains("www    TXT \"beside; the service\""), "it keeps its owner: {zone}");
    for what in [
        "udp_threads",
        "`script`",
        "`multi`",
        "group `east`",
        "names.example.com",
        "datacenter `last`",
        "`EU` in map",
        "gone.example.com",
        "a.example.net.",
    ] {
        assert!(lists(&draft, what), "{what} is not in the list:\n{}", draft.notes());
    }
    assert!(draft.lost.iter().all(|lost| !lost.why.is_empty() && !lost.remedy.is_empty()));
}

#[test]
fn without_zone_files_each_resource_is_a_service_of_an_example() {
    let draft = gdnsd("plugins => { multifo => { www_1 => [ 192.0.2.1 ], none => { a => b. } } }", &[]);
    let setup = loaded(&draft);
    assert_eq!(tiers(&setup, "www-1.lb.example.com"), [even(&["192.0.2.1"])]);
    assert!(lists(&draft, "names of the services") && lists(&draft, "pool `none`"), "{}", draft.notes());
}

#[test]
fn record_sets_of_route53_become_pools_and_records() {
    let draft = of_records(&fixture("records.json"), Some(&fixture("checks.json")));
    let setup = loaded(&draft);
    let tiers = |name: &str| tiers(&setup, name);
    let weighted = [("192.0.2.1", 180), ("192.0.2.2", 10), ("192.0.2.3", 10), ("2001:db8::1", 180)]
        .map(|(a, w)| (a.to_owned(), w));
    assert_eq!(tiers("www.example.com"), [weighted], "two values share a weight of 10");
    assert_eq!(tiers("api.example.com"), [even(&["192.0.2.11"]), even(&["198.51.100.11"])]);
    assert_eq!(tiers("many.example.com"), [even(&["192.0.2.21", "192.0.2.22"])]);
    assert_eq!(tiers("near.example.com"), [even(&["192.0.2.31", "192.0.2.32"])]);
    assert_eq!(tiers("geo.example.com"), [even(&["192.0.2.41"])]);
    let pool = |name: &str| setup.served.pools.iter().find(|pool| pool.pool.name == name).unwrap();
    assert_eq!(pool("near.example.com").pool.backends[1].site.as_deref(), Some("us-east-1"));
    let check = &pool("www.example.com").checks[0];
    assert_eq!((check.timing.interval.as_secs(), check.timing.fall), (10, 3));
    assert!(pool("api.example.com-secondary").checks.is_empty());
    assert_eq!(pool("geo.example.com-germany").pool.backends.len(), 1);
    let zone = &draft.zones["example.com"];
    for line in [
        "*.apps.example.com. 60 IN A 192.0.2.70",
        "static.example.com. 300 IN A 192.0.2.81",
        "text.example.com. 300 IN TXT \"a \\\"quoted\\\" text\"",
        "old.example.com. 60 IN CNAME www.example.com.",
    ] {
        assert_eq!(zone.matches(line).count(), 1, "{line} in {zone}");
    }
    for what in [
        "example.com A",
        "`texas`",
        "countries = [\"DE\"]",
        "latencies of near",
        "cname.example.com CNAME",
        "`office`",
        "NS and SOA",
        "1 record sets of pool `many.example.com`",
    ] {
        assert!(lists(&draft, what), "{what} is not in the list:\n{}", draft.notes());
    }
    let without = of_records(&fixture("records.json"), None);
    loaded(&without);
    assert!(lists(&without, "health check http-1"));
}

#[test]
fn existing_files_are_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let draft = gdnsd("", &[]);
    write(&draft, "a test", directory.path()).unwrap();
    let error = write(&draft, "a test", directory.path()).unwrap_err();
    assert!(error.to_string().contains(CONFIG), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Parts of a configuration in any combination: nothing panics, and the text can be parsed as TOML.
    #[test]
    fn no_configuration_is_too_odd(words in prop::collection::vec(prop::sample::select(vec![
        "plugins", "weighted", "multifo", "metafo", "geoip", "resources", "maps", "a", "=>", "{", "}", "[", "]",
        "192.0.2.1", "::1", "datacenters", "dcmap", "service_types", "web", "up_thresh", "-1", "addrs_v4", "multi", "true",
        "map", "nets", "10.0.0.0/8", "\"\n\"", "options", "listen",
    ]), 0..60), zone in "[a-zA-Z@$. \n();\"!/0-9]{0,80}") {
        if let Ok(config) = Vscf::parse(&words.join(" ")) {
            let zone = format!("{zone}\na 5 DYNA multifo!a\n b DYNA geoip!a/a\n");
            let draft = draft_of_gdnsd(&config, &[("example.com".into(), zone)]);
            let text = draft.toml("a\n\"test\"");
            prop_assert!(toml::from_str::<toml::Table>(&text).is_ok(), "{}", text);
        }
    }
}
