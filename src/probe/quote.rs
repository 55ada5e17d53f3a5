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

    proptest! {
        #[test]
        fn any_bytes_make_a_short_line(bytes in proptest::collection::vec(any::<u8>(), 0..800)) {
            let quoted = quote(&bytes);
            prop_assert!(quoted.chars().count() <= QUOTE_LIMIT + 5, "{quoted}");
            prop_assert!(!quoted.chars().any(char::is_control), "{quoted}");
        }
    }
}
