//! Compares the fast path with the general one: the same query, table and seed must give the same
//! reply.

use super::*;
use crate::answer::fast;
use crate::cookie::CookieSecrets;
use crate::settings::Cookies;

const TYPES: [u16; 18] = [1, 2, 5, 6, 12, 15, 16, 28, 33, 35, 39, 41, 43, 65, 99, 250, 252, 255];

/// A zone below the other one, which hides names of that zone.
const INNER: &str = "\
$ORIGIN in.ent.example.
$TTL 60
@ SOA ns.elsewhere. host.elsewhere. 1 3600 900 604800 30
@ NS ns.elsewhere.
a A 192.0.2.101
* TXT any
";

/// The outer zone has names that the inner zone answers, and more records than fit into 512 bytes.
const HIDDEN: &str = "\
a.in.ent A 192.0.2.66
b.in.ent A 192.0.2.67
into CNAME a.in.ent
up CNAME @
toall CNAME all
tobig CNAME big
tocut CNAME sub
toapp CNAME x.apps
srv SRV 1 1 80 mail
srv SRV 1 1 80 ns1
srv SRV 1 1 80 www.elsewhere.
mxs MX 5 mail
mxs MX 10 Mail.Example.
mxs MX 20 ns1
mxs MX 30 www
mxs MX 30 a.sub
mxs MX 40 x.wild
ptr PTR ns1.elsewhere.
tomx CNAME mxs
*.many CNAME Mail.Example.
$GENERATE 1-60 big A 192.0.2.$
";

/// The time of all queries, in seconds since 1970.
const NOW: u32 = 1_800_000_000;

fn secrets() -> CookieSecrets {
    CookieSecrets::new(vec![[7; 16]]).unwrap()
}

/// Settings for testing options.
fn settings(cookies: Option<bool>, answers_options: bool) -> Arc<Settings> {
    Arc::new(Settings {
        nsid: answers_options.then(|| b"here".as_slice().into()),
        cookies: cookies.map(|required| Cookies { secrets: secrets(), required }),
        client_subnet: answers_options.then(|| "192.0.2.0/24".parse().unwrap()).into_iter().collect(),
        ..Settings::default()
    })
}

/// Options for queries: answered, ignored, malformed, and one that is truncated.
fn options() -> Vec<Vec<u8>> {
    let option = |code: u8, value: &[u8]| [&[0, code, 0, u8::try_from(value.len()).unwrap()], value].concat();
    let proven = secrets().reply(*b"clientco", [192, 0, 2, 200].into(), NOW);
    let old = secrets().reply(*b"clientco", [192, 0, 2, 200].into(), NOW - 100_000);
    vec![
        option(3, b""),
        option(8, b"\x00\x01\x18\x00\xc0\x00\x02"),
        option(8, b"\x00\x01\x18\x00\xc0\x00"),
        option(8, b"\x00\x01\x14\x00\xc0\x00\x20"),
        option(8, b"\x00\x02\x38\x00\x20\x01\x0d\xb8\x00\x00\x01"),
        option(8, b"\x00\x01\x00\x00"),
        option(10, b"clientco"),
        option(10, b"client"),
        option(10, &proven),
        option(10, &proven),
        option(10, &old),
        option(11, b""),
        option(11, b"\x00\x01"),
        option(12, &[0; 100]),
        option(65, b"unknown"),
        vec![0, 10, 0, 8, 1],
    ]
}

/// More backends than fit into 512 bytes, in both families.
fn large_pool() -> Pool {
    let backend = |index: u8| {
        let ipv6 = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, index.into());
        let addresses = vec![IpAddr::from([192, 0, 2, index]), ipv6.into()];
        Backend { weight: 1 + u32::from(index % 3), ..Backend::new(format!("b{index}"), addresses) }
    };
    Pool::new("large", (0..60).map(backend).collect())
}

/// Every name worth querying: those in the zones, and missing ones beside, below and above them.
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

pub(super) struct Both<'t> {
    pub(super) fast: Option<(Reply<'t>, Vec<u8>, Vec<u32>)>,
    pub(super) full: (Reply<'t>, Vec<u8>, Vec<u32>),
}

/// Sends the query twice with the same seed.
pub(super) fn both<'t>(query: &[u8], client: &Client, table: &'t Table, seed: u64) -> Both<'t> {
    let mut buffer = vec![0xee; 65_535];
    let (mut rng, mut picked) = (SmallRng::seed_from_u64(seed), Picked::default());
    let mut scratch = [0; name::MAX_NAME + 1];
    let reply = fast::respond(query, client, table, &mut buffer, &mut scratch, (&mut rng, &mut picked));
    let fast = reply.map(|reply| (reply, buffer[..reply.length].to_vec(), picked.indices().to_vec()));
    let mut responder = Responder::new(SmallRng::seed_from_u64(seed));
    let Disposition::Reply(reply) = responder.respond_in_full(query, client, table, &mut buffer) else {
        panic!("no reply to {query:02x?}")
    };
    let full = (reply, buffer[..reply.length].to_vec(), responder.picked().to_vec());
    Both { fast, full }
}

#[test]
fn the_fast_path_answers_as_the_long_way_does() {
    let seed: u64 =
        std::env::var("STEERD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("STEERD_SEED={seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let some = [Standing::Healthy, Standing::Unhealthy, Standing::Unknown, Standing::Healthy];
    let pools = [
        (pool(), HEALTHY),
        (pool(), some),
        (pool(), [Standing::Unhealthy; 4]),
        (large_pool(), HEALTHY),
        (large_pool(), [Standing::Unhealthy; 4]),
    ];
    let known = options();
    let (mut fast_ones, mut all) = ([0_u32; 3], [0_u32; 3]);
    let outer = [ZONE, HIDDEN].concat();
    let zones = [("example", &*outer), ("in.ent.example", INNER)];
    for (pool, health) in pools {
        let mut table = table_in(&zones, &pool, |backend| health[backend % 4]);
        for name in names(&table) {
            for qtype in TYPES {
                table.settings = settings(
                    [None, Some(false), Some(false), Some(true)][rng.random_range(0..4)],
                    rng.random_bool(0.7),
                );
                let edns = [None, Some((100, 0_u8)), Some((1232, 0x80)), Some((4096, 0))];
                let (edns, rd) = (edns[rng.random_range(0..4)], rng.random_range(0..2_u8));
                let transport = if rng.random_bool(0.8) { Transport::Udp } else { Transport::Tcp };
                let count = rng.random_range(0..4_usize).saturating_sub(1);
                let options: Vec<&[u8]> =
                    (0..count).map(|_| &*known[rng.random_range(0..known.len())]).collect();
                let options = options.concat();
                let mut query = vec![0xab, 0xcd, rd, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
                query.extend(&name);
                query.extend(qtype.to_be_bytes());
                query.extend([0, 1]);
                if let Some((payload, flags)) = edns {
                    query.extend([0, 0, 41]);
                    query.extend(u16::to_be_bytes(payload));
                    query.extend([0, 0, flags, 0]);
                    query.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
                    query.extend(&options);
                }
                let client = Client { address: [192, 0, 2, 200].into(), port: 1000, transport, time: NOW };
                let Both { fast, full } = both(&query, &client, &table, rng.random());
                let case = edns.map_or(0, |_| 1 + usize::from(!options.is_empty()));
                all[case] += 1;
                let Some(fast) = fast else { continue };
                fast_ones[case] += 1;
                let context = format!("{} {qtype} {edns:?} {options:?} {transport:?}", name.escape_ascii());
                assert_eq!(Reply { length: 0, ..fast.0 }, Reply { length: 0, ..full.0 }, "{context}");
                assert_eq!(fast.2, full.2, "{context}: picked");
                let [fast, full] =
                    [fast.1, full.1].map(|bytes| Message::from_vec(&bytes).expect("a message"));
                assert_eq!(fast, full, "{context}");
            }
        }
    }
    for (fast_ones, all) in fast_ones.into_iter().zip(all) {
        assert!(fast_ones > 1000 && fast_ones > all / 4, "{fast_ones} of {all} took the fast path");
    }
}

/// Typical queries from resolvers and their clients.
#[test]
fn usual_queries_take_the_fast_path() {
    let mut table = table(HEALTHY);
    table.settings = settings(Some(false), true);
    let client =
        Client { address: [192, 0, 2, 200].into(), port: 1000, transport: Transport::Udp, time: NOW };
    for name in ["mail.example", "www.example", "alias.example", "chain.example", "out.example", "x.example"]
    {
        for option in [&b""[..], &options()[6], &options()[8], &options()[0], &options()[1], &options()[13]] {
            let mut query = query(name, 1, Some(1232));
            let length = query.len();
            query[length - 1] = u8::try_from(option.len()).unwrap();
            query.extend(option);
            assert!(both(&query, &client, &table, 1).fast.is_some(), "{name} {option:?}");
        }
    }
    for (name, qtype) in [("example", 2), ("example", 6), ("mx.example", 15), ("alias.example", 5)] {
        assert!(both(&query(name, qtype, Some(1232)), &client, &table, 1).fast.is_some(), "{name} {qtype}");
    }
}

/// Assembling any of these replies from prepared parts would be wrong.
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
    for option in [&[0, 3, 0, 0, 0][..], &[0, 3, 0, 1], &[0, 3]] {
        let mut cut_off = changed(opt + 10, u8::try_from(option.len()).unwrap());
        cut_off.extend(option);
        others.push(cut_off);
    }
    for name in [
        "c1.example",
        "loop.example",
        "gone.example",
        "a.sub.example",
        "sub.example",
        "x.old.example",
        "a.b.c.d.e.example",
    ] {
        others.push(query(name, 1, None));
    }
    for query in others {
        assert!(both(&query, &client, &table, 1).fast.is_none(), "{query:02x?}");
    }
}
