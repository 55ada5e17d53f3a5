//! EDNS(0), RFC 6891: the client's OPT record, and ours.

use super::query::Record;

/// The bytes of an OPT record without options.
pub const OPT_LENGTH: usize = 11;
/// The DO bit of the OPT record's TTL field.
const DNSSEC_OK: u32 = 0x8000;

/// A client's OPT record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns<'q> {
    /// The largest UDP reply the client takes.
    pub payload: u16,
    /// Only version 0 is defined.
    pub version: u8,
    /// The client wants DNSSEC records; the bit is echoed (RFC 3225, section 3).
    pub dnssec_ok: bool,
    /// All options, each whole.
    options: &'q [u8],
}

impl<'q> Edns<'q> {
    /// Reads an OPT record. `None` when its owner is not the root, or an option is cut short.
    #[must_use]
    pub fn read(record: &Record<'q>) -> Option<Self> {
        let [_, version, _, _] = record.ttl.to_be_bytes();
        let edns = Self {
            payload: record.class,
            version,
            dnssec_ok: record.ttl & DNSSEC_OK != 0,
            options: record.data,
        };
        let consumed: usize = edns.options().map(|(_, value)| 4 + value.len()).sum();
        (record.at_root && consumed == record.data.len()).then_some(edns)
    }

    /// The options in order: code and value.
    pub fn options(&self) -> impl Iterator<Item = (u16, &'q [u8])> {
        let mut rest = self.options;
        std::iter::from_fn(move || {
            let (&[c0, c1, l0, l1], after) = rest.split_first_chunk::<4>()?;
            let (value, after) = after.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
            rest = after;
            Some((u16::from_be_bytes([c0, c1]), value))
        })
    }
}

/// The OPT record of a reply without options: our payload size, the upper bits of the response
/// code, version 0, the client's DO bit.
#[must_use]
pub fn opt_record(payload: u16, rcode: u16, dnssec_ok: bool) -> [u8; OPT_LENGTH] {
    let [p0, p1] = payload.to_be_bytes();
    let [extended, _] = (rcode << 4).to_be_bytes();
    let flags = if dnssec_ok { 0x80 } else { 0 };
    [0, 0, 41, p0, p1, extended, 0, flags, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extended_code_is_split_at_four_bits() {
        assert_eq!(opt_record(1232, 16, true), [0, 0, 41, 4, 208, 1, 0, 0x80, 0, 0, 0]);
        assert_eq!(opt_record(1232, 5, false), [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn options_are_whole_or_the_record_is_malformed() {
        let record = |data| Record { at_root: true, rtype: 41, class: 512, ttl: 0, data };
        let whole = Edns::read(&record(b"\x00\x03\x00\x00\x00\x0a\x00\x02ab")).unwrap();
        assert_eq!(whole.options().collect::<Vec<_>>(), [(3, &b""[..]), (10, b"ab")]);
        for cut in [&b"\x00"[..], b"\x00\x03\x00", b"\x00\x03\x00\x01", b"\x00\x03\x00\x00\x00"] {
            assert_eq!(Edns::read(&record(cut)), None);
        }
        assert_eq!(Edns::read(&Record { at_root: false, ..record(b"") }), None);
    }
}
