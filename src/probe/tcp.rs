//! TCP probe: a connection within the time limit is a pass, or what is read from it.
//!
//! Without `expect` the connection is closed without a word. To the server that is a client that changed its mind;
//! one that speaks first may log it, and is better checked by HTTP.

use std::net::{IpAddr, SocketAddr};

use crate::probe::expected::Expected;
use crate::probe::{Fault, connect};

/// Connects to a port; may speak and listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TcpProbe {
    /// The port to connect to.
    pub port: u16,
    /// What is said and expected.
    pub talk: Talk,
}

/// What a probe says on a connection, and what it must hear.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Talk {
    /// Sent first.
    pub send: Option<Vec<u8>>,
    /// Must be found in what comes back.
    pub expect: Option<Expected>,
}

impl TcpProbe {
    /// Connects to a port and closes.
    #[must_use]
    pub fn connect(port: u16) -> Self {
        Self { port, talk: Talk::default() }
    }

    pub(super) async fn attempt(&self, address: IpAddr) -> Result<String, Fault> {
        connect::connect(SocketAddr::new(address, self.port)).await?;
        Ok("connected".into())
    }
}
