//! The listeners of the admin server, before it serves: bound at a start, or taken from the process that this one
//! replaces.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;

use tokio::net::{TcpListener, UnixListener};

use crate::admin::connections;
use crate::admin::socket_file::{self, SocketFile};
use crate::config::{AdminListen, SocketRights};
use crate::sys;

/// The error if an address of `[admin] listen` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the admin server cannot listen on {place}: {source}{}", advice(place, source))]
pub struct AdminListenError {
    /// The address.
    pub place: AdminListen,
    source: io::Error,
}

impl AdminListenError {
    /// The kind of the system's error.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

fn advice(place: &AdminListen, error: &io::Error) -> &'static str {
    match (error.kind(), place) {
        (io::ErrorKind::AddrInUse, AdminListen::Tcp(_)) => {
            "; another program, or another steerd, has the port: stop it, or change `listen` under [admin]"
        }
        (io::ErrorKind::AddrNotAvailable, _) => {
            "; this machine has no such address: change `listen` under [admin]"
        }
        (io::ErrorKind::PermissionDenied, AdminListen::Tcp(_)) => {
            "; choose a port from 1024 up for `listen` under [admin]"
        }
        (io::ErrorKind::PermissionDenied, AdminListen::Unix(_)) => {
            "; the user that runs steerd needs a directory that it may write to, and only a group of its own can be \
             that of the socket"
        }
        (io::ErrorKind::NotFound, AdminListen::Unix(_)) => {
            "; create the directory, and let the user that runs steerd write to it (systemd: RuntimeDirectory=steerd)"
        }
        _ => "",
    }
}

/// A bound listener.
#[derive(Debug)]
pub(super) enum AdminListener {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
}

/// The bound sockets of the admin server, before it serves.
#[derive(Debug)]
pub struct BoundAdminServer {
    pub(super) listeners: Vec<AdminListener>,
    /// The sockets of the process that this one replaces, if they are no longer wanted.
    pub(super) retired: Vec<SocketFile>,
}

/// Binds all sockets, but does not answer yet. Must be called within the tokio runtime that will serve them.
///
/// # Errors
/// If one of them cannot be bound.
pub fn bind(listen: &[AdminListen], rights: SocketRights) -> Result<BoundAdminServer, AdminListenError> {
    bind_after(listen, rights, Vec::new())
}

/// Like [`bind`]. The listeners in `earlier` come from the process that this one replaces; those of these addresses
/// are kept, and the others are closed.
///
/// # Errors
/// Those of [`bind`].
pub fn bind_after(
    listen: &[AdminListen],
    rights: SocketRights,
    earlier: Vec<(String, OwnedFd)>,
) -> Result<BoundAdminServer, AdminListenError> {
    let (mut sockets, mut files) = (Vec::new(), Vec::new());
    for (place, descriptor) in earlier {
        match place.parse() {
            Ok(AdminListen::Tcp(address)) => sockets.push((address, descriptor.into())),
            Ok(AdminListen::Unix(path)) => files.push((SocketFile::of_other_process(path), descriptor)),
            Err(_) => {}
        }
    }
    let mut listeners = Vec::with_capacity(listen.len());
    for place in listen {
        let listener = match place {
            AdminListen::Tcp(address) => tcp_after(*address, &mut sockets),
            AdminListen::Unix(path) => unix_after(path, rights, &mut files),
        };
        listeners.push(listener.map_err(|source| AdminListenError { place: place.clone(), source })?);
    }
    Ok(BoundAdminServer { listeners, retired: files.into_iter().map(|(file, _)| file).collect() })
}

fn tcp_after(
    address: SocketAddr,
    earlier: &mut Vec<(SocketAddr, std::net::TcpListener)>,
) -> io::Result<AdminListener> {
    let is_same = |place: SocketAddr| place == address || (address.port() == 0 && place.ip() == address.ip());
    if let Some(same) = earlier.iter().position(|(place, _)| is_same(*place)) {
        let (place, listener) = earlier.swap_remove(same);
        return Ok(AdminListener::Tcp(TcpListener::from_std(listener)?, place));
    }
    let mut listen: fn(SocketAddr) -> io::Result<std::net::TcpListener> = sys::stream::listen;
    for (_, beside) in earlier.iter().filter(|(place, _)| place.port() == address.port()) {
        // One of both addresses may include the other.
        sys::udp::share_port(beside, true)?;
        listen = sys::stream::listen_shared;
    }
    let listener = listen(address)?;
    sys::stream::set_patience(&listener, connections::DEAF_TIME)?;
    // So a connection arrives together with its request, and immediately gets the right place.
    if has_syn_cookies() {
        sys::stream::await_first_bytes(&listener)?;
    }
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    Ok(AdminListener::Tcp(listener, address))
}

fn unix_after(
    path: &Path,
    rights: SocketRights,
    earlier: &mut Vec<(SocketFile, OwnedFd)>,
) -> io::Result<AdminListener> {
    // Without its file, nobody can connect to it.
    let same = earlier.iter().position(|(file, _)| file.path() == path && file.exists());
    let (file, listener) = match same {
        Some(same) => {
            let (file, descriptor) = earlier.swap_remove(same);
            file.set_rights(rights)?;
            (file, StdUnixListener::from(descriptor))
        }
        None => socket_file::listen(path, rights)?,
    };
    listener.set_nonblocking(true)?;
    Ok(AdminListener::Unix(UnixListener::from_std(listener)?, file))
}

/// Whether the kernel accepts connections beyond the length of its queue. Silent connections fill the queue
/// while the kernel waits for their first bytes, and without SYN cookies (RFC 4987) they would keep others
/// out.
fn has_syn_cookies() -> bool {
    let setting = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies");
    setting.is_ok_and(|setting| setting.trim() != "0")
}

impl BoundAdminServer {
    /// The bound addresses, with the ports that the system chose for port 0.
    #[must_use]
    pub fn places(&self) -> Vec<AdminListen> {
        self.listeners.iter().map(AdminListener::place).collect()
    }

    /// The first address and port; none if there are only Unix sockets.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.places().iter().find_map(AdminListen::tcp)
    }

    /// The listeners under other descriptors, with their addresses, for a process that takes over.
    ///
    /// # Errors
    /// If there are no more descriptors.
    pub fn descriptors(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let descriptor = |listener: &AdminListener| {
            let descriptor = match listener {
                AdminListener::Tcp(listener, _) => listener.as_fd(),
                AdminListener::Unix(listener, _) => listener.as_fd(),
            };
            Ok((listener.place().to_string(), descriptor.try_clone_to_owned()?))
        };
        self.listeners.iter().map(descriptor).collect()
    }
}

impl AdminListener {
    fn place(&self) -> AdminListen {
        match self {
            Self::Tcp(_, address) => AdminListen::Tcp(*address),
            Self::Unix(_, file) => AdminListen::Unix(file.path().to_owned()),
        }
    }
}
