//! The TCP probe: a connection, and optionally an exchange of bytes.

use crate::check::proxy::ProxyProtocol;
use crate::check::talk::Talk;

/// Connects to a port. Without an exchange, it passes if the connection is established in time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TcpProbe {
    /// The port to connect to.
    pub port: u16,
    /// The bytes to send and to expect.
    pub talk: Talk,
    /// The PROXY header to send first.
    pub proxy: Option<ProxyProtocol>,
}

impl TcpProbe {
    /// Connects to a port, and closes.
    #[must_use]
    pub fn connect(port: u16) -> Self {
        Self { port, talk: Talk::default(), proxy: None }
    }
}
