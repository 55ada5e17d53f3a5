//! Limits how slowly a client may read its replies.
//!
//! Only the time counts during which the server waits to write, up to a limit. The bytes that the
//! client reads reduce this time at a minimum rate, but never below zero. While texts use too much
//! memory, both limits are stricter.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::admin::stream::AdminStream;
use crate::admin::text::Held;

const USUAL: Pace = Pace { patience: Duration::from_secs(10), rate: 1 << 20 };
/// For times when texts use too much memory.
const STRICT: Pace = Pace { patience: Duration::from_secs(1), rate: 10 << 20 };
/// How often a client that does not read is checked.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Maximum time that the server waits for the client.
    patience: Duration,
    /// How many bytes reduce the waiting time by one second.
    rate: u32,
}

/// A connection that fails if its client reads replies too slowly.
#[derive(Debug)]
pub(super) struct Paced {
    stream: AdminStream,
    held: Held,
    /// The accumulated waiting time that bytes have not yet reduced, without the current wait.
    waited: Duration,
    /// The start of the current wait, and the timer for the next check.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Paced {
    pub(super) fn new(stream: AdminStream, held: Held) -> Self {
        Self { stream, held, waited: Duration::ZERO, waiting: None }
    }

    pub(super) fn into_stream(self) -> AdminStream {
        self.stream
    }

    fn written(&mut self, written: io::Result<usize>) -> io::Result<usize> {
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        let count = written.as_ref().map_or(0, |count| u32::try_from(*count).unwrap_or(u32::MAX));
        let paid = Duration::from_secs(1) * count / self.pace().rate;
        self.waited = self.waited.saturating_sub(paid);
        written
    }

    fn pace(&self) -> Pace {
        if self.held.is_too_much() { STRICT } else { USUAL }
    }

    /// Returns pending, or an error if the client is too slow.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        loop {
            let patience = self.pace().patience;
            let (since, look) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(LOOK))));
            if self.waited + since.elapsed() > patience {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")));
            }
            ready!(look.as_mut().poll(context));
            look.as_mut().reset(Instant::now() + LOOK);
        }
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(written) => Poll::Ready(self.written(written)),
            Poll::Pending => self.wait(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(context, bytes) {
            Poll::Ready(written) => Poll::Ready(self.written(written)),
            Poll::Pending => self.wait(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Paced, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Paced::new(listener.accept().await.unwrap().0.into(), Held::default()), client)
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_nothing_is_let_go_of() {
        let (mut server, _client) = pair().await;
        let began = Instant::now();
        let error = server.write_all(&vec![0; 64 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let waited = began.elapsed();
        assert!(
            (10..25).contains(&waited.as_secs()),
            "{waited:?}, including time paid back by bytes in kernel buffers"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_a_little_now_and_then_is_let_go_of() {
        let (mut server, mut client) = pair().await;
        let drip = tokio::spawn(async move {
            let mut byte = [0; 1];
            while client.read_exact(&mut byte).await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let began = Instant::now();
        let error = server.write_all(&vec![0; 64 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        drip.abort();
    }

    #[tokio::test]
    async fn one_that_reads_gets_all_of_it() {
        let (mut server, mut client) = pair().await;
        let read = tokio::spawn(async move {
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            all.len()
        });
        server.write_all(&vec![0; 64 << 20]).await.unwrap();
        drop(server);
        assert_eq!(read.await.unwrap(), 64 << 20);
    }

    /// Otherwise, a few clients that have read much could occupy all memory for texts for minutes.
    #[tokio::test(start_paused = true)]
    async fn one_that_has_read_much_is_let_go_of_as_soon() {
        let (mut server, mut client) = pair().await;
        let read = async {
            let mut bytes = vec![0; 64 << 20];
            client.read_exact(&mut bytes).await.unwrap();
        };
        // The kernel needs real time to transfer bytes; a paused clock would jump ahead meanwhile.
        tokio::time::resume();
        let text = vec![0; 64 << 20];
        let (sent, ()) = tokio::join!(server.write_all(&text), read);
        sent.unwrap();
        tokio::time::pause();
        let written = Instant::now();
        let error = server.write_all(&text).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(written.elapsed() < Duration::from_secs(15), "{:?}", written.elapsed());
    }
}
