//! Texts that a check sends, and patterns that it expects.

use data_encoding::HEXLOWER_PERMISSIVE;

use crate::check::{Expected, MAX_COMPILED, Pattern};
use crate::config::source::At;
use crate::config::value::TomlValue;

/// The longest text to send or to search for, bytes.
const MAX_TEXT: usize = 4096;

/// The requirement for a body.
#[derive(Clone, Debug)]
pub(super) struct BodyRequirement {
    pub(super) expected: Expected,
    /// The body must not match.
    pub(super) without: bool,
}

/// `{ contains = ".." }`, `{ matches = ".." }`, or the same with the prefix `not_`.
pub(super) fn body(value: TomlValue<'_>) -> Option<BodyRequirement> {
    let what = "a table: { contains = \"a text\" }, { not_contains = \"a text\" } or { matches = \"an expression\" }";
    if !value.is_table() {
        value.expected(what, value.as_str().map(|text| format!("did you mean {{ contains = {text:?} }}?")));
        return None;
    }
    let before = value.at.findings().errors();
    let mut table = value.table(value.at)?;
    let of_text = |value| text(value, "a text").map(|text| Expected::Text(text.into()));
    let keys = ["contains", "not_contains", "matches", "not_matches"];
    let read = [
        table.read(keys[0], of_text),
        table.read(keys[1], of_text),
        table.read(keys[2], pattern),
        table.read(keys[3], pattern),
    ];
    let values = keys.map(|key| table.get(key));
    table.close();
    let mut is_set = keys.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?)));
    match (is_set.next(), is_set.next()) {
        (Some((first, one)), Some((second, other))) => {
            let message = format!("`body` has `{first}` or `{second}`, not both");
            other.at.error_beside(message, one.at, "the other");
        }
        (None, _) if value.at.findings().errors() == before => value.must_be(what, None),
        _ => {}
    }
    let mut found = keys.into_iter().zip(read);
    let found = found.find_map(|(key, read)| {
        Some(BodyRequirement { expected: read?.value, without: key.starts_with("not_") })
    });
    found.filter(|_| value.at.findings().errors() == before)
}

/// Bytes in hexadecimal, optionally separated by spaces or colons.
pub(super) fn bytes(value: TomlValue<'_>) -> Option<Vec<u8>> {
    let what = "bytes in hexadecimal, such as \"16 03 01\"";
    let text = value.string(what)?;
    let digits: String = text.chars().filter(|character| !matches!(character, ' ' | ':')).collect();
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok();
    let bytes = bytes.filter(|bytes| (1..=MAX_TEXT).contains(&bytes.len()));
    if bytes.is_none() {
        value.must_be(format!("{what}: pairs of digits for 1 to {MAX_TEXT} bytes"), None);
    }
    bytes
}

/// The text to send on a connection.
pub(super) fn send(value: TomlValue<'_>) -> Option<&str> {
    text(value, "the text to send")
}

fn text<'s>(value: TomlValue<'s>, what: &str) -> Option<&'s str> {
    let text = value.string(what)?;
    if text.is_empty() || text.len() > MAX_TEXT {
        value.must_be(format!("{what} of 1 to {MAX_TEXT} bytes; this has {}", text.len()), None);
        return None;
    }
    Some(text)
}

/// A regular expression. Errors are reported at their location in it.
pub(super) fn pattern(value: TomlValue<'_>) -> Option<Expected> {
    let text = text(value, "a regular expression")?;
    // The parser of `regex` runs first, because its errors have a location.
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
