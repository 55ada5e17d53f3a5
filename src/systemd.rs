//! Tells systemd what the service does: the protocol of `sd_notify(3)`, for units with `Type=notify` and
//! `Type=notify-reload`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::warn;

use crate::sys;

/// The environment variable with the socket of systemd; an `@` at its start stands for an abstract name.
const SOCKET: &str = "NOTIFY_SOCKET";

/// The time that the unit leaves between two signs of life (`WatchdogSec=`), in microseconds.
const WATCHDOG: &str = "WATCHDOG_USEC";

/// The process that must give them; any if it is not set.
const WATCHDOG_PROCESS: &str = "WATCHDOG_PID";

/// A message to systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// DNS is answered, and the reload or upgrade is over.
    Ready,
    /// A reload or an upgrade has begun.
    Reloading,
    /// A stop was requested.
    Stopping,
    /// The process with this id is the service from now on, ready and alive. Only the process before it may say so.
    ReplacedBy(u32),
    /// A sign of life.
    Alive,
}

/// Tells systemd, if it started this process.
pub fn tell(state: ServiceState) {
    let state = match state {
        ServiceState::Ready => "READY=1".to_owned(),
        // systemd ignores an end of a reload that is older than its begin (`Type=notify-reload`).
        ServiceState::Reloading => {
            format!("RELOADING=1\nMONOTONIC_USEC={}", sys::clock::monotonic().as_micros())
        }
        ServiceState::Stopping => "STOPPING=1".to_owned(),
        ServiceState::ReplacedBy(process) => format!("MAINPID={process}\nREADY=1\nWATCHDOG=1"),
        ServiceState::Alive => "WATCHDOG=1".to_owned(),
    };
    if let Some(socket) = std::env::var_os(SOCKET).filter(|socket| !socket.is_empty())
        && let Err(error) = send(&socket, &state)
    {
        warn!(%error, "systemd was not told {state}: its socket cannot be used");
    }
}

/// How often to send [`ServiceState::Alive`]: twice in the time that the unit leaves; none if it does not wait for it.
#[must_use]
pub fn alive_every() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let micros = number(WATCHDOG).filter(|micros| *micros > 0)?;
    let is_this = number(WATCHDOG_PROCESS).is_none_or(|process| process == u64::from(std::process::id()));
    is_this.then(|| Duration::from_micros(micros) / 2)
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
