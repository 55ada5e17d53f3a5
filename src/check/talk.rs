//! The exchange of bytes in a TCP or TLS probe.

use crate::check::expected::Expected;

/// The most bytes from a backend that an exchange reads: 64 KiB.
pub const TALK_LIMIT: usize = 64 * 1024;

/// The bytes that a probe sends on a connection, and the bytes that it must receive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Talk {
    /// The bytes to send.
    pub send: Option<Vec<u8>>,
    /// Must be in the first [`TALK_LIMIT`] bytes received, before the backend closes the connection and
    /// within the time limit. The probe ends when it is found.
    pub expect: Option<Expected>,
}

impl Talk {
    /// Whether the probe neither sends nor expects anything.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.send.is_none() && self.expect.is_none()
    }

    /// Whether the backend receives something immediately: bytes, or the end of the connection.
    #[must_use]
    pub fn speaks_first(&self) -> bool {
        self.send.is_some() || self.expect.is_none()
    }
}
