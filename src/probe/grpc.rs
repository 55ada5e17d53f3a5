//! gRPC probe: one call of `grpc.health.v1.Health/Check` over HTTP/2.

use crate::probe::http::TlsSettings;

/// Asks a server for the health of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrpcProbe {
    /// The port to connect to.
    pub port: u16,
    /// TLS settings; in the clear without.
    pub tls: Option<TlsSettings>,
    /// The authority of the call; the address and port when there is none.
    pub host: Option<String>,
    /// The service asked for; empty for the server as a whole.
    pub service: String,
}
