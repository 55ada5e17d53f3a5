//! The description of the API against the running server: every request is in it, with exactly its methods.

use std::collections::BTreeSet;

use super::*;
use crate::admin::gate::RouteAccess;
use crate::audit::{AuditAction, AuditOutcome};
use crate::config::AdminRight;

fn described() -> serde_json::Value {
    serde_json::from_str(crate::admin::OPENAPI).unwrap()
}

#[test]
fn every_path_is_described_and_no_other() {
    let document = described();
    let paths: BTreeSet<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let routes = crate::admin::requests();
    let served: BTreeSet<&str> = routes.iter().map(|(path, ..)| *path).collect();
    assert_eq!(paths, served, "src/admin/openapi.json describes the requests of src/admin/mod.rs");
}

#[test]
fn the_actions_and_outcomes_of_the_audit_are_described() {
    let document = described();
    let parameters = document["paths"]["/api/v1/audit"]["get"]["parameters"].as_array().unwrap();
    let action = parameters.iter().find(|parameter| parameter["name"] == "action").unwrap();
    let actions = AuditAction::ALL.map(AuditAction::as_str);
    assert_eq!(action["schema"]["items"]["enum"], serde_json::json!(actions));
    let why = String::new;
    let outcomes = [AuditOutcome::Done, AuditOutcome::Refused(why()), AuditOutcome::Unknown(why())];
    let described = &document["components"]["schemas"]["AuditRecord"]["properties"]["outcome"]["enum"];
    assert_eq!(*described, serde_json::json!(outcomes.each_ref().map(AuditOutcome::as_str)));
}

/// The right that an operation of the document needs; none if it is open.
fn right_of(operation: &serde_json::Value) -> Option<&str> {
    operation["security"][0].get("token").map(|rights| rights[0].as_str().unwrap())
}

#[test]
fn every_operation_says_which_right_it_needs() {
    let document = described();
    for (path, access, _) in crate::admin::requests() {
        let right = match access {
            RouteAccess::Open => [None, None],
            RouteAccess::Reads => [Some("read"), None],
            RouteAccess::Changes(right) => [Some("read"), Some(right.as_str())],
        };
        for (method, operation) in document["paths"][path].as_object().unwrap() {
            let expected = if method == "get" { right[0] } else { right[1] };
            assert_eq!(right_of(operation), expected, "{method} {path}");
            let is_open = operation["security"].as_array().unwrap().contains(&serde_json::json!({}));
            assert_eq!(is_open, method == "get", "reading may need no token: {method} {path}");
            let has = |status: &str| operation["responses"].get(status).is_some();
            assert_eq!((has("401"), has("403")), (expected.is_some(), true), "{method} {path}");
        }
    }
}

/// Each operation of the document without, with a wrong, with a too weak and with the right token.
#[tokio::test]
async fn every_operation_is_for_tokens_with_its_right() {
    let token = |name: &str, rights: &[AdminRight]| AdminToken {
        name: name.into(),
        secret: BearerToken::parse(&format!("0123456789abcdef-{name}")).unwrap(),
        rights: rights.to_vec(),
    };
    let mut tokens = Vec::new();
    for right in AdminRight::ALL {
        let others = AdminRight::ALL.into_iter().filter(|other| *other != right).collect::<Vec<_>>();
        tokens.extend([token(right.as_str(), &[right]), token(&format!("not-{}", right.as_str()), &others)]);
    }
    let access = Access { tokens, ..Access::default() };
    let mut fixture = start_at("0.0.0.0:0", access, Some(status("")));
    fixture.address.set_ip("127.0.0.1".parse().unwrap());
    // A reload fails, and the tokens stay.
    std::fs::remove_file(fixture.directory.path().join("steerd.toml")).unwrap();
    let mut walked = 0;
    for (template, operations) in described()["paths"].as_object().unwrap() {
        let path = template.replace("{pool}", "web").replace("{backend}", "one");
        let path = path.replace("{name}", "www.lb.example.com");
        for (method, operation) in operations.as_object().unwrap() {
            let send = async |token: &str| {
                let header = format!("Authorization: Bearer 0123456789abcdef-{token}\r\n");
                let header = if token.is_empty() { String::new() } else { header };
                let header = format!("Accept: application/json\r\n{header}");
                let (head, body) = fixture.send(&method.to_uppercase(), &path, &header, None).await;
                (head.split(' ').nth(1).unwrap().to_owned(), body)
            };
            let Some(right) = right_of(operation) else {
                assert!(!["401", "403"].contains(&&*send("").await.0), "{method} {path}");
                continue;
            };
            for (token, expected) in [("", "401"), ("wrong", "401"), (&*format!("not-{right}"), "403")] {
                let (status, body) = send(token).await;
                assert_eq!(status, expected, "{method} {path} with {token:?}: {body}");
                let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
                assert_eq!(problem["right"], right, "{method} {path} with {token:?}");
                assert!(
                    problem["detail"].as_str().unwrap().contains(&format!("the right `{right}`")),
                    "{body}"
                );
            }
            let (status, body) = send(right).await;
            assert!(!["401", "403"].contains(&&*status), "{method} {path}: {status} {body}");
            walked += 1;
        }
    }
    assert!(walked > 30, "{walked}");
}

#[tokio::test]
async fn every_method_is_described_and_no_other() {
    let fixture = start(Some(status("")));
    for (path, methods) in described()["paths"].as_object().unwrap() {
        let path =
            path.replace("{pool}", "web").replace("{backend}", "one").replace("{name}", "www.lb.example.com");
        let (head, problem) = fixture.request("PATCH", &path).await;
        assert_problem(&head, &problem, 405);
        let allowed = head.lines().find_map(|line| line.strip_prefix("allow: ")).unwrap();
        let allowed: BTreeSet<&str> = allowed.split(',').filter(|method| *method != "head").collect();
        let methods: BTreeSet<&str> = methods.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(methods, allowed, "{path}");
    }
}

#[tokio::test]
async fn the_description_is_served_as_it_is() {
    let fixture = start(Some(status("")));
    assert_eq!(fixture.json("GET", "/api/v1/openapi.json", None).await, described());
}
