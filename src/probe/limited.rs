//! A connection that brings so many bytes and no more.
//!
//! For protocols whose library reads by itself: HTTP/2 frames can go on for ever without a header or
//! a byte of the body in them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The kind of error that says so. Libraries that hand an error to several who wait keep its kind and its
/// words, and not what is within.
pub(super) const TOO_MUCH: io::ErrorKind = io::ErrorKind::FileTooLarge;

/// Fails with [`TOO_MUCH`] once `limit` bytes have been read and more are wanted. The last read may go
/// beyond it by the reader's buffer.
pub(super) struct Limited<S> {
    stream: S,
    limit: usize,
    left: usize,
}

impl<S> Limited<S> {
    pub(super) fn new(stream: S, limit: usize) -> Self {
        Self { stream, limit, left: limit }
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
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
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
