//! HTTP/1.1 as probes need it: one request and one response; then the connection is closed.
//!
//! `httparse` parses the head. This module finds the end of the body (RFC 9112, sections 6 and 7), because a probe
//! reads only up to its limit. Everything that a backend could send endlessly is counted: heads, including interim
//! ones, and the framing of chunks.

use std::io;
use std::mem::MaybeUninit;

use httparse::ParserConfig;
use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::printable::excerpt;
use crate::probe::failure::ProbeFailure;
use crate::probe::hearing::Hearing;
use crate::probe::limited::HEADER_LIMIT;
use crate::probe::protocols::{self, Spoken};
use crate::probe::words::first_line;
use crate::probe::{Cause, Trace};

/// The most header fields of a response.
const FIELDS: usize = 100;

/// Size of the first read: most heads are shorter.
const FIRST_READ: usize = 2 * 1024;

/// Size of one read of a long response.
const READ: usize = 16 * 1024;

/// A connection that speaks HTTP/1.1.
pub(super) struct Http1Connection<S> {
    stream: S,
    /// Bytes that were read but not used yet.
    buffer: Vec<u8>,
}

/// The head of the final response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ResponseHead {
    pub(super) status: u16,
    /// The value of the requested header field.
    pub(super) field: Option<Vec<u8>>,
    /// The target of a redirect.
    pub(super) location: Option<Vec<u8>>,
    framing: Framing,
}

impl ResponseHead {
    /// Whether the head tells where the body ends.
    pub(super) fn tells_length(&self) -> bool {
        matches!(self.framing, Framing::None | Framing::Length(_))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http1Connection<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(super) async fn send(&mut self, request: &[u8]) -> Result<(), ProbeFailure> {
        let broken = |error| ProbeFailure::broken(&error, "before the request was sent").unanswered_if(true);
        self.stream.write_all(request).await.map_err(broken)?;
        self.stream.flush().await.map_err(broken)
    }

    /// Reads up to the end of the final head. `bodiless` is for the response to HEAD; `field` is the header field
    /// whose value to return. `trace` gets the parts of an incomplete head.
    pub(super) async fn head(
        &mut self,
        bodiless: bool,
        field: Option<&str>,
        trace: &mut Trace,
    ) -> Result<ResponseHead, ProbeFailure> {
        self.buffer.reserve(FIRST_READ);
        // Where to continue the search for the empty line, and the size of the previous heads.
        let (mut looked, mut before) = (0, 0);
        let mut heard = 0;
        loop {
            check_beginning(&self.buffer)?;
            let Some(end) = end_of_head(&self.buffer, looked) else {
                if before + self.buffer.len() >= HEADER_LIMIT {
                    return Err(too_long());
                }
                looked = self.buffer.len().saturating_sub(2);
                trace.hear(self.buffer.get(heard..).unwrap_or_default());
                heard = self.buffer.len();
                let received = before + self.buffer.len();
                let read = self.read().await.map_err(|fault| fault.unanswered_if(received == 0));
                if read? == 0 {
                    return Err(closed(received));
                }
                continue;
            };
            let parsed = parse(self.buffer.get(..end).unwrap_or_default(), bodiless, field)?;
            self.buffer.drain(..end);
            if let Some(head) = parsed {
                return Ok(head);
            }
            before += end;
            (looked, heard) = (0, 0);
            if before >= HEADER_LIMIT {
                return Err(too_long());
            }
        }
    }

    /// Reads the body to its end, or until `hearing` has enough.
    pub(super) async fn body(
        mut self,
        head: ResponseHead,
        hearing: &mut Hearing<'_>,
        trace: &mut Trace,
    ) -> Result<(), ProbeFailure> {
        let mut body = BodyReader { framing: head.framing, besides: 0, hearing };
        loop {
            body.take(&self.buffer)?;
            self.buffer.clear();
            if body.is_at_end() || body.hearing.is_enough(trace).await? {
                return Ok(());
            }
            self.buffer.reserve(READ);
            match body.hearing.patiently(self.read()).await.transpose()? {
                Some(0) if body.framing == Framing::Close => return Ok(()),
                Some(0) => return Err(closed(1)),
                Some(_) | None => {}
            }
        }
    }

    /// Reads into the buffer; 0 bytes at the end of the connection.
    async fn read(&mut self) -> Result<usize, ProbeFailure> {
        match self.stream.read_buf(&mut self.buffer).await {
            // Some servers close a TLS connection without close_notify.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read.map_err(|error| ProbeFailure::broken(&error, "before the response was complete")),
        }
    }
}

fn too_long() -> ProbeFailure {
    let text = format!("the response has more than {} KiB of headers", HEADER_LIMIT / 1024);
    ProbeFailure::new(Cause::Protocol, text)
}

/// The failure if the backend closed the connection after `received` bytes of the response.
fn closed(received: usize) -> ProbeFailure {
    let text = if received == 0 {
        "the connection was closed without a response"
    } else {
        "the connection was closed before the response was complete"
    };
    ProbeFailure::new(Cause::Closed, text).unanswered_if(received == 0)
}

fn malformed(what: impl std::fmt::Display) -> ProbeFailure {
    ProbeFailure::new(Cause::Protocol, format!("the response is not HTTP/1.1: {what}"))
}

/// Fails at the first byte that is not HTTP/1: HTTP/0.9 or another service may never send an empty line.
fn check_beginning(bytes: &[u8]) -> Result<(), ProbeFailure> {
    let expected = b"HTTP/1.";
    if bytes.iter().zip(expected).all(|(byte, expected)| byte == expected) {
        return Ok(());
    }
    if protocols::of(bytes) == Spoken::Tls {
        return Err(malformed(protocols::SPEAKS_TLS));
    }
    Err(malformed(format_args!("it begins with {}", excerpt(first_line(bytes)))))
}

/// Where the body begins: after the first empty line. Lines may end without a carriage return (RFC
/// 9112, section 2.2).
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    memchr::memchr_iter(b'\n', rest).find_map(|at| match rest.get(at + 1..)? {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// None for an interim response, which is followed by another one (RFC 9110, section 15.2). 101 is treated like any
/// other status, because the request asks for no upgrade.
fn parse(bytes: &[u8], bodiless: bool, field: Option<&str>) -> Result<Option<ResponseHead>, ProbeFailure> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut response = httparse::Response::new(&mut []);
    match ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut fields) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(malformed("the head ends too early")),
        Err(httparse::Error::TooManyHeaders) => {
            let text = format!("the response has more than {FIELDS} headers");
            return Err(ProbeFailure::new(Cause::Protocol, text));
        }
        Err(error) => {
            let text = format_args!("{error}; it begins with {}", excerpt(first_line(bytes)));
            return Err(malformed(text));
        }
    }
    let status = response.code.unwrap_or_default();
    if (100..=199).contains(&status) && status != StatusCode::SWITCHING_PROTOCOLS.as_u16() {
        return Ok(None);
    }
    let bodiless = bodiless || matches!(status, 101 | 204 | 304);
    let framing = if bodiless { Framing::None } else { Framing::of(response.headers)? };
    let wanted =
        |header: &&httparse::Header<'_>| field.is_some_and(|name| header.name.eq_ignore_ascii_case(name));
    let field = response.headers.iter().find(wanted).map(|header| header.value.to_vec());
    let is_location = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case("location");
    let mut locations = response.headers.iter().filter(|_| (300..=399).contains(&status));
    let location = locations.find(is_location).map(|header| header.value.to_vec());
    Ok(Some(ResponseHead { status, field, location, framing }))
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// There is no body.
    None,
    /// After this many more bytes.
    Length(u64),
    /// With the last chunk.
    Chunks(Chunk),
    /// With the connection.
    Close,
}

/// Position in a chunked body.
///
/// ```text
///  Size --+--> Extension --+--> Data --> DataEnd --> Size ...
///         +--> SizeEnd ----+
///                          +--> Trailer ... --> Done     (a chunk of 0 bytes)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// In the size of a chunk; none before the first digit.
    Size(Option<u64>),
    Extension(u64),
    /// After the carriage return that follows the size.
    SizeEnd(u64),
    /// This many bytes of the chunk are still to come.
    Data(u64),
    /// In the line end after the data; whether the carriage return has come.
    DataEnd(bool),
    /// In the lines after the last chunk; whether this one is empty so far.
    Trailer(bool),
    Done,
}

impl Framing {
    /// RFC 9112, section 6.3.
    fn of(headers: &[httparse::Header<'_>]) -> Result<Self, ProbeFailure> {
        let named =
            |name: &'static str| headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        if let Some(last) = named("transfer-encoding").next_back() {
            let coding = last.value.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
            let chunked = coding.eq_ignore_ascii_case(b"chunked");
            return Ok(if chunked { Self::Chunks(Chunk::Size(None)) } else { Self::Close });
        }
        let mut length = None;
        for header in named("content-length") {
            let digits = header.value.trim_ascii();
            let number = std::str::from_utf8(digits)
                .ok()
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let Some(number) = number.and_then(|text| text.parse::<u64>().ok()) else {
                return Err(malformed(format_args!("its Content-Length is {}", excerpt(digits))));
            };
            if length.is_some_and(|length| length != number) {
                return Err(malformed("it has two different Content-Length"));
            }
            length = Some(number);
        }
        Ok(length.map_or(Self::Close, Self::Length))
    }
}

/// A body during reading.
struct BodyReader<'a, 'e> {
    framing: Framing,
    /// Bytes of chunk framing: leading zeros of sizes, extensions and trailers.
    besides: usize,
    hearing: &'a mut Hearing<'e>,
}

impl BodyReader<'_, '_> {
    fn is_at_end(&self) -> bool {
        matches!(self.framing, Framing::None | Framing::Length(0) | Framing::Chunks(Chunk::Done))
    }

    /// Takes bytes from the connection as they arrive, up to the end of the body.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), ProbeFailure> {
        while !bytes.is_empty() && !self.is_at_end() && self.hearing.room() > 0 {
            bytes = match self.framing {
                Framing::None => return Ok(()),
                Framing::Close => self.data(bytes, u64::MAX).1,
                Framing::Length(left) => {
                    let (taken, rest) = self.data(bytes, left);
                    self.framing = Framing::Length(left - taken);
                    rest
                }
                Framing::Chunks(Chunk::Data(left)) => {
                    let (taken, rest) = self.data(bytes, left);
                    let left = left - taken;
                    self.framing =
                        Framing::Chunks(if left == 0 { Chunk::DataEnd(false) } else { Chunk::Data(left) });
                    rest
                }
                Framing::Chunks(chunk) => {
                    let [byte, rest @ ..] = bytes else { return Ok(()) };
                    self.framing = Framing::Chunks(self.next(chunk, *byte)?);
                    rest
                }
            };
        }
        Ok(())
    }

    /// Takes up to `left` bytes of content. Returns how many there were, and the remaining bytes.
    fn data<'a>(&mut self, bytes: &'a [u8], left: u64) -> (u64, &'a [u8]) {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.hearing.room());
        let (data, rest) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
        self.hearing.take(data);
        (data.len() as u64, rest)
    }

    /// Handles one byte between the data of chunks (RFC 9112, section 7.1).
    fn next(&mut self, chunk: Chunk, byte: u8) -> Result<Chunk, ProbeFailure> {
        let begun = |size| if size == 0 { Chunk::Trailer(true) } else { Chunk::Data(size) };
        Ok(match (chunk, byte) {
            (Chunk::Size(Some(size)) | Chunk::Extension(size) | Chunk::SizeEnd(size), b'\n') => begun(size),
            (Chunk::Size(Some(size)), b'\r') => Chunk::SizeEnd(size),
            (Chunk::Size(Some(size)), b';' | b' ' | b'\t') => Chunk::Extension(size),
            (Chunk::Size(size), digit) => {
                if size == Some(0) {
                    // Leading zeros cannot make the size overflow.
                    self.count_besides()?;
                }
                let size = char::from(digit)
                    .to_digit(16)
                    .and_then(|digit| size.unwrap_or(0).checked_mul(16)?.checked_add(digit.into()))
                    .ok_or_else(|| malformed("the size of a chunk is no number"))?;
                Chunk::Size(Some(size))
            }
            (Chunk::Extension(size), _) => {
                self.count_besides()?;
                Chunk::Extension(size)
            }
            (Chunk::DataEnd(false), b'\r') => Chunk::DataEnd(true),
            (Chunk::DataEnd(_), b'\n') => Chunk::Size(None),
            (Chunk::Trailer(true), b'\n') => Chunk::Done,
            (Chunk::Trailer(false), b'\n') => Chunk::Trailer(true),
            (Chunk::Trailer(empty), other) => {
                self.count_besides()?;
                Chunk::Trailer(empty && other == b'\r')
            }
            _ => return Err(malformed("a chunk does not end where its size says")),
        })
    }

    fn count_besides(&mut self) -> Result<(), ProbeFailure> {
        self.besides += 1;
        if self.besides <= HEADER_LIMIT {
            return Ok(());
        }
        let text = format!("the chunk framing of the body takes more than {} KiB", HEADER_LIMIT / 1024);
        Err(ProbeFailure::new(Cause::Protocol, text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head_of(text: &str) -> Result<Option<ResponseHead>, ProbeFailure> {
        parse(text.as_bytes(), false, Some("x-load"))
    }

    fn framing(headers: &str) -> Result<Framing, ProbeFailure> {
        head_of(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n")).map(|head| head.unwrap().framing)
    }

    #[test]
    fn the_end_of_the_body_is_told_by_the_rules_of_the_rfc() {
        for (headers, expected) in [
            ("", Framing::Close),
            ("content-length: 7\r\n", Framing::Length(7)),
            ("Content-Length: 7\r\ncontent-length: 7\r\n", Framing::Length(7)),
            ("content-length: 7\r\ntransfer-encoding: chunked\r\n", Framing::Chunks(Chunk::Size(None))),
            ("transfer-encoding: gzip, Chunked\r\n", Framing::Chunks(Chunk::Size(None))),
            ("transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n", Framing::Chunks(Chunk::Size(None))),
            ("transfer-encoding: chunked, gzip\r\n", Framing::Close),
        ] {
            assert_eq!(framing(headers).unwrap(), expected, "{headers:?}");
        }
        for bad in ["-1", "+1", "1 2", "0x10", "", "99999999999999999999", "1, 2"] {
            let fault = framing(&format!("content-length: {bad}\r\n")).unwrap_err();
            assert_eq!(fault.cause, Cause::Protocol, "{bad}: {fault:?}");
        }
        assert!(framing("content-length: 1\r\ncontent-length: 2\r\n").is_err());
        for (status, bodiless, expected) in
            [(204, false, Framing::None), (304, false, Framing::None), (200, true, Framing::None)]
        {
            let text = format!("HTTP/1.1 {status} Text\r\ncontent-length: 9\r\n\r\n");
            assert_eq!(parse(text.as_bytes(), bodiless, None).unwrap().unwrap().framing, expected);
        }
    }

    #[test]
    fn the_wanted_field_is_found_in_any_case_and_informational_heads_are_skipped() {
        let head = head_of("HTTP/1.0 200\r\nX-LOAD: 7\r\nx-load: 8\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.status, head.field.as_deref()), (200, Some(&b"7"[..])));
        assert_eq!(head_of("HTTP/1.1 100 Continue\r\n\r\n").unwrap(), None);
        assert_eq!(head_of("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n").unwrap(), None);
        assert_eq!(head_of("HTTP/1.1 101 Switching\r\n\r\n").unwrap().unwrap().status, 101);
    }

    #[test]
    fn the_empty_line_is_found_from_wherever_one_looks() {
        for head in ["HTTP/1.1 200 OK\r\na: b\r\n\r\n", "HTTP/1.1 200 OK\na: b\n\n", "HTTP/1.1 200 OK\r\n\n"]
        {
            let bytes = format!("{head}body\r\n\r\n");
            for from in 0..=head.len() - 3 {
                assert_eq!(end_of_head(bytes.as_bytes(), from), Some(head.len()), "{head:?} from {from}");
            }
            for cut in 0..head.len() {
                assert_eq!(end_of_head(&head.as_bytes()[..cut], 0), None, "{head:?} up to {cut}");
            }
        }
    }

    #[test]
    fn chunks_may_be_odd_but_not_wrong() {
        let decode = |text: &[u8]| {
            let mut hearing = Hearing::of_message(1000);
            let mut body =
                BodyReader { framing: Framing::Chunks(Chunk::Size(None)), besides: 0, hearing: &mut hearing };
            body.take(text)
                .map(|()| body.is_at_end())
                .map(|done| (done, String::from_utf8(hearing.kept().to_vec()).unwrap()))
        };
        for (text, done, expected) in [
            ("4\r\nabcd\r\n0\r\n\r\n", true, "abcd"),
            ("4\nabcd\n0\n\n", true, "abcd"),
            ("4;name=\"x\"\r\nabcd\r\n00\r\n\r\n", true, "abcd"),
            ("A  \r\n0123456789\r\n0\r\nTrailer: x\r\nMore: y\r\n\r\n", true, "0123456789"),
            ("4\r\nab", false, "ab"),
            ("0\r\nTrailer: x\r\n", false, ""),
            ("0\r\n\r\nHTTP/1.1 200 OK\r\n", true, ""),
        ] {
            assert_eq!(decode(text.as_bytes()).unwrap(), (done, expected.into()), "{text:?}");
        }
        for wrong in
            ["\r\n", "x\r\n", "-1\r\n", "4\r\nabcde\r\n", "4\rx", "10000000000000000\r\n", "4\r\nabcd\rx"]
        {
            assert_eq!(decode(wrong.as_bytes()).unwrap_err().cause, Cause::Protocol, "{wrong:?}");
        }
        for (endless, again) in [("4;", b'y'), ("0\r\nx: ", b'y'), ("0", b'0')] {
            let text = [endless.as_bytes(), &vec![again; HEADER_LIMIT + 1]].concat();
            assert!(decode(&text).unwrap_err().detail.contains("chunk framing"), "{endless:?}");
        }
    }

    proptest! {
        /// However a body is divided into chunks, and chunks into packets, the result is the same.
        #[test]
        fn a_body_is_the_same_however_it_is_cut(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..8),
            cut in 1_usize..40,
            limit in 0_usize..200,
        ) {
            let whole = chunks.concat();
            let mut chunked = Vec::new();
            for chunk in &chunks {
                chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                chunked.extend_from_slice(chunk);
                chunked.extend_from_slice(b"\r\n");
            }
            chunked.extend_from_slice(b"0\r\n\r\n");
            let expected = &whole[..whole.len().min(limit)];
            let length = Framing::Length(whole.len() as u64);
            for (framing, bytes) in [(Framing::Chunks(Chunk::Size(None)), &chunked), (length, &whole), (Framing::Close, &whole)] {
                let mut hearing = Hearing::of_message(limit);
                let mut body = BodyReader { framing, besides: 0, hearing: &mut hearing };
                for part in bytes.chunks(cut) {
                    body.take(part).unwrap();
                }
                let at_end = body.is_at_end() || framing == Framing::Close;
                prop_assert!(at_end || hearing.room() == 0);
                prop_assert_eq!(hearing.kept(), expected);
            }
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut hearing = Hearing::of_message(100);
            let framing = Framing::Chunks(Chunk::Size(None));
            let _ = BodyReader { framing, besides: 0, hearing: &mut hearing }.take(&bytes);
            prop_assert!(hearing.kept().len() <= 100);
            let _ = parse(&bytes, false, None);
            let _ = parse(&[b"HTTP/1.1 200 OK\r\n", bytes.as_slice(), b"\r\n\r\n"].concat(), false, None);
        }
    }
}
