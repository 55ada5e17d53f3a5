//! Record data: presentation form to wire form, against known bytes and against hickory-proto.

use std::str::FromStr;

use hickory_proto::rr::{RData, RecordType as OtherType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};

use super::*;

/// The wire form of a record's data, or what is wrong with it.
fn data(record: &str) -> Result<String, String> {
    let zone = read_text(&format!("{HEAD}$ORIGIN Example.\nx {record}\n"))
        .map_err(|faults| faults.iter().map(|fault| fault.message.clone()).collect::<Vec<_>>().join("|"))?;
    let node = zone.node(name("x.example").wire()).unwrap();
    let rrset = node.rrsets().next().unwrap();
    Ok(hex(rrset.first()))
}

/// Hexadecimal digits with text in `'` among them, as hexadecimal digits.
fn bytes(text: &str) -> String {
    let parts = text.split('\'').enumerate();
    parts.map(|(at, part)| if at % 2 == 1 { hex(part.as_bytes()) } else { part.replace(' ', "") }).collect()
}

/// Types of RFC 1035 and others of names, numbers and text.
const PLAIN: &[(&str, &str)] = &[
    ("A 192.0.2.1", "c0000201"),
    ("AAAA 2001:db8::1", "20010db8000000000000000000000001"),
    ("AAAA ::ffff:192.0.2.1", "00000000000000000000ffffc0000201"),
    ("NS a.b.", "01'a'01'b'00"),
    ("CNAME @", "07'Example'00"),
    ("CNAME Y", "01'Y'07'Example'00"),
    ("CNAME .", "00"),
    (r"CNAME a\.b\032\\c.", r"06'a.b \c'00"),
    (r"CNAME a\.", "02'a.'07'Example'00"),
    ("DNAME y.", "01'y'00"),
    ("PTR y.", "01'y'00"),
    ("MX 10 y", "000a 01'y'07'Example'00"),
    ("MX ( 10 ; the first\n y. )", "000a 01'y'00"),
    (r#"TXT one "two  three" a\"b\065 """#, r#"03'one' 0a'two  three' 04'a"bA' 00"#),
    ("TXT \"a;b(c\"\"d\"", "05'a;b(c' 01'd'"),
    ("TXT \u{e9}\\255", "03 c3a9 ff"),
    ("SPF \"v=spf1 -all\"", "0b'v=spf1 -all'"),
    ("SRV 1 2 65535 y.", "0001 0002 ffff 01'y'00"),
    ("SOA a. b. 4294967295 1h 1m 1w 1d", "01'a'00 01'b'00 ffffffff 00000e10 0000003c 00093a80 00015180"),
    ("CAA 128 issue \"ca.example; a=b\"", "80 05'issue' 'ca.example; a=b'"),
    ("CAA 0 issue \"\"", "00 05'issue'"),
    ("HINFO \"x86\" Linux", "03'x86' 05'Linux'"),
    ("RP h.x. .", "01'h'01'x'00 00"),
    ("URI 10 1 \"https://a/\"", "000a 0001 'https://a/'"),
    ("NAPTR 100 50 \"s\" \"http+I2R\" \"\" y.", "0064 0032 01's' 08'http+I2R' 00 01'y'00"),
    (r#"NAPTR 1 2 u "" "!^.*$!\\1!" ."#, r"0001 0002 01'u' 00 09'!^.*$!\1!' 00"),
    ("AFSDB 1 y.", "0001 01'y'00"),
    ("MINFO a. b.", "01'a'00 01'b'00"),
    ("L32 10 192.0.2.1", "000a c0000201"),
    ("EUI48 00-00-5e-00-53-2A", "00005e00532a"),
    ("EUI64 00-00-5e-ef-10-00-00-2a", "00005eef1000002a"),
];

/// Types of keys, digests and certificates.
const SECURITY: &[(&str, &str)] = &[
    ("TLSA 3 1 1 ab CD\t01", "03 01 01 abcd01"),
    ("SMIMEA 3 0 0 00", "03 00 00 00"),
    ("SSHFP 4 2 ( 00ff\n ee )", "04 02 00ffee"),
    (
        "DS 60485 5 1 2BB183AF5F22588179A53B0A 98631FAD1A292118",
        "ec45 05 01 2bb183af5f22588179a53b0a98631fad1a292118",
    ),
    ("CDS 0 0 0 00", "0000 00 00 00"),
    ("DNSKEY 257 3 ED25519 AQID BA==", "0101 03 0f 01020304"),
    ("CDNSKEY 0 3 0 AA==", "0000 03 00 00"),
    ("CERT PGP 1 RSASHA256 AQ==", "0003 0001 08 01"),
    ("CERT 65280 0 0 AQI=", "ff00 0000 00 0102"),
    ("OPENPGPKEY AQID", "010203"),
    ("DHCID AQID", "010203"),
    ("ZONEMD 2018031500 1 1 000102030405060708090a0b", "7848b78c 01 01 000102030405060708090a0b"),
    ("CSYNC 66 3 A NS AAAA", "00000042 0003 0004 60000008"),
    ("CSYNC 66 3", "00000042 0003"),
    (
        "NSEC host. NSEC RRSIG A MX TYPE1234",
        "04'host'00 0006 400100000003 041b 000000000000000000000000000000000000000000000000000020",
    ),
    ("NSEC3PARAM 1 0 12 aabb", "01 00 000c 02aabb"),
    ("NSEC3PARAM 1 0 0 -", "01 00 0000 00"),
    (
        "NSEC3 1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr MX",
        "01 01 000c 04aabbccdd 14174eb2409fe28bcb4887a1836f957f0a8425e27b 00020001",
    ),
    (
        "RRSIG A 5 3 86400 20030322173103 20030220173103 2642 example.com. AQID",
        "0001 05 03 00015180 3e7c9dd7 3e5510d7 0a52 07'example'03'com'00 010203",
    ),
];

/// LOC, and the form of RFC 3597 for known and unknown types.
const OTHERS: &[(&str, &str)] = &[
    ("LOC 42 21 54 N 71 06 18 W -24m 30m", "00 33 16 13 89172dd0 70be15f0 00988d20"),
    ("LOC 0 N 0 e 0", "00 12 16 13 80000000 80000000 00989680"),
    ("LOC 90 S 180 0 0.000 w -100000.00m 90000000m 0 0.01", "00 99 00 10 6cb02700 59604e00 00000000"),
    ("LOC 0 0 0.001 N 0 0 0.5 E 42849672.95m", "00 12 16 13 80000001 800001f4 ffffffff"),
    ("TYPE65280 \\# 4 0a000001", "0a000001"),
    ("TYPE65280 \\# 0", ""),
    ("TYPE1 \\# 4 0a 00 00 01", "0a000001"),
    ("A \\# 4 ( 0a0000\n01 )", "0a000001"),
    ("type65535 \\# 1 ff", "ff"),
    ("TXT \\# 3 026162", "026162"),
    ("TXT \"\\\\#\" 1", "02'\\#' 0131"),
    ("APL \\# 4 00010000", "00010000"),
    ("NSEC \\# 7 00 0001 40 0001 01", "!this is not data of NSEC: the types"),
    ("CSYNC \\# 9 00000042 0003 0001 40", "00000042 0003 0001 40"),
];

/// The test vectors of RFC 9460, appendix D, and what is near them.
const BINDINGS: &[(&str, &str)] = &[
    ("HTTPS 0 foo.example.com.", "0000 03'foo'07'example'03'com'00"),
    ("SVCB 1 .", "0001 00"),
    ("SVCB 16 f. port=53", "0010 01'f'00 0003 0002 0035"),
    ("SVCB 1 f. key667=hello", "0001 01'f'00 029b 0005 'hello'"),
    (r#"SVCB 1 f. key667="hello\210qoo""#, "0001 01'f'00 029b 0009 'hello' d2 'qoo'"),
    (
        "SVCB 1 f. ipv6hint=\"2001:db8::1,2001:db8::53:1\"",
        "0001 01'f'00 0006 0020 20010db8000000000000000000000001 20010db8000000000000000000530001",
    ),
    ("SVCB 1 . ipv6hint=2001:db8:122:344::192.0.2.33", "0001 00 0006 0010 20010db80122034400000000c0000221"),
    (
        "SVCB 16 f. alpn=h2,h3-19 mandatory=ipv4hint,alpn ipv4hint=192.0.2.1",
        "0010 01'f'00 0000 0004 0001 0004 0001 0009 02'h2' 05'h3-19' 0004 0004 c0000201",
    ),
    (r#"SVCB 16 f. alpn="f\\\\oo\\,bar,h2""#, r"0010 01'f'00 0001 000c 08'f\oo,bar' 02'h2'"),
    (r"SVCB 16 f. alpn=f\\\092oo\092,bar,h2", r"0010 01'f'00 0001 000c 08'f\oo,bar' 02'h2'"),
    ("HTTPS 1 . no-default-alpn alpn=h3", "0001 00 0001 0003 02'h3' 0002 0000"),
    ("HTTPS 1 . ech=AQID", "0001 00 0005 0003 010203"),
    ("SVCB 1 . dohpath=/q{?dns} ohttp", "0001 00 0007 0008 '/q{?dns}' 0008 0000"),
    ("SVCB 1 . tls-supported-groups=29,23", "0001 00 0009 0004 001d 0017"),
    ("SVCB 1 . key65534", "0001 00 fffe 0000"),
    (r"SVCB 1 . key3=\000\053", "0001 00 0003 0002 0035"),
    ("HTTPS \\# 7 0001 00 0003 0000", "!is not data of HTTPS: the value of port"),
    ("HTTPS \\# 11 0001 00 0008 0000 0002 0000", "!not in ascending order"),
    ("HTTPS \\# 11 0001 00 0008 0000 0008 0000", "!not in ascending order, each once"),
    ("HTTPS \\# 7 0000 00 0008 0000", "!is an alias, and has no parameters"),
    ("HTTPS 0 . port=53", "!is an alias, and has no parameters"),
    ("SVCB 1 . key123=abc key123=def", "!`key123` is given twice"),
    ("SVCB 1 . mandatory", "!the value of mandatory is not valid"),
    ("SVCB 1 . alpn", "!the value of alpn is not valid"),
    ("SVCB 1 . alpn=a,,b", "!the value of alpn is not valid"),
    ("SVCB 1 . port=", "!the value of port is not valid"),
    ("SVCB 1 . ipv4hint", "!the value of ipv4hint is not valid"),
    ("SVCB 1 . ipv6hint", "!the value of ipv6hint is not valid"),
    ("SVCB 1 . no-default-alpn=abc", "!the value of no-default-alpn is not valid"),
    ("SVCB 1 . no-default-alpn", "!no-default-alpn needs alpn beside it"),
    ("SVCB 1 . mandatory=key123", "!mandatory names `key123`, which is not given"),
    ("SVCB 1 . mandatory=mandatory", "!mandatory must not name itself"),
    ("SVCB 1 . mandatory=key123,key123 key123=abc", "!mandatory names each key once"),
    ("SVCB 1 . apln=h2", "!did you mean alpn?"),
    ("SVCB 1 . key0123=a", "!is not a parameter"),
    ("SVCB 1 . key65535=a", "!key65535 is reserved"),
    ("SVCB 1 . \"port=53\"", "!with the quotes after the `=`"),
    ("SVCB 1 . alpn=\"h2\"x", "!quoted in part"),
    ("SVCB 1 . dohpath=/q", "!such as /dns-query{?dns}"),
    ("SVCB 1 . tls-supported-groups=29,29", "!different numbers"),
];

#[test]
fn known_bytes() {
    for (record, expected) in [PLAIN, SECURITY, OTHERS, BINDINGS].concat() {
        // A second SOA is a fault of the zone, so the type has a test of its own.
        if record.starts_with("SOA") {
            continue;
        }
        match expected.strip_prefix('!') {
            Some(fault) => {
                let told = data(record).unwrap_err();
                assert!(told.contains(fault), "{record}: {told}");
            }
            None => assert_eq!(data(record), Ok(bytes(expected)), "{record}"),
        }
    }
}

#[test]
fn soa() {
    let (record, expected) = PLAIN.iter().find(|(record, _)| record.starts_with("SOA")).unwrap();
    let zone = read_text(&format!("@ {record}\n@ NS elsewhere.\n")).unwrap();
    assert_eq!(hex(zone.negative_soa().unwrap().0.first()), bytes(expected));
    assert_eq!(zone.negative_soa().unwrap().0.ttl, 86_400, "its minimum is its TTL");
}

/// Every type that both can read, read by both.
#[test]
fn hickory_reads_the_same() {
    let mut compared = 0;
    for (record, _) in [PLAIN, SECURITY, BINDINGS].concat() {
        let Ok(ours) = data(record) else { continue };
        let (rtype, text) = record.split_once(' ').unwrap();
        // Types it does not read, relative names, and what it is known to read in another way:
        // escaped names, several strings without a blank, commas and hints in quotes.
        let Ok(other) = OtherType::from_str(rtype) else { continue };
        if text.contains('\\') || text.contains("\"\"") || text == "@" || text.ends_with(['Y', 'y']) {
            continue;
        }
        let Ok(parsed) = RData::try_from_str(other, text) else { continue };
        let mut theirs = Vec::new();
        let mut encoder = BinEncoder::new(&mut theirs);
        encoder.set_name_encoding(NameEncoding::Uncompressed);
        // It writes no parameters that are not in order already.
        if parsed.emit(&mut encoder).is_err() {
            continue;
        }
        assert_eq!(ours, hex(&theirs), "{record}");
        compared += 1;
    }
    assert!(compared >= 20, "only {compared} records were compared");
}

/// Records that hickory's reader refuses are read by its decoder: our bytes must survive it unchanged.
#[test]
fn hickory_decodes_what_is_written() {
    use hickory_proto::serialize::binary::{BinDecoder, Restrict};
    let mut compared = 0;
    for (record, _) in [PLAIN, SECURITY, OTHERS, BINDINGS].concat() {
        let Ok(ours) = data(record) else { continue };
        let rtype = RecordType::parse(record.split(' ').next().unwrap().as_bytes()).unwrap().number();
        let wire: Vec<u8> =
            (0..ours.len()).step_by(2).map(|at| u8::from_str_radix(&ours[at..at + 2], 16).unwrap()).collect();
        let mut decoder = BinDecoder::new(&wire);
        let length = Restrict::new(u16::try_from(wire.len()).unwrap());
        let parsed = RData::read(&mut decoder, OtherType::from(rtype), length)
            .unwrap_or_else(|error| panic!("{record}: {error}"));
        let mut theirs = Vec::new();
        let mut encoder = BinEncoder::new(&mut theirs);
        encoder.set_name_encoding(NameEncoding::Uncompressed);
        parsed.emit(&mut encoder).unwrap();
        assert_eq!(ours, hex(&theirs), "{record}");
        compared += 1;
    }
    assert!(compared >= 60, "only {compared} records were compared");
}

#[test]
fn every_type_has_its_fields_tested() {
    let tested: Vec<u16> = [PLAIN, SECURITY, OTHERS, BINDINGS]
        .concat()
        .iter()
        .filter_map(|(record, _)| Some(RecordType::parse(record.split(' ').next()?.as_bytes())?.number()))
        .collect();
    for known in types::TYPES {
        let types::Data::Fields(fields) = known.data else { continue };
        // A type with the fields of another is that other one.
        let same = |number: &u16| {
            types::by_number(*number).is_some_and(
                |other| matches!(other.data, types::Data::Fields(others) if kinds(others) == kinds(fields)),
            )
        };
        let rare = ["PX", "X25"].contains(&known.name);
        assert!(rare || tested.iter().any(same), "{}", known.name);
    }
}

fn kinds(fields: &[types::Field]) -> Vec<types::Kind> {
    fields.iter().map(|field| field.kind).collect()
}
