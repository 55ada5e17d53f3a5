//! Finds the word that a misspelt one was meant to be, for "did you mean" hints.
//!
//! The caller decides which words are known and words the hint.

/// Returns the candidate closest to `word`, in any case: at most a third of the letters differ (one in
/// short words), and never all of them.
pub fn closest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let letters = word.chars().count();
    let most = (letters / 3).max(1).min(letters.saturating_sub(1));
    // The length difference is a lower bound of the distance. Computing the distance costs the product
    // of both lengths, and clients may send words of any length.
    let is_near = |candidate: &&str| candidate.chars().count().abs_diff(letters) <= most;
    let mut near = candidates.into_iter().filter(is_near).peekable();
    near.peek()?;
    let lowered = word.to_lowercase();
    near.map(|candidate| (strsim::osa_distance(&lowered, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
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
}
