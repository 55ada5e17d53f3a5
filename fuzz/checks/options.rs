//! Sends arbitrary EDNS options, with a question and a TSIG record of any length: the reply has an
//! OPT record with the options that fit.

use steerd::answer::Transport;
use steerd::name::MAX_NAME;
use steerd::wire::edns::option;
use steerd::zone::rtype;

use super::query::{Opt, add_opt, add_record, are_options, query, wire};
use super::respond::{self, IPV4, Setting};
use super::world::World;

/// Query types.
const TYPES: [u16; 8] =
    [rtype::A, rtype::AAAA, rtype::TXT, rtype::ANY, rtype::SOA, rtype::AXFR, rtype::IXFR, 65_280];

/// Sends a query with the options that follow these bytes:
///
/// ```text
/// 0    bit 0: TCP                      bits 1-2: size of UDP replies
///      bit 3: options are in the form of an OPT record; otherwise with codes and lengths of one
///      byte
///      bit 4: NSID, version and client subnet are answered
///      bits 5-6: cookies               bit 7: a cookie that belongs to the client
/// 1    bits 0-2: type                  bit 3: class CH      bits 4-5: version of EDNS
///      bit 6: below a name of the world
/// 2-3  payload
/// 4    length of the name
/// 5-6  length of the data of a TSIG record, modulo 1024; 0 for none
/// 7    length of its key's name
/// ```
pub(crate) fn check(world: &World, input: &[u8]) {
    let [bits, what, p0, p1, name, d0, d1, key, rest @ ..] = input else { return };
    let bit = |number: u8| bits >> number & 1 == 1;
    let mut options = if bit(3) { rest.to_vec() } else { expand(rest) };
    if bit(7) {
        options.splice(0..0, super::inputs::cookie(true));
    }
    options.truncate(60_000);
    let below = if what >> 6 & 1 == 1 { "svc.example" } else { "elsewhere" };
    let mut message = query(&name_of(*name, below), TYPES[usize::from(what & 7)], None);
    if what >> 3 & 1 == 1 {
        *message.last_mut().unwrap() = 3;
    }
    let version = u8::from(what >> 4 & 3 == 3);
    add_opt(&mut message, Opt { payload: u16::from_be_bytes([*p0, *p1]), version, options: &options });
    let data = usize::from(u16::from_be_bytes([*d0, *d1])) % 1024;
    if data > 0 {
        add_record(&mut message, &name_of(*key, "key"), rtype::TSIG, &vec![7; data]);
    }
    let mut setting = Setting::new(if bit(0) { Transport::Tcp } else { Transport::Udp });
    setting.client.address = IPV4.into();
    let table = world.table_under(bits >> 1 & 3, bit(4), bits >> 5 & 3);
    respond::ask(table, setting, &message, |reply| {
        // The form of options in other EDNS versions is unknown.
        assert_eq!(reply.opt.is_some(), version != 0 || are_options(&options), "OPT is answered by OPT");
        let told = reply.options();
        let mut once = told.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), told.len(), "each option is answered once: {told:?}");
        for code in told {
            let wanted = code == option::EXTENDED_ERROR || asks(&options, code);
            assert!(wanted, "option {code} was not requested");
        }
    });
    respond::slip(table, &setting.client, &message);
}

/// Expands codes and lengths of one byte to the form of an OPT record, so that most mutations keep
/// the options intact.
fn expand(mut short: &[u8]) -> Vec<u8> {
    let mut options = Vec::new();
    while let [code, length, rest @ ..] = short {
        let value = rest.get(..usize::from(*length)).unwrap_or(rest);
        options.extend([0, *code]);
        options.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        options.extend(value);
        short = &rest[value.len()..];
    }
    options
}

fn asks(mut options: &[u8], wanted: u16) -> bool {
    while let [c0, c1, l0, l1, rest @ ..] = options {
        if u16::from_be_bytes([*c0, *c1]) == wanted {
            return true;
        }
        options = rest.get(usize::from(u16::from_be_bytes([*l0, *l1]))..).unwrap_or(&[]);
    }
    false
}

/// A name of about `length` bytes below `parent`.
pub(crate) fn name_of(length: u8, parent: &str) -> Vec<u8> {
    let parent = wire(parent);
    let mut left = usize::from(length).clamp(parent.len(), MAX_NAME) - parent.len();
    let mut name = Vec::new();
    while left >= 2 {
        let label = (left - 1).min(63);
        name.push(u8::try_from(label).unwrap());
        name.extend(std::iter::repeat_n(b'a', label));
        left -= label + 1;
    }
    name.extend(parent);
    name
}

/// Seeds: each option alone and with all others, and sizes around the limits.
pub(crate) fn first_inputs() -> Vec<Vec<u8>> {
    let short: [&[u8]; 7] = [
        b"",
        b"\x03\x00",
        b"\x0a\x08clientco",
        b"\x08\x07\x00\x01\x18\x00\xc0\x00\x02",
        b"\x0b\x00",
        b"\x0c\x04\x00\x00\x00\x00",
        b"\x0a\x08clientco\x08\x07\x00\x01\x18\x00\xc0\x00\x02\x0b\x00\x03\x00\xff\x02xx",
    ];
    let mut inputs = Vec::new();
    for (number, options) in short.iter().enumerate() {
        for (payload, name, data, key) in
            [(512_u16, 252_u8, 61_u16, 13_u8), (1232, 20, 0, 0), (513, 248, 600, 255)]
        {
            let number = u8::try_from(number).unwrap();
            for transport in [0, 1] {
                let bits = transport | 1 << 4 | (number % 3) << 5;
                let [p0, p1] = payload.to_be_bytes();
                let [d0, d1] = data.to_be_bytes();
                inputs.push([&[bits, number | 1 << 6, p0, p1, name, d0, d1, key], *options].concat());
            }
        }
    }
    let raw = [b"\x00\x03\x00\x00", &super::inputs::cookie(false)[..]].concat();
    inputs.push([&[1 << 3 | 1 << 4 | 1 << 5, 0, 4, 208, 30, 0, 0, 0], &raw[..]].concat());
    inputs.push([&[1 << 3 | 1 << 4 | 1 << 7, 0, 4, 208, 30, 0, 0, 0], &b"\x00\x03\x00\x09x"[..]].concat());
    inputs
}
