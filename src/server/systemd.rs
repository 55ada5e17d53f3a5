//! Tells systemd that the service has started or stops: the protocol of `sd_notify(3)`, for units with `Type=notify`.
//!
//! A reload is not told: systemd knows of it by the command in `ExecReload=`, which ends when the reload does.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tracing::warn;

/// The environment variable with the socket of systemd; an `@` at its start stands for an abstract name.
const SOCKET: &str = "NOTIFY_SOCKET";

/// DNS is answered.
pub(super) const READY: &str = "READY=1";
/// A stop was requested.
pub(super) const STOPPING: &str = "STOPPING=1";

/// Sends a state to systemd, if it started this process.
pub(super) fn tell(state: &str) {
    if let Some(socket) = std::env::var_os(SOCKET).filter(|socket| !socket.is_empty())
        && let Err(error) = send(&socket, state)
    {
        warn!(%error, "systemd was not told {state}: its socket cannot be used");
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let bytes = socket.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let datagram = UnixDatagram::unbound()?;
    // A full socket of systemd must not stop the server.
    datagram.set_nonblocking(true)?;
    datagram.send_to_addr(state.as_bytes(), &address).map(drop)
}
