//! Finds the tables in which an unknown key would be valid.

/// The tables with a fixed set of keys. A key that several tables have is listed in each.
const PLACES: [(&str, &[&str]); 23] = [
    ("the top of the main file, above its first [table]", &["include"]),
    (
        "[server]",
        &[
            "listen",
            "workers",
            "steering",
            "udp_payload",
            "nsid",
            "chaos",
            "cookies",
            "cookie_secret_file",
            "client_subnet",
            "tcp_connections",
            "tcp_idle",
            "rate_limit",
            "query_log",
            "dnstap",
            "state_dir",
            "start_with_last_good",
            "watch",
            "startup_wait",
        ],
    ),
    ("[server.query_log]", &["file", "sample", "anonymize"]),
    ("[server.dnstap]", &["socket", "sample", "identity"]),
    ("[server.rate_limit]", &["responses_per_second", "all_responses_per_second", "slip", "networks_exempt"]),
    ("[admin]", &["listen", "socket", "tls", "token_file", "tokens", "public_reads"]),
    ("`tls` of [admin]", &["certificate", "key"]),
    ("`socket` of [admin]", &["mode", "group"]),
    ("a token, [admin.tokens.NAME]", &["file", "rights"]),
    ("[client]", &["admin", "token_file", "ca_file"]),
    ("[geo]", &["database"]),
    ("a key, [keys.\"NAME\"]", OF_A_KEY),
    ("a zone, [zones.\"NAME\"]", OF_A_ZONE),
    ("`transfer` of a zone", &["networks", "keys"]),
    ("a pool, [pools.NAME]", OF_A_POOL),
    (
        "a backend, backends = [{ address = \"192.0.2.1\", .. }]",
        &["name", "address", "addresses", "weight", "enabled", "site", "port", "host", "check_address"],
    ),
    ("a service, [services.\"NAME\"]", OF_A_SERVICE),
    ("`persistence` of a service", &["ipv4", "ipv6"]),
    (
        "a rule of a service, rules = [{ networks = [\"192.0.2.0/24\"], .. }]",
        &[
            "networks",
            "networks_file",
            "countries",
            "continents",
            "asns",
            "pools",
            "answers",
            "ttl",
            "when_down",
        ],
    ),
    (
        "a check, check = { type = \"http\", .. }",
        &[
            "type",
            "name",
            "port",
            "interval",
            "interval_down",
            "timeout",
            "recheck",
            "rise",
            "fall",
            "damping",
            "critical",
            "observe_only",
            "host",
            "path",
            "method",
            "headers",
            "http_version",
            "status",
            "drain_status",
            "body",
            "body_limit",
            "weight_header",
            "send",
            "send_hex",
            "expect",
            "expect_hex",
            "proxy_protocol",
            "service",
            "program",
            "arguments",
            "tls",
        ],
    ),
    (
        "`body` of a check, check = { type = \"http\", body = { .. } }",
        &["contains", "matches", "not_contains", "not_matches"],
    ),
    (
        "`tls` of a check, check = { type = \"https\", tls = { .. } }",
        &["name", "verify", "ca_file", "min_days_left", "client_certificate", "client_key"],
    ),
    (
        "an alert, [[alerts]]",
        &[
            "name",
            "url",
            "url_file",
            "exec",
            "token_file",
            "token_header",
            "ca_file",
            "timeout",
            "template",
            "template_file",
            "events",
            "pools",
            "services",
            "delay",
            "group",
            "repeat",
            "resolve",
        ],
    ),
];

/// Keys of other programs, with the equivalent key and its notation here.
const ELSEWHERE: [(&str, &str, &str); 6] = [
    ("insecure", "verify", "verify = false"),
    ("insecure_skip_verify", "verify", "verify = false"),
    ("skip_verify", "verify", "verify = false"),
    ("no_verify", "verify", "verify = false"),
    ("verify_none", "verify", "verify = false"),
    ("ssl_verify", "verify", "verify"),
];

/// The notation here for a key of another program, if the table has the equivalent key.
pub(super) fn written_here(key: &str, known: &[&str]) -> Option<&'static str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let (.., written) = ELSEWHERE.iter().find(|(other, here, _)| *other == key && known.contains(here))?;
    Some(written)
}

/// The keys of an entry in `[keys]`.
pub(super) const OF_A_KEY: &[&str] = &["algorithm", "secret_file"];
/// The keys of a zone.
pub(super) const OF_A_ZONE: &[&str] = &["file", "transfer", "secondaries"];
/// The keys of a pool.
pub(super) const OF_A_POOL: &[&str] =
    &["backends", "check", "checks", "require", "min_healthy", "slow_start", "suspect_self"];
/// The keys of a service.
pub(super) const OF_A_SERVICE: &[&str] =
    &["pools", "answers", "ttl", "policy", "persistence", "spread", "when_down", "failback", "rules"];

/// All keys, each with the number of tables that have it.
#[cfg(test)]
pub(super) fn all() -> std::collections::HashMap<&'static str, usize> {
    let mut all = std::collections::HashMap::new();
    for key in PLACES.iter().flat_map(|(_, keys)| *keys) {
        *all.entry(*key).or_default() += 1;
    }
    all
}

/// The tables that have the key, as the end of a sentence; none if there is no such table.
pub(super) fn places_of(key: &str) -> Option<String> {
    let places: Vec<&str> =
        PLACES.iter().filter(|(_, keys)| keys.contains(&key)).map(|(place, _)| *place).collect();
    (!places.is_empty()).then(|| places.join("; or to "))
}
