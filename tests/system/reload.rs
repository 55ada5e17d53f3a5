//! Reloads of a running server: every key, as seen from outside; refusals; and that no query is
//! lost.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::client::query;
use crate::harness::{PATIENCE, STEERD, ZONE, dig, http_get, wait_for};
use crate::support::client::Client as Asker;
use crate::support::message::{A, Query, wire};
use crate::support::{Steerd, full_dig, http_with};

const SECRET: &str = "c3RlZXJkLXRyYW5zZmVyLXRlc3Qta2V5LTMyLWJ5dGU=";
const OTHER: &str = "YW5vdGhlci1zZWNyZXQtb2YtdGhpcnR5LXR3by1ieXQ=";
const WWW: &str = "www.lb.example.test";

/// Zones, pools and services that a test case does not care about.
const REST: &str = "[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
     [pools.web]\nbackends = [\"192.0.2.11\"]\n[pools.standby]\nbackends = [\"192.0.2.21\", \"192.0.2.22\"]\n\
     [services.\"www.lb.example.test\"]\npools = [\"web\", \"standby\"]\n";

/// The tiers of its only service.
const TIERS: &str = "pools = [\"web\", \"standby\"]\n";

fn start(config: &str) -> Steerd {
    // One record that does not fit into 1232 bytes, but into 1400.
    let text = "t".repeat(210);
    let zone = format!("{ZONE}big TXT {}\n", format!("\"{text}\" ").repeat(6));
    let other_zone = ZONE.replace("192.0.2.80", "192.0.2.81");
    let files = [
        ("zone", zone.as_str()),
        ("other-zone", &other_zone),
        ("token", "0123456789abcdef\n"),
        ("key", SECRET),
        ("other-key", OTHER),
        ("secrets", "000102030405060708090a0b0c0d0e0f\n"),
        ("other-secrets", "f00102030405060708090a0b0c0d0e0f\n"),
        ("included.toml", ""),
    ];
    Steerd::start(config, &files)
}

/// Reloads through the API; returns the report. A dry run before it must have told the same changes.
fn reload(server: &Steerd, config: &str, admin: &str) -> Value {
    server.configure(config, admin);
    let (status, mut rehearsed) = server.request("POST", "/api/v1/reload?dry_run=true", "");
    assert_eq!(status, 200, "{config}\n{rehearsed:#}");
    let (status, report) = server.request("POST", "/api/v1/reload", "");
    assert_eq!(status, 200, "{config}\n{report:#}");
    rehearsed["generation"] = report["generation"].clone();
    assert_eq!(rehearsed, report, "{config}");
    report
}

fn ask(server: &Steerd, arguments: &[&str]) -> String {
    full_dig(server.dns, &server.ledger.sent, &[&["+norec", "+nobadcookie"], arguments].concat())
}

fn addresses(server: &Steerd) -> Vec<String> {
    dig(server.dns, &server.ledger.sent, &[WWW, "A"])
}

/// How many connections were closed to make room for two new ones.
fn evicted_by_two(server: &Steerd) -> String {
    let evicted = || server.metric("steerd_tcp_evicted_total").unwrap();
    let before = evicted();
    let asker = Asker::counting(server.dns, &server.ledger.sent);
    let mut streams = Vec::new();
    for id in 0..2 {
        let mut stream = asker.stream(&Query::plain(wire(WWW), A), id);
        crate::support::client::read_message(&mut stream).unwrap();
        streams.push(stream);
    }
    if evicted() > before { "evicted some".into() } else { "evicted none".into() }
}

/// Whether a connection without a query is closed within a second.
fn idle_connection(server: &Steerd) -> String {
    let mut stream = TcpStream::connect(server.dns).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    match stream.read(&mut [0]) {
        // A time limit ends with a reset, which leaves nothing in the kernel.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => "closed".into(),
        Err(error) if error.kind() == ErrorKind::WouldBlock => "open".into(),
        other => panic!("{other:?}"),
    }
}

/// Whether thirty simultaneous equal replies are limited.
fn flood(server: &Steerd) -> String {
    let count = |series: &str| server.metric(series).unwrap();
    let received = || count("steerd_queries_total{transport=\"udp\",family=\"ipv4\"}");
    let limited = || count("steerd_dropped_total{reason=\"limited\"}") + count("steerd_slipped_total");
    let (before, limited_before) = (received(), limited());
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for id in 0..30 {
        server.ledger.sent.datagram();
        socket.send_to(&query(id, WWW, RecordType::A), server.dns).unwrap();
    }
    wait_for("the flood has arrived", || (received() >= before + 30.0).then_some(()));
    if limited() > limited_before { "limited".into() } else { "free".into() }
}

fn has_memory(server: &Steerd) -> String {
    let there = server.directory.path().join("state/health.json").exists();
    if there { "written".into() } else { "absent".into() }
}

/// The addresses in many answers.
fn seen(server: &Steerd) -> String {
    let asked = (0..40).flat_map(|_| addresses(server));
    asked.collect::<BTreeSet<String>>().into_iter().collect::<Vec<_>>().join(" ")
}

/// A key: the configuration without and with it, the property to examine, and its expected values.
struct Case {
    key: &'static str,
    before: String,
    after: String,
    look: Look,
    shows: [&'static str; 2],
}

type Look = fn(&Steerd) -> String;

/// A key at the top of the configuration.
fn above(key: &'static str, before: &str, after: &str, look: Look, shows: [&'static str; 2]) -> Case {
    Case { key, before: format!("{before}\n{REST}"), after: format!("{after}\n{REST}"), look, shows }
}

/// A key at the end of the configuration.
fn below(key: &'static str, before: &str, after: &str, look: Look, shows: [&'static str; 2]) -> Case {
    Case { key, before: format!("{REST}{before}"), after: format!("{REST}{after}"), look, shows }
}

/// A key within the configuration: `from` becomes `to`.
fn within(key: &'static str, from: &str, to: &str, look: Look, shows: [&'static str; 2]) -> Case {
    assert!(REST.contains(from), "{from}");
    Case { key, before: REST.into(), after: REST.replace(from, to), look, shows }
}

/// A key of the service, which has two backends.
fn in_service(key: &'static str, keys: &str, look: Look, shows: [&'static str; 2]) -> Case {
    let service = |keys: &str| REST.replace(TIERS, &format!("pools = [\"standby\"]\n{keys}\n"));
    Case { key, before: service(""), after: service(keys), look, shows }
}

fn www(server: &Steerd) -> String {
    ask(server, &[WWW, "A"])
}

fn big(server: &Steerd) -> String {
    ask(server, &["+bufsize=4096", "+nocookie", "big.lb.example.test", "TXT"])
}

/// The reply, and whether it gives the client a server cookie.
fn cookies(server: &Steerd) -> String {
    let reply = www(server);
    let given = reply.lines().any(|line| line.contains("COOKIE: ") && line.len() > 40);
    format!("{reply}{}", if given { "server cookie" } else { "no cookie" })
}

fn signed(server: &Steerd) -> String {
    ask(server, &["-y", &format!("hmac-sha256:k.test:{SECRET}"), "lb.example.test", "SOA"])
}

/// The kind of the check in pool `probed`.
fn kind(server: &Steerd) -> String {
    let (_, pool) = server.request("GET", "/api/v1/pools/probed", "");
    pool["backends"][0]["addresses"][0]["checks"][0]["type"].to_string()
}

const ANSWERED: &str = "status: NOERROR";

fn server_cases() -> Vec<Case> {
    vec![
        above("server.udp_payload", "", "udp_payload = 1400", big, ["qr aa tc", "qr aa;"]),
        above(
            "server.nsid",
            "nsid = \"before\"",
            "nsid = \"after\"",
            |server| ask(server, &["+nsid", WWW]),
            ["(\"before\")", "(\"after\")"],
        ),
        above(
            "server.chaos",
            "",
            "chaos = \"version\"",
            |server| ask(server, &["version.bind", "CH", "TXT"]),
            ["status: REFUSED", "steerd"],
        ),
        above("server.cookies", "", "cookies = \"required\"", cookies, [ANSWERED, "BADCOOKIE"]),
        above("server.cookies", "", "cookies = false", cookies, ["server cookie", "no cookie"]),
        above(
            "server.client_subnet",
            "",
            "client_subnet = [\"127.0.0.0/8\"]",
            |server| ask(server, &["+subnet=192.0.2.0/24", WWW]),
            [ANSWERED, "CLIENT-SUBNET"],
        ),
        above(
            "server.tcp_connections",
            "",
            "tcp_connections = 1",
            evicted_by_two,
            ["evicted none", "evicted some"],
        ),
        above(
            "server.tcp_idle",
            "tcp_idle = \"1m\"",
            "tcp_idle = \"100ms\"",
            idle_connection,
            ["open", "closed"],
        ),
        above(
            "server.rate_limit",
            "",
            "rate_limit = { responses_per_second = 2 }",
            flood,
            ["free", "limited"],
        ),
        above("server.state_dir", "", "state_dir = \"state\"", has_memory, ["absent", "written"]),
    ]
}

fn zone_cases() -> Vec<Case> {
    let key = |algorithm: &str, file: &str| {
        format!("[keys.\"k.test\"]\nalgorithm = \"{algorithm}\"\nsecret_file = \"{file}\"\n")
    };
    let first = key("hmac-sha256", "key");
    vec![
        above("keys", "", &first, signed, ["BADKEY", ANSWERED]),
        above("keys.secret_file", &first, &key("hmac-sha256", "other-key"), signed, [ANSWERED, "BADSIG"]),
        above("keys.algorithm", &first, &key("hmac-sha512", "key"), signed, [ANSWERED, "BADKEY"]),
        within(
            "zones.file",
            "file = \"zone\"",
            "file = \"other-zone\"",
            |server| ask(server, &["static.lb.example.test", "A"]),
            ["192.0.2.80", "192.0.2.81"],
        ),
        within(
            "zones.transfer",
            "file = \"zone\"",
            "file = \"zone\"\ntransfer = { networks = [\"127.0.0.1\"] }",
            |server| ask(server, &["+tcp", "lb.example.test", "AXFR"]),
            ["Transfer failed", "XFR size"],
        ),
        below(
            "zones",
            "",
            "[zones.\"more.test\"]\nfile = \"zone\"\n",
            |server| ask(server, &["more.test", "SOA"]),
            ["status: REFUSED", ANSWERED],
        ),
    ]
}

fn service_cases() -> Vec<Case> {
    // A weight of 0 does not count for `min_healthy`.
    let with_light_backend =
        REST.replace("[\"192.0.2.11\"]", "[\"192.0.2.11\", { address = \"192.0.2.12\", weight = 0 }]");
    let probed = "[pools.probed]\nbackends = [\"127.0.0.1\"]\ncheck = { port = 9 }\n[defaults.check]\n";
    vec![
        below(
            "services",
            "",
            "[services.\"new.lb.example.test\"]\npools = [\"web\"]\n",
            |server| ask(server, &["new.lb.example.test"]),
            ["status: NXDOMAIN", "192.0.2.11"],
        ),
        within("services.pools", TIERS, "pools = [\"standby\"]\n", www, ["192.0.2.11", "192.0.2.2"]),
        in_service("services.answers", "answers = 1", www, ["ANSWER: 2", "ANSWER: 1"]),
        in_service("services.ttl", "ttl = \"7s\"", www, ["\t20\tIN\tA", "\t7\tIN\tA"]),
        Case {
            key: "services.policy",
            before: policy("weighted"),
            after: policy("all"),
            look: seen,
            shows: ["192.0.2.21", "192.0.2.21 192.0.2.22"],
        },
        Case {
            key: "services.when_down",
            before: down("\"nodata\""),
            after: down("[\"203.0.113.80\"]"),
            look: www,
            shows: ["ANSWER: 0", "203.0.113.80"],
        },
        within(
            "pools.backends",
            "backends = [\"192.0.2.11\"]\n",
            "backends = [\"192.0.2.12\"]\n",
            www,
            ["192.0.2.11", "192.0.2.12"],
        ),
        below(
            "defaults.service",
            "",
            "[defaults.service]\nttl = \"7s\"\n",
            www,
            ["\t20\tIN\tA", "\t7\tIN\tA"],
        ),
        Case {
            key: "defaults.pool",
            before: with_light_backend.clone(),
            after: format!("{with_light_backend}[defaults.pool]\nmin_healthy = 2\n"),
            look: www,
            shows: ["192.0.2.11", "192.0.2.2"],
        },
        below(
            "defaults.check",
            &format!("{probed}type = \"tcp\"\n"),
            &format!("{probed}type = \"http\"\n"),
            kind,
            ["tcp", "http"],
        ),
    ]
}

fn policy(policy: &str) -> String {
    let weights = "backends = [{ address = \"192.0.2.21\", weight = 1000000 }, \"192.0.2.22\"]";
    REST.replace("backends = [\"192.0.2.21\", \"192.0.2.22\"]", weights)
        .replace(TIERS, &format!("pools = [\"standby\"]\nanswers = 1\npolicy = \"{policy}\"\n"))
}

fn down(when_down: &str) -> String {
    REST.replace("\"192.0.2.11\"]", "{ address = \"192.0.2.11\", enabled = false }]")
        .replace(TIERS, &format!("pools = [\"web\"]\nwhen_down = {when_down}\n"))
}

/// Each key without and with it, in one process that is never restarted.
#[test]
fn every_key_takes_effect() {
    let server = start(REST);
    std::fs::create_dir(server.directory.path().join("state")).unwrap();
    for Case { key, before, after, look, shows } in
        server_cases().into_iter().chain(zone_cases()).chain(service_cases())
    {
        for (config, expected) in [(&before, shows[0]), (&after, shows[1])] {
            reload(&server, config, "");
            let mut last = String::new();
            let deadline = std::time::Instant::now() + PATIENCE;
            while !last.contains(expected) {
                assert!(std::time::Instant::now() < deadline, "{key}: {expected:?} is not in\n{last}");
                last = look(&server);
            }
            let unexpected = if expected == shows[0] { shows[1] } else { shows[0] };
            let both = expected.contains(unexpected) || shows.contains(&ANSWERED);
            assert!(both || !last.contains(unexpected), "{key}: {unexpected:?} is in\n{last}");
        }
        let again = reload(&server, &after, "");
        assert_eq!(again["changed"], false, "{key}: {again:#}");
    }
}

#[test]
fn a_cookie_is_worth_what_the_file_of_secrets_says() {
    let config = |file: &str| format!("cookies = \"required\"\ncookie_secret_file = \"{file}\"\n{REST}");
    let server = start(&config("secrets"));
    let reply = ask(&server, &["+cookie=0001020304050607", WWW]);
    let cookie = reply.split("COOKIE: ").nth(1).unwrap().split_whitespace().next().unwrap();
    let with_cookie = |status: &str| {
        let reply = ask(&server, &[&format!("+cookie={cookie}"), WWW]);
        assert!(reply.contains(status), "{reply}");
    };
    with_cookie("NOERROR");
    let report = reload(&server, &config("other-secrets"), "");
    assert_eq!(
        report["server"]["changed"],
        json!([{ "name": "cookie_secret_file", "details": ["other secrets"] }])
    );
    with_cookie("BADCOOKIE");
    reload(&server, &config("secrets"), "");
    with_cookie("NOERROR");
}

/// Without a file the secret belongs to the process, and a reload keeps cookies valid.
#[test]
fn a_reload_keeps_the_cookies_of_clients() {
    let server = start(&format!("cookies = \"required\"\n{REST}"));
    let reply = ask(&server, &["+cookie=0001020304050607", WWW]);
    let cookie = reply.split("COOKIE: ").nth(1).unwrap().split_whitespace().next().unwrap();
    reload(&server, &format!("cookies = \"required\"\nnsid = \"a\"\n{REST}"), "");
    let reply = ask(&server, &[&format!("+cookie={cookie}"), WWW]);
    assert!(reply.contains("status: NOERROR"), "{reply}");
}

#[test]
fn what_takes_a_restart_is_said_and_the_rest_applied() {
    let server = start(REST);
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:1\"]\nworkers = 7\nnsid = \"after\"\nstartup_wait = \"9s\"\n{REST}[admin]\nlisten = \"127.0.0.1:2\"\n"
    );
    std::fs::write(server.directory.path().join("steerd.toml"), text).unwrap();
    let (status, report) = server.request("POST", "/api/v1/reload", "");
    assert_eq!(status, 200);
    assert_eq!(
        report["restart_needed"],
        json!([
            { "name": "server.listen", "details": ["127.0.0.1:0 -> 127.0.0.1:1"] },
            { "name": "server.workers", "details": ["0 -> 7"] },
            { "name": "admin.listen", "details": ["127.0.0.1:0 -> 127.0.0.1:2"] },
        ])
    );
    assert_eq!(
        report["server"]["changed"],
        json!([
            { "name": "nsid", "details": ["none -> \"after\""] },
            { "name": "startup_wait", "details": ["3s -> 9s, from the next start on"] },
        ])
    );
    assert!(ask(&server, &["+nsid", WWW]).contains("(\"after\")"));
    assert_eq!(server.process.said("this change needs an upgrade").len(), 3);
}

#[test]
fn a_refused_file_changes_nothing_and_says_why() {
    let server = start(&format!("nsid = \"before\"\n{REST}"));
    let generation = || server.metric("steerd_table_generation").unwrap();
    let before = generation();
    let broken = [
        (format!("nsid = \"after\"\nnsdi = 1\nudp_payload = 1\n{REST}"), vec![(4, 1), (5, 15)]),
        (REST.replace("192.0.2.11", "192.0.2.300"), vec![(6, 13)]),
        (REST.replace("file = \"zone\"", "file = \"gone\""), vec![(4, 8)]),
        (format!("nsid = \"after\"\n{REST}include = [\"gone.toml\"]\n"), vec![]),
        ("[".into(), vec![]),
    ];
    for (index, (config, places)) in broken.iter().enumerate() {
        server.configure(config, "");
        let (status, problem) = server.request("POST", "/api/v1/reload", "");
        assert_eq!((status, &problem["status"]), (422, &json!(422)), "{config}\n{problem:#}");
        let errors = problem["errors"].as_array().unwrap();
        assert!(!errors.is_empty(), "{problem:#}");
        let file = server.directory.path().join("steerd.toml");
        for (line, column) in places {
            let is_there = |error: &Value| {
                error["file"] == file.to_str().unwrap()
                    && error["line"] == *line
                    && error["column"] == *column
            };
            assert!(errors.iter().any(is_there), "{line}:{column} {problem:#}");
        }
        assert!(ask(&server, &["+nsid", WWW]).contains("(\"before\")"));
        assert_eq!(generation(), before);
        let failures = server.metric("steerd_reloads_total{result=\"failure\"}");
        assert_eq!(failures, Some(f64::from(u32::try_from(index).unwrap() + 1)));
        assert_eq!(server.metric("steerd_config_last_reload_success"), Some(0.0));
        let notices = server.request("GET", "/api/v1/status", "").1["notices"].to_string();
        assert!(notices.contains("the last reload was refused"), "{notices}");
    }
    assert!(!server.process.said("unknown key `nsdi`").is_empty(), "the log has every fault");
    assert_eq!(server.process.said("reload refused").len(), broken.len());
    reload(&server, &format!("nsid = \"after\"\n{REST}"), "");
    assert_eq!(server.metric("steerd_config_last_reload_success"), Some(1.0));
    assert!(ask(&server, &["+nsid", WWW]).contains("(\"after\")"));
}

/// A zone is read again even if the configuration has not changed.
#[test]
fn sighup_reloads_zones_and_included_files_and_the_log_says_what_came_of_it() {
    let config = format!("nsid = \"a\"\n{REST}");
    let server = start(&config);
    let main = server.directory.path().join("steerd.toml");
    let text = std::fs::read_to_string(&main).unwrap();
    std::fs::write(&main, format!("include = [\"included.toml\"]\n{text}")).unwrap();
    std::fs::write(server.directory.path().join("included.toml"), "[defaults.service]\nttl = \"7s\"\n")
        .unwrap();
    std::fs::write(server.directory.path().join("zone"), ZONE.replace("192.0.2.80", "192.0.2.81")).unwrap();
    server.process.signal("HUP");
    wait_for("the log tells of the reload", || {
        server.process.said("\"message\":\"reloaded\"").first().cloned()
    });
    assert!(ask(&server, &[WWW]).contains("\t7\tIN\tA"));
    assert!(ask(&server, &["static.lb.example.test"]).contains("192.0.2.81"));
    let told = server.process.said("\"message\":\"reloaded\"").remove(0);
    assert!(
        told.contains("SIGHUP") && told.contains("ttl") && told.contains("zone lb.example.test"),
        "{told}"
    );
    std::fs::write(&main, "[server").unwrap();
    server.process.signal("HUP");
    wait_for("the log tells of the refusal", || server.process.said("reload refused").first().cloned());
    assert!(ask(&server, &[WWW]).contains("\t7\tIN\tA"));
}

/// Sixty reloads during continuous queries: each query gets a reply, which always matches one of
/// the two configurations.
#[test]
fn no_query_is_lost_and_none_sees_half_a_configuration() {
    let config = |host: u8| {
        REST.replace("192.0.2.11", &format!("192.0.2.{host}"))
            .replace(TIERS, &format!("pools = [\"web\"]\nttl = \"{host}s\"\n"))
    };
    let server = start(&config(11));
    let stop = Arc::new(AtomicBool::new(false));
    let asker = Asker::counting(server.dns, &server.ledger.sent);
    let stopped = Arc::clone(&stop);
    let asking = std::thread::spawn(move || {
        let mut count = 0_u16;
        while !stopped.load(Ordering::Relaxed) {
            count = count.wrapping_add(1);
            let reply = asker.try_ask(&Query::plain(wire(WWW), A), count).expect("a reply to each query");
            // The TTL, the length and the address of the only record are at the end.
            let (ttl, host) = (reply[reply.len() - 7], reply[reply.len() - 1]);
            assert_eq!(ttl, host, "{reply:?}");
            assert!(host == 11 || host == 12, "{reply:?}");
        }
        count
    });
    for round in 0..60 {
        reload(&server, &config(11 + round % 2), "");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(asking.join().expect("every query was answered") > 100);
}

#[test]
fn a_token_is_asked_for_from_the_reload_on_that_names_it() {
    let server = start(REST);
    let post = |token: &str| http_with(server.admin, "POST", "/api/v1/reload", token, "").0;
    assert_eq!(post("anything"), 200);
    let report = reload(&server, REST, "token_file = \"token\"");
    assert_eq!(
        report["admin"]["changed"],
        json!([{ "name": "token_file", "details": ["a token is required now"] }])
    );
    assert_eq!([post("anything"), post("0123456789abcdef")], [401, 200]);
    assert_eq!(http_get(server.admin, "/api/v1/status").0, 200, "reading on loopback needs none");
    reload(&server, REST, "");
    assert_eq!(post("anything"), 200);
}

fn command(server: &Steerd, arguments: &[&str]) -> Output {
    let admin = format!("http://{}", server.admin);
    Command::new(STEERD).args(arguments).args(["--admin", &admin]).output().unwrap()
}

#[test]
fn the_command_shows_the_difference_or_the_faults() {
    let server = start(REST);
    server.configure(&format!("nsid = \"a\"\nworkers = 3\n{}", REST.replace("192.0.2.11", "192.0.2.12")), "");
    for (arguments, code) in [(&["diff"][..], 1), (&["reload", "--dry-run"], 0), (&["diff", "--json"], 1)] {
        let output = command(&server, arguments);
        let shown = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{shown}");
        assert!(shown.contains("192.0.2.12"), "{shown}");
    }
    let output = command(&server, &["reload"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(shown.contains("pool web:") && shown.contains("  [server] nsid: none -> \"a\""), "{shown}");
    assert!(shown.contains("needs an upgrade:\n  server.workers: 0 -> 3"), "{shown}");

    let output = command(&server, &["reload", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["pools"]["changed"]), (Some(0), &json!([])));

    server.configure(&format!("workrs = 3\n{REST}"), "");
    let output = command(&server, &["diff"]);
    let shown = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && shown.contains("a reload would be refused: "), "{shown}");
    let output = command(&server, &["reload"]);
    let shown = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(shown.contains("error: unknown key `workrs`") && shown.contains("steerd.toml:3:1"), "{shown}");
    assert!(shown.contains("did you mean `workers`?") && shown.contains("nothing has changed"), "{shown}");
    let output = command(&server, &["reload", "--json"]);
    let problem: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &problem["errors"][0]["line"]), (Some(1), &json!(3)));
}

#[test]
fn another_file_than_the_running_one_is_refused_with_both_paths() {
    let server = start(REST);
    let directory = server.directory.path();
    let running = directory.join("steerd.toml");
    let admin = format!("http://{}", server.admin);
    let found = format!("[admin]\nlisten = \"{}\"\n{REST}", server.admin);
    let [other, link] = ["other.toml", "link.toml"].map(|name| directory.join(name));
    std::fs::write(&other, found).unwrap();
    std::os::unix::fs::symlink("steerd.toml", &link).unwrap();
    let reload = |more: &[&str], variable: &str| {
        let mut command = Command::new(STEERD);
        let output = command.arg("reload").args(more).env("STEERD_CONFIG", variable).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let [running, other, link] = [&running, &other, &link].map(|path| path.to_str().unwrap());
    for (more, variable) in [
        (&["-c", other][..], ""),
        (&["-c", other, "--admin", &admin], ""),
        (&["-c", other, "--admin", &admin], running),
        (&[], other),
    ] {
        let (code, told) = reload(more, variable);
        let has = |path: &str| told.contains(&format!("`{path}`"));
        assert_eq!(code, Some(1), "{more:?}: {told}");
        assert!(has(running) && has(other) && told.contains("nothing has changed"), "{more:?}: {told}");
    }
    for (more, variable) in [
        (&["-c", running, "--admin", &admin][..], ""),
        (&["-c", link, "--admin", &admin], other),
        // The variable concerns this machine, and the address may be that of another one.
        (&["--admin", &admin], other),
        (&["--admin", &admin], ""),
    ] {
        let (code, told) = reload(more, variable);
        assert_eq!(code, Some(0), "{more:?}: {told}");
    }
}

#[test]
fn the_command_finds_the_server_by_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("steerd.toml");
    let port = crate::harness::free_port("127.0.0.1");
    std::fs::write(&path, format!("[admin]\nlisten = \"127.0.0.1:{port}\"\n")).unwrap();
    let output = Command::new(STEERD).args(["reload", "-c"]).arg(&path).output().unwrap();
    let shown = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let place = format!("no steerd answers at http://127.0.0.1:{port} (from {})", path.display());
    assert!(shown.contains(&place) && shown.contains("--admin URL"), "{shown}");
    assert_eq!(
        Command::new(STEERD).args(["reload", "--admin", "x"]).output().unwrap().status.code(),
        Some(2)
    );
}

/// Warnings are logged at the start, and later only if they are new, even if their line has moved.
#[test]
fn warnings_are_told_when_they_are_new() {
    let idle = "[pools.idle]\nbackends = [\"192.0.2.9\"]\n";
    let server = start(&format!("{REST}{idle}"));
    let told = |name: &str| server.process.said(&format!("no service uses pool `{name}`")).len();
    assert_eq!(told("idle"), 1, "at the start");
    for config in [format!("{REST}{idle}"), format!("{idle}{REST}")] {
        let report = reload(&server, &config, "");
        let warnings = report["warnings"].to_string();
        assert!(warnings.contains("no service uses pool `idle`"), "the client is told of all: {warnings}");
    }
    let more = idle.replace("idle", "lazy").replace("192.0.2.9", "192.0.2.10");
    reload(&server, &format!("{REST}{idle}{more}"), "");
    wait_for("the new one is told", || (told("lazy") == 1).then_some(()));
    assert_eq!(told("idle"), 1, "and the old one is not");
    reload(&server, REST, "");
    reload(&server, &format!("{REST}{idle}"), "");
    wait_for("it is new again", || (told("idle") == 2).then_some(()));
}

/// The log says who requested the reload; a zone has not changed if a service in it is added or
/// removed.
#[test]
fn a_service_is_no_change_of_its_zone_and_who_asked_is_told() {
    let server = start(REST);
    let more = format!("{REST}[services.\"deep.below.lb.example.test\"]\npools = [\"web\"]\n");
    for (config, kind) in [(&*more, "added"), (REST, "removed")] {
        let report = reload(&server, config, "");
        assert_eq!(report["services"][kind], json!(["deep.below.lb.example.test"]), "{report:#}");
        assert_eq!(report["zones"], json!({ "added": [], "removed": [], "changed": [] }), "{report:#}");
    }
    let lines = server.process.said("reloaded");
    assert!(
        lines[0].contains("\"asked_by\":\"127.0.0.1:") && lines[0].contains("without a token"),
        "{lines:?}"
    );
    server.process.signal("HUP");
    wait_for("the signal is told", || {
        server
            .process
            .said("reloaded")
            .iter()
            .any(|line| line.contains("\"asked_by\":\"SIGHUP\""))
            .then_some(())
    });
}

/// If an override ends because its backend is gone, the report says so.
#[test]
fn a_lost_override_is_told() {
    let server = start(REST);
    let path = "/api/v1/pools/standby/backends/192.0.2.21/override";
    assert_eq!(server.request("PUT", path, r#"{"state":"drain","reason":"disk"}"#).0, 200);
    let report = reload(&server, &REST.replace("\"192.0.2.21\", ", ""), "");
    let lost = json!([{
        "name": "standby/192.0.2.21", "details": ["drain (disk) has ended, because the backend is gone"],
    }]);
    assert_eq!(report["overrides"]["changed"], lost, "{report:#}");
    // A separate thread writes the log, perhaps after the reply.
    let told = "override of standby/192.0.2.21: drain (disk) has ended";
    wait_for("the loss is logged", || {
        server.process.said("reloaded").iter().any(|line| line.contains(told)).then_some(())
    });
}
