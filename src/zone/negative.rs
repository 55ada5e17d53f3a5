//! The SOA record of negative answers, encoded once for all names of a zone.
//!
//! Its compression pointers refer to the question, which ends with the apex, or to the record itself. The labels
//! before the apex move both by the same distance, so one encoding serves all names.

use super::compressed::Compressed;
use super::rtype;
use crate::name;

/// The length of the five numbers at the end of SOA data (RFC 1035, section 3.3.13).
const SOA_NUMBERS: usize = 20;
/// The offset of the TTL from the end of the owner: type and class come first.
const TTL_AFTER_OWNER: usize = 4;

/// An SOA record that follows a question for the apex.
#[derive(Debug)]
pub struct Negative {
    bytes: Box<[u8]>,
    /// The offsets of the compression pointers in `bytes`.
    pointers: Box<[u16]>,
    apex_length: usize,
    ttl: u32,
    /// The offset of the TTL in `bytes`.
    ttl_at: usize,
}

impl Negative {
    /// Encodes the record. `None` if `soa` is not valid SOA data.
    pub(super) fn new(apex: &[u8], soa: &[u8], ttl: u32) -> Option<Self> {
        let mut record = Compressed::after(apex);
        record.record(apex, (rtype::SOA, ttl), soa, (0, 2))?;
        let mname = name::wire_length(soa)?;
        let rname = name::wire_length(soa.get(mname..)?)?;
        // The root name is written in full, any other name as a pointer.
        let ttl_at = apex.len().min(2) + TTL_AFTER_OWNER;
        let (bytes, pointers) = (record.bytes.into_boxed_slice(), record.pointers.into_boxed_slice());
        (soa.len() == mname + rname + SOA_NUMBERS).then_some(Self {
            bytes,
            pointers,
            apex_length: apex.len(),
            ttl,
            ttl_at,
        })
    }

    /// The length of the record, bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Writes the record to the start of `room`, which follows a question whose name has `name_length` bytes and
    /// ends with the apex. The TTL is at most `longest` seconds. `None` if `room` is too small.
    #[must_use]
    pub fn write(&self, room: &mut [u8], name_length: usize, longest: Option<u32>) -> Option<()> {
        let record = room.get_mut(..self.bytes.len())?;
        record.copy_from_slice(&self.bytes);
        if let Some(ttl) = longest.filter(|longest| *longest < self.ttl) {
            *record.get_mut(self.ttl_at..)?.first_chunk_mut()? = ttl.to_be_bytes();
        }
        let moved = u16::try_from(name_length.checked_sub(self.apex_length)?).ok()?;
        for &at in &self.pointers {
            let pointer = record.get_mut(usize::from(at)..)?.first_chunk_mut::<2>()?;
            *pointer = (u16::from_be_bytes(*pointer) + moved).to_be_bytes();
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::compressed::HEADER;

    const NUMBERS: [u8; SOA_NUMBERS] = [7; SOA_NUMBERS];

    fn soa(mname: &[u8], rname: &[u8]) -> Vec<u8> {
        [mname, rname, &NUMBERS[..]].concat()
    }

    #[test]
    fn pointers_lead_into_the_question_and_the_record_whatever_the_name() {
        let apex = b"\x03lb\x2d\x07example\x00";
        let data = soa(b"\x03ns1\x03net\x00", b"\x04host\x03net\x00");
        let negative = Negative::new(apex, &data, 30).unwrap();
        for prefix in [&b""[..], b"\x03www", b"\x01a\x01b"] {
            let name = [prefix, apex].concat();
            let mut message = vec![0; HEADER];
            message.extend([&name[..], &[0, 1, 0, 1]].concat());
            let start = message.len();
            message.resize(start + negative.length(), 0);
            negative.write(&mut message[start..], name.len(), None).unwrap();
            let owner = 0xc000 | u16::try_from(HEADER + prefix.len()).unwrap();
            assert_eq!(message[start..start + 2], owner.to_be_bytes());
            let mname = start + 12;
            assert_eq!(&message[mname..mname + 9], b"\x03ns1\x03net\x00");
            let net = 0xc000 | u16::try_from(mname + 4).unwrap();
            assert_eq!(&message[mname + 9..mname + 14], b"\x04host");
            assert_eq!(message[mname + 14..mname + 16], net.to_be_bytes());
            assert_eq!(message[mname + 16..], NUMBERS);
        }
        assert!(negative.write(&mut vec![0; negative.length() - 1], apex.len(), None).is_none());
    }

    #[test]
    fn the_root_zone_has_no_pointer_to_its_apex() {
        let data = soa(b"\x01a\x03net\x00", b"\x03net\x00");
        let negative = Negative::new(&[0], &data, 1).unwrap();
        let mut record = vec![0; negative.length()];
        negative.write(&mut record, 5, Some(0)).unwrap();
        assert_eq!(record[5..9], [0, 0, 0, 0], "the TTL is at most the longest");
        negative.write(&mut record, 5, Some(2)).unwrap();
        assert_eq!(record[..9], [0, 0, 6, 0, 1, 0, 0, 0, 1]);
        assert_eq!(record[11..17], *b"\x01a\x03net");
    }

    #[test]
    fn other_data_makes_none() {
        assert!(Negative::new(&[0], b"\x01a", 1).is_none());
        assert!(Negative::new(&[0], b"\x01a\x00\x01b\x00", 1).is_none());
    }
}
