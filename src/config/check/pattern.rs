//! Texts to send to a backend, and patterns to expect from it.

use crate::config::source::At;
use crate::config::value::Value;
use crate::probe::expected::{Expected, MAX_COMPILED, Pattern};

/// The most bytes that are sent, or looked for.
const MAX_TEXT: usize = 4096;

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

/// The bytes to send on a connection: those of the text.
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
    let built = Pattern::new(text).map_err(|error| match error.size_limit() {
        Some(_) => refuse(value.at, &format!("compiled it takes more than {MAX_COMPILED} bytes")),
        None => refuse(value.at, &error.to_string()),
    });
    built.map(Expected::Pattern).ok()
}

fn refuse(at: At<'_>, reason: &str) {
    at.error(format!("this is not a regular expression that can be used: {reason}"));
}
