//! The least that a UDP server can do: it receives a batch of datagrams in one call, and sends them back as DNS replies
//! in another. It parses no query and builds no answer, so it shows what the kernel alone costs.
#![allow(unsafe_code, reason = "system calls without a wrapper that would add to their cost")]

use std::io::{Error, Result};
use std::mem::zeroed;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr::null_mut;

/// Maximum number of datagrams per call.
const BATCH: libc::c_uint = 64;
/// Length of the longest query that is received whole, bytes.
const LONGEST: usize = 512;
/// Size of a client address, bytes.
const ADDRESS: libc::socklen_t = 16;
const _: () = assert!(size_of::<libc::sockaddr_in>() == ADDRESS as usize);
/// The position of the flags in a message, and the flag of a reply.
const FLAGS: usize = 2;
const IS_REPLY: u8 = 0x80;

/// Room for a datagram.
struct Slot {
    peer: libc::sockaddr_in,
    buffer: libc::iovec,
    query: [u8; LONGEST],
}

/// Answers on an address until a system call fails.
pub(crate) fn serve(address: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(address)?;
    let descriptor = socket.as_raw_fd();
    // SAFETY: all-zero bytes are a valid value of each field.
    let mut slots: Vec<Slot> = (0..BATCH).map(|_| unsafe { zeroed() }).collect();
    // SAFETY: all-zero bytes are a valid header.
    let mut headers: Vec<libc::mmsghdr> = (0..BATCH).map(|_| unsafe { zeroed() }).collect();
    for (slot, header) in slots.iter_mut().zip(&mut headers) {
        slot.buffer = libc::iovec { iov_base: (&raw mut slot.query).cast(), iov_len: LONGEST };
        header.msg_hdr.msg_name = (&raw mut slot.peer).cast();
        header.msg_hdr.msg_namelen = ADDRESS;
        header.msg_hdr.msg_iov = &raw mut slot.buffer;
        header.msg_hdr.msg_iovlen = 1;
    }
    loop {
        // SAFETY: each header points to an address and a buffer of the stated lengths, in a slot that outlives the loop.
        let received = unsafe {
            libc::recvmmsg(descriptor, headers.as_mut_ptr(), BATCH, libc::MSG_WAITFORONE, null_mut())
        };
        let mut rest = headers.get_mut(..count(received)?).unwrap_or_default();
        for header in &mut *rest {
            let buffer = header.msg_hdr.msg_iov;
            // SAFETY: it points to the buffer of a slot, and nothing else refers to it now.
            unsafe { (*buffer).iov_len = header.msg_len as usize };
            // SAFETY: as above.
            let query = unsafe { (*buffer).iov_base.cast::<u8>() };
            // SAFETY: the query is `LONGEST` bytes of a slot.
            unsafe { *query.wrapping_add(FLAGS) |= IS_REPLY };
        }
        while !rest.is_empty() {
            let length = libc::c_uint::try_from(rest.len()).unwrap_or(BATCH);
            // SAFETY: as for the call above; the kernel has filled in the headers.
            let sent = unsafe { libc::sendmmsg(descriptor, rest.as_mut_ptr(), length, 0) };
            let (done, unsent) = rest.split_at_mut(count(sent)?);
            for header in done {
                header.msg_hdr.msg_namelen = ADDRESS;
                // SAFETY: it points to the buffer of a slot, and nothing else refers to it now.
                unsafe { (*header.msg_hdr.msg_iov).iov_len = LONGEST };
            }
            rest = unsent;
        }
    }
}

/// The number of messages that a call has transferred.
fn count(result: libc::c_int) -> Result<usize> {
    usize::try_from(result).map_err(|_| Error::last_os_error())
}
