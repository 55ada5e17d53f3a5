//! The expected content of a response: a text, or a pattern.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use memchr::memmem;
use regex_automata::Input;
use regex_automata::meta::{BuildError, Cache, Regex};
use regex_automata::util::syntax;
use regex_syntax::hir::{Look, LookSet};

use crate::printable::excerpt;

/// The largest compiled expression, bytes: `\w{1000}` would take megabytes. In the worst case, a search
/// visits all of it for each byte.
pub const MAX_COMPILED: usize = 1024 * 1024;

/// The most bytes of states that a search caches. Beyond that it gets slower, not larger. So a hostile
/// backend can make an expression use this much memory, once per thread that searches.
///
/// Measured: with 256 KiB, `(?i)\pL{3,8}\d{4}` is 200 times slower. More than this, up to the library's
/// default of 2 MiB, hardly helps: an expression with more states usually has far more.
const MAX_CACHE: usize = 512 * 1024;

/// The content that the bytes from a backend must contain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expected {
    /// This literal text.
    Text(Vec<u8>),
    /// A match of this expression.
    Pattern(Pattern),
}

/// A regular expression over bytes. Two expressions are equal if their texts are equal.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Arc<str>,
    regex: Regex,
    /// Whether bytes after a match can invalidate it, as with `$`.
    looks_ahead: bool,
}

impl Expected {
    /// Whether the bytes from `start` on contain the text.
    pub(crate) fn text_is_in(text: &[u8], bytes: &[u8], start: usize) -> bool {
        let rest = bytes.get(start.saturating_sub(text.len().saturating_sub(1))..).unwrap_or_default();
        memmem::find(rest, text).is_some()
    }

    /// Whether a match in part of the data remains a match, whatever bytes follow.
    pub(crate) fn is_certain_early(&self) -> bool {
        match self {
            Self::Text(_) => true,
            Self::Pattern(pattern) => !pattern.looks_ahead,
        }
    }

    /// As part of a sentence: `"ready"`, or `a match of "ready|ok"`.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Text(text) => excerpt(text),
            Self::Pattern(pattern) => format!("a match of {}", excerpt(pattern.text.as_bytes())),
        }
    }
}

impl Pattern {
    /// Compiles an expression.
    ///
    /// # Errors
    /// If it is not a regular expression, or takes more than [`MAX_COMPILED`] bytes.
    pub fn new(text: &str) -> Result<Self, Box<BuildError>> {
        let config = Regex::config()
            .utf8_empty(false)
            .nfa_size_limit(Some(MAX_COMPILED))
            .hybrid_cache_capacity(MAX_CACHE);
        let syntax = syntax::Config::new().utf8(false);
        let regex = Regex::builder().configure(config).syntax(syntax).build(text).map_err(Box::new)?;
        // The expression has just been parsed.
        let looks =
            syntax::parse_with(text, &syntax).map_or(LookSet::full(), |tree| tree.properties().look_set());
        let ends = [Look::End, Look::EndLF, Look::EndCRLF];
        let looks_ahead = looks.contains_word() || ends.into_iter().any(|end| looks.contains(end));
        Ok(Self { text: text.into(), regex, looks_ahead })
    }

    /// The expression as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The worst-case work of searching this many bytes: how many bytes of the expression are visited.
    pub(crate) fn work(&self, bytes: usize) -> usize {
        self.regex.memory_usage().saturating_mul(bytes)
    }

    /// Whether there is a match within the first `length` bytes. Conditions such as `$` see all bytes.
    pub(crate) fn is_in(&self, bytes: &[u8], length: usize) -> bool {
        self.regex.is_match(Input::new(bytes).range(..length.min(bytes.len())))
    }

    /// As [`Pattern::is_in`], with the caller's cache from [`Pattern::cache`].
    pub(crate) fn is_in_with(&self, cache: &mut Cache, bytes: &[u8], length: usize) -> bool {
        let input = Input::new(bytes).range(..length.min(bytes.len())).earliest(true);
        self.regex.search_half_with(cache, &input).is_some()
    }

    /// Whether a cache of the other pattern fits this one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.text, &other.text)
    }

    pub(crate) fn cache(&self) -> Cache {
        self.regex.create_cache()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    #[test]
    fn patterns_are_found_anywhere() {
        for (text, bytes, found) in [
            ("a.c", "xabcx", true),
            ("^220 ", "220 mail", true),
            ("^220 ", "x220 mail", false),
            ("x*", "", true),
        ] {
            let pattern = pattern(text);
            assert_eq!(pattern.is_in(bytes.as_bytes(), bytes.len()), found, "{text:?} in {bytes:?}");
            let found_with = pattern.is_in_with(&mut pattern.cache(), bytes.as_bytes(), bytes.len());
            assert_eq!(found_with, found, "{text:?} in {bytes:?}");
        }
        assert!(pattern("(?-u:\\xff)").is_in(&[0, 0xff], 2), "bytes need not be text");
    }

    #[test]
    fn a_part_is_judged_in_the_light_of_the_whole() {
        assert!(pattern("dy").is_in(b"ready now", 5));
        for (text, bytes) in [("ready$", "ready now"), ("(?m)ready$", "ready now"), ("ready\\b", "readyish")]
        {
            assert!(!pattern(text).is_in(bytes.as_bytes(), 5), "{text}");
        }
    }

    #[test]
    fn some_matches_can_be_undone_by_what_follows() {
        for text in ["ready$", "(?m)ready$", "(?R)(?m)x$", "ready\\b", "\\Bx", "ready\\z", "ready(?-u:\\b)"] {
            assert!(pattern(text).looks_ahead, "{text}");
        }
        for text in ["ready", "^ready", "(?m)^ready", "\\Aready", "rea.*dy"] {
            assert!(!pattern(text).looks_ahead, "{text}");
        }
    }

    #[test]
    fn a_text_is_found_across_what_was_looked_at() {
        for start in 0..=9 {
            let found = Expected::text_is_in(b"ready", b"I'm ready", start);
            assert_eq!(found, start <= 8, "{start}");
        }
        assert!(Expected::text_is_in(b"", b"", 0));
    }

    #[test]
    fn equal_is_what_is_written_alike() {
        assert_eq!(pattern("a"), pattern("a"));
        assert_ne!(Expected::Pattern(pattern("a")), Expected::Text(b"a".to_vec()));
    }
}
