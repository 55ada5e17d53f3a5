//! Parses a resource record of a message. Other modules parse the data of their types.

use super::HEADER;
use crate::name;
use crate::zone::rtype;

/// A resource record of a query.
#[derive(Clone, Copy, Debug)]
pub struct Record<'q> {
    /// Whether the owner is the root name, uncompressed.
    pub at_root: bool,
    /// The type.
    pub rtype: u16,
    /// The class, or the payload size of EDNS.
    pub class: u16,
    /// The TTL, or the extended code, version and flags of EDNS.
    pub ttl: u32,
    /// The data of the record.
    pub data: &'q [u8],
}

impl<'q> Record<'q> {
    /// Reads the record at the start of `rest`, which is a tail of `message`. Returns it and the
    /// bytes after it; `None` if it is not whole.
    #[must_use]
    pub fn read(message: &'q [u8], rest: &'q [u8]) -> Option<(Self, &'q [u8])> {
        let after_name = skip_name(message, rest)?;
        let (&[t0, t1, c0, c1, l0, l1, l2, l3, d0, d1], after) = after_name.split_first_chunk::<10>()?;
        let (data, after) = after.split_at_checked(usize::from(u16::from_be_bytes([d0, d1])))?;
        let record = Self {
            at_root: rest.first() == Some(&0),
            rtype: u16::from_be_bytes([t0, t1]),
            class: u16::from_be_bytes([c0, c1]),
            ttl: u32::from_be_bytes([l0, l1, l2, l3]),
            data,
        };
        Some((record, after))
    }

    /// The serial, if this is an SOA record. It is read from the end, where five numbers follow the
    /// two names, because the names may be compressed.
    pub(super) fn soa_serial(&self) -> Option<u32> {
        let (names, numbers) = self.data.split_last_chunk::<20>()?;
        let (serial, _) = numbers.split_first_chunk::<4>()?;
        (self.rtype == rtype::SOA && names.len() >= 2).then(|| u32::from_be_bytes(*serial))
    }
}

/// Skips the name at the start of `rest` and returns the bytes after it. A compression pointer ends
/// the name. It must point backwards, and is not followed.
pub(super) fn skip_name<'q>(message: &'q [u8], rest: &'q [u8]) -> Option<&'q [u8]> {
    let here = message.len() - rest.len();
    let mut at = 0;
    loop {
        let length = usize::from(*rest.get(at)?);
        match length {
            0 => return rest.get(at + 1..),
            1..=name::MAX_LABEL => at += 1 + length,
            0xc0.. => {
                let target = (length & 0x3f) << 8 | usize::from(*rest.get(at + 1)?);
                return if (HEADER..here).contains(&target) { rest.get(at + 2..) } else { None };
            }
            _ => return None,
        }
        if at >= name::MAX_NAME {
            return None;
        }
    }
}
