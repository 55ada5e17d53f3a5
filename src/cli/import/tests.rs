//! Imports of whole configurations: the result is valid, and each thing is carried over or listed.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::config::Setup;
use crate::pool::MinHealthy;
use crate::selection::Spread;
use crate::service::{Answers, Policy};
use crate::sys::process::thread_time;

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

/// The draft for record sets of `example.com`, and health checks, both as the members of a list.
fn of_sets(sets: &str, checks: &str) -> ImportDraft {
    let soa = r#"{ "Name": "example.com.", "Type": "SOA", "TTL": 900, "ResourceRecords": [{ "Value": "ns.a hostmaster.a 1 2 3 4 5" }] },
        { "Name": "example.com.", "Type": "NS", "TTL": 900, "ResourceRecords": [{ "Value": "ns.a" }, { "Value": "ns.b" }] }"#;
    of_records(
        &format!("{{ \"ResourceRecordSets\": [{soa}, {sets}] }}"),
        Some(&format!("{{ \"HealthChecks\": [{checks}] }}")),
    )
}

/// An A record set of `w.example.com` with further members.
fn set(label: &str, members: &str, address: &str) -> String {
    format!(
        "{{ \"Name\": \"w.example.com.\", \"Type\": \"A\", \"SetIdentifier\": \"{label}\", {members}, \"TTL\": 20, \
         \"ResourceRecords\": [{{ \"Value\": \"{address}\" }}] }}"
    )
}

/// An alias of `w.example.com`, as a member of a routing policy.
fn alias_set(label: &str, members: &str, target: &str) -> String {
    format!(
        "{{ \"Name\": \"w.example.com.\", \"Type\": \"A\", \"SetIdentifier\": \"{label}\", {members}, \
         \"AliasTarget\": {{ \"DNSName\": \"{target}\", \"EvaluateTargetHealth\": true }} }}"
    )
}

#[test]
fn names_in_record_sets_without_a_final_dot_are_absolute() {
    let draft = of_sets(
        r#"{ "Name": "c.example.com.", "Type": "CNAME", "TTL": 5, "ResourceRecords": [{ "Value": "a.example.net" }] },
           { "Name": "m.example.com.", "Type": "MX", "TTL": 5, "ResourceRecords": [{ "Value": "10 mail.example.net" }] }"#,
        "",
    );
    let zone = &draft.zones["example.com"];
    for line in [
        "c.example.com. 5 IN CNAME a.example.net.\n",
        "m.example.com. 5 IN MX 10 mail.example.net.\n",
        "SOA ns.a. hostmaster.a. 1 2 3 4 5\n",
    ] {
        assert!(zone.contains(line), "{line} in {zone}");
    }
}

#[test]
fn a_weighted_name_has_one_answer() {
    let two = set("b", "\"Weight\": 1", "192.0.2.2\" }, { \"Value\": \"192.0.2.3");
    let draft = of_sets(&format!("{}, {two}", set("a", "\"Weight\": 1", "192.0.2.1")), "");
    let setup = loaded(&draft);
    assert_eq!(setup.served.services[0].default.answers, Answers::AtMost(1));
    let weights = [("192.0.2.1", 2), ("192.0.2.2", 1), ("192.0.2.3", 1)];
    assert_eq!(
        tiers(&setup, "w.example.com"),
        [weights.map(|(address, weight)| (address.to_owned(), weight))]
    );
    assert!(lists(&draft, "with several values"), "{}", draft.notes());
}

#[test]
fn an_alias_in_a_routed_name_is_resolved_or_leaves_the_service_out() {
    let secondary = set("s", "\"Failover\": \"SECONDARY\"", "192.0.2.2");
    let main = r#"{ "Name": "main.example.com.", "Type": "A", "TTL": 30, "ResourceRecords": [{ "Value": "192.0.2.9" }] }"#;
    let primary = alias_set("p", "\"Failover\": \"PRIMARY\"", "main.example.com.");
    let draft = of_sets(&format!("{main}, {primary}, {secondary}"), "");
    assert_eq!(tiers(&loaded(&draft), "w.example.com"), [even(&["192.0.2.9"]), even(&["192.0.2.2"])]);
    assert!(lists(&draft, "w.example.com A `p`"), "{}", draft.notes());

    for (kind, other) in [
        ("\"Failover\": \"PRIMARY\"", secondary.clone()),
        ("\"Weight\": 3", set("s", "\"Weight\": 1", "192.0.2.2")),
        (
            "\"GeoLocation\": { \"CountryCode\": \"*\" }",
            set("s", "\"GeoLocation\": { \"CountryCode\": \"DE\" }", "192.0.2.2"),
        ),
    ] {
        let draft = of_sets(&format!("{}, {other}", alias_set("p", kind, "lb.amazonaws.com.")), "");
        assert!(draft.services.is_empty() && draft.pools.is_empty(), "{kind}: {}", draft.toml("a test"));
        assert!(draft.notes().contains("w.example.com is left out"), "{}", draft.notes());
    }
}

#[test]
fn weight_0_is_the_last_resort() {
    let sets = |weights: [u64; 2]| {
        let sets = [("a", "192.0.2.1"), ("b", "192.0.2.2")].into_iter().zip(weights);
        sets.map(|((label, address), weight)| set(label, &format!("\"Weight\": {weight}"), address))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let draft = of_sets(&sets([0, 5]), "");
    let first = vec![("192.0.2.2".to_owned(), 5)];
    assert_eq!(tiers(&loaded(&draft), "w.example.com"), [first, even(&["192.0.2.1"])]);
    assert!(lists(&draft, "with weight 0"), "{}", draft.notes());
    let equal = loaded(&of_sets(&sets([0, 0]), ""));
    assert_eq!(tiers(&equal, "w.example.com"), [even(&["192.0.2.1", "192.0.2.2"])]);
}

#[test]
fn a_health_check_probes_its_own_address() {
    let checks = r#"{ "Id": "own", "HealthCheckConfig": { "IPAddress": "192.0.2.1", "Port": 443, "Type": "HTTPS" } },
                    { "Id": "other", "HealthCheckConfig": { "IPAddress": "198.51.100.9", "Port": 443, "Type": "HTTPS" } },
                    { "Id": "named", "HealthCheckConfig": { "FullyQualifiedDomainName": "a.example.net", "Type": "TCP" } }"#;
    let check = |id: &str| format!("\"Weight\": 1, \"HealthCheckId\": \"{id}\"");
    let draft = of_sets(
        &[
            set("a", &check("own"), "192.0.2.1"),
            set("b", &check("other"), "192.0.2.2"),
            set("c", &check("named"), "192.0.2.3"),
        ]
        .join(", "),
        checks,
    );
    let setup = loaded(&draft);
    let probed: Vec<_> =
        setup.served.pools[0].pool.backends.iter().map(|backend| backend.check_address).collect();
    assert_eq!(probed, [None, Some("198.51.100.9".parse().unwrap()), None]);
    assert!(lists(&draft, "health check named without an address"), "{}", draft.notes());
    assert!(draft.notes().contains("verify = false"), "{}", draft.notes());
}

#[test]
fn a_partial_listing_is_refused() {
    for (sets, checks) in [
        (r#"{ "ResourceRecordSets": [], "NextToken": "x" }"#, "{}"),
        (r#"{ "ResourceRecordSets": [], "IsTruncated": true }"#, "{}"),
        (r#"{ "ResourceRecordSets": [] }"#, r#"{ "HealthChecks": [], "NextToken": "x" }"#),
    ] {
        let json = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
        let mut draft = ImportDraft::default();
        let refused = route53::import(&json(sets), Some(&json(checks)), &mut draft).unwrap_err();
        assert!(refused.contains("only a part"), "{refused}");
    }
}

#[test]
fn rules_by_location_are_in_the_order_of_route53() {
    let location = |label: &str, key: &str, code: &str, address: &str| {
        set(label, &format!("\"GeoLocation\": {{ \"{key}\": \"{code}\" }}"), address)
    };
    let draft = of_sets(
        &[
            location("all", "CountryCode", "*", "192.0.2.1"),
            location("eu", "ContinentCode", "EU", "192.0.2.2"),
            location("us", "CountryCode", "US", "192.0.2.3"),
        ]
        .join(", "),
        "",
    );
    let expected = "rules = [{ countries = [\"US\"], pools = [\"w.example.com-us\", \"w.example.com\"] }, \
                    { continents = [\"EU\"], pools = [\"w.example.com-eu\", \"w.example.com\"] }]";
    assert!(draft.notes().contains(expected), "{}", draft.notes());
    assert_eq!(loaded(&draft).served.services[0].default.answers, Answers::AtMost(1));
}

#[test]
fn two_targets_of_one_alias_are_listed() {
    let alias = |kind: &str, target: &str| {
        format!(
            "{{ \"Name\": \"x.example.com.\", \"Type\": \"{kind}\", \"AliasTarget\": {{ \"DNSName\": \"{target}\" }} }}"
        )
    };
    let draft =
        of_sets(&format!("{}, {}", alias("A", "a.example.net."), alias("AAAA", "b.example.net.")), "");
    assert!(draft.zones["example.com"].contains("x.example.com. 60 IN CNAME a.example.net."));
    assert!(lists(&draft, "x.example.com AAAA"), "{}", draft.notes());
}

/// Four times as many record sets with one identifier take about four times as long; if each were compared with all others,
/// they would take sixteen times as long. Measured in processor time, which others on the machine do not change.
#[test]
fn many_equal_identifiers_take_no_long() {
    let time = |count: u32| {
        let begin = thread_time();
        let sets: Vec<String> = (0..count)
            .map(|number| {
                let address = std::net::Ipv4Addr::from(0x0a00_0000 + number);
                let alias = format!(
                    "{{ \"Name\": \"x{number}.example.com.\", \"Type\": \"A\", \"AliasTarget\": {{ \"DNSName\": \"w.example.com\" }} }}"
                );
                format!("{}, {alias}", set("same", "\"Weight\": 1", &address.to_string()))
            })
            .collect();
        let draft = of_sets(&sets.join(", "), "");
        let resources: Vec<String> = (0..count).map(|number| format!("r{number} => [ 192.0.2.1 ]")).collect();
        let config = resources.join("\n");
        let other = gdnsd(&format!("plugins => {{ multifo => {{ {config} }} }}"), &[]);
        let backends = draft.pools["w.example.com"].backends.len();
        assert_eq!((backends, other.pools.len()), (count as usize, count as usize));
        thread_time().saturating_sub(begin)
    };
    let (few, many) = (time(2_500), time(10_000));
    assert!(many < 8 * few, "{few:?}, then {many:?}");
}

/// Pools by a check of the service type `web`.
const WEB: &str = "service_types => { web => { plugin => tcp_connect, port => 80 } }\n";

fn min_healthy(setup: &Setup, pool: &str) -> MinHealthy {
    setup.served.pools.iter().find(|known| known.pool.name == pool).unwrap().pool.min_healthy
}

#[test]
fn the_default_of_a_map_is_the_order_of_the_tiers() {
    let draft = gdnsd(
        "plugins => { geoip => {
            maps => { m => { datacenters => [one, two], geoip2_db => x.mmdb, map => { default => [two, one], EU => [one] },
                             nets => { 10.0.0.0/8 => [one], 10.1.0.0/16 => [two, one] } }
                      f => { datacenters => [one], nets => offices } }
            resources => { r => { map => m, dcmap => { one => 192.0.2.1, two => 192.0.2.2 } }
                           s => { map => f, dcmap => { one => 192.0.2.1 } } } } }",
        &[("example.com", &format!("{EMPTY_ZONE}r DYNA geoip!r\n"))],
    );
    let setup = loaded(&draft);
    assert_eq!(tiers(&setup, "r.example.com"), [even(&["192.0.2.2"]), even(&["192.0.2.1"])]);
    let rules = &draft.services["r.example.com"].rules;
    assert!(rules[0].contains("10.1.0.0/16") && rules[1].contains("10.0.0.0/8"), "{rules:?}");
    for what in ["`geoip2_db` of map `m`", "`EU` in map `m`", "`nets` of map `f`"] {
        assert!(lists(&draft, what), "{what} is not in the list:\n{}", draft.notes());
    }
    assert!(!lists(&draft, "`default`"), "{}", draft.notes());
}

#[test]
fn a_datacenter_keeps_its_plugin_and_settings() {
    let draft = gdnsd(
        &format!(
            "{WEB} plugins => {{
                weighted => {{ far => {{ a = [192.0.2.8, 3] }} }}
                metafo => {{ service_types => web, up_thresh => 0.2, resources => {{
                    fo => {{ datacenters => [x, y], plugin => simplefo,
                             dcmap => {{ x => {{ primary => 192.0.2.1, secondary => 192.0.2.2 }}, y => 192.0.2.3 }} }}
                    we => {{ datacenters => [x, y], skip_first => true, plugin => weighted,
                             dcmap => {{ x => {{ a = [192.0.2.4, 1] }}, y => {{ a = [192.0.2.5, 7], b = [192.0.2.6, 1] }} }} }}
                    re => {{ datacenters => [x, y], dcmap => {{ x => \"%weighted!far\", y => [192.0.2.7] }} }} }} }} }}"
        ),
        &[("example.com", &format!("{EMPTY_ZONE}fo DYNA metafo!fo\nwe DYNA metafo!we\nre DYNA metafo!re\n"))],
    );
    let setup = loaded(&draft);
    let tiers = |name: &str| tiers(&setup, name);
    assert_eq!(
        tiers("fo.example.com"),
        ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|address| even(&[address]))
    );
    assert_eq!(tiers("we.example.com"), [[("192.0.2.5".to_owned(), 7), ("192.0.2.6".to_owned(), 1)]]);
    let answers = |name: &str| {
        setup.served.services.iter().find(|service| service.name.to_plain() == name).unwrap().default.answers
    };
    assert_eq!(answers("we.example.com"), Answers::AtMost(1));
    assert!(lists(&draft, "`skip_first` of `metafo!we`"), "{}", draft.notes());
    assert_eq!(tiers("re.example.com"), [vec![("192.0.2.8".to_owned(), 3)], even(&["192.0.2.7"])]);
    assert!(lists(&draft, "the numbers of answers of `metafo!re`"), "{}", draft.notes());
    assert_eq!(min_healthy(&setup, "re-y"), MinHealthy::Percent(20), "the plugin's");
}

#[test]
fn settings_of_families_and_shares_are_kept() {
    let draft = gdnsd(
        &format!(
            "{WEB} plugins => {{ multifo => {{
                inner => {{ addrs_v4 => {{ service_types => web, up_thresh => 0.333, a => 192.0.2.1, b => 192.0.2.2, c => 192.0.2.3 }},
                            addrs_v6 => {{ service_types => web, up_thresh => 0.9, a => 2001:db8::1 }} }}
                odd => {{ service_types => web, up_thresh => 0.55, a => 192.0.2.1, b => 192.0.2.2 }} }}
              weighted => {{ both => {{ multi => true, addrs_v4 => {{ a = [192.0.2.1, 1], b = [192.0.2.2, 1] }},
                                        addrs_v6 => {{ a = [2001:db8::1, 1], b = [2001:db8::2, 1] }} }} }} }}"
        ),
        &[],
    );
    let setup = loaded(&draft);
    assert_eq!(min_healthy(&setup, "inner"), MinHealthy::Percent(33));
    assert_eq!(min_healthy(&setup, "odd"), MinHealthy::Percent(55));
    assert!(lists(&draft, "`up_thresh` of `multifo!inner`"), "{}", draft.notes());
    let pool = &draft.pools["inner"];
    assert_eq!(pool.checks.len(), 1);
    assert_eq!((pool.backends.len(), pool.backends[0].addresses.len()), (3, 2), "one label is one backend");
    let both = &draft.services["both.lb.example.com"];
    assert!(both.keys.contains(&("answers", "2".to_owned())), "of each family: {:?}", both.keys);
}

#[test]
fn ignored_health_is_listed() {
    for (at_plugin, at_resource) in [("ignore_health => true", ""), ("", "ignore_health => true")] {
        let draft = gdnsd(
            &format!(
                "{WEB} plugins => {{ multifo => {{ service_types => web, {at_plugin}, top => {{ {at_resource}, a => 192.0.2.1 }} }}
                   metafo => {{ {at_plugin}, resources => {{ low => {{ {at_resource}, datacenters => [x], service_types => web,
                     up_thresh => 0.7, dcmap => {{ x => [192.0.2.2] }} }} }} }} }}"
            ),
            &[],
        );
        let setup = loaded(&draft);
        assert!(draft.pools["top"].checks.is_empty());
        assert_eq!(draft.pools["low-x"].checks.len(), 1, "the datacenter is still chosen by health");
        assert_eq!(min_healthy(&setup, "low-x"), MinHealthy::Percent(70));
        for what in ["`ignore_health` of `multifo!top`", "`ignore_health` of `multifo!low-x`"] {
            assert!(lists(&draft, what), "{what} is not in the list:\n{}", draft.notes());
        }
    }
}

#[test]
fn any_address_keeps_its_port() {
    for listen in ["listen => any", ""] {
        let draft = gdnsd(&format!("options => {{ {listen} dns_port => 5353 }}"), &[]);
        let expected = "[\"0.0.0.0:5353\", \"[::]:5353\"]".to_owned();
        assert_eq!(draft.server, [("listen", expected)], "{}", draft.notes());
    }
}

#[test]
fn a_zone_file_keeps_its_lines_in_order() {
    let zone = "$INCLUDE other.zone\na TXT \"one ( two\"\nb 60 DYNA multifo!r\n";
    let draft = gdnsd("plugins => { multifo => { r => [192.0.2.1] } }", &[("example.com", zone)]);
    assert!(draft.services.contains_key("b.example.com"), "{}", draft.zones["example.com"]);
    assert!(lists(&draft, "`$INCLUDE other.zone`"), "{}", draft.notes());
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
