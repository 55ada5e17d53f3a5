//! Settings of a check: a client certificate, a PROXY header, metadata, bytes; and the host of a backend.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::explained::wanting_certificates;
use super::tcp::text;
use super::*;
use crate::check::{ClientFiles, Expected, GrpcProbe, ProxyProtocol, Talk, TcpProbe, TlsProbe};
use crate::pool::Backend;

const NAME: &str = "backend.example";

/// A client certificate in a file, with the key in the same file or in another one.
fn client(authority: &Authority, directory: &std::path::Path, name: &str) -> ClientFiles {
    let (certificate, key) = authority.issue(&named("client.example"));
    let text = data_encoding::BASE64.encode(&certificate);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    let (file, key_file) = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
    std::fs::write(&file, &pem).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    ClientFiles { certificate: file, key: key_file }
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_those_who_ask() {
    let (authority, other) = (Authority::new("of clients"), Authority::new("another"));
    let directory = tempfile::tempdir().unwrap();
    let ours = client(&authority, directory.path(), "ours");
    let theirs = client(&other, directory.path(), "theirs");
    let with = |client: &ClientFiles| TlsSettings { client: Some(client.clone()), ..authority.trusted(NAME) };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (port, handshakes) =
            tls_server(wanting_certificates(&authority, version), &["http/1.1"], answer_ok).await;
        for _ in 0..2 {
            assert_passed(&run(https(port, with(&ours)), PATIENT).await, "200 OK");
        }
        // The session is resumed, as without a client certificate.
        let kinds = handshakes.lock().unwrap().clone();
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
        let report = run(https(port, with(&theirs)), PATIENT).await;
        assert_fault(&report, Cause::Tls, "refuses the client certificate of the check");
        let report = run(https(port, authority.trusted(NAME)), PATIENT).await;
        assert_fault(&report, Cause::Tls, "wants a client certificate, and the check has none");
    }
    let (port, _) =
        tls_server(wanting_certificates(&authority, &rustls::version::TLS13), &[], answer_ok).await;
    for (client, words) in [
        (ClientFiles { key: theirs.key.clone(), ..ours.clone() }, "its key is not that of the certificate"),
        (
            ClientFiles { key: ours.certificate.clone(), ..ours.clone() },
            "it holds a certificate and no private key",
        ),
        (
            ClientFiles { certificate: ours.key.clone(), ..ours.clone() },
            "it holds a private key; a certificate is expected",
        ),
        (ClientFiles { key: directory.path().join("none"), ..ours.clone() }, "No such file"),
    ] {
        assert_fault(&run(https(port, with(&client)), PATIENT).await, Cause::Local, words);
    }
    // Both in the same file.
    let both = directory.path().join("both.pem");
    let text = [&ours.certificate, &ours.key].map(|path| std::fs::read_to_string(path).unwrap()).concat();
    std::fs::write(&both, text).unwrap();
    let client = ClientFiles { certificate: both.clone(), key: both };
    assert_passed(&run(https(port, with(&client)), PATIENT).await, "200 OK");
}

/// A server that requires these bytes first.
async fn behind_proxy(
    header: &'static [u8],
    answer: &'static [u8],
) -> (u16, tokio::sync::mpsc::Receiver<Vec<u8>>) {
    let (sender, seen) = tokio::sync::mpsc::channel(8);
    let port = server(move |mut stream| {
        let sender = sender.clone();
        async move {
            let mut begins = vec![0; header.len()];
            let read = stream.read_exact(&mut begins).await;
            let _ = sender.send(begins.clone()).await;
            if read.is_ok() && begins == header {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            }
        }
    })
    .await;
    (port, seen)
}

const V1: &[u8] = b"PROXY UNKNOWN\r\n";
const V2: &[u8] = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x20\x00\x00\x00";

#[tokio::test]
async fn the_proxy_header_comes_before_all_else() {
    for (proxy, header) in [(ProxyProtocol::V1, V1), (ProxyProtocol::V2, V2)] {
        let proxy = Some(proxy);
        let (port, _seen) = behind_proxy(header, b"HTTP/1.1 204 No\r\n\r\n").await;
        assert_passed(&run(HttpProbe { proxy, ..http(port) }, PATIENT).await, "204 No Content");
        let report = run(http(port), PATIENT).await;
        assert_eq!(report.outcome, Outcome::Failed, "it is wanted: {report:?}");
        let talk = Talk { send: Some(b"hello".to_vec()), expect: Some(text("204")) };
        let probe = Probe::Tcp(TcpProbe { talk, proxy, ..TcpProbe::connect(port) });
        assert_passed(&probe::run(&probe, HERE, PATIENT).await, "connected, heard \"204\"");
        // A check without further settings sends only the header.
        let (port, mut seen) = behind_proxy(header, b"").await;
        let probe = Probe::Tcp(TcpProbe { proxy, ..TcpProbe::connect(port) });
        assert_passed(&probe::run(&probe, HERE, PATIENT).await, "connected");
        assert_eq!(seen.recv().await.unwrap(), header);
        // Before a handshake, and before HTTP/2.
        for probe in [
            Probe::Tls(TlsProbe {
                proxy,
                ..TlsProbe::handshake(port, TlsSettings { insecure: true, ..TlsSettings::default() })
            }),
            Probe::Grpc(GrpcProbe { proxy, ..GrpcProbe::of_server(port) }),
        ] {
            let _ = probe::run(&probe, HERE, PATIENT).await;
            assert_eq!(seen.recv().await.unwrap(), header, "{probe:?}");
        }
    }
}

#[test]
fn a_backend_has_its_own_host() {
    let backend = Backend { host: Some("gw1.example:8443".into()), ..Backend::new("a", vec![HERE]) };
    let tls = || TlsSettings { name: Some("check.example".into()), ..TlsSettings::default() };
    let http = HttpProbe { host: Some("check.example".into()), ..https(443, tls()) };
    let Probe::Http(own) = Probe::Http(http).of_backend(&backend) else { panic!("another kind") };
    assert_eq!(own.host.as_deref(), Some("gw1.example:8443"));
    assert_eq!(own.tls.unwrap().name.as_deref(), Some("gw1.example"));
    let grpc = GrpcProbe { tls: Some(tls()), ..GrpcProbe::of_server(1) };
    let Probe::Grpc(own) = Probe::Grpc(grpc).of_backend(&backend) else { panic!("another kind") };
    assert_eq!(
        (own.host.as_deref(), own.tls.unwrap().name.as_deref()),
        (Some("gw1.example:8443"), Some("gw1.example"))
    );
    let Probe::Tls(own) = Probe::Tls(TlsProbe::handshake(1, tls())).of_backend(&backend) else {
        panic!("another kind")
    };
    assert_eq!(own.tls.name.as_deref(), Some("gw1.example"));
    let tcp = Probe::Tcp(TcpProbe::connect(1));
    assert_eq!(tcp.of_backend(&backend), tcp);
    let both = Backend { port: Some(9), ..backend };
    let Probe::Tcp(own) = tcp.of_backend(&both) else { panic!("another kind") };
    assert_eq!(own.port, 9);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_said_and_heard() {
    let port = server(|mut stream| async move {
        let mut said = [0; 4];
        if stream.read_exact(&mut said).await.is_ok() && said == [0, 0xff, 0x0a, 1] {
            let _ = stream.write_all(&[b'a', 0, 0xfe, 0xff]).await;
        }
    })
    .await;
    let talk = |expect: &[u8]| Talk {
        send: Some(vec![0, 0xff, 0x0a, 1]),
        expect: Some(Expected::Text(expect.to_vec())),
    };
    let probe = |expect: &[u8]| Probe::Tcp(TcpProbe { talk: talk(expect), ..TcpProbe::connect(port) });
    assert_passed(&probe::run(&probe(&[0, 0xfe]), HERE, PATIENT).await, r#"connected, heard "\0\xfe""#);
    assert_fault(&probe::run(&probe(&[0xfe, 0]), HERE, PATIENT).await, Cause::Body, r#"heard "a\0\xfe\xff""#);
}

#[tokio::test]
async fn a_body_may_have_to_be_without_something() {
    let without = |port| HttpProbe { body: Some(text("maintenance")), body_without: true, ..http(port) };
    let port = canned("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert_passed(&run(without(port), PATIENT).await, "200 OK");
    let port = canned("HTTP/1.1 200 OK\r\n\r\n").await;
    assert_passed(&run(without(port), PATIENT).await, "200 OK");
    // The verdict is certain before the end.
    let port = stuck_after(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nin maintenance until").await;
    assert_fault(
        &run(without(port), PATIENT).await,
        Cause::Body,
        "holds \"maintenance\", which is not allowed",
    );
    let port = stuck_after(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nall is well").await;
    assert_fault(&run(without(port), BRIEF).await, Cause::Timeout, "(reading the body");
}
