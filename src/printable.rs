//! Makes foreign text safe for terminals and logs.
//!
//! Text from a file, a backend or a server may contain characters that control a terminal, start a new log
//! line, or reverse the reading order. This module alone decides which characters these are. The caller
//! decides where a text is shown and how long it may be.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Whether a character is shown as it is: it is not a control character (ASCII or C1), a direction mark, a
/// joiner, invisible, or unassigned in Unicode.
#[must_use]
pub fn is_printable(character: char) -> bool {
    match character {
        ' '..='~' => true,
        other => other.escape_debug().len() == 1,
    }
}

/// Escapes every unprintable character, for example as `\u{9b}` or `\n`.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    text.chars().for_each(|character| push(&mut shown, character));
    Cow::Owned(shown)
}

/// Appends one character in its displayed form.
pub fn push(shown: &mut String, character: char) {
    if is_printable(character) {
        shown.push(character);
    } else {
        shown.extend(character.escape_debug());
    }
}

/// Foreign text quoted for a message: between backquotes, with its own backquotes escaped.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("`{}`", printable(text).replace('`', "\\u{60}"))
}

/// The most characters of an [`excerpt`].
pub const EXCERPT_LIMIT: usize = 120;

/// The beginning of a foreign text, in double quotes. Bytes that are not UTF-8 and unprintable characters are
/// escaped. If the text is longer than [`EXCERPT_LIMIT`], `...` follows the quotes.
#[must_use]
pub fn excerpt(text: &[u8]) -> String {
    // A character has up to four bytes. One character more shows whether the text is longer.
    let bytes = text.get(..4 * (EXCERPT_LIMIT + 1)).unwrap_or(text);
    let mut quoted = String::with_capacity(bytes.len().min(EXCERPT_LIMIT) + 2);
    quoted.push('"');
    let mut length = 0;
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                // A single quote needs no escape in double quotes.
                '\'' => push_within(&mut quoted, &mut length, format_args!("'")),
                _ => push_within(&mut quoted, &mut length, format_args!("{}", char.escape_debug())),
            }
        }
        for byte in chunk.invalid() {
            push_within(&mut quoted, &mut length, format_args!("\\x{byte:02x}"));
        }
    }
    quoted.push('"');
    if length > EXCERPT_LIMIT {
        quoted.push_str("...");
    }
    quoted
}

/// Appends a character in its displayed form, if all of it fits. `length` counts it in either case.
fn push_within(quoted: &mut String, length: &mut usize, shown: fmt::Arguments<'_>) {
    let before = quoted.len();
    // Writing to a string cannot fail.
    let _ = quoted.write_fmt(shown);
    *length += quoted.get(before..).map_or(0, |added| added.chars().count());
    if *length > EXCERPT_LIMIT {
        quoted.truncate(before);
        *length = EXCERPT_LIMIT + 1;
    }
}

/// The message without foreign text: everything from the first to the last backquote is removed, so a
/// backquote in that text does no harm.
#[must_use]
pub fn without_quoted(message: &str) -> Cow<'_, str> {
    match message.split_once('`').zip(message.rsplit_once('`')) {
        Some(((before, _), (_, after))) => Cow::Owned(format!("{before}`...`{after}")),
        None => Cow::Borrowed(message),
    }
}

/// Escapes unprintable characters in JSON without changing its meaning: they can occur only in strings, which
/// have escapes for them. Line breaks between values remain.
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
    use proptest::prelude::*;

    use super::*;

    /// Active characters: ASCII and C1 controls, direction marks, invisible characters, line ends.
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

    #[test]
    fn an_excerpt_is_escaped() {
        assert_eq!(excerpt(b"fine"), "\"fine\"");
        assert_eq!(excerpt(b"it's \"fine\""), r#""it's \"fine\"""#);
        assert_eq!(excerpt("schöne Grüße".as_bytes()), "\"schöne Grüße\"");
        assert_eq!(excerpt(b"\x1b[2Ja\r\nb\"c\\"), r#""\u{1b}[2Ja\r\nb\"c\\""#);
        assert_eq!(excerpt(b"\xff\xc3"), r#""\xff\xc3""#);
        // Right-to-left override: the text after it would be displayed backwards.
        assert_eq!(excerpt("\u{202e}".as_bytes()), r#""\u{202e}""#);
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        assert_eq!(excerpt(&[b'x'; EXCERPT_LIMIT]), format!("\"{}\"", "x".repeat(EXCERPT_LIMIT)));
        assert_eq!(excerpt(&[b'x'; EXCERPT_LIMIT + 1]), format!("\"{}\"...", "x".repeat(EXCERPT_LIMIT)));
        assert_eq!(excerpt(&[0; 10_000]), format!("\"{}\"...", "\\0".repeat(EXCERPT_LIMIT / 2)));
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_short_line(bytes in proptest::collection::vec(any::<u8>(), 0..800)) {
            let quoted = excerpt(&bytes);
            prop_assert!(quoted.chars().count() <= EXCERPT_LIMIT + 5, "{quoted}");
            prop_assert!(!quoted.chars().any(char::is_control), "{quoted}");
        }
    }
}
