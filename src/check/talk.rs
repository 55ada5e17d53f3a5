//! The exchange of bytes in a TCP or TLS probe.

use crate::check::expected::Expected;

/// The most bytes of a backend that an exchange reads, 64 KiB.
pub const TALK_LIMIT: usize = 64 * 1024;

/// The bytes that a probe sends on a connection, and those that it must receive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Talk {
    /// Sent first.
    pub send: Option<Vec<u8>>,
    /// Must be found in the first [`TALK_LIMIT`] bytes received, before the backend closes the connection and
    /// within the time limit. The probe ends when it is found.
    pub expect: Option<Expected>,
}

impl Talk {
    /// Whether nothing is sent and nothing expected.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.send.is_none() && self.expect.is_none()
    }

    /// Whether the backend receives something at once: bytes, or the end of the connection.
    #[must_use]
    pub fn speaks_first(&self) -> bool {
        self.send.is_some() || self.expect.is_none()
    }
}
