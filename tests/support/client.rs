//! Asks a DNS server, over UDP and over TCP.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::PATIENCE;
use super::message::Query;
use super::traffic::Sent;

/// How long one reply is waited for before the query is sent again.
const REPLY: Duration = Duration::from_secs(3);
/// How often a query is sent.
const TRIES: usize = 5;

/// A socket that talks to one server.
pub(crate) struct Client {
    server: SocketAddr,
    socket: UdpSocket,
    sent: Sent,
}

impl Client {
    /// A client of a server that nobody holds to its counters.
    pub(crate) fn of(server: SocketAddr) -> Self {
        Self::counting(server, &Sent::default())
    }

    /// A client that counts what it sends.
    pub(crate) fn counting(server: SocketAddr, sent: &Sent) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(REPLY)).unwrap();
        Self { server, socket, sent: sent.clone() }
    }

    /// Asks once over UDP. None when no reply comes, as from a server that is still starting.
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

    /// Asks over UDP, and again when no reply comes.
    pub(crate) fn ask(&self, query: &Query, id: u16) -> Vec<u8> {
        let reply = (0..TRIES).find_map(|_| self.try_ask(query, id));
        reply.unwrap_or_else(|| panic!("no reply from {} to: dig {query}", self.server))
    }

    /// Asks over TCP.
    pub(crate) fn ask_tcp(&self, query: &Query, id: u16) -> Vec<u8> {
        read_message(&mut self.stream(query, id)).unwrap()
    }

    /// A connection over which the query went out.
    pub(crate) fn stream(&self, query: &Query, id: u16) -> TcpStream {
        let message = query.encode(id);
        let mut stream = TcpStream::connect(self.server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.sent.message();
        stream.write_all(&framed(&message)).unwrap();
        stream
    }
}

/// A message as a connection carries it.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    [&length[..], message].concat()
}

/// The next message of a connection.
pub(crate) fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}
