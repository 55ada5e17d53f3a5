//! A change of the query log and dnstap.

/// As those of `super::cases`.
pub(super) fn case() -> (String, String, Vec<&'static str>) {
    let server = "[server]\nlisten = [\"127.0.0.1:0\"]\n";
    (
        server.into(),
        format!(
            "{server}query_log = {{ file = \"/no/q\" }}\ndnstap = {{ socket = \"/no/tap\", identity = \"a\" }}"
        ),
        vec!["[server] query_log: none -> 1% to /no/q", "[server] dnstap: none -> 100% to /no/tap as a"],
    )
}
