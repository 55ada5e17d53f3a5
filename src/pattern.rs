//! Patterns for names: `*` stands for any characters, or none, and `?` for one.
//!
//! Names of pools and backends contain neither, so a pattern needs no escapes.

/// A pattern for names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(String);

impl NamePattern {
    /// A pattern; every text is one.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The pattern that all names match.
    #[must_use]
    pub fn any() -> Self {
        Self::new("*")
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the text can match more than one name.
    #[must_use]
    pub fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?'])
    }

    /// Whether a whole name matches. Takes time proportional to the product of both lengths at most.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name): (Vec<char>, Vec<char>) = (self.0.chars().collect(), name.chars().collect());
        let (mut at, mut read) = (0, 0);
        // The place after the last star, and the first character that it has not taken.
        let mut star: Option<(usize, usize)> = None;
        while let Some(character) = name.get(read) {
            match pattern.get(at) {
                Some('*') => {
                    at += 1;
                    star = Some((at, read));
                }
                Some(wanted) if *wanted == '?' || wanted == character => (at, read) = (at + 1, read + 1),
                // Only the last star needs to take more: what precedes it has matched already.
                _ => match &mut star {
                    Some((after, taken)) => {
                        *taken += 1;
                        (at, read) = (*after, *taken);
                    }
                    None => return false,
                },
            }
        }
        pattern.iter().skip(at).all(|rest| *rest == '*')
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// The definition, character by character.
    fn by_definition(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, _) => name.is_empty(),
            (Some((b'*', rest)), _) => (0..=name.len()).any(|taken| by_definition(rest, &name[taken..])),
            (Some((wanted, pattern)), Some((first, name))) => {
                (*wanted == b'?' || wanted == first) && by_definition(pattern, name)
            }
            (Some(_), None) => false,
        }
    }

    #[test]
    fn a_pattern_matches_as_defined() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut matched = 0;
        for _ in 0..20_000 {
            let mut text = |letters: &str, longest| -> String {
                let letters: Vec<char> = letters.chars().collect();
                (0..rng.random_range(0..=longest))
                    .map(|_| letters[rng.random_range(0..letters.len())])
                    .collect()
            };
            let (pattern, name) = (text("ab*?", 6), text("ab", 8));
            let expected = by_definition(pattern.as_bytes(), name.as_bytes());
            assert_eq!(NamePattern::new(&*pattern).matches(&name), expected, "{pattern} {name}");
            matched += usize::from(expected);
        }
        assert!(matched > 1000, "{matched}");
    }

    #[test]
    fn letters_are_compared_and_not_bytes() {
        assert!(NamePattern::new("?").matches("ä") && NamePattern::new("gw*").matches("gw1"));
        assert!(!NamePattern::new("GW*").matches("gw1") && !NamePattern::new("gw").matches("gw1"));
        assert!(NamePattern::any().matches("") && NamePattern::any().matches("2001:db8::1"));
        assert!(NamePattern::is_pattern("gw?") && !NamePattern::is_pattern("gw1"));
        let hostile = NamePattern::new("*a".repeat(2000));
        assert!(!hostile.matches(&"a".repeat(1999)) && hostile.matches(&"a".repeat(2000)));
    }
}
