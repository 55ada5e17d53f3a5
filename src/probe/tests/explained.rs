//! Failed probes whose reports help the reader: the target of a redirect, the first words of a body, a protocol
//! other than that of the check, a required client certificate.

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use tokio::io::AsyncWriteExt;

use super::tcp::text;
use super::*;
use crate::check::{GrpcProbe, Talk, TcpProbe, TlsProbe, Version};

const NAME: &str = "backend.example";

fn insecure() -> TlsSettings {
    TlsSettings { insecure: true, ..TlsSettings::default() }
}

fn grpc(port: u16, tls: Option<TlsSettings>) -> Probe {
    Probe::Grpc(GrpcProbe { tls, ..GrpcProbe::of_server(port) })
}

#[tokio::test]
async fn a_wrong_status_shows_where_it_points_to_and_the_first_words() {
    for (response, detail) in [
        (
            "HTTP/1.1 301 Moved\r\nLocation: https://s3.example.com/health\r\ncontent-length: 5\r\n\r\n<html",
            "status 301 Moved Permanently, expected 200-299; it points to \"https://s3.example.com/health\"",
        ),
        (
            "HTTP/1.1 302 Found\r\nlocation: /login?state=secret\r\ncontent-length: 0\r\n\r\n",
            "status 302 Found, expected 200-299; it points to \"/login?...\"",
        ),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", "status 304 Not Modified, expected 200-299"),
        (
            "HTTP/1.1 503 No\r\ncontent-length: 24\r\n\r\n\r\n  no space\r\n left\x1b[2J  ",
            r#"status 503 Service Unavailable, expected 200-299; the body begins with "no space left\u{1b}[2J""#,
        ),
        (
            "HTTP/1.1 404 No\r\n\r\n<html>\r\n<head><title>404 Not Found</title></head>",
            "status 404 Not Found, expected 200-299; the body begins with \"404 Not Found\"",
        ),
        (
            "HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n4\r\ndisk\r\nzz",
            "status 500 Internal Server Error, expected 200-299; the body begins with \"disk\"",
        ),
        (
            "HTTP/1.1 500 No\r\ncontent-length: 9\r\n\r\n",
            "status 500 Internal Server Error, expected 200-299",
        ),
    ] {
        let report = run(http(canned(response).await), PATIENT).await;
        assert_eq!((report.cause, &*report.detail), (Some(Cause::Status), detail), "{response}");
    }
    let port = canned("HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\n").await;
    let report = run(HttpProbe { method: "HEAD".into(), ..http(port) }, PATIENT).await;
    assert_eq!(&*report.detail, "status 503 Service Unavailable, expected 200-299");
}

/// The status has already decided, so the result is not a timeout.
#[tokio::test]
async fn a_body_that_does_not_come_leaves_the_status_the_cause() {
    for timeout in [Duration::from_millis(60), PATIENT] {
        let port = stuck_after(b"HTTP/1.1 503 No\r\ncontent-length: 100\r\n\r\n").await;
        // Only the body exceeds the time limit: connection and head take almost no time.
        let report = run(http(port), timeout).await;
        assert_fault(&report, Cause::Status, "status 503 Service Unavailable, expected 200-299");
        assert!(report.duration < PATIENT / 2, "{report:?}");
    }
    let port = stuck_after(b"HTTP/1.1 503 No\r\ncontent-length: 100\r\n\r\nthe disk is full").await;
    assert_fault(&run(http(port), PATIENT).await, Cause::Status, "begins with \"the disk is full\"");
}

#[tokio::test]
async fn plain_protocols_on_a_port_that_should_speak_tls() {
    let http1 = canned_at_once(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
    let page = canned_at_once(b"<!DOCTYPE HTML PUBLIC>\n<html>").await;
    let http2 = canned_at_once(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x7f").await;
    let mail = canned_at_once(b"220 mail.example ESMTP\r\n").await;
    // Its first byte is also the first byte of a TLS record.
    let other = canned_at_once(b"\x16plain text, and more of it\r\n").await;
    for (port, words) in [
        (http1, "speaks plain HTTP on this port, without TLS; it sent \"HTTP/1.1 400 Bad Request\""),
        (page, "speaks plain HTTP on this port, without TLS"),
        (http2, "speaks plain HTTP/2 on this port, without TLS"),
        (mail, "does not speak TLS on this port; it sent \"220 mail.example ESMTP\""),
        (other, "does not speak TLS on this port"),
    ] {
        let report = run(https(port, insecure()), PATIENT).await;
        assert_fault(&report, Cause::Tls, words);
        let probe = TlsProbe::handshake(port, insecure());
        assert_fault(&probe::run(&Probe::Tls(probe), HERE, PATIENT).await, Cause::Tls, words);
        assert_fault(&probe::run(&grpc(port, Some(insecure())), HERE, PATIENT).await, Cause::Tls, words);
    }
    let closes = server(|mut stream| async move { drop(stream.read(&mut [0; 1024]).await) }).await;
    let report = run(https(closes, insecure()), PATIENT).await;
    assert_fault(&report, Cause::Closed, "the port may not speak TLS");
}

/// Servers may wait for a complete request, close, or reset.
#[tokio::test]
async fn silence_in_a_handshake_may_be_a_port_without_tls() {
    let hint = "the port may not speak TLS";
    let waits = server(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    assert_fault(&run(https(waits, insecure()), BRIEF).await, Cause::Timeout, hint);
    let resets = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 16]).await;
        reset(stream);
    })
    .await;
    assert_fault(&run(https(resets, insecure()), PATIENT).await, Cause::Reset, hint);
    // A server that has begun to speak TLS does not count.
    let stops = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"\x16\x03\x03\x01\x00").await;
        std::future::pending::<()>().await;
    })
    .await;
    let report = run(https(stops, insecure()), BRIEF).await;
    assert_fault(&report, Cause::Timeout, "during the TLS handshake");
    assert!(!report.detail.contains(hint), "{report:?}");
}

/// As `openssl s_server` and Python do it.
#[tokio::test]
async fn a_plain_check_of_a_port_that_closes_at_once() {
    let hint = "the port may speak TLS";
    let closes = server(|mut stream| async move { drop(stream.read(&mut [0; 4096]).await) }).await;
    let resets = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 16]).await;
        reset(stream);
    })
    .await;
    for (port, cause) in [(closes, Cause::Closed), (resets, Cause::Reset)] {
        let http2 = HttpProbe { version: Version::Http2, ..http(port) };
        let talk = Talk { send: Some(b"NOOP\r\n".to_vec()), expect: Some(text("250")) };
        for probe in [
            Probe::Http(http(port)),
            Probe::Http(http2),
            grpc(port, None),
            Probe::Tcp(TcpProbe { talk, ..TcpProbe::connect(port) }),
        ] {
            assert_fault(&probe::run(&probe, HERE, PATIENT).await, cause, hint);
        }
    }
    // A server that has answered, and one over TLS.
    let answers = canned("HTTP/1.1 20").await;
    assert!(!run(http(answers), PATIENT).await.detail.contains(hint));
    let authority = Authority::new("ours");
    let config = server_config(authority.issue(&named(NAME)), rustls::ALL_VERSIONS);
    let (port, _) =
        tls_server(config, &[], |mut stream| async move { drop(request(&mut stream).await) }).await;
    let report = run(https(port, authority.trusted(NAME)), PATIENT).await;
    assert!(report.cause.is_some() && !report.detail.contains(hint), "{report:?}");
}

/// A server that replies to the first bytes of each connection, whatever they are.
async fn canned_at_once(response: &'static [u8]) -> u16 {
    server(move |mut stream| async move {
        // Reads all of them, so that closing does not cause a reset.
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(response).await;
        let _ = stream.shutdown().await;
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await
}

#[tokio::test]
async fn a_plain_check_of_a_port_that_speaks_tls() {
    let words = "this port speaks TLS, and the check does not";
    // TLS libraries send an alert.
    let port = https_server(Authority::new("any").issue(&named(NAME))).await;
    assert_fault(&run(http(port), PATIENT).await, Cause::Protocol, words);
    let http2 = HttpProbe { version: Version::Http2, ..http(port) };
    assert_fault(&run(http2, PATIENT).await, Cause::Protocol, words);
    assert_fault(&probe::run(&grpc(port, None), HERE, PATIENT).await, Cause::Protocol, words);
    let talk = Talk { send: Some(b"NOOP\r\n\r\n".to_vec()), expect: Some(text("250")) };
    assert_fault(
        &probe::run(&Probe::Tcp(TcpProbe { talk, ..TcpProbe::connect(port) }), HERE, PATIENT).await,
        Cause::Body,
        words,
    );
    // HTTP servers send a sentence.
    for body in [
        "<html><center>The plain HTTP request was sent to HTTPS port</center>",
        "Client sent an HTTP request to an HTTPS server.\n",
        "Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
    ] {
        let report =
            run(http(canned(format!("HTTP/1.0 400 Bad Request\r\n\r\n{body}")).await), PATIENT).await;
        assert_fault(&report, Cause::Status, words);
    }
    let port = canned("HTTP/1.1 400 Bad Request\r\n\r\nwrong host").await;
    assert!(!run(http(port), PATIENT).await.detail.contains(words));
}

#[tokio::test]
async fn http_1_where_http_2_is_asked_for() {
    let port = canned_at_once(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let report = run(HttpProbe { version: Version::Http2, ..http(port) }, PATIENT).await;
    assert_fault(&report, Cause::Protocol, "speaks HTTP/1.1; it sent \"HTTP/1.1 400 Bad Request\"");
    assert_fault(
        &probe::run(&grpc(port, None), HERE, PATIENT).await,
        Cause::Protocol,
        "the backend speaks HTTP/1.1",
    );
}

/// A server that accepts only clients whose certificate the authority has signed.
pub(super) fn wanting_certificates(
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let (certificate, key) = authority.issue(&named(NAME));
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap()
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_is_told() {
    let authority = Authority::new("of clients");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for alpn in ["http/1.1", "h2"] {
            let config = wanting_certificates(&authority, version);
            let (port, _) = tls_server(config, &[alpn], answer_ok).await;
            let report = run(https(port, authority.trusted(NAME)), PATIENT).await;
            let words = "wants a client certificate, and the check has none (alert: certificate required)";
            assert_fault(&report, Cause::Tls, words);
            let talk = Talk { send: None, expect: Some(text("hello")) };
            let probe = TlsProbe { talk, ..TlsProbe::handshake(port, authority.trusted(NAME)) };
            assert_fault(&probe::run(&Probe::Tls(probe), HERE, PATIENT).await, Cause::Tls, words);
        }
    }
}

/// With TLS 1.2 the server rejects the client in the handshake, and its alert may be lost with the connection.
#[tokio::test]
async fn a_lost_alert_changes_no_words() {
    let words = "TLS failed: the backend wants a client certificate, and the check has none (connection";
    let authority = Authority::new("of clients");
    let config = Arc::new(wanting_certificates(&authority, &rustls::version::TLS12));
    let port = server(move |mut stream| {
        let config = Arc::clone(&config);
        async move {
            let mut session = rustls::ServerConnection::new(config).unwrap();
            // The flight that requests the certificate; later data is not read.
            while !session.wants_write() {
                let mut hello = [0; 4096];
                let length = stream.read(&mut hello).await.unwrap();
                session.read_tls(&mut hello.get(..length).unwrap()).unwrap();
                session.process_new_packets().unwrap();
            }
            let mut flight = Vec::new();
            while session.wants_write() {
                session.write_tls(&mut flight).unwrap();
            }
            stream.write_all(&flight).await.unwrap();
            let _ = stream.read(&mut [0; 1]).await;
            reset(stream);
        }
    })
    .await;
    let report = run(https(port, authority.trusted(NAME)), PATIENT).await;
    assert_fault(&report, Cause::Tls, words);
    assert!(!report.detail.contains("may not speak TLS"), "{report:?}");
}

/// As nginx does it: the handshake completes, and the request is rejected; also if the session is resumed, in which
/// no certificate is requested.
#[tokio::test]
async fn a_status_for_want_of_a_client_certificate_says_so() {
    let authority = Authority::new("of clients");
    let mut roots = RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let (certificate, key) = authority.issue(&named(NAME));
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let (port, handshakes) = tls_server(config, &[], |mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad\r\ncontent-length: 2\r\n\r\nno").await;
        let _ = stream.shutdown().await;
    })
    .await;
    for _ in 0..2 {
        let report = run(https(port, authority.trusted(NAME)), PATIENT).await;
        assert_fault(&report, Cause::Status, "asked for a client certificate, and the check has none");
    }
    let handshakes = handshakes.lock().unwrap().clone();
    assert_eq!(handshakes, [HandshakeKind::Full, HandshakeKind::Resumed]);
}

#[tokio::test]
async fn an_unknown_authority_is_named_with_the_file() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let port = https_server(theirs.issue(&named(NAME))).await;
    let report = run(https(port, ours.trusted(NAME)), PATIENT).await;
    let file = ours.file();
    let words = format!("not trusted here: \"CN=theirs\" is not in ca_file {}", file.display());
    assert_fault(&report, Cause::Tls, &words);
    // A self-signed certificate is its own authority.
    let key = KeyPair::generate().unwrap();
    let port = https_server((named(NAME).self_signed(&key).unwrap().der().clone(), key)).await;
    let report = run(https(port, ours.trusted(NAME)), PATIENT).await;
    assert_fault(&report, Cause::Tls, &format!("self-signed, and not in ca_file {}", file.display()));
    let of_system = TlsSettings { name: Some(NAME.into()), ..TlsSettings::default() };
    let report = run(https(port, of_system), PATIENT).await;
    if report.cause != Some(Cause::Local) {
        assert_fault(&report, Cause::Tls, "name a file that holds it in tls.ca_file");
    }
}
