//! A client for the HTTP interface of a running server; commands that talk to a server use it.
//!
//! It finds the server and its token, sends requests, and reports failures. The commands choose the requests.
//!
//! ```text
//! connected --with a token--> ask for the proof --proved, for this address--> request with the token
//!     |                             |`--the server has no token--> request without it
//!     `--no token--> request        `--not proved--> end: the token is not sent
//! ```

use std::fmt::{self, Write};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST};
use hyper::http::request;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cli::{ConfigFile, complain};
use crate::config::{AdminPlace, BearerToken, Nonce};
use crate::file;

/// The default address of the admin server of `steerd demo`.
const DEMO_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8053);
/// Timeout for connecting.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Timeout for a reply: the maximum life of a connection at the server.
const REPLY_TIME: Duration = Duration::from_secs(65);
/// Maximum size of a reply, bytes. Even the reply of a server with a million backends is smaller.
const MAX_REPLY: usize = 1 << 30;

/// Selects the server.
#[derive(Debug, Args)]
pub(super) struct ServerArguments {
    /// The admin server, as http://HOST:PORT; defaults to the address in the configuration file
    #[arg(long, value_name = "URL")]
    admin: Option<AdminUrl>,
    /// A file with the token of the server; defaults to the one in the configuration
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The address on which the admin server listens, to send it a token through a tunnel
    #[arg(long, value_name = "ADDRESS:PORT")]
    forwarded_to: Option<SocketAddr>,
    #[command(flatten)]
    config: ConfigFile,
}

/// Host and port of an admin server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AdminUrl {
    host: String,
    port: u16,
}

impl FromStr for AdminUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri = text.parse::<Uri>().map_err(|error| error.to_string())?;
        match (uri.scheme_str(), uri.host(), uri.path()) {
            (Some(_), ..) if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) => {
                Err("steerd has no users and passwords: give its token with --token-file".into())
            }
            (Some("http"), Some(host), "/") if !host.is_empty() && uri.query().is_none() => {
                Ok(Self { host: host.into(), port: uri.port_u16().unwrap_or(80) })
            }
            (Some("https"), ..) => {
                Err("the admin server speaks HTTP without TLS: use a tunnel to http://127.0.0.1:PORT".into())
            }
            (None, Some(_), _) => Err(format!("did you mean http://{text}?")),
            _ => Err("expected http://HOST:PORT".into()),
        }
    }
}

impl From<SocketAddr> for AdminUrl {
    /// An unspecified address is replaced with loopback.
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        Self { host, port: address.port() }
    }
}

impl fmt::Display for AdminUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

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
    #[error("[admin] listen in {} has port 0, so the port changes at each start: give --admin", .0.display())]
    AnyPort(PathBuf),
    #[error(
        "no steerd answers at {url} ({origin}): {error}. Start steerd with `listen` set under [admin], or give \
         another server with --admin URL; `steerd demo` prints its URL, by default http://{DEMO_ADMIN}"
    )]
    Unreachable { url: AdminUrl, origin: String, error: io::Error },
    #[error("{url} did not answer like steerd: {reason}")]
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
    #[error("{}", .problem["detail"].as_str().unwrap_or("the server refused and gave no reason"))]
    Refused { status: StatusCode, problem: Value },
}

/// A server for requests.
#[derive(Debug)]
pub(super) struct AdminClient {
    url: AdminUrl,
    /// Where the address comes from, for errors.
    origin: String,
    token: Option<BearerToken>,
    forwarded_to: Option<SocketAddr>,
    /// The configuration that the server is expected to run; `None` for any.
    file: Option<PathBuf>,
}

impl ServerArguments {
    /// Finds the server.
    ///
    /// # Errors
    /// If the token cannot be read, or neither `--admin` nor the configuration has an address.
    pub(super) fn client(&self) -> Result<AdminClient, ClientError> {
        let path = &self.config.path();
        let place = match AdminPlace::of(path) {
            Ok(place) => place,
            // The server may run on another machine.
            Err(_) if self.admin.is_some() => AdminPlace::default(),
            Err(error) => return Err(ClientError::Unread { path: path.clone(), error }),
        };
        // There is no default address, so that a command never acts on the wrong server by mistake.
        let (url, origin) = match (&self.admin, place.listen) {
            (Some(url), _) => (url.clone(), "--admin".to_owned()),
            (None, Some(address)) if address.port() == 0 => return Err(ClientError::AnyPort(path.clone())),
            (None, Some(address)) => (address.into(), format!("from {}", path.display())),
            (None, None) => return Err(ClientError::NoAdmin(path.clone())),
        };
        let token = match (&self.token_file, &place.token_file) {
            (Some(file), _) => Some(read_token(file)?),
            // A server on another machine must not receive the token of this one.
            (None, Some(file)) if self.admin.is_none() => Some(read_token(file)?),
            (None, _) => None,
        };
        // With --admin, only the argument counts: the environment is for the server on this machine.
        let file = match &self.admin {
            Some(_) => self.config.argument.clone(),
            None => self.config.named().or_else(|| place.listen.map(|_| path.clone())),
        };
        Ok(AdminClient { url, origin, token, forwarded_to: self.forwarded_to, file: file.map(real) })
    }
}

impl AdminClient {
    /// The server that runs this configuration, if its admin server can be found.
    pub(super) fn of_file(path: &Path) -> Option<Self> {
        let config = ConfigFile { argument: Some(path.to_owned()) };
        let server = ServerArguments { admin: None, token_file: None, forwarded_to: None, config };
        AdminPlace::of(path).ok()?.listen?;
        server.client().ok()
    }

    pub(super) fn url(&self) -> &AdminUrl {
        &self.url
    }
}

/// The canonical path; the absolute path if the file is missing.
fn real(path: PathBuf) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(&path)).unwrap_or(path)
}

fn read_token(path: &Path) -> Result<BearerToken, ClientError> {
    let fault = |reason: String| ClientError::Token { path: path.into(), reason };
    let content = file::read(path, file::SECRET).map_err(|error| fault(error.to_string()))?;
    let token = content.text().map_err(|error| fault(error.to_string()))?;
    if let Some(mode) = content.exposed() {
        let path = path.display();
        complain(&format!(
            "warning: the token file {path} can be read or changed by other users of this machine \
             (mode {mode:04o}): chmod 600 {path}"
        ));
    }
    BearerToken::parse(token).map_err(fault)
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
        let unreachable =
            |error| ClientError::Unreachable { url: self.url.clone(), origin: self.origin.clone(), error };
        let host = self.url.host.trim_start_matches('[').trim_end_matches(']');
        let stream = timeout(CONNECT_TIME, TcpStream::connect((host, self.url.port)))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(unreachable)?;
        match timeout(REPLY_TIME, self.exchange(stream, method, path, body)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.odd(format!("no reply within {REPLY_TIME:?}"))),
        }
    }

    async fn exchange(
        &self,
        stream: TcpStream,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let server = stream.peer_addr().map_err(|error| self.odd(error.to_string()))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.odd(error.to_string()))?;
        // An error that ends the connection also ends the request or the body, and is reported there.
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(CONNECTION, "close");
        // Uses the same connection, so that no other server can take the place of the one that sent the proof.
        if let Some(token) = &self.token
            && self.is_proved(&mut sender, token, server).await?
        {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.as_str()));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let (status, value) = self.send(&mut sender, request, body.map(Value::to_string)).await?;
        connection.abort();
        if status.is_success() { Ok(value) } else { Err(ClientError::Refused { status, problem: value }) }
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
        let (address, proof) = (value["address"].as_str(), value["proof"].as_str());
        let address = address.and_then(|address| address.parse::<SocketAddr>().ok());
        let proved = address.filter(|&address| token.is_proved_by(proof.unwrap_or(""), &nonce, address));
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
        let odd = |error: &dyn fmt::Display| self.odd(error.to_string());
        let request = request
            .header(HOST, format!("{}:{}", self.url.host, self.url.port))
            .header(ACCEPT, "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| odd(&error))?;
        sender.ready().await.map_err(|error| odd(&error))?;
        let reply = sender.send_request(request).await.map_err(|error| odd(&error))?;
        let status = reply.status();
        let read = Limited::new(reply.into_body(), MAX_REPLY).collect().await.map_err(|error| odd(&error))?;
        let value = serde_json::from_slice(&read.to_bytes())
            .map_err(|_| self.odd(format!("{status} without JSON")))?;
        Ok((status, value))
    }

    fn odd(&self, reason: String) -> ClientError {
        ClientError::Odd { url: self.url.clone(), reason }
    }
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
    use std::fs;

    use super::*;

    #[test]
    fn addresses_of_admin_servers() {
        for (text, shown) in [
            ("http://127.0.0.1:8053", "http://127.0.0.1:8053"),
            ("http://127.0.0.1:8053/", "http://127.0.0.1:8053"),
            ("http://[::1]:8053", "http://[::1]:8053"),
            ("http://lb1.example.com", "http://lb1.example.com:80"),
        ] {
            assert_eq!(text.parse::<AdminUrl>().unwrap().to_string(), shown);
        }
        for (text, expected) in [
            ("https://127.0.0.1:8053", "without TLS"),
            ("127.0.0.1:8053", "did you mean http://127.0.0.1:8053?"),
            ("http://127.0.0.1:8053/api", "expected"),
            ("http://user:password@127.0.0.1:8053", "--token-file"),
            ("http://", ""),
            ("/", "expected"),
            ("", ""),
        ] {
            let error = text.parse::<AdminUrl>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        for (address, shown) in [
            ("0.0.0.0:1", "http://127.0.0.1:1"),
            ("[::]:1", "http://[::1]:1"),
            ("192.0.2.1:1", "http://192.0.2.1:1"),
        ] {
            assert_eq!(AdminUrl::from(address.parse::<SocketAddr>().unwrap()).to_string(), shown);
        }
    }

    #[test]
    fn any_name_is_one_part_of_a_path() {
        assert_eq!(segment("web-1.a_b~"), "web-1.a_b~");
        assert_eq!(segment("2001:db8::1"), "2001%3Adb8%3A%3A1");
        assert_eq!(segment("../a b?é"), "..%2Fa%20b%3F%C3%A9");
    }

    fn server(directory: &Path, admin: Option<&str>, token_file: Option<&str>) -> ServerArguments {
        ServerArguments {
            admin: admin.map(|text| text.parse().unwrap()),
            token_file: token_file.map(|name| directory.join(name)),
            forwarded_to: None,
            config: ConfigFile { argument: Some(directory.join("steerd.toml")) },
        }
    }

    #[test]
    fn the_server_is_that_of_the_arguments_or_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let at = |admin, token| server(directory.path(), admin, token).client();
        assert!(matches!(at(None, None), Err(ClientError::Unread { .. })), "none is guessed");
        fs::write(directory.path().join("steerd.toml"), "[server]\n").unwrap();
        assert!(matches!(at(None, None), Err(ClientError::NoAdmin(_))), "none is guessed");

        let config = "[admin]\nlisten = \"0.0.0.0:9\"\ntoken_file = \"token\"\n";
        fs::write(directory.path().join("steerd.toml"), config).unwrap();
        assert!(matches!(at(None, None), Err(ClientError::Token { .. })), "the token is not there");
        fs::write(directory.path().join("token"), "0123456789abcdef").unwrap();
        let client = at(None, None).unwrap();
        assert_eq!(client.url.to_string(), "http://127.0.0.1:9");
        assert!(client.token.is_some_and(|token| token.as_str() == "0123456789abcdef"));

        let client = at(Some("http://192.0.2.1:1"), None).unwrap();
        assert_eq!(client.url.to_string(), "http://192.0.2.1:1");
        assert!(client.token.is_none(), "a server elsewhere is not shown the token of this one");
        assert!(at(Some("http://192.0.2.1:1"), Some("token")).unwrap().token.is_some());

        fs::write(directory.path().join("steerd.toml"), "[admin]\nlisten = \"127.0.0.1:0\"\n").unwrap();
        assert!(matches!(at(None, None), Err(ClientError::AnyPort(_))));
    }
}
