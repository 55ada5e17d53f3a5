//! TCP probe: a connection within the time limit is a pass.
//!
//! The connection is closed without a word. To the server that is a client that changed its mind;
//! one that speaks first may log it, and is better checked by HTTP.

use std::net::{IpAddr, SocketAddr};

use crate::probe::{Fault, connect};

/// Connects to a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TcpProbe {
    /// The port to connect to.
    pub port: u16,
}

impl TcpProbe {
    pub(super) async fn attempt(&self, address: IpAddr) -> Result<String, Fault> {
        connect::connect(SocketAddr::new(address, self.port)).await?;
        Ok("connected".into())
    }
}
