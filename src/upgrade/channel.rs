//! Messages and descriptors over a Unix socket between two processes.
//!
//! A message is its length, as four bytes, and JSON. A descriptor comes with a byte of its own (`SCM_RIGHTS`), so it
//! belongs to exactly one place in the stream.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// Maximum size of a message, bytes: counters of a million backends.
const MAX_MESSAGE: usize = 1 << 30;
/// The byte that carries a descriptor.
const CARRIER: u8 = b'd';

/// One end of the socket.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl Channel {
    /// Must be called within a tokio runtime.
    pub(super) fn new(stream: StdStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self(UnixStream::from_std(stream)?))
    }

    pub(super) async fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        self.0.write_all(&encoded(message)?).await
    }

    pub(super) async fn send_descriptor(&mut self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let descriptors = [descriptor];
        self.0
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                let sent =
                    sendmsg(self.0.as_fd(), &[IoSlice::new(&[CARRIER])], &mut control, SendFlags::NOSIGNAL)?;
                if sent == 1 { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
            })
            .await
    }

    /// The next message.
    ///
    /// # Errors
    /// `UnexpectedEof` if the other process has ended.
    pub(super) async fn receive<M: DeserializeOwned>(&mut self) -> io::Result<M> {
        let length = usize::try_from(self.0.read_u32().await?).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a message is longer than steerd sends any",
            ));
        }
        let mut message = vec![0; length];
        self.0.read_exact(&mut message).await?;
        serde_json::from_slice(&message).map_err(io::Error::from)
    }

    pub(super) async fn receive_descriptor(&mut self) -> io::Result<OwnedFd> {
        self.0
            .async_io(Interest::READABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut byte = [0];
                let received = recvmsg(
                    self.0.as_fd(),
                    &mut [IoSliceMut::new(&mut byte)],
                    &mut control,
                    RecvFlags::CMSG_CLOEXEC,
                )?;
                if received.bytes == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let descriptor = control.drain().find_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
                    _ => None,
                });
                descriptor
                    .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a descriptor is missing"))
            })
            .await
    }
}

/// Sends a message before there is a runtime. Blocks.
pub(super) fn send_now(mut stream: &StdStream, message: &impl Serialize) -> io::Result<()> {
    io::Write::write_all(&mut stream, &encoded(message)?)
}

fn encoded(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len() - 4).map_err(|_| io::ErrorKind::InvalidData)?;
    if let Some(prefix) = bytes.first_chunk_mut() {
        *prefix = length.to_be_bytes();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[tokio::test]
    async fn messages_and_descriptors_keep_their_order() {
        let (one, other) = StdStream::pair().unwrap();
        send_now(&one, &"before").unwrap();
        let (mut one, mut other) = (Channel::new(one).unwrap(), Channel::new(other).unwrap());
        let mut files: Vec<std::fs::File> = (0..3).map(|_| tempfile::tempfile().unwrap()).collect();
        let long = "x".repeat(1 << 20);
        let send = async {
            for (number, file) in files.iter_mut().enumerate() {
                write!(file, "{number}").unwrap();
                one.send_descriptor(file.as_fd()).await.unwrap();
                one.send(&(number, &long)).await.unwrap();
            }
        };
        let receive = async {
            assert_eq!(other.receive::<String>().await.unwrap(), "before");
            for number in 0..3 {
                let mut file = std::fs::File::from(other.receive_descriptor().await.unwrap());
                let mut text = String::new();
                file.rewind().unwrap();
                file.read_to_string(&mut text).unwrap();
                assert_eq!(text, number.to_string());
                assert_eq!(other.receive::<(usize, String)>().await.unwrap(), (number, long.clone()));
            }
        };
        tokio::join!(send, receive);
        drop(one);
        assert_eq!(other.receive::<String>().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(other.receive_descriptor().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn garbage_is_an_error() {
        for bytes in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x02{]", b"\0\0\0\x05\"ab"] {
            let (mut one, other) = StdStream::pair().unwrap();
            one.write_all(bytes).unwrap();
            drop(one);
            let mut other = Channel::new(other).unwrap();
            other.receive::<String>().await.unwrap_err();
        }
        let (mut one, other) = StdStream::pair().unwrap();
        one.write_all(b"d").unwrap();
        let refused = Channel::new(other).unwrap().receive_descriptor().await.unwrap_err();
        assert_eq!(refused.to_string(), "a descriptor is missing");
    }
}
