//! gRPC probes against a small server of `grpc.health.v1`.

use hyper::{HeaderMap, Request, Response};
use tokio::sync::mpsc;

use super::http2::answer_http2;
use super::*;
use crate::check::GrpcProbe;

fn grpc(port: u16) -> GrpcProbe {
    GrpcProbe { service: "s3.Gateway".into(), ..GrpcProbe::of_server(port) }
}

async fn check(probe: GrpcProbe, timeout: Duration) -> Report {
    probe::run(&Probe::Grpc(probe), HERE, timeout).await
}

fn head() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

fn status(number: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), number.parse().unwrap())])
}

/// A server that answers each call with this message, followed by this status.
async fn saying(message: &'static [u8], trailers: Option<HeaderMap>) -> u16 {
    server(move |stream| {
        let trailers = trailers.clone();
        async move { answer_http2(stream, |_| (head(), message, trailers.clone())).await }
    })
    .await
}

const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

#[tokio::test]
async fn serving_passes_and_the_call_is_as_specified() {
    let (sender, mut calls) = mpsc::unbounded_channel();
    let port = server(move |stream| {
        let sender = sender.clone();
        async move {
            answer_http2(stream, |request: &Request<h2::RecvStream>| {
                let _ =
                    sender.send((request.uri().clone(), request.method().clone(), request.headers().clone()));
                (head(), SERVING, Some(status("0")))
            })
            .await;
        }
    })
    .await;
    let report = check(grpc(port), PATIENT).await;
    assert_passed(&report, "SERVING");
    assert_eq!(steps(&report), ["connect", "response", "body"]);
    let (uri, method, headers) = calls.recv().await.unwrap();
    assert_eq!(uri.to_string(), format!("http://127.0.0.1:{port}/grpc.health.v1.Health/Check"));
    assert_eq!(
        (method.as_str(), &headers["te"], &headers["content-type"]),
        ("POST", &"trailers".parse().unwrap(), &"application/grpc".parse().unwrap())
    );
    assert_passed(
        &check(GrpcProbe { host: Some("a.example".into()), ..grpc(port) }, PATIENT).await,
        "SERVING",
    );
    assert_eq!(calls.recv().await.unwrap().0.authority().unwrap(), "a.example");
    let headers = [("authorization", "Bearer a"), ("user-agent", "other/1")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    assert_passed(&check(GrpcProbe { headers, ..grpc(port) }, PATIENT).await, "SERVING");
    let metadata = calls.recv().await.unwrap().2;
    assert_eq!(
        (&metadata["authorization"], &metadata["user-agent"]),
        (&"Bearer a".parse().unwrap(), &"other/1".parse().unwrap())
    );
    let odd = GrpcProbe { headers: vec![("a b".into(), "c".into())], ..grpc(port) };
    assert_fault(&check(odd, PATIENT).await, Cause::Local, "is not valid in a request");
}

#[tokio::test]
async fn everything_else_fails_with_its_word() {
    for (message, word) in [
        (&[0, 0, 0, 0, 2, 8, 2][..], "NOT_SERVING, expected SERVING"),
        (&[0, 0, 0, 0, 0], "UNKNOWN, expected SERVING"),
        (&[0, 0, 0, 0, 2, 8, 3], "SERVICE_UNKNOWN, expected SERVING"),
    ] {
        let report = check(grpc(saying(message, Some(status("0"))).await), PATIENT).await;
        assert_fault(&report, Cause::Status, word);
    }
    let mut unknown = status("5");
    unknown.insert("grpc-message", "no such%20service".parse().unwrap());
    for port in [
        saying(b"", Some(unknown.clone())).await,
        // The status is in the headers, and there is no message.
        server(move |stream| {
            let unknown = unknown.clone();
            async move {
                let mut head = head();
                head.headers_mut().extend(unknown);
                answer_http2(stream, |_| {
                    let mut reply = Response::new(());
                    *reply.headers_mut() = head.headers().clone();
                    (reply, b"", None)
                })
                .await;
            }
        })
        .await,
    ] {
        let report = check(grpc(port), PATIENT).await;
        assert_fault(
            &report,
            Cause::Status,
            "gRPC status NOT_FOUND (the backend does not know the service): \"no such service\"",
        );
    }
    let report = check(grpc(saying(SERVING, Some(status("12"))).await), PATIENT).await;
    assert_fault(&report, Cause::Status, "gRPC status UNIMPLEMENTED");
    let report = check(grpc(saying(SERVING, Some(status("99"))).await), PATIENT).await;
    assert_fault(&report, Cause::Status, "gRPC status \"99\"");
}

static LONG: [u8; 100_000] = [0; 100_000];

#[tokio::test]
async fn what_is_not_grpc_fails() {
    for garbage in
        [&b"<html>"[..], &[1, 0, 0, 0, 2, 8, 1], &[0, 0xff, 0xff, 0xff, 0xff, 8, 1], &[0, 0, 0], b""]
    {
        let report = check(grpc(saying(garbage, Some(status("0"))).await), PATIENT).await;
        assert_fault(&report, Cause::Protocol, "the response is no gRPC message");
    }
    let report = check(grpc(saying(&LONG, None).await), PATIENT).await;
    assert_fault(&report, Cause::Protocol, "longer than 4 KiB");

    let page = server(|stream| async move {
        answer_http2(stream, |_| {
            (Response::builder().header("content-type", "text/html").body(()).unwrap(), b"x", None)
        })
        .await;
    })
    .await;
    assert_fault(&check(grpc(page), PATIENT).await, Cause::Protocol, "its Content-Type is \"text/html\"");
    let missing = server(|stream| async move {
        answer_http2(stream, |_| (Response::builder().status(404).body(()).unwrap(), b"", None)).await;
    })
    .await;
    assert_fault(&check(grpc(missing), PATIENT).await, Cause::Status, "status 404 Not Found, expected 200");
    let older = canned("HTTP/1.1 200 OK\r\n\r\n").await;
    assert_fault(&check(grpc(older), PATIENT).await, Cause::Protocol, "not HTTP/2");
    let report = check(grpc(closed_port().await), PATIENT).await;
    assert_fault(&report, Cause::Refused, "connection refused");
    let silent = server(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    assert_fault(&check(grpc(silent), BRIEF).await, Cause::Timeout, "waiting for the response");
}

#[tokio::test]
async fn over_tls_http2_must_be_agreed_on() {
    let authority = Authority::new("ours");
    let speaking = async |alpn: &[&str]| {
        let config = server_config(authority.issue(&named("grpc.example")), rustls::ALL_VERSIONS);
        let answer =
            |stream| async move { answer_http2(stream, |_| (head(), SERVING, Some(status("0")))).await };
        tls_server(config, alpn, answer).await.0
    };
    let probe = |port| GrpcProbe { tls: Some(authority.trusted("grpc.example")), ..grpc(port) };
    let report = check(probe(speaking(&["h2"]).await), PATIENT).await;
    assert_passed(&report, "SERVING");
    assert_eq!(steps(&report), ["connect", "tls", "response", "body"]);
    let report = check(probe(speaking(&[]).await), PATIENT).await;
    assert_fault(&report, Cause::Protocol, "does not speak HTTP/2");
}
