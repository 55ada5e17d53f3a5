//! Queries a DNS server over UDP and TCP.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::PATIENCE;
use super::message::Query;
use super::traffic::Sent;

/// Timeout for a reply before the query is sent again.
const REPLY: Duration = Duration::from_secs(3);
/// Maximum number of times a query is sent.
const TRIES: usize = 5;

/// A socket for one server.
pub(crate) struct Client {
    server: SocketAddr,
    socket: UdpSocket,
    sent: Sent,
}

impl Client {
    /// A client of a server whose counters are not checked.
    pub(crate) fn of(server: SocketAddr) -> Self {
        Self::counting(server, &Sent::default())
    }

    /// A client that counts what it sends.
    pub(crate) fn counting(server: SocketAddr, sent: &Sent) -> Self {
        Self::bound("127.0.0.1:0".parse().unwrap(), server, sent)
    }

    /// A client at this address, of a server whose counters are not checked.
    pub(crate) fn at(source: SocketAddr, server: SocketAddr) -> Self {
        Self::bound(source, server, &Sent::default())
    }

    fn bound(source: SocketAddr, server: SocketAddr, sent: &Sent) -> Self {
        let socket = UdpSocket::bind(source).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(REPLY)).unwrap();
        Self { server, socket, sent: sent.clone() }
    }

    /// Sends a query over UDP without waiting for a reply.
    pub(crate) fn send(&self, query: &Query, id: u16) {
        self.sent.datagram();
        self.socket.send(&query.encode(id)).unwrap();
    }

    /// Sends a query once over UDP. Returns `None` without a reply, for example from a server that
    /// is starting.
    pub(crate) fn try_ask(&self, query: &Query, id: u16) -> Option<Vec<u8>> {
        let mut buffer = [0; 4096];
        self.sent.datagram();
        self.socket.send(&query.encode(id)).ok()?;
        loop {
            let length = self.socket.recv(&mut buffer).ok()?;
            if buffer[..length].starts_with(&id.to_be_bytes()) {
                return Some(buffer[..length].to_vec());
            }
        }
    }

    /// Sends a query over UDP, repeatedly if there is no reply.
    pub(crate) fn ask(&self, query: &Query, id: u16) -> Vec<u8> {
        let reply = (0..TRIES).find_map(|_| self.try_ask(query, id));
        reply.unwrap_or_else(|| panic!("no reply from {} to: dig {query}", self.server))
    }

    /// Sends a query over TCP.
    pub(crate) fn ask_tcp(&self, query: &Query, id: u16) -> Vec<u8> {
        read_message(&mut self.stream(query, id)).unwrap()
    }

    /// Sends a query once over a connection of its own. Returns `None` if one of the two fails.
    pub(crate) fn try_ask_tcp(&self, query: &Query, id: u16) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(self.server).ok()?;
        stream.set_read_timeout(Some(REPLY)).ok()?;
        self.sent.message();
        stream.write_all(&framed(&query.encode(id))).ok()?;
        read_message(&mut stream).ok()
    }

    /// Opens a connection and sends the query on it.
    pub(crate) fn stream(&self, query: &Query, id: u16) -> TcpStream {
        let message = query.encode(id);
        let mut stream = TcpStream::connect(self.server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.sent.message();
        stream.write_all(&framed(&message)).unwrap();
        stream
    }
}

/// Connects from this loopback address. With `small` buffers, the client accepts almost nothing
/// unless it reads.
pub(crate) fn connect(from: Ipv4Addr, to: SocketAddr, small: bool) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if small {
        socket.set_recv_buffer_size(2048)?;
        socket.set_send_buffer_size(4096)?;
    }
    socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// A message with its TCP length prefix.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    [&length[..], message].concat()
}

/// Reads the next message of a connection.
pub(crate) fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}
