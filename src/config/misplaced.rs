//! Keys that stand in a table that does not know them: where they belong.

/// The tables with a fixed set of keys. A key that several of them know is listed with each.
const PLACES: [(&str, &[&str]); 12] = [
    ("the top of the main file, above its first [table]", &["include"]),
    (
        "[server]",
        &[
            "listen",
            "workers",
            "udp_payload",
            "nsid",
            "chaos",
            "cookies",
            "cookie_secret_file",
            "client_subnet",
            "tcp_connections",
            "tcp_idle",
            "rate_limit",
            "state_dir",
            "startup_wait",
        ],
    ),
    (
        "[server.rate_limit]",
        &["responses_per_second", "all_responses_per_second", "slip", "networks_exempt"],
    ),
    ("[admin]", &["listen", "token_file", "public_reads"]),
    ("a key, [keys.\"NAME\"]", OF_A_KEY),
    ("a zone, [zones.\"NAME\"]", OF_A_ZONE),
    ("`transfer` of a zone", &["networks", "keys"]),
    ("a pool, [pools.NAME]", OF_A_POOL),
    (
        "a backend, backends = [{ address = \"192.0.2.1\", .. }]",
        &["name", "address", "addresses", "weight", "enabled", "site", "port", "check_address"],
    ),
    ("a service, [services.\"NAME\"]", OF_A_SERVICE),
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
            "expect",
            "service",
            "program",
            "arguments",
            "tls",
        ],
    ),
    (
        "`tls` of a check, check = { type = \"https\", tls = { .. } }",
        &["name", "verify", "ca_file", "min_days_left"],
    ),
];

/// The keys of a key that signs transfers.
pub(super) const OF_A_KEY: &[&str] = &["algorithm", "secret_file"];
/// The keys of a zone.
pub(super) const OF_A_ZONE: &[&str] = &["file", "transfer", "secondaries"];
/// The keys of a pool.
pub(super) const OF_A_POOL: &[&str] =
    &["backends", "check", "checks", "require", "min_healthy", "slow_start", "suspect_self"];
/// The keys of a service.
pub(super) const OF_A_SERVICE: &[&str] = &["pools", "answers", "ttl", "policy", "when_down"];

/// The tables that know the key, as the end of a sentence; none if no table does.
pub(super) fn places_of(key: &str) -> Option<String> {
    let places: Vec<&str> =
        PLACES.iter().filter(|(_, keys)| keys.contains(&key)).map(|(place, _)| *place).collect();
    (!places.is_empty()).then(|| places.join("; or to "))
}

/// Words of which each says the opposite of the other.
const OPPOSITES: [(&str, &str); 9] = [
    ("max", "min"),
    ("disable", "enable"),
    ("unhealthy", "healthy"),
    ("insecure", "secure"),
    ("private", "public"),
    ("clos", "open"),
    ("deny", "allow"),
    ("rise", "fall"),
    ("up", "down"),
];
/// Beginnings that make of a word its opposite.
const NEGATIONS: [&str; 9] = ["not_", "not-", "no_", "no-", "non_", "non-", "un", "dis", "in"];

/// Whether one of two words says the opposite of the other. Then it is no slip of it, however alike they are.
pub(super) fn are_opposites(word: &str, other: &str) -> bool {
    let negates = |word: &str, other: &str| {
        let mut denied = NEGATIONS.iter().filter_map(|negation| word.strip_prefix(negation));
        denied.any(|denied| strsim::osa_distance(denied, other) <= 1)
    };
    let says = |word: &str, said: &str| word.split(['_', '-']).any(|part| part.starts_with(said));
    let opposes = |word: &str, other: &str| {
        let mut pairs = OPPOSITES.iter();
        pairs.any(|(one, two)| says(word, one) && says(other, two) && !says(word, two) && !says(other, one))
    };
    negates(word, other) || negates(other, word) || opposes(word, other) || opposes(other, word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opposites_are_no_slips() {
        for (word, other, opposite) in [
            ("max_healthy", "min_healthy", true),
            ("min_unhealthy", "min_healthy", true),
            ("disabled", "enabled", true),
            ("disable", "enabled", true),
            ("unweighted", "weighted", true),
            ("not-required", "required", true),
            ("no_verify", "verify", true),
            ("fail-closed", "fail-open", true),
            ("private_reads", "public_reads", true),
            ("interval_up", "interval_down", true),
            ("enable", "enabled", false),
            ("intervall", "interval", false),
            ("interval", "interval_down", false),
            ("min_helthy", "min_healthy", false),
            ("web-1", "web-2", false),
        ] {
            for (word, other) in [(word, other), (other, word)] {
                assert_eq!(are_opposites(word, other), opposite, "{word} {other}");
            }
        }
    }
}
