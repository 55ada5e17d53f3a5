//! Writes replies: records into a bounded buffer, with compressed names.

use super::{HEADER, class};
use crate::name;
use crate::zone::{Rrset, rtype};

/// The number of label offsets that compression remembers. Later names are written in full.
const REMEMBERED: usize = 48;
/// The highest offset for compression pointers, which have 14 bits (RFC 1035, section 4.1.4).
const POINTER_REACH: usize = 0x3fff;

/// The longest chain of pointers that a reader must follow for one name. Some readers, such as Go's
/// standard library, give up after 10.
const MOST_POINTERS: usize = 10;

/// The message has no room for the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The section of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Answer.
    Answer,
    /// Authority.
    Authority,
    /// Additional.
    Additional,
}

/// A state of the message that can be restored.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    length: usize,
    counts: [u16; 3],
    remembered: usize,
}

/// A reply under construction. The header is written last.
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    length: usize,
    /// The end of the room for records. The room reserved for OPT and TSIG follows it.
    limit: usize,
    counts: [u16; 3],
    question: bool,
    /// The offset of the answer section.
    answers: usize,
    /// Offsets of labels that names may point to.
    places: [u16; REMEMBERED],
    remembered: usize,
}

impl<'b> Writer<'b> {
    /// Starts a message of at most `limit` bytes in `buffer`.
    pub fn new(buffer: &'b mut [u8], limit: usize) -> Self {
        let limit = limit.min(buffer.len());
        Self {
            buffer,
            length: HEADER.min(limit),
            limit,
            counts: [0; 3],
            question: false,
            answers: HEADER,
            places: [0; REMEMBERED],
            remembered: 0,
        }
    }

    /// Limits the length of the whole message, before anything is reserved. Returns the limit, at
    /// most the length of the buffer.
    pub fn limit_to(&mut self, limit: usize) -> usize {
        self.limit = limit.min(self.buffer.len());
        self.limit
    }

    /// Reserves up to `bytes` of the free room, for [`Writer::reserved`].
    pub fn reserve(&mut self, bytes: usize) {
        self.limit -= bytes.min(self.room());
    }

    /// Writes a record into its reserved room.
    ///
    /// # Errors
    /// If too little was reserved.
    pub fn reserved(&mut self, record: &[u8]) -> Result<(), Full> {
        self.reserved_room(record.len())?.copy_from_slice(record);
        Ok(())
    }

    /// The reserved room for a record, which the caller fills.
    ///
    /// # Errors
    /// If less was reserved.
    pub fn reserved_room(&mut self, length: usize) -> Result<&mut [u8], Full> {
        self.limit = (self.limit + length).min(self.buffer.len());
        let (start, end) = (self.length, self.length + length);
        if end > self.limit {
            return Err(Full);
        }
        self.length = end;
        self.count(Section::Additional);
        self.buffer.get_mut(start..end).ok_or(Full)
    }

    /// Copies the question. Most other names then point to its name.
    ///
    /// # Errors
    /// If there is no room.
    pub fn question(&mut self, question: &[u8]) -> Result<(), Full> {
        let start = self.length;
        self.question_apart(question)?;
        self.remember_labels(start);
        Ok(())
    }

    /// Copies the question, but no name will point to it. So no record takes on the case of the
    /// question, which a secondary would keep (RFC 5936, section 3.4).
    ///
    /// # Errors
    /// If there is no room.
    pub fn question_apart(&mut self, question: &[u8]) -> Result<(), Full> {
        self.bytes(question)?;
        self.question = true;
        self.answers = self.length;
        Ok(())
    }

    /// The current state, for [`Writer::rewind`].
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { length: self.length, counts: self.counts, remembered: self.remembered }
    }

    /// Drops everything written since the mark.
    pub fn rewind(&mut self, mark: Mark) {
        self.length = mark.length;
        self.counts = mark.counts;
        self.remembered = mark.remembered;
    }

    /// Whether the answer has a record of this owner and type. Only valid before other sections are
    /// written.
    #[must_use]
    pub fn has_answer(&self, owner: &[u8], rtype: u16) -> bool {
        let mut at = self.answers;
        while at < self.length {
            let Some(after_name) = self.after_name(at) else { return false };
            let Some(&[t0, t1, _, _, _, _, _, _, d0, d1]) =
                self.buffer.get(after_name..after_name + 10).and_then(<[u8]>::first_chunk)
            else {
                return false;
            };
            if u16::from_be_bytes([t0, t1]) == rtype && self.stands_at(at, owner).is_some() {
                return true;
            }
            at = after_name + 10 + usize::from(u16::from_be_bytes([d0, d1]));
        }
        false
    }

    /// The end of the name at `at`, which this writer wrote.
    fn after_name(&self, mut at: usize) -> Option<usize> {
        loop {
            match *self.buffer.get(at)? {
                0 => return Some(at + 1),
                0xc0.. => return Some(at + 2),
                length => at += 1 + usize::from(length),
            }
        }
    }

    /// Writes all records of an RRset.
    ///
    /// # Errors
    /// If there is no room. A part may have been written: rewind to a mark.
    pub fn rrset(&mut self, section: Section, owner: &[u8], rrset: Rrset<'_>, ttl: u32) -> Result<(), Full> {
        for data in rrset.records() {
            self.record(section, owner, rrset.rtype, ttl, data)?;
        }
        Ok(())
    }

    /// Writes one record. `data` has uncompressed names; those that every reader can decompress are
    /// compressed.
    ///
    /// # Errors
    /// As [`Writer::rrset`].
    pub fn record(
        &mut self,
        section: Section,
        owner: &[u8],
        rtype: u16,
        ttl: u32,
        data: &[u8],
    ) -> Result<(), Full> {
        let at = self.record_head(section, owner, rtype, class::IN, ttl)?;
        let mut rest = data;
        for &part in compressible(rtype) {
            let length = match part {
                DataPart::Name => name::wire_length(rest),
                DataPart::Bytes(length) => Some(length),
            };
            let Some((bytes, after)) = length.and_then(|length| rest.split_at_checked(length)) else {
                break;
            };
            match part {
                DataPart::Name => self.name(bytes)?,
                DataPart::Bytes(_) => self.bytes(bytes)?,
            }
            rest = after;
        }
        self.bytes(rest)?;
        self.close_record(at)
    }

    /// Writes one TXT record of class CH.
    ///
    /// # Errors
    /// As [`Writer::rrset`].
    pub fn chaos_text(&mut self, owner: &[u8], text: &[u8]) -> Result<(), Full> {
        let at = self.record_head(Section::Answer, owner, rtype::TXT, class::CH, 0)?;
        self.bytes(&[u8::try_from(text.len()).map_err(|_| Full)?])?;
        self.bytes(text)?;
        self.close_record(at)
    }

    /// The free room in bytes, without the reserved room.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.length)
    }

    /// Completes the message by writing the header. Returns the length.
    #[must_use]
    pub fn finish(self, id: u16, flags: u16) -> usize {
        let [answers, authorities, additionals] = self.counts;
        let fields = [id, flags, u16::from(self.question), answers, authorities, additionals];
        for (slot, field) in self.buffer.chunks_exact_mut(2).zip(fields) {
            slot.copy_from_slice(&field.to_be_bytes());
        }
        self.length
    }

    fn record_head(
        &mut self,
        section: Section,
        owner: &[u8],
        rtype: u16,
        class: u16,
        ttl: u32,
    ) -> Result<usize, Full> {
        self.name(owner)?;
        let [t0, t1] = rtype.to_be_bytes();
        let [c0, c1] = class.to_be_bytes();
        let [l0, l1, l2, l3] = ttl.to_be_bytes();
        self.bytes(&[t0, t1, c0, c1, l0, l1, l2, l3, 0, 0])?;
        self.count(section);
        Ok(self.length)
    }

    /// Fills in the length of the record data that started at `start`.
    fn close_record(&mut self, start: usize) -> Result<(), Full> {
        let length = u16::try_from(self.length - start).map_err(|_| Full)?;
        let slot = self.buffer.get_mut(start - 2..start).ok_or(Full)?;
        slot.copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn count(&mut self, section: Section) {
        let index = match section {
            Section::Answer => 0,
            Section::Authority => 1,
            Section::Additional => 2,
        };
        if let Some(count) = self.counts.get_mut(index) {
            *count = count.saturating_add(1);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.length + bytes.len();
        if end > self.limit {
            return Err(Full);
        }
        self.buffer.get_mut(self.length..end).ok_or(Full)?.copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }

    /// Writes a name, compressed as far as possible (RFC 1035, section 4.1.4). Names are compared
    /// without case. A compressed name takes the case of the earlier one.
    fn name(&mut self, wire: &[u8]) -> Result<(), Full> {
        let start = self.length;
        let mut rest = wire;
        while let Some((&length, after)) = rest.split_first() {
            if length == 0 {
                self.bytes(&[0])?;
                break;
            }
            if let Some(place) = self.place_of(rest) {
                self.bytes(&(0xc000 | place).to_be_bytes())?;
                break;
            }
            let label = after.get(..usize::from(length)).ok_or(Full)?;
            self.bytes(&[length])?;
            self.bytes(label)?;
            rest = after.get(usize::from(length)..).ok_or(Full)?;
        }
        self.remember_labels(start);
        Ok(())
    }

    /// The offset of an earlier name that equals `wire` and may be the target of a pointer.
    fn place_of(&self, wire: &[u8]) -> Option<u16> {
        let places = self.places.get(..self.remembered)?;
        let may_be_pointed_at =
            |place: u16| self.stands_at(place.into(), wire).is_some_and(|pointers| pointers < MOST_POINTERS);
        places.iter().copied().find(|&place| may_be_pointed_at(place))
    }

    /// The number of pointers in the name at `at`, if it equals `wire`.
    fn stands_at(&self, mut at: usize, mut wire: &[u8]) -> Option<usize> {
        let mut pointers = 0;
        loop {
            let &length = self.buffer.get(at)?;
            if length >= 0xc0 {
                let &low = self.buffer.get(at + 1)?;
                // This writer wrote the pointer, and always backwards.
                at = usize::from(length & 0x3f) << 8 | usize::from(low);
                pointers += 1;
                continue;
            }
            if wire.first() != Some(&length) {
                return None;
            }
            if length == 0 {
                return Some(pointers);
            }
            let size = 1 + usize::from(length);
            match (self.buffer.get(at..at + size), wire.get(..size)) {
                (Some(written), Some(wanted)) if written.eq_ignore_ascii_case(wanted) => {}
                _ => return None,
            }
            at += size;
            wire = wire.get(size..).unwrap_or(&[]);
        }
    }

    /// Remembers the labels written since `start`, up to a pointer or the root.
    fn remember_labels(&mut self, start: usize) {
        let mut at = start;
        while at <= POINTER_REACH && at < self.length {
            let Some(&length) = self.buffer.get(at) else { return };
            if length == 0 || length >= 0xc0 {
                return;
            }
            let (Some(slot), Ok(place)) = (self.places.get_mut(self.remembered), u16::try_from(at)) else {
                return;
            };
            *slot = place;
            self.remembered += 1;
            at += 1 + usize::from(length);
        }
    }
}

#[derive(Clone, Copy)]
enum DataPart {
    Name,
    Bytes(usize),
}

/// The leading parts of record data up to the last compressible name. Only types of RFC 1035 have
/// compressible names (RFC 3597, section 4).
fn compressible(rtype: u16) -> &'static [DataPart] {
    match rtype {
        rtype::NS | rtype::CNAME | rtype::PTR => &[DataPart::Name],
        rtype::SOA => &[DataPart::Name, DataPart::Name],
        rtype::MX => &[DataPart::Bytes(2), DataPart::Name],
        _ => &[],
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn names_point_at_earlier_ones_in_any_case() {
        let mut buffer = [0; 512];
        let mut writer = Writer::new(&mut buffer, 512);
        writer.question(b"\x03WwW\x07Example\x00\x00\x01\x00\x01").unwrap();
        let (www, mail) = (b"\x03www\x07example\x00", b"\x04mail\x07example\x00");
        writer.record(Section::Answer, www, 1, 60, &[192, 0, 2, 1]).unwrap();
        writer.record(Section::Answer, mail, 5, 60, www).unwrap();
        writer.record(Section::Authority, mail, 2, 60, mail).unwrap();
        writer.record(Section::Additional, &[0], 2, 60, &[0]).unwrap();
        let length = writer.finish(7, 0x8400);
        let mut expected = vec![0, 7, 0x84, 0, 0, 1, 0, 2, 0, 1, 0, 1];
        expected.extend(b"\x03WwW\x07Example\x00\x00\x01\x00\x01");
        expected.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01");
        expected.extend(b"\x04mail\xc0\x10\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x02\xc0\x0c");
        expected.extend(b"\xc0\x2d\x00\x02\x00\x01\x00\x00\x00\x3c\x00\x02\xc0\x2d");
        expected.extend(b"\x00\x00\x02\x00\x01\x00\x00\x00\x3c\x00\x01\x00");
        assert_eq!(&buffer[..length], expected);
    }

    /// Each name extends the previous one by a label, so each could point to a pointer.
    #[test]
    fn no_name_takes_more_pointers_than_readers_follow() {
        let name = |labels: usize| [b"\x01x".repeat(labels), b"\x07example\x00".to_vec()].concat();
        let mut buffer = [0; 4096];
        let mut writer = Writer::new(&mut buffer, 4096);
        writer.question(&[name(1), b"\x00\x01\x00\x01".to_vec()].concat()).unwrap();
        let mut most = 0;
        for labels in 1..40 {
            let at = writer.length;
            writer.record(Section::Answer, &name(labels), 5, 60, &name(labels + 1)).unwrap();
            let pointers = writer.stands_at(at, &name(labels)).expect("the owner");
            let target = writer.after_name(at).unwrap() + 10;
            most = most.max(pointers).max(writer.stands_at(target, &name(labels + 1)).expect("the target"));
        }
        assert_eq!(most, 10);
        assert!(writer.length < 3000, "names are still compressed: {} bytes", writer.length);
    }

    #[test]
    fn nothing_is_written_past_the_limit_and_what_is_kept_back_fits() {
        for limit in 12..120 {
            let mut buffer = [0xee; 512];
            let mut writer = Writer::new(&mut buffer, limit);
            if writer.question(b"\x01a\x00\x00\x01\x00\x01").is_err() {
                continue;
            }
            let room = limit - 19;
            writer.reserve(room.min(11));
            let start = writer.mark();
            let mut written = 0;
            while writer.record(Section::Answer, b"\x01a\x00", 1, 1, &[1, 2, 3, 4]).is_ok() {
                written += 1;
            }
            assert_eq!(written, (room - room.min(11)) / 16);
            writer.rewind(start);
            writer.reserved(&[9; 11][..room.min(11)]).unwrap();
            assert_eq!(writer.finish(0, 0), 19 + room.min(11));
            assert!(buffer[limit..].iter().all(|&byte| byte == 0xee));
        }
    }
}
