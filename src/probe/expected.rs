//! What must be found in a response: a text, or a pattern.

use std::hash::{Hash, Hasher};

use memchr::memmem;
use regex::bytes::Regex;

use crate::probe::quote::quote;

/// What must be found in bytes that a backend sent.
#[derive(Clone, Debug)]
pub enum Expected {
    /// This text, as it is.
    Text(Vec<u8>),
    /// A match of this expression.
    Pattern(Regex),
}

impl Expected {
    /// Whether it is found. Takes time in proportion to the bytes, whatever they are.
    #[must_use]
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Text(text) => memmem::find(bytes, text).is_some(),
            Self::Pattern(pattern) => pattern.is_match(bytes),
        }
    }

    /// As it reads in a sentence: `"ready"`, or `a match of "ready|ok"`.
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Text(text) => quote(text),
            Self::Pattern(pattern) => format!("a match of {}", quote(pattern.as_str().as_bytes())),
        }
    }

    /// Two are equal when they are written alike.
    fn key(&self) -> (bool, &[u8]) {
        match self {
            Self::Text(text) => (false, text),
            Self::Pattern(pattern) => (true, pattern.as_str().as_bytes()),
        }
    }
}

impl PartialEq for Expected {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Expected {}

impl Hash for Expected {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_patterns_are_found_anywhere() {
        let text = |text: &str| Expected::Text(text.into());
        let pattern = |text| Expected::Pattern(Regex::new(text).unwrap());
        for (expected, bytes, found) in [
            (text("ready"), "all ready now", true),
            (text("ready"), "all reads", false),
            (text(""), "", true),
            (text("a.c"), "abc", false),
            (pattern("a.c"), "xabcx", true),
            (pattern("^220 "), "220 mail", true),
            (pattern("^220 "), "x220 mail", false),
        ] {
            assert_eq!(expected.is_in(bytes.as_bytes()), found, "{expected:?} in {bytes:?}");
        }
        assert!(pattern("(?-u:\\xff)").is_in(&[0, 0xff]), "bytes need not be text");
    }

    #[test]
    fn equal_is_what_is_written_alike() {
        let pattern = || Expected::Pattern(Regex::new("a").unwrap());
        assert_eq!(pattern(), pattern());
        assert_ne!(pattern(), Expected::Text(b"a".to_vec()));
    }
}
