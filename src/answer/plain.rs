//! Usual queries: one question of class IN, and at most an OPT record of version 0.
//!
//! Answers belong in `fast`; `wire` reads all other queries.

use crate::name;
use crate::wire::edns::OPT_LENGTH;
use crate::wire::{HEADER, class, flag};

/// The length of type and class, after the name of a question.
const TYPE_AND_CLASS: usize = 4;
/// How many bytes of a name are converted to lower case at once.
const LOWERED_AT_ONCE: usize = 16;

/// Scratch space for the name of a question.
pub(super) type NameScratch = [u8; name::MAX_NAME + 1];

/// A usual query.
pub(super) struct Plain<'q, 's> {
    pub(super) id: [u8; 2],
    /// The RD flag, as sent.
    pub(super) copied: u16,
    /// Name, type and class, as sent.
    pub(super) question: &'q [u8],
    /// The name, in lower case.
    pub(super) name: &'s [u8],
    pub(super) qtype: u16,
    pub(super) edns: Option<PlainEdns<'q>>,
}

/// An OPT record of version 0.
#[derive(Clone, Copy)]
pub(super) struct PlainEdns<'q> {
    pub(super) payload: u16,
    pub(super) dnssec_ok: bool,
    pub(super) options: &'q [u8],
}

impl<'q, 's> Plain<'q, 's> {
    #[inline]
    pub(super) fn read(query: &'q [u8], scratch: &'s mut NameScratch) -> Option<Self> {
        let (&[i0, i1, f0, f1, counts @ ..], body) = query.split_first_chunk::<HEADER>()?;
        let flags = u16::from_be_bytes([f0, f1]);
        let [0, 1, 0, 0, 0, 0, 0, additional @ 0..=1] = counts else { return None };
        if flags & (flag::QR | flag::OPCODE) != 0 {
            return None;
        }
        let length = name::wire_length(body)?;
        let (question, rest) = body.split_at_checked(length + TYPE_AND_CLASS)?;
        let &[t0, t1, c0, c1] = question.last_chunk()?;
        if u16::from_be_bytes([c0, c1]) != class::IN {
            return None;
        }
        let edns = match (additional, rest.split_first_chunk::<OPT_LENGTH>()) {
            (0, None) if rest.is_empty() => None,
            // The OPT record must fill the rest of the message.
            (1, Some((&[0, 0, 41, p0, p1, 0, 0, z0, _, l0, l1], options)))
                if options.len() == usize::from(u16::from_be_bytes([l0, l1])) =>
            {
                let payload = u16::from_be_bytes([p0, p1]);
                Some(PlainEdns { payload, dnssec_ok: z0 & 0x80 != 0, options })
            }
            _ => return None,
        };
        let name = lower(body, length, scratch)?;
        let qtype = u16::from_be_bytes([t0, t1]);
        Some(Self { id: [i0, i1], copied: flags & flag::RD, question, name, qtype, edns })
    }
}

/// Copies the name at the start of `bytes`, in lower case.
#[inline]
fn lower<'s>(bytes: &[u8], length: usize, scratch: &'s mut NameScratch) -> Option<&'s [u8]> {
    // Whole chunks, which may reach past the name, take fewer instructions than single bytes.
    let chunks = length.div_ceil(LOWERED_AT_ONCE);
    let (from, _) = bytes.as_chunks::<LOWERED_AT_ONCE>();
    let (to, _) = scratch.as_chunks_mut::<LOWERED_AT_ONCE>();
    match (to.get_mut(..chunks), from.get(..chunks)) {
        (Some(to), Some(from)) => {
            for (to, from) in to.iter_mut().zip(from) {
                let mut chunk = *from;
                chunk.make_ascii_lowercase();
                *to = chunk;
            }
        }
        // The message ends before the last chunk: there is no OPT record.
        _ => lower_bytes(bytes.get(..length)?, scratch.get_mut(..length)?),
    }
    scratch.get(..length)
}

/// Copies a name in lower case, byte by byte.
#[inline(never)]
fn lower_bytes(from: &[u8], to: &mut [u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.to_ascii_lowercase();
    }
}
