//! The part of a backend's text that is worth displaying: its first line, or its words.

/// The first line of a text that is not blank, without its line ending.
pub(super) fn first_line(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .find(|line| !line.is_empty())
        .unwrap_or_default()
}

/// The words of a text, with a single space between them. In HTML and XML, tags and the content of `style` and
/// `script` are left out.
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
    }
}
