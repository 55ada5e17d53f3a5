//! Large replies that wait until their readers have read them.
//!
//! The status of 100,000 backends is 120 MB of text. It is stored once for all readers, compressed in
//! blocks, so a client that does not read costs one block. The content of texts does not matter here.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Bytes, Frame, SizeHint};
use lz4_flex::block::{compress_prepend_size, decompress_size_prepended};

/// Size of a block before compression, bytes. A connection holds one uncompressed block.
const BLOCK: usize = 32 * 1024;
/// Target for the memory of all compressed texts together, bytes. Above it, slow readers are
/// disconnected earlier, and no text with the checker's state is started.
pub(super) const MOST_HELD: usize = 32 << 20;

/// Total memory of all compressed texts.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Arc<AtomicUsize>);

impl Held {
    /// Whether it is above the target.
    pub(super) fn is_too_much(&self) -> bool {
        self.is_above(MOST_HELD)
    }

    pub(super) fn is_above(&self, bytes: usize) -> bool {
        self.0.load(Ordering::Relaxed) > bytes
    }
}

/// A text that any number of readers share.
#[derive(Debug)]
pub(super) struct Text {
    blocks: Vec<Box<[u8]>>,
    /// Uncompressed length, bytes.
    length: u64,
    /// The compressed length, bytes.
    packed: usize,
    held: Held,
}

impl Drop for Text {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.packed, Ordering::Relaxed);
    }
}

/// Collects written bytes in a text.
pub(super) struct TextWriter<'a> {
    text: Text,
    plain: Vec<u8>,
    is_wanted: &'a dyn Fn() -> bool,
}

impl<'a> TextWriter<'a> {
    /// Creates a writer. Writes fail as soon as the text is no longer wanted.
    pub(super) fn new(held: &Held, is_wanted: &'a dyn Fn() -> bool) -> Self {
        let text = Text { blocks: Vec::new(), length: 0, packed: 0, held: held.clone() };
        Self { text, plain: Vec::with_capacity(BLOCK), is_wanted }
    }

    pub(super) fn finish(mut self) -> Arc<Text> {
        self.pack();
        self.text.blocks.shrink_to_fit();
        Arc::new(self.text)
    }

    fn pack(&mut self) {
        if self.plain.is_empty() {
            return;
        }
        let block = compress_prepend_size(&self.plain).into_boxed_slice();
        let Text { blocks, length, packed, held } = &mut self.text;
        *length += self.plain.len() as u64;
        *packed += block.len();
        held.0.fetch_add(block.len(), Ordering::Relaxed);
        blocks.push(block);
        self.plain.clear();
    }
}

impl Write for TextWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK - self.plain.len());
        self.plain.extend(bytes.iter().take(count));
        if self.plain.len() == BLOCK {
            self.pack();
            if !(self.is_wanted)() {
                return Err(io::Error::other("nobody waits for the text any more"));
            }
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Several texts in sequence, as the body of a reply.
#[derive(Debug)]
pub(super) struct TextBody {
    texts: std::vec::IntoIter<Arc<Text>>,
    /// The current text and the index of its next block.
    now: Option<(Arc<Text>, usize)>,
    left: u64,
}

impl TextBody {
    pub(super) fn new(texts: Vec<Arc<Text>>) -> Self {
        let left = texts.iter().map(|text| text.length).sum();
        Self { texts: texts.into_iter(), now: None, left }
    }

    fn next_block(&mut self) -> Option<io::Result<Vec<u8>>> {
        loop {
            if let Some((text, next)) = &mut self.now
                && let Some(block) = text.blocks.get(*next)
            {
                *next += 1;
                // This fails only if memory is corrupted.
                return Some(decompress_size_prepended(block).map_err(io::Error::other));
            }
            self.now = Some((self.texts.next()?, 0));
        }
    }
}

impl hyper::body::Body for TextBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let block = self.next_block();
        if let Some(Ok(block)) = &block {
            self.left = self.left.saturating_sub(block.len() as u64);
        }
        Poll::Ready(block.map(|block| block.map(|block| Frame::data(block.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(held: &Held, bytes: &[u8]) -> Arc<Text> {
        let mut writer = TextWriter::new(held, &|| true);
        writer.write_all(bytes).unwrap();
        writer.finish()
    }

    #[test]
    fn what_is_written_is_read_and_is_held_no_longer_than_it_is_read() {
        let held = Held::default();
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 7] {
            let plain: Vec<u8> = (0..=250).cycle().take(length).collect();
            let text = written(&held, &plain);
            let mut body = TextBody::new(vec![written(&held, b"head "), Arc::clone(&text), text]);
            assert_eq!(body.left, 5 + 2 * length as u64);
            let mut read = Vec::new();
            while let Some(block) = body.next_block() {
                let block = block.unwrap();
                assert!(block.len() <= BLOCK && !block.is_empty());
                read.extend(block);
            }
            assert!(read == [b"head ", &*plain, &*plain].concat(), "{length}");
            assert!(length == 0 || held.0.load(Ordering::Relaxed) > 0);
            drop(body);
            assert_eq!(held.0.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn a_text_that_nobody_wants_is_not_written_to_its_end() {
        let held = Held::default();
        let mut writer = TextWriter::new(&held, &|| false);
        assert!(writer.write_all(&vec![0; 2 * BLOCK]).is_err());
        drop(writer);
        assert_eq!(held.0.load(Ordering::Relaxed), 0);
    }
}
