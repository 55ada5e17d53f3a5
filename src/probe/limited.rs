//! A connection with limits on its bytes and on the number of small reads.
//!
//! The bytes are counted here because the libraries for HTTP/2 and TLS read by themselves, and a backend can send
//! empty frames or records endlessly.
//!
//! All probes share one thread, and a backend that sends single bytes wakes it for each. So after [`FREE_READS`] small
//! reads there is a pause after each. Bytes that arrive meanwhile are read together, so a good backend is delayed by
//! at most one pause.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How many small reads have no pause after them.
const FREE_READS: u8 = 32;

/// A read of fewer bytes counts as small.
const SMALL_READ: usize = 1024;

/// The pause after a small read.
const PAUSE: Duration = Duration::from_millis(20);

/// The most bytes of a status line with its headers, 64 KiB. More than 100 headers are rejected as well.
pub(super) const HEADER_LIMIT: usize = 64 * 1024;

/// The kind of the error at the limit. HTTP/2 and TLS libraries copy an error's kind and text, and drop the rest.
pub(super) const TOO_MUCH: io::ErrorKind = io::ErrorKind::FileTooLarge;

/// The first bytes received. They show which protocol the backend speaks if it is not the expected one; the library
/// for the expected protocol does not report them.
#[derive(Clone, Debug, Default)]
pub(super) struct FirstBytes(Arc<OnceLock<Vec<u8>>>);

/// How many of the first bytes are kept: enough for a status line.
const BEGINNING: usize = 128;

impl FirstBytes {
    /// None before the first byte.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.get().map_or(&[], Vec::as_slice)
    }
}

/// Fails with [`TOO_MUCH`] when more than `limit` bytes are read. The last read may exceed it by the reader's buffer.
pub(super) struct Limited<S> {
    stream: S,
    limit: usize,
    left: usize,
    free_reads: u8,
    pause: Option<Pin<Box<Sleep>>>,
    beginning: Option<FirstBytes>,
}

impl<S> Limited<S> {
    pub(super) fn new(stream: S, limit: usize) -> Self {
        Self { stream, limit, left: limit, free_reads: FREE_READS, pause: None, beginning: None }
    }

    /// Stores the first bytes received from now on.
    pub(super) fn remembering(self) -> (Self, FirstBytes) {
        let beginning = FirstBytes::default();
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
