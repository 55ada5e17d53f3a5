//! Operations other than standard queries, and EDNS versions other than 0.

use super::*;

/// The format of another version's options is unknown (RFC 6891, section 6.1.3).
#[test]
fn the_options_of_another_version_are_not_looked_at() {
    let table = options::table_with(|_| ());
    let query = query("www.example", rtype::A, Some(1232));
    // Truncated options, a malformed cookie, a client subnet of an unknown family.
    let options: [&[u8]; 5] =
        [&[0], &[0, 10, 0, 9, 1], &[0, 10, 0, 1, 1], &[0, 10, 0, 99], &[0, 8, 0, 4, 0, 9, 77, 0]];
    for options in options {
        for (version, expected) in [(0, rcode::FORMERR), (1, rcode::BADVERS), (255, rcode::BADVERS)] {
            for questions in [0, 1] {
                let mut query = query.clone();
                let at = query.len() - 5;
                query[at] = version;
                let length = query.len() - 1;
                query[length] = u8::try_from(options.len()).unwrap();
                query.extend(options);
                if questions == 0 {
                    query[5] = 0;
                    query.drain(12..12 + 17);
                }
                let (disposition, reply) = respond(&table, &query, Transport::Udp);
                assert!(
                    matches!(disposition, Disposition::Reply(Reply { rcode, .. }) if rcode == expected),
                    "{options:?}, version {version}, {questions} questions: {disposition:?}"
                );
                if version > 0 {
                    let edns = Message::from_vec(&reply).unwrap().edns.expect("an OPT record");
                    assert!(edns.version() == 0 && reply.ends_with(&[0, 0]), "no options");
                }
            }
        }
    }
}

#[test]
fn recursion_desired_is_copied_where_it_is_defined() {
    let table = table(HEALTHY);
    for opcode in 0..16_u8 {
        let mut query = query("www.example", rtype::A, None);
        query[2] = opcode << 3 | 1;
        let (_, reply) = respond(&table, &query, Transport::Udp);
        assert_eq!(reply[2] & 1, u8::from(opcode == 0), "operation {opcode}");
    }
}

#[test]
fn a_notification_of_our_own_zone_is_acknowledged() {
    let table = table(HEALTHY);
    let notify = |name: &str, rtype: u16| {
        let mut query = query(name, rtype, Some(1232));
        query[2] = 4 << 3 | 4;
        query
    };
    for (name, rtype, code, authoritative) in [
        ("example", rtype::SOA, rcode::NOERROR, true),
        ("example", rtype::A, rcode::NOTIMP, false),
        ("sub.example", rtype::SOA, rcode::NOTAUTH, false),
        ("elsewhere", rtype::SOA, rcode::NOTAUTH, false),
    ] {
        let (disposition, reply) = respond(&table, &notify(name, rtype), Transport::Udp);
        assert!(
            matches!(disposition, Disposition::Reply(Reply { rcode, .. }) if rcode == code),
            "{name}: {disposition:?}"
        );
        assert_eq!(reply[2], 0x80 | 4 << 3 | u8::from(authoritative) << 2, "{name}");
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!((reply.queries.len(), reply.answers.len(), reply.edns.is_some()), (1, 0, true), "{name}");
    }
    // A notification may include the new SOA record.
    let mut with_soa = notify("example", rtype::SOA);
    with_soa.truncate(with_soa.len() - 11);
    with_soa[7] = 1;
    with_soa[11] = 0;
    with_soa.extend(b"\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x3c\x00\x16\x00\x00");
    with_soa.extend([0; 20]);
    let (disposition, _) = respond(&table, &with_soa, Transport::Udp);
    assert!(
        matches!(disposition, Disposition::Reply(Reply { rcode: rcode::NOERROR, .. })),
        "{disposition:?}"
    );
}
