//! Text that others chose, made fit for a terminal and a log.
//!
//! A file, a backend or a server may send characters that steer a terminal, begin a line of their
//! own in a log, or turn the order of what is read around. Here alone is decided which those are.
//! Where a text stands and how long it may be is not decided here.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character is shown as itself: it is no control character of ASCII or C1, changes no
/// direction, joins or hides nothing, and is none that Unicode has not assigned.
#[must_use]
pub fn is_printable(character: char) -> bool {
    match character {
        ' '..='~' => true,
        other => other.escape_debug().len() == 1,
    }
}

/// The text with every other character written as an escape, such as `\u{9b}` or `\n`.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    text.chars().for_each(|character| push(&mut shown, character));
    Cow::Owned(shown)
}

/// Adds one character as it is shown.
pub fn push(shown: &mut String, character: char) {
    if is_printable(character) {
        shown.push(character);
    } else {
        shown.extend(character.escape_debug());
    }
}

/// Text of others as it stands in a message: between backquotes, none of which is its own.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("`{}`", printable(text).replace('`', "\\u{60}"))
}

/// The message without the text of others: all from its first backquote to its last, so that a
/// backquote in that text ends nothing.
#[must_use]
pub fn without_quoted(message: &str) -> Cow<'_, str> {
    match message.split_once('`').zip(message.rsplit_once('`')) {
        Some(((before, _), (_, after))) => Cow::Owned(format!("{before}`...`{after}")),
        None => Cow::Borrowed(message),
    }
}

/// JSON that says the same: such a character stands in a string only, where it has an escape. Line
/// breaks between the values stay.
#[must_use]
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let stays = |character: char| character == '\n' || is_printable(character);
    if json.chars().all(stays) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if stays(character) {
            shown.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters that do something: of ASCII, of C1, those that change direction, that are not
    /// seen, that end a line.
    const ACTIVE: [char; 18] = [
        '\0',
        '\n',
        '\r',
        '\t',
        '\u{7}',
        '\u{1b}',
        '\u{7f}',
        '\u{85}',
        '\u{90}',
        '\u{9b}',
        '\u{9d}',
        '\u{61c}',
        '\u{200e}',
        '\u{2028}',
        '\u{202e}',
        '\u{2066}',
        '\u{feff}',
        '\u{e0041}',
    ];

    #[test]
    fn what_does_something_is_escaped_and_the_rest_stays() {
        for active in ACTIVE {
            let shown = printable(&format!("a{active}b")).into_owned();
            assert!(shown.chars().all(is_printable) && shown.starts_with("a\\"), "{active:?}: {shown:?}");
        }
        for plain in ["", "täst `x` \"y\" 'z' \\", "Ελλάδα 日本 😀"] {
            assert_eq!(printable(plain), plain);
        }
        assert_eq!(printable("\u{9b}2J\u{85}"), "\\u{9b}2J\\u{85}");
    }

    #[test]
    fn json_says_the_same() {
        let shown = printable_json("{\n  \"a\": \"x\u{9b}\u{e0041}ä\"\n}");
        assert_eq!(shown, "{\n  \"a\": \"x\\u009b\\udb40\\udc41ä\"\n}");
    }
}
