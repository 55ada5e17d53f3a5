//! Probes real sockets that behave well or badly. This file has the servers, and checks for reports.

mod certificates;
mod explained;
mod grpc;
mod hostile;
mod http;
mod http2;
mod own;
mod tcp;
mod tls;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::check::{HttpProbe, Probe, TlsSettings};
use crate::health::Outcome;
use crate::probe::{self, Cause, Report};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// For probes that get an answer. It is long, so that tests pass on a slow machine.
const PATIENT: Duration = Duration::from_secs(20);
/// For probes that get no answer.
const BRIEF: Duration = Duration::from_millis(250);

fn http(port: u16) -> HttpProbe {
    HttpProbe::get(port, "/health")
}

async fn run(probe: HttpProbe, timeout: Duration) -> Report {
    probe::run(&Probe::Http(probe), HERE, timeout).await
}

#[track_caller]
fn assert_passed(report: &Report, detail: &str) {
    assert_eq!(
        (report.outcome, report.cause, &*report.detail),
        (Outcome::Passed, None, detail),
        "{report:?}"
    );
}

/// Asserts that the probe failed, or is void for [`Cause::Local`], with this cause and this text in the
/// detail.
#[track_caller]
fn assert_fault(report: &Report, cause: Cause, part: &str) {
    let outcome = if cause == Cause::Local { Outcome::Void } else { Outcome::Failed };
    assert_eq!((report.outcome, report.cause), (outcome, Some(cause)), "{report:?}");
    assert!(report.detail.contains(part), "{part:?} is not in {report:?}");
}

/// Waits for a condition, for as long as a slow machine may need.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENT;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A server that treats every connection alike. Returns its port, which is open on all addresses of this
/// machine.
async fn server<F, Done>(treat: F) -> u16
where
    F: Fn(TcpStream) -> Done + Send + 'static,
    Done: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(treat(stream));
        }
    });
    port
}

/// Reads a request up to the empty line.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => text.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(text).unwrap()
}

/// A server that answers each request with these bytes and closes.
async fn canned(response: impl Into<Vec<u8>>) -> u16 {
    let response: Arc<Vec<u8>> = Arc::new(response.into());
    server(move |mut stream| {
        let response = Arc::clone(&response);
        async move {
            request(&mut stream).await;
            let _ = stream.write_all(&response).await;
        }
    })
    .await
}

/// A server that sends these bytes and then nothing more, but stays connected.
async fn stuck_after(response: &'static [u8]) -> u16 {
    server(move |mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(response).await;
        std::future::pending::<()>().await;
    })
    .await
}

async fn closed_port() -> u16 {
    TcpListener::bind((HERE, 0)).await.unwrap().local_addr().unwrap().port()
}

/// A listener with a full backlog: the kernel drops further connection attempts. It exists as long as the
/// value returned with its port.
async fn black_hole() -> (u16, (socket2::Socket, Vec<TcpStream>)) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(HERE, 0).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = tokio::time::timeout(BRIEF, TcpStream::connect(address)).await {
        held.push(stream.unwrap());
        assert!(held.len() < 100, "this kernel does not honour the backlog");
    }
    (address.port(), (socket, held))
}

/// Ends the connection with a reset.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// A certificate authority for one test, and a file with its certificate.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    fn issue(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().der().clone(), key)
    }

    fn trusted(&self, name: &str) -> TlsSettings {
        TlsSettings { name: Some(name.to_owned()), ca_file: Some(self.file()), ..TlsSettings::default() }
    }
}

type Identity = (CertificateDer<'static>, KeyPair);

fn named(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

fn server_config(
    (certificate, key): Identity,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

/// The handshakes that a server has seen, in order.
type Handshakes = Arc<Mutex<Vec<HandshakeKind>>>;

/// A TLS server that offers `alpn` and treats every connection alike after the handshake.
async fn tls_server<F, Done>(mut config: ServerConfig, alpn: &[&str], treat: F) -> (u16, Handshakes)
where
    F: Fn(tokio_rustls::server::TlsStream<TcpStream>) -> Done + Clone + Send + 'static,
    Done: Future<Output = ()> + Send + 'static,
{
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let handshakes = Handshakes::default();
    let seen = Arc::clone(&handshakes);
    let port = server(move |stream| {
        let (acceptor, treat, seen) = (acceptor.clone(), treat.clone(), Arc::clone(&seen));
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                seen.lock().unwrap().push(stream.get_ref().1.handshake_kind().unwrap());
                treat(stream).await;
            }
        }
    })
    .await;
    (port, handshakes)
}

/// An HTTPS server whose only fault is its certificate.
async fn https_server(identity: Identity) -> u16 {
    tls_server(server_config(identity, rustls::ALL_VERSIONS), &[], answer_ok).await.0
}

async fn answer_ok(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    request(&mut stream).await;
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let _ = stream.shutdown().await;
}

fn https(port: u16, settings: TlsSettings) -> HttpProbe {
    HttpProbe { tls: Some(settings), ..http(port) }
}

/// The names of the steps of a report.
fn steps(report: &Report) -> Vec<&'static str> {
    report.phases.iter().map(|(step, _)| *step).collect()
}

/// Thousands of these futures exist at the same time.
#[test]
fn a_probe_that_waits_takes_little_memory() {
    let probe = Probe::Http(http(80));
    let size = size_of_val(&probe::run(&probe, HERE, PATIENT));
    assert!(size <= 2048, "{size} bytes");
}
