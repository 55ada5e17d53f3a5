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
    pub fn new<'s>(sockets: impl IntoIterator<Item = &'s UdpSocket>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let ready = Self { epoll, indices: Vec::with_capacity(AT_ONCE) };
        sockets.into_iter().enumerate().try_for_each(|(index, socket)| ready.watch(index, socket))?;
        Ok(ready)
    }

    /// Watches a socket, under this index.
    ///
    /// # Errors
    /// Returns the error of the system: no memory, or the socket is watched already.
    pub fn watch(&self, index: usize, socket: &UdpSocket) -> io::Result<()> {
        let data = epoll::EventData::new_u64(index as u64);
        Ok(epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN)?)
    }

    /// No longer watches a socket.
    ///
    /// # Errors
    /// Returns `NotFound` if it is not watched.
    pub fn ignore(&self, socket: &UdpSocket) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    /// Waits up to `limit` until a watched socket has something to read, or an error to report. Returns
    /// the number of [`Self::indices`]; it is 0 if the time is over.
    ///
    /// # Errors
    /// Returns `Interrupted` on a signal.
    pub fn wait(&mut self, limit: Duration) -> io::Result<usize> {
        let limit = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut events = [MaybeUninit::uninit(); AT_ONCE];
        let (events, _) = epoll::wait(&self.epoll, &mut events, Some(&limit))?;
        self.indices.clear();
        self.indices.extend(events.iter().filter_map(|event| usize::try_from(event.data.u64()).ok()));
        Ok(self.indices.len())
    }

    /// The sockets that the last successful [`Self::wait`] found ready.
    #[must_use]
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits up to this many milliseconds for ready sockets.
    fn sorted(ready: &mut Ready, limit: u64) -> Vec<usize> {
        let count = ready.wait(Duration::from_millis(limit)).unwrap();
        let mut indices = ready.indices().to_vec();
        assert_eq!(indices.len(), count);
        indices.sort_unstable();
        indices
    }

    #[test]
    fn sockets_are_ready_as_long_as_they_have_something_to_read() {
        let sockets = [0; 3].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut ready = Ready::new(&sockets).unwrap();
        let mut wait = |limit| sorted(&mut ready, limit);
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

    #[test]
    fn a_socket_is_not_named_while_it_is_ignored() {
        let sockets = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut ready = Ready::new(&sockets).unwrap();
        for socket in &sockets {
            socket.send_to(&[1], socket.local_addr().unwrap()).unwrap();
        }
        assert_eq!(sorted(&mut ready, 10_000), [0, 1]);
        ready.ignore(&sockets[0]).unwrap();
        assert_eq!(ready.ignore(&sockets[0]).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(sorted(&mut ready, 10_000), [1]);
        ready.watch(0, &sockets[0]).unwrap();
        assert_eq!(sorted(&mut ready, 10_000), [0, 1]);
    }
}
