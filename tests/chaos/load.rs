//! Clients that send queries all the time, and check each answer.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a client waits for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
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
    /// The configuration that runs and the next one, in the lower and the upper half.
    versions: AtomicU32,
}

impl World {
    pub(crate) fn new(version: u16) -> Self {
        let versions = AtomicU32::new(u32::from(version) << 16 | u32::from(version));
        Self { began: Instant::now(), until: Default::default(), versions }
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
        self.versions.store(u32::from(after) << 16 | u32::from(before), Ordering::SeqCst);
    }

    fn versions(&self) -> [u16; 2] {
        let both = self.versions.load(Ordering::SeqCst);
        [both, both >> 16].map(|half| u16::try_from(half & 0xffff).unwrap())
    }
}

/// The clients, and the outcomes so far.
pub(crate) struct Load {
    pub(crate) outcomes: Arc<Outcomes>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
pub(crate) struct Outcomes {
    stop: AtomicBool,
    pub(crate) udp: AtomicU64,
    pub(crate) tcp: AtomicU64,
    pub(crate) lost: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Load {
    /// Starts clients, each with one query on the way at most. Each asks once in `pause`.
    pub(crate) fn start(
        dns: SocketAddr,
        world: &Arc<World>,
        udp: usize,
        tcp: usize,
        pause: [Duration; 2],
    ) -> Self {
        const THREADS: usize = 2;
        let outcomes = Arc::<Outcomes>::default();
        let mut threads = Vec::new();
        for (count, pause, is_tcp) in [(udp, pause[0], false), (tcp, pause[1], true)] {
            for _ in 0..THREADS {
                let mut clients: Vec<Client> =
                    (0..count / THREADS).map(|number| Client::new(dns, is_tcp, number)).collect();
                let (world, outcomes) = (Arc::clone(world), Arc::clone(&outcomes));
                threads.push(std::thread::spawn(move || {
                    let mut next = Instant::now();
                    while !outcomes.stop.load(Ordering::Relaxed) {
                        round(&mut clients, &world, &outcomes);
                        next = (next + pause).max(Instant::now());
                        std::thread::park_timeout(next - Instant::now());
                    }
                }));
            }
        }
        Self { outcomes, threads }
    }

    /// Panics if an answer was wrong. At most this many may be lost.
    pub(crate) fn check(&self, most_lost: u64) {
        let wrong = self.outcomes.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{} wrong, such as {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
        let lost = self.outcomes.lost.load(Ordering::Relaxed);
        assert!(lost <= most_lost, "{lost} are lost");
    }

    pub(crate) fn end(self, most_lost: u64) {
        self.outcomes.stop.store(true, Ordering::Relaxed);
        self.check(most_lost);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

fn round(clients: &mut [Client], world: &World, outcomes: &Outcomes) {
    let allowed = (world.now(), world.versions());
    for client in &mut *clients {
        client.send();
    }
    let deadline = Instant::now() + ANSWER_TIME;
    for client in clients {
        let judged = match client.receive(deadline) {
            Ok(reply) => {
                let counter = if client.is_tcp() { &outcomes.tcp } else { &outcomes.udp };
                counter.fetch_add(1, Ordering::Relaxed);
                judge(&reply, client.asked(), allowed, world)
            }
            Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) => {
                outcomes.lost.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(format!("{error}")),
        };
        if let Err(why) = judged {
            outcomes.wrong.lock().unwrap().push(format!("after {} ms: {why}", world.now()));
        }
    }
}

/// Says what is wrong with a reply. `allowed` is from the time of the query.
fn judge(reply: &[u8], name: &str, allowed: (u64, [u16; 2]), world: &World) -> Result<(), String> {
    let (sent_at, versions) = allowed;
    let found = addresses(reply).ok_or_else(|| format!("{name}: {reply:?}"))?;
    if found.is_empty() {
        return Err(format!("{name}: no address"));
    }
    let versions = [versions, world.versions()].concat();
    for address in found {
        let [.., net, host] = address.octets();
        let is_right = if name == WEB {
            let backend = world.until.get(usize::from(host).wrapping_sub(1));
            net == 7 && backend.is_some_and(|until| until.load(Ordering::SeqCst) >= sent_at)
        } else {
            versions.contains(&host.into())
        };
        if !is_right {
            return Err(format!("{name}: {address}, with the configurations {versions:?}"));
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
            Socket::Tcp(stream)
        } else {
            let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
            socket.connect(dns).unwrap();
            Socket::Udp(socket)
        };
        Self { socket, id: u16::try_from(number).unwrap(), closed: false }
    }

    fn is_tcp(&self) -> bool {
        matches!(self.socket, Socket::Tcp(_))
    }

    fn asked(&self) -> &'static str {
        if self.id.is_multiple_of(2) { WEB } else { VERSION }
    }

    fn send(&mut self) {
        self.id = self.id.wrapping_add(1);
        let mut message = [&self.id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
        for label in self.asked().split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        let sent = match &mut self.socket {
            Socket::Udp(socket) => socket.send(&message).map(drop),
            Socket::Tcp(stream) => {
                let length = u16::try_from(message.len()).unwrap();
                stream.write_all(&[&length.to_be_bytes()[..], &message].concat())
            }
        };
        self.closed |= sent.is_err();
    }

    fn receive(&mut self, deadline: Instant) -> io::Result<Vec<u8>> {
        if self.closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let reply = self.next_reply(deadline);
        self.closed = reply.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
        reply
    }

    fn next_reply(&mut self, deadline: Instant) -> io::Result<Vec<u8>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let mut reply = vec![0; 512];
            match &mut self.socket {
                Socket::Udp(socket) => {
                    socket.set_read_timeout(Some(left))?;
                    let length = socket.recv(&mut reply)?;
                    reply.truncate(length);
                }
                Socket::Tcp(stream) => {
                    stream.set_read_timeout(Some(left))?;
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
}
