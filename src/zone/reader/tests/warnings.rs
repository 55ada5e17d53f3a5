//! Warnings about valid zones: each kind, with its names and its place.

use super::*;
use crate::service::ServiceId;

/// The zone with these services, and its warnings as `line: message`.
fn warned(text: &str, services: &[&str]) -> (Zone, Vec<String>) {
    let mut load = |_: &Path| Ok(text.as_bytes().to_vec());
    let mut zone = read(Path::new("example.zone"), &name("example"), &mut load)
        .unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
    for (id, service) in (0..).zip(services) {
        zone.builder().bind_service(name(service).wire(), ServiceId(id)).unwrap();
    }
    let (zone, warnings) = zone.finish_with_warnings().unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
    // Text from a file is in backquotes.
    let plain = |message: &str| message.replace('`', "");
    let told =
        warnings.iter().map(|warning| format!("{}: {}", warning.line, plain(&warning.message))).collect();
    (zone, told)
}

/// The warnings about the text after [`HEAD`], which starts on line 7. [`HEAD`] has none.
fn warnings(text: &str, services: &[&str]) -> Vec<String> {
    warned(&format!("{HEAD}{text}"), services).1
}

#[track_caller]
fn assert_warned(text: &str, services: &[&str], expected: &[&str]) {
    let told = warnings(text, services);
    let is_told = |expected: &&str| {
        let (line, words) = expected.split_once(": ").unwrap();
        let mut parts = words.split(" .. ");
        told.iter().any(|told| {
            told.split_once(": ").is_some_and(|(told_line, message)| {
                told_line == line && parts.all(|part| message.contains(part))
            })
        })
    };
    assert!(told.len() == expected.len() && expected.iter().all(is_told), "{text:?}: {told:#?}");
}

#[test]
fn an_ordinary_zone_has_none() {
    let zone = "www A 192.0.2.1\n@ MX 10 mail\nmail A 192.0.2.2\n_sip._tcp SRV 1 2 3 mail\nalias CNAME www\n\
                out CNAME www.elsewhere.\nsub NS ns.sub\nns.sub A 192.0.2.3\nsub DS 1 8 2 00\n* TXT w\n\
                old DNAME www\n@ MX 0 .\nservice CNAME app\nptr PTR nowhere\n_x.app TXT beside\n";
    assert_eq!(warnings(zone, &["app.example", "*.apps.example"]), [""; 0]);
}

#[test]
fn an_soa_may_stand_at_the_end_again() {
    let soa = "@ IN SOA ns host 1 2 3 4 60\n";
    let (zone, told) =
        warned(&format!("{HEAD}x TXT a\n{soa}EXAMPLE. SOA NS host.example. 1 2 3 4 60\n"), &[]);
    assert_eq!((zone.records(), told), (4, Vec::new()));
    let faults = read_text(&format!("{HEAD}@ IN SOA ns host 2 2 3 4 60\n")).unwrap_err();
    assert_eq!((faults[0].line, faults[0].message.as_str()), (7, "the zone has a second SOA record"));
}

#[test]
fn records_of_other_zones_are_ignored() {
    let (zone, told) = warned(&format!("{HEAD}a.test. A 192.0.2.1\n  TXT a\nx A 192.0.2.2\n"), &[]);
    assert_eq!(zone.records(), 4);
    assert_eq!(told, ["7: the name a.test. is not in the zone example.: its records are ignored"]);
    let many = (0..25).map(|number| format!("n{number}.test. A 192.0.2.1\n")).collect::<Vec<_>>().concat();
    let told = warnings(&many, &[]);
    assert_eq!(told.len(), 11);
    assert_eq!(told[10], "0: 15 more records are not in the zone, and are ignored");
}

#[test]
fn of_several_ttls_the_first_counts() {
    let (zone, told) = warned(&format!("{HEAD}x 60 A 192.0.2.1\nx 30 A 192.0.2.2\nx A 192.0.2.3\n"), &[]);
    let addresses = zone.node(name("x.example").wire()).unwrap().rrset(rtype::A).unwrap();
    assert_eq!((addresses.count, addresses.ttl), (3, 60));
    assert_eq!(told.len(), 2);
    assert!(told[0].starts_with("8: the TTL of 30 seconds is not used") && told[0].contains("60 seconds"));
    assert!(told[1].starts_with("9: the TTL of 300 seconds is not used"));
}

#[test]
fn quoted_text_may_go_over_lines() {
    let (zone, told) = warned(&format!("{HEAD}x TXT \"one\n two\" b\ny TXT c\n"), &[]);
    let texts = zone.node(name("x.example").wire()).unwrap().rrset(rtype::TXT).unwrap();
    assert_eq!(texts.first(), b"\x08one\n two\x01b");
    assert!(zone.node(name("y.example").wire()).is_some());
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("7: a quoted text spans 2 lines"), "{told:?}");
    // An unclosed quote affects only its own line.
    let faults = read_text(&format!("{HEAD}x TXT \"one\ny A\nz TXT b\n")).unwrap_err();
    let lines: Vec<_> = faults.iter().map(|fault| (fault.line, fault.column, fault.length)).collect();
    assert_eq!(lines, [(7, 7, 4), (8, 3, 1)], "{faults:?}");
}

#[test]
fn a_signed_zone_is_told_once() {
    let rrsig = "RRSIG A 5 3 86400 20030322173103 20030220173103 2642 example. AQID";
    let zone = format!("@ DNSKEY 257 3 8 AQID\n@ {rrsig}\nns {rrsig}\nns NSEC example. A\n");
    assert_warned(&zone, &[], &["7: the zone is signed .. example. .. 3 more records .. DS record"]);
    assert_warned("sub NS ns\nsub DS 1 8 2 00\n", &[], &[]);
}

#[test]
fn wildcard_services_that_names_shadow() {
    let services = ["*.apps.example", "api.team.apps.example", "shop.apps.example"];
    assert_warned(
        "_acme-challenge.blog.apps TXT token\nnote.apps TXT text\n_dmarc.apps TXT v\nhost.apps A 192.0.2.1\n\
         _acme-challenge.shop.apps TXT token\nalias.apps CNAME host.apps\n",
        &services,
        &[
            "7: blog.apps.example. exists because of _acme-challenge.blog.apps.example. .. *.apps.example.",
            "8: note.apps.example. exists, so .. *.apps.example.",
            "0: team.apps.example. exists because of api.team.apps.example. .. *.apps.example.",
        ],
    );
    // A wildcard that is not a service gives no warning.
    assert_warned("*.apps A 192.0.2.1\nnote.apps TXT text\n", &[], &[]);
}

#[test]
fn name_servers_that_are_services() {
    assert_warned(
        "@ NS app\nsub NS app\n",
        &["app.example"],
        &["7: name server app.example. is a service", "8: name server app.example. is a service"],
    );
}

#[test]
fn targets_that_do_not_exist_or_have_no_address() {
    assert_warned(
        "@ MX 10 mail\n",
        &[],
        &["7: the MX record of example. leads to mail.example., which does not exist"],
    );
    assert_warned("@ MX 10 mail\nmail CNAME ns\n", &[], &["7: MX .. mail.example., which is an alias"]);
    assert_warned("@ MX 10 mail\nmail TXT a\n", &[], &["7: MX .. mail.example., which has no address"]);
    assert_warned("_s._tcp SRV 1 2 3 old\n", &[], &["7: SRV record of _s._tcp.example. .. old.example."]);
    assert_warned(
        "_s._tcp SRV 1 2 3 x.old\nold DNAME new\n",
        &[],
        &["7: x.old.example. .. alias by a DNAME"],
    );
    assert_warned("@ MX 10 app\n@ MX 10 any.apps\n", &["app.example", "*.apps.example"], &[]);
    assert_warned(
        "@ MX 10 192.0.2.1\n",
        &[],
        &[
            "7: leads to 192.0.2.1.example., which does not exist; 192.0.2.1 is an address where a name is expected",
        ],
    );
    for (record, told) in [
        ("@ MX 10 192.0.2.1.", "7: leads to 192.0.2.1.: 192.0.2.1 is an address where a name is expected"),
        (
            "@ MX 10 2001:db8::1",
            "7: not exist; 2001:db8::1 is an address .. give it a name with an AAAA record",
        ),
        ("@ NS 2001:DB8::1.", "7: leads to 2001:db8::1.: 2001:db8::1 is an address"),
        (
            "_s._tcp SRV 1 2 3 192.0.2.1.",
            "7: SRV record of _s._tcp.example. leads to 192.0.2.1.: 192.0.2.1 is",
        ),
        ("www CNAME 192.0.2.1.", "7: CNAME record .. 192.0.2.1 is an address"),
    ] {
        assert_warned(&format!("{record}\n"), &[], &[told]);
    }
    assert_warned(
        "@ MX 10 aspmx.l.google.com\n",
        &[],
        &[
            "7: aspmx.l.google.com.example., which does not exist; if aspmx.l.google.com. is meant, its final dot",
        ],
    );
    assert_warned("www CNAME host.elsewhere\n", &[], &["7: host.elsewhere.example. .. final dot is missing"]);
    assert_warned("@ MX 10 mail.sub\nsub NS ns\n", &[], &[]);
}

/// NSD and Knot DNS load such zones.
#[test]
fn name_servers_that_cannot_be_reached() {
    for (text, told) in [
        ("@ NS none\n", "7: the NS record of example. leads to none.example., which does not exist"),
        ("@ NS alias\nalias CNAME ns\n", "7: NS .. alias.example., which is an alias"),
        ("@ NS note\nnote TXT a\n", "7: NS .. note.example., which has no address"),
        ("@ NS 192.0.2.1\n", "7: NS .. 192.0.2.1.example., which does not exist; 192.0.2.1 is an address"),
        ("@ NS ns1.elsewhere.net\n", "7: NS .. if ns1.elsewhere.net. is meant, its final dot is missing"),
        ("sub NS none\n", "7: the NS record of sub.example. leads to none.example., which does not exist"),
        ("sub NS ns.sub\n", "7: ns.sub.example., which has no address here .. add its A or AAAA record"),
        ("@ NS ns.sub\nsub NS ns.sub\nsub NS ns\nns.sub TXT a\nns.sub A 192.0.2.1\n", "10: never answered"),
    ] {
        assert_warned(text, &[], &[told]);
    }
    // The servers of another delegation are the business of that zone.
    assert_warned("sub NS ns.other\nother NS ns\n", &[], &[]);
}

#[test]
fn a_wildcard_does_not_silence_mistakes() {
    let told = [
        "8: MX .. 192.0.2.5.example., which only the wildcard *.example. answers; 192.0.2.5 is an address",
        "9: CNAME .. if ghs.google.com. is meant, its final dot is missing",
        "10: MX .. if mx.google.com. is meant, its final dot is missing",
        "11: SRV .. if host.example.net. is meant, its final dot is missing",
        "12: NS .. 192.0.2.9.example., which only the wildcard *.example. answers; 192.0.2.9 is an address",
    ];
    let text = "@ MX 10 192.0.2.5\nmail CNAME ghs.google.com\n@ MX 20 mx.google.com\n\
                _s._tcp SRV 0 0 1 host.example.net\nsub NS 192.0.2.9\n";
    assert_warned(&format!("* A 192.0.2.1\n{text}"), &[], &told);
    assert_warned(&format!("x A 192.0.2.1\n{text}"), &["*.example"], &told);
    // A name below a deeper wildcard is intended.
    assert_warned(
        "* A 192.0.2.1\nwww CNAME shop.apps\n@ MX 5 mail.team.apps\n@ MX 6 any\n",
        &["*.apps.example"],
        &[],
    );
}

#[test]
fn names_of_every_type_without_their_final_dot() {
    for record in [
        "1 PTR host.elsewhere.net",
        "old DNAME host.elsewhere.net",
        "w HTTPS 1 host.elsewhere.net",
        "w SVCB 0 host.elsewhere.net",
        "n NAPTR 1 1 S SIP+D2U \"\" host.elsewhere.net",
        "r RP admin.elsewhere. host.elsewhere.net",
        "r RP host.elsewhere.net .",
        "k KX 1 host.elsewhere.net",
        "a AFSDB 1 host.elsewhere.net",
        "a RT 1 host.elsewhere.net",
        "p PX 1 host.elsewhere.net .",
        "m MINFO . host.elsewhere.net",
    ] {
        let told = "7: host.elsewhere.net.example., which does not exist; if host.elsewhere.net. is meant";
        assert_warned(&format!("{record}\n"), &[], &[told]);
        let complete = record.replace("host.elsewhere.net", "host.elsewhere.net.");
        assert_warned(&format!("{complete}\n"), &[], &[]);
    }
    // The origin is that of the owner.
    let told = "8: host.elsewhere.net.deep.example., which does not exist; if host.elsewhere.net. is meant";
    assert_warned("$ORIGIN deep.example.\nwww CNAME host.elsewhere.net\n", &[], &[told]);
    // Instances of DNS-SD are relative names, and so are single labels.
    assert_warned("_x._tcp PTR One._x._tcp\n1 PTR host\n", &[], &[]);
    for (record, told) in [
        ("1 PTR 192.0.2.1", "7: PTR .. 192.0.2.1 is an address"),
        ("w HTTPS 1 192.0.2.1.", "7: HTTPS .. 192.0.2.1 is an address"),
        ("r RP admin@elsewhere.net .", "7: RP .. with its final dot: admin.elsewhere.net."),
        ("r RP admin@elsewhere.net. .", "7: RP .. with its final dot: admin.elsewhere.net."),
    ] {
        assert_warned(&format!("{record}\n"), &[], &[told]);
    }
    let soa = "$TTL 5\n@ SOA ns1.elsewhere.net host@elsewhere.net 1 2 3 4 60\n@ NS x.elsewhere.\n";
    let (_, told) = warned(soa, &[]);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("if ns1.elsewhere.net. is meant, its final dot is missing"), "{told:?}");
    assert!(told[1].contains("a mail address is written as a name"), "{told:?}");
}

#[test]
fn names_without_their_final_dot() {
    let doubled = "ends with the name of the zone twice";
    assert_warned("www.example A 192.0.2.1\n", &[], &[&format!("7: www.example.example. {doubled}")]);
    assert_warned(
        "$ORIGIN Example\nwww A 192.0.2.1\n",
        &[],
        &[&format!("8: www.example.example. {doubled}")],
    );
    let told = warnings("www CNAME ns.example\n", &[]);
    assert!(told.iter().any(|told| told.contains(&format!("ns.example.example. {doubled}"))), "{told:?}");
    // Labels that only end with the same letters do not count.
    assert_warned("anexample A 192.0.2.1\nwww.anexample A 192.0.2.1\n", &[], &[]);
}

#[test]
fn what_a_cut_or_a_dname_hides() {
    assert_warned(
        "sub NS ns.sub\nns.sub A 192.0.2.1\nsub A 192.0.2.2\nwww.sub A 192.0.2.3\nns.sub TXT a\nsub DS 1 8 2 00\n",
        &[],
        &[
            "9: record of sub.example. is never answered .. the delegation of sub.example.",
            "10: record of www.sub.example. is never answered .. the delegation of sub.example.",
            "11: record of ns.sub.example. is never answered",
        ],
    );
    assert_warned(
        "old DNAME new.elsewhere.\nx.old A 192.0.2.1\nold TXT a\n",
        &[],
        &["8: record of x.old.example. is never answered .. the DNAME of old.example."],
    );
    // The target of a hidden record is of no interest.
    assert_warned("sub NS ns\nx.sub MX 1 none.sub\ny.sub CNAME none\n", &[], &["8: x.sub", "9: y.sub"]);
    let told = warnings("sub NS ns\nsub DNAME x.elsewhere.\n", &[]);
    assert!(
        told.iter().any(|told| told.starts_with("8: sub.example. has NS records beside its DNAME")),
        "{told:?}"
    );
}

#[test]
fn records_without_a_ttl() {
    let soa = "@ SOA ns host 1 2 3 4 60\n@ NS x.elsewhere.\n";
    let (_, told) = warned(soa, &[]);
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("1: there is no $TTL") && told[0].contains("60 seconds, the SOA's minimum"));
    let (_, told) = warned(&format!("$TTL 5\n{soa}"), &[]);
    assert_eq!(told, [""; 0]);
    let (_, told) = warned("@ 7 SOA ns host 1 2 3 4 60\n@ NS x.elsewhere.\n", &[]);
    assert!(told[0].starts_with("2: ") && told[0].contains("7 seconds, that of a record above"), "{told:?}");
}

#[test]
fn names_that_are_not_ascii() {
    let text = format!("{HEAD}münchen A 192.0.2.1\n_http._tcp PTR Grün\\032Haus._http._tcp\nx TXT münchen\n");
    let (zone, told) = warned(&text, &[]);
    assert!(
        zone.node("\u{8}münchen\u{7}example\0".as_bytes()).is_some(),
        "the bytes are served as they stand"
    );
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("7: münchen.example. is served as these bytes"), "{told:?}");
    assert!(told[0].contains("xn--mnchen-3ya.example"), "{told:?}");
    assert!(told[1].starts_with("8: "), "{told:?}");
    // All warnings spell a name alike.
    let told = warnings("www CNAME münchen\nbüro.example A 192.0.2.1\n@ MX 1 grün.host.net\n", &[]);
    assert!(told.iter().any(|told| told.contains("to münchen.example., which does not exist")), "{told:?}");
    assert!(told.iter().any(|told| told.contains("büro.example.example. ends with")), "{told:?}");
    assert!(told.iter().any(|told| told.contains("if grün.host.net. is meant")), "{told:?}");
    // Invalid UTF-8 has no A-label.
    let (_, told) = warned(&format!("{HEAD}\\195 A 192.0.2.1\n"), &[]);
    assert_eq!(told, [""; 0]);
}
