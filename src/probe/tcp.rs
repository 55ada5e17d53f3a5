//! TCP probe: a connection within the time limit is a pass.

/// Connects to a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TcpProbe {
    /// The port to connect to.
    pub port: u16,
}
