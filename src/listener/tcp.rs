//! TCP (RFC 7766): pipelined queries, answered in order.
//!
//! ```text
//! accept -> wait for bytes -> answer every whole query -> write -> wait ...
//!             |  end of stream, time limit, eviction, stop, or a length no query has
//!             +-> close
//! ```
//!
//! An idle connection holds no buffer. What a client may cost is bounded: one partial query, one
//! chunk of pipelined ones, and about [`REPLIES_AT_ONCE`] bytes of replies.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::answer::{Client, Responder, Transport, Verdict};
use crate::listener::connections::{Connections, Place};
use crate::listener::{self, TcpLimits};
use crate::metrics::{Event, Metrics};
use crate::sys::MAX_QUERY;
use crate::table::{Published, Table};
use crate::wire::MAX_MESSAGE;

/// What is read at once, bytes: a full query, or many small pipelined ones.
const CHUNK: usize = MAX_QUERY + 2;
/// Replies are written when they have come to this many bytes, before more queries are answered.
const REPLIES_AT_ONCE: usize = 64 << 10;
/// After a failed accept the listener rests, at first this long, then twice as long each time.
const FIRST_REST: Duration = Duration::from_millis(50);
/// But never longer than this.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    published: Published,
    metrics: Arc<Metrics>,
    row: usize,
    limits: TcpLimits,
    connections: Arc<Connections>,
    stopping: watch::Receiver<bool>,
}

impl Shared {
    pub(super) fn new(
        published: Published,
        metrics: Arc<Metrics>,
        row: usize,
        limits: TcpLimits,
        stopping: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let connections = Connections::new(limits.connections);
        Arc::new(Self { published, metrics, row, limits, connections, stopping })
    }

    fn happened(&self, event: Event) {
        self.metrics.happened(self.row, event, 1);
    }
}

/// Accepts connections until the listeners stop.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut stopping = shared.stopping.clone();
    let mut rest = FIRST_REST;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                rest = FIRST_REST;
                shared.happened(Event::Accepted);
                let (place, evicts) = shared.connections.enter(peer.ip());
                if evicts {
                    shared.happened(Event::Evicted);
                }
                shared.metrics.tcp_connections(shared.connections.count());
                tokio::spawn(serve(stream, peer, place, Arc::clone(&shared)));
            }
            // The client was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                shared.happened(Event::AcceptError);
            }
            Err(error) => {
                shared.happened(Event::AcceptError);
                if rest == FIRST_REST {
                    warn!(%error, "TCP connections cannot be accepted; steerd tries again");
                }
                tokio::time::sleep(rest).await;
                rest = (rest * 2).min(LONGEST_REST);
            }
        }
    }
}

/// Serves one connection to its end.
async fn serve(stream: TcpStream, peer: SocketAddr, place: Place, shared: Arc<Shared>) {
    let mut connection = Connection { stream, peer, shared: &shared, place: &place, unread: Vec::new() };
    tokio::select! {
        // What ends a connection is the client's affair, and was counted where it is ours.
        _ = connection.converse() => {}
        () = place.evicted() => {}
    }
    drop(place);
    shared.metrics.tcp_connections(shared.connections.count());
}

struct Connection<'a> {
    stream: TcpStream,
    peer: SocketAddr,
    shared: &'a Shared,
    place: &'a Place,
    /// The beginning of a query whose rest has not come; without memory while there is none.
    unread: Vec<u8>,
}

impl Connection<'_> {
    async fn converse(&mut self) -> io::Result<()> {
        // Replies are whole messages and go out at once.
        self.stream.set_nodelay(true)?;
        let idle = self.shared.limits.idle;
        let mut stopping = self.shared.stopping.clone();
        let mut deadline = Instant::now() + idle;
        loop {
            tokio::select! {
                ready = self.stream.readable() => ready?,
                _ = stopping.wait_for(|stop| *stop) => return Ok(()),
                () = tokio::time::sleep_until(deadline) => {
                    self.shared.happened(Event::TimedOut);
                    return Ok(());
                }
            }
            let was_idle = self.unread.is_empty();
            self.unread.reserve(CHUNK - self.unread.len().min(CHUNK - 1));
            match self.stream.try_read_buf(&mut self.unread) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            let answered = self.answer_all().await?;
            // Each query has its own time, from its first byte on: bytes alone win no more of it.
            if answered || was_idle {
                deadline = Instant::now() + idle;
            }
            if self.unread.is_empty() {
                self.unread = Vec::new();
            }
        }
    }

    /// Answers every whole query that has come, in order; whether there was one.
    async fn answer_all(&mut self) -> io::Result<bool> {
        let unread = std::mem::take(&mut self.unread);
        let mut rest = &unread[..];
        let mut replies = Vec::new();
        let mut answered = false;
        let table = self.shared.published.load();
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            if length > MAX_QUERY {
                self.write(&mut replies).await?;
                return Err(io::ErrorKind::InvalidData.into());
            }
            let Some((query, after)) = after.split_at_checked(length) else { break };
            let replied = self.answer(query, &table, &mut replies);
            rest = after;
            answered = true;
            if !replied || replies.len() >= REPLIES_AT_ONCE {
                self.write(&mut replies).await?;
            }
            if !replied {
                // A client that sends what deserves no reply would wait for one for ever.
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        self.write(&mut replies).await?;
        self.unread = rest.to_vec();
        Ok(answered)
    }

    /// Appends the reply with its length; whether one is due.
    fn answer(&self, query: &[u8], table: &Table, replies: &mut Vec<u8>) -> bool {
        self.place.active();
        let shared = self.shared;
        let client = Client {
            address: self.peer.ip(),
            port: self.peer.port(),
            transport: Transport::Tcp,
            time: listener::unix_time(),
        };
        SCRATCH.with_borrow_mut(|Scratch { responder, reply }| {
            let counts = (&*shared.metrics, shared.row);
            let verdict = listener::respond(responder, query, &client, table, reply, counts);
            let Verdict::Reply(verdict) = verdict else { return false };
            let Some(bytes) = reply.get(..verdict.length) else { return false };
            let Ok(length) = u16::try_from(bytes.len()) else { return false };
            replies.extend_from_slice(&length.to_be_bytes());
            replies.extend_from_slice(bytes);
            true
        })
    }

    /// Writes the replies, within the time limit, and leaves the buffer empty.
    async fn write(&mut self, replies: &mut Vec<u8>) -> io::Result<()> {
        if replies.is_empty() {
            return Ok(());
        }
        if let Ok(written) =
            tokio::time::timeout(self.shared.limits.idle, self.stream.write_all(replies)).await
        {
            replies.clear();
            return written;
        }
        self.shared.happened(Event::TimedOut);
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// What answering needs and connections do not keep: one for each thread of the runtime.
struct Scratch {
    responder: Responder<SmallRng>,
    reply: Box<[u8]>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        responder: Responder::new(SmallRng::from_rng(&mut rand::rng())),
        reply: vec![0; MAX_MESSAGE].into(),
    });
}
