//! `steerd alerts test`, and the commands of the guide.

use std::process::Command;

use serde_json::Value;

use crate::receiver::{Manner, Receiver};
use crate::scene::Scene;
use crate::support::STEERD;

#[test]
fn a_test_says_what_each_receiver_says() {
    let (good, bad) = (Receiver::start(), Receiver::start());
    bad.behave(Manner::Reply("403 Forbidden\r\n"));
    let alerts = format!(
        "[[alerts]]\nname = \"good\"\nurl = \"{}\"\n[[alerts]]\nname = \"bad\"\nurl = \"{}\"\ntemplate = \"slack\"\n",
        good.url(),
        bad.url()
    );
    // A server that runs with it is not needed, and does not notice.
    let scene = Scene::start(71, &alerts);
    let said = scene.command(&["alerts", "test"]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("good: delivered in ") && lines[0].ends_with(" ms: HTTP 200 OK"), "{said}");
    assert!(
        lines[1].starts_with("bad: NOT delivered after ")
            && lines[1].ends_with(" ms: HTTP 403 Forbidden: \"said\""),
        "{said}"
    );
    assert_eq!(lines[2], "exit 1");
    assert_eq!((&good.nth(0).body["status"], &good.nth(0).body["alert"]), (&"test".into(), &"good".into()));
    assert!(bad.nth(0).body["text"].as_str().unwrap().contains("TEST of the alert bad: nothing is wrong"));

    let said = scene.command(&["alerts", "test", "good", "--json"]);
    let json: Value = serde_json::from_str(said.strip_suffix("exit 0").unwrap()).unwrap();
    assert_eq!(
        (&json[0]["alert"], &json[0]["delivered"], &json[0]["said"]),
        (&"good".into(), &true.into(), &"HTTP 200 OK".into())
    );
    assert_eq!((good.got().len(), bad.got().len()), (2, 1));
    let said = scene.command(&["alerts", "test", "goud"]);
    assert!(
        said.contains("has no alert `goud`")
            && said.contains("did you mean `good`?")
            && said.ends_with("exit 1"),
        "{said}"
    );
}

#[test]
fn a_configuration_without_alerts_has_nothing_to_test() {
    let scene = Scene::start(72, "");
    let said = scene.command(&["alerts", "test"]);
    assert!(said.contains("has no [[alerts]]") && said.ends_with("exit 1"), "{said}");
}

/// The first configuration of the guide, its zone, and its command.
#[test]
fn the_guide_works() {
    let guide = include_str!("../../docs/ALERTING.md");
    let block = |language: &str| {
        let (_, rest) = guide.split_once(&format!("```{language}\n")).unwrap();
        rest.split_once("```").unwrap().0
    };
    let directory = tempfile::TempDir::new().unwrap();
    let log = directory.path().join("log");
    let config = block("toml").replace("/tmp/steerd-alerts.log", &log.display().to_string());
    std::fs::write(directory.path().join("steerd.toml"), config).unwrap();
    std::fs::write(directory.path().join("lb.example.com.zone"), block("zone")).unwrap();
    let commands = guide.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let mut run = 0;
    for line in commands.flat_map(str::lines) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[0], "steerd", "{line}");
        let mut command = Command::new(STEERD);
        let output = command
            .args(&words[1..])
            .env("STEERD_CONFIG", directory.path().join("steerd.toml"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        run += 1;
    }
    assert!(run > 0);
    let message: Value = serde_json::from_slice(&std::fs::read(log).unwrap()).unwrap();
    assert_eq!(message["status"], "test");
    // The message of the guide has the fields of a real one, also without those that a test lacks.
    let shown: Value =
        serde_json::from_str(guide.rsplit_once("```json\n").unwrap().1.split_once("```").unwrap().0).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&shown), keys(&message));
    assert_eq!(keys(&shown["conditions"][0]), keys(&message["conditions"][0]));
}
