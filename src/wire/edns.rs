//! EDNS(0), RFC 6891: the OPT records of queries and replies.

use super::record::Record;
use super::subnet::ClientSubnet;
use crate::cookie::COOKIE;

/// The length of an OPT record without options, bytes.
pub const OPT_LENGTH: usize = 11;
/// The length of code and length, which precede the value of an option.
const OPTION_HEAD: usize = 4;
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
    /// Its options; none if the version is not 0.
    pub asked: QueryOptions<'q>,
    /// All options, each complete; empty if the version is not 0.
    data: &'q [u8],
}

/// The options of a query that the server may answer. If an option is repeated, the first one
/// counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryOptions<'q> {
    /// The value of the COOKIE option.
    pub cookie: Option<&'q [u8]>,
    /// The value of the client-subnet option.
    pub client_subnet: Option<&'q [u8]>,
    /// The value of the keepalive option.
    pub keepalive: Option<&'q [u8]>,
    /// Whether the client requests the NSID.
    pub nsid: bool,
}

/// The options in order, as code and value, up to a truncated one.
struct OptionReader<'q>(&'q [u8]);

impl<'q> Iterator for OptionReader<'q> {
    type Item = (u16, &'q [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[c0, c1, l0, l1], after) = self.0.split_first_chunk::<4>()?;
        let (value, after) = after.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
        self.0 = after;
        Some((u16::from_be_bytes([c0, c1]), value))
    }
}

impl<'q> QueryOptions<'q> {
    /// Reads the data of an OPT record once. `None` if an option is truncated.
    #[must_use]
    pub fn read(data: &'q [u8]) -> Option<Self> {
        let mut asked = Self::default();
        let mut options = OptionReader(data);
        for (code, value) in options.by_ref() {
            let known = match code {
                option::COOKIE => &mut asked.cookie,
                option::CLIENT_SUBNET => &mut asked.client_subnet,
                option::KEEPALIVE => &mut asked.keepalive,
                option::NSID => {
                    asked.nsid = true;
                    continue;
                }
                _ => continue,
            };
            known.get_or_insert(value);
        }
        options.0.is_empty().then_some(asked)
    }
}

impl<'q> Edns<'q> {
    /// Parses an OPT record. Returns `None` if its owner is not the root, or an option is
    /// truncated. Options of another version are ignored, because their format is unknown.
    #[must_use]
    pub fn read(record: &Record<'q>) -> Option<Self> {
        let [_, version, _, _] = record.ttl.to_be_bytes();
        let data = if version == 0 { record.data } else { &[] };
        let dnssec_ok = record.ttl & DNSSEC_OK != 0;
        let asked = QueryOptions::read(data).filter(|_| record.at_root)?;
        Some(Self { payload: record.class, version, dnssec_ok, asked, data })
    }

    /// The length of the whole record, bytes.
    #[must_use]
    pub fn record_length(&self) -> usize {
        OPT_LENGTH + self.data.len()
    }

    /// The options in order, as code and value.
    pub fn options(&self) -> impl Iterator<Item = (u16, &'q [u8])> {
        OptionReader(self.data)
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

/// The OPT record of a reply: our payload size, version 0, the client's DO bit, and options.
/// Options may be left out, the record itself never.
#[derive(Clone, Copy, Debug)]
pub struct OptRecord<'s> {
    payload: u16,
    dnssec_ok: bool,
    cookie: Option<[u8; COOKIE]>,
    client_subnet: Option<ClientSubnet>,
    /// The scope of the client subnet: the leading bits of the client's address on which the answer depends.
    scope: u8,
    keepalive: Option<u16>,
    nsid: Option<&'s [u8]>,
    extended_error: Option<(u16, &'s str)>,
    length: usize,
    /// The record with its options must not exceed this length.
    limit: usize,
}

impl<'s> OptRecord<'s> {
    /// Starts a record without options, and without room for any.
    #[must_use]
    #[inline]
    pub fn new(payload: u16, dnssec_ok: bool) -> Self {
        Self {
            payload,
            dnssec_ok,
            cookie: None,
            client_subnet: None,
            scope: 0,
            keepalive: None,
            nsid: None,
            extended_error: None,
            length: OPT_LENGTH,
            limit: OPT_LENGTH,
        }
    }

    /// Allows `room` bytes in total for the following options.
    #[inline]
    pub fn make_room(&mut self, room: usize) {
        self.limit = self.length + room;
    }

    /// Reserves room for an option with a value of this length, if there is enough.
    #[inline]
    fn takes(&mut self, value: usize) -> bool {
        let length = self.length + OPTION_HEAD + value;
        let fits = length <= self.limit;
        if fits {
            self.length = length;
        }
        fits
    }

    /// Adds a client and a server cookie, if there is room.
    pub fn add_cookie(&mut self, pair: [u8; COOKIE]) {
        self.cookie = self.takes(COOKIE).then_some(pair);
    }

    /// Adds a client subnet with scope 0, if there is room.
    pub fn add_client_subnet(&mut self, subnet: ClientSubnet) {
        self.client_subnet = self.takes(subnet.length()).then_some(subnet);
    }

    /// The client subnet, if it was added.
    #[must_use]
    pub fn client_subnet(&self) -> Option<&ClientSubnet> {
        self.client_subnet.as_ref()
    }

    /// Makes the scope at least this long: the answer depends on so many leading bits of the client's address.
    pub fn extend_scope(&mut self, bits: u8) {
        self.scope = self.scope.max(bits);
    }

    /// Adds the idle timeout of the connection in units of 100 ms, if there is room.
    pub fn add_keepalive(&mut self, timeout: u16) {
        self.keepalive = self.takes(2).then_some(timeout);
    }

    /// Adds the NSID, if there is room.
    pub fn add_nsid(&mut self, nsid: &'s [u8]) {
        self.nsid = self.takes(nsid.len()).then_some(nsid);
    }

    /// Adds an extended error with its text, if there is room.
    pub fn add_extended_error(&mut self, code: u16, text: &'s str) {
        self.extended_error = self.takes(2 + text.len()).then_some((code, text));
    }

    /// The current length, bytes.
    #[must_use]
    #[inline]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The record up to its options, with the upper bits of the response code. If there are no
    /// options, it is the whole record.
    #[must_use]
    #[inline]
    pub fn head(&self, rcode: u16) -> [u8; OPT_LENGTH] {
        let [p0, p1] = self.payload.to_be_bytes();
        let [extended, _] = (rcode << 4).to_be_bytes();
        let flags = if self.dnssec_ok { 0x80 } else { 0 };
        // The limit of a message also limits its options.
        let [l0, l1] = u16::try_from(self.length - OPT_LENGTH).unwrap_or(0).to_be_bytes();
        [0, 0, 41, p0, p1, extended, 0, flags, 0, l0, l1]
    }

    /// Writes the record to the start of `room`. `None` if it does not fit.
    #[inline]
    pub fn write(&self, rcode: u16, room: &mut [u8]) -> Option<()> {
        let (head, options) = room.get_mut(..self.length)?.split_first_chunk_mut()?;
        *head = self.head(rcode);
        if options.is_empty() { Some(()) } else { self.write_options(options) }
    }

    /// Writes the options, which exactly fill `room`.
    fn write_options(&self, mut room: &mut [u8]) -> Option<()> {
        if let Some(pair) = &self.cookie {
            room = put(room, option::COOKIE, pair)?;
        }
        if let Some(subnet) = &self.client_subnet {
            // With scope 0, the answer is valid for all clients (RFC 7871, section 7.2.1).
            let (value, length) = subnet.write(subnet.scope(self.scope));
            room = put(room, option::CLIENT_SUBNET, value.get(..length)?)?;
        }
        if let Some(timeout) = self.keepalive {
            room = put(room, option::KEEPALIVE, &timeout.to_be_bytes())?;
        }
        if let Some(nsid) = self.nsid {
            room = put(room, option::NSID, nsid)?;
        }
        if let Some((code, text)) = self.extended_error {
            let (head, rest) = room.split_first_chunk_mut::<OPTION_HEAD>()?;
            let [[o0, o1], [l0, l1]] =
                [option::EXTENDED_ERROR, u16::try_from(2 + text.len()).ok()?].map(u16::to_be_bytes);
            *head = [o0, o1, l0, l1];
            let (number, rest) = rest.split_first_chunk_mut()?;
            *number = code.to_be_bytes();
            rest.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        }
        Some(())
    }
}

/// Writes an option, and returns the remaining room.
fn put<'r>(room: &'r mut [u8], code: u16, value: &[u8]) -> Option<&'r mut [u8]> {
    let (head, rest) = room.split_first_chunk_mut::<OPTION_HEAD>()?;
    let [c0, c1] = code.to_be_bytes();
    let [l0, l1] = u16::try_from(value.len()).ok()?.to_be_bytes();
    *head = [c0, c1, l0, l1];
    let (start, rest) = rest.split_at_mut_checked(value.len())?;
    start.copy_from_slice(value);
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(opt: &OptRecord<'_>, rcode: u16) -> Vec<u8> {
        let mut room = vec![0xee; opt.length()];
        opt.write(rcode, &mut room).expect("there is room");
        assert!(opt.write(rcode, &mut vec![0; opt.length() - 1]).is_none());
        room
    }

    #[test]
    fn the_extended_code_is_split_at_four_bits() {
        assert_eq!(written(&OptRecord::new(1232, true), 16), [0, 0, 41, 4, 208, 1, 0, 0x80, 0, 0, 0]);
        assert_eq!(written(&OptRecord::new(1232, false), 5), [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn options_are_written_as_far_as_there_is_room() {
        let mut opt = OptRecord::new(1232, false);
        opt.add_nsid(b"there is no room yet");
        opt.make_room(6 + 6 + 10);
        opt.add_keepalive(300);
        opt.add_cookie([1; COOKIE]);
        opt.add_nsid(b"ab");
        opt.add_extended_error(20, "text");
        let options = [[0, 11, 0, 2, 1, 44], [0, 3, 0, 2, b'a', b'b']].concat();
        let explained = [0, 15, 0, 6, 0, 20, b't', b'e', b'x', b't'];
        assert_eq!(
            written(&opt, 0),
            [&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 22][..], &options, &explained].concat()
        );
    }

    #[test]
    fn options_are_whole_or_the_record_is_malformed() {
        let record = |data| Record { at_root: true, rtype: 41, class: 512, ttl: 0, data };
        let whole = Edns::read(&record(b"\x00\x03\x00\x00\x00\x0a\x00\x02ab")).unwrap();
        assert_eq!(whole.options().collect::<Vec<_>>(), [(3, &b""[..]), (10, b"ab")]);
        assert_eq!(whole.asked, QueryOptions { cookie: Some(b"ab"), nsid: true, ..QueryOptions::default() });
        let twice = QueryOptions::read(b"\x00\x0b\x00\x01a\x00\x0b\x00\x01b").unwrap();
        assert_eq!(twice.keepalive, Some(&b"a"[..]), "the first counts");
        for cut in [&b"\x00"[..], b"\x00\x03\x00", b"\x00\x03\x00\x01", b"\x00\x03\x00\x00\x00"] {
            assert_eq!(Edns::read(&record(cut)), None);
        }
        assert_eq!(Edns::read(&Record { at_root: false, ..record(b"") }), None);
    }
}
