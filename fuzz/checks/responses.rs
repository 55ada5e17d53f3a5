//! Sends arbitrary bytes from a backend to an HTTP probe, over HTTP/1.1 and HTTP/2: the probe ends,
//! uses little memory, gives one clean line of detail, and does not depend on how the bytes are
//! split.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use steerd::check::{Expected, HttpProbe, Version};
use steerd::health::Outcome;
use steerd::probe::{Cause, Report, http};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;

use super::allocation;

/// Maximum length of an input, bytes. It is below every limit of a probe, so that splitting makes
/// no difference.
const LONGEST: usize = 32 * 1024;

/// Maximum memory of a probe, bytes: buffers and HTTP/2's tables.
const MEMORY: usize = 1 << 20;

/// Maximum length of the detail, characters.
const DETAIL: usize = 1000;

/// Runs an HTTP/1.1 probe against the bytes that follow these:
///
/// ```text
/// 0  bit 0: HEAD     bit 1: a body is expected     bit 2: at most 8 bytes of it are read
///    bit 3: 503 means draining                     bit 4: X-Load is the weight
/// 1  size of the pieces in which the bytes arrive; 0: all at once
/// ```
pub(crate) fn check_http1(input: &[u8]) {
    check(input, Version::Http1);
}

/// Like [`check_http1`], for HTTP/2 with prior knowledge.
pub(crate) fn check_http2(input: &[u8]) {
    check(input, Version::Http2);
}

fn check(input: &[u8], version: Version) {
    let [bits, piece, sent @ ..] = input else { return };
    if sent.len() > LONGEST {
        return;
    }
    let probe = probe(*bits, version);
    let (whole, peak) = allocation::peak_during(|| run(&probe, sent, usize::MAX));
    assert!(peak <= MEMORY, "{peak} bytes of memory for {} bytes", sent.len());
    check_report(&whole);
    let pieces = run(&probe, sent, usize::from(*piece).max(1));
    // Splitting changes how much of a fault is quoted; over HTTP/2, it also changes which of two
    // faults of an ending connection is found first.
    let cause = |report: &Report| report.cause.filter(|_| version == Version::Http1);
    let said = |report: &Report| (report.outcome, cause(report), report.load);
    assert_eq!(said(&pieces), said(&whole), "pieces of {piece} bytes: {whole:?}, {pieces:?}");
}

fn probe(bits: u8, version: Version) -> HttpProbe {
    let bit = |number: u8| bits >> number & 1 == 1;
    let mut probe = HttpProbe::get(80, "/");
    probe.version = version;
    if bit(0) {
        probe.method = "HEAD".into();
    }
    if bit(1) {
        probe.body = Some(Expected::Text(b"ready".to_vec()));
    }
    if bit(2) {
        probe.body_limit = 8;
    }
    if bit(3) {
        probe.drain_status = vec![503..=503];
    }
    if bit(4) {
        probe.weight_header = Some("X-Load".into());
    }
    probe
}

fn run(probe: &HttpProbe, sent: &[u8], piece: usize) -> Report {
    thread_local! {
        static RUNTIME: Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    }
    let stream = Script { left: sent.to_vec(), piece };
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    RUNTIME.with(|runtime| runtime.block_on(http::run_on(probe, stream, address, Duration::from_secs(60))))
}

fn check_report(report: &Report) {
    let passed = matches!(report.outcome, Outcome::Passed | Outcome::Draining);
    assert_eq!(passed, report.cause.is_none(), "{report:?}");
    assert!(report.outcome != Outcome::Void && report.cause != Some(Cause::Timeout), "{report:?}");
    assert!(!report.detail.is_empty() && report.detail.chars().count() <= DETAIL, "{report:?}");
    assert!(!report.detail.chars().any(char::is_control), "{:?}", report.detail);
    assert!(report.load.is_none_or(|load| load <= 100), "{report:?}");
}

/// A backend that accepts any input, sends its bytes in pieces, and closes.
struct Script {
    left: Vec<u8>,
    piece: usize,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.left.len().min(self.piece).min(buffer.remaining());
        buffer.put_slice(&self.left[..count]);
        self.left.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Seeds: HTTP/1.1 responses, including special cases of framing.
pub(crate) fn first_http1() -> Vec<Vec<u8>> {
    let responses: [&[u8]; 23] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready",
        b"HTTP/1.0 200 OK\r\n\r\nready",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: https://x/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\nX-Load: 12.5\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nready\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5;a=b\r\nready\r\n00\r\nT: x\r\n\r\n",
        b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nrea\n2\ndy\n0\n\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nready",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nready and more",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nready",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nready",
        b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nready",
        b"HTTP/1.1 200 OK\r\nX-Load: 250\r\nA:\r\nB:  b \r\n folded\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 099 X\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 200 \x1b[2J\xc2\x9b\r\nContent-Length: 9\r\n\r\nshort",
    ];
    with_settings(responses.map(<[u8]>::to_vec))
}

/// Seeds: HTTP/2 conversations with settings, headers, data, and frames that end them.
pub(crate) fn first_http2() -> Vec<Vec<u8>> {
    let settings = frame(4, 0, 0, b"");
    let ok = |flags| frame(1, flags, 1, b"\x88");
    let unavailable = [b"\x08\x03503\x00\x06x-load\x02".as_slice(), b"12"].concat();
    let conversations = [
        vec![ok(5)],
        vec![ok(4), frame(0, 1, 1, b"ready")],
        vec![ok(4), frame(0, 0, 1, b"rea"), frame(0, 9, 1, b"\x02dy\0\0")],
        vec![ok(4), frame(0, 0, 1, b"ready"), frame(1, 5, 1, b"\x00\x01t\x01x")],
        vec![frame(1, 5, 1, &unavailable)],
        vec![frame(1, 4, 1, b"\x08\x03103"), ok(5)],
        vec![frame(1, 1, 1, b""), frame(9, 4, 1, b"\x88")],
        vec![frame(6, 0, 0, &[1; 8]), frame(6, 1, 0, &[1; 8]), ok(5)],
        vec![frame(8, 0, 0, &[0, 0, 1, 0]), frame(8, 0, 1, &[0x7f, 255, 255, 255]), ok(5)],
        vec![frame(4, 0, 0, b"\x00\x01\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00"), frame(4, 1, 0, b""), ok(5)],
        vec![frame(3, 0, 1, &[0, 0, 0, 8])],
        vec![frame(7, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11, b'x'])],
        vec![frame(5, 4, 1, b"\0\0\0\x02\x82")],
        vec![frame(2, 0, 1, &[0, 0, 0, 0, 16]), ok(5)],
        vec![frame(99, 0, 1, b"unknown"), ok(5)],
        vec![ok(4), frame(0, 1, 3, b"x")],
        vec![frame(1, 5, 1, b"\x3f\xe1\xff\xff\xff\xff\x0f\x88")],
    ];
    let mut inputs: Vec<Vec<u8>> =
        conversations.into_iter().map(|frames| [settings.clone(), frames.concat()].concat()).collect();
    inputs.push(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
    with_settings(inputs)
}

fn with_settings(sent: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let number = |(number, sent): (usize, Vec<u8>)| {
        let number = u8::try_from(number % 32).unwrap();
        [&[number, number], &sent[..]].concat()
    };
    sent.into_iter().enumerate().map(number).collect()
}

/// An HTTP/2 frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, l0, l1, l2] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[l0, l1, l2, kind, flags], &stream.to_be_bytes()[..], payload].concat()
}
