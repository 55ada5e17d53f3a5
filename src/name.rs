//! Domain names: wire form in lower case, presentation form, parents.
//!
//! Names are compared only in this form, so case is folded in one place. Compression and messages
//! belong to `wire`.

use std::fmt;

/// The longest name in wire form, root label included (RFC 1035, section 2.3.4).
pub const MAX_NAME: usize = 255;
/// The longest label (RFC 1035, section 2.3.4).
pub const MAX_LABEL: usize = 63;
/// The most labels a name can have without the root label: 127 labels of one byte each.
pub const MAX_LABELS: usize = 127;

/// An absolute domain name in lower-case, uncompressed wire form, root label included.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

/// Why a text is not a domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("the name is empty")]
    Empty,
    /// Two dots in a row, or a dot at the start.
    #[error("the name has an empty label (two dots in a row, or a dot at its start)")]
    EmptyLabel,
    /// A label over 63 bytes.
    #[error("the name has a label of more than 63 bytes")]
    LongLabel,
    /// The wire form exceeds 255 bytes.
    #[error("the name is longer than 255 bytes")]
    LongName,
    /// A backslash that is not followed by a character or by three digits up to 255.
    #[error("a backslash in a name must be followed by one character, or by three digits up to 255")]
    BadEscape,
}

impl Name {
    /// The root name.
    #[must_use]
    pub fn root() -> Self {
        Self(Box::new([0]))
    }

    /// Reads a name in presentation form as fully qualified, with or without the final dot. The
    /// escapes are those of RFC 1035, section 5.1: `\.` and `\046`.
    ///
    /// # Errors
    /// If the text is not a domain name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(text.len() + 2);
        append_presentation(text.as_bytes(), &mut wire)?;
        if wire.last() != Some(&0) {
            wire.push(0);
        }
        if wire.len() > MAX_NAME {
            return Err(NameError::LongName);
        }
        Ok(Self::from_lowered(wire))
    }

    /// Reads an uncompressed wire-form name, root label included, and folds its case. Returns
    /// `None` unless the bytes are exactly one such name.
    #[must_use]
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        (wire_length(wire)? == wire.len()).then(|| Self::from_lowered(wire.to_vec()))
    }

    fn from_lowered(mut wire: Vec<u8>) -> Self {
        // Length bytes are at most 63, below 'A', so folding every byte is right.
        wire.make_ascii_lowercase();
        Self(wire.into_boxed_slice())
    }

    /// The lower-case wire form, root label included: 1 to 255 bytes.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The presentation form without the final dot (the root stays `.`). Logs, metrics and the API
    /// use it.
    #[must_use]
    pub fn to_plain(&self) -> String {
        let mut text = self.to_string();
        if text.len() > 1 {
            text.pop();
        }
        text
    }

    /// The labels from left to right, without the root label.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        labels(&self.0)
    }

    /// The name without its first label; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        parent(&self.0).map(|rest| Self(rest.into()))
    }

    /// Whether this name equals `ancestor` or lies below it.
    #[must_use]
    pub fn is_within(&self, ancestor: &Name) -> bool {
        is_within(&self.0, &ancestor.0)
    }

    /// Whether the first label is `*` (RFC 4592, section 2.1.1).
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(b"\x01*")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == 1 {
            return f.write_str(".");
        }
        for label in self.labels() {
            for &byte in label {
                match byte {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                        write!(f, "\\{}", char::from(byte))?;
                    }
                    0x21..=0x7e => write!(f, "{}", char::from(byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Appends the wire form of a presentation-form name to `wire` without folding its case. Only an
/// absolute name (final dot) gets the root label: the caller appends its origin to a relative one
/// and checks the total against [`MAX_NAME`].
///
/// # Errors
/// If the text is not a domain name.
pub fn append_presentation(text: &[u8], wire: &mut Vec<u8>) -> Result<(), NameError> {
    match text {
        [] => return Err(NameError::Empty),
        b"." => {
            wire.push(0);
            return Ok(());
        }
        _ => {}
    }
    let mut rest = text;
    let start = wire.len();
    let mut length_at = start;
    wire.push(0);
    let close = |wire: &mut Vec<u8>, length_at: usize| {
        let length = wire.len() - length_at - 1;
        match u8::try_from(length) {
            Ok(0) => Err(NameError::EmptyLabel),
            Ok(length) if usize::from(length) <= MAX_LABEL => {
                if let Some(byte) = wire.get_mut(length_at) {
                    *byte = length;
                }
                Ok(())
            }
            _ => Err(NameError::LongLabel),
        }
    };
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'.' => {
                close(wire, length_at)?;
                if wire.len() - start > MAX_NAME {
                    return Err(NameError::LongName);
                }
                length_at = wire.len();
                wire.push(0);
                if rest.is_empty() {
                    return Ok(());
                }
            }
            b'\\' => {
                let (byte, after) = unescape(rest).ok_or(NameError::BadEscape)?;
                wire.push(byte);
                rest = after;
            }
            _ => wire.push(byte),
        }
    }
    close(wire, length_at)?;
    if wire.len() - start > MAX_NAME {
        return Err(NameError::LongName);
    }
    Ok(())
}

/// Reads the rest of an escape after its backslash: three digits, or any one character (RFC 1035,
/// section 5.1).
#[must_use]
pub fn unescape(after_backslash: &[u8]) -> Option<(u8, &[u8])> {
    match after_backslash {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] => {
            let value = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
            Some((u8::try_from(value).ok()?, rest))
        }
        [b'0'..=b'9', ..] | [] => None,
        [byte, rest @ ..] => Some((*byte, rest)),
    }
}

/// The labels of an uncompressed wire-form name, without the root label.
pub fn labels(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = wire;
    std::iter::from_fn(move || {
        let (&length, after) = rest.split_first()?;
        if length == 0 {
            return None;
        }
        let (label, after) = after.split_at_checked(usize::from(length))?;
        rest = after;
        Some(label)
    })
}

/// The wire form without its first label; `None` for the root.
#[must_use]
pub fn parent(wire: &[u8]) -> Option<&[u8]> {
    match wire.first() {
        None | Some(0) => None,
        Some(&length) => wire.get(usize::from(length) + 1..),
    }
}

/// The length of the uncompressed name at the start of `bytes`, root label included. Returns `None`
/// if it is truncated, exceeds 255 bytes, or contains anything but plain labels.
#[must_use]
#[inline]
pub fn wire_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
        if length > MAX_LABEL || at >= MAX_NAME {
            return None;
        }
    }
}

/// Whether two wire-form names in the same case are equal. The first and the last bytes cover most names, which takes
/// less than a call.
#[must_use]
#[inline]
pub fn is_equal(a: &[u8], b: &[u8]) -> bool {
    /// Compares names of `N` to `2 x N` bytes.
    fn by_ends<const N: usize>(a: &[u8], b: &[u8]) -> bool {
        a.first_chunk::<N>() == b.first_chunk() && a.last_chunk::<N>() == b.last_chunk()
    }
    a.len() == b.len()
        && match a.len() {
            8..=16 => by_ends::<8>(a, b),
            17..=32 => by_ends::<16>(a, b),
            _ => a == b,
        }
}

/// Whether a wire-form name equals `ancestor` or lies below it; both in the same case.
#[must_use]
pub fn is_within(wire: &[u8], ancestor: &[u8]) -> bool {
    let mut rest = wire;
    while rest.len() > ancestor.len() {
        match parent(rest) {
            Some(up) => rest = up,
            None => return false,
        }
    }
    rest == ancestor
}

/// As [`is_within`], for names in any case.
#[must_use]
pub fn is_within_any_case(wire: &[u8], ancestor: &[u8]) -> bool {
    let mut rest = wire;
    while rest.len() > ancestor.len() {
        match parent(rest) {
            Some(up) => rest = up,
            None => return false,
        }
    }
    rest.eq_ignore_ascii_case(ancestor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_is_folded_and_the_final_dot_is_optional() {
        assert_eq!(Name::parse("WwW.Example.COM").unwrap(), Name::parse("www.example.com.").unwrap());
        assert_eq!(Name::parse("a.b").unwrap().wire(), b"\x01a\x01b\x00");
        assert_eq!(Name::parse(".").unwrap(), Name::root());
    }

    #[test]
    fn escapes_are_read_and_written() {
        let name = Name::parse(r"a\.b\032c\\.x").unwrap();
        assert_eq!(name.wire(), b"\x06a.b c\\\x01x\x00");
        assert_eq!(name.to_string(), r"a\.b\032c\\.x.");
        assert_eq!(name.to_plain(), r"a\.b\032c\\.x");
        assert_eq!(Name::root().to_plain(), ".");
        assert_eq!(Name::parse(r"a\25").unwrap_err(), NameError::BadEscape);
        assert_eq!(Name::parse(r"a\256").unwrap_err(), NameError::BadEscape);
        assert_eq!(Name::parse("a\\").unwrap_err(), NameError::BadEscape);
    }

    #[test]
    fn limits_are_those_of_rfc_1035() {
        assert!(Name::parse(&"a".repeat(63)).is_ok());
        assert_eq!(Name::parse(&"a".repeat(64)), Err(NameError::LongLabel));
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        assert_eq!(Name::parse(&longest).unwrap().wire().len(), MAX_NAME);
        assert_eq!(Name::parse(&format!("{longest}b")), Err(NameError::LongName));
        assert_eq!(Name::parse(&format!("{longest}b.")), Err(NameError::LongName));
        let most = vec!["a"; MAX_LABELS].join(".");
        assert_eq!(Name::parse(&most).unwrap().labels().count(), MAX_LABELS);
        assert_eq!(Name::parse(&format!("a.{most}")), Err(NameError::LongName));
        let mut after_another = Name::parse(&longest).unwrap().wire().to_vec();
        assert_eq!(append_presentation(longest.as_bytes(), &mut after_another), Ok(()));
        for text in ["a..b", ".a", ".."] {
            assert_eq!(Name::parse(text), Err(NameError::EmptyLabel), "{text}");
        }
        assert_eq!(Name::parse(""), Err(NameError::Empty));
    }

    #[test]
    fn a_difference_anywhere_makes_names_unequal() {
        for length in 1..80 {
            let name: Vec<u8> = (1..=length).collect();
            assert!(is_equal(&name, &name.clone()));
            assert!(!is_equal(&name, &name[1..]));
            for at in 0..name.len() {
                let mut other = name.clone();
                other[at] ^= 0x80;
                assert!(!is_equal(&name, &other), "{length} bytes, at {at}");
            }
        }
    }

    #[test]
    fn ancestors() {
        let name = Name::parse("a.b.example").unwrap();
        assert!(name.is_within(&Name::parse("b.example").unwrap()));
        assert!(name.is_within(&name));
        assert!(name.is_within(&Name::root()));
        assert!(!name.is_within(&Name::parse("ab.example").unwrap()));
        assert!(!Name::parse("xb.example").unwrap().is_within(&Name::parse("b.example").unwrap()));
        assert_eq!(name.parent().unwrap().to_string(), "b.example.");
        assert_eq!(Name::root().parent(), None);
    }

    proptest! {
        #[test]
        fn any_wire_name_survives_its_presentation(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=63), 0..4)) {
            let mut wire: Vec<u8> = Vec::new();
            for label in &labels {
                wire.push(u8::try_from(label.len()).unwrap());
                wire.extend(label);
            }
            wire.push(0);
            prop_assume!(wire.len() <= MAX_NAME);
            let name = Name::from_wire(&wire).unwrap();
            prop_assert_eq!(Name::parse(&name.to_string()).unwrap(), name);
        }

        #[test]
        fn any_bytes_are_a_name_or_not(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(length) = wire_length(&bytes) {
                prop_assert!(length <= MAX_NAME);
                prop_assert!(Name::from_wire(&bytes[..length]).is_some());
            }
        }
    }
}
