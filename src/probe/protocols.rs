//! The protocols that a probe offers, and the protocol that a backend speaks, according to its first bytes.

use memchr::memmem;

use crate::check::Version;

/// The protocols to offer over TLS (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Offered {
    Any,
    Http1,
    Http2,
    Http1OrHttp2,
}

impl Offered {
    pub(super) fn by(version: Version) -> Self {
        match version {
            Version::Default => Self::Http1OrHttp2,
            Version::Http1 => Self::Http1,
            Version::Http2 => Self::Http2,
        }
    }

    pub(super) fn names(self) -> Vec<Vec<u8>> {
        let names: &[&str] = match self {
            Self::Any => &[],
            Self::Http1 => &["http/1.1"],
            Self::Http2 => &["h2"],
            Self::Http1OrHttp2 => &["http/1.1", "h2"],
        };
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }
}

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// Nothing was received.
    Nothing,
    Tls,
    Http1,
    Http2,
    Other,
}

/// The protocol of a connection that starts with these bytes.
pub(super) fn of(bytes: &[u8]) -> Spoken {
    match bytes {
        [] => Spoken::Nothing,
        // A record: its type, and version 3.x (RFC 8446, section 5.1).
        [0x14..=0x18, 3, ..] | [0x14..=0x18] => Spoken::Tls,
        _ if bytes.starts_with(b"HTTP/") => Spoken::Http1,
        // The first frame of a server is SETTINGS, on stream 0 (RFC 9113, section 3.4).
        [0, _, _, 4, 0 | 1, 0, 0, 0, 0, ..] => Spoken::Http2,
        // A server that takes the handshake for an HTTP/0.9 request sends a page without a head.
        _ if is_page(bytes) => Spoken::Http1,
        _ => Spoken::Other,
    }
}

fn is_page(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii_start();
    [&b"<!doctype html"[..], b"<html"]
        .iter()
        .any(|tag| bytes.get(..tag.len()).is_some_and(|begins| begins.eq_ignore_ascii_case(tag)))
}

/// The hint for a check without TLS whose backend speaks it.
pub(super) const SPEAKS_TLS: &str = "this port speaks TLS, and the check does not: it takes type = \"https\" or \"tls\", or `tls` of a grpc check";

/// The hint for a check without TLS whose backend closes the connection without sending anything.
pub(super) const MAY_SPEAK_TLS: &str = "the port may speak TLS";

/// The hint for a check with TLS whose backend sends nothing in the handshake.
pub(super) const MAY_SPEAK_PLAIN: &str = "the port may not speak TLS";

/// Whether the response to a plain request says that the port speaks TLS, as nginx, Go, Apache, Tomcat or lighttpd
/// express it.
pub(super) fn says_that_port_is_tls(body: &[u8]) -> bool {
    const SENTENCES: [&[u8]; 5] = [
        b"request was sent to https port",
        b"http request to an https server",
        b"plain http to an ssl-enabled server",
        b"combination of host and port requires tls",
        b"plain http to a tls",
    ];
    let body = body.to_ascii_lowercase();
    SENTENCES.iter().any(|sentence| memmem::find(&body, sentence).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_by_their_first_bytes() {
        for (bytes, spoken) in [
            (&b""[..], Spoken::Nothing),
            (b"\x15\x03\x01\0\x02\x02\x46", Spoken::Tls),
            (b"\x16\x03\x03", Spoken::Tls),
            (b"HTTP/1.0 400 Bad Request", Spoken::Http1),
            (b"\n<!DOCTYPE HTML PUBLIC", Spoken::Http1),
            (b"\0\0\x18\x04\0\0\0\0\0\0\x01", Spoken::Http2),
            (b"220 mail ESMTP", Spoken::Other),
            (b"SSH-2.0-x", Spoken::Other),
            (b"-ERR", Spoken::Other),
        ] {
            assert_eq!(of(bytes), spoken, "{bytes:?}");
        }
    }

    #[test]
    fn servers_say_that_their_port_is_for_tls() {
        for body in [
            "<center>The plain HTTP request was sent to HTTPS port</center>",
            "Client sent an HTTP request to an HTTPS server.\n",
            "Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
            "Bad Request\r\nThis combination of host and port requires TLS.\r\n",
        ] {
            assert!(says_that_port_is_tls(body.as_bytes()), "{body}");
        }
        assert!(!says_that_port_is_tls(b"The HTTPS port of the database is down"));
    }
}
