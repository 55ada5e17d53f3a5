//! Every fault: its message, and the marked part of the line.

use super::*;
use crate::printable::without_quoted;

/// The faults of these files; empty if they form a valid zone.
fn faults(files: &[(&str, &str)]) -> Vec<ZoneFault> {
    match read_files(files) {
        Ok(_) => Vec::new(),
        Err(faults) => faults,
    }
}

/// The text after [`HEAD`], the line (from 1, counted after the head), the marked text, and a part
/// of the message.
const LINES: &[(&str, u32, &str, &str)] = &[
    // Before the data.
    ("x AAA ::1", 1, "AAA", "`AAA` is not a record type: did you mean AAAA?"),
    ("x CNAM y", 1, "CNAM", "did you mean CNAME?"),
    ("x HTTP 1 .", 1, "HTTP", "did you mean HTTPS?"),
    ("x BLURB y", 1, "BLURB", "TYPE and its number"),
    ("x TYPE65536 \\# 0", 1, "TYPE65536", "is not a record type"),
    ("x 60 192.0.2.1", 1, "192.0.2.1", "A or AAAA, is missing before the address"),
    ("x IN 2001:db8::1", 1, "2001:db8::1", "A or AAAA, is missing before the address"),
    ("x 60 60 A 192.0.2.1", 1, "60", "is not a record type"),
    ("x IN 60 IN A 192.0.2.1", 1, "IN", "is not a record type"),
    ("x CH TXT a", 1, "CH", "only the class IN is served"),
    ("x CLASS3 TXT a", 1, "CLASS3", "only the class IN is served"),
    ("x ANY a", 1, "ANY", "ANY is not a type of records in a zone"),
    ("x OPT \\# 0", 1, "OPT", "is not a type of records in a zone"),
    ("x TSIG a", 1, "TSIG", "is not a type of records in a zone"),
    ("x AXFR a", 1, "AXFR", "is not a type of records in a zone"),
    ("x TYPE0 \\# 0", 1, "TYPE0", "is not a type of records in a zone"),
    ("x TYPE254 \\# 0", 1, "TYPE254", "MAILA is not a type"),
    ("x \"A\" 192.0.2.1", 1, "\"A\"", "without quotes"),
    ("x", 1, "x", "the record type is missing"),
    ("x 60 IN", 1, "IN", "the record type is missing"),
    (" 60", 1, "60", "the record type is missing"),
    ("x 2147483648 A 192.0.2.1", 1, "2147483648", "at most 2147483647 seconds"),
    ("x 99999w A 192.0.2.1", 1, "99999w", "at most 2147483647 seconds"),
    ("x 1h30 A 192.0.2.1", 1, "1h30", "a time with units such as 1h30m"),
    ("a..b A 192.0.2.1", 1, "a..b", "empty label"),
    (".a A 192.0.2.1", 1, ".a", "empty label"),
    (r"a\2 A 192.0.2.1", 1, r"a\2", "three digits up to 255"),
    (r"a\256 A 192.0.2.1", 1, r"a\256", "three digits up to 255"),
    // Data.
    ("x A 192.0.2.256", 1, "192.0.2.256", "is not an IPv4 address"),
    ("x A 192.0.2.01", 1, "192.0.2.01", "is not an IPv4 address"),
    ("x A 2001:db8::1", 1, "2001:db8::1", "IPv6 addresses are AAAA records"),
    ("x AAAA 192.0.2.1", 1, "192.0.2.1", "IPv4 addresses are A records"),
    ("x A", 1, "A", "the IPv4 address is missing after A"),
    ("x A 192.0.2.1 192.0.2.2", 1, "192.0.2.2", "nothing is expected after the IPv4 address of A"),
    ("x MX mail", 1, "mail", "is not the preference"),
    ("x MX 10", 1, "10", "the host name is missing: MX has the preference, the host name"),
    ("x MX 65536 mail", 1, "65536", "a number from 0 to 65535"),
    ("x MX -1 mail", 1, "-1", "a number from 0 to 65535"),
    ("x MX 10 \"mail\"", 1, "\"mail\"", "without quotes"),
    ("x TXT", 1, "TXT", "the text is missing after TXT"),
    ("x TXT a\"b", 1, "\"b", "never closed"),
    ("x TXT a\"b\"", 1, "a\"b\"", "a quote stands inside a word"),
    ("x TXT \"a", 1, "\"a", "never closed"),
    (r#"x TXT "a\3""#, 1, r#""a\3""#, "three digits up to 255"),
    ("x CAA 0 issue ;x", 1, "issue", "the value is missing"),
    ("x CAA 0 is-sue a", 1, "is-sue", "letters and digits"),
    ("x CAA 256 issue a", 1, "256", "a number from 0 to 255"),
    ("x URI 1 1 \"\"", 1, "\"\"", "must not be empty"),
    ("x DS 1 5 1 abc", 1, "abc", "odd number"),
    ("x DS 1 5 1 ag", 1, "ag", "hexadecimal digits are expected"),
    ("x DS 1 RSA 1 ab", 1, "RSA", "is not the algorithm"),
    ("x ZONEMD 1 1 1 abcd", 1, "abcd", "at least 12 bytes"),
    ("x OPENPGPKEY AQI", 1, "AQI", "cut short or badly padded"),
    ("x OPENPGPKEY AQ=I", 1, "AQ=I", "base64 is expected"),
    ("x OPENPGPKEY AQJ=", 1, "AQJ=", "cut short or badly padded"),
    ("x EUI48 00-00-5e-00-53", 1, "00-00-5e-00-53", "6 bytes in hexadecimal"),
    ("x NSEC y A B", 1, "B", "is not a record type"),
    ("x RRSIG A 5 3 1 20030230250000 1 1 . AA==", 1, "20030230250000", "YYYYMMDDHHmmSS"),
    ("x NSEC3 1 1 0 - 0w", 1, "0w", "base32"),
    ("x LOC 91 N 0 E 0", 1, "91", "the latitude is not valid"),
    ("x LOC 90 0 1 N 0 E 0", 1, "1", "the latitude is not valid"),
    ("x LOC 1 60 N 0 E 0", 1, "60", "the latitude is not valid"),
    ("x LOC 1 E 0 E 0", 1, "E", "the latitude is not valid"),
    ("x LOC 1 N 0 E", 1, "E", "the altitude is missing"),
    ("x LOC 1 N 0 E 1.234m", 1, "1.234m", "is not the altitude"),
    ("x LOC 1 N 0 E 1m 1m 1m 1m 1m", 1, "1m", "nothing is expected"),
    ("x UID 7", 1, "7", "`\\# LENGTH HEXADECIMAL`"),
    ("x TYPE65280 abc", 1, "abc", "`\\# LENGTH HEXADECIMAL`"),
    ("x A \\# 3 0a0000", 1, "\\# 3 0a0000", "this is not data of A: the IPv4 address is cut short"),
    ("x A \\# 5 0a00000000", 1, "\\# 5 0a00000000", "1 bytes are left over"),
    ("x NS \\# 2 c00c", 1, "\\# 2 c00c", "this is not data of NS"),
    ("x A \\# 4 0a00", 1, "4", "given as `4` bytes, but `2` bytes"),
    ("x A \\#", 1, "\\#", "the length of the data"),
    // Directives.
    ("$TTL", 1, "$TTL", "$TTL takes exactly one argument, a time"),
    ("$TTL 1 2", 1, "2", "$TTL takes exactly one argument, a time"),
    ("$TTL 1x", 1, "1x", "is not the TTL"),
    ("$TTL 2147483648", 1, "2147483648", "at most"),
    ("$ORIGIN", 1, "$ORIGIN", "argument, a name"),
    ("$ORIGIN a..b", 1, "a..b", "empty label"),
    ("$ORGIN x.", 1, "$ORGIN", "did you mean $ORIGIN?"),
    ("$UNKNOWN", 1, "$UNKNOWN", "$ORIGIN, $TTL, $INCLUDE, $GENERATE are known"),
    (" $TTL 60", 1, "$TTL", "a directive begins in the first column"),
    ("$INCLUDE", 1, "$INCLUDE", "takes a file"),
    ("$INCLUDE a b c", 1, "c", "takes a file"),
    ("$INCLUDE missing", 1, "missing", "missing` cannot be read: entity not found"),
    ("$INCLUDE example.zone", 1, "example.zone", "includes itself"),
    ("$GENERATE", 1, "$GENERATE", "takes a range"),
    ("$GENERATE 1-2", 1, "1-2", "the record is missing"),
    ("$GENERATE 2-1 x$ A 192.0.2.$", 1, "2-1", "begins above its end"),
    ("$GENERATE 1-2 x$ A 192.0.2.${x}", 1, "192.0.2.${x}", "a width"),
    (
        "$GENERATE 255-300 x$ A 192.0.2.$",
        1,
        "$GENERATE 255-300 x$ A 192.0.2.$",
        "with `256` this makes `x256 A 192.0.2.256`: `192.0.2.256` is not",
    ),
    (
        "$GENERATE 0-3 x A 192.0.2.${-1}",
        1,
        "$GENERATE 0-3 x A 192.0.2.${-1}",
        "`0` plus its offset is negative",
    ),
    // Lines.
    ("x A ( 192.0.2.1\ny A 192.0.2.2", 1, "(", "is never closed"),
    ("x A 192.0.2.1 )\ny A 192.0.2.2", 1, ")", "closes nothing"),
    ("x MX ( 10\n\n mail\n oops )", 4, "oops", "nothing is expected after the host name"),
    ("x TXT \u{e9}\u{e9} ; \u{e9}\n\u{e9} A 1", 2, "1", "is not an IPv4 address"),
    // Faults that the builder finds in a record.
    ("x A 192.0.2.1\nx CNAME y", 2, "CNAME", "cannot stand beside other records"),
    ("x CNAME y\nx CNAME z", 2, "CNAME", "one CNAME only"),
    ("x DNAME y\nx DNAME z", 2, "DNAME", "one DNAME only"),
    ("@ SOA a b 1 2 3 4 5", 1, "SOA", "a second SOA record"),
    ("x SOA a b 1 2 3 4 5", 1, "SOA", "SOA"),
];

/// A fault of the zone as a whole marks the whole line.
#[test]
fn warnings_mark_their_line() {
    for (text, line, marked) in [
        ("sub NS a.sub\n", 1, "sub NS a.sub"),
        ("sub NS a.sub\n\tNS b.sub ; two\r\nb.sub A 192.0.2.1", 1, "sub NS a.sub"),
        ("sub NS b.sub\r\n\tNS a.sub\r\nb.sub A 192.0.2.1", 2, "NS a.sub"),
    ] {
        let mut load = |_: &Path| Ok(format!("{HEAD}{text}\n").into_bytes());
        let zone = read(Path::new("example.zone"), &name("example"), &mut load).unwrap();
        let (_, warnings) = zone.finish_with_warnings().unwrap();
        let [warning] = warnings.as_slice() else { panic!("{text}: {warnings:?}") };
        let start = warning.column as usize - 1;
        assert_eq!(warning.line, 6 + line, "{text}");
        assert_eq!(&warning.text[start..start + warning.length as usize], marked, "{text}");
        assert!(warning.message.contains("`a.sub.example.`, which has no address here"), "{warning}");
    }
}

#[test]
fn messages_and_places() {
    for (text, line, marked, message) in LINES {
        let found = faults(&[("example.zone", &format!("{HEAD}{text}\n"))]);
        let [fault] = found.as_slice() else { panic!("{text}: {found:#?}") };
        assert!(fault.message.contains(message), "{text}: {}", fault.message);
        assert_eq!(fault.line, line + 6, "{text}");
        let start = fault.column as usize - 1;
        assert_eq!(&fault.text[start..start + fault.length as usize], *marked, "{text}");
        assert_eq!(fault.text, text.lines().nth(*line as usize - 1).unwrap(), "{text}");
    }
    assert!(LINES.len() >= 60);
}

#[test]
fn a_message_repeats_the_file_between_backquotes_only() {
    let others = [
        "x 48151623 A 192.0.2.1\nx 42108 A 192.0.2.2",
        "x TYPE48151 what",
        "x TYPE48151 \\# 48151 00",
        "x HTTPS 1 . mandatory=key48151",
        "$GENERATE 48151-42108 x A 192.0.2.1",
        "$GENERATE 48151-48152 secret$. A 192.0.2.1",
        "$GENERATE 42108-42109 x A 192.0.2.${-48151}",
        "secret. A 192.0.2.1",
        "a`secret`b. A 192.0.2.1",
        "@ NS a`secret`b",
        "$INCLUDE a`secret`b",
        "$INCLUDE a secret.. 48151",
    ];
    for text in LINES.iter().map(|(text, ..)| *text).chain(others) {
        let text = &format!("{HEAD}{text}\n");
        let mut load = |_: &Path| Ok(text.as_bytes().to_vec());
        let zone = read(Path::new("example.zone"), &name("example"), &mut load);
        let found = match zone.and_then(ReadZone::finish_with_warnings) {
            Ok((_, warnings)) => warnings,
            Err(faults) => faults,
        };
        assert!(!found.is_empty(), "{text}");
        for fault in found {
            let left = without_quoted(&fault.message);
            for own in ["48151", "42108", "secret", "192.0.2.2", "other", ".sub", "2001:db8"] {
                assert!(!left.contains(own) || !text.contains(own), "{text}: {}", fault.message);
            }
        }
    }
}

#[test]
fn limits_of_names_and_text() {
    let label = "a".repeat(64);
    let long = [&label[1..]; 4].join(".");
    let text = "t".repeat(256);
    for (line, message) in [
        (format!("{label} A 192.0.2.1"), "more than 63 bytes"),
        (format!("x CNAME {label}"), "more than 63 bytes"),
        (format!("{long} A 192.0.2.1"), "longer than 255 bytes"),
        (format!("{} A 192.0.2.1", &long[..250]), "with the origin"),
        (format!("x CNAME {}.", &long[..254]), "longer than 255 bytes"),
        (format!("x TXT {text}"), "this text has `256` bytes"),
        (format!("x TXT {}", "abcdefg ".repeat(8192)), "at most 65535 bytes"),
        (format!("x TXT {}", "abcdefg ".repeat(8190)), "what one DNS message can hold"),
    ] {
        let found = faults(&[("example.zone", &format!("{HEAD}{line}"))]);
        assert_eq!(found.len(), 1, "{message}: {found:?}");
        assert!(found[0].message.contains(message), "{message}: {}", found[0].message);
    }
    let longest = &long[..253];
    assert!(read_text(&format!("{HEAD}x SOA {longest}. {longest}. 1 1 1 1 1")).is_err());
    assert_eq!(told(&read_text(&format!("{HEAD}x RP {longest}. {longest}.\n")).unwrap()).len(), 1);
}

#[test]
fn faults_of_the_whole() {
    for (text, messages) in [
        ("", vec!["has no SOA record", "has no NS record"]),
        ("@ 60 SOA a b 1 2 3 4 5\n", vec!["has no NS record"]),
    ] {
        let found = faults(&[("example.zone", text)]);
        assert_eq!(found.len(), messages.len(), "{found:?}");
        for (fault, message) in found.iter().zip(messages) {
            assert!(fault.message.contains(message), "{}", fault.message);
            assert_eq!((fault.line, fault.column, fault.length), (0, 0, 0));
            assert_eq!(fault.to_string(), format!("example.zone: {}", fault.message));
        }
    }
    let found = faults(&[("example.zone", "$ORIGIN example.net.\n@ 60 SOA ns host 1 2 3 4 5\n@ 60 NS ns\n")]);
    assert_eq!((found.len(), found[0].line), (2, 2), "{found:?}");
    let cause =
        "the zone `example.` has no SOA record: this one belongs to `example.net.`, which is not in the zone";
    assert!(found[0].message.starts_with(cause), "{}", found[0].message);
    let mut load = |_: &Path| Err(io::Error::from(io::ErrorKind::PermissionDenied));
    let found = read(Path::new("a.zone"), &name("example"), &mut load).unwrap_err();
    assert_eq!(found[0].to_string(), "a.zone: the zone file cannot be read: permission denied");
}

#[test]
fn the_first_record_has_a_name_and_a_ttl() {
    let found = faults(&[("example.zone", " 60 A 192.0.2.1\n")]);
    assert!(found[0].message.contains("cannot begin with a blank"), "{}", found[0].message);
    let found = faults(&[("example.zone", "x A 192.0.2.1\n")]);
    assert!(found[0].message.contains("has no TTL"), "{}", found[0].message);
    assert_eq!(found[0].to_string(), format!("example.zone:1:3: {}", found[0].message));
}

#[test]
fn a_fault_hides_no_other_and_makes_no_other() {
    let text = format!(
        "{HEAD}a..b A 192.0.2.1\n TXT x\n CNAME y\nx A 1\n A 192.0.2.1\ny.other. A 192.0.2.1\n TXT x\nz A \"\n TXT x\n"
    );
    let lines: Vec<u32> = faults(&[("example.zone", &text)]).iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [7, 10, 14]);
}

#[test]
fn many_faults_are_counted() {
    for bad in ["x A 1\n", "x SOA ns host 1 2 3 4 5\n"] {
        let text = (0..250).fold(HEAD.to_string(), |text, number| format!("{text}{number}{bad}"));
        let found = faults(&[("example.zone", &text)]);
        assert_eq!(found.len(), MAX_FAULTS + 1);
        assert_eq!(found[MAX_FAULTS].message, "150 more faults are not shown");
        assert_eq!((found[0].line, found[MAX_FAULTS].line), (7, 0));
    }
}

#[test]
fn reading_ends_where_nothing_is_right() {
    let found = faults(&[("example.zone", &"foo bar baz\n".repeat(5000))]);
    assert_eq!(found[MAX_FAULTS].message, "at least 900 more faults are not shown");
}

#[test]
fn bytes_that_are_not_utf_8_keep_the_mark_in_its_place() {
    let mut load = |_: &Path| Ok([HEAD.as_bytes(), b"x\xff\xff A bad \xff"].concat());
    let found = read(Path::new("a.zone"), &name("example"), &mut load).unwrap_err();
    let fault = &found[0];
    let start = fault.column as usize - 1;
    assert_eq!(&fault.text[start..start + fault.length as usize], "bad");
}
