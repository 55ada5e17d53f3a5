//! The fast path against the long way: the same query, table and seed must bring the same reply.

use super::*;
use crate::answer::fast;

const TYPES: [u16; 18] = [1, 2, 5, 6, 12, 15, 16, 28, 33, 35, 39, 41, 43, 65, 99, 250, 252, 255];

/// A zone below the other one, which hides names of it.
const INNER: &str = "\
$ORIGIN in.ent.example.
$TTL 60
@ SOA ns.elsewhere. host.elsewhere. 1 3600 900 604800 30
@ NS ns.elsewhere.
a A 192.0.2.101
* TXT any
";

/// The outer zone has names where the inner one answers.
const HIDDEN: &str = "a.in.ent A 192.0.2.66\nb.in.ent A 192.0.2.67\n";

/// Every name worth asking for: those of the zones, and missing ones beside, below and above them.
fn names(table: &Table) -> Vec<Vec<u8>> {
    let mut names = vec![vec![0], b"\x09elsewhere\x00".to_vec(), b"\x01a\x01b\x09elsewhere\x00".to_vec()];
    for zone in table.catalog.zones() {
        for node in zone.nodes() {
            let name = node.name().to_vec();
            for prefix in [&b""[..], b"\x01x", b"\x03WwW\x01Y", b"\x01a\x01b\x01c\x01d", b"\x01*"] {
                names.push([prefix, &name].concat());
            }
        }
    }
    names.retain(|name| name.len() <= name::MAX_NAME);
    names
}

struct Both<'t> {
    fast: Option<(Reply<'t>, Vec<u8>, Vec<u32>)>,
    full: (Reply<'t>, Vec<u8>, Vec<u32>),
}

/// Asks twice with the same seed.
fn both<'t>(query: &[u8], client: &Client, table: &'t Table, seed: u64) -> Both<'t> {
    let mut buffer = vec![0xee; 65_535];
    let (mut rng, mut picked) = (SmallRng::seed_from_u64(seed), Picked::default());
    let mut scratch = [0; name::MAX_NAME + 1];
    let reply = fast::respond(query, client, table, &mut buffer, &mut scratch, (&mut rng, &mut picked));
    let fast = reply.map(|reply| (reply, buffer[..reply.length].to_vec(), picked.indices().to_vec()));
    let mut responder = Responder::new(SmallRng::seed_from_u64(seed));
    let Disposition::Reply(reply) = responder.respond_in_full(query, client, table, &mut buffer) else {
        panic!("no reply to {query:02x?}")
    };
    let full = (reply, buffer[..reply.length].to_vec(), responder.picked().collect());
    Both { fast, full }
}

#[test]
fn the_fast_path_answers_as_the_long_way_does() {
    let seed: u64 =
        std::env::var("STEERD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("STEERD_SEED={seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let healths = [
        HEALTHY,
        [Standing::Healthy, Standing::Unhealthy, Standing::Unknown, Standing::Healthy],
        [Standing::Unhealthy; 4],
    ];
    let (mut fast_ones, mut all) = (0_u32, 0_u32);
    let outer = [ZONE, HIDDEN].concat();
    let zones = [("example", &*outer), ("in.ent.example", INNER)];
    for health in healths {
        let table = table_in(&zones, &pool(), |backend| health[backend]);
        for name in names(&table) {
            for qtype in TYPES {
                let edns = [None, Some((100, 0_u8)), Some((1232, 0x80)), Some((4096, 0))];
                let (edns, rd) = (edns[rng.random_range(0..4)], rng.random_range(0..2_u8));
                let transport = if rng.random_bool(0.8) { Transport::Udp } else { Transport::Tcp };
                let mut query = vec![0xab, 0xcd, rd, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
                query.extend(&name);
                query.extend(qtype.to_be_bytes());
                query.extend([0, 1]);
                if let Some((payload, flags)) = edns {
                    query.extend([0, 0, 41]);
                    query.extend(u16::to_be_bytes(payload));
                    query.extend([0, 0, flags, 0, 0, 0]);
                }
                let client = Client { address: [192, 0, 2, 200].into(), port: 1000, transport, time: 0 };
                let Both { fast, full } = both(&query, &client, &table, rng.random());
                all += 1;
                let Some(fast) = fast else { continue };
                fast_ones += 1;
                let context = format!("{} {qtype} {edns:?} {transport:?}", name.escape_ascii());
                assert_eq!(Reply { length: 0, ..fast.0 }, Reply { length: 0, ..full.0 }, "{context}");
                assert_eq!(fast.2, full.2, "{context}: picked");
                let [fast, full] =
                    [fast.1, full.1].map(|bytes| Message::from_vec(&bytes).expect("a message"));
                assert_eq!(fast, full, "{context}");
            }
        }
    }
    assert!(fast_ones > 1000 && fast_ones > all / 4, "{fast_ones} of {all} took the fast path");
}

/// Each of these would be wrong if it were put together from ready parts.
#[test]
fn queries_that_are_not_plain_take_the_long_way() {
    let table = table(HEALTHY);
    let client = Client { address: [192, 0, 2, 200].into(), port: 1000, transport: Transport::Udp, time: 0 };
    let plain = query("mail.example", 1, Some(1232));
    let changed = |at: usize, byte: u8| {
        let mut query = plain.clone();
        query[at] = byte;
        query
    };
    assert!(both(&plain, &client, &table, 1).fast.is_some());
    let opt = plain.len() - 11;
    let mut others = vec![
        [&plain[..], &[0]].concat(),
        plain[..plain.len() - 1].to_vec(),
        changed(2, 0x09),
        changed(5, 2),
        changed(7, 1),
        changed(9, 1),
        changed(11, 0),
        changed(11, 2),
        changed(12, 0xc0),
        changed(opt - 1, 3),
        changed(opt, 1),
        changed(opt + 5, 1),
        changed(opt + 6, 1),
        changed(opt + 10, 4),
    ];
    let mut with_option = changed(opt + 10, 4);
    with_option.extend([0, 3, 0, 0]);
    others.push(with_option);
    for name in ["alias.example", "a.sub.example", "sub.example", "x.old.example", "a.b.c.d.e.example"] {
        others.push(query(name, 1, None));
    }
    for query in others {
        assert!(both(&query, &client, &table, 1).fast.is_none(), "{query:02x?}");
    }
}
