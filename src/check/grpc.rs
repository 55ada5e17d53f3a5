//! The gRPC probe: one call of `grpc.health.v1.Health/Check`.

use crate::check::proxy::ProxyProtocol;
use crate::check::tls::TlsSettings;

/// Requests the health of a service. Only SERVING passes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrpcProbe {
    /// The port to connect to.
    pub port: u16,
    /// TLS settings; without them, no TLS.
    pub tls: Option<TlsSettings>,
    /// The authority of the call; by default, address and port.
    pub host: Option<String>,
    /// The name of the service; empty means the server as a whole.
    pub service: String,
    /// Metadata of the call: names in lower case, and none that the call itself sets.
    pub headers: Vec<(String, String)>,
    /// The PROXY header to send first.
    pub proxy: Option<ProxyProtocol>,
}

impl GrpcProbe {
    /// Requests the health of the server as a whole, without TLS.
    #[must_use]
    pub fn of_server(port: u16) -> Self {
        Self { port, tls: None, host: None, service: String::new(), headers: Vec::new(), proxy: None }
    }
}
