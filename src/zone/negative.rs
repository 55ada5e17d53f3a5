//! The SOA record of negative answers, written out once for every name of a zone.
//!
//! Its compression pointers lead into the question, which ends with the apex, or into the record itself. Both
//! move by the same distance when the question grows by the labels before the apex, so one form serves all names.

use crate::name;

/// The length of a message header: the offset of the question.
const HEADER: usize = 12;
/// The type and class after the name of a question.
const TYPE_AND_CLASS: usize = 4;
/// The numbers at the end of SOA data (RFC 1035, section 3.3.13).
const SOA_NUMBERS: usize = 20;

/// A SOA record directly after a question for the apex.
#[derive(Debug)]
pub struct Negative {
    bytes: Box<[u8]>,
    /// Offsets of compression pointers in `bytes`.
    pointers: Box<[u16]>,
    apex_length: usize,
}

impl Negative {
    /// Writes the record out. `None` if `soa` is no SOA data.
    pub(super) fn new(apex: &[u8], soa: &[u8], ttl: u32) -> Option<Self> {
        let (mname, rest) = soa.split_at_checked(name::wire_length(soa)?)?;
        let (rname, numbers) = rest.split_at_checked(name::wire_length(rest)?)?;
        let mut record = Compressed::after(apex);
        record.name(apex)?;
        record.bytes.extend([0, 6, 0, 1]);
        record.bytes.extend(ttl.to_be_bytes());
        let length_at = record.bytes.len();
        record.bytes.extend([0, 0]);
        record.name(mname)?;
        record.name(rname)?;
        record.bytes.extend(numbers.get(..SOA_NUMBERS)?);
        let length = u16::try_from(record.bytes.len() - length_at - 2).ok()?;
        record.bytes.get_mut(length_at..length_at + 2)?.copy_from_slice(&length.to_be_bytes());
        let (bytes, pointers) = (record.bytes.into_boxed_slice(), record.pointers.into_boxed_slice());
        Some(Self { bytes, pointers, apex_length: apex.len() })
    }

    /// The length of the record, bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Writes the record to the start of `room`, directly after a question whose name has `name_length` bytes
    /// and ends with the apex. `None` if there is no room.
    #[must_use]
    pub fn write(&self, room: &mut [u8], name_length: usize) -> Option<()> {
        let record = room.get_mut(..self.bytes.len())?;
        record.copy_from_slice(&self.bytes);
        let moved = u16::try_from(name_length.checked_sub(self.apex_length)?).ok()?;
        for &at in &self.pointers {
            let pointer = record.get_mut(usize::from(at)..)?.first_chunk_mut::<2>()?;
            *pointer = (u16::from_be_bytes(*pointer) + moved).to_be_bytes();
        }
        Some(())
    }
}

/// A record under construction, whose names point to earlier ones (RFC 1035, section 4.1.4).
struct Compressed<'n> {
    bytes: Vec<u8>,
    pointers: Vec<u16>,
    /// Names that may be pointed to, and their offsets in the message.
    known: Vec<(&'n [u8], u16)>,
    /// The offset of the record in the message.
    start: usize,
}

impl<'n> Compressed<'n> {
    fn after(apex: &'n [u8]) -> Self {
        let start = HEADER + apex.len() + TYPE_AND_CLASS;
        let mut record = Self { bytes: Vec::new(), pointers: Vec::new(), known: Vec::new(), start };
        let mut rest = apex;
        while let Some((&length, _)) = rest.split_first().filter(|(length, _)| **length > 0) {
            let at = HEADER + apex.len() - rest.len();
            record.known.extend(u16::try_from(at).ok().map(|at| (rest, at)));
            rest = rest.get(usize::from(length) + 1..).unwrap_or(&[]);
        }
        record
    }

    fn name(&mut self, name: &'n [u8]) -> Option<()> {
        let mut rest = name;
        loop {
            let (&length, _) = rest.split_first()?;
            if length == 0 {
                self.bytes.push(0);
                return Some(());
            }
            let known = self.known.iter().find(|(known, _)| known.eq_ignore_ascii_case(rest));
            if let Some(&(_, at)) = known {
                self.pointers.push(u16::try_from(self.bytes.len()).ok()?);
                self.bytes.extend((0xc000 | at).to_be_bytes());
                return Some(());
            }
            self.known.push((rest, u16::try_from(self.start + self.bytes.len()).ok()?));
            let (label, after) = rest.split_at_checked(usize::from(length) + 1)?;
            self.bytes.extend(label);
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            negative.write(&mut message[start..], name.len()).unwrap();
            let owner = 0xc000 | u16::try_from(HEADER + prefix.len()).unwrap();
            assert_eq!(message[start..start + 2], owner.to_be_bytes());
            let mname = start + 12;
            assert_eq!(&message[mname..mname + 9], b"\x03ns1\x03net\x00");
            let net = 0xc000 | u16::try_from(mname + 4).unwrap();
            assert_eq!(&message[mname + 9..mname + 14], b"\x04host");
            assert_eq!(message[mname + 14..mname + 16], net.to_be_bytes());
            assert_eq!(message[mname + 16..], NUMBERS);
        }
        assert!(negative.write(&mut vec![0; negative.length() - 1], apex.len()).is_none());
    }

    #[test]
    fn the_root_zone_has_no_pointer_to_its_apex() {
        let data = soa(b"\x01a\x03net\x00", b"\x03net\x00");
        let negative = Negative::new(&[0], &data, 1).unwrap();
        let mut record = vec![0; negative.length()];
        negative.write(&mut record, 5).unwrap();
        assert_eq!(record[..5], [0, 0, 6, 0, 1]);
        assert_eq!(record[11..17], *b"\x01a\x03net");
    }

    #[test]
    fn other_data_makes_none() {
        assert!(Negative::new(&[0], b"\x01a", 1).is_none());
        assert!(Negative::new(&[0], b"\x01a\x00\x01b\x00", 1).is_none());
    }
}
