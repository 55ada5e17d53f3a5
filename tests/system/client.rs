//! A DNS client of a few lines, for many queries in a short time.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};

/// The bytes of a query.
pub(crate) fn query(id: u16, name: &str, rtype: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
    message.to_vec().unwrap()
}

/// A client socket that gives up after two seconds.
pub(crate) fn socket(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

/// Asks once over UDP; panics when no reply comes.
pub(crate) fn ask(socket: &UdpSocket, name: &str, rtype: RecordType) -> Message {
    let query = query(4711, name, rtype);
    let mut buffer = [0; 4096];
    for _ in 0..3 {
        socket.send(&query).unwrap();
        if let Ok(length) = socket.recv(&mut buffer) {
            let message = Message::from_vec(&buffer[..length]).unwrap();
            assert_eq!(message.metadata.id, 4711);
            return message;
        }
    }
    panic!("no reply to {name} {rtype}");
}

/// The A addresses of an answer, in order.
pub(crate) fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    let address = |data: &RData| match data {
        RData::A(address) => Some(address.0),
        _ => None,
    };
    message.answers.iter().filter_map(|record| address(&record.data)).collect()
}
