//! Writes queries for tests, and reads them according to the RFCs, independently of the server's
//! reader.

use steerd::name::Name;
use steerd::wire::flag;
use steerd::zone::rtype;

/// The OPT record of a query.
#[derive(Clone, Copy)]
pub(crate) struct Opt<'o> {
    pub(crate) payload: u16,
    pub(crate) version: u8,
    pub(crate) options: &'o [u8],
}

/// An OPT record of version 0, without options.
pub(crate) fn opt(payload: u16) -> Opt<'static> {
    Opt { payload, version: 0, options: &[] }
}

/// A standard query with RD, as resolvers send it; with DO if there is EDNS.
pub(crate) fn query(name: &[u8], rtype: u16, edns: Option<Opt<'_>>) -> Vec<u8> {
    let mut query = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(name);
    query.extend(rtype.to_be_bytes());
    query.extend([0, 1]);
    if let Some(opt) = edns {
        add_opt(&mut query, opt);
    }
    query
}

/// Appends an OPT record and counts it.
pub(crate) fn add_opt(query: &mut Vec<u8>, opt: Opt<'_>) {
    query.extend([0, 0, 41]);
    query.extend(opt.payload.to_be_bytes());
    query.extend([0, opt.version, 0x80, 0]);
    query.extend(u16::try_from(opt.options.len()).unwrap_or(u16::MAX).to_be_bytes());
    query.extend(opt.options);
    count_additional(query);
}

/// Appends a record of class ANY with TTL 0, and counts it.
pub(crate) fn add_record(query: &mut Vec<u8>, owner: &[u8], rtype: u16, data: &[u8]) {
    query.extend(owner);
    query.extend(rtype.to_be_bytes());
    query.extend([0, 255, 0, 0, 0, 0]);
    query.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    query.extend(data);
    count_additional(query);
}

/// Appends the TSIG record of a key with an invalid MAC, and counts it.
pub(crate) fn add_tsig(query: &mut Vec<u8>, key: &str, time: u32) {
    let mut data = wire("hmac-sha256");
    data.extend([0, 0]);
    data.extend(time.to_be_bytes());
    // Fudge, a MAC of 32 bytes, the id, no error, no other data.
    data.extend([1, 44, 0, 32]);
    data.extend([7; 32]);
    data.extend([0xab, 0xcd, 0, 0, 0, 0]);
    add_record(query, &wire(key), rtype::TSIG, &data);
}

fn count_additional(query: &mut [u8]) {
    if let Some(count) = query.get_mut(10..12) {
        let counted = u16::from_be_bytes([count[0], count[1]]).wrapping_add(1);
        count.copy_from_slice(&counted.to_be_bytes());
    }
}

/// The wire form of a name in presentation form.
pub(crate) fn wire(name: &str) -> Vec<u8> {
    Name::parse(name).unwrap().wire().to_vec()
}

/// The readable content of a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked<'q> {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    /// The number of questions according to the header.
    pub(crate) questions: u16,
    /// The question as sent, if there is exactly one.
    pub(crate) question: Option<&'q [u8]>,
    /// The payload size of the first OPT record, if it and everything before it are readable.
    pub(crate) payload: Option<u16>,
    /// The version of that OPT record.
    pub(crate) version: u8,
    /// The DO bit of the OPT record.
    pub(crate) dnssec_ok: bool,
    /// Whether there is one question and at most one OPT record, and no record is truncated or
    /// misplaced, and no bytes follow.
    pub(crate) whole: bool,
}

impl<'q> Asked<'q> {
    /// Reads a query. Returns `None` if it is shorter than a header.
    pub(crate) fn read(query: &'q [u8]) -> Option<Self> {
        let number = |at: usize| Some(u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]));
        let (id, flags, questions) = (number(0)?, number(2)?, number(4)?);
        let (answers, authorities, additionals) = (number(6)?, number(8)?, number(10)?);
        let mut asked = Self {
            id,
            flags,
            questions,
            question: None,
            payload: None,
            version: 0,
            dnssec_ok: false,
            whole: false,
        };
        let before = u32::from(answers) + u32::from(authorities);
        let ends = asked.sections(query, questions, before, additionals);
        let Some(end) = name_end(query, 12, false).map(|end| end + 4) else { return Some(asked) };
        if questions != 1 || query.len() < end {
            return Some(asked);
        }
        asked.question = query.get(12..end);
        let is_notification = asked.is_notification();
        let is_ixfr = number(end - 4) == Some(rtype::IXFR) && !is_notification;
        let in_place = answers <= u16::from(is_notification) && authorities <= u16::from(is_ixfr);
        asked.whole = in_place && ends == Some(query.len());
        Some(asked)
    }

    /// Reads all sections and records the first OPT record. Returns the end of the message, or
    /// `None` if a record is unreadable or there is a second OPT record.
    fn sections(&mut self, query: &[u8], questions: u16, before: u32, additionals: u16) -> Option<usize> {
        let mut at = 12;
        for _ in 0..questions {
            at = name_end(query, at, true).map(|end| end + 4).filter(|&end| end <= query.len())?;
        }
        for index in 0..before + u32::from(additionals) {
            self.record(query, &mut at, index >= before)?;
        }
        Some(at)
    }

    /// Whether this is a NOTIFY message (RFC 1996).
    pub(crate) fn is_notification(&self) -> bool {
        self.flags & flag::OPCODE == 4 << 11
    }

    /// Reads a record, and stores it if it is the OPT record.
    fn record(&mut self, query: &[u8], at: &mut usize, additional: bool) -> Option<()> {
        let number = |at: usize| Some(u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]));
        let head = name_end(query, *at, true)?;
        let length = usize::from(number(head + 8)?);
        let data = query.get(head + 10..head + 10 + length)?;
        if additional && number(head)? == rtype::OPT {
            let version = *query.get(head + 5)?;
            // The form of options in other EDNS versions is unknown.
            let is_opt = query.get(*at) == Some(&0) && (version != 0 || are_options(data));
            if !is_opt || self.payload.is_some() {
                return None;
            }
            self.version = version;
            self.payload = number(head + 2);
            self.dnssec_ok = number(head + 6)? & 0x8000 != 0;
        }
        *at = head + 10 + length;
        Some(())
    }
}

/// The offsets and types of all records, if every section is readable and no bytes follow the last
/// record.
pub(crate) fn records(message: &[u8]) -> Option<Vec<(usize, u16)>> {
    let number = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let mut at = 12;
    for _ in 0..number(4)? {
        at = name_end(message, at, true).map(|end| end + 4).filter(|&end| end <= message.len())?;
    }
    let mut records = Vec::new();
    for _ in 0..u32::from(number(6)?) + u32::from(number(8)?) + u32::from(number(10)?) {
        let head = name_end(message, at, true)?;
        records.push((at, number(head)?));
        at = head + 10 + usize::from(number(head + 8)?);
    }
    (at == message.len()).then_some(records)
}

/// The end of the name at `at`. If `pointers`, it may end with a pointer backwards.
fn name_end(message: &[u8], start: usize, pointers: bool) -> Option<usize> {
    let mut at = start;
    loop {
        match *message.get(at)? {
            0 => return (at - start < 255).then_some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            high @ 0xc0.. if pointers => {
                let target = usize::from(high & 0x3f) * 256 + usize::from(*message.get(at + 1)?);
                return (at - start < 255 && (12..start).contains(&target)).then_some(at + 2);
            }
            _ => return None,
        }
    }
}

pub(crate) fn are_options(mut data: &[u8]) -> bool {
    while let [_, _, high, low, rest @ ..] = data {
        let Some(after) = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) else { return false };
        data = after;
    }
    data.is_empty()
}
