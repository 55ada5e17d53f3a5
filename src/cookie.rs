//! DNS cookies (RFC 7873). The server cookie has the interoperable layout of RFC 9018, so servers
//! of different vendors behind one address can share a secret.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

/// The length of a client cookie (RFC 7873, section 4.1).
pub const CLIENT_COOKIE: usize = 8;
/// The length of a server cookie in the layout of RFC 9018, section 4: version, reserved, time,
/// hash.
pub const SERVER_COOKIE: usize = 16;
/// The length of a client and a server cookie: the COOKIE option of a reply.
pub const COOKIE: usize = CLIENT_COOKIE + SERVER_COOKIE;
/// The longest COOKIE option (RFC 7873, section 4).
const LONGEST: usize = 40;
/// Version 1, and three reserved bytes.
const VERSION: [u8; 4] = [1, 0, 0, 0];
/// How long a server cookie is valid: an hour (RFC 9018, section 4.3).
const LIFETIME: u32 = 3600;
/// How far in the future a server cookie may be, because clocks differ.
const FUTURE: u32 = 300;

/// The secrets of the server cookies, 128 bits each. The first makes new cookies. Cookies made with
/// any of the others are accepted too, so a secret can be rolled over (RFC 9018, section 5).
#[derive(Clone, PartialEq, Eq)]
pub struct CookieSecrets(Box<[[u8; 16]]>);

/// The result of checking a COOKIE option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// Neither a client cookie nor a pair of cookies: FORMERR (RFC 7873, section 5.2.2).
    Malformed,
    /// A client cookie alone, or with a server cookie that is too old or not from this server.
    Unproven([u8; CLIENT_COOKIE]),
    /// The cookie proves that the client receives packets sent to its address.
    Proven([u8; CLIENT_COOKIE]),
}

impl std::fmt::Debug for CookieSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CookieSecrets({})", self.0.len())
    }
}

impl CookieSecrets {
    /// Takes the secrets, the one for new cookies first. Returns `None` if there are none.
    #[must_use]
    pub fn new(secrets: Vec<[u8; 16]>) -> Option<Self> {
        (!secrets.is_empty()).then(|| Self(secrets.into()))
    }

    /// Checks the value of a COOKIE option. `now` is in seconds since 1970.
    #[must_use]
    pub fn check(&self, option: &[u8], client: IpAddr, now: u32) -> Cookie {
        let Some((&client_cookie, server_cookie)) = option.split_first_chunk::<CLIENT_COOKIE>() else {
            return Cookie::Malformed;
        };
        match server_cookie.len() {
            0 => return Cookie::Unproven(client_cookie),
            1..8 => return Cookie::Malformed,
            _ if option.len() > LONGEST => return Cookie::Malformed,
            _ => {}
        }
        let proven = <[u8; SERVER_COOKIE]>::try_from(server_cookie).is_ok_and(|cookie| {
            let [_, _, _, _, t0, t1, t2, t3, ..] = cookie;
            // Serial number arithmetic: the field wraps in 2106 (RFC 9018, section 4.3).
            let age = now.wrapping_sub(u32::from_be_bytes([t0, t1, t2, t3]));
            let in_time = age <= LIFETIME || age >= FUTURE.wrapping_neg();
            in_time
                && self.0.iter().any(|secret| {
                    let time = u32::from_be_bytes([t0, t1, t2, t3]);
                    same(&server_cookie_of(secret, client_cookie, client, time), &cookie)
                })
        });
        if proven { Cookie::Proven(client_cookie) } else { Cookie::Unproven(client_cookie) }
    }

    /// The pair of cookies for a reply.
    #[must_use]
    pub fn reply(&self, client_cookie: [u8; CLIENT_COOKIE], client: IpAddr, now: u32) -> [u8; COOKIE] {
        let mut pair = [0; COOKIE];
        if let (Some(secret), Some((start, end))) = (self.0.first(), pair.split_at_mut_checked(CLIENT_COOKIE))
        {
            start.copy_from_slice(&client_cookie);
            end.copy_from_slice(&server_cookie_of(secret, client_cookie, client, now));
        }
        pair
    }
}

/// The server cookie of RFC 9018, section 4.4.
fn server_cookie_of(
    secret: &[u8; 16],
    client_cookie: [u8; CLIENT_COOKIE],
    client: IpAddr,
    time: u32,
) -> [u8; SERVER_COOKIE] {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(&client_cookie);
    hasher.write(&VERSION);
    hasher.write(&time.to_be_bytes());
    match client {
        IpAddr::V4(address) => hasher.write(&address.octets()),
        IpAddr::V6(address) => hasher.write(&address.octets()),
    }
    let [v, r0, r1, r2] = VERSION;
    let [t0, t1, t2, t3] = time.to_be_bytes();
    // SipHash's result is defined as bytes in little-endian order.
    let [h0, h1, h2, h3, h4, h5, h6, h7] = hasher.finish().to_le_bytes();
    [v, r0, r1, r2, t0, t1, t2, t3, h0, h1, h2, h3, h4, h5, h6, h7]
}

/// Compares in constant time.
fn same(a: &[u8; SERVER_COOKIE], b: &[u8; SERVER_COOKIE]) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    fn secrets(hex: &[&str]) -> CookieSecrets {
        CookieSecrets::new(hex.iter().map(|hex| bytes(hex).try_into().unwrap()).collect()).unwrap()
    }

    /// The test vectors of RFC 9018, appendix A.
    #[test]
    fn the_vectors_of_rfc_9018() {
        let first = secrets(&["e5e973e5a6b2a43f48e7dc849e37bfcf"]);
        let client: [u8; 8] = bytes("2464c4abcf10c957").try_into().unwrap();
        let reply = first.reply(client, "198.51.100.100".parse().unwrap(), 1_559_731_985);
        assert_eq!(reply.to_vec(), bytes("2464c4abcf10c957010000005cf79f111f8130c3eee29480"));

        let client: [u8; 8] = bytes("fc93fc62807ddb86").try_into().unwrap();
        let reply = first.reply(client, "203.0.113.203".parse().unwrap(), 1_559_734_700);
        assert_eq!(reply.to_vec(), bytes("fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e"));

        let v6 = "2001:db8:220:1:59de:d0f4:8769:82b8".parse().unwrap();
        let client: [u8; 8] = bytes("22681ab97d52c298").try_into().unwrap();
        let old = bytes("22681ab97d52c298010000005cf7c57926556bd0934c72f8");
        let rolled = secrets(&["445536bcd2513298075a5d379663c962", "dd3bdf9344b678b185a6f5cb60fca715"]);
        assert_eq!(rolled.check(&old, v6, 1_559_741_961), Cookie::Proven(client));
        assert_eq!(
            rolled.reply(client, v6, 1_559_741_961).to_vec(),
            bytes("22681ab97d52c298010000005cf7c609a6bb79d16625507a")
        );
    }

    #[test]
    fn lengths_age_and_address() {
        let secrets = secrets(&["000102030405060708090a0b0c0d0e0f"]);
        let here: IpAddr = "192.0.2.1".parse().unwrap();
        let now = 5_000;
        let pair = secrets.reply([7; 8], here, now);
        for length in 0..=41 {
            let option = vec![7; length];
            let malformed = matches!(length, 0..=7 | 9..=15 | 41);
            assert_eq!(secrets.check(&option, here, now) == Cookie::Malformed, malformed, "{length}");
        }
        let proven = |pair: &[u8], client, now| secrets.check(pair, client, now) == Cookie::Proven([7; 8]);
        assert!(proven(&pair, here, now));
        assert!(proven(&pair, here, now + LIFETIME));
        assert!(!proven(&pair, here, now + LIFETIME + 1));
        assert!(proven(&pair, here, now - FUTURE));
        assert!(!proven(&pair, here, now - FUTURE - 1));
        assert!(!proven(&pair, "192.0.2.2".parse().unwrap(), now));
        for at in 0..COOKIE {
            let mut forged = pair;
            forged[at] ^= 1;
            assert!(!proven(&forged, here, now), "byte {at}");
        }
    }
}
