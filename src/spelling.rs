//! Finds the word that a misspelt one was meant to be, for "did you mean" hints.
//!
//! The caller decides which words are known and words the hint.

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

/// Returns the candidate closest to `word`, in any case: at most a third of the letters differ (one in
/// short words), and never all of them. A word that says the opposite is not meant.
pub fn closest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let letters = word.chars().count();
    let most = (letters / 3).max(1).min(letters.saturating_sub(1));
    // The length difference is a lower bound of the distance. Computing the distance costs the product
    // of both lengths, and clients may send words of any length.
    let is_near = |candidate: &&str| candidate.chars().count().abs_diff(letters) <= most;
    let mut near = candidates.into_iter().filter(is_near).peekable();
    near.peek()?;
    let lowered = word.to_lowercase();
    near.map(|candidate| (candidate, candidate.to_lowercase()))
        .filter(|(_, other)| !are_opposites(&lowered, other))
        .map(|(candidate, other)| (strsim::osa_distance(&lowered, &other), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Whether one of two words, in lower case, says the opposite of the other. Then it is no slip of it, however
/// alike they are.
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
