//! TCP sockets: listening, the kernel memory of a connection, and how it closes.
//!
//! Options are set on the listening socket where possible, because each accepted connection
//! inherits them on Linux. So a connection is limited before its first byte is read, and accepting
//! needs no further call.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Length of the accept queue. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// Send buffer of a connection, bytes. The kernel doubles the figure for its own overhead, so this
/// is at most 64 KiB of memory. A message of 64 KiB is sent in parts.
const SEND_BUFFER: usize = 32 << 10;

/// The part of [`SEND_BUFFER`] that may wait for room in the client's window, bytes. A client that
/// does not read holds only this much; the rest is for bytes in flight.
const UNSENT: u32 = 8 << 10;

/// Receive buffer of a connection, bytes. The kernel doubles this figure too. It holds two queries
/// of the maximum length.
const RECEIVE_BUFFER: usize = 8 << 10;

/// Send buffer of a connection that carries a zone transfer, bytes: a distant secondary has a long
/// round trip.
const WIDE_SEND_BUFFER: usize = 256 << 10;

/// How long a connection that sends nothing waits to be accepted, seconds.
const FIRST_BYTES_WAIT: libc::c_int = 1;

/// How long the kernel keeps a connection that only this side has closed, seconds.
const FIN_WAIT: libc::c_int = 1;

/// Opens a non-blocking TCP listener whose connections are limited by [`bound`]. An IPv6 address
/// accepts only IPv6 connections.
///
/// # Errors
///
/// Returns the system's error: address in use, not permitted, no such address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listen_as(address, false)
}

/// Like [`listen`], beside shared listeners of the same user on the same port (`SO_REUSEPORT`).
///
/// # Errors
///
/// Those of [`listen`].
pub fn listen_shared(address: SocketAddr) -> io::Result<TcpListener> {
    listen_as(address, true)
}

fn listen_as(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier run in TIME-WAIT must not prevent a restart. For TCP this option
    // does not allow a second listener, unlike for UDP.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_port(shared)?;
    bound(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Limits the kernel memory of every connection that a listener accepts, and makes a dropped
/// connection end with a reset, so that it leaves nothing in the kernel. [`close_in_order`] changes
/// this for one connection.
///
/// # Errors
///
/// Returns the error of `setsockopt`.
pub fn bound(listener: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    // Replies are whole messages, so Nagle's algorithm would only delay them.
    socket.set_tcp_nodelay(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    super::set_option(&socket, libc::IPPROTO_TCP, libc::TCP_LINGER2, FIN_WAIT)
}

/// Limits the kernel memory of a connection over a Unix socket, which inherits no option of its listener.
///
/// # Errors
///
/// Returns the error of `setsockopt`.
pub fn bound_send_buffer(stream: &impl AsFd) -> io::Result<()> {
    SockRef::from(stream).set_send_buffer_size(SEND_BUFFER)
}

/// Makes the kernel end a connection if the client acknowledges nothing for `patience`, because it
/// is gone or its window is closed (`TCP_USER_TIMEOUT`).
///
/// # Errors
///
/// Returns the error of `setsockopt`.
pub fn set_patience(stream: &impl AsFd, patience: Duration) -> io::Result<()> {
    SockRef::from(stream).set_tcp_user_timeout(Some(patience))
}

/// Accepts a connection only when its first bytes have arrived, or after a second.
///
/// # Errors
///
/// Returns the error of `setsockopt`.
pub fn await_first_bytes(listener: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(listener);
    super::set_option(&socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, FIRST_BYTES_WAIT)
}

/// Switches between the send buffer of a transfer and the normal one.
///
/// # Errors
///
/// Returns the error of `setsockopt`.
pub fn set_wide(stream: &impl AsFd, wide: bool) -> io::Result<()> {
    SockRef::from(stream).set_send_buffer_size(if wide { WIDE_SEND_BUFFER } else { SEND_BUFFER })
}

/// Copies the first received bytes without consuming them, and returns their number.
///
/// # Errors
///
/// `WouldBlock` if nothing has arrived, otherwise the error of `recv`.
pub fn peek(stream: &impl AsFd, bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of one writable slice.
    let count = unsafe {
        let (start, length) = (bytes.as_mut_ptr().cast(), bytes.len());
        libc::recv(stream.as_fd().as_raw_fd(), start, length, libc::MSG_PEEK | libc::MSG_DONTWAIT)
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Makes a connection close in order (FIN) instead of with a reset.
///
/// # Errors
///
/// Returns the error of `setsockopt`.
pub fn close_in_order(stream: &impl AsFd) -> io::Result<()> {
    SockRef::from(stream).set_linger(None)
}

/// Returns the number of sent bytes that are not acknowledged; the end of the stream counts as one.
///
/// # Errors
///
/// Returns the error of `ioctl`.
pub fn unacknowledged(stream: &impl AsFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: `count` is a valid location for the one number that is written.
    super::succeeded(unsafe { libc::ioctl(stream.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Shutdown, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (listener.accept().unwrap().0, client)
    }

    #[test]
    fn connections_inherit_every_bound() {
        let (server, _client) = pair();
        let socket = SockRef::from(&server);
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * SEND_BUFFER);
        assert_eq!(socket.recv_buffer_size().unwrap(), 2 * RECEIVE_BUFFER);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT);
        assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
        assert!(socket.tcp_nodelay().unwrap());
        set_patience(&server, Duration::from_secs(7)).unwrap();
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(7)));
        set_wide(&server, true).unwrap();
        assert!(socket.send_buffer_size().unwrap() > 4 * SEND_BUFFER);
        set_wide(&server, false).unwrap();
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * SEND_BUFFER);
    }

    #[test]
    fn a_connection_ends_with_a_reset_unless_it_is_closed_in_order() {
        let (server, mut client) = pair();
        drop(server);
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        let (server, mut client) = pair();
        close_in_order(&server).unwrap();
        drop(server);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_client_that_does_not_read_takes_little_and_what_it_has_not_taken_is_known() {
        let (mut server, client) = pair();
        SockRef::from(&client).set_recv_buffer_size(2048).unwrap();
        server.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(count) = server.write(&[0; 4096]) {
            written += count;
        }
        assert!(unacknowledged(&server).unwrap() > 0);
        assert!(written < 256 << 10, "{written} bytes were accepted for a client that does not read");

        let (server, _client) = pair();
        assert_eq!(unacknowledged(&server).unwrap(), 0);
        server.shutdown(Shutdown::Write).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while unacknowledged(&server).unwrap() > 0 {
            assert!(std::time::Instant::now() < deadline, "the end of the stream is not acknowledged");
        }
    }
}
