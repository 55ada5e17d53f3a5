//! Access to the admin API of a running server: named tokens with rights, from the file to the audit.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{STEERD, ZONE};
use crate::support::{Steerd, TOKEN, http_with};

const CONFIG: &str = "[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
     [pools.web]\nbackends = [{ name = \"one\", address = \"192.0.2.1\" }, { name = \"two\", address = \"192.0.2.2\" }]\n\
     [services.\"www.lb.example.test\"]\npools = [\"web\"]\n";
const OVERRIDE: &str = "/api/v1/pools/web/backends/one/override";
const DRAIN: &str = r#"{"state":"drain"}"#;

/// The tokens of operators, of monitoring, and of a program that deploys.
const FILES: [(&str, &str); 5] = [
    ("zone", ZONE),
    ("token", TOKEN),
    ("ops", "operators-0123456789"),
    ("deploy", "deployment-0123456789"),
    ("next", "operators-9876543210"),
];
const TOKENS: &str = "token_file = \"token\"\n\
     [admin.tokens.ops]\nfile = \"ops\"\nrights = [\"read\", \"override\"]\n\
     [admin.tokens.deploy]\nfile = \"deploy\"\nrights = [\"reload\", \"upgrade\"]";

fn start() -> Steerd {
    let server = Steerd::start(CONFIG, &FILES);
    server.configure(CONFIG, TOKENS);
    assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
    server
}

/// The token in a file of [`FILES`].
fn token(name: &str) -> &'static str {
    FILES.iter().find(|(file, _)| *file == name).unwrap().1
}

fn ask(server: &Steerd, method: &str, path: &str, token: &str, body: &str) -> (u16, Value) {
    let (status, text) = http_with(server.admin, method, path, token, body);
    (status, serde_json::from_str(&text).unwrap())
}

#[test]
fn a_token_does_what_its_rights_say_and_the_audit_names_it() {
    let server = start();
    let (status, problem) = ask(&server, "PUT", OVERRIDE, token("deploy"), DRAIN);
    assert_eq!((status, &problem["right"]), (403, &json!("override")), "{problem:#}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("the token `deploy` has only: reload, upgrade"), "{detail}");
    assert!(detail.contains("[admin.tokens.deploy]"), "{detail}");
    let (status, problem) = ask(&server, "POST", "/api/v1/reload", token("ops"), "");
    assert_eq!((status, &problem["right"]), (403, &json!("reload")), "{problem:#}");

    assert_eq!(ask(&server, "PUT", OVERRIDE, token("ops"), DRAIN).0, 200);
    assert_eq!(ask(&server, "POST", "/api/v1/reload", token("deploy"), "").0, 200);
    let (_, audit) = ask(&server, "GET", "/api/v1/audit?limit=3", token("ops"), "");
    let entries = audit["entries"].as_array().unwrap();
    let found: Vec<_> = entries.iter().map(|entry| (&entry["action"], &entry["token"])).collect();
    assert_eq!(found[..2], [(&json!("reload"), &json!("deploy")), (&json!("override"), &json!("ops"))]);
    let by = entries[1]["by"].as_str().unwrap();
    assert!(by.ends_with("with the token `ops`"), "{by}");
}

/// The command line proves that the server knows this one of its tokens.
#[test]
fn commands_use_any_of_the_tokens() {
    let server = start();
    let drain = |file: &str| {
        let mut command = Command::new(STEERD);
        command.args(["drain", "web/two", "--admin", &format!("http://{}", server.admin), "--token-file"]);
        let output = command.arg(server.directory.path().join(file)).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(drain("ops").0, 0);
    let (code, told) = drain("deploy");
    assert!(code == 1 && told.contains("the right `override`"), "{told}");
    let (code, told) = drain("next");
    assert!(code == 1 && told.contains("the token was not sent"), "{told}");
}

/// Both tokens are accepted while clients change from one to the other.
#[test]
fn tokens_change_without_a_restart() {
    let server = start();
    let is_accepted = |name: &str| {
        let status = ask(&server, "PUT", OVERRIDE, token(name), DRAIN).0;
        assert!([200, 401].contains(&status), "{status}");
        status == 200
    };
    let reload = |tokens: &str| {
        server.configure(CONFIG, tokens);
        server.request("POST", "/api/v1/reload", "")
    };
    assert_eq!((is_accepted("ops"), is_accepted("next")), (true, false));
    let next = "[admin.tokens.ops-2]\nfile = \"next\"\nrights = [\"override\"]";
    let (status, report) = reload(&format!("{TOKENS}\n{next}"));
    assert_eq!(status, 200, "{report:#}");
    assert_eq!(
        report["admin"]["changed"],
        json!([{ "name": "tokens.ops-2", "details": ["a new token, for override"] }])
    );
    assert_eq!((is_accepted("ops"), is_accepted("next")), (true, true));

    // The content of the file is another token now, and its rights are others.
    let directory = server.directory.path();
    std::fs::copy(directory.join("next"), directory.join("ops")).unwrap();
    let (status, report) = reload(&TOKENS.replace("\"read\", \"override\"", "\"override\""));
    assert_eq!(status, 200, "{report:#}");
    let changed = &report["admin"]["changed"];
    assert_eq!(
        *changed,
        json!([
            { "name": "tokens.ops", "details": ["another token", "rights: read, override -> override"] },
            { "name": "tokens.ops-2", "details": ["this token is no longer accepted"] },
        ])
    );
    assert_eq!((is_accepted("ops"), is_accepted("next")), (false, true));

    // A file that cannot be read refuses the reload, and the tokens stay.
    std::fs::remove_file(directory.join("ops")).unwrap();
    let (status, problem) = reload(TOKENS);
    assert_eq!(status, 422);
    assert!(problem["errors"][0]["message"].as_str().unwrap().contains("`file` `"), "{problem:#}");
    assert!(is_accepted("next"));
}
