//! Batches of datagrams: many are received, and many replies sent, in one system call each.

use std::alloc::Layout;
use std::fmt;
use std::io;
use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

/// Maximum number of datagrams per `recvmmsg` or `sendmmsg` call.
pub const BATCH: usize = BATCH_COUNT as usize;

/// [`BATCH`] in the type that the calls take.
const BATCH_COUNT: libc::c_uint = 64;

/// Longest query that is received whole, bytes. A query is a name and a few options; EDNS suggests
/// a payload size of 4096 bytes (RFC 6891, section 6.2.5).
pub const MAX_QUERY: usize = 4096;

/// Longest UDP reply, bytes.
pub const MAX_UDP_REPLY: usize = 4096;

/// Bytes of a query that have room in its slot. Hardly a query is longer, and a batch of such slots
/// stays in the second-level cache. The rest of a longer one is received apart.
const SLOT: usize = 512;

/// Size of `in6_pktinfo`, the larger of the two packet information structures, bytes.
const PACKET_INFO: libc::c_uint = 20;

/// Size of `sockaddr_in6`, the larger of the two socket addresses, bytes.
const PEER_LENGTH: libc::socklen_t = 28;

/// Receives up to [`BATCH`] datagrams in one call and sends their replies in one call, each from
/// the address its query was sent to. Allocates only in [`UdpBatch::new`].
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

/// Buffers that the kernel reads and writes. `slots`, `incoming` and `rests` correspond by index;
/// `outgoing` and `reply_buffers` are those of the replies, without gaps.
#[repr(C)]
struct Arena {
    slots: [Slot; BATCH],
    incoming: [libc::mmsghdr; BATCH],
    outgoing: [libc::mmsghdr; BATCH],
    reply_buffers: [libc::iovec; BATCH],
    /// One reply after the other, so that the short ones of a batch are close together.
    replies: [u8; BATCH * MAX_UDP_REPLY],
    /// The parts of long queries that have no room in their slots.
    rests: [[u8; MAX_QUERY - SLOT]; BATCH],
    /// A long query, put together.
    whole: [u8; MAX_QUERY],
}

/// Room for one datagram. Both directions use the same peer and control data.
#[repr(C)]
struct Slot {
    peer: RawAddress,
    control: Control,
    /// The query buffer, and that of the rest of the query.
    buffers: [libc::iovec; 2],
    query: [u8; SLOT],
}

/// A `sockaddr_in` or `sockaddr_in6`, as bytes.
#[repr(C, align(8))]
struct RawAddress([u8; PEER_LENGTH as usize]);

/// The one control message of a datagram, `in_pktinfo` or `in6_pktinfo`, as bytes.
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
    /// Allocates the buffers, about half a mebibyte. Only what was used takes up memory.
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
        let rests = self.part::<[u8; MAX_QUERY - SLOT]>(offset_of!(Arena, rests));
        let arena = self.arena_mut();
        let (Some(parts), Some(incoming)) = (arena.slots.get_mut(index), arena.incoming.get_mut(index))
        else {
            return;
        };
        let [query, rest] = &mut parts.buffers;
        query.iov_base = slot.wrapping_byte_add(offset_of!(Slot, query)).cast();
        query.iov_len = SLOT;
        rest.iov_base = rests.wrapping_add(index).cast();
        rest.iov_len = MAX_QUERY - SLOT;
        let header = &mut incoming.msg_hdr;
        header.msg_name = slot.wrapping_byte_add(offset_of!(Slot, peer)).cast();
        header.msg_control = slot.wrapping_byte_add(offset_of!(Slot, control)).cast();
        header.msg_iov = slot.wrapping_byte_add(offset_of!(Slot, buffers)).cast();
        header.msg_iovlen = 2;
        make_ready(header);
    }

    fn arena_mut(&mut self) -> &mut Arena {
        // SAFETY: `new` allocated the arena, only `drop` frees it, and `&mut self` is the only
        // access to it.
        unsafe { self.arena.as_mut() }
    }

    /// Receives the datagrams that have arrived and returns their number. Overwrites the previous
    /// batch. If `wait`, waits for one up to the time limit of the socket.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` if none has arrived, `Interrupted` on a signal, and other errors of the
    /// system. The caller may receive again after each of them.
    pub fn receive(&mut self, socket: &UdpSocket, wait: bool) -> io::Result<usize> {
        let used = self.received;
        self.received = 0;
        self.queued = 0;
        // The kernel has changed only the headers it used.
        for incoming in self.arena_mut().incoming.iter_mut().take(used) {
            make_ready(&mut incoming.msg_hdr);
        }
        let headers = self.part(offset_of!(Arena, incoming));
        let flag = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        // SAFETY: there are `BATCH` headers, each pointing to buffers of its slot with their true
        // lengths (`connect`, `make_ready`), and there is no live reference into the arena.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers,
                BATCH_COUNT,
                // The type of the flag differs between C libraries.
                flag as _,
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
        let replies_at = self.part::<u8>(offset_of!(Arena, replies));
        let buffers_at = self.part::<libc::iovec>(offset_of!(Arena, reply_buffers));
        let Arena { slots, incoming, outgoing, reply_buffers, replies, rests, whole } = self.arena_mut();
        let (mut queued, mut used) = (0, 0);
        for ((slot, incoming), rest) in slots.iter_mut().zip(incoming).zip(rests).take(received) {
            let length = (incoming.msg_len as usize).min(MAX_QUERY);
            let query = match length.checked_sub(SLOT) {
                None | Some(0) => slot.query.get(..length),
                Some(beyond) => put_together(whole, &slot.query, rest.get(..beyond)),
            };
            let Some(reply) = replies.get_mut(used..used + MAX_UDP_REPLY) else { break };
            let datagram = slot.peer.address().zip(query).map(|(peer, query)| Datagram {
                peer,
                query,
                cut: incoming.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                reply,
            });
            let Some(length) = datagram.and_then(&mut respond) else { continue };
            let (Some(outgoing), Some(buffer)) = (outgoing.get_mut(queued), reply_buffers.get_mut(queued))
            else {
                break;
            };
            slot.control.leave_interface_to_routing();
            buffer.iov_base = replies_at.wrapping_add(used).cast();
            buffer.iov_len = length.min(MAX_UDP_REPLY);
            *outgoing = *incoming;
            outgoing.msg_hdr.msg_iov = buffers_at.wrapping_add(queued);
            outgoing.msg_hdr.msg_iovlen = 1;
            used += buffer.iov_len;
            queued += 1;
        }
        self.queued = queued;
    }

    /// Sends the replies without waiting. If the system refuses one (no room, no route, a packet
    /// filter), only that one is lost.
    pub fn send(&mut self, socket: &UdpSocket) -> Sent {
        let headers = self.part::<libc::mmsghdr>(offset_of!(Arena, outgoing));
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

    /// The part of the arena at an offset.
    fn part<T>(&self, offset: usize) -> *mut T {
        self.arena.as_ptr().wrapping_byte_add(offset).cast()
    }
}

/// Copies the two parts of a long query into one buffer.
fn put_together<'a>(
    whole: &'a mut [u8; MAX_QUERY],
    query: &[u8; SLOT],
    rest: Option<&[u8]>,
) -> Option<&'a [u8]> {
    let rest = rest?;
    let (first, second) = whole.split_at_mut(SLOT);
    first.copy_from_slice(query);
    second.get_mut(..rest.len())?.copy_from_slice(rest);
    whole.get(..SLOT + rest.len())
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
    use std::time::Duration;

    use super::*;
    use crate::sys::udp::bind_udp;

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
                    seen += batch.receive(&server, true).unwrap();
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
        for (length, cut) in [
            (0, false),
            (SLOT, false),
            (SLOT + 1, false),
            (MAX_QUERY, false),
            (MAX_QUERY + 1, true),
            (60_000, true),
            (5, false),
        ] {
            let message: Vec<u8> = (0..length).map(|at| (at % 251).to_le_bytes()[0]).collect();
            client.send(&message).unwrap();
            assert_eq!(batch.receive(&server, true).unwrap(), 1);
            batch.answer(|datagram| {
                assert_eq!(datagram.cut, cut);
                assert_eq!(datagram.query, &message[..length.min(MAX_QUERY)]);
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
        assert_eq!(batch.receive(&server, true).unwrap(), 6);
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
    fn the_replies_of_a_batch_are_of_all_sizes() {
        let (server, client) = pair("127.0.0.1:0");
        let mut batch = UdpBatch::new();
        // No more of the longest ones than the client's buffer takes on any machine.
        for lengths in [vec![MAX_UDP_REPLY; BATCH / 4], vec![0, 1, MAX_UDP_REPLY, 2, SLOT, 5]] {
            for number in 0..lengths.len() {
                client.send(&[u8::try_from(number).unwrap()]).unwrap();
            }
            let mut seen = 0;
            while seen < lengths.len() {
                seen += batch.receive(&server, true).unwrap();
                batch.answer(|Datagram { query, reply, .. }| {
                    let length = lengths[usize::from(query[0])];
                    reply[..length].fill(query[0]);
                    Some(length)
                });
                assert_eq!(batch.send(&server).failed, 0);
            }
            for (number, length) in (0..).zip(lengths) {
                assert_eq!(read(&client), vec![number; length]);
            }
        }
    }

    #[test]
    fn a_batch_of_usual_queries_and_replies_fits_into_the_cache() {
        const { assert!(offset_of!(Arena, replies) + BATCH * 512 < 96 << 10) };
    }

    #[test]
    fn receiving_goes_on_after_an_error() {
        let (server, client) = pair("127.0.0.1:0");
        let mut batch = UdpBatch::new();
        for wait in [true, false] {
            assert_eq!(batch.receive(&server, wait).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        // A connected socket is told if nobody listens at the other end.
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        server.connect(closed).unwrap();
        server.send(&[1]).unwrap();
        assert_eq!(batch.receive(&server, true).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        server.connect(client.local_addr().unwrap()).unwrap();
        client.send(&[9]).unwrap();
        assert_eq!(batch.receive(&server, true).unwrap(), 1);
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
            assert_eq!(batch.receive(&plain, true).unwrap(), 1);
            assert_eq!(batch.receive(&server, true).unwrap(), 1);
            batch.answer(|datagram| Some(reverse(datagram)));
            assert_eq!(batch.send(&server).sent, 1);
            let mut buffer = [0; 16];
            assert_eq!(client.recv_from(&mut buffer).unwrap(), (3, asked));
        }
    }
}
