//! Clients that send queries all the time, and check each answer.

use std::fmt;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::support::message::{A, Query, wire};

/// How long a client waits for an answer: longer than an upgrade waits for a new process that answers nothing.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// After this time, a client without an answer no longer keeps the others from asking again.
const ROUND_TIME: Duration = Duration::from_millis(100);
/// Backends are at `127.0.7.1` and on.
pub(crate) const BACKENDS: usize = 8;
pub(crate) const WEB: &str = "www.lb.example.test";
/// Its only address is `192.0.2.N` for the configuration N.
pub(crate) const VERSION: &str = "version.lb.example.test";

/// The answers that are right now.
pub(crate) struct World {
    began: Instant,
    /// For each backend, until when it may be answered: milliseconds.
    until: [AtomicU64; BACKENDS],
    /// The configuration that runs and the next one, after each change: in a few milliseconds there may be many.
    versions: RwLock<Vec<[u16; 2]>>,
}

impl World {
    pub(crate) fn new(version: u16) -> Self {
        Self { began: Instant::now(), until: Default::default(), versions: RwLock::new(vec![[version; 2]]) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    pub(crate) fn lives(&self, backend: usize) {
        self.until[backend].store(u64::MAX, Ordering::SeqCst);
    }

    /// It may be answered for this much longer.
    pub(crate) fn dies(&self, backend: usize, grace: Duration) {
        let grace = u64::try_from(grace.as_millis()).unwrap();
        self.until[backend].store(self.now() + grace, Ordering::SeqCst);
    }

    /// Either configuration may run.
    pub(crate) fn changes(&self, before: u16, after: u16) {
        self.versions.write().unwrap().push([before, after]);
    }

    /// The number of the last change.
    fn last_change(&self) -> usize {
        self.versions.read().unwrap().len() - 1
    }

    /// Whether this configuration may have run at any time since that change.
    fn may_have_run(&self, version: u16, since: usize) -> bool {
        self.versions.read().unwrap()[since..].iter().flatten().any(|may| *may == version)
    }
}

/// How many clients there are, and how often each asks.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    udp: usize,
    udp_pause: Duration,
    /// Each keeps its connection.
    tcp: usize,
    tcp_pause: Duration,
}

impl Shape {
    /// Pauses are in milliseconds.
    pub(crate) const fn of(udp: usize, udp_pause: u64, tcp: usize, tcp_pause: u64) -> Self {
        let [udp_pause, tcp_pause] = [Duration::from_millis(udp_pause), Duration::from_millis(tcp_pause)];
        Self { udp, udp_pause, tcp, tcp_pause }
    }
}

/// The clients, and the outcomes so far.
pub(crate) struct Load {
    outcomes: Arc<Outcomes>,
    threads: Vec<JoinHandle<()>>,
    began: Instant,
    /// One query of each is on the way at most.
    clients: u64,
    most_lost: u64,
}

#[derive(Default)]
struct Outcomes {
    stop: AtomicBool,
    udp: AtomicU64,
    tcp: AtomicU64,
    lost: AtomicU64,
    /// When queries may have been lost: from and until.
    losses: Mutex<Vec<(Instant, Option<Instant>)>>,
    wrong: Mutex<Vec<String>>,
}

impl Outcomes {
    /// Whether a query of that time may be lost.
    fn may_be_lost(&self, asked_at: Instant) -> bool {
        let losses = self.losses.lock().unwrap();
        losses.iter().any(|(from, until)| *from <= asked_at && until.is_none_or(|until| asked_at <= until))
    }
}

/// The outcomes at the end.
pub(crate) struct Figures {
    pub(crate) udp: u64,
    pub(crate) tcp: u64,
    lost: u64,
    most_lost: u64,
    took: Duration,
}

impl Figures {
    /// Answers over UDP in a second, on average.
    pub(crate) fn rate(&self) -> f64 {
        f64::from(u32::try_from(self.udp).unwrap()) / self.took.as_secs_f64()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { udp, tcp, lost, most_lost, took } = self;
        let rate = self.rate();
        write!(
            f,
            "{udp} answers over UDP ({rate:.0}/s), {tcp} over TCP, {lost} lost of at most {most_lost}, in {took:.0?}"
        )
    }
}

impl Load {
    pub(crate) fn start(dns: SocketAddr, world: &Arc<World>, shape: Shape) -> Self {
        const THREADS: usize = 2;
        let Shape { udp, udp_pause, tcp, tcp_pause } = shape;
        let outcomes = Arc::<Outcomes>::default();
        let mut threads = Vec::new();
        for (count, pause, is_tcp) in [(udp, udp_pause, false), (tcp, tcp_pause, true)] {
            for _ in 0..THREADS {
                let mut clients: Vec<Client> =
                    (0..count / THREADS).map(|number| Client::new(dns, is_tcp, number)).collect();
                let (world, outcomes) = (Arc::clone(world), Arc::clone(&outcomes));
                threads.push(std::thread::spawn(move || {
                    let mut next = Instant::now();
                    while !outcomes.stop.load(Ordering::Relaxed) {
                        ask(&mut clients, &world);
                        hear(&mut clients, &world, &outcomes);
                        // A client that is late does not catch up.
                        next = (next + pause).max(Instant::now());
                        std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
                    }
                    while clients.iter().any(|client| client.asked_at.is_some()) {
                        hear(&mut clients, &world, &outcomes);
                    }
                }));
            }
        }
        let clients = u64::try_from(udp + tcp).unwrap();
        Self { outcomes, threads, began: Instant::now(), clients, most_lost: 0 }
    }

    pub(crate) fn answered(&self) -> u64 {
        self.outcomes.udp.load(Ordering::SeqCst) + self.outcomes.tcp.load(Ordering::SeqCst)
    }

    /// The largest number of queries that are on the way.
    pub(crate) fn on_the_way(&self) -> u64 {
        self.clients
    }

    /// From now on, a process that has read queries is killed: each client may lose the one that is on the way.
    pub(crate) fn may_lose_one_each(&mut self) {
        self.most_lost += self.clients;
        let from = Instant::now().checked_sub(ROUND_TIME).unwrap();
        self.outcomes.losses.lock().unwrap().push((from, None));
    }

    /// From now on, no query may be lost.
    pub(crate) fn may_lose_none(&self) {
        if let Some((_, until)) = self.outcomes.losses.lock().unwrap().last_mut() {
            until.get_or_insert(Instant::now());
        }
    }

    /// Panics if an answer was wrong, or more are lost than may be.
    pub(crate) fn check(&self) {
        let wrong = self.outcomes.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{} wrong, such as {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
        let lost = self.outcomes.lost.load(Ordering::SeqCst);
        assert!(lost <= self.most_lost, "{lost} are lost, of at most {}", self.most_lost);
    }

    pub(crate) fn end(mut self) -> Figures {
        self.outcomes.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        self.check();
        let [udp, tcp, lost] = [&self.outcomes.udp, &self.outcomes.tcp, &self.outcomes.lost]
            .map(|count| count.load(Ordering::SeqCst));
        Figures { udp, tcp, lost, most_lost: self.most_lost, took: self.began.elapsed() }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.outcomes.stop.store(true, Ordering::Relaxed);
    }
}

/// Sends a query of each client that is not waiting.
fn ask(clients: &mut [Client], world: &World) {
    for client in clients.iter_mut().filter(|client| client.asked_at.is_none()) {
        client.send(world);
    }
}

/// Takes the answers, and judges them.
fn hear(clients: &mut [Client], world: &World, outcomes: &Outcomes) {
    let round_ends = Instant::now() + ROUND_TIME;
    for client in clients {
        let Some(asked_at) = client.asked_at else { continue };
        let judged = match client.receive(asked_at, round_ends) {
            Ok(reply) => {
                let counter = if client.is_tcp() { &outcomes.tcp } else { &outcomes.udp };
                counter.fetch_add(1, Ordering::Relaxed);
                client.asked_at = None;
                judge(&reply, client.asked(), client.allowed, world)
            }
            Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) => {
                if asked_at.elapsed() > ANSWER_TIME {
                    outcomes.lost.fetch_add(1, Ordering::Relaxed);
                    client.asked_at = None;
                    if outcomes.may_be_lost(asked_at) { Ok(()) } else { Err("a query is lost".into()) }
                } else {
                    Ok(())
                }
            }
            Err(error) => {
                client.asked_at = None;
                Err(format!("{error}"))
            }
        };
        if let Err(why) = judged {
            outcomes.wrong.lock().unwrap().push(format!("after {} ms: {why}", world.now()));
        }
    }
}

/// A query for the A records of a name, with this id.
pub(crate) fn query(id: u16, name: &str) -> Vec<u8> {
    Query::plain(wire(name), A).encode(id)
}

/// Says what is wrong with a reply. `allowed` is from the time of the query.
fn judge(reply: &[u8], name: &str, allowed: (u64, usize), world: &World) -> Result<(), String> {
    let (sent_at, last_change) = allowed;
    let found = addresses(reply).ok_or_else(|| format!("{name}: {reply:?}"))?;
    if found.is_empty() {
        return Err(format!("{name}: no address"));
    }
    for address in found {
        let [.., net, host] = address.octets();
        let is_right = if name == WEB {
            let backend = world.until.get(usize::from(host).wrapping_sub(1));
            net == 7 && backend.is_some_and(|until| until.load(Ordering::SeqCst) >= sent_at)
        } else {
            world.may_have_run(host.into(), last_change)
        };
        if !is_right {
            return Err(format!("{name}: {address}"));
        }
    }
    Ok(())
}

/// The A records of a reply without an error, whose names are pointers.
fn addresses(reply: &[u8]) -> Option<Vec<Ipv4Addr>> {
    let header: &[u8; 12] = reply.first_chunk()?;
    let (flags, count) =
        (u16::from_be_bytes([header[2], header[3]]), u16::from_be_bytes([header[6], header[7]]));
    if flags & 0x800f != 0x8000 {
        return None;
    }
    let mut at = 12;
    while reply.get(at)? != &0 {
        at += usize::from(reply[at]) + 1;
    }
    at += 5;
    let mut found = Vec::new();
    for _ in 0..count {
        let record: &[u8; 16] = reply.get(at..)?.first_chunk()?;
        if record[0] & 0xc0 != 0xc0 || record[2..4] != [0, 1] || record[10..12] != [0, 4] {
            return None;
        }
        found.push(Ipv4Addr::new(record[12], record[13], record[14], record[15]));
        at += record.len();
    }
    Some(found)
}

struct Client {
    socket: Socket,
    id: u16,
    closed: bool,
    /// When the query was sent that has no answer yet.
    asked_at: Option<Instant>,
    /// That time in milliseconds, and the last change before it: they say which answers are right.
    allowed: (u64, usize),
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Client {
    fn new(dns: SocketAddr, is_tcp: bool, number: usize) -> Self {
        let socket = if is_tcp {
            let stream = TcpStream::connect(dns).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(ROUND_TIME)).unwrap();
            Socket::Tcp(stream)
        } else {
            let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
            socket.connect(dns).unwrap();
            socket.set_read_timeout(Some(ROUND_TIME)).unwrap();
            Socket::Udp(socket)
        };
        Self { socket, id: u16::try_from(number).unwrap(), closed: false, asked_at: None, allowed: (0, 0) }
    }

    fn is_tcp(&self) -> bool {
        matches!(self.socket, Socket::Tcp(_))
    }

    fn asked(&self) -> &'static str {
        if self.id.is_multiple_of(2) { WEB } else { VERSION }
    }

    fn send(&mut self, world: &World) {
        (self.asked_at, self.allowed) = (Some(Instant::now()), (world.now(), world.last_change()));
        self.id = self.id.wrapping_add(1);
        let message = query(self.id, self.asked());
        let sent = match &mut self.socket {
            Socket::Udp(socket) => socket.send(&message).map(drop),
            Socket::Tcp(stream) => {
                let length = u16::try_from(message.len()).unwrap();
                stream.write_all(&[&length.to_be_bytes()[..], &message].concat())
            }
        };
        self.closed |= sent.is_err();
    }

    fn receive(&mut self, asked_at: Instant, round_ends: Instant) -> io::Result<Vec<u8>> {
        if self.closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let is_late = asked_at.elapsed() > ROUND_TIME;
        let reply = self.next_reply(is_late, round_ends);
        self.closed = reply.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
        reply
    }

    fn next_reply(&mut self, is_late: bool, round_ends: Instant) -> io::Result<Vec<u8>> {
        loop {
            if is_late || Instant::now() >= round_ends {
                self.expect_ready()?;
            }
            let mut reply = vec![0; 512];
            match &mut self.socket {
                Socket::Udp(socket) => {
                    let length = socket.recv(&mut reply)?;
                    reply.truncate(length);
                }
                Socket::Tcp(stream) => {
                    let mut length = [0; 2];
                    stream.read_exact(&mut length)?;
                    reply.resize(u16::from_be_bytes(length).into(), 0);
                    stream.read_exact(&mut reply)?;
                }
            }
            // A late reply belongs to a query that was counted as lost.
            if reply.starts_with(&self.id.to_be_bytes()) {
                return Ok(reply);
            }
        }
    }

    /// Whether something can be read now. The shortest timeout would be some milliseconds, for each client that waits.
    fn expect_ready(&self) -> io::Result<()> {
        let socket = match &self.socket {
            Socket::Udp(socket) => SockRef::from(socket),
            Socket::Tcp(stream) => SockRef::from(stream),
        };
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        socket.recv_with_flags(&mut [MaybeUninit::uninit()], flags).map(drop)
    }
}
