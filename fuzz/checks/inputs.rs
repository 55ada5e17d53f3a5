//! Inputs: seeds, and mutations that respect the structure of a query.

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use super::query::{self, Opt};
use super::respond::IPV4;
use super::world::{self, World};

/// Query types: those that the server knows, and an unassigned one.
const TYPES: [u16; 21] =
    [1, 2, 5, 6, 12, 15, 16, 28, 33, 39, 41, 43, 65, 250, 251, 252, 253, 254, 255, 65_280, 65_535];

/// Payload sizes at and around the limits.
const PAYLOADS: [u16; 8] = [0, 511, 512, 513, 1232, 1233, 4096, 65_535];

/// Options: none, NSID, client subnet, keepalive, padding, a truncated one, several.
const OPTIONS: [&[u8]; 7] = [
    b"",
    b"\x00\x03\x00\x00",
    b"\x00\x08\x00\x07\x00\x01\x18\x00\xc0\x00\x02",
    b"\x00\x0b\x00\x00",
    b"\x00\x0c\x00\x04\x00\x00\x00\x00",
    b"\x00\x03\x00\x09x",
    b"\x00\x03\x00\x00\x00\x08\x00\x08\x00\x02\x20\x00\x20\x01\x0d\xb8\x00\x0a\x00\x08clientco",
];

/// A COOKIE option with only the client cookie, or also with the server cookie for the client of
/// [`respond::Setting::new`](super::respond::Setting::new).
pub(crate) fn cookie(proven: bool) -> Vec<u8> {
    let client_cookie = *b"clientco";
    let both = world::secrets().reply(client_cookie, IPV4.into(), world::NOW);
    let value = if proven { &both[..] } else { &client_cookie };
    [&[0, 10, 0, u8::try_from(value.len()).unwrap()], value].concat()
}

/// Seeds for the fuzz target `respond`: every name of the world with a few types, every type with a
/// few names, with and without EDNS, over both transports.
pub(crate) fn respond_seeds(world: &World) -> Vec<Vec<u8>> {
    let mut rng = SmallRng::seed_from_u64(0);
    let mut seeds = Vec::new();
    for name in &world.names {
        for rtype in [1, 28, TYPES[rng.random_range(0..TYPES.len())]] {
            let options = any_options(&mut rng);
            let edns = rng.random_bool(0.5).then(|| any_opt(&mut rng, &options));
            seeds.push(input(any_bits(&mut rng), &query::query(name, rtype, edns)));
        }
    }
    for rtype in TYPES {
        for name in ["example", "host.example", "host.sub.example", "x.old.example"] {
            seeds.push(input(any_bits(&mut rng), &query::query(&query::wire(name), rtype, None)));
        }
    }
    for name in ["version.bind", "version.server", "id.server", "hostname.bind", "authors.bind"] {
        let mut query = query::query(&query::wire(name), 16, None);
        *query.last_mut().unwrap() = 3;
        seeds.push(input(1 << 4, &query));
    }
    seeds
}

/// The bytes of the setting, followed by a query.
pub(crate) fn input(bits: u8, query: &[u8]) -> Vec<u8> {
    [&[bits, 1], query].concat()
}

/// Any setting except source port 0, which gets no reply.
fn any_bits(rng: &mut impl Rng) -> u8 {
    rng.random::<u8>() & !(1 << 3)
}

fn any_options(rng: &mut impl Rng) -> Vec<u8> {
    match rng.random_range(0..10) {
        0 => cookie(false),
        1 => cookie(true),
        _ => OPTIONS[rng.random_range(0..OPTIONS.len())].to_vec(),
    }
}

fn any_opt<'o>(rng: &mut impl Rng, options: &'o [u8]) -> Opt<'o> {
    Opt {
        payload: PAYLOADS[rng.random_range(0..PAYLOADS.len())],
        version: u8::from(rng.random_ratio(1, 16)),
        options,
    }
}

/// Changes an input of the target `respond` in ways that byte mutations rarely achieve: another
/// name of the world, another type, an OPT record.
pub(crate) fn mutate_query(input: &mut Vec<u8>, world: &World, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    // Two bytes of setting and twelve bytes of header come first.
    let question = 14;
    let name_length = input.get(question..).and_then(steerd::name::wire_length);
    let Some(name_length) = name_length else {
        *input = self::input(rng.random(), &query::query(any_name(world, &mut rng), 1, None));
        return;
    };
    let numbers = question + name_length;
    match rng.random_range(0..7) {
        0 => {
            input.splice(question..numbers, any_name(world, &mut rng).iter().copied());
        }
        1 => {
            // A name below the current one.
            let label: Vec<u8> = (0..rng.random_range(1..=63)).map(|_| rng.random()).collect();
            let length = u8::try_from(label.len()).unwrap_or(1);
            input.splice(question..question, std::iter::once(length).chain(label));
        }
        2 if input.len() >= numbers + 2 => {
            let rtype = TYPES[rng.random_range(0..TYPES.len())];
            input.splice(numbers..numbers + 2, rtype.to_be_bytes());
        }
        3 => {
            let mut query = input.split_off(2);
            let options = any_options(&mut rng);
            query::add_opt(&mut query, any_opt(&mut rng, &options));
            input.extend(query);
        }
        4 => {
            let (key, late) = (rng.random_bool(0.8), rng.random_range(0..600));
            let mut query = input.split_off(2);
            query::add_tsig(&mut query, if key { world::KEY_NAME } else { "other" }, world::NOW + late - 300);
            input.extend(query);
        }
        5 => {
            for byte in input.iter_mut().skip(question).take(name_length) {
                if byte.is_ascii_alphabetic() && rng.random() {
                    *byte ^= 0x20;
                }
            }
        }
        _ => mutate_bytes(input, &mut rng),
    }
}

fn any_name<'w>(world: &'w World, rng: &mut impl Rng) -> &'w [u8] {
    &world.names[rng.random_range(0..world.names.len())]
}

/// Changes, inserts, removes or repeats a few bytes at random positions.
pub(crate) fn mutate_bytes(input: &mut Vec<u8>, rng: &mut impl Rng) {
    for _ in 0..rng.random_range(1..=4) {
        if input.is_empty() {
            input.push(rng.random());
        }
        let at = rng.random_range(0..input.len());
        let end = (at + rng.random_range(1..=16)).min(input.len());
        match rng.random_range(0..5) {
            0 => input[at] = rng.random(),
            1 => input[at] ^= 1 << rng.random_range(0..8),
            2 => input.insert(at, rng.random()),
            3 => drop(input.drain(at..end)),
            _ => {
                let piece = input[at..end].to_vec();
                let to = rng.random_range(0..=input.len());
                input.splice(to..to, piece);
            }
        }
    }
}

/// Valid zones that together use every feature of master files.
pub(crate) fn whole_zones() -> Vec<Vec<u8>> {
    let including = [
        "$INCLUDE a\n\u{1c}$INCLUDE b\nx A 192.0.2.1\n\u{1c}y A 192.0.2.2\n",
        "$INCLUDE a sub\n@ TXT after\n\u{1c}@ TXT inside\n$TTL 5\n",
    ];
    let files = [include_str!("zones/example.zone"), include_str!("zones/forms.zone")];
    let including = including.iter().map(|text| format!("{ZONE_HEAD}{text}").into_bytes());
    files.iter().map(|file| file.as_bytes().to_vec()).chain(including).collect()
}

/// Records that every zone needs.
const ZONE_HEAD: &str = "$TTL 300\n@ IN SOA ns1 h 1 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.1\n";

/// Seeds for the fuzz target `zone`: valid zones, and each of their lines alone.
pub(crate) fn zone_seeds() -> Vec<Vec<u8>> {
    let mut seeds = whole_zones();
    for zone in whole_zones() {
        let lines = zone.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        seeds.extend(lines.map(|line| [ZONE_HEAD.as_bytes(), line, b"\n"].concat()));
    }
    seeds
}
