//! Names in any script, from the configuration to the API.

use crate::harness::{Server, http_get};

#[test]
fn a_service_is_found_and_shown_by_both_of_its_names() {
    let server = Server::start(
        "[pools.web]\nbackends = [\"192.0.2.1\"]\n[services.\"münchen.lb.example.test\"]\npools = [\"web\"]\n",
    );
    for name in ["m%C3%BCnchen.lb.example.test", "xn--mnchen-3ya.lb.example.test"] {
        let (_, body) = http_get(server.admin, &format!("/api/v1/services/{name}"));
        let service: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(service["name"], "xn--mnchen-3ya.lb.example.test", "{body}");
        assert_eq!(service["unicode_name"], "münchen.lb.example.test", "{body}");
    }
}
