//! The way back: kept configurations, rollbacks, and what never gets into them.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{STEERD, ZONE, dig, wait_for};
use crate::support::Steerd;

const WWW: &str = "www.lb.example.test";
const SECRETS: [&str; 3] =
    ["0123456789abcdef", "c3RlZXJkLXRyYW5zZmVyLXRlc3Qta2V5LTMyLWJ5dGU=", "T0/B0/hook-secret"];

fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    for (name, text) in [
        ("zone", ZONE),
        ("token", SECRETS[0]),
        ("key", SECRETS[1]),
        ("networks", "192.0.2.0/24\n"),
        ("more.toml", "[pools.more]\nbackends = [\"192.0.2.99\"]\n"),
    ] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    std::fs::create_dir(directory.path().join("state")).unwrap();
    directory
}

/// A configuration whose service has one backend, with a zone, an include, a list of networks and secrets.
fn config(backend: &str) -> String {
    format!(
        "state_dir = \"state\"\nstartup_wait = \"0s\"\n[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
         transfer = {{ keys = [\"k\"] }}\n[keys.k]\nalgorithm = \"hmac-sha256\"\nsecret_file = \"key\"\n\
         [pools.web]\nbackends = [{{ name = \"one\", address = \"{backend}\" }}]\n\
         [services.\"{WWW}\"]\npools = [\"web\"]\nrules = [{{ networks_file = \"networks\", pools = [\"more\"] }}]\n\
         [[alerts]]\nname = \"chat\"\nurl = \"http://127.0.0.1:9/{}\"\n",
        SECRETS[2]
    )
}

const ADMIN: &str = "token_file = \"token\"\n";

/// Writes a configuration with its include.
fn write(server: &Steerd, backend: &str) {
    server.configure(&config(backend), ADMIN);
    let path = server.directory.path().join("steerd.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("include = [\"*.toml\"]\n{text}")).unwrap();
}

fn reload(server: &Steerd, backend: &str) {
    write(server, backend);
    let (status, report) = server.request("POST", "/api/v1/reload", "");
    assert_eq!(status, 200, "{report:#}");
}

fn addresses(server: &Steerd) -> Vec<String> {
    dig(server.dns, &server.ledger.sent, &[WWW, "A"])
}

fn numbers(server: &Steerd) -> Vec<(u64, bool)> {
    let (_, kept) = server.request("GET", "/api/v1/configurations", "");
    let kept = kept["configurations"].as_array().unwrap();
    kept.iter().map(|set| (set["number"].as_u64().unwrap(), set["running"] == true)).collect()
}

fn running(server: &Steerd) -> Value {
    server.request("GET", "/api/v1/config", "").1
}

fn steerd(server: &Steerd, arguments: &[&str]) -> (bool, String) {
    let admin = format!("http://{}", server.admin);
    let token = server.directory.path().join("token");
    let mut command = Command::new(STEERD);
    command.args(arguments).args(["--admin", &admin, "--token-file"]).arg(token);
    let output = command.output().unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
    )
}

/// A server that has loaded three configurations, with the backends 192.0.2.1 to 192.0.2.3.
fn started() -> Steerd {
    let server = Steerd::start_in(
        directory(),
        &config("192.0.2.1").replace("rules = [{ networks_file = \"networks\", pools = [\"more\"] }]\n", ""),
    );
    reload(&server, "192.0.2.2");
    reload(&server, "192.0.2.3");
    server
}

#[test]
fn a_server_goes_back_and_forth_and_says_that_the_files_are_others() {
    let server = started();
    assert_eq!(numbers(&server), [(3, true), (2, false), (1, false)]);
    assert_eq!(addresses(&server), ["192.0.2.3"]);
    let (success, said) = steerd(&server, &["rollback", "--dry-run"]);
    assert!(
        success && said.contains("would go back to the configuration 2") && said.contains("backend one"),
        "{said}"
    );
    assert_eq!(addresses(&server), ["192.0.2.3"], "a dry run changes nothing");
    let (success, said) = steerd(&server, &["rollback"]);
    assert!(success && said.starts_with("went back to the configuration 2 of "), "{said}");
    assert!(said.contains("the files on disk are as they were: correct them"), "{said}");
    assert_eq!(addresses(&server), ["192.0.2.2"]);
    assert_eq!(numbers(&server), [(3, false), (2, true), (1, false)]);
    let (_, status) = server.request("GET", "/api/v1/status", "");
    let notice = status["notices"][0].as_str().unwrap();
    assert!(
        notice.starts_with("this server runs the configuration 2 of ")
            && notice.contains("not the files on disk"),
        "{notice}"
    );
    assert!(steerd(&server, &["status"]).1.starts_with("ATTENTION: this server runs the configuration 2"));
    assert_eq!(server.metric("steerd_config_rolled_back"), Some(1.0));
    let (_, said) = steerd(&server, &["rollback", "--list"]);
    assert!(said.contains("2 (runs)") && said.contains("the start"), "{said}");
    let (success, said) = steerd(&server, &["config"]);
    assert!(success && said.contains("ATTENTION") && said.contains("on disk  others"), "{said}");
    // Again leads one further back; then there is nothing more.
    assert_eq!(server.request("POST", "/api/v1/rollback", "").0, 200);
    assert_eq!(
        (addresses(&server), running(&server)["number"].as_u64()),
        (vec!["192.0.2.1".into()], Some(1))
    );
    let (status, problem) = server.request("POST", "/api/v1/rollback", "");
    assert_eq!(
        (status, problem["detail"].as_str()),
        (409, Some("nothing has changed: no earlier configuration is kept"))
    );
    let (status, problem) = server.request("POST", "/api/v1/rollback", r#"{"to":9}"#);
    assert!(
        status == 409
            && problem["detail"].as_str().unwrap().contains("there is no configuration 9; kept are 3, 2, 1"),
        "{problem}"
    );
    assert_eq!(server.request("POST", "/api/v1/rollback", r#"{"to":3}"#).0, 200);
    assert_eq!(addresses(&server), ["192.0.2.3"]);
    // A reload reads the files again.
    reload(&server, "192.0.2.4");
    assert_eq!((addresses(&server), numbers(&server)[0]), (vec!["192.0.2.4".into()], (4, true)));
    assert_eq!(server.metric("steerd_config_rolled_back"), Some(0.0));
    assert_eq!(server.request("GET", "/api/v1/status", "").1["notices"], json!([]));
    assert_eq!(server.process.said("the configuration of the files is in force again").len(), 1);
    let (_, audit) = server.request("GET", "/api/v1/audit?action=rollback", "");
    let outcomes: Vec<&str> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|entry| entry["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["done", "done", "refused", "refused", "done"]);
    // A restart ends a rollback: it reads the files, whose texts are kept already.
    assert_eq!(server.request("POST", "/api/v1/rollback", "").0, 200);
    assert_eq!(numbers(&server)[..2], [(4, false), (3, true)]);
    let server = Steerd::start_again(server.end("KILL"));
    assert_eq!(addresses(&server), ["192.0.2.4"]);
    wait_for("the set is known", || (numbers(&server)[0] == (4, true)).then_some(()));
    assert_eq!(server.metric("steerd_config_rolled_back"), Some(0.0));
}

/// A rollback gives up the newest set, and a start must not revive it.
#[test]
fn a_start_with_the_last_good_files_stays_rolled_back_and_says_why_if_it_cannot() {
    let server = started();
    assert_eq!(server.request("POST", "/api/v1/rollback", "").0, 200);
    assert_eq!(addresses(&server), ["192.0.2.2"]);
    let faulty = format!("start_with_last_good = true\nodd = 1\n{}", config("192.0.2.9"));
    let server = Steerd::start_in(server.end("KILL"), &faulty);
    assert_eq!(
        (addresses(&server), running(&server)["number"].as_u64()),
        (vec!["192.0.2.2".into()], Some(2))
    );
    // Without the key, none can be loaded.
    let directory = server.end("TERM");
    std::fs::remove_file(directory.path().join("key")).unwrap();
    let path = directory.path().join("steerd.toml");
    let output = Command::new(STEERD).args(["serve", "-c"]).arg(&path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let reasons: Vec<&str> =
        said.lines().filter(|line| line.starts_with("no start with an earlier configuration: ")).collect();
    let numbers = [2, 1, 3].map(|number| format!("the configuration {number} cannot be loaded: "));
    assert_eq!(reasons.len(), 3, "{said}");
    for (reason, number) in reasons.iter().zip(numbers) {
        assert!(reason.contains(&number) && reason.contains("key`: No such file"), "{said}");
    }
}

#[test]
fn a_rollback_takes_the_kept_texts_of_all_files_and_secrets_from_their_place() {
    let server = started();
    let at = |name: &str| server.directory.path().join(name);
    // An include, the list and the zone change, and with them the answers.
    std::fs::write(at("more.toml"), "[pools.more]\nbackends = [\"192.0.2.77\"]\n").unwrap();
    std::fs::write(at("networks"), "127.0.0.0/8\n").unwrap();
    std::fs::write(at("zone"), ZONE.replace("192.0.2.80", "192.0.2.81")).unwrap();
    reload(&server, "192.0.2.3");
    let fixed = || dig(server.dns, &server.ledger.sent, &["static.lb.example.test", "A"]);
    assert_eq!((addresses(&server), fixed()), (vec!["192.0.2.77".into()], vec!["192.0.2.81".into()]));
    for name in ["more.toml", "networks", "zone"] {
        std::fs::remove_file(at(name)).unwrap();
    }
    assert_eq!(server.request("POST", "/api/v1/rollback", "").0, 200);
    assert_eq!((addresses(&server), fixed()), (vec!["192.0.2.3".into()], vec!["192.0.2.80".into()]));
    // Without the key, the set cannot be loaded, and nothing changes.
    std::fs::remove_file(at("key")).unwrap();
    let (status, problem) = server.request("POST", "/api/v1/rollback", "");
    assert_eq!(status, 422, "{problem}");
    let message = problem["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("key") && message.contains("No such file"), "{message}");
    assert_eq!(addresses(&server), ["192.0.2.3"]);
}

#[test]
fn secrets_are_neither_kept_nor_shown() {
    let server = started();
    let (_, text) = crate::harness::http_get(server.admin, "/api/v1/config");
    assert!(text.contains("[pools.web]") && text.contains("http://127.0.0.1:9/***"), "{text}");
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let config: Value = serde_json::from_str(&text).unwrap();
    let files = config["files"].as_array().unwrap();
    let secret = |file: &&Value| file["kind"] == "secret";
    assert!(
        files.iter().filter(secret).count() == 2
            && files.iter().filter(secret).all(|file| file["sha256"].is_null()),
        "{text}"
    );
    assert!(
        files.iter().any(|file| file["kind"] == "networks" && file["sha256"].as_str().unwrap().len() == 64),
        "{text}"
    );
    // A kept set has only the texts of the configuration itself, for the owner alone.
    for number in 1..=3 {
        use std::os::unix::fs::PermissionsExt;

        let path = server.directory.path().join(format!("state/configurations/{number}.jsonl"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(SECRETS[..2].iter().all(|secret| !text.contains(secret)), "{text}");
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn sets_are_whole_after_kills_and_without_a_directory_a_reload_succeeds() {
    let mut directory = directory();
    for round in 1..4_u32 {
        let server = Steerd::start_in(
            directory,
            &config("192.0.2.1")
                .replace("rules = [{ networks_file = \"networks\", pools = [\"more\"] }]\n", ""),
        );
        for number in 0..round {
            reload(&server, &format!("192.0.2.{}", 10 * round + number));
        }
        write(&server, &format!("192.0.2.{}", 10 * round + 9));
        server.process.signal("HUP");
        directory = server.end("KILL");
        for entry in std::fs::read_dir(directory.path().join("state/configurations")).unwrap() {
            let path = entry.unwrap().path();
            let is_set = path.extension().is_some_and(|extension| extension == "jsonl");
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(
                !is_set || text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()),
                "{}",
                path.display()
            );
        }
    }
    let server = Steerd::start_in(
        directory,
        &config("192.0.2.1").replace("rules = [{ networks_file = \"networks\", pools = [\"more\"] }]\n", ""),
    );
    let (_, kept) = server.request("GET", "/api/v1/configurations", "");
    assert!(
        kept["configurations"].as_array().unwrap().iter().all(|set| set["damaged"].is_null()),
        "{kept:#}"
    );
    wait_for("the set of the start is kept", || running(&server)["number"].as_u64());
    let sets = server.directory.path().join("state/configurations");
    std::fs::remove_dir_all(&sets).unwrap();
    std::fs::write(sets, "in the way").unwrap();
    reload(&server, "192.0.2.5");
    assert_eq!(addresses(&server), ["192.0.2.5"]);
    wait_for("the log says so", || server.process.said("could not be kept in state_dir").pop());
    assert_eq!(server.request("POST", "/api/v1/rollback", "").0, 409);
}

#[test]
fn a_start_with_faulty_files_runs_the_last_good_ones_if_it_may_and_says_so() {
    let server = started();
    let directory = server.end("TERM");
    let last_good = format!("start_with_last_good = true\nodd = 1\n{}", config("192.0.2.9"));
    let server = Steerd::start_in(directory, &last_good);
    assert_eq!(addresses(&server), ["192.0.2.3"]);
    let running = running(&server);
    assert_eq!((&running["origin"], &running["number"]), (&json!("last_good"), &json!(3)), "{running:#}");
    let notice = running["notice"].as_str().unwrap();
    assert!(notice.contains("not the files on disk") && notice.contains("unknown key `odd`"), "{notice}");
    assert_eq!(server.metric("steerd_config_last_good"), Some(1.0));
    assert_eq!(server.metric("steerd_config_last_reload_success"), Some(0.0));
    assert!(!server.process.said("unknown key `odd`").is_empty());
    wait_for("the event is told", || {
        server.process.said("this server runs the last good configuration, 3 of").pop()
    });
    // A reload of corrected files ends it.
    reload(&server, "192.0.2.8");
    assert_eq!(
        (addresses(&server), server.metric("steerd_config_last_good")),
        (vec!["192.0.2.8".into()], Some(0.0))
    );
    // Without the key, such a start is refused.
    let directory = server.end("TERM");
    let path = directory.path().join("steerd.toml");
    std::fs::write(&path, format!("[server]\nodd = 1\n{}", config("192.0.2.9"))).unwrap();
    let output = Command::new(STEERD).args(["serve", "-c"]).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}
