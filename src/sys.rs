//! System calls that the standard library does not offer: batches of datagrams, socket options,
//! process limits. All unsafe code of the program is in this module, behind a safe interface.
//!
//! This module does not interpret the bytes. Linux only.

#![allow(unsafe_code, reason = "this module exists so that no other needs it")]

pub mod affinity;
pub mod batch;
pub mod clock;
pub mod process;
pub mod ready;
pub mod stream;
pub mod udp;

use std::io;
use std::os::fd::AsRawFd;

use socket2::Socket;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_limit_ends_at_the_hard_limit() {
        let limit = raise_descriptor_limit().unwrap();
        assert!(limit >= 64);
        assert_eq!(raise_descriptor_limit().unwrap(), limit);
    }
}
