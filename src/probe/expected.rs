//! What must be found in a response: a text, or a pattern.

use std::hash::{Hash, Hasher};

use regex::bytes::Regex;

/// What must be found in bytes that a backend sent.
#[derive(Clone, Debug)]
pub enum Expected {
    /// This text, as it is.
    Text(Vec<u8>),
    /// A match of this expression.
    Pattern(Regex),
}

impl Expected {
    /// Whether it is found.
    #[must_use]
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Text(text) => {
                bytes.windows(text.len().max(1)).any(|window| window == text) || text.is_empty()
            }
            Self::Pattern(pattern) => pattern.is_match(bytes),
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
