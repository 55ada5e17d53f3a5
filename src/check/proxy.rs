//! The PROXY protocol: a header that some backends require as the first bytes.

/// The version of the PROXY protocol.
///
/// The header says that the connection is the proxy's own: `UNKNOWN` or `LOCAL`, without addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// Text in one line.
    V1,
    /// Binary.
    V2,
}

impl ProxyProtocol {
    /// The bytes of the header (sections 2.1 and 2.2 of the specification).
    #[must_use]
    pub fn header(self) -> &'static [u8] {
        match self {
            Self::V1 => b"PROXY UNKNOWN\r\n",
            // The signature, version 2 and LOCAL, no address family, no further bytes.
            Self::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        }
    }
}
