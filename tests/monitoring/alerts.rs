//! Alert rules: promtool accepts them, each has a unit test and a section in the runbook, and a real Prometheus fires.

use std::collections::BTreeSet;

use crate::accepting::Accepting;
use crate::prometheus::{Prometheus, promtool};
use crate::read;
use crate::support::{Steerd, free_port, wait_for};

const ZONE: &str = "$TTL 300\n@ SOA ns1 hostmaster 1 3600 900 604800 2\n@ NS ns1\nns1 A 127.0.0.1\n";

/// The files with the unit tests of the rules, one for each group.
const TESTS: [&str; 4] =
    ["tests/answers.yml", "tests/backends.yml", "tests/checks.yml", "tests/configuration.yml"];

/// The names after `- alert: ` in the file of rules.
fn alerts() -> Vec<String> {
    let rules = read("examples/monitoring/rules.yml");
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

#[test]
fn promtool_accepts_the_files_and_each_alert_passes_its_unit_tests() {
    promtool(&["check", "config", "prometheus.yml"]);
    let said = promtool(&["check", "rules", "rules.yml"]);
    assert!(said.contains(&format!("{} rules found", alerts().len())), "{said}");
    promtool(&[&["test", "rules"], &TESTS[..]].concat());
    let tests = TESTS.map(|path| read(&format!("examples/monitoring/{path}"))).concat();
    for alert in alerts() {
        for case in ["fires", "is silent"] {
            assert!(tests.contains(&format!("- name: {alert} {case}\n")), "no unit test: {alert} {case}");
        }
        assert!(tests.contains(&format!("{{alertname=\"{alert}\"}}")), "no test expects {alert}");
    }
    // An alert without `for` is never pending, so this expectation fails if `for` is removed.
    let rules = read("examples/monitoring/rules.yml");
    let waiting = rules.split("- alert: ").skip(1).filter(|rule| rule.contains("\n        for: "));
    for alert in waiting.filter_map(|rule| rule.lines().next()) {
        let pending = format!("{{alertname=\"{alert}\", alertstate=\"pending\"}}");
        assert!(tests.contains(&pending), "no test of {alert} before its `for` is over");
    }
}

/// The runbook has a section for each alert, in the order of the rules, and each has the four parts.
#[test]
fn each_alert_has_exactly_its_section_in_the_runbook() {
    let runbook = read("docs/RUNBOOK.md");
    let sections: Vec<(&str, &str)> = runbook
        .split("\n## ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap())
        .take_while(|(title, _)| *title != "Troubleshooting")
        .collect();
    let titles: Vec<&str> = sections.iter().map(|(title, _)| *title).collect();
    assert_eq!(titles, alerts());
    for (title, text) in sections {
        for part in ["**Means**", "**Clients see**", "**Look**\n\n```sh\n", "**Mend:**"] {
            assert_eq!(text.matches(part).count(), 1, "{title}: {part}");
        }
    }
}

#[test]
fn prometheus_fires_while_a_service_fails_open() {
    let port = free_port("127.0.0.1");
    let backend = Accepting::start(&format!("127.0.0.1:{port}"));
    let config = format!(
        "[zones.\"lb.example.test\"]\nfile = \"zone\"\n[pools.web]\nbackends = [\"127.0.0.1\"]\n\
         check = {{ type = \"tcp\", port = {port}, interval = \"300ms\", timeout = \"200ms\", recheck = \"100ms\" }}\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\n"
    );
    let steerd = Steerd::start(&config, &[("zone", ZONE)]);
    let prometheus = Prometheus::start(steerd.admin);

    // The rules have the texts that an operator needs, as Prometheus read them.
    let rules = prometheus.rules();
    let names: Vec<&str> = rules.iter().map(|rule| rule["name"].as_str().unwrap()).collect();
    assert_eq!(names, alerts());
    for rule in &rules {
        let name = rule["name"].as_str().unwrap();
        assert!(
            ["critical", "warning", "info"].iter().any(|&one| rule["labels"]["severity"] == one),
            "{name}"
        );
        let texts: BTreeSet<&str> =
            rule["annotations"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(texts, BTreeSet::from(["description", "runbook_url", "summary"]), "{name}");
        let url = rule["annotations"]["runbook_url"].as_str().unwrap();
        assert!(url.ends_with(&format!("/RUNBOOK.md#{}", name.to_lowercase())), "{url}");
        assert!(rule["lastError"].is_null(), "{rule}");
    }

    wait_for("the rules have been evaluated", || {
        let rules = prometheus.rules();
        rules.iter().all(|rule| rule["health"] == "ok").then_some(())
    });
    // With its shortened time it may fire before the first scrape.
    wait_for("SteerdNotScraped ends", || {
        (!prometheus.firing().contains(&"SteerdNotScraped".to_owned())).then_some(())
    });
    assert_eq!(prometheus.firing(), [""; 0], "all is well");
    drop(backend);
    for alert in ["SteerdFailOpen", "SteerdPoolUnusable"] {
        wait_for(&format!("{alert} fires"), || prometheus.firing().contains(&alert.to_owned()).then_some(()));
    }
    let _backend = Accepting::start(&format!("127.0.0.1:{port}"));
    wait_for("the alert ends", || {
        (!prometheus.firing().contains(&"SteerdFailOpen".to_owned())).then_some(())
    });
}
