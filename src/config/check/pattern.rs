//! What is said to a backend, and what must be found in what it says.

use regex::bytes::{Regex, RegexBuilder};

use crate::config::source::At;
use crate::config::value::Value;
use crate::probe::expected::Expected;

/// The most bytes that are sent, or looked for.
const MAX_TEXT: usize = 4096;
/// The largest compiled expression, bytes: `\w{1000}` would take megabytes.
const MAX_COMPILED: usize = 1024 * 1024;
/// What a search may take beside that, bytes; it gets slower rather than larger.
const MAX_CACHE: usize = 256 * 1024;

/// `{ contains = ".." }` or `{ matches = ".." }`.
pub(super) fn body(value: Value<'_>) -> Option<Expected> {
    let what = "a table: { contains = \"a text\" } or { matches = \"an expression\" }";
    if !value.is_table() {
        value.expected(what, value.as_str().map(|text| format!("did you mean {{ contains = {text:?} }}?")));
        return None;
    }
    let before = value.at.findings().errors();
    let mut table = value.table(value.at)?;
    let contains = table.read("contains", |value| text(value, "a text"));
    let matches = table.read("matches", pattern);
    let is_set = [table.get("contains"), table.get("matches")];
    table.close();
    match is_set {
        [Some(contains), Some(matches)] => {
            let message = "`body` has `contains` or `matches`, not both";
            matches.at.error_beside(message, contains.at, "the other");
        }
        [None, None] if value.at.findings().errors() == before => value.must_be(what, None),
        _ => {}
    }
    let found = contains.map(|text| Expected::Text(text.value.into())).or(matches.map(|read| read.value));
    found.filter(|_| value.at.findings().errors() == before)
}

/// What is sent on a connection: the bytes of the text.
pub(super) fn send(value: Value<'_>) -> Option<&str> {
    text(value, "the text to send")
}

fn text<'s>(value: Value<'s>, what: &str) -> Option<&'s str> {
    let text = value.string(what)?;
    if text.is_empty() || text.len() > MAX_TEXT {
        value.must_be(format!("{what} of 1 to {MAX_TEXT} bytes; this has {}", text.len()), None);
        return None;
    }
    Some(text)
}

/// A regular expression; what is wrong with it is shown where it stands in it.
pub(super) fn pattern(value: Value<'_>) -> Option<Expected> {
    let text = text(value, "a regular expression")?;
    // The parser of `regex` itself, asked first because it says where.
    let fault = match regex_syntax::ParserBuilder::new().utf8(false).build().parse(text) {
        Ok(_) => None,
        Err(regex_syntax::Error::Parse(error)) => Some((error.kind().to_string(), *error.span())),
        Err(regex_syntax::Error::Translate(error)) => Some((error.kind().to_string(), *error.span())),
        Err(other) => {
            refuse(value.at, &other.to_string());
            return None;
        }
    };
    if let Some((reason, span)) = fault {
        refuse(value.at.inside(span.start.offset..span.end.offset), &reason);
        return None;
    }
    let built = RegexBuilder::new(text).size_limit(MAX_COMPILED).dfa_size_limit(MAX_CACHE).build();
    built.map(|regex: Regex| Expected::Pattern(regex)).map_err(|error| refuse(value.at, &told(&error))).ok()
}

fn refuse(at: At<'_>, reason: &str) {
    at.error(format!("this is not a regular expression that can be used: {reason}"));
}

fn told(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => format!("compiled it takes more than {MAX_COMPILED} bytes"),
        other => other.to_string(),
    }
}
