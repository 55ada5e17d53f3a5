//! A client for the HTTP interface of a running server; commands that talk to a server use it.
//!
//! It sends requests, with the token only to a server that knows it, and reports failures. The commands choose the
//! requests, and `servers` finds the servers.
//!
//! ```text
//! connected --with a token--> ask for the proof --proved, for this address--> request with the token
//!     |                             |`--the server has no token--> request without it
//!     `--no token--> request        `--not proved--> end: the token is not sent
//! ```
//!
//! A server that speaks TLS proves itself by its certificate. Only the server of the configuration file may have any:
//! until a reload, it has not read the certificate that the file names. On this machine, the proof is enough. Over a
//! Unix socket, no token is sent: the rights of its file decide.

use std::fmt::{self, Write};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use hyper::http::request;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{AdminUrl, BearerToken, Nonce};
use crate::probe::{client_tls, unverified_tls};

/// The default address of the admin server of `steerd demo`.
const DEMO_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8053);
/// Timeout for connecting.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Timeout for a reply: the maximum life of a connection at the server.
const REPLY_TIME: Duration = Duration::from_secs(65);
/// Maximum size of a reply, bytes. Even the reply of a server with a million backends is smaller.
const MAX_REPLY: usize = 1 << 30;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("the token file {}: {reason}", .path.display())]
    Token { path: PathBuf, reason: String },
    #[error(
        "cannot read {}, which has the address of the server: {error}; give the file with -c FILE, or the server with \
         --admin URL; `steerd demo` prints its URL, by default http://{DEMO_ADMIN}",
        .path.display()
    )]
    Unread { path: PathBuf, error: io::Error },
    #[error(
        "{} sets no `listen` under [admin], so its server accepts no commands: set it and restart steerd, or give \
         another server with --admin URL; without it, only SIGHUP reloads",
        .0.display()
    )]
    NoAdmin(PathBuf),
    #[error("cannot tell which server to ask: {0}. Or give the server with --admin URL")]
    Faulty(String),
    #[error("this command speaks to one server: give one of {0} with --admin")]
    Several(String),
    #[error(
        "--forwarded-to is given {given} times, and there are {servers} servers: the n-th belongs to the n-th server"
    )]
    Forwarded { given: usize, servers: usize },
    #[error("[admin] listen in {} has port 0, so the port changes at each start: give --admin", .0.display())]
    AnyPort(PathBuf),
    #[error(
        "no steerd answers at {url} ({origin}): {error}. Start steerd with `listen` set under [admin], or give \
         another server with --admin URL; `steerd demo` prints its URL, by default http://{DEMO_ADMIN}. If `listen` \
         was changed, a running server keeps the old address until it is restarted: give that one with --admin, or \
         reload with SIGHUP (systemctl kill --kill-whom=main -s HUP steerd, or kill -HUP)"
    )]
    Unreachable { url: AdminUrl, origin: String, error: io::Error },
    #[error(
        "this user may not open {url} ({origin}): {error}. The rights of the file say who may speak to the server: the \
         group can be set with `socket` under [admin]"
    )]
    NotAllowed { url: AdminUrl, origin: String, error: io::Error },
    #[error(
        "the certificate of {url} was not accepted: {reason}. If another authority has signed it, or nobody has, name \
         the file of that authority or of the certificate with --ca-file, or with `ca_file` under [client]"
    )]
    Untrusted { url: AdminUrl, reason: String },
    #[error("{url} did not answer like steerd: {reason}{}", if url.is_plain() { "; if it speaks TLS, give it as https://; if `tls` was removed from its configuration, reload it with SIGHUP" } else { "" })]
    Odd { url: AdminUrl, reason: String },
    #[error(
        "the token was not sent, because the server at {url} did not prove that it knows the token: {reason}; it may \
         be another program, or have another token; if its token_file has changed, reload it with SIGHUP"
    )]
    Unproved { url: AdminUrl, reason: String },
    #[error(
        "the token was not sent: {url} leads to a server that knows it but listens on {address}; if that is your \
         tunnel, add --forwarded-to {address}"
    )]
    Elsewhere { url: AdminUrl, address: SocketAddr },
    /// Problem details (RFC 9457).
    #[error("{}{remedy}", .problem["detail"].as_str().unwrap_or("the server refused and gave no reason"))]
    Refused { status: StatusCode, problem: Value, remedy: String },
}

/// A connection in both directions.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Why a client may send its token on a connection.
enum Assurance {
    /// Once the server with this address has proved that it knows it.
    Proof(SocketAddr),
    /// The certificate of the server was verified.
    Certificate,
    /// It need not: the rights of the Unix socket decide.
    File,
}

/// The certificate that a server must have, if it speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerTrust {
    /// Any: the server of the configuration file, which may still have an older one, or speak plain HTTP. A token is
    /// sent only on this machine, and only after the proof.
    Proof,
    /// One for the host of the URL, by the authorities in this file, or the certificate itself; none for the
    /// authorities of the system.
    Authority(Option<PathBuf>),
}

/// A server for requests.
#[derive(Clone, Debug)]
pub(super) struct AdminClient {
    pub(super) url: AdminUrl,
    /// Where the address comes from, for errors.
    pub(super) origin: String,
    pub(super) token: Option<BearerToken>,
    /// Why the token of the configuration was not read.
    pub(super) unread: Option<String>,
    /// The address on which it listens, if a tunnel leads to it.
    pub(super) forwarded_to: Option<SocketAddr>,
    pub(super) trust: ServerTrust,
    /// The configuration that the server is expected to run; `None` for any.
    pub(super) file: Option<PathBuf>,
}

impl AdminClient {
    /// The absolute path of the configuration that the server is expected to run; `None` for any.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Sends a request and returns the JSON of a successful reply.
    ///
    /// # Errors
    /// Why the request fails.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let stream = self.connect().await?;
        match timeout(REPLY_TIME, self.exchange(stream, method, path, body)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.odd(format!("no reply within {REPLY_TIME:?}"))),
        }
    }

    /// Asks whether DNS is answered; this needs no token.
    ///
    /// # Errors
    /// Why it is not answered, or why the request fails.
    pub(super) async fn is_ready(&self) -> Result<(), ClientError> {
        match (self.ask_ready().await, &self.url) {
            // The file has no `tls` any more, and the server has not read it yet.
            (Err(ClientError::Odd { .. }), AdminUrl::Http { tls: false, host, port })
                if self.trust == ServerTrust::Proof =>
            {
                let url = AdminUrl::Http { tls: true, host: host.clone(), port: *port };
                Self { url, ..self.clone() }.ask_ready().await
            }
            (outcome, _) => outcome,
        }
    }

    async fn ask_ready(&self) -> Result<(), ClientError> {
        let stream = TokioIo::new(self.connect().await?.0);
        let (mut sender, connection) =
            http1::handshake(stream).await.map_err(|error| self.odd(error.to_string()))?;
        tokio::spawn(connection);
        let (status, body) = self.send_plain(&mut sender, Request::get("/readyz"), None).await?;
        if status.is_success() {
            return Ok(());
        }
        let problem =
            serde_json::from_slice(&body).map_err(|_| self.odd(format!("{status} without JSON")))?;
        Err(self.refused(status, problem))
    }

    async fn connect(&self) -> Result<(Box<dyn Duplex>, Assurance), ClientError> {
        match timeout(CONNECT_TIME, self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err(self.unreachable(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn open(&self) -> Result<(Box<dyn Duplex>, Assurance), ClientError> {
        match &self.url {
            AdminUrl::Http { tls, host, port } => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let stream =
                    TcpStream::connect((host, *port)).await.map_err(|error| self.unreachable(error))?;
                let ends = stream.peer_addr().and_then(|server| Ok((server, stream.local_addr()?)));
                let (server, own) = ends.map_err(|error| self.unreachable(error))?;
                if !*tls {
                    return Ok((Box::new(stream), Assurance::Proof(server)));
                }
                if matches!(self.trust, ServerTrust::Authority(_)) {
                    return Ok((Box::new(self.speak_tls(stream, host).await?), Assurance::Certificate));
                }
                if self.token.is_some() && !is_same_machine(server, own) {
                    let reason =
                        "a token is sent to another machine only if the certificate is verified".to_owned();
                    return Err(ClientError::Untrusted { url: self.url.clone(), reason });
                }
                let stream: Box<dyn Duplex> = match self.speak_tls(stream, host).await {
                    Ok(stream) => Box::new(stream),
                    // It does not speak TLS yet: the file is newer.
                    Err(ClientError::Odd { .. }) => {
                        Box::new(TcpStream::connect(server).await.map_err(|error| self.unreachable(error))?)
                    }
                    Err(error) => return Err(error),
                };
                Ok((stream, Assurance::Proof(server)))
            }
            AdminUrl::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| self.unreachable(error))?;
                Ok((Box::new(stream), Assurance::File))
            }
        }
    }

    async fn speak_tls(&self, stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, ClientError> {
        let untrusted = |reason: String| ClientError::Untrusted { url: self.url.clone(), reason };
        let config = match &self.trust {
            ServerTrust::Proof => unverified_tls().await,
            ServerTrust::Authority(file) => client_tls(file.as_deref()).await,
        };
        let mut config = config.map_err(|error| untrusted(error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(host.to_owned()).map_err(|error| untrusted(error.to_string()))?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        connected.map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidMessage(_)) => {
                self.odd("it does not speak TLS; give it as http://".to_owned())
            }
            Some(error) => untrusted(error.to_string()),
            None => self.unreachable(error),
        })
    }

    fn unreachable(&self, error: io::Error) -> ClientError {
        let (url, origin) = (self.url.clone(), self.origin.clone());
        match (&self.url, error.kind()) {
            (AdminUrl::Unix(_), io::ErrorKind::PermissionDenied) => {
                ClientError::NotAllowed { url, origin, error }
            }
            _ => ClientError::Unreachable { url, origin, error },
        }
    }

    async fn exchange(
        &self,
        (stream, assurance): (Box<dyn Duplex>, Assurance),
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.odd(error.to_string()))?;
        // An error that ends the connection also ends the request or the body, and is reported there.
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(CONNECTION, "close");
        // Uses the same connection, so that no other server can take the place of the one that sent the proof.
        if let Some(token) = &self.token
            && match assurance {
                Assurance::Proof(server) => self.is_proved(&mut sender, token, server).await?,
                Assurance::Certificate => true,
                Assurance::File => false,
            }
        {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.as_str()));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let (status, value) = self.send(&mut sender, request, body.map(Value::to_string)).await?;
        connection.abort();
        if status.is_success() { Ok(value) } else { Err(self.refused(status, value)) }
    }

    /// Whether the server uses a token and proves that it knows it. Another program may listen at its address.
    async fn is_proved(
        &self,
        sender: &mut http1::SendRequest<Full<Bytes>>,
        token: &BearerToken,
        server: SocketAddr,
    ) -> Result<bool, ClientError> {
        let nonce = Nonce::random();
        let request = Request::get(format!("/api/v1/proof?nonce={nonce}"));
        let unproved = |reason: String| ClientError::Unproved { url: self.url.clone(), reason };
        let (status, value) = self.send(sender, request, None).await.map_err(|error| match error {
            ClientError::Odd { reason, .. } => unproved(reason),
            other => other,
        })?;
        match status {
            StatusCode::OK => {}
            StatusCode::CONFLICT => return Ok(false),
            other => return Err(unproved(format!("it answered {other}"))),
        }
        let address = value["address"].as_str().and_then(|address| address.parse::<SocketAddr>().ok());
        let proofs = value["proofs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let proved = address.filter(|&address| {
            proofs.iter().filter_map(Value::as_str).any(|proof| token.is_proved_by(proof, &nonce, address))
        });
        let Some(address) = proved else { return Err(unproved("its proof is wrong".to_owned())) };
        let same = |other: SocketAddr| {
            (other.ip().to_canonical(), other.port()) == (address.ip().to_canonical(), address.port())
        };
        if same(server) || self.forwarded_to.is_some_and(same) {
            return Ok(true);
        }
        Err(ClientError::Elsewhere { url: self.url.clone(), address })
    }

    /// Sends one request and returns the status and the JSON of the reply.
    async fn send(
        &self,
        sender: &mut http1::SendRequest<Full<Bytes>>,
        request: request::Builder,
        body: Option<String>,
    ) -> Result<(StatusCode, Value), ClientError> {
        let (status, read) = self.send_plain(sender, request, body).await?;
        let value = serde_json::from_slice(&read).map_err(|_| self.odd(format!("{status} without JSON")))?;
        Ok((status, value))
    }

    /// Sends one request and returns the status and the body of the reply.
    async fn send_plain(
        &self,
        sender: &mut http1::SendRequest<Full<Bytes>>,
        request: request::Builder,
        body: Option<String>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let odd = |error: &dyn fmt::Display| self.odd(error.to_string());
        let request = request
            .header(HOST, self.url.authority())
            .header(ACCEPT, "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| odd(&error))?;
        sender.ready().await.map_err(|error| odd(&error))?;
        let reply = sender.send_request(request).await.map_err(|error| odd(&error))?;
        let status = reply.status();
        let read = Limited::new(reply.into_body(), MAX_REPLY).collect().await.map_err(|error| odd(&error))?;
        Ok((status, read.to_bytes()))
    }

    fn refused(&self, status: StatusCode, problem: Value) -> ClientError {
        let remedy = match (&self.unread, &self.token) {
            _ if status != StatusCode::UNAUTHORIZED => String::new(),
            (Some(reason), _) => format!("; no token was sent: {reason}"),
            (None, None) => {
                "; if token_file was changed or removed, a running server keeps the old token until a \
                             reload: give that one with --token-file, or reload with SIGHUP (systemctl kill \
                             --kill-whom=main -s HUP steerd, or kill -HUP)"
                    .to_owned()
            }
            (None, Some(_)) => String::new(),
        };
        ClientError::Refused { status, problem, remedy }
    }

    fn odd(&self, reason: String) -> ClientError {
        ClientError::Odd { url: self.url.clone(), reason }
    }
}

/// Whether a connection does not leave this machine: it then has the address of the server at both ends, or loopback.
fn is_same_machine(server: SocketAddr, own: SocketAddr) -> bool {
    let (server, own) = (server.ip().to_canonical(), own.ip().to_canonical());
    server == own || (server.is_loopback() && own.is_loopback())
}

/// A text as a segment of a path (RFC 3986, section 3.3).
pub(super) fn segment(text: &str) -> String {
    let mut segment = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_for_want_of_a_token_says_why_none_was_sent() {
        let mut client = AdminClient {
            url: "http://192.0.2.1:1".parse().unwrap(),
            origin: String::new(),
            token: None,
            unread: Some("the token file t: Permission denied".to_owned()),
            forwarded_to: None,
            trust: ServerTrust::Authority(None),
            file: None,
        };
        let problem = serde_json::json!({ "detail": "this needs the token" });
        let told = client.refused(StatusCode::UNAUTHORIZED, problem.clone()).to_string();
        assert_eq!(told, "this needs the token; no token was sent: the token file t: Permission denied");
        assert_eq!(client.refused(StatusCode::CONFLICT, problem.clone()).to_string(), "this needs the token");
        client.unread = None;
        let told = client.refused(StatusCode::UNAUTHORIZED, problem).to_string();
        assert!(told.contains("keeps the old token until a reload"), "{told}");
    }

    #[test]
    fn a_connection_within_this_machine_has_one_address() {
        let is_same =
            |server: &str, own: &str| is_same_machine(server.parse().unwrap(), own.parse().unwrap());
        assert!(is_same("127.0.0.53:1", "127.0.0.1:2") && is_same("192.0.2.1:1", "192.0.2.1:2"));
        assert!(is_same("[::ffff:192.0.2.1]:1", "192.0.2.1:2"));
        assert!(!is_same("192.0.2.1:1", "192.0.2.2:2") && !is_same("127.0.0.1:1", "192.0.2.2:2"));
    }

    #[test]
    fn any_name_is_one_part_of_a_path() {
        assert_eq!(segment("web-1.a_b~"), "web-1.a_b~");
        assert_eq!(segment("2001:db8::1"), "2001%3Adb8%3A%3A1");
        assert_eq!(segment("../a b?é"), "..%2Fa%20b%3F%C3%A9");
    }
}
