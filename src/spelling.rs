//! Finds the known word that a misspelt one probably means, for "did you mean" hints.
//!
//! The caller decides which words are known, and words the hint.

/// Pairs of words with opposite meanings.
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
/// Prefixes that negate a word.
const NEGATIONS: [&str; 9] = ["not_", "not-", "no_", "no-", "non_", "non-", "un", "dis", "in"];

/// The shortest word that may be an abbreviation of another one.
const MIN_BEGINNING: usize = 4;

/// Returns the candidate closest to `word`, ignoring case. `word` may be an abbreviation: the beginning of
/// the candidate, not cut at the end of a part. Otherwise at most a third of the letters differ (one in short
/// words), and never all of them. A candidate with the opposite meaning is never returned.
pub fn closest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let letters = word.chars().count();
    let most = (letters / 3).max(1).min(letters.saturating_sub(1));
    let is_cut = |candidate: &str| {
        let begins = candidate.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        let next = candidate.get(word.len()..).and_then(|rest| rest.chars().next());
        letters >= MIN_BEGINNING && begins && next.is_some_and(char::is_alphanumeric)
    };
    // The length difference is a lower bound of the distance. Computing the distance takes time proportional
    // to the product of both lengths, and clients may send words of any length.
    let is_near = |candidate: &str| candidate.chars().count().abs_diff(letters) <= most;
    let rank = |candidate: &'c str| {
        let is_cut = is_cut(candidate);
        if !is_cut && !is_near(candidate) {
            return None;
        }
        let (word, other) = (word.to_lowercase(), candidate.to_lowercase());
        let distance = if is_cut { 1 } else { strsim::osa_distance(&word, &other) };
        (distance <= most && !are_opposites(&word, &other)).then_some((
            distance,
            !is_cut,
            if is_cut { candidate.len() } else { 0 },
        ))
    };
    let ranked = candidates.into_iter().filter_map(|candidate| Some((rank(candidate)?, candidate)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, candidate)| candidate)
}

/// Whether one of two words, in lower case, means the opposite of the other. Then it is not a misspelling of
/// it, however similar they are.
#[must_use]
pub fn are_opposites(word: &str, other: &str) -> bool {
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
    fn a_slip_is_found_and_a_stranger_is_not() {
        let known = ["interval", "timeout", "CNAME", "MX", "A"];
        for (word, meant) in [
            ("intervall", Some("interval")),
            ("tiemout", Some("timeout")),
            ("cnam", Some("CNAME")),
            ("MY", Some("MX")),
            ("B", None),
            ("", None),
            ("weight", None),
        ] {
            assert_eq!(closest(word, known), meant, "{word}");
        }
        let known = ["client_certificate", "client_key", "weight_header", "interval_down", "interval"];
        for (word, meant) in [
            ("client_cert", Some("client_certificate")),
            ("client_keys", Some("client_key")),
            ("inter", Some("interval")),
            ("weight", None),
            ("int", None),
        ] {
            assert_eq!(closest(word, known), meant, "{word}");
        }
    }

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
