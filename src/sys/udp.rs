//! UDP sockets and their options.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Time limit of a receive call that waits, and of [`Ready::wait`](super::ready::Ready::wait). An idle
/// worker checks this often whether to stop.
pub const RECEIVE_TIMEOUT: Duration = Duration::from_millis(100);

/// Requested socket receive buffer, bytes. The kernel caps it at `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Binds a UDP socket with the options that [`UdpBatch`](super::batch::UdpBatch) needs.
///
/// If `shared`, other shared sockets of the same user may bind the same port (`SO_REUSEPORT`), and
/// the kernel distributes the clients among them. Otherwise the port must be free.
///
/// # Errors
///
/// Returns the system's error: address in use, not permitted, no such address.
pub fn bind_udp(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    let (level, packet_info, mtu_discovery) = if address.is_ipv4() {
        (libc::IPPROTO_IP, libc::IP_PKTINFO, libc::IP_MTU_DISCOVER)
    } else {
        socket.set_only_v6(true)?;
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, libc::IPV6_MTU_DISCOVER)
    };
    // A reply must come from the address that the query was sent to. A socket that is bound to one
    // address has no other, and saves the kernel a control message for each datagram.
    if address.ip().is_unspecified() {
        super::set_option(&socket, level, packet_info, 1)?;
    }
    // Path MTU discovery is off because its ICMP messages can be forged, and the fragments they cause
    // can be poisoned. The value is the same for IPv6.
    super::set_option(&socket, level, mtu_discovery, libc::IP_PMTUDISC_OMIT)?;
    socket.set_read_timeout(Some(RECEIVE_TIMEOUT))?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Sets whether shared sockets may bind the port of this socket.
///
/// # Errors
///
/// Returns the error of `setsockopt`.
pub fn share_port(socket: &impl AsFd, shared: bool) -> io::Result<()> {
    socket2::SockRef::from(socket).set_reuse_port(shared)
}

/// Makes the kernel choose among the sockets that share a port by the CPU on which a datagram arrives:
/// if this is the n-th in `cpus`, the datagram goes to the n-th socket in the order of binding.
/// Datagrams on other CPUs are distributed as before.
///
/// # Errors
///
/// Returns the error of `setsockopt`, for example from a kernel without this option.
pub fn steer_by_cpu(socket: &UdpSocket, cpus: &[usize]) -> io::Result<()> {
    let code = |code: u32| u16::try_from(code).unwrap_or(0);
    let instruction = |code, if_false, value| libc::sock_filter { code, jt: 0, jf: if_false, k: value };
    let load = code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS);
    let (compare, end) =
        (code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K), code(libc::BPF_RET | libc::BPF_K));
    let mut program = vec![instruction(load, 0, (libc::SKF_AD_OFF + libc::SKF_AD_CPU).cast_unsigned())];
    for (place, cpu) in (0..).zip(cpus) {
        program.push(instruction(compare, 1, u32::try_from(*cpu).unwrap_or(u32::MAX)));
        program.push(instruction(end, 0, place));
    }
    // The index of no socket.
    program.push(instruction(end, 0, u32::MAX));
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    let (option, size) = (libc::SO_ATTACH_REUSEPORT_CBPF, size_of_val(&program));
    let size = libc::socklen_t::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `program` and the instructions that it points to outlive the call, which only reads them;
    // the sizes are correct.
    super::succeeded(unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const program).cast(), size)
    })
}

/// Ends [`steer_by_cpu`] for all sockets that share the port of this one.
///
/// # Errors
///
/// Returns `NotFound` if nothing is to be ended, otherwise the error of `setsockopt`.
pub fn steer_by_hash(socket: &UdpSocket) -> io::Result<()> {
    super::set_option(&socket2::SockRef::from(socket), libc::SOL_SOCKET, libc::SO_DETACH_REUSEPORT_BPF, 0)
}

/// The number of datagrams that the kernel has dropped at a socket, mostly because its receive buffer
/// was full; it wraps. `SO_RXQ_OVFL` gives the same number, but with each datagram: this costs every
/// query a little, and tells nothing while none arrives.
///
/// # Errors
///
/// Returns the error of `getsockopt`, for example from a kernel without this option.
pub fn dropped(socket: &UdpSocket) -> io::Result<u32> {
    /// The index in the figures of `SO_MEMINFO`: `SK_MEMINFO_DROPS`.
    const DROPS: usize = 8;
    let mut figures = [0_u32; DROPS + 1];
    let mut size =
        libc::socklen_t::try_from(size_of_val(&figures)).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `figures` is a valid location for `size` bytes, and no more are written.
    super::succeeded(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            (&raw mut figures).cast(),
            &raw mut size,
        )
    })?;
    let [.., drops] = figures;
    let is_whole = usize::try_from(size).is_ok_and(|size| size == size_of_val(&figures));
    if is_whole { Ok(drops) } else { Err(io::ErrorKind::Unsupported.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::affinity;
    use crate::sys::batch::UdpBatch;

    #[test]
    fn a_port_is_taken_alone_and_shared_later() {
        let alone = bind_udp("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let address = alone.local_addr().unwrap();
        assert_eq!(bind_udp(address, true).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        share_port(&alone, true).unwrap();
        let second = bind_udp(address, true).unwrap();
        assert_eq!(bind_udp(address, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // The kernel chooses the socket by the client's port; the chance that all take the same one
        // is 2^-63.
        for _ in 0..64 {
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[1], address).unwrap();
        }
        for socket in [alone, second] {
            assert!(UdpBatch::new().receive(&socket, true).unwrap() < 64);
        }
    }

    /// Sends from many ports to the address, from one CPU.
    fn send_from(cpu: usize, address: SocketAddr) {
        std::thread::spawn(move || {
            affinity::pin_to(cpu).unwrap();
            for _ in 0..40 {
                UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[1], address).unwrap();
            }
        })
        .join()
        .unwrap();
    }

    fn waiting_at(socket: &UdpSocket) -> usize {
        let (mut batch, mut count) = (UdpBatch::new(), 0);
        while let Ok(more) = batch.receive(socket, false) {
            count += more;
        }
        count
    }

    #[test]
    fn a_datagram_goes_to_the_socket_of_its_cpu() {
        let first = bind_udp("127.0.0.1:0".parse().unwrap(), false).unwrap();
        share_port(&first, true).unwrap();
        let address = first.local_addr().unwrap();
        let second = bind_udp(address, true).unwrap();
        let cpus = affinity::allowed_cpus().unwrap();
        let of = |index: usize| cpus[index % cpus.len()];
        // On loopback, a datagram arrives on the CPU that sent it.
        steer_by_cpu(&first, &[of(0), 9999]).unwrap();
        send_from(of(0), address);
        assert_eq!([&first, &second].map(waiting_at), [40, 0]);
        steer_by_cpu(&first, &[9999, of(1)]).unwrap();
        send_from(of(1), address);
        assert_eq!([&first, &second].map(waiting_at), [0, 40]);
        // No socket has this CPU, so the ports of the clients count; the chance that all take the same
        // socket is 2^-39.
        steer_by_cpu(&second, &[9999, 9998]).unwrap();
        send_from(of(0), address);
        let [one, other] = [&first, &second].map(waiting_at);
        assert!(one > 0 && other > 0 && one + other == 40, "{one} {other}");
    }

    #[test]
    fn what_the_kernel_drops_is_counted() {
        let socket = bind_udp("127.0.0.1:0".parse().unwrap(), false).unwrap();
        socket2::SockRef::from(&socket).set_recv_buffer_size(1).unwrap();
        assert_eq!(dropped(&socket).unwrap(), 0);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            client.send_to(&[0; 500], socket.local_addr().unwrap()).unwrap();
        }
        let received = waiting_at(&socket);
        assert!((1..100).contains(&received), "{received}");
        assert_eq!(usize::try_from(dropped(&socket).unwrap()).unwrap(), 100 - received);
    }
}
