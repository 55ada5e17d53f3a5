//! Record data: presentation form to wire form, against known bytes and against hickory-proto.

use std::str::FromStr;

use hickory_proto::rr::{RData, RecordType as OtherType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};

use super::*;

/// The wire form of a record's data, or the fault.
fn data(record: &str) -> Result<String, String> {
    let zone = read_text(&format!("{HEAD}$ORIGIN Example.\nx {record}\n"))
        .map_err(|faults| faults.iter().map(|fault| fault.message.clone()).collect::<Vec<_>>().join("|"))?;
    let node = zone.node(name("x.example").wire()).unwrap();
    let rrset = node.rrsets().next().unwrap();
    Ok(hex(rrset.first()))
}

/// Hexadecimal digits, with text between `'`; all become hexadecimal digits.
fn bytes(text: &str) -> String {
    let parts = text.split('\'').enumerate();
    parts.map(|(at, part)| if at % 2 == 1 { hex(part.as_bytes()) } else { part.replace(' ', "") }).collect()
}

/// The types of RFC 1035, and others that consist of names, numbers and text.
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

/// Types with keys, digests and certificates.
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

/// Rare types, and mnemonics for numbers; the bytes come from BIND 9.18.49.
const RARE: &[(&str, &str)] = &[
    ("MD a.b.", "0161016200"),
    ("MF a.b.", "0161016200"),
    ("NULL \\# 2 0102", "0102"),
    ("WKS 192.0.2.1 6 25 80", "c0000201060000004000000000000080"),
    ("WKS 192.0.2.1 udp domain", "c00002011100000000000004"),
    ("X25 311061700956", "0c333131303631373030393536"),
    ("ISDN \"150862028003217\" \"004\"", "0f31353038363230323830303332313703303034"),
    ("ISDN 150862028003217", "0f313530383632303238303033323137"),
    ("NSAP 0x47.0005.80.005a00.0000.0001.e133.ffffff000161.00", "47000580005a0000000001e133ffffff00016100"),
    ("NSAP-PTR a.b.", "0161016200"),
    ("PX 10 a. b.", "000a016100016200"),
    ("GPOS -32.6882 116.8652 10.0", "082d33322e36383832083131362e383635320431302e30"),
    ("NXT a.b. A NS SOA TXT", "0161016200620080"),
    ("NXT a.b. A TYPE127", "016101620040000000000000000000000000000001"),
    ("EID 1289ab", "1289ab"),
    ("EID 12 89 ab", "1289ab"),
    ("NIMLOC 1289abcd", "1289abcd"),
    ("ATMA +61200000000", "013631323030303030303030"),
    ("ATMA 47.0091.8100.0000.0060.3e64fd01.0060.3e64fd01.00", "004700918100000000603e64fd0100603e64fd0100"),
    ("ATMA 39246f000e7c9c031200010001000012345678.00", "0039246f000e7c9c03120001000100001234567800"),
    ("A6 0 2001:db8::1", "0020010db8000000000000000000000001"),
    ("A6 64 ::1 net.a.", "400000000000000001036e6574016100"),
    ("A6 128 net.a.", "80036e6574016100"),
    ("A6 127 ::1 .", "7f0100"),
    ("A6 60 ::1 x.", "3c000000000000000001017800"),
    ("SINK 8 0 2 l4ik", "0800029788a4"),
    ("SINK 1 0 0", "010000"),
    ("APL 1:192.168.32.0/21 !1:192.168.38.0/28", "00011503c0a82000011c83c0a826"),
    ("APL 1:224.0.0.0/4 2:FF00:0:0:0:0:0:0:0/8", "00010401e000020801ff"),
    ("APL", ""),
    ("APL 1:0.0.0.0/0 !2:::/0", "0001000000020080"),
    (
        "IPSECKEY ( 10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ== )",
        "0a0102c0000226010351537986ed35533b6064478eeeb27b5bd74dae149b6e81ba3a0521af82ab7801",
    ),
    (
        "IPSECKEY 10 0 2 . AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==",
        "0a0002010351537986ed35533b6064478eeeb27b5bd74dae149b6e81ba3a0521af82ab7801",
    ),
    (
        "IPSECKEY 10 3 2 mygateway.example.com. AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==",
        "0a0302096d7967617465776179076578616d706c6503636f6d00010351537986ed35533b6064478eeeb27b5bd74dae149b6e81ba3a0521af82ab7801",
    ),
    (
        "IPSECKEY 10 2 2 2001:db8:0:8002::2000:1 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==",
        "0a020220010db8000080020000000020000001010351537986ed35533b6064478eeeb27b5bd74dae149b6e81ba3a0521af82ab7801",
    ),
    (
        "HIP 2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMzxTs9 rvs1.example.com. rvs2.example.com.",
        "10020012200100107b1a74df365639cc39f1d57803010001b771ca136e4aeb5ce44333c53b3d0472767331076578616d706c6503636f6d000472767332076578616d706c6503636f6d00",
    ),
    ("NINFO \"a\" b", "01610162"),
    ("RKEY 0 255 1 AQID", "0000ff01010203"),
    ("RKEY 0 0 1 AQID", "00000001010203"),
    ("TALINK a. b.", "016100016200"),
    ("DSYNC CDS NOTIFY 5300 a.example.", "003b0114b40161076578616d706c6500"),
    ("DSYNC CSYNC 1 53 a.", "003e010035016100"),
    ("DSYNC TYPE65280 200 53 a.", "ff00c80035016100"),
    ("HHIT AQID", "010203"),
    ("BRID AQID", "010203"),
    ("NID 10 0014:4fff:ff20:ee64", "000a00144fffff20ee64"),
    ("L64 10 2001:0DB8:1140:1000", "000a20010db811401000"),
    ("LP 10 a.", "000a016100"),
    (
        "DOA 1234567890 1234567890 1 \"image/gif\" R0lGODlhKAAZAOMCAGZmZgBmmf///zOZzMz//5nM/zNmmWbM/5nMzMzMzACZ",
        "499602d2499602d20109696d6167652f67696647494638396128001900e30200666666006699ffffff3399ccccffff99ccff33669966ccff99cccccccccc0099",
    ),
    ("DOA 0 1 2 \"\" -", "00000000000000010200"),
    ("AMTRELAY 0 0 0 .", "0000"),
    ("AMTRELAY 0 0 1 0.0.0.0", "000100000000"),
    ("AMTRELAY 10 0 2 2001:db8::1", "0a0220010db8000000000000000000000001"),
    ("AMTRELAY 255 1 3 a.b.", "ff830161016200"),
    ("KX 10 a.", "000a016100"),
    ("RT 10 a.", "000a016100"),
    (
        "SIG NXT 1 3 3600 20000102030405 19961211100908 2143 foo.nil. AQID",
        "001e010300000e10386ec02532ae8844085f03666f6f036e696c00010203",
    ),
    ("KEY 512 255 1 AQID", "0200ff01010203"),
    ("KEY 49152 3 0", "c0000300"),
    ("KEY HOST DNSSEC RSASHA1 AQID", "02000305010203"),
    ("DNSKEY ZONE|KSK DNSSEC 5 AQID", "01010305010203"),
    ("DNSKEY KSK 3 5 AQID", "00010305010203"),
    ("DNSKEY 256 3 PRIVATEDNS AQID", "010003fd010203"),
    ("NSAP 0x00", "00"),
    ("CERT 65534 65535 254 AQID", "fffefffffe010203"),
    (
        "DS 1 RSASHA1 SHA-1 2BB183AF5F22588179A53B0A98631FAD1A292118",
        "000105012bb183af5f22588179a53b0a98631fad1a292118",
    ),
    ("NID 10 14:4fff:ff20:ee64", "000a00144fffff20ee64"),
    ("L64 1 1:2:3:4", "00010001000200030004"),
    (
        "RRSIG TYPE65280 RSASHA256 3 86400 20030322173103 20030220173103 2642 example.com. AQID",
        "ff000803000151803e7c9dd73e5510d70a52076578616d706c6503636f6d00010203",
    ),
    // BIND rejects these: an IPSECKEY without a key, an AMTRELAY without a relay.
    ("IPSECKEY 10 1 0 192.0.2.38", "0a0100c0000226"),
    ("AMTRELAY 0 1 0", "0080"),
    ("WKS 192.0.2.1 6", "c000020106"),
    ("WKS 192.0.2.1 tcp telnetd", "!is not a port, or the name of a well-known service"),
    ("WKS 192.0.2.1", "!the protocol is missing after this"),
    ("NSAP 4700", "!hexadecimal digits, optionally separated by dots, are expected"),
    ("NSAP 0x470", "!odd number"),
    ("ATMA +12a", "!is not a telephone number"),
    ("A6 129 ::1", "!is not the length of the prefix: a number from 0 to 128"),
    ("A6 0 ::1 x.", "!nothing is expected here"),
    ("APL 1:192.0.2.0/33", "!is not an address prefix"),
    ("APL 3:192.0.2.0/3", "!is not an address prefix"),
    ("APL 1:2001:db8::/3", "!is not an address prefix"),
    ("APL \\# 4 00010100", "00010100"),
    ("APL \\# 4 00012100", "!the address prefixes is cut short or not valid"),
    ("IPSECKEY 10 0 2 x. AQID", "!with type 0, the gateway is written as a dot"),
    ("IPSECKEY 10 4 2 . AQID", "!is not the gateway type: a number from 0 to 3"),
    ("AMTRELAY 0 2 0 .", "!is not the discovery bit"),
    ("HIP 2 2001", "!the public key is missing after this"),
    ("NXT a. TYPE128", "!types below 128"),
    ("NXT a. 128", "!types below 128"),
    ("NXT a. A 127", "016100 40000000000000000000000000000001"),
    ("NID 10 1:2:3", "!four groups of hexadecimal digits"),
    ("L64 10 1:2:3:4:5", "!four groups of hexadecimal digits"),
    ("KEY ZONE|SEP 3 5 AQID", "!mnemonics such as ZONE|KSK"),
    ("DSYNC CDS PUSH 1 a.", "!is not the scheme"),
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

/// The test vectors of RFC 9460, appendix D, and variations.
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
    ("HTTPS \\# 11 0001 00 0008 0000 0002 0000", "!must be in ascending order without duplicates"),
    ("HTTPS \\# 11 0001 00 0008 0000 0008 0000", "!must be in ascending order without duplicates"),
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
    ("SVCB 1 . alpn=\"h2\"x", "!partly quoted"),
    ("SVCB 1 . dohpath=/q", "!such as /dns-query{?dns}"),
    ("SVCB 1 . tls-supported-groups=29,29", "!different numbers"),
];

#[test]
fn known_bytes() {
    for (record, expected) in [PLAIN, SECURITY, RARE, OTHERS, BINDINGS].concat() {
        // A second SOA record is a fault of the zone, so the type has its own test.
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

/// Compares our wire form with hickory's, for every type that hickory parses.
#[test]
fn hickory_reads_the_same() {
    let mut compared = 0;
    for (record, _) in [PLAIN, SECURITY, BINDINGS].concat() {
        let Ok(ours) = data(record) else { continue };
        let (rtype, text) = record.split_once(' ').unwrap();
        // Skips types that hickory does not parse, relative names, and known differences: escaped
        // names, adjacent strings without a blank, commas and hints in quotes.
        let Ok(other) = OtherType::from_str(rtype) else { continue };
        if text.contains('\\') || text.contains("\"\"") || text == "@" || text.ends_with(['Y', 'y']) {
            continue;
        }
        let Ok(parsed) = RData::try_from_str(other, text) else { continue };
        let mut theirs = Vec::new();
        let mut encoder = BinEncoder::new(&mut theirs);
        encoder.set_name_encoding(NameEncoding::Uncompressed);
        // Hickory does not write unsorted parameters.
        if parsed.emit(&mut encoder).is_err() {
            continue;
        }
        assert_eq!(ours, hex(&theirs), "{record}");
        compared += 1;
    }
    assert!(compared >= 20, "only {compared} records were compared");
}

/// hickory cannot parse these from text; its decoder and encoder must return our bytes unchanged.
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
    let tested: Vec<u16> = [PLAIN, SECURITY, RARE, OTHERS, BINDINGS]
        .concat()
        .iter()
        .filter_map(|(record, _)| Some(RecordType::parse(record.split(' ').next()?.as_bytes())?.number()))
        .collect();
    for known in types::TYPES {
        let types::Data::Fields(fields) = known.data else { continue };
        // Types with the same fields need only one test.
        let same = |number: &u16| {
            types::by_number(*number).is_some_and(
                |other| matches!(other.data, types::Data::Fields(others) if kinds(others) == kinds(fields)),
            )
        };
        assert!(tested.iter().any(same), "{}", known.name);
    }
}

fn kinds(fields: &[types::Field]) -> Vec<types::FieldKind> {
    fields.iter().map(|field| field.kind).collect()
}
