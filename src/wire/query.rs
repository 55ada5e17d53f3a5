//! Parses queries: the header, the question, and the records after it.

use super::edns::Edns;
use super::record::{Record, skip_name};
use super::{HEADER, flag, opcode};
use crate::name;
use crate::zone::rtype;

/// The header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The client's query id.
    pub id: u16,
    /// The flag bits, the operation code and the response code.
    pub flags: u16,
    /// The number of questions.
    pub qdcount: u16,
    /// The number of answer records.
    pub ancount: u16,
    /// The number of authority records.
    pub nscount: u16,
    /// The number of additional records.
    pub arcount: u16,
}

impl Header {
    /// Parses the first 12 bytes; `None` if there are fewer.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<Self> {
        let (bytes, _) = message.split_first_chunk::<HEADER>()?;
        let [i0, i1, f0, f1, q0, q1, a0, a1, n0, n1, r0, r1] = *bytes;
        Some(Self {
            id: u16::from_be_bytes([i0, i1]),
            flags: u16::from_be_bytes([f0, f1]),
            qdcount: u16::from_be_bytes([q0, q1]),
            ancount: u16::from_be_bytes([a0, a1]),
            nscount: u16::from_be_bytes([n0, n1]),
            arcount: u16::from_be_bytes([r0, r1]),
        })
    }

    /// Whether this is a response.
    #[must_use]
    pub fn is_response(&self) -> bool {
        self.flags & flag::QR != 0
    }

    /// The operation code.
    #[must_use]
    pub fn opcode(&self) -> u8 {
        // Four bits always fit.
        u8::try_from((self.flags & flag::OPCODE) >> 11).unwrap_or(0)
    }
}

/// The question of a query.
#[derive(Clone, Debug)]
pub struct Question<'q> {
    /// The question as sent: the name in its original case, type and class.
    pub bytes: &'q [u8],
    name: [u8; name::MAX_NAME],
    name_length: usize,
    /// The queried type.
    pub qtype: u16,
    /// The queried class.
    pub qclass: u16,
}

impl<'q> Question<'q> {
    /// Reads the question at the start of `rest`. Returns it and the bytes after it. `None` if it
    /// is truncated, or if its name is compressed: no earlier name exists to which a pointer could
    /// refer.
    #[must_use]
    pub fn read(rest: &'q [u8]) -> Option<(Self, &'q [u8])> {
        let length = name::wire_length(rest)?;
        let (bytes, after) = rest.split_at_checked(length + 4)?;
        let (wire, numbers) = bytes.split_at_checked(length)?;
        let (&[t0, t1, c0, c1], _) = numbers.split_first_chunk::<4>()?;
        let mut name = [0; name::MAX_NAME];
        let lowered = name.get_mut(..length)?;
        lowered.copy_from_slice(wire);
        lowered.make_ascii_lowercase();
        let qtype = u16::from_be_bytes([t0, t1]);
        let qclass = u16::from_be_bytes([c0, c1]);
        Some((Self { bytes, name, name_length: length, qtype, qclass }, after))
    }

    /// The name, in lower-case wire form.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.name.get(..self.name_length).unwrap_or(&[0])
    }
}

/// A completely parsed query.
#[derive(Clone, Debug)]
pub struct Query<'q> {
    /// The question.
    pub question: Question<'q>,
    /// The client's EDNS record.
    pub edns: Option<Edns<'q>>,
    /// The client's zone serial in an incremental transfer (RFC 1995, section 3).
    pub known_serial: Option<u32>,
    /// The length of the TSIG record, if there is one; `tsig` verifies it.
    pub signature: Option<usize>,
}

/// A malformed query, with the parts that are useful for the reply.
#[derive(Clone, Debug)]
pub struct Malformed<'q> {
    /// The question, if there is exactly one and it could be parsed.
    pub question: Option<Question<'q>>,
    /// The EDNS record, if it could be parsed.
    pub edns: Option<Edns<'q>>,
    /// Whether the message contains only an EDNS record: a client may request a cookie this way
    /// (RFC 7873, section 5.4).
    pub is_edns_alone: bool,
}

impl<'q> Malformed<'q> {
    fn new(header: &Header, message: &'q [u8], question: Option<Question<'q>>) -> Self {
        let edns = find_edns(header, message);
        let records = [header.qdcount, header.ancount, header.nscount, header.arcount];
        let is_whole = || {
            let record = message.get(HEADER..).and_then(|body| Record::read(message, body));
            record.is_some_and(|(_, rest)| rest.is_empty())
        };
        let is_edns_alone = records == [0, 0, 0, 1] && edns.is_some() && is_whole();
        Self { question, edns, is_edns_alone }
    }
}

/// Finds the first EDNS record in the additional section of a message of any operation. The reply
/// must then have one too, even if it is an error (RFC 6891, section 7). `None` if the record, or
/// anything before it, cannot be parsed.
#[must_use]
pub fn find_edns<'q>(header: &Header, message: &'q [u8]) -> Option<Edns<'q>> {
    let mut rest = message.get(HEADER..)?;
    for _ in 0..header.qdcount {
        rest = skip_name(message, rest)?.get(4..)?;
    }
    for _ in 0..u32::from(header.ancount) + u32::from(header.nscount) {
        (_, rest) = Record::read(message, rest)?;
    }
    for _ in 0..header.arcount {
        let (record, after) = Record::read(message, rest)?;
        if record.rtype == rtype::OPT {
            return Edns::read(&record);
        }
        rest = after;
    }
    None
}

impl<'q> Query<'q> {
    /// Parses the rest of a standard query or a notification after its header.
    ///
    /// # Errors
    /// If there is not exactly one question, a record is truncated or in the wrong section, there
    /// are two EDNS records or a malformed one, or bytes follow the last record.
    #[allow(clippy::result_large_err, reason = "a box would be an allocation on the query path")]
    pub fn read(header: &Header, message: &'q [u8]) -> Result<Self, Malformed<'q>> {
        let body = message.get(HEADER..).unwrap_or(&[]);
        let malformed = |question| Malformed::new(header, message, question);
        if header.qdcount != 1 {
            return Err(malformed(None));
        }
        let Some((question, mut rest)) = Question::read(body) else { return Err(malformed(None)) };
        // A request for an incremental transfer has the client's SOA in the authority section (RFC
        // 1995, section 3); a notification may have the new SOA as an answer (RFC 1996, section
        // 3.7). No other query has records before the additional section.
        let is_notify = header.opcode() == opcode::NOTIFY;
        let is_ixfr = question.qtype == rtype::IXFR && !is_notify;
        if header.ancount > u16::from(is_notify) || header.nscount > u16::from(is_ixfr) {
            return Err(malformed(Some(question)));
        }
        let mut edns = None;
        let mut known_serial = None;
        let mut signature = None;
        for _ in 0..header.ancount {
            match Record::read(message, rest) {
                Some((_, after)) => rest = after,
                None => return Err(malformed(Some(question))),
            }
        }
        for _ in 0..header.nscount {
            match Record::read(message, rest) {
                Some((record, after)) => {
                    known_serial = record.soa_serial();
                    rest = after;
                }
                None => return Err(malformed(Some(question))),
            }
        }
        for _ in 0..header.arcount {
            let Some((record, after)) = Record::read(message, rest) else {
                return Err(malformed(Some(question)));
            };
            if record.rtype == rtype::TSIG {
                signature = Some(rest.len() - after.len());
            }
            rest = after;
            if record.rtype == rtype::OPT {
                match Edns::read(&record) {
                    Some(read) if edns.is_none() => edns = Some(read),
                    _ => return Err(malformed(Some(question))),
                }
            }
        }
        if !rest.is_empty() {
            return Err(malformed(Some(question)));
        }
        Ok(Self { question, edns, known_serial, signature })
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    const QUERY: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x03WwW\x07example\x00\x00\x01\x00\x01\
        \x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x04\x00\x03\x00\x00";

    #[allow(clippy::result_large_err, reason = "as the function under test")]
    fn read(message: &[u8]) -> Result<Query<'_>, Malformed<'_>> {
        Query::read(&Header::read(message).unwrap(), message)
    }

    #[test]
    fn a_query_is_read() {
        let query = read(QUERY).unwrap();
        assert_eq!(query.question.name(), b"\x03www\x07example\x00");
        assert_eq!(&query.question.bytes[..4], b"\x03WwW");
        assert_eq!((query.question.qtype, query.question.qclass), (1, 1));
        let edns = query.edns.unwrap();
        assert_eq!((edns.payload, edns.version, edns.dnssec_ok), (1232, 0, true));
    }

    #[test]
    fn no_prefix_of_a_query_is_a_query() {
        for length in 0..QUERY.len() {
            match Header::read(&QUERY[..length]) {
                None => assert!(length < HEADER),
                Some(header) => assert!(Query::read(&header, &QUERY[..length]).is_err(), "{length}"),
            }
        }
        let mut trailing = QUERY.to_vec();
        trailing.push(0);
        assert!(read(&trailing).is_err());
    }

    #[test]
    fn counts_that_lie_are_malformed() {
        for (at, value) in [(5, 0), (5, 2), (7, 1), (9, 1), (11, 0), (11, 2)] {
            let mut message = QUERY.to_vec();
            message[at] = value;
            assert!(read(&message).is_err(), "byte {at} = {value}");
        }
    }

    #[test]
    fn compression_and_label_types_of_the_question() {
        for first in [0x40, 0x80, 0xc0, 0xff] {
            let mut message = QUERY.to_vec();
            message[HEADER] = first;
            assert!(read(&message).is_err(), "{first:#x}");
        }
    }

    #[test]
    fn an_incremental_transfer_names_the_serial_it_has() {
        let mut message = QUERY[..29].to_vec();
        message[11] = 0;
        message[26] = 251;
        assert_eq!(read(&message).unwrap().known_serial, None);
        message[9] = 1;
        message.extend(b"\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x00\x00\x18\xc0\x0c\xc0\x10");
        message.extend([0x11, 0x22, 0x33, 0x44].into_iter().chain([9; 16]));
        assert_eq!(read(&message).unwrap().known_serial, Some(0x1122_3344));
        let mut another_type = message.clone();
        another_type[32] = 16;
        assert_eq!(read(&another_type).unwrap().known_serial, None);
        message[26] = 1;
        assert!(read(&message).is_err(), "no other query has an authority section");
    }

    #[test]
    fn a_record_may_point_backwards_only() {
        let mut message = QUERY[..29].to_vec();
        message[11] = 1;
        for (target, good) in [(12u8, true), (28, true), (29, false), (200, false), (0, false), (11, false)] {
            let mut message = message.clone();
            message.extend([0xc0, target, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0]);
            assert_eq!(read(&message).is_ok(), good, "{target}");
        }
    }
}
