//! The sockets of the listeners before they are read: bound here, or taken over from an earlier process.
//!
//! Answering does not belong here.
//!
//! An address that the earlier process had keeps its sockets, so no datagram or connection in their queues is lost:
//!
//! ```text
//! more workers than sockets    further sockets share the port
//! fewer workers than sockets   a worker reads several, because closing one would lose its queue
//! ```
//!
//! The kernel gives datagrams to a new socket of a used port at once, also if nobody reads it yet. So sockets that share a
//! port with those of the earlier process are bound only when they are read: [`BoundListeners::complete`].

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use tracing::warn;

use crate::listener::placement::Placement;
use crate::sys;

/// Number of attempts to find a port that is free for both UDP and TCP.
const PORT_ATTEMPTS: usize = 32;

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} over {protocol}: {}", explain(error))]
pub struct ListenError {
    /// The requested address.
    pub address: SocketAddr,
    /// `UDP` or `TCP`.
    pub protocol: &'static str,
    /// The system's error.
    #[source]
    pub error: io::Error,
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process has this port, or another address under [server] listen \
             includes it (0.0.0.0 is all of IPv4). Stop the process or choose another address; on port 53 of a \
             desktop it is often systemd-resolved, which leaves other addresses than 127.0.0.53 and 127.0.0.54 \
             free"
            .into(),
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege. Run as root, or give the program \
             CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE), or choose another port"
            .into(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".into(),
        _ if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => "this machine does not support this address \
             family; IPv6 may be switched off. Remove the address from [server] listen"
            .into(),
        _ => error.to_string(),
    }
}

/// Sockets that are bound but not read yet.
#[derive(Debug)]
pub struct BoundListeners {
    pub(super) endpoints: Vec<Endpoint>,
    /// Those of an earlier process that are no longer wanted. They are read until it has ended, because their queues are
    /// not empty, and the kernel prefers them to a wider address.
    pub(super) retired: Vec<Endpoint>,
    /// Addresses that share a port with those of `retired`, each with its place among the endpoints.
    late: Vec<(usize, SocketAddr)>,
    workers: usize,
    pub(super) placement: Placement,
}

/// How the kernel chooses the worker of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Steering {
    /// By a hash of the addresses and ports of both sides.
    #[default]
    Hash,
    /// By the CPU on which the datagram arrives.
    Cpu,
}

/// The sockets of one address.
#[derive(Debug)]
pub struct Endpoint {
    /// With the port that the system chose.
    pub address: SocketAddr,
    /// At least one per worker. A socket may have datagrams in its queue.
    pub udp: Vec<UdpSocket>,
    /// The listener.
    pub tcp: TcpListener,
    /// Whether an earlier process has read from these sockets.
    pub(super) is_taken_over: bool,
}

/// Binds one UDP socket per worker and one TCP listener on each address. `workers` 0 means one per
/// CPU that this process may use, or as many as its CPU quota allows if that is less. Port 0 chooses
/// a port that is free for both.
///
/// # Errors
/// If a socket cannot be bound; then all others are closed.
pub fn bind(addresses: &[SocketAddr], workers: usize) -> Result<BoundListeners, ListenError> {
    bind_after(addresses, workers, Vec::new())
}

/// Like [`bind`]. The sockets in `earlier` come from the process that this one replaces: an address that is still
/// wanted keeps them; the others are read until [`Listeners::retire`](super::Listeners::retire).
///
/// # Errors
/// Those of [`bind`].
pub fn bind_after(
    addresses: &[SocketAddr],
    workers: usize,
    mut earlier: Vec<Endpoint>,
) -> Result<BoundListeners, ListenError> {
    let configured = workers;
    let workers = match configured {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    // First the addresses that keep their sockets, so that those that remain may be in the way of others.
    let kept: Vec<Option<Endpoint>> = addresses.iter().map(|wanted| take(&mut earlier, *wanted)).collect();
    let (mut endpoints, mut late) = (Vec::new(), Vec::new());
    for (place, (&wanted, kept)) in addresses.iter().zip(kept).enumerate() {
        match kept {
            Some(kept) => endpoints.push(kept),
            None if earlier.iter().any(|earlier| earlier.address.port() == wanted.port()) => {
                late.push((place, wanted));
            }
            None => endpoints.push(Endpoint::bind(wanted, workers, &[])?),
        }
    }
    let placement = Placement::new(configured, workers);
    Ok(BoundListeners { endpoints, retired: earlier, late, workers, placement })
}

/// Takes the endpoint of an address. Port 0 stands for any port.
fn take(earlier: &mut Vec<Endpoint>, wanted: SocketAddr) -> Option<Endpoint> {
    let is_wanted = |endpoint: &Endpoint| {
        let address = endpoint.address;
        address == wanted || (wanted.port() == 0 && address.ip() == wanted.ip())
    };
    earlier.iter().position(is_wanted).map(|index| earlier.swap_remove(index))
}

impl Endpoint {
    /// The sockets of an address, from an earlier process.
    #[must_use]
    pub fn taken_over(address: SocketAddr, udp: Vec<UdpSocket>, tcp: TcpListener) -> Self {
        Self { address, udp, tcp, is_taken_over: true }
    }

    fn bind(address: SocketAddr, workers: usize, earlier: &[Self]) -> Result<Self, ListenError> {
        let mut attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            match Self::try_bind(address, workers, earlier) {
                Err(error) if attempts > 0 && error.error.kind() == io::ErrorKind::AddrInUse => {}
                outcome => return outcome,
            }
        }
    }

    fn try_bind(wanted: SocketAddr, workers: usize, earlier: &[Self]) -> Result<Self, ListenError> {
        let udp_error = |error| ListenError { address: wanted, protocol: "UDP", error };
        // An address such as 0.0.0.0 includes others, so their earlier sockets must share the port meanwhile.
        let in_the_way: Vec<_> =
            earlier.iter().filter(|earlier| earlier.address.port() == wanted.port()).collect();
        for socket in in_the_way.iter().flat_map(|earlier| &earlier.udp) {
            sys::udp::share_port(socket, true).map_err(udp_error)?;
        }
        let is_shared = !in_the_way.is_empty();
        // The first socket is bound alone. With SO_REUSEPORT, a second server of the same user
        // could bind the port too, and each server would silently get some of the queries.
        let first = sys::udp::bind_udp(wanted, is_shared).map_err(udp_error)?;
        let address = first.local_addr().map_err(udp_error)?;
        let tcp_error = |error| ListenError { address, protocol: "TCP", error };
        for earlier in in_the_way {
            sys::udp::share_port(&earlier.tcp, true).map_err(tcp_error)?;
        }
        let listen = if is_shared { sys::stream::listen_shared } else { sys::stream::listen };
        let tcp = listen(address).map_err(tcp_error)?;
        if is_shared {
            sys::udp::share_port(&tcp, false).map_err(tcp_error)?;
            sys::udp::share_port(&first, false).map_err(udp_error)?;
        }
        Self { address, udp: vec![first], tcp, is_taken_over: false }.with_workers(workers)
    }

    /// Adds sockets until there is one per worker.
    fn with_workers(mut self, workers: usize) -> Result<Self, ListenError> {
        let Self { address, ref mut udp, .. } = self;
        let udp_error = |error| ListenError { address, protocol: "UDP", error };
        // Even later, a program of the same user that shares the port could take queries. So one
        // worker shares nothing.
        if let [only] = &**udp
            && workers > 1
        {
            sys::udp::share_port(only, true).map_err(udp_error)?;
        }
        for _ in udp.len()..workers {
            udp.push(sys::udp::bind_udp(address, true).map_err(udp_error)?);
        }
        Ok(self)
    }

    fn try_clone(&self) -> io::Result<Self> {
        let udp = self.udp.iter().map(UdpSocket::try_clone).collect::<io::Result<_>>()?;
        // These will be read after others have been, whose drops are counted.
        Ok(Self { udp, tcp: self.tcp.try_clone()?, is_taken_over: true, ..*self })
    }
}

impl BoundListeners {
    /// The addresses in the order of the configuration, with the ports that the system chose.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<_> = self.endpoints.iter().map(|endpoint| endpoint.address).collect();
        for &(place, address) in &self.late {
            addresses.insert(place, address);
        }
        addresses
    }

    /// Binds the sockets that share a port with others, and lets the kernel distribute datagrams as configured. The
    /// sockets must be read at once.
    ///
    /// # Errors
    /// If a socket cannot be bound.
    pub fn complete(&mut self, steering: Steering) -> Result<(), ListenError> {
        for (place, address) in std::mem::take(&mut self.late) {
            self.endpoints.insert(place, Endpoint::bind(address, self.workers, &self.retired)?);
        }
        let endpoints = std::mem::take(&mut self.endpoints).into_iter();
        self.endpoints =
            endpoints.map(|endpoint| endpoint.with_workers(self.workers)).collect::<Result<_, _>>()?;
        match steering {
            Steering::Cpu => self.steer_by_cpu(),
            Steering::Hash => self.steer_by_hash(),
        }
        Ok(())
    }

    /// Number of UDP workers, each of which counts with counters of its own.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The sockets of each address.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The same sockets under other descriptors. They stay bound until both are closed.
    ///
    /// # Errors
    /// Returns the system's error: no more descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        let endpoints = self.endpoints.iter().map(Endpoint::try_clone).collect::<io::Result<_>>()?;
        let placement = self.placement.clone();
        Ok(Self { endpoints, retired: Vec::new(), late: Vec::new(), workers: self.workers, placement })
    }

    /// Number of descriptors that the listeners need: two for each socket, because an upgrade needs a second one, and
    /// one for each worker.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        let of_endpoint = |endpoint: &Endpoint| endpoint.udp.len().max(self.workers) + 1;
        let sockets: usize = self.endpoints.iter().map(of_endpoint).sum();
        let sockets = sockets + self.late.len() * (self.workers + 1);
        2 * sockets + self.workers()
    }

    /// Lets the kernel distribute datagrams by its hash, also where an earlier process chose otherwise.
    fn steer_by_hash(&self) {
        for Endpoint { address, udp, .. } in self.endpoints.iter().filter(|endpoint| endpoint.is_taken_over) {
            if let Some(socket) = udp.first()
                && let Err(error) = sys::udp::steer_by_hash(socket)
                && error.kind() != io::ErrorKind::NotFound
            {
                warn!(%address, %error, "`steering = \"hash\"` has no effect on this address: the kernel refuses it");
            }
        }
    }

    /// Lets each datagram be answered on the CPU on which it has arrived. If that is not possible, at
    /// all or for one address, logs why, and the kernel distributes by its hash there.
    pub(super) fn steer_by_cpu(&self) {
        let cpus = match self.placement.one_on_each() {
            // A port that is not shared needs no choice.
            Ok([_]) => return,
            Ok(cpus) => cpus,
            Err(reason) => {
                return warn!(
                    "`steering = \"cpu\"` has no effect: it needs one UDP worker for each CPU that steerd may use. \
                     Reason: {reason}"
                );
            }
        };
        for Endpoint { address, udp, .. } in &self.endpoints {
            if let Some(socket) = udp.first()
                && let Err(error) = sys::udp::steer_by_cpu(socket, cpus)
            {
                warn!(%address, %error, "`steering = \"cpu\"` has no effect on this address: the kernel refuses it");
            }
        }
    }
}
