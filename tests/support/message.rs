//! Encodes queries and decodes replies, independently of the server's own codec, which is under
//! test.

use std::fmt::{self, Write as _};

pub(crate) const A: u16 = 1;
pub(crate) const NS: u16 = 2;
pub(crate) const CNAME: u16 = 5;
pub(crate) const SOA: u16 = 6;
pub(crate) const PTR: u16 = 12;
pub(crate) const HINFO: u16 = 13;
pub(crate) const MX: u16 = 15;
pub(crate) const TXT: u16 = 16;
pub(crate) const AAAA: u16 = 28;
pub(crate) const SIG: u16 = 24;
pub(crate) const KEY: u16 = 25;
pub(crate) const SRV: u16 = 33;
pub(crate) const DNAME: u16 = 39;
pub(crate) const OPT: u16 = 41;
pub(crate) const DS: u16 = 43;
pub(crate) const RRSIG: u16 = 46;
pub(crate) const HTTPS: u16 = 65;
pub(crate) const NSEC: u16 = 47;
pub(crate) const NSEC3: u16 = 50;
pub(crate) const AXFR: u16 = 252;
pub(crate) const ANY: u16 = 255;

pub(crate) const NOERROR: u16 = 0;
pub(crate) const SERVFAIL: u16 = 2;
pub(crate) const NXDOMAIN: u16 = 3;
pub(crate) const YXDOMAIN: u16 = 6;

/// A domain name in uncompressed wire form.
pub(crate) type Wire = Vec<u8>;

/// The labels of a name, without the root label.
pub(crate) fn labels(name: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = name;
    while let Some((&length @ 1.., after)) = rest.split_first() {
        let (label, after) = after.split_at(length.into());
        found.push(label);
        rest = after;
    }
    found
}

/// The name made of these labels.
pub(crate) fn name_of<L: AsRef<[u8]>>(labels: &[L]) -> Wire {
    let mut name = Vec::new();
    for label in labels {
        name.push(u8::try_from(label.as_ref().len()).unwrap());
        name.extend(label.as_ref());
    }
    name.push(0);
    name
}

/// The wire form of a name in plain text.
pub(crate) fn wire(text: &str) -> Wire {
    name_of(&text.split('.').filter(|label| !label.is_empty()).collect::<Vec<_>>())
}

/// Whether a name equals `ancestor` or is below it; both in lower case.
pub(crate) fn is_within(name: &[u8], ancestor: &[u8]) -> bool {
    labels(name).ends_with(&labels(ancestor))
}

/// A name in the form of master files and dig.
pub(crate) fn shown(name: &[u8]) -> String {
    let mut text = String::new();
    for label in labels(name) {
        for &byte in label {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'*' | b'/' => text.push(byte.into()),
                _ => write!(text, "\\{byte:03}").unwrap(),
            }
        }
        text.push('.');
    }
    if text.is_empty() { ".".into() } else { text }
}

/// The question and header bits of a query.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) name: Wire,
    pub(crate) qtype: u16,
    pub(crate) edns: Option<Edns>,
    pub(crate) recursion_desired: bool,
    pub(crate) checking_disabled: bool,
}

/// EDNS of a query or reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    pub(crate) version: u8,
    pub(crate) payload: u16,
    pub(crate) dnssec_ok: bool,
}

impl Query {
    /// A question without any options.
    pub(crate) fn plain(name: Wire, qtype: u16) -> Self {
        Self { name, qtype, edns: None, recursion_desired: false, checking_disabled: false }
    }

    /// Encodes the query as a message.
    pub(crate) fn encode(&self, id: u16) -> Vec<u8> {
        let flags = u16::from(self.recursion_desired) << 8 | u16::from(self.checking_disabled) << 4;
        let mut message = Vec::new();
        for field in [id, flags, 1, 0, 0, u16::from(self.edns.is_some())] {
            message.extend(field.to_be_bytes());
        }
        message.extend(&self.name);
        message.extend(self.qtype.to_be_bytes());
        message.extend([0, 1]);
        if let Some(edns) = &self.edns {
            message.push(0);
            message.extend(OPT.to_be_bytes());
            message.extend(edns.payload.to_be_bytes());
            message.extend([0, edns.version, u8::from(edns.dnssec_ok) << 7, 0, 0, 0]);
        }
        message
    }

    /// The name in lower case.
    pub(crate) fn lowered(&self) -> Wire {
        self.name.to_ascii_lowercase()
    }
}

impl fmt::Display for Query {
    /// The query as arguments of dig.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = |set| if set { '+' } else { '-' };
        write!(f, "'{}' TYPE{}", shown(&self.name), self.qtype)?;
        write!(f, " {}rd {}cd", sign(self.recursion_desired), sign(self.checking_disabled))?;
        match &self.edns {
            None => write!(f, " +noedns"),
            Some(edns) => {
                write!(f, " +edns={} +bufsize={} {}dnssec", edns.version, edns.payload, sign(edns.dnssec_ok))
            }
        }
    }
}

/// A record. The owner and names in the data are uncompressed and in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) owner: Wire,
    pub(crate) rtype: u16,
    pub(crate) ttl: u32,
    pub(crate) data: Vec<u8>,
}

impl Record {
    /// The name at the end of the data, for types that have one.
    pub(crate) fn target(&self) -> Option<&[u8]> {
        let skip = match self.rtype {
            NS | CNAME | PTR | DNAME => 0,
            MX => 2,
            SRV => 6,
            _ => return None,
        };
        self.data.get(skip..)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} TYPE{} ", shown(&self.owner), self.ttl, self.rtype)?;
        match self.target() {
            Some(target) => write!(f, "{}", shown(target)),
            None => self.data.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

/// A reply. Sections are sorted, because the order of records is not significant. Duplicates are
/// kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) rcode: u16,
    pub(crate) authoritative: bool,
    pub(crate) truncated: bool,
    /// RD, RA, Z, AD and CD at their positions in the header.
    pub(crate) other_flags: u16,
    /// The question as it was returned.
    pub(crate) question: Vec<u8>,
    pub(crate) edns: Option<Edns>,
    pub(crate) answer: Vec<Record>,
    pub(crate) authority: Vec<Record>,
    pub(crate) additional: Vec<Record>,
}

impl Reply {
    /// The names of the parts in which two replies differ.
    pub(crate) fn differences(&self, other: &Self) -> Vec<&'static str> {
        let parts = [
            ("rcode", self.rcode == other.rcode),
            ("aa", self.authoritative == other.authoritative),
            ("tc", self.truncated == other.truncated),
            ("other flags", self.other_flags == other.other_flags),
            ("question", self.question == other.question),
            ("edns", self.edns == other.edns),
            ("answer", self.answer == other.answer),
            ("authority", self.authority == other.authority),
            ("additional", self.additional == other.additional),
        ];
        parts.into_iter().filter_map(|(part, same)| (!same).then_some(part)).collect()
    }

    /// The header, and the records that `other` does not have.
    pub(crate) fn beside(&self, other: &Self) -> String {
        let flag = |set, text| if set { text } else { "" };
        let mut text = format!(
            "rcode {}{}{} other flags {:#06x} {:?}\n",
            self.rcode,
            flag(self.authoritative, " aa"),
            flag(self.truncated, " tc"),
            self.other_flags,
            self.edns
        );
        let sections = [
            ("answer", &self.answer, &other.answer),
            ("authority", &self.authority, &other.authority),
            ("additional", &self.additional, &other.additional),
        ];
        for (section, records, others) in sections {
            let (common, own): (Vec<_>, Vec<_>) = records.iter().partition(|record| others.contains(record));
            if !common.is_empty() {
                writeln!(text, "    {section:10} {} records in common", common.len()).unwrap();
            }
            for record in own {
                writeln!(text, "    {section:10} {record:?}").unwrap();
            }
        }
        text
    }

    /// Decodes a whole message. Returns a description of the fault if it is malformed.
    pub(crate) fn decode(message: &[u8]) -> Result<Self, String> {
        let mut reader = Reader { message, at: 12 };
        let head = message.get(..12).ok_or("shorter than a header")?;
        let field = |index: usize| u16::from_be_bytes([head[2 * index], head[2 * index + 1]]);
        let flags = field(1);
        if flags & 0x8000 == 0 {
            return Err("not a reply".into());
        }
        let question = reader.question(field(2))?;
        let mut reply = Self {
            rcode: flags & 0xf,
            authoritative: flags & 0x0400 != 0,
            truncated: flags & 0x0200 != 0,
            other_flags: flags & 0x01f0,
            question,
            edns: None,
            answer: reader.records(field(3))?,
            authority: reader.records(field(4))?,
            additional: Vec::new(),
        };
        for _ in 0..field(5) {
            let record = reader.record()?;
            if record.0.rtype != OPT {
                reply.additional.push(record.0);
                continue;
            }
            if reply.edns.is_some() || record.0.owner != [0] {
                return Err("a second OPT record, or one that is not at the root".into());
            }
            let [extended, version, flags, _] = record.0.ttl.to_be_bytes();
            reply.rcode |= u16::from(extended) << 4;
            reply.edns = Some(Edns { version, payload: record.1, dnssec_ok: flags & 0x80 != 0 });
        }
        if reader.at != message.len() {
            return Err(format!("{} bytes trail the last record", message.len() - reader.at));
        }
        for section in [&mut reply.answer, &mut reply.authority, &mut reply.additional] {
            section.sort();
        }
        Ok(reply)
    }
}

/// For types with names in their data: the number of fixed bytes before each name, and whether
/// names may be compressed. They may only in types of RFC 1035 (RFC 3597, section 4).
fn names_in(rtype: u16) -> (&'static [usize], bool) {
    match rtype {
        NS | CNAME | PTR | 3 | 4 | 7 | 8 | 9 => (&[0], true),
        SOA | 14 => (&[0, 0], true),
        MX => (&[2], true),
        17 => (&[0, 0], false),
        18 | 21 | 36 => (&[2], false),
        SRV => (&[6], false),
        DNAME => (&[0], false),
        64 | 65 => (&[2], false),
        _ => (&[], false),
    }
}

struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Reader<'m> {
    fn take(&mut self, length: usize) -> Result<&'m [u8], String> {
        let bytes = self.message.get(self.at..self.at + length).ok_or("cut short")?;
        self.at += length;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u16, String> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// The raw question, or nothing if there is none.
    fn question(&mut self, count: u16) -> Result<Vec<u8>, String> {
        let start = self.at;
        match count {
            0 => return Ok(Vec::new()),
            1 => self.name(false)?,
            _ => return Err(format!("{count} questions")),
        };
        self.take(4)?;
        Ok(self.message[start..self.at].to_vec())
    }

    fn records(&mut self, count: u16) -> Result<Vec<Record>, String> {
        (0..count).map(|_| self.record().map(|(record, _)| record)).collect()
    }

    /// A record and its class.
    fn record(&mut self) -> Result<(Record, u16), String> {
        let owner = self.name(true)?.to_ascii_lowercase();
        let rtype = self.number()?;
        let class = self.number()?;
        let ttl = u32::from(self.number()?) << 16 | u32::from(self.number()?);
        let length = usize::from(self.number()?);
        if rtype != OPT && class != 1 {
            return Err(format!("a record of class {class}"));
        }
        let end = self.at + length;
        let mut data = Vec::new();
        let (names, compressed) = names_in(rtype);
        if length > 0 {
            for &before in names {
                data.extend(self.take(before)?);
                data.extend(self.name(compressed)?.to_ascii_lowercase());
            }
        }
        let rest = end.checked_sub(self.at).ok_or("a name exceeds its record")?;
        data.extend(self.take(rest)?);
        Ok((Record { owner, rtype, ttl, data }, class))
    }

    fn name(&mut self, compressed: bool) -> Result<Wire, String> {
        let mut name = Vec::new();
        let mut at = self.at;
        let mut end = None;
        loop {
            let length = *self.message.get(at).ok_or("a name is cut short")?;
            match length {
                0 => break,
                1..=63 => {
                    let label =
                        self.message.get(at..=at + usize::from(length)).ok_or("a label is cut short")?;
                    name.extend(label);
                    at += label.len();
                }
                0xc0.. if compressed => {
                    let low = *self.message.get(at + 1).ok_or("a pointer is cut short")?;
                    end.get_or_insert(at + 2);
                    let target = usize::from(length & 0x3f) << 8 | usize::from(low);
                    if target >= at {
                        return Err("a compression pointer that does not point backwards".into());
                    }
                    at = target;
                }
                _ => return Err(format!("a label that begins with {length:#x}")),
            }
        }
        name.push(0);
        if name.len() > 255 {
            return Err("a name of more than 255 bytes".into());
        }
        self.at = end.unwrap_or(at + 1);
        Ok(name)
    }
}
