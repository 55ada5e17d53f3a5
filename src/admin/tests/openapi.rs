//! The description of the API against the running server: every request is in it, with exactly its methods.

use std::collections::BTreeSet;

use super::*;

fn described() -> serde_json::Value {
    serde_json::from_str(crate::admin::OPENAPI).unwrap()
}

#[test]
fn every_path_is_described_and_no_other() {
    let document = described();
    let paths: BTreeSet<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let routes = crate::admin::requests();
    let served: BTreeSet<&str> = routes.iter().map(|(path, _)| *path).collect();
    assert_eq!(paths, served, "src/admin/openapi.json describes the requests of src/admin/mod.rs");
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
