//! Sockets of an earlier process for addresses that are no longer wanted.
//!
//! ```text
//! read like others -> the earlier process has ended -> connected to themselves, so nothing more arrives
//!                                                   -> the queues are empty -> closed
//! ```
//!
//! Another socket of the port may have a wider address; from then on it gets what is sent to these.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::listener::Endpoint;
use crate::listener::tcp::{self, TcpShared};
use crate::listener::udp::{Worker, WorkerSocket};

/// How long the queues are read after the last datagram can have arrived: far longer than a full one takes.
const EMPTYING: Duration = Duration::from_secs(1);

/// Reads the sockets until they are closed.
#[derive(Debug)]
pub(super) struct Retiring {
    /// The sockets for UDP, under other descriptors.
    sockets: Vec<(SocketAddr, UdpSocket)>,
    stop: Arc<AtomicBool>,
    accepting: Vec<JoinHandle<()>>,
}

impl Retiring {
    /// Reads the sockets with a worker of their own. Must be called within a tokio runtime.
    pub(super) fn start(
        endpoints: Vec<Endpoint>,
        tcp: &Arc<TcpShared>,
        worker: impl FnOnce(Vec<WorkerSocket>, &Arc<AtomicBool>) -> io::Result<Worker>,
    ) -> io::Result<Self> {
        let mut retiring = Self { sockets: Vec::new(), stop: Arc::default(), accepting: Vec::new() };
        let mut read = Vec::new();
        for endpoint in endpoints {
            for socket in endpoint.udp {
                retiring.sockets.push((endpoint.address, socket.try_clone()?));
                read.push(WorkerSocket::new(socket, true));
            }
            let listener = tokio::net::TcpListener::from_std(endpoint.tcp)?;
            retiring.accepting.push(tokio::spawn(tcp::accept(listener, Arc::clone(tcp))));
        }
        let worker = worker(read, &retiring.stop)?;
        std::thread::Builder::new().name("udp-retiring".into()).spawn(move || worker.run())?;
        Ok(retiring)
    }

    /// Closes the sockets when their queues are empty.
    pub(super) fn close(self) {
        for (address, socket) in &self.sockets {
            // A connected socket gets only what its peer sends. This one has no other peer than itself.
            match socket.connect(address) {
                Ok(()) => info!(%address, "DNS is no longer answered here"),
                Err(error) => {
                    warn!(%address, %error, "the last queries to an address that is no longer served may be lost");
                }
            }
        }
        tokio::spawn(async move {
            tokio::time::sleep(EMPTYING).await;
            drop(self);
        });
    }
}

impl Drop for Retiring {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.accepting.iter().for_each(JoinHandle::abort);
    }
}
