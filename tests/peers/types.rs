//! Compares the record data of every type for which BIND has a text form, as read by BIND and by
//! steerd.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use steerd::name::Name;
use steerd::zone::{Zone, reader};

use crate::support::program;

/// Records without owners: at least one of each type, in the forms that it has.
const RECORDS: &[&str] = &[
    "HTTPS 1 . alpn=h2",
    "MD a.b.",
    "MF a.b.",
    "WKS 192.0.2.1 tcp smtp http 8080",
    "WKS 192.0.2.1 6 25 80",
    "WKS 192.0.2.1 udp domain",
    "X25 311061700956",
    r#"ISDN "150862028003217" "004""#,
    "ISDN 150862028003217",
    "NSAP 0x47.0005.80.005a00.0000.0001.e133.ffffff000161.00",
    "NSAP-PTR a.b.",
    "PX 10 a. b.",
    "GPOS -32.6882 116.8652 10.0",
    "NXT a.b. A NS SOA TXT",
    "NXT a.b. A TYPE127",
    "EID 1289ab",
    "EID 12 89 ab",
    "NIMLOC 1289abcd",
    "ATMA +61200000000",
    "ATMA 47.0091.8100.0000.0060.3e64fd01.0060.3e64fd01.00",
    "ATMA 39246f000e7c9c031200010001000012345678.00",
    "A6 0 2001:db8::1",
    "A6 64 ::1 net.a.",
    "A6 128 net.a.",
    "A6 127 ::1 .",
    "A6 60 ::1 x.",
    "SINK 8 0 2 l4ik",
    "SINK 1 0 0",
    "APL 1:192.168.32.0/21 !1:192.168.38.0/28",
    "APL 1:224.0.0.0/4 2:FF00:0:0:0:0:0:0:0/8",
    "APL",
    "APL 1:0.0.0.0/0 !2:::/0",
    "IPSECKEY ( 10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ== )",
    "IPSECKEY 10 0 2 . AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==",
    "IPSECKEY 10 3 2 mygateway.example.com. AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==",
    "IPSECKEY 10 2 2 2001:db8:0:8002::2000:1 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==",
    "HIP ( 2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMzxTs9LBPCIkOFH8cIvM4p9+LrV4e19WzK00+CI6zBCQTdtWsuxKbWIy87UOoJTwkUs7lBu+Upr1gsNrut79ryra+bSRGQb1slImA8YVJyuIDsj7kwzG7jnERNqnWxZ48AWkskmdHaVDP4BcelrTI3rMXdXF5D )",
    "HIP 2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMzxTs9 rvs1.example.com. rvs2.example.com.",
    r#"NINFO "a" b"#,
    "RKEY 0 255 1 AQID",
    "RKEY 0 0 1 AQID",
    "TALINK a. b.",
    "DSYNC CDS NOTIFY 5300 a.example.",
    "DSYNC CSYNC 1 53 a.",
    "DSYNC TYPE65280 200 53 a.",
    "HHIT AQID",
    "BRID AQID",
    r#"SPF "v=spf1 -all""#,
    "NID 10 0014:4fff:ff20:ee64",
    "L32 10 192.0.2.1",
    "L64 10 2001:0DB8:1140:1000",
    "LP 10 a.",
    "EUI48 00-00-5e-00-53-2a",
    "EUI64 00-00-5e-ef-10-00-00-2a",
    r#"AVC "app-name:WOLFGANG|app-class:OAM""#,
    r#"DOA 1234567890 1234567890 1 "image/gif" R0lGODlhKAAZAOMCAGZmZgBmmf///zOZzMz//5nM/zNmmWbM/5nMzMzMzACZ"#,
    r#"DOA 0 1 2 "" -"#,
    "AMTRELAY 0 0 0 .",
    "AMTRELAY 0 0 1 0.0.0.0",
    "AMTRELAY 10 0 2 2001:db8::1",
    "AMTRELAY 255 1 3 a.b.",
    "RESINFO qnamemin exterr=15,16,17",
    r#"WALLET "EUR" x"#,
    "SMIMEA 3 0 0 00",
    "KX 10 a.",
    "RT 10 a.",
    "LOC 60 9 N 24 39 E 10 20 2000 20",
    "AFSDB 1 a.",
    "CSYNC 0 0 A",
    "ZONEMD 1 1 1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f",
    "TLSA 3 1 1 ab",
    "SIG NXT 1 3 3600 20000102030405 19961211100908 2143 foo.nil. AQID",
    "KEY 512 255 1 AQID",
    "KEY 49152 3 0",
    "KEY HOST DNSSEC RSASHA1 AQID",
    "DNSKEY ZONE|KSK DNSSEC 5 AQID",
    "DNSKEY KSK 3 5 AQID",
    "DNSKEY 256 3 PRIVATEDNS AQID",
    "NSAP 0x00",
    "CERT 65534 65535 254 AQID",
    "DS 1 RSASHA1 SHA-1 2BB183AF5F22588179A53B0A98631FAD1A292118",
    "CDS 0 0 0 00",
    "CDNSKEY 0 3 0 AA==",
    "TLSA 3 1 1 ( ab cd )",
    "SSHFP 4 2 123456789abcdef67890123456789abcdef67890123456789abcdef123456789",
    "OPENPGPKEY AQID",
    "DHCID AQID",
    r#"CAA 0 issue "ca""#,
    "CAA 0 issue ca.example",
    r#"URI 10 1 "https://a/""#,
    "HINFO a b",
    r#"NAPTR 1 1 ":" a "" ."#,
    "SVCB 1 . alpn=h2",
    "SVCB 1 . dohpath=/q{?dns}",
    "NSEC3 1 1 12 - 2t7b4g4vsa5smi47k61mv5bv1a22bojr MX",
    "NSEC3PARAM 1 0 0 -",
    "NID 10 14:4fff:ff20:ee64",
    "L64 1 1:2:3:4",
    "RRSIG TYPE65280 RSASHA256 3 86400 20030322173103 20030220173103 2642 example.com. AQID",
    "A 192.0.2.1",
    "NS a.",
    "CNAME a.",
    "MB a.",
    "MG a.",
    "MR a.",
    "PTR a.",
    "MINFO a. b.",
    "MX 10 a.",
    r#"TXT "a b" c"#,
    "RP a. b.",
    "DNAME a.",
    "AAAA 2001:db8::1",
    "SRV 1 2 3 a.",
    "NSEC a. A MX TYPE1234",
    "DLV 14714 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118",
    "TA 14714 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118",
    "DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118",
    "LOC 42 21 54 N 71 06 18 W -24m 30m",
];

/// Names of types without a text form in BIND: their data is written as `\# LENGTH HEXADECIMAL`.
const WITHOUT_TEXT: [&str; 5] = ["NULL", "UINFO", "UID", "GID", "UNSPEC"];

const HEAD: &str = "$TTL 300\n@ SOA ns.elsewhere. host 1 2 3 4 60\n@ NS ns.elsewhere.\n";

/// The output of BIND's checker for this input; none if it rejects the input.
fn checked(arguments: &[&str], input: &str) -> Option<String> {
    let mut checker = Command::new(program("named-rrchecker"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    checker.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = checker.wait_with_output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

fn read(text: &str) -> Zone {
    let apex = Name::parse("example").unwrap();
    let mut load = |_: &Path| Ok(text.as_bytes().to_vec());
    reader::read(Path::new("zone"), &apex, &mut load)
        .and_then(reader::ReadZone::finish)
        .unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
}

/// The data of the records below `x.example`, as `TYPE hexadecimal`, in order.
fn data(zone: &Zone) -> Vec<String> {
    let owner = Name::parse("x.example").unwrap();
    let below = zone.nodes().filter(|node| steerd::name::is_within(node.name(), owner.wire()));
    let mut data: Vec<String> = below
        .flat_map(steerd::zone::NodeRef::rrsets)
        .flat_map(|rrset| {
            let hex =
                |data: &[u8]| data.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat();
            rrset.records().map(move |data| format!("TYPE{} {}", rrset.rtype, hex(data))).collect::<Vec<_>>()
        })
        .collect();
    data.sort();
    data
}

#[test]
fn every_type_of_bind_is_tried() {
    let types = checked(&["-T"], "").unwrap();
    assert!(types.lines().count() > 70, "{types}");
    for name in types.lines().filter(|name| !["SOA"].contains(name)) {
        let tried = RECORDS.iter().any(|record| record.split(' ').next() == Some(name));
        let has_text = checked(&["-u"], &format!("IN {name} a\n")).is_some();
        assert!(tried || WITHOUT_TEXT.contains(&name) && !has_text, "{name} is not tried");
    }
}

#[test]
fn record_data_is_read_as_bind_reads_it() {
    for record in RECORDS {
        let said = checked(&["-u"], &format!("IN {record}\n"));
        let said = said.unwrap_or_else(|| panic!("BIND refuses `{record}`"));
        let words: Vec<&str> = said.split_whitespace().collect();
        // Class, type, `\#`, length, and the data, if there is any.
        let expected = format!("{} {}", words[1], words.get(4).unwrap_or(&""));
        assert_eq!(data(&read(&format!("{HEAD}x {record}\n"))), [expected.as_str()], "{record}");
    }
}

/// A zone with all these records is the same for steerd before and after BIND converts it.
#[test]
fn a_zone_of_every_type_is_the_same_after_bind() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (directory.path().join("ours"), directory.path().join("theirs"));
    let mut text = HEAD.to_owned();
    // BIND knows the text form of these two types, but loads no zone that has them.
    let is_loaded = |record: &&&str| !record.starts_with("MD ") && !record.starts_with("MF ");
    for (number, record) in RECORDS.iter().filter(is_loaded).enumerate() {
        writeln!(text, "n{number}.x {record}").unwrap();
    }
    std::fs::write(&ours, &text).unwrap();
    let output = Command::new(program("named-compilezone"))
        .args(["-i", "none", "-k", "ignore", "-s", "full", "-o"])
        .arg(&theirs)
        .arg("example")
        .arg(&ours)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    let theirs = std::fs::read_to_string(&theirs).unwrap();
    assert_eq!(data(&read(&text)), data(&read(&theirs)));
}
