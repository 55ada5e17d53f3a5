//! An upgrade, as the process that serves sees it. The order of the steps is in `upgrade`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::{OwnedRwLockWriteGuard, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::{info, warn};

use crate::audit::{AuditAction, AuditEntry, AuditOutcome, Author};
use crate::checker::CheckerCommand;
use crate::events::{Notice, tell};
use crate::fleet::Survey;
use crate::listener::BoundListeners;
use crate::server::{AUDIT_TIME, Server};
use crate::state;
use crate::systemd::{self, ServiceState};
use crate::upgrade::{
    ChangeGate, Descriptors, Program, Successor, UpgradeRefused, UpgradeReport, UpgradeRequest,
};

/// How long the old process stays ready to answer again after the new one has answered its first query.
const PROBATION: Duration = Duration::from_secs(2);
/// Time limit for DNS connections to end their current query; then they are closed.
const CONNECTIONS_TIME: Duration = Duration::from_secs(2);
/// Time limit for changes under way, and for answers of the checker.
const CHECKER_TIME: Duration = Duration::from_secs(30);
/// Test queries are sent so often in this time, and once before it.
const PROBATION_ROUNDS: u32 = 4;
/// Time limit for the answer to one test query.
const ANSWER_TIME: Duration = Duration::from_millis(500);
/// A process that has answered no test query for so long answers none.
const SILENT_TIME: Duration = Duration::from_secs(1);
/// Pause before a test query is repeated.
const PAUSE: Duration = Duration::from_millis(10);
/// A query for the SOA record of the root: usually refused, but always answered.
const TEST_QUERY: &[u8] = b"\x5e\xed\0\0\0\x01\0\0\0\0\0\0\0\0\x06\0\x01";
const TEST_ID: &[u8] = b"\x5e\xed";

/// The parts of a server that an upgrade needs.
#[derive(Debug)]
pub(super) struct Handing {
    pub(super) program: Program,
    pub(super) requests: mpsc::Receiver<UpgradeRequest>,
    pub(super) changes: ChangeGate,
    /// The sockets that the listeners read.
    pub(super) sockets: Option<BoundListeners>,
    /// The listeners of the admin server.
    pub(super) admin: Vec<(String, OwnedFd)>,
    /// The connections that were handed over, in case they must come back.
    pub(super) kept: Vec<TcpStream>,
    /// Refuses operators' changes from the hand-over of the state to the end of this process.
    pub(super) held: Option<OwnedRwLockWriteGuard<()>>,
}

impl Server {
    /// Lets a new process of the same program take over. Afterwards this one only has to [`Server::leave`].
    /// `reload_wanted` is set when somebody requests a reload meanwhile; `author` is the client.
    ///
    /// If the future is dropped, DNS may not be answered any more: the server must be stopped.
    ///
    /// # Errors
    /// Why this process goes on.
    pub async fn upgrade(
        &mut self,
        author: &Author,
        reload_wanted: &AtomicBool,
    ) -> Result<UpgradeReport, UpgradeRefused> {
        let (began, by) = (Instant::now(), &*author.by);
        info!(asked_by = by, "upgrade: a new process of this program is started");
        systemd::tell(ServiceState::Reloading);
        let outcome = self.try_upgrade(began, author, reload_wanted).await;
        let teller = self.events.at(SystemTime::now());
        match &outcome {
            Ok(UpgradeReport { pid, version, took, connections, warning }) => {
                if let Some(warning) = warning {
                    warn!(asked_by = by, "upgrade: {warning}");
                }
                info!(
                    asked_by = by,
                    pid,
                    version,
                    ?took,
                    connections,
                    "upgrade: the new process serves; this one ends"
                );
            }
            Err(refused) => {
                self.metrics.operation.upgrade_refused();
                self.resume().await;
                self.handing.held = None;
                self.audit.resume();
                systemd::tell(ServiceState::Ready);
                tell!(teller, error, Server, asked_by = by, "upgrade refused: {refused}");
                if refused.is_of_new_process() {
                    let notice = format!("the last upgrade failed, and a restart may fail too: {refused}");
                    self.events.show(Notice::Upgrade, Some(notice));
                }
                self.audit.note(audit_entry(author.clone(), "", Some(refused.to_string())));
            }
        }
        outcome
    }

    async fn try_upgrade(
        &mut self,
        began: Instant,
        author: &Author,
        reload_wanted: &AtomicBool,
    ) -> Result<UpgradeReport, UpgradeRefused> {
        if std::process::id() == 1 {
            return Err(UpgradeRefused::FirstProcess);
        }
        let Some(sockets) = self.handing.sockets.take() else { return Err(UpgradeRefused::NotServing) };
        let outcome = self.hand_over(&sockets, began, author, reload_wanted).await;
        self.handing.sockets = Some(sockets);
        outcome
    }

    async fn hand_over(
        &mut self,
        sockets: &BoundListeners,
        began: Instant,
        author: &Author,
        reload_wanted: &AtomicBool,
    ) -> Result<UpgradeReport, UpgradeRefused> {
        let mut successor = Successor::start(&self.handing.program).await?;
        let place = self.keeper.place().borrow().clone();
        let directory = place.as_ref();
        let state_dir = directory.and_then(|place| Some((place.directory().to_owned(), place.lock_file()?)));
        let admin =
            self.handing.admin.iter().map(|(place, listener)| Ok((place.clone(), listener.try_clone()?)));
        let admin = admin
            .collect::<std::io::Result<_>>()
            .map_err(|error| UpgradeRefused::State(error.to_string()))?;
        let handed = Descriptors { endpoints: sockets.endpoints(), admin, state_dir };
        let startup_wait = successor.bind(handed).await?;

        let held = timeout(CHECKER_TIME, self.handing.changes.hold()).await;
        let held = held.map_err(|_| UpgradeRefused::State("a change is still under way".into()))?;
        self.handing.held = Some(held);
        successor.prepare(self.memory().await?, startup_wait).await?;

        // Both read from here on, so a new process that fails to answer costs no query.
        successor.answer().await?;
        if let Some(listeners) = &mut self.listeners {
            listeners.hand_over();
        }
        let connections = self.move_connections(&mut successor).await?;
        // A process that hangs does not end, so only queries show it.
        expect_answers(&self.dns).await?;
        for _ in 0..PROBATION_ROUNDS {
            successor.watch(PROBATION / PROBATION_ROUNDS).await?;
            expect_answers(&self.dns).await?;
        }

        self.metrics.operation.upgraded();
        let (metrics, table) = (self.metrics.clone(), self.checker.published.load());
        let rendered = spawn_blocking(move || {
            let mut text = Vec::new();
            metrics.write(&table, &mut text).map(|()| String::from_utf8_lossy(&text).into_owned())
        });
        let counters = rendered.await.map_err(std::io::Error::other).and_then(|text| text);
        let counters = counters.map_err(|error| UpgradeRefused::State(error.to_string()))?;
        // From now on the new process writes there.
        let audit = self.audit.clone();
        let _ = spawn_blocking(move || audit.hold(AUDIT_TIME)).await;
        if !self.keeper.release().await {
            return Err(UpgradeRefused::State("a write to state_dir does not end".into()));
        }
        let committed =
            successor.commit(counters, reload_wanted.swap(false, Ordering::Relaxed), author.clone()).await;
        if let Err(refused) = committed {
            self.keeper.place().send_replace(place);
            return Err(refused);
        }
        if let Some((_, admin)) = &mut self.admin_task {
            admin.hand_over();
        }
        let (pid, version) = (successor.pid, successor.version.clone());
        systemd::tell(ServiceState::ReplacedBy(pid));
        successor.leave();
        let warning = self.reload.running().warning_of_upgrade();
        Ok(UpgradeReport { pid, version, took: began.elapsed(), connections, warning })
    }

    /// Health and overrides, as text.
    async fn memory(&self) -> Result<String, UpgradeRefused> {
        let asked = async {
            let (reply, memory) = oneshot::channel();
            self.checker.commands.send(CheckerCommand::Memory(Survey::with_progress(), reply)).await.ok()?;
            memory.await.ok()
        };
        let memory = timeout(CHECKER_TIME, asked).await.ok().flatten();
        let memory =
            memory.ok_or_else(|| UpgradeRefused::State("the health checker does not answer".into()))?;
        let encoded = spawn_blocking(move || state::encode(memory, SystemTime::now())).await;
        encoded
            .map_err(std::io::Error::other)
            .and_then(|text| text)
            .map_err(|error| UpgradeRefused::State(error.to_string()))
    }

    /// Hands over open connections as they end their current queries, then ends the listeners. Returns how many.
    async fn move_connections(&mut self, successor: &mut Successor) -> Result<usize, UpgradeRefused> {
        let Some(listeners) = &mut self.listeners else { return Ok(0) };
        let deadline = tokio::time::Instant::now() + CONNECTIONS_TIME;
        while let Ok(Some(stream)) = timeout_at(deadline, listeners.next_connection()).await {
            let Ok(stream) = stream.into_std() else { continue };
            let handed = timeout_at(deadline, successor.connection(&stream)).await;
            self.handing.kept.push(stream);
            handed.map_err(|_| UpgradeRefused::Slow {
                step: "take over a connection",
                limit: CONNECTIONS_TIME,
            })??;
        }
        if let Some(listeners) = self.listeners.take() {
            listeners.stop().await;
        }
        Ok(self.handing.kept.len())
    }

    /// Reads queries again, if this process no longer does.
    async fn resume(&mut self) {
        let kept = std::mem::take(&mut self.handing.kept);
        let moving = self.listeners.take_if(|listeners| listeners.is_handed_over());
        if self.listeners.is_some() {
            return;
        }
        self.bound = self.handing.sockets.take();
        if let Err(error) = self.serve() {
            // `failed` ends this process, and its supervisor starts it again.
            return warn!(%error, "DNS cannot be answered again");
        }
        for stream in kept {
            self.readopt(stream);
        }
        // Those that the new process has not been given.
        if let Some(mut moving) = moving {
            let deadline = tokio::time::Instant::now() + CONNECTIONS_TIME;
            while let Ok(Some(stream)) = timeout_at(deadline, moving.next_connection()).await {
                if let Ok(stream) = stream.into_std() {
                    self.readopt(stream);
                }
            }
            moving.stop().await;
        }
    }

    /// Serves a connection again.
    fn readopt(&self, stream: TcpStream) {
        if let Some(listeners) = &self.listeners {
            // A connection that has ended meanwhile is no longer needed.
            let _ = listeners.adopt(stream);
        }
    }
}

/// The entry of an upgrade to this version, or of a refused one.
pub(super) fn audit_entry(author: Author, version: &str, refused: Option<String>) -> AuditEntry {
    AuditEntry {
        action: AuditAction::Upgrade,
        subject: String::new(),
        author,
        reason: None,
        before: None,
        after: refused.is_none().then(|| format!("process {}, version {version}", std::process::id())),
        outcome: AuditOutcome::refused_if(refused),
    }
}

/// Sends a test query to each address.
async fn expect_answers(addresses: &[SocketAddr]) -> Result<(), UpgradeRefused> {
    for &address in addresses {
        if !is_answered(address).await {
            return Err(UpgradeRefused::Silent(address));
        }
    }
    Ok(())
}

/// Whether a query is answered, over UDP and TCP.
async fn is_answered(address: SocketAddr) -> bool {
    let address = reachable(address);
    let began = Instant::now();
    let is_answered = |outcome: Result<std::io::Result<()>, _>| matches!(outcome, Ok(Ok(())));
    while began.elapsed() < SILENT_TIME {
        if is_answered(timeout(ANSWER_TIME, answered_over_udp(address)).await)
            && is_answered(timeout(ANSWER_TIME, answered_over_tcp(address)).await)
        {
            return true;
        }
        sleep(PAUSE).await;
    }
    false
}

/// The address under which this machine reaches it.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn answered_over_udp(address: SocketAddr) -> std::io::Result<()> {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    socket.send(TEST_QUERY).await?;
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply).await?;
    expect_reply(reply.get(..length).unwrap_or_default())
}

async fn answered_over_tcp(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let length = u16::try_from(TEST_QUERY.len()).unwrap_or(u16::MAX);
    stream.write_all(&[&length.to_be_bytes(), TEST_QUERY].concat()).await?;
    let mut reply = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut reply).await?;
    expect_reply(&reply)
}

fn expect_reply(reply: &[u8]) -> std::io::Result<()> {
    if reply.starts_with(TEST_ID) { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}
