//! Overrides, reloads, and who may request them.

use super::*;

const OVERRIDE: &str = "/api/v1/pools/web/backends/one/override";
const WEIGHT: &str = "/api/v1/pools/web/backends/one/weight";

#[tokio::test]
async fn overrides_reach_the_checker_and_show_the_backend() {
    let mut fixture = start(Some(status("")));
    let body = r#"{"state":"drain","for":"30m","reason":" kernel "}"#;
    let backend = fixture.json("PUT", OVERRIDE, Some(body)).await;
    assert_eq!((&backend["name"], &backend["weight"]), (&"one".into(), &3.into()));
    let asked = fixture.overrides.recv().await.unwrap();
    assert_eq!(asked.length, Some(Duration::from_secs(1800)));
    let drain = OverrideChange::State(Some(Override::Drain));
    assert_eq!((asked.change, asked.reason.as_deref()), (drain, Some("kernel")));

    for state in Override::ALL {
        fixture.json("PUT", OVERRIDE, Some(&format!("{{\"state\":\"{}\"}}", state.as_str()))).await;
        let asked = fixture.overrides.recv().await.unwrap();
        let change = OverrideChange::State(Some(state));
        assert_eq!((asked.change, asked.length, asked.reason), (change, None, None));
    }
    fixture.json("DELETE", OVERRIDE, None).await;
    assert_eq!(fixture.overrides.recv().await.unwrap().change, OverrideChange::State(None));
}

#[tokio::test]
async fn weights_reach_the_checker_apart_from_states() {
    let mut fixture = start(Some(status("")));
    let body = r#"{"percent":30,"for":"1h","reason":" canary ","force":true}"#;
    let backend = fixture.json("PUT", WEIGHT, Some(body)).await;
    assert_eq!((&backend["name"], &backend["weight"]), (&"one".into(), &3.into()));
    let asked = fixture.overrides.recv().await.unwrap();
    assert_eq!((asked.change, asked.force), (OverrideChange::Weight(Some(30)), true));
    assert_eq!((asked.length, asked.reason.as_deref()), (Some(Duration::from_secs(3600)), Some("canary")));
    for percent in [0, 1000] {
        fixture.json("PUT", WEIGHT, Some(&format!("{{\"percent\":{percent}}}"))).await;
        let asked = fixture.overrides.recv().await.unwrap();
        assert_eq!(asked.change, OverrideChange::Weight(Some(percent)));
    }
    fixture.json("DELETE", &format!("{WEIGHT}?force=true"), None).await;
    let asked = fixture.overrides.recv().await.unwrap();
    assert_eq!((asked.change, asked.force), (OverrideChange::Weight(None), true));
    for (body, expected) in [
        ("{}", ": `percent` is missing"),
        (r#"{"percent":"30%"}"#, ": it has string \"30%\" where"),
        (r#"{"percent":1001}"#, "`percent` must be a whole number from 0 to 1000"),
        (r#"{"percent":1e30}"#, "where"),
        (r#"{"percent":-1}"#, "integer `-1`"),
        (r#"{"percent":30,"state":"up"}"#, ": `state` is not known; these are: `percent`, `for`, `reason`"),
        (r#"{"percent":30,"for":"400d"}"#, "`for`: expected a duration with a unit"),
    ] {
        let (head, problem) = fixture.send("PUT", WEIGHT, "", Some(body)).await;
        assert_problem(&head, &problem, 400);
        let detail: serde_json::Value = serde_json::from_str(&problem).unwrap();
        assert!(detail["detail"].as_str().unwrap().contains(expected), "{body}: {problem}");
    }
    assert!(fixture.overrides.try_recv().is_err(), "the checker was asked for none of these");
}

#[tokio::test]
async fn what_is_only_tried_changes_nothing() {
    let mut fixture = start(Some(status("")));
    let tried = serde_json::json!({"dry_run": true, "needs_force": true, "consequences": ["one is tried"]});
    for (method, path, body) in [
        ("PUT", OVERRIDE.to_owned(), Some(r#"{"state":"drain","dry_run":true,"force":true}"#)),
        ("PUT", WEIGHT.to_owned(), Some(r#"{"percent":0,"dry_run":true}"#)),
        ("DELETE", format!("{OVERRIDE}?dry_run=true"), None),
        ("DELETE", format!("{WEIGHT}?force=true&dry_run=true"), None),
    ] {
        assert_eq!(fixture.json(method, &path, body).await, tried, "{method} {path}");
    }
    let service = "/api/v1/services/www.lb.example.com";
    let tried = serde_json::json!({"dry_run": true, "needs_force": false, "consequences": []});
    for (method, path, body) in [
        ("PUT", format!("{service}/failover"), Some(r#"{"pool":"web","dry_run":true}"#)),
        ("DELETE", format!("{service}/failover?dry_run=true"), None),
        ("POST", format!("{service}/failback?dry_run=true"), None),
    ] {
        assert_eq!(fixture.json(method, &path, body).await, tried, "{method} {path}");
    }
    assert!(fixture.overrides.try_recv().is_err(), "no change reached the checker");
}

#[tokio::test]
async fn what_is_no_override_says_why() {
    let mut fixture = start(Some(status("")));
    for (body, expected) in [
        ("", "the body must be an object"),
        ("{}", ": `state` is missing"),
        ("{", ": it ends too early"),
        ("{\"state\" \"drain\"}", ": it is not JSON from column 10 of line 1 on"),
        (
            r#"{"state":"drian"}"#,
            "`state` must be one of `drain`, `disabled`, `up`, `down`; did you mean `drain`?",
        ),
        (r#"{"state":"drain","fro":"1m"}"#, ": `fro` is not known; these are: `state`, `for`, `reason`"),
        (r#"{"state":"drain","for":"30"}"#, "`for`: expected a duration with a unit"),
        (r#"{"state":"drain","for":30}"#, ": it has integer `30` where a string is expected"),
        (r#"{"state":"drain","reason":"a\nb"}"#, "`reason`: expected one line"),
    ] {
        let (head, problem) = fixture.send("PUT", OVERRIDE, "", Some(body)).await;
        assert_problem(&head, &problem, 400);
        let detail: serde_json::Value = serde_json::from_str(&problem).unwrap();
        assert!(detail["detail"].as_str().unwrap().contains(expected), "{body}: {problem}");
    }
    let long = format!("{{\"state\":\"drain\",\"reason\":\"{}\"}}", "a".repeat(17_000));
    let (head, problem) = fixture.send("PUT", OVERRIDE, "", Some(&long)).await;
    assert_problem(&head, &problem, 413);
    assert!(fixture.overrides.try_recv().is_err(), "the checker was asked for none of these");
    for (path, expected) in [
        (
            "/api/v1/pools/web/backends/on/override",
            "there is no backend `on` in the pool `web`; did you mean `one`?",
        ),
        ("/api/v1/pools/web/backends/gw9/override", "there is one"),
        ("/api/v1/pools/we/backends/one/override", "there is no pool `we`; did you mean `web`?"),
    ] {
        for (method, body) in [("DELETE", None), ("PUT", Some(r#"{"state":"up"}"#))] {
            let (head, problem) = fixture.send(method, path, "", body).await;
            assert_problem(&head, &problem, 404);
            assert!(problem.contains(expected), "{problem}");
        }
    }
}

#[tokio::test]
async fn a_reload_answers_with_what_has_changed() {
    let fixture = start(Some(status("")));
    let heavier = CONFIG.replace("\"192.0.2.1\"", "\"192.0.2.1\", weight = 3");
    let new = "[pools.new]\nbackends = [\"192.0.2.2\"]\n";
    let config = format!("[server]\nnsid = \"a\"\nworkers = 3\n{heavier}{new}");
    std::fs::write(fixture.directory.path().join("steerd.toml"), config).unwrap();
    let mut report = fixture.json("POST", "/api/v1/reload", None).await;
    let warnings = report.as_object_mut().unwrap().remove("warnings").unwrap();
    assert_eq!(warnings.as_array().unwrap().len(), 2, "no service uses the pools: {warnings}");
    let nothing = serde_json::json!({ "added": [], "removed": [], "changed": [] });
    let expected = serde_json::json!({
        "generation": 8,
        "changed": true,
        "pools": {
            "added": ["new"], "removed": [],
            "changed": [{ "name": "web", "details": ["backend one: weight 1 -> 3"] }],
        },
        "services": nothing, "zones": nothing, "overrides": nothing, "keys": nothing, "admin": nothing,
        "geo": nothing, "alerts": nothing,
        "server": {
            "added": [], "removed": [],
            "changed": [{ "name": "nsid", "details": ["none -> \"a\""] }],
        },
        "restart_needed": [{ "name": "server.workers", "details": ["0 -> 3"] }],
    });
    assert_eq!(report, expected);
}

#[tokio::test]
async fn a_reload_of_another_file_is_refused() {
    let fixture = start(Some(status("")));
    let file = fixture.directory.path().join("steerd.toml");
    let reload = async |body: &str| fixture.send("POST", "/api/v1/reload", "", Some(body)).await;
    let (head, problem) = reload(r#"{"file": "/etc/other.toml"}"#).await;
    assert_problem(&head, &problem, 409);
    for path in [file.to_str().unwrap(), "/etc/other.toml"] {
        assert!(problem.contains(&format!("`{path}`")), "{problem}");
    }
    for (body, status) in [
        (r#"{"fiel": "/etc/other.toml"}"#, 400),
        (r#"{"file": 5}"#, 400),
        ("/etc/other.toml", 400),
        (&format!("{{\"file\": \"/{}\"}}", "a".repeat(17_000)), 413),
    ] {
        let (head, problem) = reload(body).await;
        assert_problem(&head, &problem, status);
    }
    for body in [String::new(), "{}".into(), serde_json::json!({ "file": file }).to_string()] {
        assert!(reload(&body).await.0.starts_with("http/1.1 200 "), "{body}");
    }
}

#[tokio::test]
async fn a_refused_reload_answers_with_every_fault_and_its_place() {
    let fixture = start(Some(status("")));
    let file = fixture.directory.path().join("steerd.toml");
    std::fs::write(&file, format!("[server]\nworkrs = 1\nudp_payload = 1\n{CONFIG}")).unwrap();
    let (head, body) = fixture.request("POST", "/api/v1/reload").await;
    assert_problem(&head, &body, 422);
    let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(
        problem["errors"],
        serde_json::json!([
            { "file": file, "line": 2, "column": 1, "message": "unknown key `workrs`", "hint": "did you mean `workers`?" },
            {
                "file": file, "line": 3, "column": 15, "hint": null,
                "message": "`udp_payload` must be an integer from 512 to 4096",
            },
        ])
    );
    assert!(problem["detail"].as_str().unwrap().contains("nothing has changed: 2 errors"), "{body}");
}

#[tokio::test]
async fn from_other_machines_only_with_the_token() {
    let tokens = vec![AdminToken::of_token_file(BearerToken::parse("0123456789abcdef").unwrap())];
    let fixture = start_at("0.0.0.0:0", Access { tokens, ..Access::default() }, Some(status("")));
    let shown = "Authorization: Bearer 0123456789abcdef\r\n";
    for (method, path) in
        [("GET", "/api/v1/status"), ("GET", "/metrics"), ("GET", "/x"), ("POST", "/api/v1/reload")]
    {
        let (head, body) = fixture.request(method, path).await;
        assert_problem(&head, &body, 401);
        assert!(head.contains("www-authenticate: bearer realm=\"steerd\", scope=\""), "{head}");
        let (head, body) = fixture.send(method, path, "Authorization: Bearer wrong\r\n", None).await;
        assert_problem(&head, &body, 401);
        assert!(head.contains("error=\"invalid_token\""), "{head}");
        let (head, _) = fixture.send(method, path, shown, None).await;
        let expected = if path == "/x" { "http/1.1 404 " } else { "http/1.1 200 " };
        assert!(head.starts_with(expected), "{head}");
    }
    // The loaded file no longer names a token, so from now on all access is refused.
    for (method, path) in [("GET", "/api/v1/status"), ("POST", "/api/v1/reload")] {
        let (head, body) = fixture.send(method, path, shown, None).await;
        assert_problem(&head, &body, 403);
    }
    let (head, _) = fixture.request("GET", "/readyz").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
}

/// A reload puts the new token in force and revokes the old one.
#[tokio::test]
async fn a_reload_changes_the_token() {
    let tokens = vec![AdminToken::of_token_file(BearerToken::parse("0123456789abcdef").unwrap())];
    let fixture = start_at("127.0.0.1:0", Access { tokens, ..Access::default() }, Some(status("")));
    let config = format!("[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"token\"\n{CONFIG}");
    std::fs::write(fixture.directory.path().join("steerd.toml"), config).unwrap();
    std::fs::write(fixture.directory.path().join("token"), "fedcba9876543210").unwrap();
    let reload = async |token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        fixture.send("POST", "/api/v1/reload", &header, None).await.0
    };
    assert!(reload("0123456789abcdef").await.starts_with("http/1.1 200 "));
    assert!(reload("0123456789abcdef").await.starts_with("http/1.1 401 "));
    assert!(reload("fedcba9876543210").await.starts_with("http/1.1 200 "));
}

#[tokio::test]
async fn an_override_has_its_tag_and_requests_say_what_they_expect() {
    let mut fixture = start(Some(status("")));
    let (head, body) = fixture.request("GET", OVERRIDE).await;
    let shown: serde_json::Value = serde_json::from_str(&body).unwrap();
    let tag = shown["etag"].as_str().unwrap();
    assert!(head.contains(&format!("etag: {tag}\r\n")), "{head}");
    assert_eq!((&shown["state"], &shown["by"]), (&"drain".into(), &"an operator".into()));
    let (head, problem) = fixture.request("GET", WEIGHT).await;
    assert_problem(&head, &problem, 404);

    let body = Some(r#"{"state":"drain"}"#);
    let version = OverrideVersion(u64::from_str_radix(tag.trim_matches('"'), 16).unwrap());
    for (method, path, headers, body, expected) in [
        ("PUT", OVERRIDE, String::new(), body, Precondition::Anything),
        ("PUT", OVERRIDE, format!("If-Match: {tag}\r\n"), body, Precondition::OneOf(vec![version])),
        ("DELETE", OVERRIDE, format!("If-Match: \"x\", {tag}\r\n"), None, Precondition::OneOf(vec![version])),
        ("PUT", WEIGHT, "If-None-Match: *\r\n".into(), Some(r#"{"percent":3}"#), Precondition::Nothing),
        ("DELETE", WEIGHT, "If-Match: *\r\n".into(), None, Precondition::Something),
    ] {
        let (head, _) = fixture.send(method, path, &headers, body).await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert_eq!(fixture.overrides.recv().await.unwrap().expected, expected, "{method} {path} {headers}");
    }
    for headers in ["If-Match: x\r\n", "If-None-Match: \"x\"\r\n", "If-Match: *\r\nIf-None-Match: *\r\n"] {
        let (head, problem) = fixture.send("DELETE", OVERRIDE, headers, None).await;
        assert_problem(&head, &problem, 400);
    }
    let (head, problem) = fixture.send("PUT", OVERRIDE, "If-Match: \"0000000000000bad\"\r\n", body).await;
    assert_problem(&head, &problem, 412);
    assert!(head.contains(&format!("etag: {tag}\r\n")), "the present one: {head}");
    let problem: serde_json::Value = serde_json::from_str(&problem).unwrap();
    assert_eq!(problem["current"], shown);
}

#[tokio::test]
async fn what_is_no_bulk_request_says_why() {
    let fixture = start(Some(status("")));
    for (body, expected) in [
        (r#"{"state":"drain"}"#, ": `select` is missing"),
        (r#"{"select":{},"state":"drain"}"#, "`select` must have at least one of"),
        (r#"{"select":{"site":"b"}}"#, "exactly one of `state`, `percent`"),
        (r#"{"select":{"site":"b"},"state":"drain","percent":3}"#, "exactly one of `state`, `percent`"),
        (r#"{"select":{"site":"b"},"auto":true}"#, "the body must be an object"),
        (r#"{"select":{"site":"b"},"auto":"state","for":"1h"}"#, "takes neither `for` nor `reason`"),
        (r#"{"select":{"site":"b"},"percent":1001}"#, "`percent` must be a whole number"),
        (r#"{"select":{"backends":"b"},"state":"up"}"#, "`backends` is not known; these are: `pool`"),
    ] {
        let (head, problem) = fixture.send("POST", "/api/v1/overrides", "", Some(body)).await;
        assert_problem(&head, &problem, 400);
        assert!(problem.replace("\\\"", "\"").contains(expected), "{body}: {problem}");
    }
    let body = r#"{"select":{"site":"b"},"state":"drain","dry_run":true}"#;
    let tried = fixture.json("POST", "/api/v1/overrides", Some(body)).await;
    assert_eq!(tried, serde_json::json!({"dry_run": true, "needs_force": false, "consequences": []}));
}

#[tokio::test]
async fn a_change_whose_client_has_left_has_its_entry() {
    let mut fixture = start(Some(status("")));
    let answering = Arc::clone(&fixture.answering);
    let held = answering.lock().await;
    let body = r#"{"state":"drain"}"#;
    let mut client = TcpStream::connect(fixture.address).await.unwrap();
    let head = format!(
        "PUT {OVERRIDE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    fixture.overrides.recv().await.unwrap();
    // The server closes the connection when it sees that the client has left.
    client.shutdown().await.unwrap();
    assert_eq!(client.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    drop(held);
    let entries = fixture.audited(1).await;
    assert_eq!(
        (&entries[0]["subject"], &entries[0]["after"], &entries[0]["outcome"]),
        (&"web/one".into(), &"drain".into(), &"done".into())
    );
}

#[tokio::test]
async fn a_change_without_an_answer_in_time_is_neither_done_nor_refused() {
    let fixture = start(Some(status("")));
    let held = fixture.answering.lock().await;
    let (head, problem) = fixture.send("PUT", OVERRIDE, "", Some(r#"{"state":"drain"}"#)).await;
    assert_problem(&head, &problem, 503);
    assert!(problem.contains("it may still carry out the request"), "{problem}");
    let entry = &fixture.audited(1).await[0];
    assert_eq!(entry["outcome"], "unknown");
    assert!(entry["why"].as_str().unwrap().contains("did not answer within 5s"), "{entry}");
    drop(held);
}

#[tokio::test]
async fn refusals_that_never_reach_the_checker_are_entries_if_somebody_wanted_a_change() {
    let weak = AdminToken {
        name: "weak".into(),
        secret: BearerToken::parse("0123456789abcdef-weak").unwrap(),
        rights: vec![config::AdminRight::Read],
    };
    let right = AdminToken::of_token_file(BearerToken::parse("0123456789abcdef").unwrap());
    let access = Access { tokens: vec![weak, right], public_reads: true, ..Access::default() };
    let fixture = start_at("127.0.0.1:0", access, Some(status("")));
    let ask = async |token: &str, method: &str, path: &str, expected| {
        let header = format!("Authorization: Bearer 0123456789abcdef{token}\r\n");
        let body = if path.ends_with("failover") { r#"{"pool":"web"}"# } else { "" };
        let (head, problem) =
            fixture.send(method, path, &header, Some(body).filter(|body| !body.is_empty())).await;
        assert_problem(&head, &problem, expected);
        problem
    };
    let service = "/api/v1/services/none.example";
    for (token, method, path, expected) in [
        ("-weak", "DELETE", OVERRIDE, 403),
        ("-weak", "DELETE", WEIGHT, 403),
        ("-weak", "POST", "/api/v1/overrides", 403),
        ("-weak", "POST", "/api/v1/reload", 403),
        // Not again within a minute, not without a token, and nothing that only asks.
        ("-weak", "DELETE", OVERRIDE, 403),
        ("-wrong", "DELETE", OVERRIDE, 401),
        ("", "POST", &format!("{service}/failback?dry_run=true"), 404),
        ("", "POST", &format!("{service}/failback"), 404),
        ("", "PUT", &format!("{service}/failover"), 404),
    ] {
        ask(token, method, path, expected).await;
    }
    let problem = ask("", "POST", "/api/v1/services/www.lb.example.com/failback?force=true", 400).await;
    assert!(problem.contains("a failback cannot be forced"), "{problem}");
    let entries = fixture.audited(5).await;
    let told: Vec<[&str; 4]> = entries
        .iter()
        .map(|entry| {
            ["action", "subject", "token", "outcome"].map(|member| entry[member].as_str().unwrap_or_default())
        })
        .collect();
    let expected = [
        ["override", OVERRIDE, "weak", "refused"],
        ["weight", WEIGHT, "weak", "refused"],
        ["reload", "/api/v1/reload", "weak", "refused"],
        ["failback", "none.example", "token_file", "refused"],
        ["failover", "none.example", "token_file", "refused"],
    ];
    assert_eq!(told, expected);
    assert!(entries[0]["why"].as_str().unwrap().contains("the right `override`"), "{}", entries[0]);
    assert!(entries[0]["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{}", entries[0]);
}
