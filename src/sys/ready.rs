//! Waits for several sockets at once.

use std::io;
use std::mem::MaybeUninit;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{Timespec, epoll};

/// Maximum number of sockets that one call names. If more are ready, the next calls name the others.
const AT_ONCE: usize = 16;

/// Tells which of several sockets have something to read.
#[derive(Debug)]
pub struct Ready {
    epoll: OwnedFd,
    indices: Vec<usize>,
}

impl Ready {
    /// Watches these sockets.
    ///
    /// # Errors
    /// Returns the error of the system: no more descriptors, no memory.
    pub fn new(sockets: &[UdpSocket]) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (index, socket) in (0..).zip(sockets) {
            epoll::add(&epoll, socket, epoll::EventData::new_u64(index), epoll::EventFlags::IN)?;
        }
        Ok(Self { epoll, indices: Vec::with_capacity(AT_ONCE) })
    }

    /// Waits up to `limit`, and returns the indices of the sockets that have something to read, or an
    /// error to report. There is none if the time is over.
    ///
    /// # Errors
    /// Returns `Interrupted` on a signal.
    pub fn wait(&mut self, limit: Duration) -> io::Result<&[usize]> {
        let limit = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut events = [MaybeUninit::uninit(); AT_ONCE];
        let (events, _) = epoll::wait(&self.epoll, &mut events, Some(&limit))?;
        self.indices.clear();
        self.indices.extend(events.iter().filter_map(|event| usize::try_from(event.data.u64()).ok()));
        Ok(&self.indices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_ready_as_long_as_they_have_something_to_read() {
        let sockets = [0; 3].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut ready = Ready::new(&sockets).unwrap();
        let mut wait = |limit| {
            let mut indices = ready.wait(Duration::from_millis(limit)).unwrap().to_vec();
            indices.sort_unstable();
            indices
        };
        assert!(wait(0).is_empty());
        let send_to = |index: usize| {
            let to: &UdpSocket = &sockets[index];
            sockets[0].send_to(&[1], to.local_addr().unwrap()).unwrap();
        };
        send_to(2);
        assert_eq!(wait(10_000), [2]);
        send_to(1);
        send_to(1);
        assert_eq!(wait(10_000), [1, 2]);
        sockets[2].recv(&mut [0; 8]).unwrap();
        sockets[1].recv(&mut [0; 8]).unwrap();
        assert_eq!(wait(10_000), [1]);
        sockets[1].recv(&mut [0; 8]).unwrap();
        assert!(wait(0).is_empty());
    }
}
