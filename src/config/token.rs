//! The token of the admin server, and the proof that a server knows it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use ring::hmac;

/// The shortest token, characters; a shorter one could be guessed.
const SHORTEST_TOKEN: usize = 16;
/// The longest token, characters; a longer one would not fit into a request with its other headers.
const LONGEST_TOKEN: usize = 1024;

/// A prefix of the signed text, so that no other signature is a valid proof.
const PROOF: &str = "steerd: an admin server knows its token";

/// A bearer token (RFC 6750). Its debug output does not contain it.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(Box<str>);

impl BearerToken {
    /// Takes the text of a token file.
    ///
    /// # Errors
    /// Why it is not a token, as part of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let token = text.trim();
        // The characters of RFC 6750, section 2.1. None needs an escape in a header or a shell.
        let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        match token.len() {
            0 => Err("it is empty".into()),
            length if length < SHORTEST_TOKEN => Err(format!(
                "the token has {length} characters; at least {SHORTEST_TOKEN} are needed, as from `openssl rand -hex 32`"
            )),
            length if length > LONGEST_TOKEN => {
                Err(format!("the token has {length} characters; at most {LONGEST_TOKEN} are allowed"))
            }
            _ if !token.bytes().all(is_sound) => {
                Err("it must hold one token of letters, digits and -._~+/= alone".into())
            }
            _ => Ok(Self(token.into())),
        }
    }

    /// Whether a client has sent this token. The comparison leaks nothing through its duration: both tokens are hashed
    /// with a key that is used once, and ring compares the hashes in constant time.
    #[must_use]
    pub fn is_shown_by(&self, client: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
        let own = hmac::sign(&key, self.0.as_bytes());
        hmac::verify(&key, client, own.as_ref()).is_ok()
    }

    /// The proof, in reply to `nonce`, that its sender knows the token and has this address.
    #[must_use]
    pub fn proof(&self, nonce: &Nonce, address: SocketAddr) -> String {
        HEXLOWER.encode(hmac::sign(&self.key(), &proved(nonce, address)).as_ref())
    }

    /// Whether `proof` comes from a server that knows the token and has this address.
    #[must_use]
    pub fn is_proved_by(&self, proof: &str, nonce: &Nonce, address: SocketAddr) -> bool {
        let proof = HEXLOWER.decode(proof.as_bytes());
        proof.is_ok_and(|proof| hmac::verify(&self.key(), &proved(nonce, address), &proof).is_ok())
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes())
    }

    /// The token itself, for a client's requests.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken")
    }
}

/// The text that the proof signs. An IPv4 address and its IPv4-mapped form give the same text.
fn proved(nonce: &Nonce, address: SocketAddr) -> Vec<u8> {
    format!("{PROOF}\n{nonce}\n{}\n{}", address.ip().to_canonical(), address.port()).into_bytes()
}

/// A random value from the client, so that a recorded proof is not valid again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce([u8; 32]);

impl Nonce {
    /// A new random value.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for Nonce {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| ())?;
        bytes.try_into().map(Self).map_err(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_all_of_it() {
        let text = "0123456789abcdef-._~+/=";
        let token = BearerToken::parse(&format!("{text}\n")).unwrap();
        assert!(token.is_shown_by(text.as_bytes()));
        for cut in 0..text.len() {
            assert!(!token.is_shown_by(&text.as_bytes()[..cut]), "{cut}");
            let mut other = text.as_bytes().to_vec();
            other[cut] ^= 1;
            assert!(!token.is_shown_by(&other), "{cut}");
        }
        assert!(!token.is_shown_by(format!("{text}a").as_bytes()));
        assert!(!format!("{token:?}").contains('0'), "{token:?}");
    }

    #[test]
    fn what_is_no_token_is_said() {
        for (text, expected) in [
            (" \n", "it is empty"),
            ("0123456789abcde", "15 characters; at least 16 are needed"),
            (&"a".repeat(1025), "1025 characters; at most 1024 are allowed"),
            ("0123456789abcdef 0123456789abcdef", "one token"),
            ("0123456789abcdeé", "one token"),
        ] {
            let refused = BearerToken::parse(text).unwrap_err();
            assert!(refused.contains(expected), "{text:?}: {refused}");
        }
    }

    #[test]
    fn a_proof_is_of_one_token_one_nonce_and_one_address() {
        let [token, other] =
            ["0123456789abcdef", "0123456789abcdeF"].map(|text| BearerToken::parse(text).unwrap());
        let (nonce, later) = (Nonce::random(), Nonce::random());
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let here = at("127.0.0.1:8053");
        let proof = token.proof(&nonce, here);
        assert!(token.is_proved_by(&proof, &nonce, here));
        assert!(token.is_proved_by(&proof, &nonce, at("[::ffff:127.0.0.1]:8053")));
        assert!(!token.is_proved_by(&proof, &later, here), "a replay");
        assert!(!token.is_proved_by(&proof, &nonce, at("127.0.0.1:8054")), "passed on");
        assert!(!token.is_proved_by(&proof, &nonce, at("127.0.0.2:8053")), "passed on");
        assert!(!token.is_proved_by(&other.proof(&nonce, here), &nonce, here));
        for no_proof in ["", "00", token.as_str(), &proof[..62]] {
            assert!(!token.is_proved_by(no_proof, &nonce, here), "{no_proof}");
        }
        assert_eq!(nonce.to_string().parse(), Ok(nonce));
        assert!("00".parse::<Nonce>().is_err());
    }
}
