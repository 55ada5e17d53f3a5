//! Converts names between Unicode and the A-labels of DNS (RFC 5891).

use std::borrow::Cow;

/// The name in ASCII; unchanged if it is ASCII. None if UTS 46 does not allow it.
pub(crate) fn to_ascii(text: &str) -> Option<Cow<'_, str>> {
    if text.is_ascii() {
        return Some(Cow::Borrowed(text));
    }
    idna::domain_to_ascii(text).ok().filter(|ascii| !ascii.is_empty()).map(Cow::Owned)
}

/// The name in Unicode; none if it has no A-labels.
pub(crate) fn in_letters(ascii: &str) -> Option<String> {
    let (letters, outcome) = idna::domain_to_unicode(ascii);
    (outcome.is_ok() && letters != ascii).then_some(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_a_labels() {
        for (letters, ascii) in [
            ("münchen.example", "xn--mnchen-3ya.example"),
            ("*.münchen.example.", "*.xn--mnchen-3ya.example."),
            ("_tcp.点看.example", "_tcp.xn--3pxu8k.example"),
            ("straße.example", "xn--strae-oqa.example"),
        ] {
            assert_eq!(to_ascii(letters).as_deref(), Some(ascii));
            assert_eq!(in_letters(ascii).as_deref(), Some(letters));
        }
        // Mapped: capital letters, and a u with a combining diaeresis.
        assert_eq!(to_ascii("MÜNCHEN.Example").as_deref(), Some("xn--mnchen-3ya.example"));
        assert_eq!(to_ascii("mu\u{308}nchen.example").as_deref(), Some("xn--mnchen-3ya.example"));
        assert_eq!(to_ascii("WWW.Example").as_deref(), Some("WWW.Example"), "ASCII stays as it is");
        assert_eq!(to_ascii("\u{fdd0}.example"), None);
        assert_eq!(in_letters("www.example"), None);
        assert_eq!(in_letters("xn--a.example"), None, "no letters are meant");
    }
}
