//! Checks signed messages: a request is accepted if it is signed with the key and the clocks agree,
//! every change to it is detected, and its reply is signed according to RFC 8945.

use ring::hmac;
use steerd::answer::{Disposition, Responder, Transport, refuse};
use steerd::keys::{Algorithm, Key, Keys};
use steerd::name::Name;
use steerd::wire::tsig::{FUDGE, SignatureError, Signer, TsigError, verify};
use steerd::wire::{HEADER, MAX_MESSAGE, rcode};
use steerd::zone::rtype;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::options::name_of;
use super::query::{self, add_record, wire};
use super::reply::Reply;
use super::respond::Setting;
use super::world::{self, World};

const SECRET: &[u8] = b"a secret of some length for test";

/// The algorithms: name on the wire, ring's value, and steerd's value.
const ALGORITHMS: [(&str, hmac::Algorithm, Algorithm); 4] = [
    ("hmac-sha1", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, Algorithm::HmacSha1),
    ("hmac-sha256", hmac::HMAC_SHA256, Algorithm::HmacSha256),
    ("hmac-sha384", hmac::HMAC_SHA384, Algorithm::HmacSha384),
    ("hmac-sha512", hmac::HMAC_SHA512, Algorithm::HmacSha512),
];

/// Signs the bytes that follow these as a request, and changes it:
///
/// ```text
/// 0    bits 0-1: algorithm      bits 2-3: length of the key's name
///      bit 4: TCP               bits 5-6: no change; a bit is flipped; the MAC is truncated;
///                               garbage is appended as a TSIG record
/// 1-2  seconds that the clock of the client is ahead, signed
/// 3-4  which bit is flipped, or the length of the MAC
/// ```
pub(crate) fn check(world: &World, input: &[u8]) {
    let [bits, s0, s1, w0, w1, message @ ..] = input else { return };
    let ahead = i64::from(i16::from_be_bytes([*s0, *s1]));
    let which = usize::from(u16::from_be_bytes([*w0, *w1]));
    let number = usize::from(bits & 3);
    let key_name = name_of([2, 5, 90, 255][usize::from(bits >> 2 & 3)], "k");
    let (_, _, algorithm) = ALGORITHMS[number];
    let key = Key::new(Name::from_wire(&key_name).unwrap(), algorithm, SECRET);
    let keys: Keys = [key].into_iter().collect();
    if message.len() < HEADER || message.len() > 4096 || message[10..12] == [255, 255] {
        return;
    }
    let transport = if bits >> 4 & 1 == 1 { Transport::Tcp } else { Transport::Udp };
    let time = world::NOW.saturating_add_signed(i32::try_from(ahead).unwrap());
    match bits >> 5 & 3 {
        0 => whole(world, &keys, &Request { number, key_name, time, transport }, message),
        1 => changed(&keys, &Request { number, key_name, time: world::NOW, transport }, message, which),
        2 => cut(&keys, &Request { number, key_name, time: world::NOW, transport }, message, which),
        _ => {
            let mut request = message.to_vec();
            let at = which % message.len();
            add_record(&mut request, &key_name, rtype::TSIG, &message[at..]);
            assert!(
                !matches!(verify(&request, &keys, world::NOW.into()), Ok(Some(_))),
                "garbage is accepted"
            );
        }
    }
}

/// The signature settings of a request.
struct Request {
    number: usize,
    key_name: Vec<u8>,
    time: u32,
    transport: Transport,
}

impl Request {
    fn mac(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&hmac::Key::new(ALGORITHMS[self.number].1, SECRET));
        for part in parts {
            context.update(part);
        }
        context.sign().as_ref().to_vec()
    }

    /// Key name, class, TTL, algorithm, time, fudge, error, other (RFC 8945, section 4.3.3).
    fn variables(&self, time: u32, error: u16, other: &[u8]) -> Vec<u8> {
        let mut variables = [&self.key_name[..], &[0, 255, 0, 0, 0, 0]].concat();
        variables.extend(wire(ALGORITHMS[self.number].0));
        variables.extend(timers(time));
        variables.extend(error.to_be_bytes());
        variables.extend(u16::try_from(other.len()).unwrap().to_be_bytes());
        variables.extend(other);
        variables
    }

    /// The signed message and its MAC, truncated to `length` bytes.
    fn sign(&self, message: &[u8], length: usize) -> (Vec<u8>, Vec<u8>) {
        let mut mac = self.mac(&[message, &self.variables(self.time, 0, b"")]);
        mac.truncate(length);
        let mut data = wire(ALGORITHMS[self.number].0);
        data.extend(timers(self.time));
        data.extend(u16::try_from(mac.len()).unwrap().to_be_bytes());
        data.extend(&mac);
        data.extend(&message[..2]);
        data.extend([0; 4]);
        let mut signed = message.to_vec();
        add_record(&mut signed, &self.key_name, rtype::TSIG, &data);
        (signed, mac)
    }
}

fn timers(time: u32) -> Vec<u8> {
    [&[0, 0], &time.to_be_bytes()[..], &FUDGE.to_be_bytes()].concat()
}

fn whole(world: &World, keys: &Keys, request: &Request, message: &[u8]) {
    let (signed, mac) = request.sign(message, usize::MAX);
    let agree = request.time.abs_diff(world::NOW) <= FUDGE.into();
    // If the message before it is malformed, the record is not recognised as a signature.
    let is_seen = is_last_alone(&signed, message.len());
    match verify(&signed, keys, world::NOW.into()) {
        Ok(Some(signer)) => {
            assert!(is_seen && agree, "{signed:?}");
            check_replies(world, request, signer, &signed, &mac);
        }
        _ if !is_seen => {}
        Ok(None) => panic!("a signature is not recognized: {signed:?}"),
        Err(TsigError::Malformed) => panic!("a good signature is malformed: {signed:?}"),
        Err(TsigError::Refused(refusal)) => {
            assert!(!agree && refusal.reason == SignatureError::Time, "{refusal}");
            let mut buffer = vec![0xff; MAX_MESSAGE];
            let length = write_reply(world, request, &signed, &mut buffer);
            let end = refusal.append(&mut buffer, length, world::NOW.into()).unwrap();
            // A peer with a wrong clock can verify the reply with its own time, and learns the
            // server's time.
            let other = [&[0, 0], &world::NOW.to_be_bytes()[..]].concat();
            let variables = request.variables(request.time, SignatureError::Time.code(), &other);
            check_mac(request, &buffer[..end], length, &[&prefixed(&mac)], &variables);
        }
    }
}

/// Whether the only TSIG record of a message is the last record and starts at `at`.
fn is_last_alone(message: &[u8], at: usize) -> bool {
    let Some(records) = query::records(message) else { return false };
    let mut signatures = records.iter().filter(|(_, rtype)| *rtype == rtype::TSIG);
    (signatures.next(), signatures.next()) == (Some(&(at, rtype::TSIG)), None)
        && records.last() == Some(&(at, rtype::TSIG))
}

/// Writes the refusal to a request, without a signature.
fn write_reply(world: &World, request: &Request, signed: &[u8], buffer: &mut [u8]) -> usize {
    let client = Setting::new(request.transport).client;
    let length = refuse(signed, &client, world.table(), rcode::REFUSED, buffer);
    if length > 0 {
        return length;
    }
    buffer[..HEADER].copy_from_slice(&[signed[0], signed[1], 0x80, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
    HEADER
}

/// The reply to the request and two messages that follow it: each MAC covers the previous one.
fn check_replies(world: &World, request: &Request, mut signer: Signer, signed: &[u8], mac: &[u8]) {
    assert_eq!(signer.key_name().wire(), request.key_name);
    let mut buffer = vec![0xff; MAX_MESSAGE];
    let client = Setting::new(request.transport).client;
    let mut responder = Responder::new(SmallRng::seed_from_u64(1));
    let answered = responder.respond(signed, &client, world.table(), &mut buffer);
    let Disposition::Reply(facts) = answered else { return };
    if facts.signed {
        // The signature fits, unless the names are too long for a datagram.
        let needed = HEADER + 259 + 11 + signer.record_length();
        let fits = facts.length + signer.record_length() <= facts.limit;
        assert!(fits || needed > facts.limit, "{facts:?}: no room for {} bytes", signer.record_length());
    }
    let end = signer.sign(&mut buffer, facts.length, world::NOW.into()).unwrap();
    let variables = request.variables(world::NOW, 0, b"");
    let mut prior = check_mac(request, &buffer[..end], facts.length, &[&prefixed(mac)], &variables);
    for later in 1..3 {
        let length = write_reply(world, request, signed, &mut buffer);
        let now = world::NOW + later;
        let end = signer.sign(&mut buffer, length, now.into()).unwrap();
        prior = check_mac(request, &buffer[..end], length, &[&prefixed(&prior)], &timers(now));
    }
    assert_eq!(signer.sign(&mut buffer[..20], HEADER, 0).ok(), None, "there is no room");
}

/// A MAC as hashed, preceded by its length.
fn prefixed(mac: &[u8]) -> Vec<u8> {
    [&u16::try_from(mac.len()).unwrap().to_be_bytes()[..], mac].concat()
}

/// Checks the signature after the first `length` bytes of a reply. Returns its MAC.
fn check_mac(request: &Request, reply: &[u8], length: usize, before: &[&[u8]], after: &[u8]) -> Vec<u8> {
    let read = Reply::read(reply);
    let record = read.additionals.last().expect("a TSIG record");
    assert_eq!((record.rtype, record.class, record.ttl), (rtype::TSIG, 255, 0));
    let mut lower = request.key_name.clone();
    lower.make_ascii_lowercase();
    assert_eq!(record.owner, lower);
    let at = wire(ALGORITHMS[request.number].0).len() + 8;
    let size = usize::from(u16::from_be_bytes([record.data[at], record.data[at + 1]]));
    let mac = &record.data[at + 2..at + 2 + size];
    let mut message = reply[..length].to_vec();
    let count = u16::from_be_bytes([reply[10], reply[11]]) - 1;
    message[10..12].copy_from_slice(&count.to_be_bytes());
    let expected = request.mac(&[before.concat().as_slice(), &message, after]);
    assert_eq!(mac, expected, "the signature of a reply");
    mac.to_vec()
}

/// A request with a flipped bit is not accepted.
fn changed(keys: &Keys, request: &Request, message: &[u8], which: usize) {
    let (mut signed, _) = request.sign(message, usize::MAX);
    let at = which / 8 % signed.len();
    signed[at] ^= 1 << (which % 8);
    // A forwarder may change the message id, and the case of a key name does not matter.
    let is_case = 1 << (which % 8) == 0x20 && at >= message.len();
    let believed = matches!(verify(&signed, keys, world::NOW.into()), Ok(Some(_)));
    assert!(!believed || at < 2 || is_case, "bit {which} is changed, but the signature is accepted");
}

/// A request with a truncated MAC is not accepted.
fn cut(keys: &Keys, request: &Request, message: &[u8], which: usize) {
    let whole = request.mac(&[]).len();
    let (signed, _) = request.sign(message, which % whole);
    match verify(&signed, keys, world::NOW.into()) {
        Ok(Some(_)) => panic!("a truncated MAC is accepted"),
        Err(TsigError::Refused(refusal)) if is_last_alone(&signed, message.len()) => {
            assert_eq!(refusal.reason, SignatureError::Truncated);
        }
        _ => {}
    }
}

/// Seeds: queries of many kinds, each signed, changed and truncated.
pub(crate) fn first_inputs(world: &World) -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (number, seed) in super::inputs::respond_seeds(world).into_iter().enumerate().step_by(29) {
        let bits = u8::try_from(number % 256).unwrap();
        let ahead = [0_i16, 300, -300, 301, -20_000][number % 5].to_be_bytes();
        let which = u16::try_from(number % 4096).unwrap().to_be_bytes();
        inputs.push([&[bits], &ahead[..], &which, &seed[2..]].concat());
    }
    inputs
}
