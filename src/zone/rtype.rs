//! The record types that the server itself handles (IANA DNS parameters).

/// An IPv4 address (RFC 1035).
pub const A: u16 = 1;
/// A name server (RFC 1035).
pub const NS: u16 = 2;
/// An alias (RFC 1035).
pub const CNAME: u16 = 5;
/// Start of authority (RFC 1035).
pub const SOA: u16 = 6;
/// A pointer to another name (RFC 1035).
pub const PTR: u16 = 12;
/// Host information (RFC 1035), and the answer to ANY (RFC 8482).
pub const HINFO: u16 = 13;
/// A mail exchanger (RFC 1035).
pub const MX: u16 = 15;
/// Text (RFC 1035).
pub const TXT: u16 = 16;
/// An IPv6 address (RFC 3596).
pub const AAAA: u16 = 28;
/// The location of a service (RFC 2782).
pub const SRV: u16 = 33;
/// An alias for a whole subtree (RFC 6672).
pub const DNAME: u16 = 39;
/// EDNS (RFC 6891); never in a zone.
pub const OPT: u16 = 41;
/// Delegation signer (RFC 4034).
pub const DS: u16 = 43;
/// A signature (RFC 4034).
pub const RRSIG: u16 = 46;
/// Authenticated denial of existence (RFC 4034).
pub const NSEC: u16 = 47;
/// Service binding (RFC 9460).
pub const SVCB: u16 = 64;
/// Service binding for HTTP (RFC 9460).
pub const HTTPS: u16 = 65;
/// Text for mail, superseded by TXT (RFC 7208).
pub const SPF: u16 = 99;
/// Key negotiation (RFC 2930); never in a zone.
pub const TKEY: u16 = 249;
/// A transaction signature (RFC 8945); never in a zone.
pub const TSIG: u16 = 250;
/// Incremental zone transfer (RFC 1995).
pub const IXFR: u16 = 251;
/// Zone transfer (RFC 5936).
pub const AXFR: u16 = 252;
/// Mailbox records, obsolete (RFC 1035).
pub const MAILB: u16 = 253;
/// Mail agent records, obsolete (RFC 1035).
pub const MAILA: u16 = 254;
/// Any type (RFC 8482).
pub const ANY: u16 = 255;
