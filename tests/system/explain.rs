//! Explanations and TTLs of a running server.

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use crate::harness::{STEERD, Server, free_port, http_get, wait_for};

fn explain(server: &Server, arguments: &[&str]) -> Output {
    let url = format!("http://{}", server.admin);
    let all =
        ["explain", "www.lb.example.test", "--admin", &url].into_iter().chain(arguments.iter().copied());
    Command::new(STEERD).args(all).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The TTL of the answer over DNS.
fn ttl(server: &Server) -> u32 {
    let shown = server.full_dig(&["+noall", "+answer", "www.lb.example.test", "A"]);
    shown.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn an_explanation_says_what_dns_answers_and_why() {
    let port = free_port("127.0.0.31");
    let backend = TcpListener::bind(("127.0.0.31", port)).unwrap();
    let server = Server::start(&format!(
        "[pools.web]\ncheck = {{ type = \"tcp\", port = {port}, interval = \"1s\", timeout = \"500ms\", recheck = \"1s\", \
         fall = 4, rise = 1 }}\n\
         backends = [{{ name = \"gw1\", address = \"127.0.0.31\", weight = 3, site = \"ams\" }}]\n\
         [pools.spare]\nbackends = [\"192.0.2.9\"]\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\", \"spare\"]\nttl = {{ min = \"1s\", max = \"30s\" }}\n"
    ));
    wait_for("nothing is pending", || (ttl(&server) == 30).then_some(()));
    let told = text(&explain(&server, &["--client", "203.0.113.7"]));
    for line in [
        "client  203.0.113.7",
        "zone    lb.example.test",
        "rule    none applies: the default route of service www.lb.example.test",
        "answer  NOERROR, from pool web",
        "ttl     30 s of 1 to 30: nothing is pending",
        "tier 1  web: the first usable tier: 1 of 1 ipv4 addresses are eligible, weight 3 of 3; min_healthy is 1",
        "tier 2  spare: usable, but another tier answers: 1 of 1 ipv4 addresses are eligible, weight 1 of 1; min_healthy is 1",
        "sample  127.0.0.31 with TTL 30 (seed 1)",
    ] {
        assert!(told.lines().any(|shown| shown == line), "{line}\nis not in\n{told}");
    }
    assert!(told.lines().all(|line| line.chars().count() <= 130), "{told}");

    // The backend stops. While the fall is under way, the TTL is the time that is left.
    drop(backend);
    let shortened = wait_for("a fall has begun", || Some(ttl(&server)).filter(|ttl| *ttl < 30));
    assert!(shortened <= 3, "{shortened}");
    let json = explain(&server, &["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let is_down = json["service"]["pool"] == "spare";
    let pending = json["service"]["pending"]["change"].as_str();
    assert!(is_down || pending == Some("gw1 (127.0.0.31) of pool web may become unhealthy"), "{json:#}");

    wait_for("the next tier answers", || {
        (server.dig(&["www.lb.example.test", "A"]) == ["192.0.2.9"]).then_some(())
    });
    let told = text(&explain(&server, &[]));
    assert!(told.contains("answer  NOERROR, from pool spare"), "{told}");
    assert!(told.contains("tier 1  web: not usable: 0 of 1 ipv4 addresses are eligible"), "{told}");

    let before = server.metric_sum("steerd_queries_total");
    let told = text(&explain(&server, &["--type", "AAAA"]));
    assert!(told.contains("answer  NOERROR, no address of this type (NODATA)"), "{told}");
    assert_eq!(server.metric_sum("steerd_queries_total"), before, "an explanation is no query");
}

#[test]
fn requests_for_explanations_that_cannot_be_answered() {
    let server = Server::start(
        "[pools.web]\nbackends = [\"192.0.2.1\"]\n[services.\"www.lb.example.test\"]\npools = [\"web\"]\n",
    );
    for (query, expected) in [
        ("", "`name` is missing"),
        ("?name=", "`name` is missing"),
        ("?name=a..b", "is not a domain name"),
        ("?name=www.lb.example.test&type=MX", "`type` must be A or AAAA, not `MX`"),
        ("?name=www.lb.example.test&client=192.0.2.300", "`client`: `192.0.2.300` is not a network"),
        ("?name=www.lb.example.test&resolver=x", "`resolver` must be an IP address"),
        ("?name=www.lb.example.test&zone=x", "unknown field"),
    ] {
        let (status, body) = http_get(server.admin, &format!("/api/v1/explain{query}"));
        assert_eq!(status, 400, "{query}: {body}");
        assert!(body.contains(expected), "{query}: {body}");
    }
    let (status, body) = http_get(server.admin, "/api/v1/explain?name=elsewhere.example");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"rcode\": \"REFUSED\""), "{body}");
    let refused = explain(&server, &["--type", "mx"]);
    assert_eq!(refused.status.code(), Some(2));
}
