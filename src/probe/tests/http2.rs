//! HTTP probes over HTTP/2, with prior knowledge and with ALPN.

use hyper::body::Bytes;
use hyper::{HeaderMap, Request, Response};
use tokio::sync::mpsc;

use super::tcp::text;
use super::*;
use crate::check::Version;

/// Answers the requests on an HTTP/2 connection, as long as there are any.
pub(super) async fn answer_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: impl Fn(&Request<h2::RecvStream>) -> (Response<()>, &'static [u8], Option<HeaderMap>),
) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut reply))) = connection.accept().await {
        let (head, body, trailers) = answer(&request);
        let ends = body.is_empty() && trailers.is_none();
        let Ok(mut stream) = reply.send_response(head, ends) else { return };
        if !ends {
            stream.send_data(Bytes::from_static(body), trailers.is_none()).unwrap();
        }
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers).unwrap();
        }
    }
}

fn http2(port: u16) -> HttpProbe {
    HttpProbe { version: Version::Http2, ..http(port) }
}

async fn saying(status: u16, body: &'static [u8]) -> u16 {
    server(move |stream| async move {
        answer_http2(stream, |_| {
            (Response::builder().status(status).header("x-load", "20").body(()).unwrap(), body, None)
        })
        .await;
    })
    .await
}

#[tokio::test]
async fn it_is_spoken_in_the_clear_when_asked_for() {
    let port = saying(200, b"all ready now").await;
    let report = run(http2(port), PATIENT).await;
    assert_passed(&report, "200 OK");
    assert_eq!(steps(&report), ["connect", "response", "body"]);
    let probe = HttpProbe { body: Some(text("ready")), weight_header: Some("X-Load".into()), ..http2(port) };
    let report = run(probe.clone(), PATIENT).await;
    assert_passed(&report, "200 OK");
    assert_eq!(report.load, Some(20));
    let limited = HttpProbe { body_limit: 5, ..probe.clone() };
    assert_fault(
        &run(limited, PATIENT).await,
        Cause::Body,
        "the first 5 bytes of the body do not hold \"ready\"",
    );
    let strict = HttpProbe { status: vec![204..=204], ..probe.clone() };
    assert_fault(&run(strict, PATIENT).await, Cause::Status, "status 200 OK, expected 204");
    let draining = HttpProbe { drain_status: vec![200..=200], ..probe };
    assert_eq!(run(draining, PATIENT).await.outcome, Outcome::Draining);
    assert_passed(
        &run(HttpProbe { method: "HEAD".into(), ..http2(saying(200, b"").await) }, PATIENT).await,
        "200 OK",
    );
}

#[tokio::test]
async fn a_long_body_is_read_up_to_the_limit() {
    static LONG: [u8; 1 << 20] = [b'x'; 1 << 20];
    let port = saying(200, &LONG).await;
    assert_passed(&run(http2(port), PATIENT).await, "200 OK");
    let whole = HttpProbe { body_limit: LONG.len(), body: Some(text("y")), ..http2(port) };
    assert_fault(
        &run(whole, PATIENT).await,
        Cause::Body,
        "the first 1048576 bytes of the body do not hold \"y\"",
    );
}

#[tokio::test]
async fn the_request_says_the_same_as_in_the_older_version() {
    let (sender, mut requests) = mpsc::unbounded_channel();
    let port = server(move |stream| {
        let sender = sender.clone();
        async move {
            answer_http2(stream, move |request| {
                sender
                    .send((request.uri().clone(), request.method().clone(), request.headers().clone()))
                    .unwrap();
                (Response::new(()), b"", None)
            })
            .await;
        }
    })
    .await;
    let headers = [("Connection", "keep-alive"), ("X-Token", "a")];
    let probe = HttpProbe {
        method: "PUT".into(),
        host: Some("s3.example.com".into()),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..http2(port)
    };
    assert_passed(&run(probe, PATIENT).await, "200 OK");
    let (uri, method, headers) = requests.recv().await.unwrap();
    assert_eq!((uri.to_string().as_str(), method.as_str()), ("http://s3.example.com/health", "PUT"));
    assert_eq!(headers["user-agent"], concat!("steerd/", env!("CARGO_PKG_VERSION")));
    assert_eq!(headers["x-token"], "a");
    assert_eq!(headers["content-length"], "0");
    assert!(!headers.contains_key("connection") && !headers.contains_key("host"));
}

#[tokio::test]
async fn over_tls_the_agreed_version_is_spoken() {
    let authority = Authority::new("ours");
    let settings = authority.trusted("s3.example.com");
    let speaking = async |alpn: &[&str]| {
        let config = server_config(authority.issue(&named("s3.example.com")), rustls::ALL_VERSIONS);
        tls_server(config, alpn, |stream| async move {
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                answer_http2(stream, |_| (Response::builder().status(202).body(()).unwrap(), b"", None))
                    .await;
            } else {
                answer_ok(stream).await;
            }
        })
        .await
        .0
    };
    let probe = |port, version| HttpProbe { version, ..https(port, settings.clone()) };
    for (alpn, version, detail) in [
        (&["h2"][..], Version::Default, "202 Accepted"),
        (&["http/1.1"], Version::Default, "200 OK"),
        (&[], Version::Default, "200 OK"),
        (&["http/1.1", "h2"], Version::Default, "200 OK"),
        (&["h2", "http/1.1"], Version::Http1, "200 OK"),
        (&["h2", "http/1.1"], Version::Http2, "202 Accepted"),
    ] {
        let port = speaking(alpn).await;
        assert_passed(&run(probe(port, version), PATIENT).await, detail);
    }
    let report = run(probe(speaking(&[]).await, Version::Http2), PATIENT).await;
    assert_fault(&report, Cause::Protocol, "does not speak HTTP/2");
    let report = run(probe(speaking(&["http/1.1"]).await, Version::Http2), PATIENT).await;
    assert_fault(
        &report,
        Cause::Tls,
        "the backend speaks none of the protocols that the check offers (ALPN)",
    );
}

#[tokio::test]
async fn what_makes_no_request_is_void() {
    let port = closed_port().await;
    for odd in [
        HttpProbe { host: Some("a b".into()), ..http2(port) },
        HttpProbe { path: "/a b".into(), ..http2(port) },
        HttpProbe { method: "G T".into(), ..http2(port) },
    ] {
        let port = saying(200, b"").await;
        assert_fault(
            &run(HttpProbe { port, ..odd }, PATIENT).await,
            Cause::Local,
            "do not form a valid request",
        );
    }
}

#[tokio::test]
async fn an_end_within_a_frame_is_a_connection_closed_too_early() {
    // Settings, then the header of a frame without its content.
    let heard: &[u8] = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x09\x01\x04\x00\x00\x00\x01\x88";
    let stream = tokio::io::join(heard, tokio::io::sink());
    let probe = HttpProbe { version: Version::Http2, ..HttpProbe::get(80, "/") };
    let report =
        probe::http::run_on(&probe, stream, "192.0.2.1".parse().unwrap(), Duration::from_secs(10)).await;
    assert_eq!(report.cause, Some(Cause::Closed));
    assert_eq!(&*report.detail, "the connection was closed before the response was complete");
}
