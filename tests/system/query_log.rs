//! The query log: lines in a file, switched by the configuration and by operators.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{STEERD, ZONE, wait_for};
use crate::support::{Steerd, full_dig};

const CONFIG: &str = "client_subnet = [\"127.0.0.0/8\"]\n\
     [zones.\"lb.example.test\"]\nfile = \"zone\"\n\
     [pools.web]\nbackends = [{ name = \"gw1\", address = \"192.0.2.11\" }]\n\
     [services.\"www.lb.example.test\"]\npools = [\"web\"]\n";

fn start(keys: &str) -> Steerd {
    Steerd::start(&format!("{keys}{CONFIG}"), &[("zone", ZONE)])
}

fn ask(server: &Steerd, arguments: &[&str]) {
    full_dig(server.dns, &server.ledger.sent, arguments);
}

/// The lines of a log once there are so many.
fn lines(path: &Path, count: usize) -> Vec<Value> {
    wait_for("the lines are in the file", || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.len() >= count).then_some(lines)
    })
}

#[test]
fn each_line_says_who_asked_what_and_got_which_answer() {
    let server = start("query_log = { file = \"q.jsonl\", sample = \"100%\" }\n");
    ask(&server, &["WWW.lb.example.test", "A", "+subnet=198.51.100.0/24"]);
    ask(&server, &["no.lb.example.test", "AAAA", "+tcp"]);
    ask(&server, &["a\\\"b\\027\\255.lb.example.test", "TYPE65280"]);
    ask(&server, &["lb.example.test", "AXFR", "+tcp"]);
    let lines = lines(&server.directory.path().join("q.jsonl"), 4);
    let first = &lines[0];
    for (member, expected) in [
        ("client", json!("127.0.0.2")),
        ("transport", json!("udp")),
        ("name", json!("www.lb.example.test")),
        ("type", json!("A")),
        ("client_subnet", json!("198.51.100.0/24")),
        ("outcome", json!("reply")),
        ("rcode", json!("NOERROR")),
        ("truncated", json!(false)),
        ("service", json!("www.lb.example.test")),
        ("pool", json!("web")),
        ("backends", json!(["gw1"])),
    ] {
        assert_eq!(first[member], expected, "{member}: {first}");
    }
    assert!(first["bytes"].as_u64().unwrap() > 50 && first["microseconds"].as_f64().unwrap() > 0.0);
    assert!(first["time"].as_str().unwrap().starts_with("20") && first["port"].as_u64().unwrap() > 0);
    let of = |line: &Value| json!([line["transport"], line["name"], line["type"], line["rcode"]]);
    assert_eq!(of(&lines[1]), json!(["tcp", "no.lb.example.test", "AAAA", "NXDOMAIN"]));
    assert_eq!(of(&lines[2]), json!(["udp", "a\\\"b\\027\\255.lb.example.test", "TYPE65280", "NXDOMAIN"]));
    assert_eq!(of(&lines[3]), json!(["tcp", "lb.example.test", "AXFR", "REFUSED"]));
    assert_eq!(server.metric("steerd_query_log_written_total"), Some(4.0));
    assert_eq!(server.metric("steerd_query_log_dropped_total"), Some(0.0));
    assert_eq!(server.metric("steerd_query_log_sample_ratio"), Some(1.0));
}

#[test]
fn a_reload_changes_it_and_addresses_can_be_cut() {
    let server = start("");
    ask(&server, &["www.lb.example.test", "A"]);
    let reload = |keys: &str| {
        server.configure(&format!("{keys}{CONFIG}"), "");
        let (status, report) = server.request("POST", "/api/v1/reload", "");
        assert_eq!(status, 200, "{report}");
        report["server"]["changed"][0]["details"][0].as_str().unwrap().to_owned()
    };
    let path = server.directory.path().join("q.jsonl");
    let told = reload("query_log = { file = \"q.jsonl\", sample = \"100%\", anonymize = true }\n");
    assert_eq!(told, format!("none -> 100% to {}, networks only", path.display()));
    // A worker that waits for queries notices within 0.1 seconds.
    let shown = wait_for("a query is in the log", || {
        ask(&server, &["www.lb.example.test", "A", "+subnet=198.51.100.77/32"]);
        std::fs::read_to_string(&path).ok().filter(|text| text.contains('\n'))
    });
    let first: Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
    assert_eq!(
        json!([first["client"], first["port"], first["client_subnet"]]),
        json!(["127.0.0.0/24", null, "198.51.100.0/24"])
    );
    let off = reload("");
    assert!(off.ends_with("-> none"), "{off}");
    wait_for("the thread has ended", || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.process.id())).unwrap();
        let mut names =
            tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
        (!names.any(|name| name.trim() == "query-log")).then_some(())
    });
}

#[test]
fn an_operator_switches_it_for_a_time_and_it_ends_by_itself() {
    let server = start("");
    let run = |arguments: &[&str]| {
        let output = Command::new(STEERD)
            .args(arguments)
            .arg("--admin")
            .arg(format!("http://{}", server.admin))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = run(&["query-log", "on"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("the query log has no file: set `query_log = { file ="), "{said}");
    server.configure(&format!("state_dir = \".\"\n{CONFIG}"), "");
    assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
    let (code, said) = run(&["query-log", "on", "--sample", "100%", "--for", "3s"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("query log: on, 100% of the queries to") && said.contains("without a token"),
        "{said}"
    );
    let path = server.directory.path().join("queries.jsonl");
    wait_for("a query is in the log", || {
        ask(&server, &["www.lb.example.test", "A"]);
        std::fs::metadata(&path).ok().filter(|file| file.len() > 0).map(drop)
    });
    let status = || server.request("GET", "/api/v1/query-log", "").1;
    wait_for("it has ended by itself", || (status()["on"] == false).then_some(()));
    let (_, said) = run(&["query-log", "status"]);
    assert!(said.starts_with("query log: off, as configured; "), "{said}");
    assert_eq!(server.metric("steerd_query_log_sample_ratio"), Some(0.0));
    for (body, expected) in [
        ("{\"sample\": \"101%\"}", "`sample`: expected a percentage from 0% to 100%"),
        ("{\"sample\": \"1%\", \"for\": \"0s\"}", "`for`: expected a duration"),
        ("{}", "the body must be an object such as"),
    ] {
        let (status, problem) = server.request("PUT", "/api/v1/query-log", body);
        assert_eq!(status, 400);
        assert!(problem["detail"].as_str().unwrap().starts_with(expected), "{problem}");
    }
    assert_eq!(server.request("PUT", "/api/v1/query-log", "{\"sample\": \"0.5%\"}").1["sample"], "0.5%");
    let (_, said) = run(&["query-log", "off"]);
    assert!(said.starts_with("query log: off, as configured"), "{said}");
    let (_, audit) = server.request("GET", "/api/v1/audit?action=query-log", "");
    let entries = audit["entries"].as_array().unwrap();
    let outcomes: Vec<&str> = entries.iter().map(|entry| entry["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["done", "done", "done", "refused"], "{audit}");
    assert_eq!(entries[2]["after"], "100% for 3s", "{audit}");
    let events = run(&["events", "--kind", "server"]).1;
    assert!(events.contains("the query log was switched for a time"), "{events}");
    assert!(events.contains("the query log follows the configuration again"), "{events}");
}

#[test]
fn a_file_that_cannot_be_written_costs_no_answer() {
    let server = start("query_log = { file = \"late/q.jsonl\", sample = \"100%\" }\n");
    let dropped = || server.metric("steerd_query_log_dropped_total").unwrap();
    wait_for("samples are dropped", || {
        let shown = full_dig(server.dns, &server.ledger.sent, &["www.lb.example.test", "A"]);
        assert!(shown.contains("192.0.2.11"), "{shown}");
        (dropped() > 1.0).then_some(())
    });
    let told = server.process.said("the query log cannot be written");
    assert_eq!(told.len(), 1, "{told:?}");
    std::fs::create_dir(server.directory.path().join("late")).unwrap();
    wait_for("it is written again", || {
        ask(&server, &["www.lb.example.test", "A"]);
        (!server.process.said("the query log can be written again").is_empty()).then_some(())
    });
    assert!(!lines(&server.directory.path().join("late/q.jsonl"), 1).is_empty());
}
