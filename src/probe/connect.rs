//! Opens a TCP connection, and decides whether a failure is the fault of the backend or of this machine.
//!
//! Connections are closed with FIN. A reset (`SO_LINGER` 0) would spare this machine the TIME_WAIT state, but servers
//! log it as an error and some count it against the client. A TIME_WAIT entry belongs to one pair of addresses and
//! ports, so it takes no port from other backends, and the kernel limits the number of entries. After HTTP the server
//! closes first, as requested with `Connection: close`. If bytes are left unread, the kernel itself resets the
//! connection.
//!
//! The exception is a connection that carries no data: `knock` resets it instead of completing the handshake.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;

use crate::check::ProxyProtocol;
use crate::probe::Cause;
use crate::probe::failure::{ProbeFailure, cause_of, describe};
use crate::probe::limited::Limited;

/// A connection to a backend.
pub(super) type BackendConnection = Limited<TcpStream>;

/// Bytes that may be read on a connection in addition to the content: headers, handshakes, framing.
const READ_BESIDES: usize = 256 * 1024;

/// How many bytes may be read on a connection to get `wanted` bytes of content: each of them may come in a separate
/// chunk or frame.
fn read_limit(wanted: usize) -> usize {
    READ_BESIDES + 8 * wanted
}

/// Finds out whether a connection can be opened. There is no time limit here.
///
/// It answers the backend's SYN-ACK with a reset: with `TCP_QUICKACK` off, Linux delays the last ACK of the handshake,
/// and the reset replaces it. So the server program has no connection to accept and no empty connection to log, and
/// the cost for both sides is half. HAProxy does the same.
pub(super) async fn knock(address: SocketAddr) -> Result<(), ProbeFailure> {
    let stream = open(address, true).await?;
    // If this fails, the connection is opened and closed normally, which has the same result.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    Ok(())
}

/// Opens a connection for `wanted` bytes of content, and sends the header of `proxy`. There is no time limit here.
/// `speaks_first` promises that data is sent, or the connection closed, as soon as it is open.
pub(super) async fn connect(
    address: SocketAddr,
    speaks_first: bool,
    wanted: usize,
    proxy: Option<ProxyProtocol>,
) -> Result<BackendConnection, ProbeFailure> {
    let mut stream = open(address, speaks_first || proxy.is_some()).await?;
    if let Some(proxy) = proxy {
        let sent = stream.write_all(proxy.header()).await;
        sent.map_err(|error| ProbeFailure::broken(&error, "before the PROXY header was sent"))?;
    }
    Ok(Limited::new(stream, read_limit(wanted)))
}

async fn open(address: SocketAddr, speaks_first: bool) -> Result<TcpStream, ProbeFailure> {
    let socket = begin(address, speaks_first).map_err(|error| at_once(&error))?;
    let stream = TcpStream::from_std(socket.into()).map_err(|error| at_once(&error))?;
    // A connecting socket becomes writable when it is connected or has failed. A failure also closes its write half;
    // only then is there an error to ask for.
    let ready = stream.ready(Interest::WRITABLE).await.map_err(|error| later(&error))?;
    if !ready.is_write_closed() {
        return Ok(stream);
    }
    match stream.take_error() {
        Ok(None) => Ok(stream),
        Ok(Some(error)) | Err(error) => Err(later(&error)),
    }
}

/// Sends the SYN without waiting: tokio's `connect` does not distinguish an error of the call from one that comes over
/// the network.
fn begin(address: SocketAddr, speaks_first: bool) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    if speaks_first {
        // The last ACK of the handshake is then sent with the first data.
        socket.set_tcp_quickack(false)?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Explains an error of the call itself. Nothing has come from the network yet, so the cause is on this machine: no
/// file descriptor (EMFILE, ENFILE), no memory (ENOMEM, ENOBUFS), no source port (EADDRNOTAVAIL), no route
/// (ENETUNREACH, EHOSTUNREACH, EINVAL), a local policy (EACCES, EPERM), or no IPv6 (EAFNOSUPPORT). A refusal always
/// comes from the backend.
fn at_once(error: &io::Error) -> ProbeFailure {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return later(error);
    }
    ProbeFailure::local(format_args!("this machine could not open a connection: {error}"))
}

/// Explains an error that came later, over the network. The same numbers have another meaning now: EHOSTUNREACH means
/// that a neighbour does not answer, or is a message from a router; ENETUNREACH and EACCES are messages from a router.
/// In each case the backend is unreachable.
fn later(error: &io::Error) -> ProbeFailure {
    match cause_of(error) {
        Cause::Local => at_once(error),
        cause => ProbeFailure::new(cause, describe(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_local(fault: &ProbeFailure) -> bool {
        fault.cause == Cause::Local
    }

    #[test]
    fn the_moment_of_an_error_tells_whose_it_is() {
        for number in [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::EADDRNOTAVAIL,
            libc::ENETUNREACH,
            libc::EHOSTUNREACH,
            libc::EACCES,
            libc::EPERM,
            libc::EAFNOSUPPORT,
        ] {
            assert!(is_local(&at_once(&io::Error::from_raw_os_error(number))), "errno {number} at once");
        }
        for number in
            [libc::ECONNREFUSED, libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::EACCES]
        {
            assert!(!is_local(&later(&io::Error::from_raw_os_error(number))), "errno {number} later");
        }
        assert_eq!(at_once(&io::Error::from_raw_os_error(libc::ECONNREFUSED)).cause, Cause::Refused);
    }

    #[tokio::test]
    async fn a_knock_is_answered_and_the_program_does_not_hear_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..100 {
            knock(address).await.unwrap();
        }
        // The next client is accepted first.
        let client = open(address, false).await.unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        drop(listener);
        assert_eq!(knock(address).await.unwrap_err().cause, Cause::Refused);
    }

    #[tokio::test]
    async fn no_route_is_reported_at_once_and_is_local() {
        // TCP has no route to a multicast group, on any machine.
        let fault = open("224.0.0.1:80".parse().unwrap(), true).await.unwrap_err();
        assert!(is_local(&fault), "{fault:?}");
    }
}
