//! The table of record types in master files: number, mnemonic, and the fields of the data in
//! written order. A new type takes one line if `rdata` knows the kinds of its fields.

use super::special::Special;

/// A record type.
#[derive(Debug)]
pub(super) struct Type {
    pub(super) number: u16,
    pub(super) name: &'static str,
    pub(super) data: Data,
}

/// The presentation form of a type's data.
#[derive(Clone, Copy, Debug)]
pub(super) enum Data {
    /// Field by field.
    Fields(&'static [Field]),
    /// Only in the form of RFC 3597: `\# 2 0a00`.
    Opaque,
    /// Types that occur only in queries or other messages, never in a zone.
    Never,
}

/// A field of record data.
#[derive(Debug)]
pub(super) struct Field {
    /// The name of the field in messages.
    pub(super) what: &'static str,
    pub(super) kind: FieldKind,
}

/// The presentation form and the wire length of a field. A kind that takes the rest of the record
/// can only be the last field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldKind {
    /// One byte, decimal.
    U8,
    /// Two bytes, decimal.
    U16,
    /// Four bytes, decimal.
    U32,
    /// Four bytes, a time with or without units.
    Seconds,
    /// Like `Seconds`, but at most 2^31-1 seconds.
    Ttl,
    /// Four bytes, a point in time.
    Moment,
    /// One byte, a DNSSEC algorithm by number or mnemonic.
    Algorithm,
    /// One byte, a digest type by number or mnemonic.
    DigestType,
    /// Two bytes, key flags: a number, or mnemonics separated by `|`.
    KeyFlags,
    /// One byte, a key protocol by number or mnemonic.
    KeyProtocol,
    /// One byte, a notification scheme by number or mnemonic (RFC 9859).
    Scheme,
    /// Two bytes, a certificate type by number or mnemonic (RFC 4398, section 2.1).
    CertificateType,
    /// Two bytes, a record type.
    Type,
    /// Four bytes.
    Ipv4,
    /// Sixteen bytes.
    Ipv6,
    /// Eight bytes, half of an IPv6 address: `14:4fff:ff20:ee64` (RFC 6742).
    Locator,
    /// Six or eight bytes: `00-00-5e-00-53-2a` (RFC 7043).
    Eui(u8),
    /// An uncompressed name.
    Name,
    /// A `<character-string>`.
    Text,
    /// One `<character-string>`, or nothing.
    OptionalText,
    /// One or more `<character-string>`s to the end.
    Texts,
    /// Letters and digits, a `<character-string>` in wire form (RFC 8659, section 4.1).
    Tag,
    /// Text to the end in one token, without a length in wire form; at least this many bytes.
    Rest(u8),
    /// Bytes to the end in hexadecimal; at least this many.
    Hex(u8),
    /// Bytes to the end in base64; at least one.
    Base64,
    /// Bytes to the end in base64, or none, written as nothing or `-`.
    OptionalBase64,
    /// A length byte, then bytes in hexadecimal; `-` means none (RFC 5155, section 3.3).
    Salt,
    /// A length byte, then bytes in base32.
    Hash,
    /// Record types to the end, as a bitmap (RFC 4034, section 4.1.2).
    Types,
    /// Record types below 128 to the end, as one bitmap (RFC 2535, section 5.2).
    OldTypes,
    /// The data of a LOC record (RFC 1876).
    Location,
    /// Service parameters to the end (RFC 9460).
    Parameters,
    /// A separate layout, to the end of the record.
    Special(Special),
}

const fn f(what: &'static str, kind: FieldKind) -> Field {
    Field { what, kind }
}

const fn fields(name: &'static str, number: u16, fields: &'static [Field]) -> Type {
    Type { number, name, data: Data::Fields(fields) }
}

const fn opaque(name: &'static str, number: u16) -> Type {
    Type { number, name, data: Data::Opaque }
}

const fn never(name: &'static str, number: u16) -> Type {
    Type { number, name, data: Data::Never }
}

use FieldKind::{
    Algorithm, Base64, CertificateType, DigestType, Eui, Hash, Hex, Ipv4, Ipv6, KeyFlags, KeyProtocol,
    Location, Locator, Moment, Name, OptionalBase64, OptionalText, Parameters, Rest, Salt, Scheme, Seconds,
    Tag, Text, Texts, Ttl, Types, U8, U16, U32,
};

const TARGET: &[Field] = &[f("the name it points to", Name)];
const HOST: &[Field] = &[f("the preference", U16), f("the host name", Name)];
const TEXTS: &[Field] = &[f("the text", Texts)];
const DIGEST: &[Field] = &[
    f("the key tag", U16),
    f("the algorithm", Algorithm),
    f("the digest type", DigestType),
    f("the digest", Hex(1)),
];
const KEY: &[Field] = &[
    f("the flags", KeyFlags),
    f("the protocol", KeyProtocol),
    f("the algorithm", Algorithm),
    f("the public key", Base64),
];
const LOCATOR: &[Field] = &[f("the preference", U16), f("the locator", Locator)];
const CERTIFICATE_ASSOCIATION: &[Field] = &[
    f("the certificate usage", U8),
    f("the selector", U8),
    f("the matching type", U8),
    f("the certificate data", Hex(1)),
];
const BINDING: &[Field] =
    &[f("the priority", U16), f("the target name", Name), f("the parameters", Parameters)];
const SIGNATURE: &[Field] = &[
    f("the type covered", FieldKind::Type),
    f("the algorithm", Algorithm),
    f("the number of labels", U8),
    f("the original TTL", U32),
    f("the expiration", Moment),
    f("the inception", Moment),
    f("the key tag", U16),
    f("the signer's name", Name),
    f("the signature", Base64),
];

/// All types with a mnemonic (IANA DNS parameters). The search is linear, so common types come
/// first.
pub(super) static TYPES: &[Type] = &[
    fields("A", 1, &[f("the IPv4 address", Ipv4)]),
    fields("NS", 2, TARGET),
    fields("AAAA", 28, &[f("the IPv6 address", Ipv6)]),
    fields("CNAME", 5, TARGET),
    fields("TXT", 16, TEXTS),
    fields("MX", 15, HOST),
    fields("PTR", 12, TARGET),
    fields("DS", 43, DIGEST),
    fields(
        "SRV",
        33,
        &[f("the priority", U16), f("the weight", U16), f("the port", U16), f("the target name", Name)],
    ),
    fields(
        "SOA",
        6,
        &[
            f("the primary name server", Name),
            f("the mailbox of the person responsible", Name),
            f("the serial number", U32),
            f("the refresh interval", Seconds),
            f("the retry interval", Seconds),
            f("the expire limit", Seconds),
            f("the minimum TTL", Ttl),
        ],
    ),
    fields("RRSIG", 46, SIGNATURE),
    fields("NSEC", 47, &[f("the next name", Name), f("the types", Types)]),
    fields(
        "NSEC3",
        50,
        &[
            f("the hash algorithm", U8),
            f("the flags", U8),
            f("the iterations", U16),
            f("the salt", Salt),
            f("the next hashed name", Hash),
            f("the types", Types),
        ],
    ),
    fields("DNSKEY", 48, KEY),
    fields("HTTPS", 65, BINDING),
    fields("SVCB", 64, BINDING),
    fields("CAA", 257, &[f("the flags", U8), f("the tag", Tag), f("the value", Rest(0))]),
    fields(
        "NAPTR",
        35,
        &[
            f("the order", U16),
            f("the preference", U16),
            f("the flags", Text),
            f("the services", Text),
            f("the regular expression", Text),
            f("the replacement name", Name),
        ],
    ),
    fields("TLSA", 52, CERTIFICATE_ASSOCIATION),
    fields("SMIMEA", 53, CERTIFICATE_ASSOCIATION),
    fields(
        "SSHFP",
        44,
        &[f("the algorithm", U8), f("the fingerprint type", U8), f("the fingerprint", Hex(1))],
    ),
    fields("DNAME", 39, TARGET),
    fields("HINFO", 13, &[f("the processor", Text), f("the operating system", Text)]),
    fields("RP", 17, &[f("the mailbox", Name), f("the name of the text record", Name)]),
    fields("SPF", 99, TEXTS),
    fields("URI", 256, &[f("the priority", U16), f("the weight", U16), f("the target", Rest(1))]),
    fields("LOC", 29, &[f("the location", Location)]),
    fields(
        "CERT",
        37,
        &[
            f("the certificate type", CertificateType),
            f("the key tag", U16),
            f("the algorithm", Algorithm),
            f("the certificate", Base64),
        ],
    ),
    fields("OPENPGPKEY", 61, &[f("the key", Base64)]),
    fields(
        "ZONEMD",
        63,
        &[
            f("the serial number", U32),
            f("the scheme", U8),
            f("the hash algorithm", U8),
            f("the digest", Hex(12)),
        ],
    ),
    fields("CDS", 59, DIGEST),
    fields("CDNSKEY", 60, KEY),
    fields("DLV", 32769, DIGEST),
    fields("TA", 32768, DIGEST),
    fields(
        "KEY",
        25,
        &[
            f("the flags", KeyFlags),
            f("the protocol", KeyProtocol),
            f("the algorithm", Algorithm),
            // The flags may say that there is no key (RFC 2535, section 3.1.2).
            f("the public key", OptionalBase64),
        ],
    ),
    fields("SIG", 24, SIGNATURE),
    fields(
        "NSEC3PARAM",
        51,
        &[f("the hash algorithm", U8), f("the flags", U8), f("the iterations", U16), f("the salt", Salt)],
    ),
    fields("CSYNC", 62, &[f("the serial number", U32), f("the flags", U16), f("the types", Types)]),
    fields("AFSDB", 18, &[f("the subtype", U16), f("the host name", Name)]),
    fields("KX", 36, HOST),
    fields("RT", 21, HOST),
    fields("LP", 107, HOST),
    fields("L32", 105, &[f("the preference", U16), f("the locator", Ipv4)]),
    fields("PX", 26, &[f("the preference", U16), f("the RFC 822 name", Name), f("the X.400 name", Name)]),
    fields("DHCID", 49, &[f("the identifier", Base64)]),
    fields("EUI48", 108, &[f("the address", Eui(6))]),
    fields("EUI64", 109, &[f("the address", Eui(8))]),
    fields("X25", 19, &[f("the address", Text)]),
    fields("MB", 7, TARGET),
    fields("MG", 8, TARGET),
    fields("MR", 9, TARGET),
    fields("MINFO", 14, &[f("the mailbox of the owner", Name), f("the mailbox for errors", Name)]),
    fields("AVC", 258, TEXTS),
    fields("RESINFO", 261, TEXTS),
    fields("WALLET", 262, TEXTS),
    fields("MD", 3, TARGET),
    fields("MF", 4, TARGET),
    opaque("NULL", 10),
    fields("WKS", 11, &[f("the address, the protocol and the ports", FieldKind::Special(Special::Services))]),
    fields("ISDN", 20, &[f("the address", Text), f("the subaddress", OptionalText)]),
    fields("NSAP", 22, &[f("the address", FieldKind::Special(Special::Nsap))]),
    fields("NSAP-PTR", 23, TARGET),
    fields("GPOS", 27, &[f("the longitude", Text), f("the latitude", Text), f("the altitude", Text)]),
    fields("NXT", 30, &[f("the next name", Name), f("the types", FieldKind::OldTypes)]),
    fields("EID", 31, &[f("the identifier", Hex(1))]),
    fields("NIMLOC", 32, &[f("the locator", Hex(1))]),
    fields("ATMA", 34, &[f("the address", FieldKind::Special(Special::Atma))]),
    fields("A6", 38, &[f("the prefix, the address and the name", FieldKind::Special(Special::Suffix))]),
    fields(
        "SINK",
        40,
        &[f("the meaning", U8), f("the coding", U8), f("the subcoding", U8), f("the data", OptionalBase64)],
    ),
    fields("APL", 42, &[f("the address prefixes", FieldKind::Special(Special::Prefixes))]),
    fields(
        "IPSECKEY",
        45,
        &[f("the precedence", U8), f("the gateway", FieldKind::Special(Special::Gateway))],
    ),
    fields("HIP", 55, &[f("the host identity", FieldKind::Special(Special::Identity))]),
    fields("NINFO", 56, TEXTS),
    fields("RKEY", 57, KEY),
    fields("TALINK", 58, &[f("the previous name", Name), f("the next name", Name)]),
    fields(
        "DSYNC",
        66,
        &[
            f("the type", FieldKind::Type),
            f("the scheme", Scheme),
            f("the port", U16),
            f("the target name", Name),
        ],
    ),
    fields("HHIT", 67, &[f("the identity", Base64)]),
    fields("BRID", 68, &[f("the identity", Base64)]),
    opaque("UINFO", 100),
    opaque("UID", 101),
    opaque("GID", 102),
    opaque("UNSPEC", 103),
    fields("NID", 104, LOCATOR),
    fields("L64", 106, LOCATOR),
    fields(
        "DOA",
        259,
        &[
            f("the enterprise", U32),
            f("the type", U32),
            f("the location", U8),
            f("the media type", Text),
            f("the data", OptionalBase64),
        ],
    ),
    fields("AMTRELAY", 260, &[f("the precedence", U8), f("the relay", FieldKind::Special(Special::Relay))]),
    never("OPT", 41),
    never("NXNAME", 128),
    never("TKEY", 249),
    never("TSIG", 250),
    never("IXFR", 251),
    never("AXFR", 252),
    never("MAILB", 253),
    never("MAILA", 254),
    never("ANY", 255),
];

/// DNSSEC algorithms by mnemonic (IANA DNS security algorithm numbers).
pub(super) static ALGORITHMS: &[(&str, u16)] = &[
    ("RSAMD5", 1),
    ("DH", 2),
    ("DSA", 3),
    ("RSASHA1", 5),
    ("DSA-NSEC3-SHA1", 6),
    ("RSASHA1-NSEC3-SHA1", 7),
    ("RSASHA256", 8),
    ("RSASHA512", 10),
    ("ECC-GOST", 12),
    ("ECDSAP256SHA256", 13),
    ("ECDSAP384SHA384", 14),
    ("ED25519", 15),
    ("ED448", 16),
    ("INDIRECT", 252),
    ("PRIVATEDNS", 253),
    ("PRIVATEOID", 254),
];

/// Digest types by mnemonic, as in BIND (IANA DS digest algorithms).
pub(super) static DIGEST_TYPES: &[(&str, u16)] =
    &[("SHA-1", 1), ("SHA1", 1), ("SHA-256", 2), ("SHA256", 2), ("GOST", 3), ("SHA-384", 4), ("SHA384", 4)];

/// Key protocols by mnemonic (RFC 2535, section 3.1.3).
pub(super) static KEY_PROTOCOLS: &[(&str, u16)] =
    &[("NONE", 0), ("TLS", 1), ("EMAIL", 2), ("DNSSEC", 3), ("IPSEC", 4), ("ALL", 255)];

/// Key flags by mnemonic (RFC 2535, section 3.1.2; RFC 4034, section 2.1.1).
pub(super) static KEY_FLAGS: &[(&str, u16)] = &[
    ("NOCONF", 0x4000),
    ("NOAUTH", 0x8000),
    ("NOKEY", 0xc000),
    ("EXTEND", 0x1000),
    ("USER", 0),
    ("ZONE", 0x0100),
    ("HOST", 0x0200),
    ("NTYP3", 0x0300),
    ("REVOKE", 0x0080),
    ("KSK", 0x0001),
];

/// Notification schemes by mnemonic (RFC 9859).
pub(super) static SCHEMES: &[(&str, u16)] = &[("NOTIFY", 1)];

/// Certificate types by mnemonic (RFC 4398, section 2.1).
pub(super) static CERTIFICATE_TYPES: &[(&str, u16)] = &[
    ("PKIX", 1),
    ("SPKI", 2),
    ("PGP", 3),
    ("IPKIX", 4),
    ("ISPKI", 5),
    ("IPGP", 6),
    ("ACPKIX", 7),
    ("IACPKIX", 8),
    ("URI", 253),
    ("OID", 254),
];

/// Finds the type with this mnemonic, in any case.
pub(super) fn by_name(text: &[u8]) -> Option<&'static Type> {
    TYPES.iter().find(|known| known.name.as_bytes().eq_ignore_ascii_case(text))
}

/// Finds the type with this number.
pub(super) fn by_number(number: u16) -> Option<&'static Type> {
    TYPES.iter().find(|known| known.number == number)
}

/// Whether a zone can contain records of this type: it is not 0, not OPT, and not for queries or
/// single messages (RFC 6895, section 3.1).
pub(super) fn may_stand_in_a_zone(number: u16) -> bool {
    !matches!(number, 0 | 41 | 128..=255)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::rtype;

    #[test]
    fn the_table_is_consistent() {
        for (at, known) in TYPES.iter().enumerate() {
            assert!(
                !TYPES[..at].iter().any(|other| other.number == known.number || other.name == known.name)
            );
            assert_eq!(
                matches!(known.data, Data::Never),
                !may_stand_in_a_zone(known.number),
                "{}",
                known.name
            );
            if let Data::Fields(fields) = known.data {
                let takes_the_rest = |kind| {
                    matches!(
                        kind,
                        Texts
                            | OptionalText
                            | Rest(_)
                            | Hex(_)
                            | Base64
                            | OptionalBase64
                            | Types
                            | FieldKind::OldTypes
                            | Location
                            | Parameters
                            | FieldKind::Special(_)
                    )
                };
                let before_last = &fields[..fields.len() - 1];
                assert!(!before_last.iter().any(|field| takes_the_rest(field.kind)), "{}", known.name);
            }
        }
        for (name, number) in [
            ("A", rtype::A),
            ("NS", rtype::NS),
            ("SOA", rtype::SOA),
            ("AAAA", rtype::AAAA),
            ("OPT", rtype::OPT),
            ("https", rtype::HTTPS),
            ("Svcb", rtype::SVCB),
            ("RRSIG", rtype::RRSIG),
            ("ANY", rtype::ANY),
        ] {
            assert_eq!(by_name(name.as_bytes()).unwrap().number, number);
        }
    }
}
