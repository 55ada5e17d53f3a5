//! A connection that brings so many bytes and no more, and is not read too often.
//!
//! The bytes are counted here for protocols whose library reads by itself: HTTP/2 frames and TLS records
//! can go on for ever with nothing in them.
//!
//! All probes share one thread, and each byte that comes alone wakes it. So a connection has
//! [`FREE_READS`] small reads, and from there on a pause after each. Bytes that come meanwhile are read
//! together, so a good backend is read at most one pause later.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How many small reads are followed by no pause.
const FREE_READS: u8 = 32;

/// A read of fewer bytes is a small one.
const SMALL_READ: usize = 1024;

/// The pause after a small read.
const PAUSE: Duration = Duration::from_millis(20);

/// The most bytes of a status line with its headers, 64 KiB. More than 100 headers are refused as well.
pub(super) const HEADER_LIMIT: usize = 64 * 1024;

/// The kind of error that says so. Libraries that hand an error to several who wait keep its kind and its
/// words, and not what is within.
pub(super) const TOO_MUCH: io::ErrorKind = io::ErrorKind::FileTooLarge;

/// The first bytes that came, which tell another protocol from the one that is spoken. A library that finds its own
/// broken keeps them to itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Beginning(Arc<OnceLock<Vec<u8>>>);

/// How many of them are kept: a status line fits in.
const BEGINNING: usize = 128;

impl Beginning {
    /// None before the first byte.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.get().map_or(&[], Vec::as_slice)
    }
}

/// Fails with [`TOO_MUCH`] once `limit` bytes have been read and more are wanted. The last read may go
/// beyond it by the reader's buffer.
pub(super) struct Limited<S> {
    stream: S,
    limit: usize,
    left: usize,
    free_reads: u8,
    pause: Option<Pin<Box<Sleep>>>,
    beginning: Option<Beginning>,
}

impl<S> Limited<S> {
    pub(super) fn new(stream: S, limit: usize) -> Self {
        Self { stream, limit, left: limit, free_reads: FREE_READS, pause: None, beginning: None }
    }

    /// Keeps the first bytes that come from now on.
    pub(super) fn remembering(self) -> (Self, Beginning) {
        let beginning = Beginning::default();
        (Self { beginning: Some(beginning.clone()), ..self }, beginning)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            let words = format!("more than {} KiB", self.limit / 1024);
            return Poll::Ready(Err(io::Error::new(TOO_MUCH, words)));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        if let Some(beginning) = self.beginning.take_if(|_| read > 0) {
            let bytes = buffer.filled().get(before..).unwrap_or_default();
            let _ = beginning.0.set(bytes.get(..BEGINNING).unwrap_or(bytes).to_vec());
        }
        self.left = self.left.saturating_sub(read);
        if (1..SMALL_READ).contains(&read) {
            match self.free_reads.checked_sub(1) {
                Some(left) => self.free_reads = left,
                None => self.pause = Some(Box::pin(tokio::time::sleep(PAUSE))),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
