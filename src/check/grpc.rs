//! The gRPC probe: one call of `grpc.health.v1.Health/Check`.

use crate::check::proxy::ProxyProtocol;
use crate::check::tls::TlsSettings;

/// Asks a server for the health of a service. Only SERVING passes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrpcProbe {
    /// The port to connect to.
    pub port: u16,
    /// TLS settings; in the clear without.
    pub tls: Option<TlsSettings>,
    /// The authority of the call; without it, address and port.
    pub host: Option<String>,
    /// The name of the service; empty for the server as a whole.
    pub service: String,
    /// Metadata of the call: names in lower case, none of which the call itself needs.
    pub headers: Vec<(String, String)>,
    /// The PROXY header to begin with.
    pub proxy: Option<ProxyProtocol>,
}

impl GrpcProbe {
    /// Asks for the server as a whole, in the clear.
    #[must_use]
    pub fn of_server(port: u16) -> Self {
        Self { port, tls: None, host: None, service: String::new(), headers: Vec::new(), proxy: None }
    }
}
