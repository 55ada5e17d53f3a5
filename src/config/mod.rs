//! The configuration: from TOML to a setup that can be run, or to every error at once.

use std::net::SocketAddr;

use crate::checker;

/// A validated configuration.
#[derive(Debug)]
pub struct Setup {
    /// `[server]`.
    pub server: ServerSettings,
    /// `[admin] listen`; off without.
    pub admin: Option<SocketAddr>,
    /// Zones, services and pools.
    pub checker: checker::Setup,
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// UDP and TCP; port 0 takes a free one, the same for both.
    pub listen: Vec<SocketAddr>,
    /// UDP worker threads for each address; 0 is one for each core.
    pub workers: usize,
    /// The largest UDP reply, 512 to 4096 bytes.
    pub udp_payload: u16,
}
