//! TSIG keys: named secrets that are shared with peers and sign messages (RFC 8945).
//!
//! The hash functions come from ring. The TSIG record and the bytes that are signed belong to
//! `wire::tsig`; the rights of a key belong to `settings`.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ring::hmac;

use crate::name::Name;

/// The longest MAC of any algorithm, bytes.
const MAX_MAC: usize = 64;
/// A TSIG algorithm (RFC 8945, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Only for old peers: implementing it is mandatory, but using it is not recommended.
    HmacSha1,
    /// The recommended algorithm.
    HmacSha256,
    /// No weaker than SHA-256, with a longer MAC.
    HmacSha384,
    /// No weaker than SHA-256, with the longest MAC.
    HmacSha512,
}

/// The text is not the name of an algorithm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a TSIG algorithm: write hmac-sha256, hmac-sha384, hmac-sha512 or, for an old peer, hmac-sha1"
)]
pub struct UnknownAlgorithm(String);

impl Algorithm {
    const ALL: [Self; 4] = [Self::HmacSha1, Self::HmacSha256, Self::HmacSha384, Self::HmacSha512];

    /// The algorithm name in wire form.
    pub(crate) fn wire(self) -> &'static [u8] {
        match self {
            Self::HmacSha1 => b"\x09hmac-sha1\x00",
            Self::HmacSha256 => b"\x0bhmac-sha256\x00",
            Self::HmacSha384 => b"\x0bhmac-sha384\x00",
            Self::HmacSha512 => b"\x0bhmac-sha512\x00",
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::HmacSha256 => hmac::HMAC_SHA256,
            Self::HmacSha384 => hmac::HMAC_SHA384,
            Self::HmacSha512 => hmac::HMAC_SHA512,
        }
    }

    /// The length of a full MAC, bytes.
    pub(crate) fn mac_length(self) -> usize {
        self.hmac().digest_algorithm().output_len()
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HmacSha1 => "hmac-sha1",
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        })
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        let known = Self::ALL.into_iter().find(|algorithm| algorithm.to_string().eq_ignore_ascii_case(text));
        known.ok_or_else(|| UnknownAlgorithm(text.into()))
    }
}

/// A secret that is shared with a peer. The debug output does not contain it.
#[derive(Clone, Debug)]
pub struct Key {
    name: Name,
    algorithm: Algorithm,
    hmac: hmac::Key,
}

impl Key {
    /// Takes the secret as bytes, not in the base64 form of key files.
    #[must_use]
    pub fn new(name: Name, algorithm: Algorithm, secret: &[u8]) -> Self {
        Self { name, algorithm, hmac: hmac::Key::new(algorithm.hmac(), secret) }
    }

    /// The key name that both sides use.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The algorithm of its signatures.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Computes the MAC over the concatenation of `parts`.
    pub(crate) fn mac<'p>(&self, parts: impl IntoIterator<Item = &'p [u8]>) -> Mac {
        let mut context = hmac::Context::with_key(&self.hmac);
        for part in parts {
            context.update(part);
        }
        Mac::new(context.sign().as_ref())
    }
}

/// The secret of a key cannot be read back, so keys are compared by a MAC.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let is_same_mac = || self.mac([]).begins_with(other.mac([]).bytes());
        self.name == other.name && self.algorithm == other.algorithm && is_same_mac()
    }
}

impl Eq for Key {}

/// All keys of the server, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(HashMap<Name, Arc<Key>>);

impl Keys {
    /// The key of this name.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&Arc<Key>> {
        self.0.get(name)
    }

    /// All key names, unordered.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.0.keys()
    }
}

impl FromIterator<Key> for Keys {
    /// If two keys have the same name, the later one wins; the configuration rejects duplicates.
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        Self(keys.into_iter().map(|key| (key.name.clone(), Arc::new(key))).collect())
    }
}

/// A message authentication code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mac {
    bytes: [u8; MAX_MAC],
    length: usize,
}

impl Mac {
    /// Takes the bytes, at most [`MAX_MAC`].
    pub(crate) fn new(mac: &[u8]) -> Self {
        let mut bytes = [0; MAX_MAC];
        for (byte, &taken) in bytes.iter_mut().zip(mac) {
            *byte = taken;
        }
        Self { bytes, length: mac.len().min(MAX_MAC) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }

    /// The length as two bytes: the prefix of a MAC in the record and in the signed data.
    pub(crate) fn length(&self) -> [u8; 2] {
        u16::try_from(self.length).unwrap_or(u16::MAX).to_be_bytes()
    }

    /// Whether this MAC begins with `claimed`. Constant time, so that a sender cannot find a valid
    /// MAC byte by byte.
    pub(crate) fn begins_with(&self, claimed: &[u8]) -> bool {
        let difference = self.bytes().iter().zip(claimed).fold(0, |all, (a, b)| all | (a ^ b));
        claimed.len() <= self.length && std::hint::black_box(difference) == 0
    }
}
