//! Rules: clients get the pool of the first rule that applies, also after the files that rules name are replaced.

use std::fs;
use std::path::Path;

use crate::support::{Steerd, dig, wait_for};

const ZONE: &str = "$TTL 300\n@ SOA ns1 hostmaster 1 3600 900 604800 2\n@ NS ns1\n@ NS ns2\nns1 A 127.0.0.1\nns2 A 127.0.0.2\n";
const PLACES: &[u8] = include_bytes!("../fixtures/geo/places.mmdb");
/// Germany and France have changed places.
const MOVED: &[u8] = include_bytes!("../fixtures/geo/moved.mmdb");

const CONFIG: &str = r#"client_subnet = ["127.0.0.0/8"]
[geo]
database = ["places.mmdb"]
[zones."lb.example.test"]
file = "zone"
[pools.others]
backends = ["203.0.113.1"]
[pools.listed]
backends = ["203.0.113.2"]
[pools.germany]
backends = ["203.0.113.3"]
[services."www.lb.example.test"]
pools = ["others"]
answers = 1
rules = [
    { networks_file = "list", pools = ["listed"] },
    { countries = ["DE"], pools = ["germany"] },
]
"#;

fn start() -> Steerd {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in [("zone", ZONE.as_bytes()), ("list", b"10.0.0.0/8\n"), ("places.mmdb", PLACES)] {
        fs::write(directory.path().join(name), bytes).unwrap();
    }
    Steerd::start_in(directory, CONFIG)
}

/// Replaces a file at once, as an operator should.
fn replace(directory: &Path, name: &str, bytes: &[u8]) {
    fs::write(directory.join("new"), bytes).unwrap();
    fs::rename(directory.join("new"), directory.join(name)).unwrap();
}

/// The last byte of the address for a client in this network.
fn answer(steerd: &Steerd, subnet: &str) -> String {
    let answers =
        dig(steerd.dns, &steerd.ledger.sent, &["www.lb.example.test", &format!("+subnet={subnet}")]);
    answers.concat().rsplit('.').next().unwrap_or_default().to_owned()
}

fn becomes(steerd: &Steerd, subnet: &str, expected: &str) {
    wait_for(&format!("{subnet} gets {expected}"), || (answer(steerd, subnet) == expected).then_some(()));
}

#[test]
fn replaced_files_take_effect_and_damaged_ones_do_not() {
    let steerd = start();
    let directory = steerd.directory.path();
    for (subnet, expected) in [
        ("10.1.2.0/24", "2"),
        ("11.1.2.0/24", "1"),
        ("192.0.2.0/24", "3"),
        ("198.51.100.0/24", "1"),
        ("0/0", "1"),
    ] {
        assert_eq!(answer(&steerd, subnet), expected, "{subnet}");
    }
    let age = format!(
        "steerd_geo_database_age_seconds{{database=\"{}\"}}",
        directory.join("places.mmdb").display()
    );
    assert!(steerd.metric(&age).is_some_and(|age| age > 0.0));

    replace(directory, "list", b"# moved\n11.0.0.0/8\n");
    becomes(&steerd, "11.1.2.0/24", "2");
    assert_eq!(answer(&steerd, "10.1.2.0/24"), "1");
    replace(directory, "places.mmdb", MOVED);
    becomes(&steerd, "198.51.100.0/24", "3");
    assert_eq!(answer(&steerd, "192.0.2.0/24"), "1");

    let failures = "steerd_rule_file_updates_total{result=\"failure\"}";
    assert_eq!(steerd.metric(failures), Some(0.0));
    replace(directory, "places.mmdb", &PLACES[..PLACES.len() / 2]);
    wait_for("the damaged database is refused", || (steerd.metric(failures) == Some(1.0)).then_some(()));
    let (status, refused) = steerd.request("POST", "/api/v1/reload", "");
    assert_eq!(status, 422, "{refused}");
    assert!(refused.to_string().contains("take a complete copy of the .mmdb file"), "{refused}");
    assert_eq!(answer(&steerd, "198.51.100.0/24"), "3", "the earlier database stays in force");
    replace(directory, "places.mmdb", PLACES);
    becomes(&steerd, "192.0.2.0/24", "3");
    assert_eq!(steerd.metric(failures), Some(1.0), "it was refused once");
    assert_eq!(steerd.process.said("the rules stay as they were").len(), 1);
}

#[test]
fn a_reload_reports_what_has_changed_in_rules() {
    let steerd = start();
    fs::write(steerd.directory.path().join("other"), "11.0.0.0/8\n").unwrap();
    let config =
        CONFIG.replace("countries = [\"DE\"]", "countries = [\"FR\"]").replace("\"list\"", "\"other\"");
    steerd.configure(&config, "");
    let (status, report) = steerd.request("POST", "/api/v1/reload", "");
    assert_eq!(status, 200, "{report}");
    let details = report["services"]["changed"][0]["details"].to_string();
    assert!(
        details.contains("rule 1: networks_file ") && details.contains("rule 2: countries DE -> FR"),
        "{report}"
    );
    assert_eq!(answer(&steerd, "11.1.2.0/24"), "2");
    assert_eq!(answer(&steerd, "198.51.100.0/24"), "3");
}

#[test]
fn an_explanation_says_which_rule_applies_and_for_whom() {
    let steerd = start();
    let explain = |client: &str, resolver: &str| {
        let path = format!("/api/v1/explain?name=www.lb.example.test&client={client}{resolver}");
        let (status, told) = steerd.request("GET", &path, "");
        assert_eq!(status, 200, "{told}");
        let service = told["service"].clone();
        (service["rule"].as_u64(), service["rule_clients"].clone(), service["prefix"].clone())
    };
    let list = format!("networks_file {}", steerd.directory.path().join("list").display());
    assert_eq!(explain("10.1.2.3", ""), (Some(1), list.into(), "10.0.0.0/8".into()));
    assert_eq!(explain("192.0.2.7", ""), (Some(2), "countries DE".into(), "192.0.2.0/24".into()));
    // Behind a trusted resolver, and behind one that is not.
    let behind = |resolver: &str| explain("10.1.2.3", &format!("&resolver={resolver}")).0;
    assert_eq!((behind("127.0.0.53"), behind("192.0.2.53")), (Some(1), Some(2)));
    assert_eq!(explain("203.0.113.7", "").0, None);
}
