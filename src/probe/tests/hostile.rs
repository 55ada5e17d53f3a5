//! Hostile or broken backends: each gets the right outcome and a detail that explains it, within its
//! time limit, and with a bounded number of bytes read.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;

use super::tcp::{pattern, text};
use super::*;
use crate::check::{BODY_LIMIT, GrpcProbe, Talk, TcpProbe, Version};
use crate::probe::limited::{HEADER_LIMIT, Limited};

/// How many bytes a backend can send beyond those read: the kernel buffers some.
const BUFFERS: u64 = 6 << 20;

/// The output of a backend: a beginning, followed by an endless repetition.
#[derive(Clone, Copy)]
struct Flood {
    after: After,
    beginning: &'static [u8],
    again: &'static [u8],
}

/// The event for which a backend waits before it starts.
#[derive(Clone, Copy, PartialEq)]
enum After {
    Nothing,
    AnyBytes,
    /// The head of an HTTP/2 request.
    Http2Head,
}

const ENDLESS: Flood = Flood { after: After::AnyBytes, beginning: b"", again: b"" };

/// Probes a flood, and checks that it could not send much more than `limit` bytes. The flood writes
/// large pieces, because small ones would make the backend the bottleneck.
async fn flooded(flood: Flood, limit: u64, probe: impl AsyncFnOnce(u16) -> Report) -> Report {
    let sent = Arc::new(AtomicU64::new(0));
    let ended = Arc::new(AtomicUsize::new(0));
    let (counter, end) = (Arc::clone(&sent), Arc::clone(&ended));
    let again: Arc<Vec<u8>> = Arc::new(flood.again.repeat(16 * 1024 / flood.again.len() + 1));
    let port = server(move |mut stream| {
        let (counter, end, again) = (Arc::clone(&counter), Arc::clone(&end), Arc::clone(&again));
        async move {
            match flood.after {
                After::Nothing => {}
                After::AnyBytes => drop(stream.read(&mut [0; 1024]).await),
                After::Http2Head => http2_head(&mut stream).await,
            }
            let _ = stream.write_all(flood.beginning).await;
            while let Ok(length) = stream.write(&again).await {
                counter.fetch_add(length as u64, Ordering::Relaxed);
            }
            end.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let report = probe(port).await;
    eventually("the connection is closed", || ended.load(Ordering::Relaxed) == 1).await;
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < limit + BUFFERS, "{sent} bytes went to {report:?}");
    report
}

async fn flooded_http(flood: Flood, limit: usize) -> Report {
    flooded(flood, limit as u64, async |port| run(http(port), PATIENT).await).await
}

#[tokio::test]
async fn bodies_without_end() {
    let flood = Flood { beginning: b"HTTP/1.1 200 OK\r\n\r\n", again: b"x", ..ENDLESS };
    assert_passed(&flooded_http(flood, BODY_LIMIT).await, "200 OK");
    let report = flooded(flood, BODY_LIMIT as u64, async |port| {
        run(HttpProbe { body: Some(text("ready")), ..http(port) }, PATIENT).await
    })
    .await;
    assert_fault(&report, Cause::Body, "the first 65536 bytes of the body do not hold \"ready\"");
    let chunks = Flood {
        beginning: b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        again: b"4\r\nmore\r\n",
        ..ENDLESS
    };
    assert_passed(&flooded_http(chunks, BODY_LIMIT).await, "200 OK");
}

#[tokio::test]
async fn heads_without_end() {
    for (beginning, again) in [
        (&b"HTTP/1.1 200 OK\r\n"[..], &b"x-filler: yes\r\n"[..]),
        (b"HTTP/1.1 200 OK\r\nx-filler: ", b"y"),
        (b"HTTP/1.1 200 ", b"y"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"),
    ] {
        let report = flooded_http(Flood { beginning, again, ..ENDLESS }, HEADER_LIMIT).await;
        assert_fault(&report, Cause::Protocol, "the response has more than 64 KiB of headers");
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    assert_fault(&run(http(canned(many).await), PATIENT).await, Cause::Protocol, "more than 100 headers");
    let long = format!("HTTP/1.1 200 OK\r\nx-filler: {}\r\n\r\n", "y".repeat(HEADER_LIMIT));
    assert_fault(&run(http(canned(long).await), PATIENT).await, Cause::Protocol, "64 KiB of headers");
}

#[tokio::test]
async fn chunks_that_are_none() {
    let chunked = |rest: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{rest}");
    for (rest, part) in [
        ("zz\r\n", "the size of a chunk is no number"),
        ("-4\r\nmore\r\n", "the size of a chunk is no number"),
        ("fffffffffffffffff\r\n", "the size of a chunk is no number"),
        ("4\r\nmore and more\r\n", "a chunk does not end where its size says"),
    ] {
        assert_fault(&run(http(canned(chunked(rest)).await), PATIENT).await, Cause::Protocol, part);
    }
    for (beginning, again) in [
        (&b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4;x="[..], &b"y"[..]),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n"),
    ] {
        let report = flooded_http(Flood { beginning, again, ..ENDLESS }, 2 * HEADER_LIMIT).await;
        assert_fault(&report, Cause::Protocol, "the chunk framing of the body takes more than 64 KiB");
    }
}

#[tokio::test]
async fn one_byte_at_a_time() {
    let port = server(|mut stream| async move {
        request(&mut stream).await;
        for byte in b"HTTP/1.1 200 OK\r\nserver: slow\r\n".iter().cycle() {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(BRIEF / 5).await;
        }
    })
    .await;
    let report = run(http(port), BRIEF).await;
    assert_fault(&report, Cause::Timeout, "no answer within 250ms (waiting for the response; heard \"H");
    assert!(report.duration < PATIENT);
}

#[tokio::test]
async fn a_compressed_body_is_counted_and_judged_as_its_bytes() {
    // "ready", compressed.
    let mut response = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 25\r\n\r\n".to_vec();
    response
        .extend([31, 139, 8, 0, 0, 0, 0, 0, 2, 255, 43, 74, 77, 76, 169, 4, 0, 119, 211, 31, 79, 5, 0, 0, 0]);
    let port = canned(response).await;
    assert_passed(
        &run(HttpProbe { body: Some(pattern("(?-u)^\\x1f\\x8b")), ..http(port) }, PATIENT).await,
        "200 OK",
    );
    let report = run(HttpProbe { body: Some(text("ready")), ..http(port) }, PATIENT).await;
    assert_fault(&report, Cause::Body, "does not hold \"ready\"");
    // A body is never decompressed, so the limit applies to the bytes of a compression bomb as sent.
    let bomb = Flood {
        beginning: b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n\x1f\x8b\x08",
        again: b"\0",
        ..ENDLESS
    };
    assert_passed(&flooded_http(bomb, BODY_LIMIT).await, "200 OK");
}

#[tokio::test]
async fn a_redirect_to_itself_is_visited_once() {
    static VISITS: AtomicUsize = AtomicUsize::new(0);
    let port = server(|mut stream| async move {
        VISITS.fetch_add(1, Ordering::Relaxed);
        request(&mut stream).await;
        let _ =
            stream.write_all(b"HTTP/1.1 301 Again\r\nlocation: /health\r\ncontent-length: 0\r\n\r\n").await;
    })
    .await;
    assert_fault(
        &run(http(port), PATIENT).await,
        Cause::Status,
        "status 301 Moved Permanently, expected 200-299",
    );
    assert_eq!(VISITS.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn resets_and_early_ends_at_each_phase() {
    let closed = "the connection was closed before the response was complete";
    for (sent, end) in [
        (&b""[..], "the connection was closed without a response"),
        (b"HTTP/1.1 20", closed),
        (b"HTTP/1.1 200 OK\r\nserver: x\r\n", closed),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this", closed),
    ] {
        let port = canned(sent).await;
        assert_fault(&run(http(port), PATIENT).await, Cause::Closed, end);
        let port = server(move |mut stream| async move {
            request(&mut stream).await;
            let _ = stream.write_all(sent).await;
            reset(stream);
        })
        .await;
        assert_fault(&run(http(port), PATIENT).await, Cause::Reset, "connection reset");
    }
    let at_accept = server(|stream| async move { reset(stream) }).await;
    assert_fault(&run(http(at_accept), PATIENT).await, Cause::Reset, "connection reset");
}

#[tokio::test]
async fn handshakes_that_break_off_or_are_garbage() {
    let insecure = || TlsSettings { insecure: true, ..TlsSettings::default() };
    let at_hello = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 16]).await;
        reset(stream);
    })
    .await;
    let report = run(https(at_hello, insecure()), PATIENT).await;
    assert_fault(&report, Cause::Reset, "TLS handshake failed: connection reset");
    let closes = server(|mut stream| async move {
        let mut hello = [0; 4096];
        let _ = stream.read(&mut hello).await;
    })
    .await;
    let report = run(https(closes, insecure()), PATIENT).await;
    assert_fault(&report, Cause::Closed, "TLS handshake failed: connection closed");

    let speaks_first = server(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.example.com ESMTP\r\n").await;
        request(&mut stream).await;
    })
    .await;
    assert_fault(&run(https(speaks_first, insecure()), PATIENT).await, Cause::Tls, "TLS failed: ");
    // Records of a handshake that never ends: each announces 16 MB.
    for again in [
        &[22, 3, 3, 0, 4, 2, 0xff, 0xff, 0xff][..],
        &[22, 3, 3, 0, 1, 2],
        &[20, 3, 3, 0, 1, 1],
        &[21, 3, 3, 0, 2, 1, 0],
        &[22, 3, 3, 0, 0],
        &[0],
        b"garbage",
    ] {
        let flood = Flood { again, ..ENDLESS };
        let report = flooded(flood, 1 << 20, async |port| run(https(port, insecure()), PATIENT).await).await;
        assert_fault(&report, Cause::Tls, "TLS failed: ");
    }
}

#[tokio::test]
async fn other_protocols_are_known_by_their_beginning() {
    for (greeting, quoted) in [
        (
            &b"<html><body>It works!</body></html>"[..],
            r#"it begins with "<html><body>It works!</body></html>""#,
        ),
        (b"SSH-2.0-OpenSSH_9.9\r\n", r#"it begins with "SSH-2.0-OpenSSH_9.9""#),
        (b"HTTP/2 200\r\n\r\n", r#"it begins with "HTTP/2 200""#),
        (b"\0\0\x06\x04\0\0\0\0\0", r#"it begins with "\0\0\u{6}\u{4}"#),
        (b"HTTP/1.1 OK\r\n\r\n", "the response is not HTTP/1.1: "),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "the response is not HTTP/1.1: "),
        (b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n", r#"its Content-Length is "many""#),
    ] {
        // The connection stays open: the received bytes show what is wrong.
        assert_fault(&run(http(stuck_after(greeting).await), PATIENT).await, Cause::Protocol, quoted);
    }
    let zeros = Flood { again: &[0], ..ENDLESS };
    let report = flooded_http(zeros, 1024).await;
    assert_fault(&report, Cause::Protocol, "it begins with \"\\0\\0");
    assert!(report.detail.ends_with("\"..."));
}

#[tokio::test]
async fn a_backend_that_never_reads() {
    let port = server(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let long = vec![("x-filler".to_owned(), "y".repeat(16 << 20))];
    let probe = HttpProbe { headers: long, ..http(port) };
    assert_fault(&run(probe, BRIEF).await, Cause::Timeout, "no answer within 250ms (sending the request)");
    let talk = Talk { send: Some(vec![b'x'; 16 << 20]), expect: Some(text("y")) };
    let report = probe::run(&Probe::Tcp(TcpProbe { talk, ..TcpProbe::connect(port) }), HERE, BRIEF).await;
    assert_fault(&report, Cause::Timeout, "no answer within 250ms (sending the request)");
}

#[tokio::test]
async fn words_without_end() {
    let flood = Flood { after: After::Nothing, again: b"blah ", ..ENDLESS };
    for (expect, detail) in [
        (text("ready"), "\"ready\" was not in the first 64 KiB"),
        (pattern("(b|l|a|h| )*ready"), "a match of \"(b|l|a|h| )*ready\" was not in the first 64 KiB"),
    ] {
        let talk = Talk { send: None, expect: Some(expect) };
        let report = flooded(flood, 64 << 10, async |port| {
            probe::run(&Probe::Tcp(TcpProbe { talk, ..TcpProbe::connect(port) }), HERE, PATIENT).await
        })
        .await;
        assert_fault(&report, Cause::Body, detail);
    }
}

/// An HTTP/2 frame: type, flags, stream and content.
fn frame(kind: u8, flags: u8, stream: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], content].concat()
}

const SETTINGS: u8 = 4;

fn http2(port: u16) -> HttpProbe {
    HttpProbe { version: Version::Http2, ..http(port) }
}

async fn grpc(port: u16, timeout: Duration) -> Report {
    probe::run(&Probe::Grpc(GrpcProbe::of_server(port)), HERE, timeout).await
}

/// Reads the preface, and frames up to the head of a request.
async fn http2_head(stream: &mut TcpStream) {
    const HEADERS: u8 = 1;
    stream.read_exact(&mut [0; 24]).await.unwrap();
    let mut kind = SETTINGS;
    while kind != HEADERS {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        kind = head[3];
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
    }
}

#[tokio::test]
async fn frames_of_http2_that_end_the_connection() {
    let settings = frame(SETTINGS, 0, 0, &[]);
    for (sent, cause, part) in [
        (frame(7, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11]), Cause::Closed, "(GOAWAY: ENHANCE_YOUR_CALM)"),
        (frame(3, 0, 1, &[0, 0, 0, 2]), Cause::Reset, "(RST_STREAM: INTERNAL_ERROR)"),
        (frame(0, 0, 1, b"body before the head"), Cause::Protocol, "not HTTP/2: PROTOCOL_ERROR"),
        (frame(1, 4, 1, &[0xff, 0xff, 0xff, 0xff, 0xff]), Cause::Protocol, "not HTTP/2: "),
        (b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n".to_vec(), Cause::Protocol, "not HTTP/2: "),
        (Vec::new(), Cause::Closed, "before the response was complete"),
    ] {
        let with_settings = sent.first().is_none_or(|first| *first == 0);
        let sent = if with_settings { [settings.clone(), sent].concat() } else { sent };
        for grpc_too in [false, true] {
            let sent = sent.clone();
            let port = server(move |mut stream| {
                let sent = sent.clone();
                async move {
                    http2_head(&mut stream).await;
                    let _ = stream.write_all(&sent).await;
                    let _ = stream.shutdown().await;
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            })
            .await;
            let report = if grpc_too { grpc(port, PATIENT).await } else { run(http2(port), PATIENT).await };
            assert_fault(&report, cause, part);
        }
    }
}

#[tokio::test]
async fn frames_of_http2_without_end() {
    let settings = frame(SETTINGS, 0, 0, &[]).leak();
    let opened = [frame(SETTINGS, 0, 0, &[]), frame(1, 0, 1, &[0x88])].concat().leak();
    let limit = 1 << 20;
    for (beginning, again, part) in [
        (&*settings, &*frame(6, 0, 0, &[0; 8]).leak(), "more than 192 KiB before the response was complete"),
        (settings, frame(SETTINGS, 0, 0, &[]).leak(), "KiB before the response was complete"),
        (settings, frame(0xbe, 0, 0, &[0; 100]).leak(), "KiB before the response was complete"),
        // HEADERS with status 103, repeated.
        (
            settings,
            frame(1, 4, 1, &[0x08, 3, b'1', b'0', b'3']).leak(),
            "KiB before the response was complete",
        ),
        (opened, frame(9, 0, 1, &[]).leak(), "not HTTP/2: "),
        (opened, frame(9, 0, 1, b"\0\x01x\x01y").leak(), "not HTTP/2: "),
    ] {
        let flood = Flood { after: After::Http2Head, beginning, again };
        let report = flooded(flood, limit, async |port| run(http2(port), PATIENT).await).await;
        assert_fault(&report, Cause::Protocol, part);
        let report = flooded(flood, limit, async |port| grpc(port, PATIENT).await).await;
        assert_fault(&report, Cause::Protocol, "");
    }
    // A body that consists of empty frames.
    let begun = [frame(SETTINGS, 0, 0, &[]), frame(1, 4, 1, &[0x88])].concat().leak();
    let flood = Flood { after: After::Http2Head, beginning: begun, again: frame(0, 0, 1, &[]).leak() };
    let report = flooded(flood, limit, async |port| run(http2(port), PATIENT).await).await;
    assert_fault(&report, Cause::Protocol, "");
}

#[tokio::test]
async fn http2_that_never_begins() {
    let port = server(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    assert_fault(
        &run(http2(port), BRIEF).await,
        Cause::Timeout,
        "no answer within 250ms (waiting for the response)",
    );
    assert_fault(
        &grpc(port, BRIEF).await,
        Cause::Timeout,
        "no answer within 250ms (waiting for the response)",
    );
}

/// Certificates with the same name that have all signed each other: every order of them is a chain that
/// leads nowhere.
#[tokio::test]
async fn a_maze_of_certificates_takes_no_time_to_leave() {
    let authority = Authority::new("ours");
    let maze = |names: Vec<String>| {
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "maze");
        params
    };
    let mut issuer = maze(Vec::new());
    issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(issuer, KeyPair::generate().unwrap()).unwrap();
    let (certificate, key) = {
        let key = KeyPair::generate().unwrap();
        (maze(vec!["s3.example.com".into()]).signed_by(&key, &issuer).unwrap().der().clone(), key)
    };
    let mut chain = vec![certificate];
    for _ in 0..120 {
        let mut params = maze(Vec::new());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        chain.push(params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone());
    }
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (port, _) = tls_server(config, &[], answer_ok).await;
    let began = std::time::Instant::now();
    let report = run(https(port, authority.trusted("s3.example.com")), PATIENT).await;
    assert_fault(&report, Cause::Tls, "certificate: ");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// A backend cannot keep a probe busy with bytes that are not part of the body: zeros before the size of
/// a chunk.
#[tokio::test]
async fn zeros_without_end() {
    let flood =
        Flood { beginning: b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", again: b"0", ..ENDLESS };
    let report = flooded_http(flood, 2 * HEADER_LIMIT).await;
    assert_fault(&report, Cause::Protocol, "the chunk framing of the body takes more than 64 KiB");
}

/// How often a backend can make a probe read: it sends single bytes as fast as they are read.
#[tokio::test]
async fn a_dribble_is_read_a_few_times_only() {
    let reads = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&reads);
    let port = server(move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            stream.set_nodelay(true).unwrap();
            while stream.write_all(b"x").await.is_ok() {
                counter.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let stream = TcpStream::connect((HERE, port)).await.unwrap();
    let mut limited = Limited::new(stream, 1 << 20);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    let mut count = 0_usize;
    let mut piece = [0; 512];
    while let Ok(Ok(1..)) = tokio::time::timeout_at(deadline, limited.read(&mut piece)).await {
        count += 1;
    }
    let sent = reads.load(Ordering::Relaxed);
    assert!(count <= 32 + 55, "{count} reads in a second, of {sent} bytes");
}
