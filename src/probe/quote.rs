//! Text from a backend, made fit for a person's screen: quoted, escaped and short.

use std::fmt::Write;

/// The most characters of a backend's text that stand in a detail.
pub(super) const QUOTE_LIMIT: usize = 120;

/// The text in quotes. Bytes that are no text, or would do something to a terminal or a log, are escaped; a
/// text longer than [`QUOTE_LIMIT`] ends in `...` behind the quotes.
pub(super) fn quote(said: &[u8]) -> String {
    // A character has up to four bytes, and one more shows that there is more.
    let bytes = said.get(..4 * (QUOTE_LIMIT + 1)).unwrap_or(said);
    let mut quoted = String::with_capacity(bytes.len().min(QUOTE_LIMIT) + 2);
    quoted.push('"');
    let mut length = 0;
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            push(&mut quoted, &mut length, format_args!("{}", char.escape_debug()));
        }
        for byte in chunk.invalid() {
            push(&mut quoted, &mut length, format_args!("\\x{byte:02x}"));
        }
    }
    quoted.push('"');
    if length > QUOTE_LIMIT {
        quoted.push_str("...");
    }
    quoted
}

/// Adds a character as it is shown, if it fits as a whole; `length` counts what was wanted.
fn push(quoted: &mut String, length: &mut usize, shown: std::fmt::Arguments<'_>) {
    let before = quoted.len();
    // Writing to a string cannot fail.
    let _ = quoted.write_fmt(shown);
    *length += quoted.get(before..).map_or(0, |added| added.chars().count());
    if *length > QUOTE_LIMIT {
        quoted.truncate(before);
        *length = QUOTE_LIMIT + 1;
    }
}

/// The first line of a text, without what ends it; blank lines before it are skipped.
pub(super) fn first_line(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .find(|line| !line.is_empty())
        .unwrap_or_default()
}

/// The words of a text, with a single space between them. Of a page or a document in XML the tags are left out, and
/// what stands in `style` and `script`.
pub(super) fn words(text: &[u8]) -> Vec<u8> {
    let text = text.trim_ascii_start();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut plain = Vec::new();
    let mut rest = text;
    let is_marked_up = text.starts_with(b"<");
    while let Some(at) = rest.iter().position(|byte| is_marked_up && *byte == b'<') {
        let (before, tag) = rest.split_at(at);
        plain.extend_from_slice(before);
        plain.push(b' ');
        let hides = [&b"<style"[..], b"<script"]
            .iter()
            .any(|name| tag.get(..name.len()).is_some_and(|begins| begins.eq_ignore_ascii_case(name)));
        let end = if hides { memchr::memmem::find(tag, b"</").unwrap_or(tag.len()) } else { 0 };
        let tag = tag.get(end..).unwrap_or_default();
        let end = tag.iter().position(|byte| *byte == b'>').map_or(tag.len(), |end| end + 1);
        rest = tag.get(end..).unwrap_or_default();
    }
    plain.extend_from_slice(rest);
    let words = plain.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&b' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_something_to_a_terminal_is_escaped() {
        assert_eq!(quote(b"fine"), "\"fine\"");
        assert_eq!(quote("schöne Grüße".as_bytes()), "\"schöne Grüße\"");
        assert_eq!(quote(b"\x1b[2Ja\r\nb\"c\\"), r#""\u{1b}[2Ja\r\nb\"c\\""#);
        assert_eq!(quote(b"\xff\xc3"), r#""\xff\xc3""#);
        // Right-to-left override: what follows would be read backwards.
        assert_eq!(quote("\u{202e}".as_bytes()), r#""\u{202e}""#);
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        assert_eq!(quote(&[b'x'; QUOTE_LIMIT]), format!("\"{}\"", "x".repeat(QUOTE_LIMIT)));
        assert_eq!(quote(&[b'x'; QUOTE_LIMIT + 1]), format!("\"{}\"...", "x".repeat(QUOTE_LIMIT)));
        assert_eq!(quote(&[0; 10_000]), format!("\"{}\"...", "\\0".repeat(QUOTE_LIMIT / 2)));
    }

    #[test]
    fn the_first_line_is_the_first_with_something_on_it() {
        assert_eq!(first_line(b"\r\n  \n OK - fine \r\nmore\n"), b"OK - fine");
        assert_eq!(first_line(b"  \n"), b"");
        assert_eq!(first_line(b""), b"");
    }

    #[test]
    fn words_are_those_that_a_page_shows() {
        for (text, shown) in [
            ("no space\r\n left ", "no space left"),
            ("a < b > c", "a < b > c"),
            ("", ""),
            ("<html>\r\n<head><title>404 Not Found</title></head>\n<body>", "404 Not Found"),
            ("<!DOCTYPE html><style>a > b {}</style><p>Down", "Down"),
            ("\u{feff}<?xml version='1.0'?><Error><Code>NoSuchKey</Code><Key>k", "NoSuchKey k"),
            ("<script>let never = ", ""),
            ("{\"error\":\"<full>\"}", "{\"error\":\"<full>\"}"),
        ] {
            assert_eq!(words(text.as_bytes()), shown.as_bytes(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn words_are_no_more_than_the_text(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(words(&bytes).len() <= bytes.len() + 1);
        }

        #[test]
        fn any_bytes_make_a_short_line(bytes in proptest::collection::vec(any::<u8>(), 0..800)) {
            let quoted = quote(&bytes);
            prop_assert!(quoted.chars().count() <= QUOTE_LIMIT + 5, "{quoted}");
            prop_assert!(!quoted.chars().any(char::is_control), "{quoted}");
        }
    }
}
