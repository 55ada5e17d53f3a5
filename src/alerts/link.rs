//! The link to the admin server in messages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The place of the admin server. All clones change together.
#[derive(Clone, Debug, Default)]
pub struct AdminLink {
    address: Option<SocketAddr>,
    tls: Arc<AtomicBool>,
}

impl AdminLink {
    /// The link to an admin server with this address; none if it has none. `tls` says whether it speaks TLS.
    #[must_use]
    pub fn new(address: Option<SocketAddr>, tls: bool) -> Self {
        Self { address, tls: Arc::new(tls.into()) }
    }

    /// Its address over TCP.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    pub(super) fn set_tls(&self, tls: bool) {
        self.tls.store(tls, Ordering::Relaxed);
    }

    /// The address of its status page.
    pub(super) fn url(&self) -> Option<String> {
        let scheme = if self.tls.load(Ordering::Relaxed) { "https" } else { "http" };
        self.address.map(|address| format!("{scheme}://{address}/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_says_how_the_server_speaks_now() {
        let link = AdminLink::new(Some("192.0.2.1:8053".parse().unwrap()), false);
        let other = link.clone();
        assert_eq!(other.url().as_deref(), Some("http://192.0.2.1:8053/"));
        link.set_tls(true);
        assert_eq!(other.url().as_deref(), Some("https://192.0.2.1:8053/"));
        assert_eq!(AdminLink::default().url(), None);
    }
}
