//! Encodes records with compressed names (RFC 1035, section 4.1.4), for answers that are prepared in advance.

use crate::name;

/// The length of a message header, and so the offset of the question.
pub(super) const HEADER: usize = 12;
/// The length of the type and class in a question.
const TYPE_AND_CLASS: usize = 4;
/// The highest offset for pointers, which have 14 bits.
const POINTER_REACH: u16 = 0x3fff;
/// The most pointers in one name: readers follow a limited number.
const MOST_POINTERS: u8 = 8;

/// Records under construction; their names can point to earlier ones.
pub(super) struct Compressed<'n> {
    pub(super) bytes: Vec<u8>,
    /// The offsets of compression pointers in `bytes`.
    pub(super) pointers: Vec<u16>,
    known: Vec<EarlierName<'n>>,
    /// The offset of the first record in the message.
    start: usize,
}

/// A name to which a pointer may refer.
struct EarlierName<'n> {
    name: &'n [u8],
    /// Its offset in the message.
    at: u16,
    /// The number of pointers in it.
    pointers: u8,
}

impl<'n> Compressed<'n> {
    /// Starts directly after a question for this name.
    pub(super) fn after(question: &'n [u8]) -> Self {
        let start = HEADER + question.len() + TYPE_AND_CLASS;
        let mut known = Vec::new();
        let mut rest = question;
        while let Some((&length, _)) = rest.split_first().filter(|(length, _)| **length > 0) {
            let at = HEADER + question.len() - rest.len();
            known.extend(u16::try_from(at).ok().map(|at| EarlierName { name: rest, at, pointers: 0 }));
            rest = rest.get(usize::from(length) + 1..).unwrap_or(&[]);
        }
        Self { bytes: Vec::new(), pointers: Vec::new(), known, start }
    }

    /// Writes a record of class IN. Its data consists of `before` bytes, then `names` names, which are compressed.
    /// `None` if the data is different.
    pub(super) fn record(
        &mut self,
        owner: &'n [u8],
        (rtype, ttl): (u16, u32),
        data: &'n [u8],
        (before, names): (usize, usize),
    ) -> Option<()> {
        self.name(owner)?;
        self.bytes.extend(rtype.to_be_bytes());
        self.bytes.extend([0, 1]);
        self.bytes.extend(ttl.to_be_bytes());
        let length_at = self.bytes.len();
        self.bytes.extend([0, 0]);
        let (first, mut rest) = data.split_at_checked(before)?;
        self.bytes.extend(first);
        for _ in 0..names {
            let (name, after) = rest.split_at_checked(name::wire_length(rest)?)?;
            self.name(name)?;
            rest = after;
        }
        self.bytes.extend(rest);
        let length = u16::try_from(self.bytes.len() - length_at - 2).ok()?;
        self.bytes.get_mut(length_at..length_at + 2)?.copy_from_slice(&length.to_be_bytes());
        Some(())
    }

    fn name(&mut self, name: &'n [u8]) -> Option<()> {
        let first = self.known.len();
        let mut rest = name;
        let pointers = loop {
            let (&length, _) = rest.split_first()?;
            if length == 0 {
                self.bytes.push(0);
                break 0;
            }
            let earlier = self
                .known
                .get(..first)?
                .iter()
                .find(|known| known.pointers < MOST_POINTERS && known.name.eq_ignore_ascii_case(rest));
            if let Some(&EarlierName { at, pointers, .. }) = earlier {
                self.pointers.push(u16::try_from(self.bytes.len()).ok()?);
                self.bytes.extend((0xc000 | at).to_be_bytes());
                break pointers + 1;
            }
            let at = u16::try_from(self.start + self.bytes.len()).ok().filter(|at| *at <= POINTER_REACH);
            self.known.extend(at.map(|at| EarlierName { name: rest, at, pointers: 0 }));
            let (label, after) = rest.split_at_checked(usize::from(length) + 1)?;
            self.bytes.extend(label);
            rest = after;
        };
        self.known.iter_mut().skip(first).for_each(|known| known.pointers = pointers);
        Some(())
    }
}
