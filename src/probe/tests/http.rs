//! HTTP probes over HTTP/1.1: the request, and the evaluation of the response.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::tcp::{pattern, text};
use super::*;
use crate::check::{BODY_LIMIT, Version};

/// A server that accepts every request, and a channel with the requests.
async fn listening() -> (u16, mpsc::Receiver<String>) {
    let (sender, requests) = mpsc::channel(1);
    let port = server(move |mut stream| {
        let sender = sender.clone();
        async move {
            let text = request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            sender.send(text).await.unwrap();
        }
    })
    .await;
    (port, requests)
}

/// The lines of a request: the first one, and the others in alphabetical order.
fn lines(request: &str) -> (String, Vec<String>) {
    let mut lines: Vec<String> = request.trim_end().split("\r\n").map(Into::into).collect();
    let first = lines.remove(0);
    lines.sort_unstable();
    (first, lines)
}

#[tokio::test]
async fn the_request_is_as_documented() {
    let (port, mut requests) = listening().await;
    let report = run(http(port), PATIENT).await;
    assert_passed(&report, "204 No Content");
    assert_eq!(steps(&report), ["connect", "response", "body"]);
    let (first, rest) = lines(&requests.recv().await.unwrap());
    assert_eq!(first, "GET /health HTTP/1.1");
    let agent = format!("User-Agent: steerd/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(rest, ["Connection: close".to_owned(), format!("Host: 127.0.0.1:{port}"), agent]);
}

#[tokio::test]
async fn method_host_and_headers_are_the_checks_own() {
    let (port, mut requests) = listening().await;
    let headers = [("user-agent", "other/1"), ("X-Token", "a b;c")];
    let probe = HttpProbe {
        method: "POST".into(),
        host: Some("s3.example.com".into()),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..HttpProbe::get(port, "/x?y=%20")
    };
    assert_passed(&run(probe, PATIENT).await, "204 No Content");
    let (first, rest) = lines(&requests.recv().await.unwrap());
    assert_eq!(first, "POST /x?y=%20 HTTP/1.1");
    let expected = [
        "Connection: close",
        "Content-Length: 0",
        "Host: s3.example.com",
        "X-Token: a b;c",
        "user-agent: other/1",
    ];
    assert_eq!(rest, expected);
}

#[tokio::test]
async fn the_status_decides() {
    let port = canned("HTTP/1.1 500 Sorry\r\ncontent-length: 2\r\n\r\nno").await;
    let report = run(http(port), PATIENT).await;
    assert_fault(&report, Cause::Status, "status 500 Internal Server Error, expected 200-299");
    let accepting = HttpProbe { status: vec![204..=204, 500..=503], ..http(port) };
    assert_passed(&run(accepting, PATIENT).await, "500 Internal Server Error");

    let port = canned("HTTP/1.1 299 Odd\r\ncontent-length: 0\r\n\r\n").await;
    assert_passed(&run(http(port), PATIENT).await, "299");
    let strict = HttpProbe { status: vec![200..=200, 204..=204], ..http(port) };
    assert_fault(&run(strict, PATIENT).await, Cause::Status, "status 299, expected 200, 204");
}

#[tokio::test]
async fn a_backend_may_ask_for_no_new_clients() {
    let port = canned("HTTP/1.1 503 Later\r\ncontent-length: 100\r\nx-load: 30\r\n\r\n").await;
    let probe = HttpProbe {
        drain_status: vec![503..=503],
        // Checked later, and therefore not at all.
        status: vec![200..=599],
        body: Some(text("never")),
        weight_header: Some("X-Load".into()),
        ..http(port)
    };
    let report = run(probe.clone(), PATIENT).await;
    assert_eq!(
        (report.outcome, report.cause, report.load),
        (Outcome::Draining, None, Some(30)),
        "{report:?}"
    );
    assert_eq!(&*report.detail, "draining: status 503 Service Unavailable");
    let report = run(HttpProbe { drain_status: vec![], ..probe }, PATIENT).await;
    assert_fault(&report, Cause::Closed, "before the response was complete");
}

#[tokio::test]
async fn the_load_is_taken_from_the_header_and_never_fails_a_probe() {
    for (header, load) in [("X-Load: 42.5", Some(43)), ("x-load: busy", None), ("x-other: 1", None)] {
        let port = canned(format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{header}\r\n\r\n")).await;
        let probe = HttpProbe { weight_header: Some("x-LOAD".into()), ..http(port) };
        let report = run(probe, PATIENT).await;
        assert_passed(&report, "200 OK");
        assert_eq!(report.load, load, "{header}");
    }
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
    assert_fault(&report, Cause::Status, "status 302 Found, expected 200-299");
    assert_eq!(VISITS.load(Ordering::Relaxed), 0);
}

/// The status has decided, and the content of the body does not matter.
#[tokio::test]
async fn a_stream_without_an_end_is_not_waited_for() {
    for head in ["transfer-encoding: chunked\r\n\r\n4\r\ndata\r\n", "\r\ndata"] {
        let head: &'static str = format!("HTTP/1.1 200 OK\r\n{head}").leak();
        let port = stuck_after(head.as_bytes()).await;
        assert_passed(&run(http(port), PATIENT).await, "200 OK");
        let searched = HttpProbe { body: Some(text("never")), ..http(port) };
        assert_fault(&run(searched, BRIEF).await, Cause::Timeout, "reading the body");
    }
}

#[tokio::test]
async fn bodies_are_read_to_their_end_or_to_the_limit() {
    let mut long = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_vec();
    long.resize(long.len() + BODY_LIMIT, b'x');
    assert_passed(&run(http(canned(long).await), PATIENT).await, "200 OK");

    let port = canned("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this").await;
    assert_fault(&run(http(port), PATIENT).await, Cause::Closed, "closed before the response was complete");
    let enough = HttpProbe { body_limit: 9, ..http(port) };
    assert_passed(&run(enough, PATIENT).await, "200 OK");
    let port = canned("HTTP/1.1 200 OK\r\n\r\nuntil the connection is closed").await;
    assert_passed(&run(http(port), PATIENT).await, "200 OK");
    let port = canned("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nsome\r\n").await;
    assert_fault(&run(http(port), PATIENT).await, Cause::Closed, "closed before the response was complete");

    let port = stuck_after(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this").await;
    let report = run(http(port), BRIEF).await;
    assert_fault(&report, Cause::Timeout, "no answer within 250ms (reading the body)");
}

#[tokio::test]
async fn a_response_ends_where_it_says_and_not_with_the_connection() {
    for response in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nre\r\n3\r\nady\r\n0\r\nTrailer: x\r\n\r\n",
    ] {
        let port = stuck_after(response).await;
        let probe = HttpProbe { body: Some(text("ready")), ..http(port) };
        assert_passed(&run(probe, PATIENT).await, "200 OK");
    }
    let port = stuck_after(b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n").await;
    assert_passed(&run(http(port), PATIENT).await, "204 No Content");
    let port = stuck_after(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await;
    let probe = HttpProbe { method: "HEAD".into(), ..http(port) };
    assert_passed(&run(probe, PATIENT).await, "200 OK");
}

#[tokio::test]
async fn the_body_must_hold_what_is_expected() {
    let port = canned("HTTP/1.1 200 OK\r\n\r\n{\"state\": \"starting\",\n \"users\": 3}").await;
    let expecting = |body| HttpProbe { body, ..http(port) };
    assert_passed(&run(expecting(Some(text("starting"))), PATIENT).await, "200 OK");
    assert_passed(&run(expecting(Some(pattern(r#""state":\s*"\w+ing""#))), PATIENT).await, "200 OK");
    let report = run(expecting(Some(text("ready"))), PATIENT).await;
    let detail =
        r#"the body begins with "{\"state\": \"starting\",\n \"users\": 3}" and does not hold "ready""#;
    assert_fault(&report, Cause::Body, detail);
    let limited = HttpProbe { body_limit: 18, ..expecting(Some(text("starting"))) };
    assert_fault(&run(limited, PATIENT).await, Cause::Body, "the first 18 bytes of the body do not hold");
    let enough = HttpProbe { body_limit: 19, ..expecting(Some(text("starting"))) };
    assert_passed(&run(enough, PATIENT).await, "200 OK");

    let port = canned("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let report = run(HttpProbe { body: Some(text("ready")), ..http(port) }, PATIENT).await;
    assert_fault(&report, Cause::Body, "the body is empty, expected \"ready\"");
}

#[tokio::test]
async fn informational_responses_are_skipped() {
    let port = canned(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready",
    )
    .await;
    let probe = HttpProbe { body: Some(text("ready")), version: Version::Http1, ..http(port) };
    assert_passed(&run(probe, PATIENT).await, "200 OK");
}
