//! No input makes the reader panic, or report a place that does not exist.

use proptest::prelude::*;

use super::*;

/// A zone that uses every feature of the reader; the tests damage it.
const EVERYTHING: &str = "$TTL 1h\n$ORIGIN example.\n@ IN SOA ns host ( 1 2h 3m 4w ; comment\n 60 )\n\tNS ns\n\
    ns 60 A 192.0.2.1\n AAAA 2001:db8::1\n*.w CNAME ns\nd DNAME x.\nm MX 10 \"\" \nt TXT \"a b\" c\\\"d \\065\n\
    s SRV 1 2 3 ns\nc CAA 0 issue \"ca\"\nn NAPTR 1 2 \"u\" \"E2U\" \"!a!b!\" .\nh HTTPS 1 . alpn=\"h2,h3\" port=443\n\
    l LOC 42 21 54 N 71 06 18 W -24m 30m\nk DNSKEY 257 3 8 AQID\nq TYPE65280 \\# 4 0a000001\n\
    z NSEC a A TYPE1234\ne NSEC3 1 1 0 aa 0000 MX\nr RRSIG A 5 3 1 20030322173103 1 1 . AQID\n\
    u EUI48 00-00-5e-00-53-2A\n$GENERATE 1-9/2 g${0,2,x} A 192.0.2.$\n$INCLUDE other sub\n";

fn read_bytes(bytes: &[u8]) {
    // The file includes itself under other names, until the nesting limit stops it.
    let mut reads = 0;
    let mut load = |path: &Path| {
        reads += 1;
        let whole = path == Path::new("a") || reads < 5;
        Ok(if whole { bytes.to_vec() } else { b"x TXT a\n".to_vec() })
    };
    let result = read(Path::new("a"), &name("example"), &mut load).and_then(ReadZone::finish);
    for fault in result.err().unwrap_or_default() {
        let (column, length) = (fault.column as usize, fault.length as usize);
        if fault.line > 0 {
            assert!(column >= 1 && length >= 1, "{fault:?}");
            // The mark may be at the end of the line, one byte after the text.
            assert!(column - 1 + length <= fault.text.len() + 1, "{fault:?}");
        }
        assert!(!fault.message.is_empty());
    }
}

#[test]
fn everything_is_read_but_its_one_fault() {
    let faults = read_text(&EVERYTHING.replace("$INCLUDE other sub\n", "")).unwrap_err();
    let messages: Vec<_> = faults.iter().map(|fault| (fault.line, fault.message.as_str())).collect();
    assert_eq!(messages, [(10, "a name is written without quotes")]);
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_bytes(&bytes);
    }

    #[test]
    fn any_words(words in prop::collection::vec(prop::sample::select(WORDS), 0..40)) {
        read_bytes(words.concat().as_bytes());
    }

    #[test]
    fn a_damaged_zone(
        damage in prop::collection::vec((0..EVERYTHING.len(), 0..8usize, prop::collection::vec(any::<u8>(), 0..3)), 1..6),
    ) {
        let mut bytes = EVERYTHING.as_bytes().to_vec();
        for (at, removed, added) in damage {
            let at = at.min(bytes.len());
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, added);
        }
        read_bytes(&bytes);
    }
}

/// Pieces of entries, some of them nearly valid.
const WORDS: &[&str] = &[
    " ",
    " ",
    " ",
    "\n",
    "\n",
    "\r\n",
    "\t",
    "(",
    ")",
    "\"",
    "\\",
    ";",
    "@",
    "x",
    "example.",
    "A",
    "NS",
    "SOA",
    "TXT",
    "CAA",
    "HTTPS",
    "LOC",
    "NSEC",
    "TYPE65280",
    "IN",
    "60",
    "1h",
    "192.0.2.1",
    "2001:db8::1",
    "\\#",
    "4",
    "0a000001",
    "alpn=",
    "mandatory=alpn",
    "N",
    "E",
    "$TTL",
    "$ORIGIN",
    "$INCLUDE",
    "$GENERATE",
    "1-3",
    "${0,2,n}",
    "$",
    "\\032",
    "\\300",
    "AQID",
    "=",
    "-",
    "999999999999999999999",
];
