//! Transaction signatures (RFC 8945): a shared secret proves the sender of a request to us, and the
//! sender of the reply to the client.
//!
//! This module takes and returns bytes; the time is an argument. The caller decides what a key may do,
//! and `keys` has the keys and hash functions. The module assembles the record and the hashed data
//! itself, because a zone transfer is signed as a stream: the signature of each message covers the MAC
//! of the previous one.
//!
//! ```text
//!   request --verify--+-- no TSIG record: the sender is unknown, and the reply is not signed
//!                     +-- Signer: the sender has the key; signs all messages of the reply
//!                     +-- Malformed: FORMERR, unsigned
//!                     '-- Refused: NOTAUTH, with a TSIG record that states the error
//!   our own request --sign_request--> SignedRequest: verifies the reply
//! ```

use std::sync::Arc;

use super::query::Header;
use super::record::{Record, skip_name};
use super::{Full, HEADER, class};
use crate::keys::{Key, Keys, Mac};
use crate::name::{self, MAX_NAME, Name};
use crate::zone::rtype;

/// The clock difference that our signatures allow, seconds (RFC 8945, section 10).
pub const FUDGE: u16 = 300;

/// The shortest truncated MAC for any algorithm, bytes (RFC 8945, section 5.2.2.1).
const MIN_MAC: usize = 10;

/// A length as two bytes.
fn number(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

/// The hashed fields of a TSIG record (RFC 8945, section 4.3.3), names in lower case.
#[derive(Clone, Debug)]
struct Variables<'v> {
    key_name: &'v [u8],
    algorithm: &'v [u8],
    /// Seconds since 1970, 48 bits.
    time: u64,
    fudge: u16,
    error: u16,
    other: &'v [u8],
}

impl Variables<'_> {
    /// Time and fudge: the only fields that are hashed for the messages after the first.
    fn timers(&self) -> [u8; 8] {
        let [_, _, t0, t1, t2, t3, t4, t5] = self.time.to_be_bytes();
        let [f0, f1] = self.fudge.to_be_bytes();
        [t0, t1, t2, t3, t4, t5, f0, f1]
    }

    /// The MAC over a message and all fields. `prior` is the MAC of the request if the message is a
    /// reply.
    fn mac(&self, key: &Key, prior: Option<&Mac>, header: &[u8], body: &[u8]) -> Mac {
        let prior_length = prior.map(Mac::length);
        let [c0, c1] = class::ANY.to_be_bytes();
        key.mac([
            prior_length.as_ref().map_or(&[][..], |length| length),
            prior.map_or(&[], Mac::bytes),
            header,
            body,
            self.key_name,
            &[c0, c1, 0, 0, 0, 0],
            self.algorithm,
            &self.timers(),
            &self.error.to_be_bytes(),
            &number(self.other.len()),
            self.other,
        ])
    }

    /// Appends the record to the message, the first `length` bytes of `buffer`, and increments its
    /// record count. Returns the new length.
    fn append(&self, mac: Option<&Mac>, buffer: &mut [u8], length: usize) -> Result<usize, Full> {
        let header = Header::read(buffer).ok_or(Full)?;
        let mac_length = mac.map_or([0, 0], Mac::length);
        let mac = mac.map_or(&[][..], Mac::bytes);
        let data_length = self.algorithm.len() + 16 + mac.len() + self.other.len();
        let [t0, t1] = rtype::TSIG.to_be_bytes();
        let [c0, c1] = class::ANY.to_be_bytes();
        let parts: [&[u8]; 11] = [
            self.key_name,
            &[t0, t1, c0, c1, 0, 0, 0, 0],
            &number(data_length),
            self.algorithm,
            &self.timers(),
            &mac_length,
            mac,
            // The original id; nothing has changed it yet.
            &header.id.to_be_bytes(),
            &self.error.to_be_bytes(),
            &number(self.other.len()),
            self.other,
        ];
        let mut at = length;
        for part in parts {
            buffer.get_mut(at..at + part.len()).ok_or(Full)?.copy_from_slice(part);
            at += part.len();
        }
        let count = buffer.get_mut(10..HEADER).ok_or(Full)?;
        count.copy_from_slice(&header.arcount.checked_add(1).ok_or(Full)?.to_be_bytes());
        Ok(at)
    }
}

/// Signs the messages of the reply to a signed request.
#[derive(Clone, Debug)]
pub struct Signer {
    key: Arc<Key>,
    /// The MAC of the request, then that of the last signed message.
    prior: Mac,
    first: bool,
}

impl Signer {
    /// The name of the key that signed the request.
    #[must_use]
    pub fn key_name(&self) -> &Name {
        self.key.name()
    }

    /// The number of bytes that [`Signer::sign`] appends.
    #[must_use]
    pub fn record_length(&self) -> usize {
        let algorithm = self.key.algorithm();
        self.key.name().wire().len() + 10 + algorithm.wire().len() + 16 + algorithm.mac_length()
    }

    /// Appends a TSIG record to the message, the first `length` bytes of `buffer`, and returns the
    /// new length. `now` is in seconds since 1970. Every message of a reply is signed, in sending
    /// order. RFC 8945, section 5.3.1 allows gaps, but they save little.
    ///
    /// # Errors
    /// If `buffer` has no room for the record; then nothing is signed.
    pub fn sign(&mut self, buffer: &mut [u8], length: usize, now: u64) -> Result<usize, Full> {
        let variables = Variables {
            key_name: self.key.name().wire(),
            algorithm: self.key.algorithm().wire(),
            time: now,
            fudge: FUDGE,
            error: 0,
            other: &[],
        };
        let message = buffer.get(..length).ok_or(Full)?;
        let mac = if self.first {
            variables.mac(&self.key, Some(&self.prior), message, &[])
        } else {
            self.key.mac([&self.prior.length()[..], self.prior.bytes(), message, &variables.timers()])
        };
        let length = variables.append(Some(&mac), buffer, length)?;
        self.prior = mac;
        self.first = false;
        Ok(length)
    }
}

/// Signs a request of ours, the first `length` bytes of `buffer`. Returns the new length, and the
/// state that verifies the reply. `now` is in seconds since 1970.
///
/// # Errors
/// If `buffer` has no room for the record; then nothing is signed.
pub fn sign_request(
    key: &Arc<Key>,
    buffer: &mut [u8],
    length: usize,
    now: u64,
) -> Result<(usize, SignedRequest), Full> {
    let variables = Variables {
        key_name: key.name().wire(),
        algorithm: key.algorithm().wire(),
        time: now,
        fudge: FUDGE,
        error: 0,
        other: &[],
    };
    let mac = variables.mac(key, None, buffer.get(..length).ok_or(Full)?, &[]);
    let length = variables.append(Some(&mac), buffer, length)?;
    Ok((length, SignedRequest { key: Arc::clone(key), mac }))
}

/// A signed request of ours that awaits its reply.
#[derive(Clone, Debug)]
pub struct SignedRequest {
    key: Arc<Key>,
    mac: Mac,
}

impl SignedRequest {
    /// Whether `reply` is signed with the same key as the reply to this request.
    #[must_use]
    pub fn is_answered_by(&self, reply: &[u8], now: u64) -> bool {
        let Ok(Some(start)) = find(reply) else { return false };
        let Some(signature) = Signature::read(reply, start) else { return false };
        let expected = signature.expected(&self.key, Some(&self.mac), reply, start);
        signature.key_name == *self.key.name()
            && signature.algorithm.wire() == self.key.algorithm().wire()
            && signature.mac.len() == self.key.algorithm().mac_length()
            && signature.time.abs_diff(now) <= u64::from(signature.fudge)
            && expected.is_some_and(|expected| expected.begins_with(signature.mac))
    }
}

/// The reason why a signed request is not answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TsigError {
    /// The TSIG record is malformed or not the last record. The reply is FORMERR.
    #[error("the request has a TSIG record that is malformed, or is not the last record")]
    Malformed,
    /// The signature is not accepted. The reply is NOTAUTH, which [`RefusedSignature::append`] completes.
    #[error("{0}")]
    Refused(Box<RefusedSignature>),
}

/// A refused signature, and the data for the TSIG record of the reply.
#[derive(Clone, Debug, thiserror::Error)]
#[error("a request signed with the key {key_name} is refused: {reason}")]
pub struct RefusedSignature {
    /// The error.
    pub reason: SignatureError,
    key_name: Name,
    algorithm: Name,
    time: u64,
    fudge: u16,
    /// The key and MAC of the request, if they prove its sender; then the refusal is signed.
    proved: Option<(Arc<Key>, Mac)>,
}

/// Why a signature is not accepted (RFC 8945, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// BADKEY.
    #[error("no key of this name and algorithm is configured")]
    Key,
    /// BADSIG.
    #[error("the signature does not match the configured secret; compare the secrets on both sides")]
    Signature,
    /// BADTIME.
    #[error("its time of signing differs too much from our time; compare the clocks on both sides")]
    Time,
    /// BADTRUNC. Truncated signatures are refused, because they save only a few bytes.
    #[error("the signature is truncated, which is not accepted")]
    Truncated,
}

impl SignatureError {
    /// The value of the record's error field.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Signature => 16,
            Self::Key => 17,
            Self::Time => 18,
            Self::Truncated => 22,
        }
    }
}

impl RefusedSignature {
    /// Appends a TSIG record with the error to the reply, the first `length` bytes of `buffer`, and
    /// returns the new length. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// If `buffer` has no room for the record.
    pub fn append(&self, buffer: &mut [u8], length: usize, now: u64) -> Result<usize, Full> {
        let [_, _, clock @ ..] = now.to_be_bytes();
        // Repeats the peer's own time, so that a peer with a wrong clock can verify the reply. Other
        // Data contains our time.
        let (time, fudge, other) = match self.reason {
            SignatureError::Time => (self.time, self.fudge, &clock[..]),
            _ => (now, FUDGE, &[][..]),
        };
        let variables = Variables {
            key_name: self.key_name.wire(),
            algorithm: self.algorithm.wire(),
            time,
            fudge,
            error: self.reason.code(),
            other,
        };
        let message = buffer.get(..length).ok_or(Full)?;
        let mac = self.proved.as_ref().map(|(key, prior)| variables.mac(key, Some(prior), message, &[]));
        variables.append(mac.as_ref(), buffer, length)
    }
}

/// Verifies the signature of a request. `now` is in seconds since 1970.
///
/// Returns `None` if there is no TSIG record. It is also `None` if the message cannot be parsed to its
/// end; [`Query::read`](super::Query::read) reports that.
///
/// # Errors
/// If the signature is not accepted.
pub fn verify(message: &[u8], keys: &Keys, now: u64) -> Result<Option<Signer>, TsigError> {
    let Some(start) = find(message)? else { return Ok(None) };
    let signature = Signature::read(message, start).ok_or(TsigError::Malformed)?;
    let refuse = |reason, proved| {
        Err(TsigError::Refused(Box::new(RefusedSignature {
            reason,
            key_name: signature.key_name.clone(),
            algorithm: signature.algorithm.clone(),
            time: signature.time,
            fudge: signature.fudge,
            proved,
        })))
    };
    let known = keys.get(&signature.key_name);
    let Some(key) = known.filter(|key| key.algorithm().wire() == signature.algorithm.wire()) else {
        return refuse(SignatureError::Key, None);
    };
    let whole = key.algorithm().mac_length();
    if signature.mac.len() > whole || signature.mac.len() < MIN_MAC.max(whole / 2) {
        return Err(TsigError::Malformed);
    }
    let expected = signature.expected(key, None, message, start).ok_or(TsigError::Malformed)?;
    if !expected.begins_with(signature.mac) {
        return refuse(SignatureError::Signature, None);
    }
    let mac = Mac::new(signature.mac);
    if signature.time.abs_diff(now) > u64::from(signature.fudge) {
        return refuse(SignatureError::Time, Some((Arc::clone(key), mac)));
    }
    if signature.mac.len() < whole {
        return refuse(SignatureError::Truncated, Some((Arc::clone(key), mac)));
    }
    Ok(Some(Signer { key: Arc::clone(key), prior: mac, first: true }))
}

/// The start of the TSIG record. It is malformed unless it is the last record.
fn find(message: &[u8]) -> Result<Option<usize>, TsigError> {
    let Some(header) = Header::read(message) else { return Ok(None) };
    if header.arcount == 0 {
        return Ok(None);
    }
    let mut rest = message.get(HEADER..).unwrap_or(&[]);
    for _ in 0..header.qdcount {
        let Some(after) = skip_name(message, rest).and_then(|after| after.get(4..)) else { return Ok(None) };
        rest = after;
    }
    let records = u32::from(header.ancount) + u32::from(header.nscount) + u32::from(header.arcount);
    for left in (0..records).rev() {
        let Some((record, after)) = Record::read(message, rest) else { return Ok(None) };
        if record.rtype == rtype::TSIG {
            let in_place = left == 0 && after.is_empty() && record.class == class::ANY && record.ttl == 0;
            return if in_place { Ok(Some(message.len() - rest.len())) } else { Err(TsigError::Malformed) };
        }
        rest = after;
    }
    Ok(None)
}

/// The TSIG record of a message.
#[derive(Debug)]
struct Signature<'m> {
    key_name: Name,
    algorithm: Name,
    time: u64,
    fudge: u16,
    mac: &'m [u8],
    original_id: [u8; 2],
    error: u16,
    other: &'m [u8],
}

impl<'m> Signature<'m> {
    /// Parses the record at `start`, whose head is already checked.
    fn read(message: &'m [u8], start: usize) -> Option<Self> {
        let (record, _) = Record::read(message, message.get(start..)?)?;
        let key_name = expand_name(message, start)?;
        let (algorithm, rest) = record.data.split_at_checked(name::wire_length(record.data)?)?;
        let (&[t0, t1, t2, t3, t4, t5, f0, f1, m0, m1], rest) = rest.split_first_chunk::<10>()?;
        let (mac, rest) = rest.split_at_checked(u16::from_be_bytes([m0, m1]).into())?;
        let (&[i0, i1, e0, e1, o0, o1], other) = rest.split_first_chunk::<6>()?;
        (other.len() == usize::from(u16::from_be_bytes([o0, o1]))).then_some(())?;
        Some(Self {
            key_name,
            algorithm: Name::from_wire(algorithm)?,
            time: u64::from_be_bytes([0, 0, t0, t1, t2, t3, t4, t5]),
            fudge: u16::from_be_bytes([f0, f1]),
            mac,
            original_id: [i0, i1],
            error: u16::from_be_bytes([e0, e1]),
            other,
        })
    }

    /// The expected MAC: over the message as it was before the record was appended, with its id at
    /// that time (RFC 8945, section 4.3.2). `prior` is the MAC of the request if the message is a
    /// reply.
    fn expected(&self, key: &Key, prior: Option<&Mac>, message: &[u8], start: usize) -> Option<Mac> {
        let (&header, _) = message.split_first_chunk::<HEADER>()?;
        let [_, _, f0, f1, q0, q1, a0, a1, n0, n1, r0, r1] = header;
        let [i0, i1] = self.original_id;
        let [r0, r1] = u16::from_be_bytes([r0, r1]).checked_sub(1)?.to_be_bytes();
        let header = [i0, i1, f0, f1, q0, q1, a0, a1, n0, n1, r0, r1];
        let variables = Variables {
            key_name: self.key_name.wire(),
            algorithm: self.algorithm.wire(),
            time: self.time,
            fudge: self.fudge,
            error: self.error,
            other: self.other,
        };
        Some(variables.mac(key, prior, &header, message.get(HEADER..start)?))
    }
}

/// Reads the name at `at`; some peers compress it. The loop ends because pointers lead backwards, and
/// each label lengthens a name of limited length.
fn expand_name(message: &[u8], mut at: usize) -> Option<Name> {
    let mut wire = Vec::with_capacity(MAX_NAME);
    while wire.len() < MAX_NAME {
        let length = usize::from(*message.get(at)?);
        if length >= 0xc0 {
            let target = (length & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
            at = Some(target).filter(|&target| target < at)?;
            continue;
        }
        let end = at + 1 + length;
        wire.extend_from_slice(message.get(at..end)?);
        if length == 0 {
            return Name::from_wire(&wire);
        }
        at = end;
    }
    None
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests;
