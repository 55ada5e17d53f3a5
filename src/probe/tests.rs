//! Probes against real sockets that behave well and badly.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::health::Outcome;
use crate::probe::http::{BODY_LIMIT, HEADER_LIMIT, HttpProbe, TlsSettings};
use crate::probe::tcp::TcpProbe;
use crate::probe::{Probe, Report};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// For probes that get an answer: long, so that a slow machine fails no test.
const PATIENT: Duration = Duration::from_secs(20);
/// For probes that get none.
const BRIEF: Duration = Duration::from_millis(250);

fn http(port: u16) -> HttpProbe {
    HttpProbe::get(port, "/health")
}

async fn run(probe: HttpProbe, timeout: Duration) -> Report {
    Probe::Http(probe).run(HERE, timeout).await
}

#[track_caller]
fn assert_report(report: &Report, outcome: Outcome, detail: &str) {
    assert_eq!((report.outcome, &*report.detail), (outcome, detail), "{report:?}");
}

#[track_caller]
fn assert_report_contains(report: &Report, outcome: Outcome, part: &str) {
    assert!(report.outcome == outcome && report.detail.contains(part), "{part:?} is not in {report:?}");
}

/// A server that does the same to each connection. Returns its port.
async fn server<F, Done>(treat: F) -> u16
where
    F: Fn(TcpStream) -> Done + Send + 'static,
    Done: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(treat(stream));
        }
    });
    port
}

/// Reads a request up to its empty line.
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

/// A server that answers each request with a beginning, and then the same again and again.
async fn endless(beginning: &'static [u8], again: &'static [u8]) -> u16 {
    server(move |mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(beginning).await;
        while stream.write_all(again).await.is_ok() {}
    })
    .await
}

async fn closed_port() -> u16 {
    TcpListener::bind((HERE, 0)).await.unwrap().local_addr().unwrap().port()
}

/// A listener whose backlog is full: the kernel drops what else wants to connect. It lasts as long as
/// what is returned with its port.
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

#[tokio::test]
async fn tcp_connects_and_closes_without_a_reset() {
    let (sender, mut ends) = tokio::sync::mpsc::channel(1);
    let port = server(move |mut stream| {
        let sender = sender.clone();
        async move { sender.send(stream.read(&mut [0; 1]).await).await.unwrap() }
    })
    .await;
    let report = Probe::Tcp(TcpProbe::connect(port)).run(HERE, PATIENT).await;
    assert_report(&report, Outcome::Passed, "connected");
    assert_eq!(report.phases.len(), 1);
    assert_eq!(ends.recv().await.unwrap().unwrap(), 0, "an orderly end");
}

#[tokio::test]
async fn refusal_and_silence_are_told_apart() {
    let port = closed_port().await;
    let report = Probe::Tcp(TcpProbe::connect(port)).run(HERE, PATIENT).await;
    assert_report(&report, Outcome::Failed, "connection refused");
    assert_report(&run(http(port), PATIENT).await, Outcome::Failed, "connection refused");

    let (port, _full) = black_hole().await;
    let expected = "no answer within 250ms (while connecting)";
    let report = Probe::Tcp(TcpProbe::connect(port)).run(HERE, BRIEF).await;
    assert_report(&report, Outcome::Failed, expected);
    assert!(report.duration >= BRIEF);
    assert_report(&run(http(port), BRIEF).await, Outcome::Failed, expected);

    let port = server(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let report = run(http(port), BRIEF).await;
    assert_report(&report, Outcome::Failed, "no answer within 250ms (waiting for the response)");
    let tls = HttpProbe { tls: Some(TlsSettings { insecure: true, ..TlsSettings::default() }), ..http(port) };
    let report = run(tls, BRIEF).await;
    assert_report(&report, Outcome::Failed, "no answer within 250ms (during the TLS handshake)");
}

#[tokio::test]
async fn the_request_is_as_documented() {
    let (sender, mut requests) = tokio::sync::mpsc::channel(1);
    let port = server(move |mut stream| {
        let sender = sender.clone();
        async move {
            let text = request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            sender.send(text).await.unwrap();
        }
    })
    .await;
    let report = run(http(port), PATIENT).await;
    assert_report(&report, Outcome::Passed, "204 No Content");
    let steps: Vec<&str> = report.phases.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, ["connect", "response", "body"]);
    let text = requests.recv().await.unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let mut lines: Vec<&str> = text.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "GET /health HTTP/1.1");
    lines.sort_unstable();
    let (host, agent) = (format!("host: 127.0.0.1:{port}"), format!("user-agent: steerd/{version}"));
    assert_eq!(lines, ["connection: close", &host, &agent]);
}

#[tokio::test]
async fn the_status_decides() {
    let port = canned("HTTP/1.1 500 Sorry\r\ncontent-length: 2\r\n\r\nno").await;
    let report = run(http(port), PATIENT).await;
    assert_report(&report, Outcome::Failed, "status 500 Internal Server Error, expected 200-299");
    let accepting = HttpProbe { status: vec![204..=204, 500..=503], ..http(port) };
    assert_report(&run(accepting, PATIENT).await, Outcome::Passed, "500 Internal Server Error");

    let port = canned("HTTP/1.1 299 Odd\r\ncontent-length: 0\r\n\r\n").await;
    assert_report(&run(http(port), PATIENT).await, Outcome::Passed, "299");
    let strict = HttpProbe { status: vec![200..=200, 204..=204], ..http(port) };
    assert_report(&run(strict, PATIENT).await, Outcome::Failed, "status 299, expected 200, 204");
}

#[tokio::test]
async fn a_redirect_to_a_healthy_server_is_not_followed() {
    static VISITS: AtomicUsize = AtomicUsize::new(0);
    let healthy = server(|mut stream| async move {
        VISITS.fetch_add(1, Ordering::Relaxed);
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    })
    .await;
    let port = canned(format!(
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{healthy}/\r\ncontent-length: 0\r\n\r\n"
    ))
    .await;
    let report = run(http(port), PATIENT).await;
    assert_report(&report, Outcome::Failed, "status 302 Found, expected 200-299");
    assert_eq!(VISITS.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn bodies_are_read_to_their_end_or_to_the_limit() {
    let port = endless(b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 4096]).await;
    assert_report(&run(http(port), PATIENT).await, Outcome::Passed, "200 OK");
    let port = endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"4\r\nmore\r\n").await;
    assert_report(&run(http(port), PATIENT).await, Outcome::Passed, "200 OK");

    let mut long = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_vec();
    long.resize(long.len() + BODY_LIMIT, b'x');
    assert_report(&run(http(canned(long).await), PATIENT).await, Outcome::Passed, "200 OK");

    let port = canned("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this").await;
    assert_report_contains(
        &run(http(port), PATIENT).await,
        Outcome::Failed,
        "before the response was complete",
    );
    let port = canned("HTTP/1.1 200 OK\r\n\r\nuntil the connection is closed").await;
    assert_report(&run(http(port), PATIENT).await, Outcome::Passed, "200 OK");

    let port = server(|mut stream| async move {
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let report = run(http(port), BRIEF).await;
    assert_report(&report, Outcome::Failed, "no answer within 250ms (reading the body)");
}

#[tokio::test]
async fn hostile_heads_fail_and_cost_little() {
    let endless_headers = endless(b"HTTP/1.1 200 OK\r\n", b"x-filler: yes\r\n").await;
    assert_report_contains(&run(http(endless_headers), PATIENT).await, Outcome::Failed, "headers");
    let endless_header = endless(b"HTTP/1.1 200 OK\r\nx-filler: ", &[b'y'; 4096]).await;
    assert_report_contains(&run(http(endless_header), PATIENT).await, Outcome::Failed, "64 KiB");
    let long_header = format!("HTTP/1.1 200 OK\r\nx-filler: {}\r\n\r\n", "y".repeat(HEADER_LIMIT));
    assert_report_contains(&run(http(canned(long_header).await), PATIENT).await, Outcome::Failed, "64 KiB");
    let endless_early_hints = endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n").await;
    assert_report_contains(&run(http(endless_early_hints), BRIEF).await, Outcome::Failed, "250ms");

    let garbage = canned("SSH-2.0-OpenSSH_9.9\r\n").await;
    assert_report_contains(&run(http(garbage), PATIENT).await, Outcome::Failed, "not HTTP/1.1");
    let zeros = endless(&[0; 64], &[0; 4096]).await;
    assert_report_contains(&run(http(zeros), PATIENT).await, Outcome::Failed, "not HTTP/1.1");

    let closes = canned("").await;
    let expected = "the connection was closed before the response was complete";
    assert_report(&run(http(closes), PATIENT).await, Outcome::Failed, expected);
    let half_a_status = canned("HTTP/1.1 20").await;
    assert_report(&run(http(half_a_status), PATIENT).await, Outcome::Failed, expected);
    let resets = server(|stream| async move {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    let report = run(http(resets), PATIENT).await;
    assert_report(&report, Outcome::Failed, "connection reset before the response was complete");
}

/// A certificate authority for one test, with a file of its certificate.
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

    fn issue(&self, params: &CertificateParams) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().der().clone(), key)
    }
}

fn named(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

/// An HTTPS server that is well, but for its certificate.
async fn https_server((certificate, key): (CertificateDer<'static>, KeyPair)) -> u16 {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer_ok(stream).await;
            }
        }
    })
    .await
}

async fn answer_ok(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    request(&mut stream).await;
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let _ = stream.shutdown().await;
}

fn https(port: u16, name: Option<&str>, ca_file: PathBuf) -> HttpProbe {
    let name = name.map(str::to_owned);
    HttpProbe {
        tls: Some(TlsSettings { name, ca_file: Some(ca_file), ..TlsSettings::default() }),
        ..http(port)
    }
}

#[tokio::test]
async fn certificates_are_judged_by_name_time_and_authority() {
    let authority = Authority::new("ours");
    let right = https_server(authority.issue(&named("s3.example.com"))).await;
    let report = run(https(right, Some("s3.example.com"), authority.file()), PATIENT).await;
    assert_report(&report, Outcome::Passed, "200 OK");
    let steps: Vec<&str> = report.phases.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, ["connect", "tls", "response", "body"]);

    let report = run(https(right, Some("www.example.com"), authority.file()), PATIENT).await;
    assert_report_contains(&report, Outcome::Failed, "certificate: not valid for www.example.com, only for");
    let report = run(https(right, None, authority.file()), PATIENT).await;
    assert_report_contains(&report, Outcome::Failed, "certificate: not valid for 127.0.0.1, only for");
    let by_address = https_server(authority.issue(&named("127.0.0.1"))).await;
    assert_report(&run(https(by_address, None, authority.file()), PATIENT).await, Outcome::Passed, "200 OK");

    let mut expired = named("s3.example.com");
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let expired = https_server(authority.issue(&expired)).await;
    let report = run(https(expired, Some("s3.example.com"), authority.file()), PATIENT).await;
    assert_report_contains(&report, Outcome::Failed, "certificate: expired ");

    let stranger = https_server(Authority::new("another").issue(&named("s3.example.com"))).await;
    let report = run(https(stranger, Some("s3.example.com"), authority.file()), PATIENT).await;
    let untrusted = "certificate: signed by an authority that is not trusted here";
    assert_report(&report, Outcome::Failed, untrusted);

    let key = KeyPair::generate().unwrap();
    let certificate = named("s3.example.com").self_signed(&key).unwrap().der().clone();
    let self_signed = https_server((certificate, key)).await;
    let report = run(https(self_signed, Some("s3.example.com"), authority.file()), PATIENT).await;
    assert_report(&report, Outcome::Failed, untrusted);
    let any = Some(TlsSettings { insecure: true, ..TlsSettings::default() });
    for port in [self_signed, expired, stranger] {
        let report = run(HttpProbe { tls: any.clone(), ..http(port) }, PATIENT).await;
        assert_report(&report, Outcome::Passed, "200 OK");
    }
}

#[tokio::test]
async fn what_is_not_tls_fails_and_what_cannot_be_checked_is_void() {
    let authority = Authority::new("ours");
    let plain = canned("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let report = run(https(plain, Some("s3.example.com"), authority.file()), BRIEF).await;
    assert_eq!(report.outcome, Outcome::Failed, "{report:?}");
    let speaks_first = server(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.example.com ESMTP\r\n").await;
        request(&mut stream).await;
    })
    .await;
    let report = run(https(speaks_first, Some("s3.example.com"), authority.file()), PATIENT).await;
    assert_report_contains(&report, Outcome::Failed, "TLS handshake failed");

    let missing = authority.directory.path().join("missing.pem");
    let report = run(https(plain, Some("s3.example.com"), missing), PATIENT).await;
    assert_report_contains(&report, Outcome::Void, "missing.pem cannot be used");
    let empty = authority.directory.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    let report = run(https(plain, Some("s3.example.com"), empty), PATIENT).await;
    assert_report_contains(&report, Outcome::Void, "holds no certificate");
    let report = run(https(plain, Some("not a name"), authority.file()), PATIENT).await;
    assert_report_contains(&report, Outcome::Void, "neither a host name nor an address");
}

/// Nobody writes into a named pipe, so it cannot even be opened: like a disk that does not answer.
#[tokio::test]
async fn authorities_that_cannot_be_read_in_time_are_void_and_hold_up_no_other_probe() {
    let authority = Authority::new("ours");
    let port = https_server(authority.issue(&named("s3.example.com"))).await;
    let stuck = authority.directory.path().join("stuck.pem");
    assert!(std::process::Command::new("mkfifo").arg(&stuck).status().unwrap().success());
    // Waits for the thread that reads, and lets it go: the runtime ends only when it has.
    let release = || drop(std::fs::File::options().write(true).open(&stuck).unwrap());
    let probe = |ca_file| run(https(port, Some("s3.example.com"), ca_file), PATIENT);

    let waiting = tokio::spawn(probe(stuck.clone()));
    assert_report(&probe(authority.file()).await, Outcome::Passed, "200 OK");
    assert!(!waiting.is_finished());
    waiting.abort();
    release();

    let report = run(https(port, Some("s3.example.com"), stuck.clone()), BRIEF).await;
    assert_report_contains(&report, Outcome::Void, "authorities were not read within");
    release();
}
