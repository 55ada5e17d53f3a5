//! A minimal DNS client, for many queries in a short time.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::harness::{PATIENCE, Server};
use crate::support::traffic::Sent;

/// The bytes of a query.
pub(crate) fn query(id: u16, name: &str, rtype: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
    message.to_vec().unwrap()
}

/// A UDP socket to one server, which counts what it sends.
pub(crate) struct Client {
    socket: UdpSocket,
    sent: Sent,
}

impl Client {
    pub(crate) fn of(server: &Server) -> Self {
        Self::to(server.dns, &server.ledger.sent)
    }

    /// A client of the server at this address.
    pub(crate) fn to(server: SocketAddr, sent: &Sent) -> Self {
        Self::at(Ipv4Addr::LOCALHOST, server, sent)
    }

    /// A client that sends from this address.
    pub(crate) fn at(source: Ipv4Addr, server: SocketAddr, sent: &Sent) -> Self {
        let socket = UdpSocket::bind((source, 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        Self { socket, sent: sent.clone() }
    }

    /// Sends arbitrary bytes.
    pub(crate) fn send(&self, bytes: &[u8]) {
        self.sent.datagram();
        self.socket.send(bytes).unwrap();
    }

    /// Receives a reply; `None` if none arrives for a while.
    pub(crate) fn receive<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let length = self.socket.recv(buffer).ok()?;
        buffer.get(..length)
    }

    /// Sends a query, again if there is no reply; panics if none arrives.
    pub(crate) fn ask(&self, name: &str, rtype: RecordType) -> Message {
        let query = query(4711, name, rtype);
        let mut buffer = [0; 4096];
        for _ in 0..3 {
            self.send(&query);
            if let Ok(length) = self.socket.recv(&mut buffer) {
                let message = Message::from_vec(&buffer[..length]).unwrap();
                assert_eq!(message.metadata.id, 4711);
                return message;
            }
        }
        panic!("no reply to {name} {rtype}");
    }
}

/// A connection on which only these bytes are sent.
pub(crate) fn stream(server: &Server, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.dns).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    server.ledger.sent.stream(bytes);
    stream.write_all(bytes).unwrap();
    stream
}

/// The A addresses of an answer, in order.
pub(crate) fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    let address = |data: &RData| match data {
        RData::A(address) => Some(address.0),
        _ => None,
    };
    message.answers.iter().filter_map(|record| address(&record.data)).collect()
}
