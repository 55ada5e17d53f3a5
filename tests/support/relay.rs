//! A relay in front of a server, which counts messages for clients that cannot.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use super::client::{framed, read_message};
use super::traffic::Sent;
use super::wait_for;

/// Larger than any datagram in the tests.
const DATAGRAM: usize = 4096;

/// Starts a relay for UDP and TCP that runs until the test program ends. Returns its address.
pub(crate) fn start(server: SocketAddr, sent: &Sent) -> SocketAddr {
    let (listener, udp) = wait_for("a port for the relay", || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        UdpSocket::bind(listener.local_addr().unwrap()).ok().map(|udp| (listener, udp))
    });
    let address = listener.local_addr().unwrap();
    let counts = sent.clone();
    thread::spawn(move || relay_udp(&udp, server, &counts));
    let counts = sent.clone();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let counts = counts.clone();
            thread::spawn(move || relay_tcp(client, server, &counts));
        }
    });
    address
}

/// One socket serves all clients: each query gets an id that identifies its sender, and the reply
/// gets the original id back.
fn relay_udp(socket: &UdpSocket, server: SocketAddr, sent: &Sent) {
    let mut clients: Vec<Option<(SocketAddr, [u8; 2])>> = vec![None; 1 << 16];
    let mut next = 0_u16;
    let mut buffer = [0; DATAGRAM];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let message = &mut buffer[..length];
        let Some(&id) = message.first_chunk::<2>() else { continue };
        if from == server {
            if let Some((client, own)) = clients[usize::from(u16::from_be_bytes(id))].take() {
                message[..2].copy_from_slice(&own);
                // The client may have closed.
                let _ = socket.send_to(message, client);
            }
            continue;
        }
        clients[usize::from(next)] = Some((from, id));
        message[..2].copy_from_slice(&next.to_be_bytes());
        next = next.wrapping_add(1);
        sent.datagram();
        // The server may have ended; then the test is over.
        let _ = socket.send_to(message, server);
    }
}

/// Forwards queries one message at a time, and replies as raw bytes, because they may be a zone
/// transfer.
fn relay_tcp(mut client: TcpStream, server: SocketAddr, sent: &Sent) -> io::Result<()> {
    let mut upstream = TcpStream::connect(server)?;
    let (mut replies, mut back) = (upstream.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut replies, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    while let Ok(query) = read_message(&mut client) {
        sent.message();
        upstream.write_all(&framed(&query))?;
    }
    upstream.shutdown(Shutdown::Write)
}
