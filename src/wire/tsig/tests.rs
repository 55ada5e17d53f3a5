//! Requests signed by kdig 3.2.6 and dig 9.18, and replies verified as a client verifies them.

use proptest::prelude::*;
use ring::hmac;

use super::*;
use crate::keys::Algorithm;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
/// The signing time of the captured requests, unless they say otherwise.
const NOW: u64 = 1_795_237_880;
/// The length of the TSIG data after the MAC, bytes: id, error, length of other data.
const TAIL: usize = 6;

/// AXFR queries for `example`, by kdig: algorithm, key name, time, message.
const REQUESTS: [(Algorithm, &str, u64, &str); 4] = [
    (
        Algorithm::HmacSha1,
        "k1",
        1_795_237_879,
        "10fb01200001000000000001076578616d706c650000fc0001026b310000fa00ff00000000002f09686d61632d736861\
         310000006b0127f7012c0014f0a800617440b7d1f4b18ac5c3699147e9c75dee10fb00000000",
    ),
    (
        Algorithm::HmacSha256,
        "k256",
        1_795_237_879,
        "f43001200001000000000001076578616d706c650000fc0001046b3235360000fa00ff00000000003d0b686d61632d73\
         68613235360000006b0127f7012c0020d433570b8f135b11b67018189d00af95805418aa5d64a0dcd4904bd0d870c2ce\
         f43000000000",
    ),
    (
        Algorithm::HmacSha384,
        "k384",
        1_795_237_880,
        "46f101200001000000000001076578616d706c650000fc0001046b3338340000fa00ff00000000004d0b686d61632d73\
         68613338340000006b0127f8012c00303bb62c07f685d24706efeb11d0d899176efecdd1f624f5e9c3e730fa0aa8d9b9\
         d2a455dcc9a31358063937a58bdf58a546f100000000",
    ),
    (
        Algorithm::HmacSha512,
        "k512",
        1_795_237_880,
        "e6d701200001000000000001076578616d706c650000fc0001046b3531320000fa00ff00000000005d0b686d61632d73\
         68613531320000006b0127f8012c00406622c91798ce37474a2485b28272e28cc11272f463ab9155988fa93b0ec9cc5f\
         6080d3d84b4f448c0ef0cbc95dca7994299db5ae6660ca01afbefa1e5f67ef67e6d700000000",
    ),
];

/// An SOA query signed with a MAC of 160 bits, by dig.
const TRUNCATED: &str = "60c201200001000000000002076578616d706c65000006000100002904d000000000000c000a0008922d4e4598c47e1a\
         046b3235360000fa00ff0000000000310b686d61632d7368613235360000006b0127f8012c00147d40d240c427019d6e\
         f16e84c1339aa1595dec5660c200000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn keys() -> Keys {
    REQUESTS
        .iter()
        .map(|(algorithm, name, _, _)| Key::new(Name::parse(name).unwrap(), *algorithm, SECRET))
        .collect()
}

/// The kdig request that is signed with hmac-sha256.
fn request() -> Vec<u8> {
    bytes(REQUESTS[1].3)
}

/// The offset of the TSIG record: only the question precedes it.
fn record_start() -> usize {
    HEADER + b"\x07example\x00\x00\xfc\x00\x01".len()
}

fn signer(message: &[u8], now: u64) -> Signer {
    verify(message, &keys(), now).unwrap().unwrap()
}

fn refusal(message: &[u8], keys: &Keys, now: u64) -> RefusedSignature {
    match verify(message, keys, now).unwrap_err() {
        TsigError::Refused(refusal) => *refusal,
        TsigError::Malformed => panic!("malformed"),
    }
}

/// A reply without records, in a buffer with room for more.
fn reply(id: [u8; 2]) -> ([u8; 512], usize) {
    let mut buffer = [0; 512];
    buffer[..HEADER].copy_from_slice(&[id[0], id[1], 0x84, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    (buffer, HEADER)
}

#[test]
fn requests_of_other_implementations_are_verified() {
    for (algorithm, name, time, request) in REQUESTS {
        let request = bytes(request);
        let signer = signer(&request, time);
        assert_eq!(*signer.key_name(), Name::parse(name).unwrap(), "{algorithm}");
        assert_eq!(algorithm.to_string().to_uppercase().parse(), Ok(algorithm));
    }
    assert!("hmac-md5".parse::<Algorithm>().unwrap_err().to_string().starts_with("`hmac-md5` is not a TSIG"));
}

#[test]
fn a_request_without_a_signature_is_nobodys() {
    let mut request = request();
    request.truncate(record_start());
    request[11] = 0;
    assert!(matches!(verify(&request, &keys(), NOW), Ok(None)));
    for length in 0..request.len() {
        assert!(matches!(verify(&request[..length], &keys(), NOW), Ok(None)), "{length}");
    }
}

#[test]
fn no_byte_of_a_request_can_be_changed() {
    let request = request();
    let start = record_start();
    for at in 0..request.len() {
        for change in [1, 0x20, 0x80] {
            let mut changed = request.clone();
            changed[at] ^= change;
            let accepted = matches!(verify(&changed, &keys(), NOW), Ok(Some(_)));
            // The id in the header may differ from the original id, because forwarders change it.
            // The case of key and algorithm names does not matter.
            let letters = change == 0x20 && (request[at].is_ascii_alphabetic() && at > start);
            let data = at >= start + 6 + 10 + 13;
            assert_eq!(accepted, at < 2 || letters && !data, "byte {at} ^ {change:#x}");
        }
    }
    for length in 0..request.len() {
        assert!(!matches!(verify(&request[..length], &keys(), NOW), Ok(Some(_))), "{length}");
    }
}

#[test]
fn the_clocks_may_differ_by_the_fudge() {
    let request = request();
    let signed = REQUESTS[1].2;
    for now in [signed - 300, signed, signed + 300] {
        assert!(matches!(verify(&request, &keys(), now), Ok(Some(_))), "{now}");
    }
    for now in [0, signed - 301, signed + 301, u64::MAX] {
        assert_eq!(refusal(&request, &keys(), now).reason, SignatureError::Time, "{now}");
    }
}

#[test]
fn a_key_is_its_name_and_algorithm_and_secret() {
    let request = request();
    let key = |name: &str, algorithm, secret: &[u8]| {
        Keys::from_iter([Key::new(Name::parse(name).unwrap(), algorithm, secret)])
    };
    for (keys, reason) in [
        (Keys::default(), SignatureError::Key),
        (key("other", Algorithm::HmacSha256, SECRET), SignatureError::Key),
        (key("k256", Algorithm::HmacSha512, SECRET), SignatureError::Key),
        (key("k256", Algorithm::HmacSha256, b"wrong"), SignatureError::Signature),
    ] {
        let refusal = refusal(&request, &keys, NOW);
        assert_eq!(refusal.reason, reason);
        assert!(refusal.proved.is_none(), "what proves nothing gets nothing signed");
        let (mut buffer, length) = reply([request[0], request[1]]);
        let length = refusal.append(&mut buffer, length, NOW).unwrap();
        let record = Signature::read(&buffer[..length], HEADER).unwrap();
        assert_eq!((record.error, record.mac, record.other), (reason.code(), &[][..], &[][..]));
        assert_eq!(record.key_name, Name::parse("k256").unwrap());
        assert_eq!(find(&buffer[..length]).unwrap(), Some(HEADER));
    }
    let shown = format!("{:?}", key("k256", Algorithm::HmacSha256, b"secret"));
    assert!(!shown.contains("secret") && !shown.contains("115, 101"), "{shown}");
}

#[test]
fn a_short_mac_is_refused_and_a_shorter_one_malformed() {
    let request = bytes(TRUNCATED);
    assert_eq!(refusal(&request, &keys(), NOW).reason, SignatureError::Truncated);
    let mut forged = request.clone();
    let last = forged.len() - TAIL - 1;
    forged[last] ^= 1;
    assert_eq!(refusal(&forged, &keys(), NOW).reason, SignatureError::Signature);
    let mac = request.len() - TAIL - 20;
    for (length, malformed) in [(0, true), (10, true), (15, true), (16, false), (20, false)] {
        let mut cut = request.clone();
        cut.drain(mac + length..mac + 20);
        cut[mac - 1] = length.to_le_bytes()[0];
        let data_length = mac - 10 - 13 - 1;
        cut[data_length] -= (20 - length).to_le_bytes()[0];
        let result = verify(&cut, &keys(), NOW);
        assert_eq!(matches!(result, Err(TsigError::Malformed)), malformed, "{length}: {result:?}");
    }
}

#[test]
fn the_record_is_the_last_one_and_well_formed() {
    let request = request();
    let start = record_start();
    let malformed = |message: &[u8]| matches!(verify(message, &keys(), NOW), Err(TsigError::Malformed));
    let mut twice = request.clone();
    twice.extend_from_slice(&request[start..]);
    twice[11] = 2;
    assert!(malformed(&twice));
    let mut counted_twice = request.clone();
    counted_twice[11] = 2;
    assert!(malformed(&counted_twice));
    let mut trailing = request.clone();
    trailing.push(0);
    assert!(malformed(&trailing));
    let mut before_opt = request.clone();
    before_opt.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    before_opt[11] = 2;
    assert!(malformed(&before_opt));
    let name = b"\x04k256\x00".len();
    for (at, field) in
        [(start + name + 3, "class"), (start + name + 7, "ttl"), (request.len() - 1, "other length")]
    {
        let mut changed = request.clone();
        changed[at] ^= 1;
        assert!(malformed(&changed), "{field}");
    }
}

#[test]
fn a_compressed_key_name_is_read() {
    // The header, the question `k256.example`, then a record whose owner points into the question.
    let key = Key::new(Name::parse("k256.example").unwrap(), Algorithm::HmacSha256, SECRET);
    let mut message = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(b"\x04K256\x07exAmple\x00\x00\x06\x00\x01");
    let variables = Variables {
        key_name: key.name().wire(),
        algorithm: key.algorithm().wire(),
        time: NOW,
        fudge: 5,
        error: 0,
        other: &[],
    };
    let mac = variables.mac(&key, None, &message, &[]);
    let mut buffer = [0; 512];
    buffer[..message.len()].copy_from_slice(&message);
    let length = variables.append(Some(&mac), &mut buffer, message.len()).unwrap();
    let whole = buffer[..length].to_vec();
    let keys = Keys::from_iter([key]);
    for owner in [&[0xc0, 12][..], &[4, b'k', b'2', b'5', b'6', 0xc0, 17]] {
        let mut compressed = whole.clone();
        compressed.splice(message.len()..message.len() + 14, owner.iter().copied());
        assert!(matches!(verify(&compressed, &keys, NOW), Ok(Some(_))), "{owner:?}");
    }
    // Pointers that refer to themselves, forwards, or through a label back to themselves. They are
    // in the data of an earlier record, which is not checked when names are skipped.
    for data in [[0xc0, 41, 0, 0], [0xc0, 43, 0xc0, 41], [1, b'a', 0xc0, 41]] {
        let mut looping = whole[..message.len()].to_vec();
        looping.extend([0, 0, 16, 0, 1, 0, 0, 0, 0, 0, 4]);
        assert_eq!(looping.len(), 41);
        looping.extend(data);
        looping.extend([0xc0, 41]);
        looping.extend(&whole[message.len() + 14..]);
        looping[11] = 2;
        assert!(matches!(verify(&looping, &keys, NOW), Err(TsigError::Malformed)), "{data:?}");
    }
}

/// Verifies a message as a client does (RFC 8945, section 5.3): over the prior MAC with its length,
/// the message without the record, and all variables, or for later messages only the timers.
fn check_as_a_client(key: &hmac::Key, prior: &[u8], message: &[u8], before: usize, first: bool) -> Vec<u8> {
    let record = Signature::read(message, before).unwrap();
    let mut hashed = number(prior.len()).to_vec();
    hashed.extend(prior);
    hashed.extend(&message[..before]);
    hashed[2 + prior.len() + 11] -= 1;
    let data = before + record.key_name.wire().len() + 10;
    let timers = data + b"\x0bhmac-sha256\x00".len();
    if first {
        hashed.extend(record.key_name.wire());
        hashed.extend([0, 255, 0, 0, 0, 0]);
        hashed.extend(&message[data..timers + 8]);
        hashed.extend(record.error.to_be_bytes());
        hashed.extend(number(record.other.len()));
        hashed.extend(record.other);
    } else {
        hashed.extend(&message[timers..timers + 8]);
    }
    hmac::verify(key, &hashed, record.mac).unwrap();
    record.mac.to_vec()
}

#[test]
fn the_messages_of_a_reply_are_chained() {
    let request = request();
    let mut signer = signer(&request, NOW);
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let mut prior = Signature::read(&request, record_start()).unwrap().mac.to_vec();
    for message in 0..4 {
        let (mut buffer, length) = reply([request[0], request[1]]);
        let room = length + signer.record_length();
        assert_eq!(signer.sign(&mut buffer[..room - 1], length, NOW), Err(Full));
        assert_eq!(signer.sign(&mut buffer[..room], length, NOW + message), Ok(room));
        prior = check_as_a_client(&key, &prior, &buffer[..room], length, message == 0);
        let record = Signature::read(&buffer[..room], length).unwrap();
        assert_eq!((record.time, record.fudge, record.error), (NOW + message, FUDGE, 0));
        assert_eq!(record.original_id, [request[0], request[1]]);
    }
}

#[test]
fn a_client_with_a_wrong_clock_learns_ours_by_a_signed_reply() {
    let request = request();
    let now = NOW + 100_000;
    let refusal = refusal(&request, &keys(), now);
    let (mut buffer, length) = reply([request[0], request[1]]);
    let whole = refusal.append(&mut buffer, length, now).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let prior = Signature::read(&request, record_start()).unwrap();
    check_as_a_client(&key, prior.mac, &buffer[..whole], length, true);
    let record = Signature::read(&buffer[..whole], length).unwrap();
    assert_eq!((record.time, record.error), (prior.time, 18));
    assert_eq!(record.other, &now.to_be_bytes()[2..]);
    assert!(refusal.append(&mut buffer[..whole - 1], length, now).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_judged(
        counts in prop::array::uniform4(0_u8..3),
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        record in any::<bool>(),
    ) {
        let mut message = vec![0; HEADER];
        for (at, count) in [5, 7, 9, 11].into_iter().zip(counts) {
            message[at] = count;
        }
        if record {
            // A root owner, type TSIG, class ANY, TTL 0, and the rest as data.
            message.extend([0, 0, 250, 0, 255, 0, 0, 0, 0, 0, bytes.len().to_le_bytes()[0]]);
        }
        message.extend(bytes);
        prop_assert!(!matches!(verify(&message, &keys(), NOW), Ok(Some(_))));
    }
}

#[test]
fn keys_are_the_same_by_name_algorithm_and_secret() {
    let key = |name: &str, algorithm, secret: &[u8]| Key::new(Name::parse(name).unwrap(), algorithm, secret);
    let first = key("a", Algorithm::HmacSha256, SECRET);
    assert_eq!(first, key("A.", Algorithm::HmacSha256, SECRET));
    for other in [
        key("b", Algorithm::HmacSha256, SECRET),
        key("a", Algorithm::HmacSha512, SECRET),
        key("a", Algorithm::HmacSha256, &SECRET[1..]),
    ] {
        assert_ne!(first, other);
    }
}
