//! The bytes of dnstap: messages in Protocol Buffers, inside Frame Streams. Without IO.
//!
//! A message of dnstap has a dozen fields of four kinds, so it is written here by hand; a generator would bring more code
//! than it replaces. The numbers are those of `dnstap.proto` (<https://dnstap.info>) and of `fstrm`'s control frames.

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::answer::Transport;
use crate::tap::Sample;

/// The content type of the frames.
const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";
/// The field of a control frame with a content type.
const CONTENT_TYPE_FIELD: u32 = 1;
/// Maximum length of a control frame, bytes.
pub(super) const MOST_CONTROL: usize = 512;

/// The type of a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ControlFrame {
    /// The reader accepts the content type.
    Accept = 1,
    /// Data follows.
    Start = 2,
    /// No more data follows.
    Stop = 3,
    /// The writer offers a content type.
    Ready = 4,
    /// The reader has read everything.
    Finish = 5,
}

impl ControlFrame {
    /// The frame, from its escape on.
    pub(super) fn frame(self) -> Vec<u8> {
        let mut body = (self as u32).to_be_bytes().to_vec();
        if matches!(self, Self::Ready | Self::Start) {
            body.extend(CONTENT_TYPE_FIELD.to_be_bytes());
            put_length(&mut body, CONTENT_TYPE.len());
            body.extend(CONTENT_TYPE);
        }
        let mut frame = vec![0; 4];
        put_length(&mut frame, body.len());
        frame.extend(body);
        frame
    }

    /// Whether the body of a received frame has this type, and allows the content type.
    pub(super) fn is_in(self, body: &[u8]) -> bool {
        let Some((kind, mut fields)) = body.split_first_chunk::<4>() else { return false };
        if u32::from_be_bytes(*kind) != self as u32 {
            return false;
        }
        let mut content_types = Vec::new();
        while let Some((head, after)) = fields.split_first_chunk::<8>() {
            let [f0, f1, f2, f3, l0, l1, l2, l3] = *head;
            let length = u32::from_be_bytes([l0, l1, l2, l3]);
            let value = usize::try_from(length).ok().and_then(|length| after.split_at_checked(length));
            let Some((value, after)) = value else { return false };
            if u32::from_be_bytes([f0, f1, f2, f3]) == CONTENT_TYPE_FIELD {
                content_types.push(value);
            }
            fields = after;
        }
        // A reader that names no type accepts each.
        fields.is_empty() && (content_types.is_empty() || content_types.contains(&CONTENT_TYPE))
    }
}

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

/// The type of a message about a query to an authoritative server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MessageType {
    AuthQuery = 1,
    AuthResponse = 2,
}

/// Writes samples as frames of data.
#[derive(Debug)]
pub(super) struct FrameWriter {
    identity: Vec<u8>,
    /// The inner message, kept for its room.
    message: Vec<u8>,
}

impl FrameWriter {
    pub(super) fn new(identity: &str) -> Self {
        Self { identity: identity.as_bytes().to_vec(), message: Vec::new() }
    }

    /// Appends the frame of the query, and if it got a reply that of the reply.
    pub(super) fn append(&mut self, frames: &mut Vec<u8>, sample: &Sample) {
        self.append_one(frames, sample, MessageType::AuthQuery);
        if !sample.reply().is_empty() {
            self.append_one(frames, sample, MessageType::AuthResponse);
        }
    }

    fn append_one(&mut self, frames: &mut Vec<u8>, sample: &Sample, kind: MessageType) {
        const VERSION: &str = concat!("steerd ", env!("CARGO_PKG_VERSION"));
        write_message(&mut self.message, sample, kind);
        let start = frames.len();
        put_length(frames, 0);
        if !self.identity.is_empty() {
            put_bytes(frames, 1, &self.identity);
        }
        put_bytes(frames, 2, VERSION.as_bytes());
        put_bytes(frames, 14, &self.message);
        // The type of the content: a message.
        put_number(frames, 15, 1);
        let length = u32::try_from(frames.len() - start - 4).unwrap_or(u32::MAX);
        if let Some(place) = frames.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
}

/// Writes the fields of a `Message`.
fn write_message(message: &mut Vec<u8>, sample: &Sample, kind: MessageType) {
    message.clear();
    let client = SocketAddr::new(sample.client.ip().to_canonical(), sample.client.port());
    put_number(message, 1, kind as u64);
    put_number(message, 2, if client.is_ipv4() { 1 } else { 2 });
    put_number(
        message,
        3,
        match sample.transport {
            Transport::Udp => 1,
            Transport::Tcp => 2,
        },
    );
    put_address(message, 4, client.ip());
    let server = sample.server.ip().to_canonical();
    if !server.is_unspecified() && server.is_ipv4() == client.is_ipv4() {
        put_address(message, 5, server);
    }
    put_number(message, 6, client.port().into());
    put_number(message, 7, sample.server.port().into());
    put_time(message, 8, sample.asked);
    match kind {
        MessageType::AuthQuery => put_bytes(message, 10, sample.query()),
        MessageType::AuthResponse => {
            put_time(message, 12, sample.replied);
            put_bytes(message, 14, sample.reply());
        }
    }
}

fn put_address(message: &mut Vec<u8>, field: u32, address: IpAddr) {
    match address {
        IpAddr::V4(address) => put_bytes(message, field, &address.octets()),
        IpAddr::V6(address) => put_bytes(message, field, &address.octets()),
    }
}

/// Writes the seconds as this field, and the nanoseconds as the next.
fn put_time(message: &mut Vec<u8>, field: u32, time: SystemTime) {
    let time = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    put_number(message, field, time.as_secs());
    put_key(message, field + 1, 5);
    message.extend(time.subsec_nanos().to_le_bytes());
}

/// Writes a field of varying length: a number.
fn put_number(message: &mut Vec<u8>, field: u32, number: u64) {
    put_key(message, field, 0);
    put_varint(message, number);
}

/// Writes a field of bytes, unless there are none.
fn put_bytes(message: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_key(message, field, 2);
        put_varint(message, bytes.len() as u64);
        message.extend(bytes);
    }
}

/// Writes the number and the wire type of a field.
fn put_key(message: &mut Vec<u8>, field: u32, wire_type: u8) {
    put_varint(message, u64::from(field) << 3 | u64::from(wire_type));
}

/// Seven bits in each byte, the lowest first; the highest bit says that more follow.
fn put_varint(message: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return message.push(low & 0x7f);
        }
        message.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_groups_of_seven_bits() {
        for (number, bytes) in [
            (0, &[0][..]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut written = Vec::new();
            put_varint(&mut written, number);
            assert_eq!(written, bytes);
        }
    }

    #[test]
    fn control_frames_are_those_of_frame_streams() {
        let ready = ControlFrame::Ready.frame();
        assert_eq!(ready[..16], [0, 0, 0, 0, 0, 0, 0, 34, 0, 0, 0, 4, 0, 0, 0, 1]);
        assert_eq!(ready[16..20], [0, 0, 0, 22]);
        assert_eq!(&ready[20..], CONTENT_TYPE);
        assert_eq!(ControlFrame::Stop.frame(), [0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 3]);
        let accept = [&[0, 0, 0, 1][..], &ready[12..]].concat();
        assert!(ControlFrame::Accept.is_in(&accept) && ControlFrame::Accept.is_in(&[0, 0, 0, 1]));
        let mut other = accept.clone();
        *other.last_mut().unwrap() = b'x';
        let cut = &accept[..accept.len() - 1];
        for wrong in [&other[..], cut, &[], &[0, 0, 0], &[0, 0, 0, 5], &[0, 0, 0, 1, 0], b"HTTP/1.1 400 Bad"]
        {
            assert!(!ControlFrame::Accept.is_in(wrong), "{wrong:?}");
        }
    }
}
