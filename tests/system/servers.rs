//! Several servers that one command tells at once, or shows side by side.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{STEERD, ZONE, free_port};
use crate::support::{Steerd, TOKEN};

const CONFIG: &str = "[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
     [pools.web]\nbackends = [\n\
     { name = \"gw1\", address = \"192.0.2.11\" }, { name = \"gw2\", address = \"192.0.2.12\" },\n]\n\
     [services.\"www.lb.example.test\"]\npools = [\"web\"]\n";

fn start() -> Steerd {
    Steerd::start(CONFIG, &[("zone", ZONE), ("token", TOKEN)])
}

/// A server that changes nothing for clients without its token.
fn start_with_token() -> Steerd {
    let server = start();
    server.configure(CONFIG, "token_file = \"token\"");
    assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
    server
}

fn url(server: &Steerd) -> String {
    format!("http://{}", server.admin)
}

/// The exit code, standard output, and standard error.
fn steerd(arguments: &[&str], servers: &[&str]) -> (i32, String, String) {
    let admin = servers.iter().flat_map(|url| ["--admin", url]);
    let output = Command::new(STEERD).args(arguments).args(admin).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn percent(server: &Steerd) -> Value {
    let (_, pool) = server.request("GET", "/api/v1/pools/web", "");
    pool["backends"][0]["weight_override"]["percent"].clone()
}

#[test]
fn each_of_two_servers_tells_its_result_and_one_refuses() {
    let (open, closed) = (start(), start_with_token());
    let urls = [url(&open), url(&closed)];
    let both = [&*urls[0], &*urls[1]];
    let canary = ["weight", "web/gw1", "10%", "--reason", "canary"];
    let (code, out, error) = steerd(&canary, &both);
    assert_eq!(code, 1, "{out}{error}");
    assert!(out.starts_with(&format!("{}: web/gw1: 10% of its weight", urls[0])), "{out}");
    assert!(error.contains(&format!("{}: error: ", urls[1])) && error.contains("token"), "{error}");
    assert_eq!((percent(&open), percent(&closed)), (json!(10), Value::Null));

    let (code, page, _) = steerd(&["status"], &both);
    assert_eq!(code, 0, "a difference is no trouble: {page}");
    let line = page.lines().find(|line| line.contains("web/gw1")).unwrap();
    assert!(line.contains("10% of 1") && line.ends_with("differs"), "{page}");
    assert!(page.contains("the servers differ in 1 line"), "{page}");
    assert!(page.lines().all(|line| line.chars().count() <= 100), "{page}");

    let token = open.directory.path().join("token").display().to_string();
    let with_token = ["weight", "web/gw1", "20%", "--token-file", &token];
    let (code, out, error) = steerd(&with_token, &both);
    assert_eq!(
        (code, out.lines().filter(|line| line.contains("20% of its weight")).count()),
        (0, 2),
        "{error}"
    );
    assert_eq!((percent(&open), percent(&closed)), (json!(20), json!(20)));
    assert!(steerd(&["status"], &both).1.contains("the servers agree"));
}

#[test]
fn a_server_that_is_not_reached_delays_no_other() {
    let server = start();
    let urls = [format!("http://127.0.0.1:{}", free_port("127.0.0.1")), url(&server)];
    let both = [&*urls[0], &*urls[1]];
    let (code, out, error) = steerd(&["drain", "web/gw1"], &both);
    assert_eq!(code, 1);
    assert!(out.contains(&format!("{}: web/gw1: drain", urls[1])), "{out}");
    assert!(error.contains(&format!("{}: error: no steerd answers", urls[0])), "{error}");
    let (code, page, _) = steerd(&["status"], &both);
    assert!(code == 1 && page.contains("error: no steerd answers"), "{page}");
    let (code, text, _) = steerd(&["auto", "web/gw1", "--json"], &both);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &told[0]["server"], &told[1]["reply"]["before"]),
        (1, &json!(urls[0]), &json!("drain"))
    );
    assert!(told[0]["error"].as_str().unwrap().contains("no steerd answers"), "{text}");
    let (code, text, _) = steerd(&["status", "--json"], &both);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &told["differences"], &told["servers"][1]["server"]), (1, &json!([]), &json!(urls[1])));
    assert_eq!(told["servers"][1]["status"]["services"][0]["down"], false);
}

/// The last usable backend of one of them: that one refuses, the other does not.
#[test]
fn consequences_are_those_of_each_server() {
    let (first, second) = (start(), start());
    let urls = [url(&first), url(&second)];
    let both = [&*urls[0], &*urls[1]];
    assert_eq!(steerd(&["drain", "web/gw2"], &both[..1]).0, 0);
    let (code, out, error) = steerd(&["drain", "web/gw1"], &both);
    assert_eq!(code, 1, "{error}");
    assert!(out.starts_with(&format!("{}: web/gw1: drain", urls[1])), "{out}");
    assert!(error.contains(&format!("would interrupt service at {}", urls[0])), "{error}");
    assert!(error.contains("nothing has changed there; to do it anyway, add --force"), "{error}");
    let (code, out, _) = steerd(&["drain", "web/gw1", "--force"], &both);
    assert_eq!((code, out.matches("web/gw1: drain").count()), (0, 2), "{out}");
    assert_eq!(steerd(&["status"], &both).0, 1, "the first fails open");
}

#[test]
fn the_servers_may_stand_in_the_file() {
    let (open, closed) = (start(), start_with_token());
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("client.toml");
    let admin =
        format!("[client]\nadmin = [\"{}\", \"{}\"]\ntoken_file = \"token\"\n", url(&open), url(&closed));
    std::fs::write(&file, admin).unwrap();
    std::fs::write(directory.path().join("token"), TOKEN).unwrap();
    let file = file.display().to_string();
    let (code, out, error) = steerd(&["weight", "web/gw1", "50%", "-c", &file], &[]);
    assert_eq!((code, out.matches("50% of its weight").count()), (0, 2), "{error}");
    let (code, page, _) = steerd(&["status", "-c", &file], &[]);
    assert!(code == 0 && page.contains("the servers agree"), "{page}");
    let (code, _, error) = steerd(&["explain", "www.lb.example.test", "-c", &file], &[]);
    assert!(code == 1 && error.contains("this command speaks to one server: give one of http://"), "{error}");
    assert_eq!(steerd(&["status", "-c", &file], &[&url(&open)]).0, 0, "the arguments count first");
}
