//! Plans of configurations and of arguments.

use clap::Parser;
use serde_json::{Value, json};

use super::*;
use crate::config;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    planning: Planning,
}

fn parsed(line: &str) -> Planning {
    Line::try_parse_from(["plan"].into_iter().chain(line.split_whitespace())).unwrap().planning
}

/// The figures for arguments, as JSON.
fn figures(line: &str) -> Value {
    let planning = parsed(line);
    let plan = planning.changed(planning.invented()).unwrap();
    Figures::of(&plan, &planning).unwrap_or_else(|error| panic!("{error}")).as_json()
}

#[test]
fn arguments_replace_the_defaults() {
    let default = figures("");
    assert_eq!(default["found_after"]["refuses"], json!({ "least": 2.0, "typical": 4.5, "most": 7.0 }));
    assert_eq!(default["found_after"]["silent"], json!({ "least": 8.0, "typical": 10.5, "most": 13.0 }));
    assert_eq!(
        (&default["backends"], &default["answers"], &default["ttl"]),
        (&json!(10), &json!(2), &json!(20.0))
    );
    let other = figures(
        "--backends 30 --sites 3 --answers 4 --ttl 5s --interval 1s --timeout 300ms --fall 2 --rise 1",
    );
    assert_eq!(
        other["timing"],
        json!({ "interval": 1.0, "timeout": 0.3, "recheck": 1.0, "fall": 2, "rise": 1 })
    );
    assert_eq!(other["found_after"]["silent"], json!({ "least": 1.6, "typical": 2.1, "most": 2.6 }));
    assert_eq!((&other["backends"], &other["sites"], &other["answers"]), (&json!(30), &json!(3), &json!(4)));
    let contradicting = parsed("--interval 1s --timeout 1s");
    assert!(contradicting.changed(contradicting.invented()).is_err());
    for wrong in ["--interval 5", "--fall 0", "--ttl 500ms", "--backends 0", "www.example.com --backends 3"] {
        assert!(Line::try_parse_from(["plan"].into_iter().chain(wrong.split(' '))).is_err(), "{wrong}");
    }
}

#[test]
fn a_lost_site_depends_on_the_spread() {
    let lost = |line: &str| {
        let all = figures(line)["all_dead"].as_array().unwrap().clone();
        all.into_iter().find(|loss| loss["site"] == "site 1").unwrap()
    };
    let three = "--backends 12 --sites 3 --answers 2";
    assert_eq!(lost(three)["part"], 0.0);
    assert_eq!(lost(&format!("{three} --spread always"))["part"], 0.0);
    let off = lost(&format!("{three} --spread off"));
    assert!((off["part"].as_f64().unwrap() - 6.0 / 66.0).abs() < 1e-9 && off["exact"] == true, "{off}");
    let one = lost("--backends 12 --sites 3 --answers 1");
    assert!((one["part"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-9, "{one}");
    assert_eq!(figures("--backends 10 --lose 3 --lose 10")["all_dead"].as_array().unwrap().len(), 2);
    let too_many = parsed("--backends 10 --lose 3 --lose 20");
    let error = Figures::of(&too_many.invented(), &too_many).err().unwrap();
    assert_eq!(error, "--lose 20: only 10 can fail, the backends in answers");
}

/// With the default times, a check each 2 s finds a dead host within 2 s + 3 x 1 s + 2 x 1 s, and one each 10 s later.
#[test]
fn several_checks_decide_as_required() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("steerd.toml");
    let zone = "$TTL 60\n@ SOA ns1 h 1 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.1\n";
    std::fs::write(directory.path().join("zone"), zone).unwrap();
    let planned = |fast: &str, require: &str| {
        let text = format!(
            "[zones.\"example.com\"]\nfile = \"zone\"\n\
             [pools.web]\nbackends = [\"192.0.2.1\", \"192.0.2.2\"]\nrequire = {require}\nchecks = [\
             {{ type = \"tcp\", port = 1, interval = \"2s\", timeout = \"1s\", recheck = \"1s\"{fast} }}, \
             {{ name = \"slow\", type = \"tcp\", port = 2, interval = \"10s\", timeout = \"2s\", recheck = \"1s\" }}]\n\
             [services.\"www.example.com\"]\npools = [\"web\"]\n"
        );
        std::fs::write(&path, text).unwrap();
        let planning = parsed("www.example.com");
        let plan = planning.configured(&config::load(&path).unwrap(), "www.example.com").unwrap();
        Figures::of(&plan, &planning).unwrap_or_else(|error| panic!("{error}"))
    };
    let most = |fast: &str, require: &str| {
        let found = planned(fast, require).as_json()["found_after"].clone();
        ["silent", "recovered", "slowest_check"].map(|key| found[key]["most"].as_f64())
    };
    assert_eq!(most("", "\"all\""), [Some(7.0), Some(11.0), Some(18.0)]);
    assert_eq!(most("", "\"any\""), [Some(18.0), Some(3.0), None]);
    assert_eq!(most(", critical = true", "\"any\""), [Some(7.0), Some(3.0), None]);
    let page = page::render(&planned("", "\"all\""));
    assert!(page.contains("2 checks decide, all must pass\nchecks every 2s"), "{page}");
    assert!(page.contains("a fault that only the slowest check sees  8s"), "{page}");
}

#[test]
fn a_service_is_planned_as_it_is_configured() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("steerd.toml");
    let zone = "$TTL 60\n@ SOA ns1 h 1 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.1\n";
    std::fs::write(directory.path().join("zone"), zone).unwrap();
    let text = "[zones.\"example.com\"]\nfile = \"zone\"\n\
        [pools.web]\nchecks = [{ type = \"tcp\", port = 1, interval = \"2s\", timeout = \"1s\" }, \
        { type = \"tcp\", port = 2, interval = \"30s\", observe_only = true }]\n\
        backends = [{ address = \"192.0.2.1\", site = \"a\", weight = 6 }, { address = \"192.0.2.2\", site = \"a\" }, \
        { address = \"192.0.2.3\", site = \"b\" }, { address = \"192.0.2.4\", weight = 0 }]\n\
        [pools.bare]\nbackends = [\"2001:db8::1\"]\n\
        [services.\"www.example.com\"]\npools = [\"web\", \"bare\"]\nttl = { min = \"5s\", max = \"30s\" }\n\
        [services.\"bare.example.com\"]\npools = [\"bare\"]\n";
    std::fs::write(&path, text).unwrap();
    let setup = config::load(&path).unwrap();
    let planned = |line: &str| {
        let planning = parsed(line);
        let plan = planning.configured(&setup, planning.service.as_deref().unwrap())?;
        planning.changed(plan).and_then(|plan| Figures::of(&plan, &planning))
    };
    let web = planned("WWW.example.com").unwrap_or_else(|error| panic!("{error}"));
    let json = web.as_json();
    assert_eq!(
        (&json["service"], &json["ttl"], &json["backends"]),
        (&json!("www.example.com"), &json!(30.0), &json!(3))
    );
    assert_eq!(json["timing"]["interval"], 2.0, "the other check does not decide");
    let of_site = |site: &str| {
        let all = json["all_dead"].as_array().unwrap();
        all.iter().find(|loss| loss["site"] == site).unwrap()["part"].as_f64().unwrap()
    };
    // The backend of weight 6 is in every answer; the other address is of site `a` in half of them.
    assert!((of_site("a") - 0.5).abs() < 1e-9 && of_site("b") == 0.0, "{json}");
    // The negative TTL of the zone is 5 s: 3.27 queries a second for A, and 17.86 for AAAA.
    assert_eq!(json["negative_ttl"], 5.0);
    assert!((json["queries_per_second"].as_f64().unwrap() - 21.125).abs() < 0.01, "{json}");
    let bare = planned("bare.example.com --ttl 1m").unwrap_or_else(|error| panic!("{error}"));
    assert!(page::render(&bare).contains("no check decides"));
    assert_eq!(bare.as_json()["family"], "ipv6");
    let missing = planned("else.example.com").err().unwrap();
    assert!(
        missing.ends_with("has no service else.example.com; it has www.example.com, bare.example.com"),
        "{missing}"
    );
}
