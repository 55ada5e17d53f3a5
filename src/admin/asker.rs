//! The client that sent a request, as the log and the audit name it.
//!
//! The gate finds it; whether the client may do what it asks is decided there.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

/// The client's end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    /// Its address.
    Remote(SocketAddr),
    /// The user of its process, on a Unix socket.
    User(u32),
}

/// The client of a request: `127.0.0.1:40112 with the token ops`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asker {
    /// The address of the client.
    pub(super) address: Option<SocketAddr>,
    /// The user of the client's process, on a Unix socket.
    pub(super) uid: Option<u32>,
    /// The name of the token that it has sent, never its text.
    pub(super) token: Option<Arc<str>>,
}

impl Asker {
    /// The client at this end of a connection.
    pub(super) fn of(peer: Option<Peer>, token: Option<Arc<str>>) -> Self {
        match peer {
            Some(Peer::Remote(address)) => Self { address: Some(address), uid: None, token },
            Some(Peer::User(uid)) => Self { address: None, uid: Some(uid), token },
            None => Self { token, ..Self::default() },
        }
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.uid) {
            (Some(address), _) => write!(f, "{address} ")?,
            (None, Some(uid)) => write!(f, "uid {uid} over the Unix socket, ")?,
            (None, None) => f.write_str("a client ")?,
        }
        match &self.token {
            Some(name) => write!(f, "with the token `{name}`"),
            None => f.write_str("without a token"),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // The gate inserts it; without a gate, it is missing.
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_named_by_place_and_token() {
        let address = Some("127.0.0.1:40112".parse().unwrap());
        let token: Option<Arc<str>> = Some("ops".into());
        for (asker, expected) in [
            (Asker { address, uid: None, token: token.clone() }, "127.0.0.1:40112 with the token `ops`"),
            (Asker { address, uid: None, token: None }, "127.0.0.1:40112 without a token"),
            (
                Asker { address: None, uid: Some(7), token },
                "uid 7 over the Unix socket, with the token `ops`",
            ),
            (Asker { uid: Some(0), ..Asker::default() }, "uid 0 over the Unix socket, without a token"),
            (Asker::default(), "a client without a token"),
        ] {
            assert_eq!(asker.to_string(), expected);
        }
    }
}
