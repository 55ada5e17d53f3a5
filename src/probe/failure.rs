//! Why a probe did not pass: a cause for programs, a sentence for people.

use std::borrow::Cow;
use std::io;

use crate::probe::Cause;
use crate::probe::limited::TOO_MUCH;

/// Why a probe did not pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProbeFailure {
    /// [`Cause::Local`] says nothing about the backend; with any other cause the backend has failed.
    pub(super) cause: Cause,
    pub(super) detail: Cow<'static, str>,
    /// Whether the connection ended before the backend sent a single byte.
    pub(super) unanswered: bool,
}

impl ProbeFailure {
    pub(super) fn new(cause: Cause, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { cause, detail: detail.into(), unanswered: false }
    }

    /// This failure, marked as unanswered if `nothing` was received on the connection.
    pub(super) fn unanswered_if(self, nothing: bool) -> Self {
        Self { unanswered: nothing && matches!(self.cause, Cause::Closed | Cause::Reset), ..self }
    }

    /// A failure caused by this machine or its configuration. It says nothing about the backend.
    pub(super) fn local(reason: impl std::fmt::Display) -> Self {
        Self::new(Cause::Local, format!("no verdict: {reason}"))
    }

    /// A failure of an open connection; `when` is a phrase such as "before the response was complete".
    pub(super) fn broken(error: &io::Error, when: &str) -> Self {
        match cause_of(error) {
            // The error is already a complete sentence.
            Cause::Tls => Self::new(Cause::Tls, error.to_string()),
            Cause::Local => Self::local(describe(error)),
            Cause::Protocol => Self::new(Cause::Protocol, format!("the backend sent {error} {when}")),
            cause => Self::new(cause, format!("{} {when}", describe(error))),
        }
    }
}

/// The cause of a network error. `connect` handles errors of the call that opens a connection, because the same
/// numbers have another meaning there.
pub(super) fn cause_of(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Cause::Refused,
        io::ErrorKind::TimedOut => Cause::Timeout,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected => {
            Cause::Closed
        }
        io::ErrorKind::OutOfMemory => Cause::Local,
        TOO_MUCH => Cause::Protocol,
        // `tls_error` creates these.
        io::ErrorKind::InvalidData => Cause::Tls,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::PermissionDenied => Cause::Unreachable,
        _ => match error.raw_os_error() {
            Some(libc::ENOBUFS | libc::ENOMEM) => Cause::Local,
            // From a router's ICMP message, or because a neighbour does not answer.
            Some(libc::EHOSTDOWN | libc::ENETDOWN | libc::ENONET | libc::EPROTO | libc::ENOPROTOOPT) => {
                Cause::Unreachable
            }
            _ => Cause::Reset,
        },
    }
}

/// A network error in words.
pub(super) fn describe(error: &io::Error) -> Cow<'static, str> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        io::ErrorKind::TimedOut => "connection timed out".into(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => "connection closed".into(),
        _ => error.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_a_connection_has_its_cause() {
        for (number, cause) in [
            (libc::ECONNREFUSED, Cause::Refused),
            (libc::ECONNRESET, Cause::Reset),
            (libc::ECONNABORTED, Cause::Reset),
            (libc::EPIPE, Cause::Closed),
            (libc::ETIMEDOUT, Cause::Timeout),
            (libc::EHOSTUNREACH, Cause::Unreachable),
            (libc::ENETUNREACH, Cause::Unreachable),
            (libc::EACCES, Cause::Unreachable),
            (libc::EHOSTDOWN, Cause::Unreachable),
            (libc::ENOMEM, Cause::Local),
            (libc::ENOBUFS, Cause::Local),
        ] {
            let error = io::Error::from_raw_os_error(number);
            assert_eq!(cause_of(&error), cause, "{error}");
            let fault = ProbeFailure::broken(&error, "in the middle");
            assert_eq!(fault.cause, cause);
            assert_eq!(fault.detail.starts_with("no verdict: "), cause == Cause::Local, "{fault:?}");
        }
        assert_eq!(cause_of(&io::ErrorKind::UnexpectedEof.into()), Cause::Closed);
    }
}
