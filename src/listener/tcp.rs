//! DNS over TCP (RFC 7766): pipelined queries, answered in order.
//!
//! ```text
//! accept -> wait for bytes -> answer every complete query -> write -> wait ...
//!             |                                             |
//!             | end of stream, stop,                        | time limit, eviction,
//!             | or a length above MAX_QUERY                 | or a broken connection
//!             v                                             v
//!           close in order                                reset
//! ```
//!
//! At an upgrade, a connection without a partial query leaves this process open, and the next one goes on with it.
//!
//! An idle connection holds no buffer. A client costs at most one [`CHUNK`] of queries,
//! [`REPLIES_AT_ONCE`] bytes of replies, and one more reply. It must read them within the time
//! limit; until it has, no further query is read. At most [`MOST_WAITING`] connections may have
//! unsent replies.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::warn;

use crate::answer::{Client, Responder, Transport};
use crate::counters::CounterRow;
use crate::listener::connections::{Connections, Eviction, Place, Room};
use crate::listener::transfer::{self, Begun, Outgoing};
use crate::listener::{self, Accounting, Course, InForce, LogLimit, closing};
use crate::metrics::{Batch, Counted, Evicting, Metrics};
use crate::sys;
use crate::sys::batch::MAX_QUERY;
use crate::table::{Published, Table};
use crate::tap::{AnsweredQuery, SampleOutcome, Tapping};
use crate::wire::{Full, MAX_MESSAGE, rcode};

/// Size of one read, bytes: one query of maximum length, or many short pipelined ones.
const CHUNK: usize = MAX_QUERY + 2;
/// Replies are written once they reach this many bytes, before more queries are answered.
const REPLIES_AT_ONCE: usize = 16 << 10;
/// Maximum number of connections with unsent replies; a client prefix may hold a tenth of them.
/// This bounds the memory for unread replies, however many connections there are.
pub const MOST_WAITING: usize = 1000;
/// Minimum for `TCP_USER_TIMEOUT`. Retransmitting a single lost packet can take this long, and must
/// not end the connection.
const LEAST_PATIENCE: Duration = Duration::from_secs(3);
/// Pause after the first failed accept; each further failure doubles it.
const FIRST_REST: Duration = Duration::from_millis(50);
/// Maximum pause after a failed accept.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// For a connection that is broken already.
const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The surroundings of all connections.
#[derive(Debug)]
pub(super) struct TcpContext {
    pub(super) published: Published,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: InForce,
    pub(super) course: watch::Receiver<Course>,
    /// Takes the connections that are handed over.
    pub(super) moved: mpsc::UnboundedSender<TcpStream>,
}

/// State that all connections share.
#[derive(Debug)]
pub(super) struct TcpShared {
    context: TcpContext,
    connections: Arc<Connections>,
    /// The connections with unsent replies.
    waiting: Arc<Connections>,
}

impl TcpShared {
    pub(super) fn new(context: TcpContext) -> Arc<Self> {
        Arc::new(Self { context, connections: Connections::new(), waiting: Connections::new() })
    }

    fn happened(&self, event: Counted) {
        self.context.metrics.happened(event, 1);
    }

    fn batch(&self) -> Batch<'_> {
        self.context.metrics.batch(CounterRow::Shared)
    }

    fn idle(&self) -> Duration {
        self.context.limits.load().tcp.idle
    }

    /// Takes a place for a client among the connections.
    fn enter(&self, peer: SocketAddr, all: usize, eviction: &Eviction) -> Place {
        self.enter_one_of(&self.connections, peer, all, eviction, [Evicting::NetworkFull, Evicting::AllFull])
    }

    /// Takes a place for a client among the connections with unsent replies.
    fn enter_waiting(&self, peer: SocketAddr, eviction: &Eviction) -> Place {
        let causes = [Evicting::UnreadNetworkFull, Evicting::UnreadAllFull];
        self.enter_one_of(&self.waiting, peer, MOST_WAITING, eviction, causes)
    }

    fn enter_one_of(
        &self,
        places: &Arc<Connections>,
        peer: SocketAddr,
        all: usize,
        eviction: &Eviction,
        [of_crowd, of_all]: [Evicting; 2],
    ) -> Place {
        let network = listener::network_of(peer.ip());
        let (place, evicted) = places.enter(network.first(), Room::of_many(all), eviction);
        self.context.metrics.evicted(of_crowd, evicted.of_crowd, Some(network));
        self.context.metrics.evicted(of_all, evicted.of_all, None);
        place
    }
}

/// Accepts connections until the listeners stop or are handed over.
pub(super) async fn accept(listener: TcpListener, shared: Arc<TcpShared>) {
    let mut course = shared.context.course.clone();
    let mut rest = FIRST_REST;
    let mut log_limit = LogLimit::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = course.wait_for(|course| *course != Course::Serve) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                rest = FIRST_REST;
                welcome(stream, peer, &shared);
            }
            // The client closed before the connection was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                shared.happened(Counted::AcceptError);
            }
            Err(error) => {
                shared.happened(Counted::AcceptError);
                if log_limit.allows() {
                    warn!(%error, "TCP connections cannot be accepted; steerd tries again");
                }
                // Idle connections must not keep descriptors that others need.
                if sys::is_out_of_descriptors(&error) {
                    let evicted = shared.connections.evict_some();
                    shared.context.metrics.evicted(Evicting::NoDescriptor, evicted, None);
                    rest = if evicted > 0 { FIRST_REST } else { rest };
                }
                tokio::time::sleep(rest).await;
                rest = (rest * 2).min(LONGEST_REST);
            }
        }
    }
}

/// Starts to serve a connection.
pub(super) fn welcome(stream: TcpStream, peer: SocketAddr, shared: &Arc<TcpShared>) {
    shared.happened(Counted::Accepted);
    let eviction = Eviction::default();
    let most = shared.context.limits.load().tcp.connections;
    let place = shared.enter(peer, most, &eviction);
    tokio::spawn(serve(stream, peer, place, eviction, Arc::clone(shared)));
}

/// Serves one connection until it ends or is handed over.
async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    eviction: Eviction,
    shared: Arc<TcpShared>,
) {
    let local = stream.local_addr().unwrap_or(UNKNOWN);
    let mut connection = ClientConnection {
        stream,
        peer,
        local,
        shared: &shared,
        place: &place,
        eviction: &eviction,
        unread: Vec::new(),
    };
    let talk = async {
        // A broken connection is the client's fault and is not logged. Bugs of steerd are counted
        // where they occur.
        match connection.converse().await {
            Ok(Parting::Close) => closing::close(connection.stream, shared.idle()).await,
            // The receiver is gone only if this process ends anyway.
            Ok(Parting::HandOver) => drop(shared.context.moved.send(connection.stream)),
            Err(_) => {}
        }
    };
    tokio::select! {
        () = talk => {}
        () = eviction.told() => {}
    }
    shared.happened(Counted::Closed);
}

/// How a connection leaves this process.
enum Parting {
    /// It is closed in order.
    Close,
    /// Another process goes on with it.
    HandOver,
}

struct ClientConnection<'a> {
    stream: TcpStream,
    peer: SocketAddr,
    /// The address to which it is connected.
    local: SocketAddr,
    shared: &'a TcpShared,
    place: &'a Place,
    eviction: &'a Eviction,
    /// The start of an incomplete query; allocates nothing while empty.
    unread: Vec<u8>,
}

impl ClientConnection<'_> {
    /// Answers queries until the stream leaves this process. After an error it should be reset.
    async fn converse(&mut self) -> io::Result<Parting> {
        sys::stream::set_patience(&self.stream, self.shared.idle().max(LEAST_PATIENCE))?;
        let mut course = self.shared.context.course.clone();
        let mut deadline = Instant::now() + self.shared.idle();
        loop {
            // Most connections are idle most of the time, without a partial query.
            if self.unread.is_empty() {
                self.unread = Vec::new();
            }
            // A partial query is here alone, so it must be answered first.
            let may_leave = self.unread.is_empty();
            let leaves = |course: &Course| match course {
                Course::Serve => false,
                Course::HandOver => may_leave,
                Course::Stop => true,
            };
            tokio::select! {
                ready = self.stream.readable() => ready?,
                course = course.wait_for(leaves) => {
                    let is_moving = course.is_ok_and(|course| *course == Course::HandOver);
                    return Ok(if is_moving { Parting::HandOver } else { Parting::Close });
                }
                () = tokio::time::sleep_until(deadline) => {
                    self.shared.happened(Counted::TimedOut);
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            let was_idle = self.unread.is_empty();
            self.unread.reserve(CHUNK - self.unread.len().min(CHUNK - 1));
            match self.stream.try_read_buf(&mut self.unread) {
                Ok(0) => return Ok(Parting::Close),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            let Some(answered) = self.answer_all().await? else { return Ok(Parting::Close) };
            // Each query has its own time limit, which starts with its first byte. Further bytes do
            // not extend it.
            if answered || was_idle {
                deadline = Instant::now() + self.shared.idle();
            }
        }
    }

    /// Answers every complete query that has arrived, in order. Returns whether there was one, or
    /// `None` if the connection must close.
    async fn answer_all(&mut self) -> io::Result<Option<bool>> {
        let unread = std::mem::take(&mut self.unread);
        let mut rest = &unread[..];
        loop {
            let (mut replies, next) = self.answer_some(&mut rest);
            self.write(&mut replies).await?;
            match next {
                Next::Answer => {}
                Next::Transfer(outgoing) => self.transfer(outgoing).await?,
                Next::Wait => break,
                Next::Close => return Ok(None),
            }
            // A client that sends as fast as it reads must not block the other tasks of this
            // thread.
            tokio::task::coop::consume_budget().await;
        }
        let answered = rest.len() < unread.len();
        self.unread = rest.to_vec();
        Ok(Some(answered))
    }

    /// Takes complete queries off the front of `rest` and answers them from one table, until there
    /// are enough replies to write.
    fn answer_some(&self, rest: &mut &[u8]) -> (Vec<u8>, Next) {
        let batch = self.shared.batch();
        let limits = self.shared.context.limits.load();
        let tapping = limits.taps.as_ref().map(|taps| Tapping { taps, server: self.local });
        let accounting = Accounting { batch: &batch, limiter: None, tapping };
        let client = Client {
            address: self.peer.ip(),
            port: self.peer.port(),
            transport: Transport::Tcp,
            time: listener::cookie_time(),
        };
        let table = self.shared.context.published.load();
        let mut replies = Vec::new();
        while replies.len() < REPLIES_AT_ONCE {
            let Some((length, after)) = rest.split_first_chunk::<2>() else { return (replies, Next::Wait) };
            let length = usize::from(u16::from_be_bytes(*length));
            if length > MAX_QUERY {
                listener::refuse_long(&client, accounting);
                return (replies, Next::Close);
            }
            let Some((query, after)) = after.split_at_checked(length) else { return (replies, Next::Wait) };
            self.place.active();
            *rest = after;
            match listener::contain(&batch, || append_any(&mut replies, query, &client, &table, accounting)) {
                Some(QueryResult::Replied) => {}
                Some(QueryResult::Transfer(outgoing)) => return (replies, Next::Transfer(outgoing)),
                // No reply is due, or answering panicked. The client would wait forever for a
                // reply.
                Some(QueryResult::Nothing) | None => return (replies, Next::Close),
            }
        }
        (replies, Next::Answer)
    }

    /// Sends all messages of a zone transfer, each within the time limit.
    async fn transfer(&mut self, mut outgoing: Box<Outgoing>) -> io::Result<()> {
        self.shared.happened(Counted::Transfer);
        sys::stream::set_wide(&self.stream, true)?;
        let mut message = Vec::new();
        loop {
            let appended =
                listener::contain(&self.shared.batch(), || append_message(&mut message, &mut outgoing));
            if !appended.unwrap_or(Err(io::ErrorKind::InvalidData.into()))? {
                break;
            }
            self.place.active();
            self.write(&mut message).await?;
        }
        sys::stream::set_wide(&self.stream, false)
    }

    /// Writes the replies within the time limit and empties the buffer.
    async fn write(&mut self, replies: &mut Vec<u8>) -> io::Result<()> {
        let mut written = 0;
        while let Some(rest @ [_, ..]) = replies.get(written..) {
            match self.stream.try_write(rest) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Keep only as much memory as the unsent bytes need.
                    let rest = rest.to_vec();
                    *replies = Vec::new();
                    return self.write_waiting(&rest).await;
                }
                Err(error) => return Err(error),
            }
        }
        replies.clear();
        Ok(())
    }

    /// Writes the bytes for which the socket had no room.
    async fn write_waiting(&mut self, rest: &[u8]) -> io::Result<()> {
        let _place = self.shared.enter_waiting(self.peer, self.eviction);
        let written = tokio::time::timeout(self.shared.idle(), self.stream.write_all(rest)).await;
        written.unwrap_or_else(|_| {
            self.shared.happened(Counted::TimedOut);
            Err(io::ErrorKind::TimedOut.into())
        })
    }
}

/// The next step after the replies are written.
enum Next {
    /// Answer the remaining queries.
    Answer,
    /// Send a zone, then answer the remaining queries.
    Transfer(Box<Outgoing>),
    /// Wait for the rest of a query.
    Wait,
    /// Close the connection.
    Close,
}

/// The result of processing a query.
enum QueryResult {
    /// A reply was appended.
    Replied,
    /// The query asks for this zone transfer.
    Transfer(Box<Outgoing>),
    /// No reply is due.
    Nothing,
}

/// Processes a query: appends a reply, or begins a transfer.
fn append_any(
    replies: &mut Vec<u8>,
    query: &[u8],
    client: &Client,
    table: &Table,
    accounting: Accounting<'_>,
) -> QueryResult {
    append_transfer(replies, query, client, table, accounting).unwrap_or_else(|| {
        if append_reply(replies, query, client, table, accounting) {
            QueryResult::Replied
        } else {
            QueryResult::Nothing
        }
    })
}

/// Begins the requested transfer, or appends a refusal. Returns `None` for any other query.
fn append_transfer(
    replies: &mut Vec<u8>,
    query: &[u8],
    client: &Client,
    table: &Table,
    Accounting { batch, tapping, .. }: Accounting<'_>,
) -> Option<QueryResult> {
    SCRATCH.with_borrow_mut(|Scratch { reply, .. }| {
        let mut refused = 0;
        let (asked, code) = match transfer::begin(query, client, table, reply) {
            Begun::Other => return None,
            Begun::Refused(length, code) => {
                append_framed(replies, reply.get(..length).unwrap_or(&[]));
                refused = length;
                (QueryResult::Replied, code)
            }
            Begun::Transfer(outgoing) => (QueryResult::Transfer(outgoing), rcode::NOERROR),
        };
        batch.received(client.transport, client.address);
        batch.replied(code);
        if let Some(chosen) = tapping.and_then(Tapping::choose) {
            let outcome = match asked {
                QueryResult::Transfer(_) => SampleOutcome::Transferred,
                _ => {
                    SampleOutcome::Replied { rcode: code, truncated: false, slipped: false, length: refused }
                }
            };
            let reply = reply.get(..refused).unwrap_or_default();
            chosen.take(AnsweredQuery { client, query, reply, outcome, drawn: None });
        }
        Some(asked)
    })
}

/// Appends the next message of a transfer, framed. Returns false if there are no more.
fn append_message(message: &mut Vec<u8>, outgoing: &mut Outgoing) -> io::Result<bool> {
    SCRATCH.with_borrow_mut(|Scratch { reply, .. }| {
        let length =
            outgoing.next_message(reply).map_err(|Full| io::Error::from(io::ErrorKind::InvalidData))?;
        let Some(bytes) = length.and_then(|length| reply.get(..length)) else { return Ok(false) };
        append_framed(message, bytes);
        Ok(true)
    })
}

/// Appends a message after its length in two bytes.
fn append_framed(replies: &mut Vec<u8>, message: &[u8]) {
    // Buffers are never longer than 65,535 bytes.
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    replies.extend_from_slice(&length.to_be_bytes());
    replies.extend_from_slice(message);
}

/// Answers a query and appends the framed reply. Returns false if no reply is due.
fn append_reply(
    replies: &mut Vec<u8>,
    query: &[u8],
    client: &Client,
    table: &Table,
    accounting: Accounting<'_>,
) -> bool {
    SCRATCH.with_borrow_mut(|Scratch { responder, reply }| {
        let length = listener::respond(responder, query, client, table, reply, accounting);
        let Some(bytes) = length.and_then(|length| reply.get(..length)) else { return false };
        append_framed(replies, bytes);
        true
    })
}

/// Per-thread scratch buffers for answering; connections do not keep them.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::listener::Limits;
    use crate::zone::Catalog;

    /// Maximum memory of an idle connection in user space, bytes.
    const IDLE_COST: usize = 4096;

    #[tokio::test]
    async fn an_idle_connection_costs_little_after_a_query_as_before() {
        let table = Table::new(
            1,
            Arc::default(),
            Arc::new(Catalog::new(Vec::new())),
            Arc::default(),
            [],
            SmallRng::seed_from_u64(1),
        );
        let (_course, course) = watch::channel(Course::Serve);
        let shared = TcpShared::new(TcpContext {
            published: Published::new(table),
            metrics: Arc::new(Metrics::new(1)),
            limits: InForce::new(Limits::default(), usize::MAX),
            course,
            moved: mpsc::unbounded_channel().0,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let eviction = Eviction::default();
        let place = shared.enter(peer, 1, &eviction);
        let mut connection = ClientConnection {
            stream,
            peer,
            local: UNKNOWN,
            shared: &shared,
            place: &place,
            eviction: &eviction,
            unread: Vec::new(),
        };
        let exchange = async {
            client.write_all(b"\0\x11\0\x01\0\0\0\x01\0\0\0\0\0\0\0\0\x01\0\x01").await.unwrap();
            client.read_exact(&mut [0; 14]).await.unwrap();
            // Each turn shows the connection that nothing more has arrived.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            ended = connection.converse() => panic!("the connection ended: {:?}", ended.err()),
            () = exchange => {}
        }
        assert_eq!(connection.unread.capacity(), 0);

        let ClientConnection { stream, .. } = connection;
        let task = serve(stream, peer, place, eviction.clone(), Arc::clone(&shared));
        assert!(size_of_val(&task) < IDLE_COST, "{} bytes", size_of_val(&task));
    }
}
