//! Tests look-ups against RFC 1034, 4592, 6672 and 8020.

use super::*;
use crate::name::Name;

fn wire(text: &str) -> Vec<u8> {
    Name::parse(text).unwrap().wire().to_vec()
}

fn zone(apex: &str, records: &[(&str, u16)]) -> Zone {
    let mut builder = ZoneBuilder::new(&wire(apex));
    let mut soa = [wire("ns.elsewhere"), wire("host.elsewhere")].concat();
    soa.extend([0; 19]);
    soa.push(60);
    builder.add(&wire(apex), rtype::SOA, 300, &soa, 0).unwrap();
    builder.add(&wire(apex), rtype::NS, 300, &wire("ns.elsewhere"), 0).unwrap();
    for (owner, rtype) in records {
        let data = match *rtype {
            rtype::A => vec![192, 0, 2, 1],
            rtype::NS | rtype::CNAME | rtype::DNAME => wire("target.elsewhere"),
            _ => vec![1, b'x'],
        };
        builder.add(&wire(owner), *rtype, 300, &data, 0).unwrap();
    }
    builder.finish().unwrap()
}

fn told(zone: &Zone, name: &str) -> String {
    let shown = |node: NodeRef<'_>| Name::from_wire(node.name()).unwrap().to_string();
    match zone.find(&wire(name)) {
        Lookup::Found(node) => format!("found {} {}", shown(node), node.rrsets().count()),
        Lookup::Wildcard(node) => format!("wildcard {}", shown(node)),
        Lookup::Referral { cut, exact } => format!("referral {} {exact}", shown(cut)),
        Lookup::Dname(node) => format!("dname {}", shown(node)),
        Lookup::NoName => "no name".into(),
    }
}

/// The example zone of RFC 4592, section 2.2.1, and the answers given there.
#[test]
fn wildcards_as_rfc_4592_says() {
    let zone = zone(
        "example",
        &[
            ("*.example", rtype::TXT),
            ("*.example", rtype::MX),
            ("sub.*.example", rtype::TXT),
            ("host1.example", rtype::A),
            ("_ssh._tcp.host1.example", rtype::SRV),
            ("_ssh._tcp.host2.example", rtype::SRV),
            ("subdel.example", rtype::NS),
        ],
    );
    assert_eq!(told(&zone, "host3.example"), "wildcard *.example.");
    assert_eq!(told(&zone, "foo.bar.example"), "wildcard *.example.");
    assert_eq!(told(&zone, "host1.example"), "found host1.example. 1");
    assert_eq!(told(&zone, "sub.*.example"), "found sub.*.example. 1");
    assert_eq!(told(&zone, "_telnet._tcp.host1.example"), "no name");
    assert_eq!(told(&zone, "host.subdel.example"), "referral subdel.example. false");
    assert_eq!(told(&zone, "subdel.example"), "referral subdel.example. true");
    assert_eq!(told(&zone, "ghost.*.example"), "no name");
    assert_eq!(told(&zone, "*.example"), "found *.example. 2");
    assert_eq!(told(&zone, "_tcp.host2.example"), "found _tcp.host2.example. 0");
    assert_eq!(told(&zone, "host2.example"), "found host2.example. 0");
    assert_eq!(told(&zone, "x.host2.example"), "no name");
}

#[test]
fn dname_covers_what_is_below_it_only() {
    let zone =
        zone("example", &[("d.example", rtype::DNAME), ("d.example", rtype::TXT), ("x.d.example", rtype::A)]);
    assert_eq!(told(&zone, "d.example"), "found d.example. 2");
    assert_eq!(told(&zone, "a.b.d.example"), "dname d.example.");
    assert_eq!(told(&zone, "x.d.example"), "dname d.example.");
    let zone = self::zone("example", &[("example", rtype::DNAME)]);
    assert_eq!(told(&zone, "x.example"), "dname example.");
    assert_eq!(told(&zone, "example"), "found example. 3");
}

#[test]
fn root_zone() {
    let zone = zone(
        ".",
        &[
            ("com", rtype::NS),
            ("*", rtype::TXT),
            ("elsewhere", rtype::NS),
            ("target.elsewhere", rtype::A),
            ("ns.elsewhere", rtype::A),
        ],
    );
    assert_eq!(told(&zone, "a.b.com"), "referral com. false");
    assert_eq!(told(&zone, "a.org"), "wildcard *.");
    assert_eq!(told(&zone, "."), "found . 2");
}

#[test]
fn the_longest_apex_owns_a_name_and_the_parent_owns_ds() {
    let catalog =
        Catalog::new(vec![zone("example", &[]), zone("sub.example", &[]), zone("a.b.c.other", &[])]);
    let found = |name: &str, above| {
        catalog.find(&wire(name), above).map(|zone| Name::from_wire(zone.apex_name()).unwrap().to_string())
    };
    assert_eq!(found("www.example", false).as_deref(), Some("example."));
    assert_eq!(found("x.sub.example", false).as_deref(), Some("sub.example."));
    assert_eq!(found("sub.example", false).as_deref(), Some("sub.example."));
    assert_eq!(found("sub.example", true).as_deref(), Some("example."));
    assert_eq!(found("example", true), None);
    assert_eq!(found("x.a.b.c.other", false).as_deref(), Some("a.b.c.other."));
    assert_eq!(found("b.c.other", false), None);
    assert_eq!(found(".", false), None);
    assert_eq!(found(".", true), None);
}

/// A zone's records at and below the apex of another zone are not answered, at any depth.
#[test]
fn names_of_a_zone_below_are_not_those_of_the_zone_above() {
    let names = ["example", "b.example", "c.b.example", "d.c.b.example", "x.d.c.b.example"];
    let with_names = |apex: &str| {
        let below = names.iter().filter(|name| name.ends_with(apex) && **name != apex);
        zone(apex, &below.map(|name| (*name, rtype::A)).collect::<Vec<_>>())
    };
    let apexes = ["example", "b.example", "d.c.b.example", "other"];
    for zones in [apexes.map(with_names).into(), apexes.map(with_names).into_iter().rev().collect()] {
        let catalog = Catalog::new(zones);
        let owner = |name: &str| {
            let exact = catalog.exact(&wire(name)).unwrap();
            assert!(std::ptr::eq(exact.node.zone, catalog.find(&wire(name), false).unwrap()));
            Name::from_wire(exact.node.zone.apex_name()).unwrap().to_string()
        };
        let owners = names.map(owner);
        assert_eq!(owners, ["example.", "b.example.", "b.example.", "d.c.b.example.", "d.c.b.example."]);
        assert_eq!(owner("other"), "other.");
    }
}

#[test]
fn what_must_not_stand_together() {
    let mut builder = ZoneBuilder::new(&wire("example"));
    let a = [192, 0, 2, 1];
    let target = wire("target.elsewhere");
    builder.add(&wire("a.example"), rtype::A, 60, &a, 0).unwrap();
    assert_eq!(
        builder.add(&wire("a.example"), rtype::CNAME, 60, &target, 0),
        Err(ZoneError::CnameBesideOther)
    );
    builder.add(&wire("c.example"), rtype::CNAME, 60, &target, 0).unwrap();
    assert_eq!(builder.add(&wire("c.example"), rtype::A, 60, &a, 0), Err(ZoneError::CnameBesideOther));
    assert_eq!(builder.add(&wire("c.example"), rtype::CNAME, 60, &target, 0), Err(ZoneError::SecondCname));
    assert_eq!(builder.add(&wire("a.elsewhere"), rtype::A, 60, &a, 0), Err(ZoneError::OutOfZone));
    assert_eq!(builder.add(&wire("a.example"), rtype::SOA, 60, &a, 0), Err(ZoneError::SoaNotAtApex));
    builder.add(&wire("d.example"), rtype::NS, 60, &wire("ns.example"), 7).unwrap();
    assert_eq!(builder.bind_service(&wire("a.example"), ServiceId(0)), Err(ZoneError::ServiceAddress));
    assert_eq!(builder.bind_service(&wire("x.d.example"), ServiceId(0)), Err(ZoneError::ServiceOccluded));
    assert_eq!(builder.bind_service(&wire("x.elsewhere"), ServiceId(0)), Err(ZoneError::OutOfZone));
    builder.bind_service(&wire("s.example"), ServiceId(3)).unwrap();
    let faults = builder.finish().unwrap_err();
    assert_eq!(
        faults,
        [BuildFault { tag: None, error: ZoneError::NoSoa }, BuildFault { tag: None, error: ZoneError::NoNs },]
    );
}

#[test]
fn rrsets_keep_their_order_and_lose_their_doubles() {
    let mut builder = ZoneBuilder::new(&wire("example"));
    for last in [3, 1, 2, 1, 3] {
        builder.add(&wire("a.example"), rtype::A, 60, &[192, 0, 2, last], 0).unwrap();
        builder.add(&wire("b.example"), rtype::TXT, 60, &[1, last], 0).unwrap();
    }
    let mut soa = [wire("ns.elsewhere"), wire("host.elsewhere")].concat();
    soa.extend([0; 18]);
    soa.extend([1, 0]);
    builder.add(&wire("example"), rtype::SOA, 300, &soa, 0).unwrap();
    builder.add(&wire("example"), rtype::NS, 300, &wire("ns.elsewhere"), 0).unwrap();
    let zone = builder.finish().unwrap();
    let rrset = zone.node(&wire("a.example")).unwrap().rrset(rtype::A).unwrap();
    let last: Vec<u8> = rrset.records().map(|record| record[3]).collect();
    assert_eq!((last, rrset.count), (vec![3, 1, 2], 3));
    assert_eq!(zone.negative_soa().unwrap().1, 256, "MINIMUM below the TTL");
}

#[test]
fn records_of_one_name_are_compared_wherever_they_stand() {
    let mut builder = ZoneBuilder::new(&wire("example"));
    builder.add(&wire("a.example"), rtype::A, 60, &[192, 0, 2, 1], 0).unwrap();
    builder.add(&wire("a.example"), rtype::TXT, 60, &[1, b'x'], 0).unwrap();
    builder.add(&wire("b.example"), rtype::A, 61, &[192, 0, 2, 1], 0).unwrap();
    assert_eq!(
        builder.add(&wire("a.example"), rtype::CNAME, 61, &wire("b.example"), 0),
        Err(ZoneError::CnameBesideOther)
    );
    assert_eq!(builder.add(&wire("a.example"), rtype::MX, 61, &[0, 1, 0], 0), Ok(()));
}

#[test]
fn doubles_are_lost_in_small_and_large_rrsets() {
    for records in [2u8, 16, 17, 200] {
        let mut builder = ZoneBuilder::new(&wire("example"));
        let mut soa = [wire("ns.elsewhere"), wire("host.elsewhere")].concat();
        soa.extend([0; 20]);
        builder.add(&wire("example"), rtype::SOA, 300, &soa, 0).unwrap();
        builder.add(&wire("example"), rtype::NS, 300, &wire("ns.elsewhere"), 0).unwrap();
        for last in (0..records).chain([0, records - 1]) {
            builder.add(&wire("a.example"), rtype::A, 60, &[192, 0, 2, last], 0).unwrap();
        }
        let zone = builder.finish().unwrap();
        let rrset = zone.node(&wire("a.example")).unwrap().rrset(rtype::A).unwrap();
        let order: Vec<u8> = rrset.records().map(|record| record[3]).collect();
        assert_eq!(order, (0..records).collect::<Vec<_>>());
        assert_eq!(usize::from(rrset.count), order.len());
    }
}

#[test]
fn each_name_server_without_an_address_is_told_with_its_record() {
    let mut builder = ZoneBuilder::new(&wire("example"));
    let mut soa = [wire("ns.elsewhere"), wire("host.elsewhere")].concat();
    soa.extend([0; 20]);
    builder.add(&wire("example"), rtype::SOA, 300, &soa, 0).unwrap();
    builder.add(&wire("example"), rtype::NS, 300, &wire("ns.elsewhere"), 0).unwrap();
    for (tag, server) in [(1, "ns1.d.example"), (2, "ns2.d.example"), (3, "ns3.d.example")] {
        builder.add(&wire("d.example"), rtype::NS, 60, &wire(server), tag).unwrap();
    }
    builder.add(&wire("ns2.d.example"), rtype::A, 60, &[192, 0, 2, 1], 4).unwrap();
    let (_, advice) = builder.finish_with_advice().unwrap();
    let tags: Vec<_> = advice.iter().map(|advice| advice.tag).collect();
    assert_eq!(tags, [Some(1), Some(3)]);
}
