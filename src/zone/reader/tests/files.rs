//! Whole files: owners, origins, TTLs, includes and generated records.

use super::*;
use crate::service::ServiceId;

#[test]
fn owners_origins_and_classes() {
    for (text, expected) in [
        ("x A 192.0.2.1", &["x.example. 300 TYPE1 c0000201"][..]),
        ("X.Example. IN 60 A 192.0.2.1", &["x.example. 60 TYPE1 c0000201"]),
        ("x 60 IN A 192.0.2.1", &["x.example. 60 TYPE1 c0000201"]),
        ("x 1m class1 A 192.0.2.1", &["x.example. 60 TYPE1 c0000201"]),
        (
            "x A 192.0.2.1\n\tA 192.0.2.2\n 300 TXT a",
            &["x.example. 300 TYPE1 c0000201", "x.example. 300 TYPE1 c0000202", "x.example. 300 TYPE16 0161"],
        ),
        ("x A 192.0.2.1\n\n ; c\n\n TXT a", &["x.example. 300 TYPE1 c0000201", "x.example. 300 TYPE16 0161"]),
        ("@ TXT a", &["example. 300 TYPE16 0161"]),
        ("* TXT a", &["*.example. 300 TYPE16 0161"]),
        ("\\@ TXT a", &["\\@.example. 300 TYPE16 0161"]),
        ("\\$ TXT a", &["\\$.example. 300 TYPE16 0161"]),
        ("in TXT a", &["in.example. 300 TYPE16 0161"]),
        ("a TXT a", &["a.example. 300 TYPE16 0161"]),
        ("( x\n TXT\n a )", &["x.example. 300 TYPE16 0161"]),
        (
            "$ORIGIN b\nx TXT a\n$ORIGIN a\nx TXT a\n$origin example.\nx TXT a",
            &["x.b.example. 300 TYPE16 0161", "x.a.b.example. 300 TYPE16 0161", "x.example. 300 TYPE16 0161"],
        ),
        ("$ORIGIN .\nx.example TXT a", &["x.example. 300 TYPE16 0161"]),
        ("x TXT a\r\ny TXT b\r\n", &["x.example. 300 TYPE16 0161", "y.example. 300 TYPE16 0162"]),
    ] {
        let zone = read_text(&format!("{HEAD}{text}")).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
        let told: Vec<_> = told(&zone).into_iter().filter(|line| !line.ends_with("TYPE0")).collect();
        assert_eq!(told, expected, "{text}");
    }
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    let zone = read_text(&format!("\u{feff}{HEAD}x TXT a")).unwrap();
    assert_eq!(told(&zone), ["x.example. 300 TYPE16 0161"]);
    let faults = read_text("\u{feff}x A").unwrap_err();
    assert_eq!((faults[0].column, faults[0].text.as_str()), (3, "x A"));
}

#[test]
fn ttls() {
    let soa = "@ SOA a b 1 2 3 4 60\n@ NS x.\n";
    let ttl_of = |text: &str, owner: &str| {
        let zone = read_text(text).unwrap();
        zone.node(name(owner).wire()).unwrap().rrsets().next().unwrap().ttl
    };
    assert_eq!(ttl_of(&format!("{soa}x TXT a"), "x.example"), 60, "the SOA's minimum");
    assert_eq!(ttl_of(&format!("{soa}y 5 TXT a\nx TXT a"), "x.example"), 5, "the one written last");
    assert_eq!(ttl_of(&format!("$TTL 1h\n{soa}y 5 TXT a\nx TXT a"), "x.example"), 3600, "$TTL");
    assert_eq!(ttl_of(&format!("{soa}$TTL 7\nx TXT a\n$TTL 8\ny TXT b"), "x.example"), 7);
    assert_eq!(ttl_of(&format!("{soa}$TTL 7\nx TXT a\n$TTL 8\ny TXT b"), "y.example"), 8);
    assert_eq!(ttl_of(&format!("$TTL 0\n{soa}x 2147483647 TXT a"), "x.example"), 0x7fff_ffff);
    assert_eq!(ttl_of(&format!("$TTL 0\n{soa}x TXT a"), "x.example"), 0);
}

#[test]
fn includes_have_a_scope() {
    let main = format!(
        "{HEAD}x TXT a\n$INCLUDE one\n 300 TXT d\ny TXT e\n$INCLUDE sub/two.inc b\n$INCLUDE /abs\nz TXT f\n"
    );
    let zone = read_files(&[
        ("zones/example.zone", &main),
        ("zones/one", " TXT b\n$ORIGIN o.example.\nw TXT c\n$TTL 77"),
        ("zones/sub/two.inc", "@ TXT g\n$INCLUDE three c.example.\nv TXT h"),
        ("zones/sub/three", "v TXT i\n"),
        ("/abs", "abs TXT j"),
    ]);
    let owners: Vec<_> = told(&zone.unwrap());
    assert_eq!(
        owners,
        [
            // An included file inherits owner and origin; both are restored after it.
            "x.example. 300 TYPE16 0161",
            "x.example. 300 TYPE16 0162",
            "x.example. 300 TYPE16 0164",
            "w.o.example. 300 TYPE16 0163",
            "y.example. 77 TYPE16 0165",
            "b.example. 77 TYPE16 0167",
            "v.c.example. 77 TYPE16 0169",
            "v.b.example. 77 TYPE16 0168",
            "abs.example. 77 TYPE16 016a",
            "z.example. 77 TYPE16 0166",
        ]
    );
}

#[test]
fn faults_in_includes_name_their_file() {
    let main = format!("{HEAD}$INCLUDE one\nsub2 NS a.sub2\n$INCLUDE one b\nsub3 NS a.sub3\n");
    let one = "\n\nsub NS a.sub\n\nok TXT a\n";
    let mut load = |path: &Path| Ok(if path == Path::new("one") { one } else { &main }.as_bytes().to_vec());
    let zone = read(Path::new("example.zone"), &name("example"), &mut load).unwrap();
    let (_, warnings) = zone.finish_with_warnings().unwrap();
    let places: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    let places: Vec<_> = places.iter().map(|place| place.split(' ').next().unwrap()).collect();
    assert_eq!(places, ["one:3:1:", "example.zone:8:1:", "one:3:1:", "example.zone:10:1:"]);
    let faults = read_files(&[("example.zone", &main), ("one", "x A 1")]).unwrap_err();
    assert_eq!(faults[0].to_string(), "one:1:5: `1` is not an IPv4 address");
}

#[test]
fn includes_end() {
    let faults = read_files(&[("a", &format!("{HEAD}$INCLUDE b")), ("b", "$INCLUDE a")]).unwrap_err();
    assert!(faults[0].message.contains("`a` includes itself"), "{}", faults[0].message);
    // Each include names a different file.
    let mut depth = 0;
    let mut load = |_: &Path| {
        depth += 1;
        Ok(format!("$INCLUDE file{depth}").into_bytes())
    };
    let faults = read(Path::new("a"), &name("example"), &mut load).unwrap_err();
    assert!(faults[0].message.contains("nested deeper than 16"), "{}", faults[0].message);
    assert_eq!(depth, MAX_INCLUDE_DEPTH + 1);
    let mut loads = 0;
    let mut load = |path: &Path| {
        loads += 1;
        Ok(if path == Path::new("a") { "$INCLUDE b\n".repeat(MAX_FILES + 5) } else { String::new() }
            .into_bytes())
    };
    let faults = read(Path::new("a"), &name("example"), &mut load).unwrap_err();
    assert!(faults[0].message.contains("more than 10000 files"), "{}", faults[0].message);
    assert_eq!(loads, MAX_FILES);
}

#[test]
fn generated_records() {
    let text = format!(
        "{HEAD}$GENERATE 1-2 host-$ 60 IN A 192.0.2.$\n$GENERATE 9-11/2 ${{0,3}} CNAME host-${{-8}}.x.\n\
         $GENERATE 1-1 @ MX \"1$ mx$\"\n$GENERATE 255-255 ${{0,0,n}} TXT \"v ${{0,4,X}} $$\"\n"
    );
    assert_eq!(
        told(&read_text(&text).unwrap()),
        [
            "example. 300 TYPE15 000b036d7831076578616d706c6500".to_string(),
            "host-1.example. 60 TYPE1 c0000201".into(),
            "host-2.example. 60 TYPE1 c0000202".into(),
            format!("009.example. 300 TYPE5 06{}017800", hex(b"host-1")),
            format!("011.example. 300 TYPE5 06{}017800", hex(b"host-3")),
            format!("f.f.example. 300 TYPE16 08{}", hex(b"v 00FF $")),
        ]
    );
}

#[test]
fn services_are_bound_between_reading_and_finishing() {
    let mut load = |_: &Path| Ok(format!("{HEAD}sub NS s\nx A 192.0.2.1\ns TXT beside\n").into_bytes());
    let mut zone = read(Path::new("a"), &name("example"), &mut load).unwrap();
    assert_eq!(
        zone.builder().bind_service(name("x.example").wire(), ServiceId(0)),
        Err(ZoneError::ServiceAddress)
    );
    // A service counts as an address of name server s. Other records may exist at its name.
    zone.builder().bind_service(name("s.example").wire(), ServiceId(0)).unwrap();
    assert_eq!(zone.finish().unwrap().records(), 6);
}

#[test]
fn a_service_binding_at_a_service_holds_no_address() {
    for (record, refused) in [
        ("HTTPS 1 . alpn=h2 port=8443", false),
        ("HTTPS 0 www", false),
        ("HTTPS 1 . ipv4hint=192.0.2.1", true),
        ("HTTPS 1 a.name.elsewhere. alpn=h2 ipv6hint=2001:db8::1", true),
        ("SVCB 1 . alpn=h2,h3 port=53 ech=AQID ipv4hint=192.0.2.1,192.0.2.2", true),
        ("TYPE65 \\# 23 0001 00 0006 0010 20010db8000000000000000000000001", true),
        ("SVCB 1 . alpn=h2\ns SVCB 2 . ipv4hint=192.0.2.1\ns TXT text\ns SVCB 3 . port=5", true),
        // The key number of a hint, inside the value of another parameter.
        ("HTTPS 1 . key300=\"\\000\\004\\000\\004\"", false),
        ("TXT \"\\001\\000\\004\\000\\000\"", false),
    ] {
        let text = format!("{HEAD}s {record}\nother HTTPS 1 . ipv4hint=192.0.2.1\n");
        let mut zone = read(Path::new("a"), &name("example"), &mut |_| Ok(text.clone().into())).unwrap();
        let bound = zone.builder().bind_service(name("s.example").wire(), ServiceId(0));
        assert_eq!(bound, if refused { Err(ZoneError::ServiceAddressHint) } else { Ok(()) }, "{record}");
    }
}
