//! DNS messages: parses queries and writes replies, without allocation.
//!
//! This module handles bytes and their meaning. `answer` decides what to reply.
#![warn(clippy::indexing_slicing)]

pub mod edns;
pub mod query;
pub mod record;
pub mod subnet;
pub mod tsig;
pub mod writer;

pub use query::{Query, Question};
pub use writer::{Full, Writer};

/// Length of a message header (RFC 1035, section 4.1.1).
pub const HEADER: usize = 12;
/// The largest UDP message without EDNS (RFC 1035, section 4.2.1).
pub const PLAIN_UDP: usize = 512;
/// The largest message: the length prefix of TCP has 16 bits.
pub const MAX_MESSAGE: usize = 65_535;

/// Response codes (IANA DNS parameters), with the extended ones of EDNS.
pub mod rcode {
    /// No error.
    pub const NOERROR: u16 = 0;
    /// The query is malformed.
    pub const FORMERR: u16 = 1;
    /// The server cannot answer now.
    pub const SERVFAIL: u16 = 2;
    /// The name does not exist.
    pub const NXDOMAIN: u16 = 3;
    /// The server does not support this kind of query.
    pub const NOTIMP: u16 = 4;
    /// The server refuses to answer.
    pub const REFUSED: u16 = 5;
    /// The name that a DNAME makes is too long (RFC 6672, section 2.2).
    pub const YXDOMAIN: u16 = 6;
    /// The server is not authoritative for the zone (RFC 5936, section 2.2.1), or does not accept
    /// the signature (RFC 8945, section 5.2).
    pub const NOTAUTH: u16 = 9;
    /// The EDNS version is unknown (RFC 6891, section 6.1.3).
    pub const BADVERS: u16 = 16;
    /// The cookie is not valid (RFC 7873, section 5.2.3).
    pub const BADCOOKIE: u16 = 23;

    /// The mnemonics of all of these.
    pub const NAMES: [(&str, u16); 10] = [
        ("NOERROR", NOERROR),
        ("FORMERR", FORMERR),
        ("SERVFAIL", SERVFAIL),
        ("NXDOMAIN", NXDOMAIN),
        ("NOTIMP", NOTIMP),
        ("REFUSED", REFUSED),
        ("YXDOMAIN", YXDOMAIN),
        ("NOTAUTH", NOTAUTH),
        ("BADVERS", BADVERS),
        ("BADCOOKIE", BADCOOKIE),
    ];

    /// The mnemonic of a response code, if it is one of these.
    #[must_use]
    pub fn name(code: u16) -> Option<&'static str> {
        NAMES.iter().find(|(_, known)| *known == code).map(|(name, _)| *name)
    }
}

/// Operation codes (RFC 6895, section 2.2).
pub mod opcode {
    /// A standard query.
    pub const QUERY: u8 = 0;
    /// A notification that a zone has changed (RFC 1996).
    pub const NOTIFY: u8 = 4;
}

/// Classes (RFC 6895, section 3.2).
pub mod class {
    /// The Internet.
    pub const IN: u16 = 1;
    /// Chaosnet; only queries for a server's version and name still use it.
    pub const CH: u16 = 3;
    /// Any class; the class of a TSIG record (RFC 8945, section 4.2).
    pub const ANY: u16 = 255;
}

/// Bits of the header's flags field (RFC 1035, section 4.1.1).
pub mod flag {
    /// A response.
    pub const QR: u16 = 0x8000;
    /// The four bits of the operation code.
    pub const OPCODE: u16 = 0x7800;
    /// An authoritative answer.
    pub const AA: u16 = 0x0400;
    /// Truncated: the client should retry over TCP.
    pub const TC: u16 = 0x0200;
    /// Recursion desired; copied into the reply.
    pub const RD: u16 = 0x0100;
}
