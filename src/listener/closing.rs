//! Closes a TCP connection in order.
//!
//! ```text
//! end of stream sent -> everything acknowledged -> closed in order
//!                              |  time limit
//!                              +-> reset: nothing stays in the kernel
//! ```
//!
//! A connection that is dropped without this is reset: see [`sys::stream::bound`].

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::sys;

/// The first and the longest pause between two checks whether everything was acknowledged.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Ends the stream, waits until the client's system has acknowledged everything, and closes the
/// connection in order. If this were left to the kernel, unacknowledged data would stay there for
/// minutes, outside all limits.
pub(crate) async fn close(mut stream: TcpStream, patience: Duration) {
    let deadline = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    if stream.shutdown().await.is_err() {
        return;
    }
    while let Ok(1..) = sys::stream::unacknowledged(&stream) {
        if Instant::now() >= deadline {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    // This fails only if the connection no longer exists.
    let _ = sys::stream::close_in_order(&stream);
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::io::AsyncReadExt;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = sys::stream::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let client = tokio::net::TcpSocket::new_v4().unwrap();
        client.set_recv_buffer_size(2048).unwrap();
        let client = client.connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    #[tokio::test]
    async fn a_client_that_reads_gets_everything_and_an_orderly_end() {
        let (mut server, mut client) = pair().await;
        server.write_all(&[7; 4000]).await.unwrap();
        let mut read = Vec::new();
        let ((), length) =
            tokio::join!(close(server, Duration::from_secs(10)), client.read_to_end(&mut read));
        assert_eq!((length.unwrap(), read), (4000, vec![7; 4000]));
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_reset_when_patience_is_over() {
        let (server, mut client) = pair().await;
        while server.writable().await.is_ok() {
            match server.try_write(&[7; 16384]) {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        let begun = Instant::now();
        close(server, Duration::from_millis(300)).await;
        assert!(begun.elapsed() < Duration::from_secs(5));
        let end = client.read_to_end(&mut Vec::new()).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}
