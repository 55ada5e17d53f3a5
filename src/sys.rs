//! System calls that the standard library does not offer: batches of datagrams, socket options,
//! process limits. All unsafe code of the program is in this module, behind a safe interface.
//!
//! This module does not interpret the bytes. Linux only.

#![allow(unsafe_code, reason = "this module exists so that no other needs it")]

pub mod clock;
pub mod process;
pub mod stream;

use std::alloc::Layout;
use std::fmt;
use std::io;
use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Maximum number of datagrams per `recvmmsg` or `sendmmsg` call.
pub const BATCH: usize = BATCH_COUNT as usize;

/// [`BATCH`] in the type that the system calls take.
const BATCH_COUNT: libc::c_uint = 64;

/// Longest query that is received completely, bytes. A query is a name and a few options; EDNS
/// suggests a payload size of 4096 bytes (RFC 6891, section 6.2.5).
pub const MAX_QUERY: usize = 4096;

/// Longest UDP reply, bytes.
pub const MAX_UDP_REPLY: usize = 4096;

/// Timeout of a receive call. An idle worker checks this often whether to stop.
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(100);

/// Requested socket receive buffer, bytes. The kernel caps it at `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Size of `in6_pktinfo`, the larger of the two packet information structures, bytes.
const PACKET_INFO: libc::c_uint = 20;

/// Size of `sockaddr_in6`, the larger of the two socket addresses, bytes.
const PEER_LENGTH: libc::socklen_t = 28;

/// Binds a UDP socket with the options that [`UdpBatch`] needs.
///
/// If `shared`, other shared sockets of the same user may bind the same port (`SO_REUSEPORT`), and
/// the kernel distributes the clients among them. Otherwise the port must be free.
///
/// # Errors
///
/// Returns the system's error: address in use, not permitted, no such address.
pub fn bind_udp(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // The source of a reply must be the destination of the query. Path MTU discovery is off because
    // its ICMP messages can be forged, and the fragments they cause can be poisoned.
    if address.is_ipv4() {
        set_option(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        set_option(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT)?;
    } else {
        socket.set_only_v6(true)?;
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_OMIT)?;
    }
    socket.set_read_timeout(Some(RECEIVE_TIMEOUT))?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Lets other shared sockets bind the port of this socket, which was bound alone.
///
/// # Errors
///
/// Returns the error of `setsockopt`.
pub fn share_port(socket: &UdpSocket) -> io::Result<()> {
    socket2::SockRef::from(socket).set_reuse_port(true)
}

/// Raises the limit of open files to the hard limit and returns it.
///
/// # Errors
///
/// Returns the system's error; the limit is unchanged then.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid location for the one structure that is written.
    succeeded(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid structure and is only read.
    succeeded(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// Whether the process or the machine has run out of descriptors.
#[must_use]
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn set_option(socket: &Socket, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    const LENGTH: libc::socklen_t = 4;
    const { assert!(size_of::<libc::c_int>() == LENGTH as usize) };
    // SAFETY: `value` lives through the call, and `LENGTH` is its size.
    succeeded(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), LENGTH) })
}

fn succeeded(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives up to [`BATCH`] datagrams in one call and sends their replies in one call. The source
/// of each reply is the destination of its query. Allocates only in [`UdpBatch::new`].
///
/// ```text
/// receive ---> answer (each datagram) ---> send ---+
///    ^                                             |
///    +---------------------------------------------+
/// ```
pub struct UdpBatch {
    /// Allocated by `new` and owned by this value. Every lasting pointer into the arena is derived
    /// from this one, not from a reference, so that no later reference invalidates it.
    arena: NonNull<Arena>,
    received: usize,
    queued: usize,
}

/// Buffers that the kernel reads and writes. `slots` and `incoming` correspond by index; `outgoing`
/// has the headers of the replies without gaps.
#[repr(C)]
struct Arena {
    slots: [Slot; BATCH],
    incoming: [libc::mmsghdr; BATCH],
    outgoing: [libc::mmsghdr; BATCH],
}

/// Room for one datagram and its reply. Both directions use the same peer and control data.
#[repr(C)]
struct Slot {
    peer: RawAddress,
    control: Control,
    /// The query buffer and the reply buffer.
    buffers: [libc::iovec; 2],
    query: [u8; MAX_QUERY],
    reply: [u8; MAX_UDP_REPLY],
}

/// A `sockaddr_in` or `sockaddr_in6`, as bytes.
#[repr(C, align(8))]
struct RawAddress([u8; PEER_LENGTH as usize]);

/// The only control message of a datagram, `in_pktinfo` or `in6_pktinfo`, as bytes.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    info: [u8; PACKET_INFO as usize],
}

const _: () = {
    assert!(size_of::<libc::sockaddr_in6>() == PEER_LENGTH as usize);
    assert!(size_of::<libc::sockaddr_in>() <= PEER_LENGTH as usize);
    assert!(size_of::<libc::in6_pktinfo>() == PACKET_INFO as usize);
    assert!(size_of::<libc::in_pktinfo>() <= PACKET_INFO as usize);
    // SAFETY: only computes a number from its argument.
    let space = unsafe { libc::CMSG_SPACE(PACKET_INFO) };
    assert!(size_of::<Control>() == space as usize);
    // SAFETY: as above.
    let data = unsafe { libc::CMSG_LEN(0) };
    assert!(offset_of!(Control, info) == data as usize);
};

/// A received datagram, with room for its reply.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// The sender.
    pub peer: SocketAddr,
    /// The bytes received, at most [`MAX_QUERY`].
    pub query: &'a [u8],
    /// Whether the datagram was longer than [`MAX_QUERY`].
    pub cut: bool,
    /// Room for [`MAX_UDP_REPLY`] bytes.
    pub reply: &'a mut [u8],
}

/// The result of sending the replies of a batch.
#[derive(Debug, Default)]
pub struct Sent {
    /// Replies that the system accepted.
    pub sent: usize,
    /// Replies that the system refused. The others of the batch are not affected.
    pub failed: usize,
    /// The last error.
    pub error: Option<io::Error>,
}

impl UdpBatch {
    /// Allocates the buffers, about half a mebibyte. Only slots that have been used occupy memory.
    #[must_use]
    pub fn new() -> Self {
        let layout = Layout::new::<Arena>();
        // SAFETY: the layout is not empty. Zeros are valid for every field of an arena: integers,
        // bytes, and pointers that may be null.
        #[allow(clippy::cast_ptr_alignment, reason = "the layout asks for the alignment")]
        let memory = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<Arena>();
        let Some(arena) = NonNull::new(memory) else { std::alloc::handle_alloc_error(layout) };
        let mut batch = Self { arena, received: 0, queued: 0 };
        let slots = memory.wrapping_byte_add(offset_of!(Arena, slots)).cast::<Slot>();
        for index in 0..BATCH {
            batch.connect(index, slots.wrapping_add(index));
        }
        batch
    }

    /// Points the headers of a slot to its buffers. `slot` is derived from `self.arena`.
    fn connect(&mut self, index: usize, slot: *mut Slot) {
        let arena = self.arena_mut();
        let (Some(parts), Some(incoming)) = (arena.slots.get_mut(index), arena.incoming.get_mut(index))
        else {
            return;
        };
        let [query, reply] = &mut parts.buffers;
        query.iov_base = slot.wrapping_byte_add(offset_of!(Slot, query)).cast();
        query.iov_len = MAX_QUERY;
        reply.iov_base = slot.wrapping_byte_add(offset_of!(Slot, reply)).cast();
        let header = &mut incoming.msg_hdr;
        header.msg_name = slot.wrapping_byte_add(offset_of!(Slot, peer)).cast();
        header.msg_control = slot.wrapping_byte_add(offset_of!(Slot, control)).cast();
        header.msg_iov = slot.wrapping_byte_add(offset_of!(Slot, buffers)).cast();
        header.msg_iovlen = 1;
        make_ready(header);
    }

    fn arena_mut(&mut self) -> &mut Arena {
        // SAFETY: `new` allocated the arena, only `drop` frees it, and `&mut self` is the only
        // access to it.
        unsafe { self.arena.as_mut() }
    }

    /// Waits for datagrams, receives those that have arrived and returns their number. Overwrites
    /// the previous batch.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` if none arrived within 100 ms, `Interrupted` on a signal, and other
    /// errors of the system. The caller may receive again after each of them.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let used = self.received;
        self.received = 0;
        self.queued = 0;
        // The kernel has changed only the headers it used.
        for incoming in self.arena_mut().incoming.iter_mut().take(used) {
            make_ready(&mut incoming.msg_hdr);
        }
        let headers = self.headers(offset_of!(Arena, incoming));
        // SAFETY: there are `BATCH` headers, each pointing to buffers of its slot with their true
        // lengths (`connect`, `make_ready`), and there is no live reference into the arena.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers,
                BATCH_COUNT,
                // The type of the flag differs between C libraries.
                libc::MSG_WAITFORONE as _,
                ptr::null_mut(),
            )
        };
        self.received = usize::try_from(count).map_err(|_| io::Error::last_os_error())?.min(BATCH);
        Ok(self.received)
    }

    /// Calls `respond` with each received datagram. It returns the length of the reply to send, if
    /// any.
    pub fn answer(&mut self, mut respond: impl FnMut(Datagram<'_>) -> Option<usize>) {
        let received = self.received;
        let mut queued = 0;
        let Arena { slots, incoming, outgoing } = self.arena_mut();
        for (slot, incoming) in slots.iter_mut().zip(incoming).take(received) {
            let length = (incoming.msg_len as usize).min(MAX_QUERY);
            let datagram = slot.peer.address().zip(slot.query.get(..length)).map(|(peer, query)| Datagram {
                peer,
                query,
                cut: incoming.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                reply: &mut slot.reply,
            });
            let Some(length) = datagram.and_then(&mut respond) else { continue };
            let Some(outgoing) = outgoing.get_mut(queued) else { break };
            slot.control.leave_interface_to_routing();
            let [_, reply] = &mut slot.buffers;
            reply.iov_len = length.min(MAX_UDP_REPLY);
            *outgoing = *incoming;
            // Points to the second buffer of the slot.
            outgoing.msg_hdr.msg_iov = incoming.msg_hdr.msg_iov.wrapping_add(1);
            queued += 1;
        }
        self.queued = queued;
    }

    /// Sends the replies without waiting. If the system refuses one (no room, no route, a packet
    /// filter), only that one is lost.
    pub fn send(&mut self, socket: &UdpSocket) -> Sent {
        let headers = self.headers(offset_of!(Arena, outgoing));
        let mut outcome = Sent::default();
        let mut next = 0;
        while let Some(left @ 1..) = self.queued.checked_sub(next) {
            // SAFETY: `answer` has filled the headers up to `queued`, each pointing to buffers of a
            // slot with their true lengths, and there is no live reference into the arena.
            let count = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    headers.wrapping_add(next),
                    libc::c_uint::try_from(left).unwrap_or(1),
                    libc::MSG_DONTWAIT as _,
                )
            };
            if let Ok(count @ 1..) = usize::try_from(count) {
                outcome.sent += count;
                next += count;
                continue;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                outcome.failed += 1;
                outcome.error = Some(error);
                next += 1;
            }
        }
        self.queued = 0;
        outcome
    }

    /// The headers at an offset of the arena.
    fn headers(&self, offset: usize) -> *mut libc::mmsghdr {
        self.arena.as_ptr().wrapping_byte_add(offset).cast()
    }
}

/// Resets the lengths that the kernel overwrites with what it used.
fn make_ready(header: &mut libc::msghdr) {
    header.msg_namelen = PEER_LENGTH;
    // Its type differs between C libraries.
    header.msg_controllen = size_of::<Control>() as _;
    header.msg_flags = 0;
}

impl Default for UdpBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for UdpBatch {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout, and freed only here.
        unsafe { std::alloc::dealloc(self.arena.as_ptr().cast(), Layout::new::<Arena>()) }
    }
}

impl fmt::Debug for UdpBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpBatch")
            .field("received", &self.received)
            .field("queued", &self.queued)
            .finish_non_exhaustive()
    }
}

impl RawAddress {
    /// Returns `None` for a family other than IPv4 and IPv6.
    fn address(&self) -> Option<SocketAddr> {
        use libc::{sockaddr_in as V4, sockaddr_in6 as V6};
        let port = u16::from_be_bytes(field(&self.0, offset_of!(V4, sin_port))?);
        match u16::from_ne_bytes(field(&self.0, offset_of!(V4, sin_family))?).into() {
            libc::AF_INET => {
                let ip = Ipv4Addr::from(field::<4>(&self.0, offset_of!(V4, sin_addr))?);
                Some(SocketAddrV4::new(ip, port).into())
            }
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from(field::<16>(&self.0, offset_of!(V6, sin6_addr))?);
                let flow = u32::from_ne_bytes(field(&self.0, offset_of!(V6, sin6_flowinfo))?);
                let scope = u32::from_ne_bytes(field(&self.0, offset_of!(V6, sin6_scope_id))?);
                Some(SocketAddrV6::new(ip, port, flow, scope).into())
            }
            _ => None,
        }
    }
}

/// Reads a field at an offset.
fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset + N)?.try_into().ok()
}

impl Control {
    /// Clears the interface of the packet information and keeps the source address. Otherwise the
    /// reply would leave by the interface that the query arrived on, against the routing table.
    /// Link-local addresses need their interface.
    fn leave_interface_to_routing(&mut self) {
        use libc::{in_pktinfo as V4, in6_pktinfo as V6};
        let (local, interface) = match (self.header.cmsg_level, self.header.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => (
                field::<4>(&self.info, offset_of!(V4, ipi_spec_dst)).map(IpAddr::from),
                offset_of!(V4, ipi_ifindex),
            ),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => (
                field::<16>(&self.info, offset_of!(V6, ipi6_addr)).map(IpAddr::from),
                offset_of!(V6, ipi6_ifindex),
            ),
            _ => return,
        };
        let link_local = matches!(local, Some(IpAddr::V6(address)) if address.is_unicast_link_local());
        if let (false, Some(index)) = (link_local, self.info.get_mut(interface..interface + 4)) {
            index.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(address: &str) -> (UdpSocket, UdpSocket) {
        let server = bind_udp(address.parse().unwrap(), false).unwrap();
        let client = UdpSocket::bind(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        (server, client)
    }

    /// Replies with the bytes of the query in reverse order.
    fn reverse(datagram: Datagram<'_>) -> usize {
        let Datagram { query, reply, .. } = datagram;
        for (to, from) in reply.iter_mut().zip(query.iter().rev()) {
            *to = *from;
        }
        query.len()
    }

    fn read(client: &UdpSocket) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let length = client.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    #[test]
    fn batches_of_all_sizes_are_answered_in_order() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (server, client) = pair(address);
            let mut batch = UdpBatch::new();
            // Sizes fall and rise, so that headers are used, skipped and used again.
            for size in [BATCH, 1, 7, BATCH - 1, 2, BATCH] {
                for number in 0..size {
                    client.send(&vec![u8::try_from(number).unwrap(); number + 1]).unwrap();
                }
                let mut seen = 0;
                while seen < size {
                    seen += batch.receive(&server).unwrap();
                    batch.answer(|datagram| {
                        assert_eq!(datagram.peer, client.local_addr().unwrap());
                        assert!(!datagram.cut);
                        Some(reverse(datagram))
                    });
                    let sent = batch.send(&server);
                    assert_eq!((sent.failed, sent.error.map(|error| error.kind())), (0, None));
                }
                for number in 0..size {
                    assert_eq!(read(&client), vec![u8::try_from(number).unwrap(); number + 1]);
                }
            }
        }
    }

    #[test]
    fn empty_and_long_datagrams() {
        let (server, client) = pair("127.0.0.1:0");
        let mut batch = UdpBatch::new();
        for (length, cut) in
            [(0, false), (MAX_QUERY, false), (MAX_QUERY + 1, true), (60_000, true), (5, false)]
        {
            client.send(&vec![7; length]).unwrap();
            assert_eq!(batch.receive(&server).unwrap(), 1);
            batch.answer(|datagram| {
                assert_eq!((datagram.query.len(), datagram.cut), (length.min(MAX_QUERY), cut));
                Some(reverse(datagram))
            });
            assert_eq!(batch.send(&server).sent, 1);
            assert_eq!(read(&client).len(), length.min(MAX_QUERY));
        }
    }

    #[test]
    fn a_reply_that_cannot_be_sent_is_lost_alone() {
        let (server, client) = pair("127.0.0.1:0");
        let mut batch = UdpBatch::new();
        for number in 0..6u8 {
            client.send(&[number]).unwrap();
        }
        assert_eq!(batch.receive(&server).unwrap(), 6);
        // The system refuses to send to port 0.
        for number in [0, 3, 5] {
            batch.arena_mut().slots[number].peer.0[2..4].fill(0);
        }
        // One query gets no reply.
        batch.answer(|datagram| (datagram.query != [2]).then(|| reverse(datagram)));
        let sent = batch.send(&server);
        assert_eq!((sent.sent, sent.failed), (2, 3));
        assert_eq!(sent.error.unwrap().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(read(&client), [1]);
        assert_eq!(read(&client), [4]);
    }

    #[test]
    fn receiving_goes_on_after_an_error() {
        let (server, client) = pair("127.0.0.1:0");
        let mut batch = UdpBatch::new();
        assert_eq!(batch.receive(&server).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // A connected socket gets an error if nobody listens at the other end.
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        server.connect(closed).unwrap();
        server.send(&[1]).unwrap();
        assert_eq!(batch.receive(&server).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        server.connect(client.local_addr().unwrap()).unwrap();
        client.send(&[9]).unwrap();
        assert_eq!(batch.receive(&server).unwrap(), 1);
    }

    #[test]
    fn replies_leave_from_the_address_that_was_asked() {
        for (bound, asked) in [("0.0.0.0:0", "127.0.0.2"), ("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "::1")] {
            let server = bind_udp(bound.parse().unwrap(), false).unwrap();
            let asked = SocketAddr::new(asked.parse().unwrap(), server.local_addr().unwrap().port());
            let client = UdpSocket::bind(bound).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client.send_to(&[1, 2, 3], asked).unwrap();
            let mut batch = UdpBatch::new();
            // The batch first receives a datagram without packet information, which must leave no
            // trace.
            let plain = UdpSocket::bind((asked.ip(), 0)).unwrap();
            client.send_to(&[0], plain.local_addr().unwrap()).unwrap();
            assert_eq!(batch.receive(&plain).unwrap(), 1);
            assert_eq!(batch.receive(&server).unwrap(), 1);
            batch.answer(|datagram| Some(reverse(datagram)));
            assert_eq!(batch.send(&server).sent, 1);
            let mut buffer = [0; 16];
            assert_eq!(client.recv_from(&mut buffer).unwrap(), (3, asked));
        }
    }

    #[test]
    fn a_port_is_taken_alone_and_shared_later() {
        let alone = bind_udp("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let address = alone.local_addr().unwrap();
        assert_eq!(bind_udp(address, true).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        share_port(&alone).unwrap();
        let second = bind_udp(address, true).unwrap();
        assert_eq!(bind_udp(address, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // The kernel chooses the socket by the client's port; the chance that all take the same one
        // is 2^-63.
        for _ in 0..64 {
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[1], address).unwrap();
        }
        for socket in [alone, second] {
            assert!(UdpBatch::new().receive(&socket).unwrap() < 64);
        }
    }

    #[test]
    fn the_descriptor_limit_ends_at_the_hard_limit() {
        let limit = raise_descriptor_limit().unwrap();
        assert!(limit >= 64);
        assert_eq!(raise_descriptor_limit().unwrap(), limit);
    }
}
