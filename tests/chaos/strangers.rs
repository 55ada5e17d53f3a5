//! Clients that mean no good. The others must not notice them.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::load::{WEB, query};
use crate::support::client::connect;

/// Datagrams that are sent at once: few enough for any queue.
const BURST: usize = 20;
const BURSTS: usize = 50;
const LONGEST: usize = 600;
const CONNECTIONS: usize = 50;
/// Networks of a flood.
const NETWORKS: usize = 10;

/// Connections that send nothing, and stay open. They come from many networks, because one has a share only.
pub(crate) fn flood(dns: SocketAddr, count: usize) -> Vec<TcpStream> {
    let from = |number: usize| Ipv4Addr::new(127, 10, u8::try_from(number % NETWORKS).unwrap(), 1);
    (0..count).map(|number| connect(from(number), dns, false).unwrap()).collect()
}

/// Sends messages that are none, and queries with errors, over UDP and TCP, without reading the replies.
pub(crate) fn send_nonsense(dns: SocketAddr, rng: &mut SmallRng) {
    let socket = UdpSocket::bind("127.0.0.3:0").unwrap();
    for _ in 0..BURSTS {
        for _ in 0..BURST {
            let _ = socket.send_to(&nonsense(rng), dns);
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(dns).unwrap();
        // The server may have closed it meanwhile.
        let _ = stream.write_all(&nonsense(rng));
    }
}

fn nonsense(rng: &mut SmallRng) -> Vec<u8> {
    let mut message = query(rng.random(), WEB);
    if rng.random() {
        message = (0..rng.random_range(0..LONGEST)).map(|_| rng.random()).collect();
    }
    for _ in 0..3 {
        let length = message.len();
        if let Some(byte) = message.get_mut(rng.random_range(0..=length)) {
            *byte = rng.random();
        }
    }
    message
}
