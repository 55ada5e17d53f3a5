//! EDNS(0), RFC 6891: the OPT records of queries and replies.

use super::record::Record;

/// The length of an OPT record without options, bytes.
pub const OPT_LENGTH: usize = 11;
/// The DO bit of the OPT record's TTL field.
const DNSSEC_OK: u32 = 0x8000;

/// A client's OPT record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns<'q> {
    /// The largest UDP reply that the client accepts.
    pub payload: u16,
    /// Only version 0 is defined.
    pub version: u8,
    /// The client wants DNSSEC records; the bit is echoed (RFC 3225, section 3).
    pub dnssec_ok: bool,
    /// All options, none cut off; empty if the version is not 0.
    options: &'q [u8],
}

impl<'q> Edns<'q> {
    /// Parses an OPT record. Returns `None` if its owner is not the root, or an option is cut off.
    /// Options of another version are ignored, because their format is unknown.
    #[must_use]
    pub fn read(record: &Record<'q>) -> Option<Self> {
        let [_, version, _, _] = record.ttl.to_be_bytes();
        let edns = Self {
            payload: record.class,
            version,
            dnssec_ok: record.ttl & DNSSEC_OK != 0,
            options: if version == 0 { record.data } else { &[] },
        };
        let consumed: usize = edns.options().map(|(_, value)| 4 + value.len()).sum();
        (record.at_root && consumed == edns.options.len()).then_some(edns)
    }

    /// The length of the whole record, bytes.
    #[must_use]
    pub fn record_length(&self) -> usize {
        OPT_LENGTH + self.options.len()
    }

    /// The options in order, as code and value.
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

/// Option codes (IANA DNS EDNS0 Option Codes).
pub mod option {
    /// Name server identifier (RFC 5001).
    pub const NSID: u16 = 3;
    /// Client subnet (RFC 7871).
    pub const CLIENT_SUBNET: u16 = 8;
    /// DNS cookies (RFC 7873).
    pub const COOKIE: u16 = 10;
    /// TCP keepalive (RFC 7828).
    pub const KEEPALIVE: u16 = 11;
    /// Extended DNS error (RFC 8914).
    pub const EXTENDED_ERROR: u16 = 15;
}

/// Room for an OPT record with all options of a reply, including the longest NSID.
const OPT_ROOM: usize = 320;

/// The OPT record of a reply: our payload size, version 0, the client's DO bit, and options.
/// Options may be left out, the record itself never.
#[derive(Clone, Debug)]
pub struct OptRecord {
    bytes: [u8; OPT_ROOM],
    length: usize,
    /// The record with its options must not exceed this length.
    limit: usize,
}

impl OptRecord {
    /// Starts a record without options, and without room for any.
    #[must_use]
    pub fn new(payload: u16, dnssec_ok: bool) -> Self {
        let [p0, p1] = payload.to_be_bytes();
        let flags = if dnssec_ok { 0x80 } else { 0 };
        let mut bytes = [0; OPT_ROOM];
        if let Some(head) = bytes.first_chunk_mut() {
            *head = [0, 0, 41, p0, p1, 0, 0, flags, 0, 0, 0];
        }
        Self { bytes, length: OPT_LENGTH, limit: OPT_LENGTH }
    }

    /// Allows the following options `room` bytes in total.
    pub fn make_room(&mut self, room: usize) {
        self.limit = OPT_ROOM.min(self.length + room);
    }

    /// Adds an option, whose value is given in parts. Leaves it out if there is no room.
    pub fn push(&mut self, code: u16, parts: &[&[u8]]) {
        let value: usize = parts.iter().map(|part| part.len()).sum();
        let end = self.length + 4 + value;
        let room = self.bytes.get_mut(..self.limit).and_then(|room| room.get_mut(self.length..end));
        let (Ok(value), Some(room)) = (u16::try_from(value), room) else { return };
        let [c0, c1] = code.to_be_bytes();
        let [l0, l1] = value.to_be_bytes();
        let bytes = [c0, c1, l0, l1].into_iter().chain(parts.iter().copied().flatten().copied());
        for (slot, byte) in room.iter_mut().zip(bytes) {
            *slot = byte;
        }
        self.length = end;
    }

    /// The current length, bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The complete record, with the upper bits of the response code.
    #[must_use]
    pub fn bytes(&mut self, rcode: u16) -> &[u8] {
        let [extended, _] = (rcode << 4).to_be_bytes();
        let options = u16::try_from(self.length - OPT_LENGTH).unwrap_or(0).to_be_bytes();
        if let Some([_, _, _, _, _, code, _, _, _, l0, l1]) = self.bytes.first_chunk_mut::<OPT_LENGTH>() {
            *code = extended;
            [*l0, *l1] = options;
        }
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extended_code_is_split_at_four_bits() {
        assert_eq!(OptRecord::new(1232, true).bytes(16), [0, 0, 41, 4, 208, 1, 0, 0x80, 0, 0, 0]);
        assert_eq!(OptRecord::new(1232, false).bytes(5), [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        let mut with_option = OptRecord::new(1232, false);
        with_option.push(option::NSID, &[b"there is no room yet"]);
        with_option.make_room(OPT_ROOM);
        with_option.push(option::NSID, &[b"a", b"b"]);
        with_option.push(option::NSID, &[&[0; OPT_ROOM]]);
        assert_eq!(with_option.bytes(0), [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 6, 0, 3, 0, 2, b'a', b'b']);
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
