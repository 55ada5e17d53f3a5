//! TCP sockets: how they listen, the kernel memory that a connection may hold, and how it ends.
//!
//! Every option here is set on the listening socket, because Linux hands it on to each connection.
//! So a connection is bounded before the first byte of it is read, and accepting costs no further
//! call.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that wait to be accepted. The kernel gives less if `net.core.somaxconn` says so.
const BACKLOG: i32 = 1024;

/// Bytes that wait to be sent, of one connection. The kernel counts its own overhead too and doubles
/// the figure for it: 64 KiB of memory at the most. A message of 64 KiB goes in pieces.
const SEND_BUFFER: usize = 32 << 10;

/// Of these, the bytes that the client's window has no room for yet. A client that does not read
/// holds these alone; the rest of [`SEND_BUFFER`] is for what is on its way.
const UNSENT: u32 = 8 << 10;

/// Bytes that have come and are not read yet, of one connection; the kernel doubles this one too. It
/// is room for two queries of the longest kind.
const RECEIVE_BUFFER: usize = 8 << 10;

/// The send buffer of a connection that carries much, bytes: a zone to a distant secondary.
const WIDE_SEND_BUFFER: usize = 256 << 10;

/// How long a connection that sends nothing waits to be accepted, seconds.
const FIRST_BYTES_WAIT: libc::c_int = 1;

/// How long the kernel keeps a connection that this side has closed and the client has not, seconds.
const FIN_WAIT: libc::c_int = 1;

/// Listens for TCP connections of bounded memory. The listener does not block. An IPv6 address takes
/// connections of IPv6 alone.
///
/// # Errors
///
/// Those of the system: in use, not permitted, no such address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier run that linger in TIME-WAIT must not stop a restart. Unlike with
    // UDP, this lets no second listener in.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    bound(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Bounds the kernel memory of every connection that a socket will accept, and makes reset the way
/// in which each ends unless [`close_in_order`] is called: so a connection that is dropped leaves nothing in
/// the kernel, however it came to be dropped.
///
/// # Errors
///
/// Those of the system; none is known.
pub fn bound(listener: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    // Replies are whole messages and go out at once.
    socket.set_tcp_nodelay(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    super::set_option(&socket, libc::IPPROTO_TCP, libc::TCP_LINGER2, FIN_WAIT)
}

/// Lets the kernel end a connection whose client has taken nothing of what was sent for so long,
/// be it gone or its window closed (`TCP_USER_TIMEOUT`).
///
/// # Errors
///
/// Those of the system; none is known.
pub fn set_patience(stream: &impl AsFd, patience: Duration) -> io::Result<()> {
    SockRef::from(stream).set_tcp_user_timeout(Some(patience))
}

/// Lets a connection be accepted once its first bytes have come, or after [`FIRST_BYTES_WAIT`].
///
/// # Errors
///
/// Those of the system; none is known.
pub fn await_first_bytes(listener: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(listener);
    super::set_option(&socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, FIRST_BYTES_WAIT)
}

/// Gives a connection the send buffer of one that carries much, or takes it away again.
///
/// # Errors
///
/// Those of the system; none is known.
pub fn set_wide(stream: &impl AsFd, wide: bool) -> io::Result<()> {
    SockRef::from(stream).set_send_buffer_size(if wide { WIDE_SEND_BUFFER } else { SEND_BUFFER })
}

/// Copies the first bytes that have come and leaves them to be read; how many there are.
///
/// # Errors
///
/// `WouldBlock` where nothing has come; else those of the system.
pub fn peek(stream: &impl AsFd, bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of one slice, which is writable.
    let count = unsafe {
        let (start, length) = (bytes.as_mut_ptr().cast(), bytes.len());
        libc::recv(stream.as_fd().as_raw_fd(), start, length, libc::MSG_PEEK | libc::MSG_DONTWAIT)
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Makes the end of a connection an orderly one (FIN), not a reset.
///
/// # Errors
///
/// Those of the system; none is known.
pub fn close_in_order(stream: &impl AsFd) -> io::Result<()> {
    SockRef::from(stream).set_linger(None)
}

/// How many bytes were sent, the end of the stream counted as one, and are not acknowledged.
///
/// # Errors
///
/// Those of the system; none is known.
pub fn unacknowledged(stream: &impl AsFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: `count` is a valid place for the one number that is written.
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
        assert!(written < 256 << 10, "{written} bytes went out to a client that does not read");

        let (server, _client) = pair();
        assert_eq!(unacknowledged(&server).unwrap(), 0);
        server.shutdown(Shutdown::Write).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while unacknowledged(&server).unwrap() > 0 {
            assert!(std::time::Instant::now() < deadline, "the end of the stream is not acknowledged");
        }
    }
}
