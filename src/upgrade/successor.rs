//! The new process, as the one that serves sees it.

use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::audit::Author;
use crate::listener::Endpoint;
use crate::upgrade::channel::Channel;
use crate::upgrade::message::{EndpointForm, FromPredecessor, FromSuccessor, PROTOCOL};
use crate::upgrade::{Program, TAKE_OVER, UpgradeRefused};

/// Time limit from the start of the program to its first message, which comes before it reads anything.
const HELLO_TIME: Duration = Duration::from_secs(10);
/// Time limit for loading the configuration.
const LOAD_TIME: Duration = Duration::from_secs(60);
/// Time limit for steps that only compute.
const STEP_TIME: Duration = Duration::from_secs(30);
/// Time limit for the exit status of a process that has closed its socket.
const EXIT_TIME: Duration = Duration::from_secs(1);

/// Names the process of `WATCHDOG_USEC`. The new one has another id.
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// Everything that is handed over by its descriptor.
#[derive(Debug)]
pub struct Descriptors<'a> {
    /// The sockets for DNS.
    pub endpoints: &'a [Endpoint],
    /// The listeners of the admin server, with their addresses as in the configuration.
    pub admin: Vec<(String, OwnedFd)>,
    /// The state directory with its lock.
    pub state_dir: Option<(PathBuf, BorrowedFd<'a>)>,
}

/// The new process. It is killed if this is dropped before [`Successor::leave`].
#[derive(Debug)]
pub struct Successor {
    child: Child,
    channel: Channel,
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
}

impl Successor {
    /// Starts a program, and waits until it says that it can take over.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn start(program: &Program) -> Result<Self, UpgradeRefused> {
        let refused = |error| UpgradeRefused::NotStarted { program: program.path.clone(), error };
        let (ours, theirs) = StdStream::pair().map_err(refused)?;
        let child = Command::new(&program.path)
            .args(&program.arguments)
            .env(TAKE_OVER, "1")
            .env_remove(WATCHDOG_PID)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .kill_on_drop(true)
            .spawn()
            .map_err(refused)?;
        let channel = Channel::new(ours).map_err(refused)?;
        let mut successor = Self { child, channel, version: String::new(), pid: 0 };
        match successor.receive("start", HELLO_TIME).await? {
            FromSuccessor::Hello { protocol: PROTOCOL, version, pid } => {
                Ok(Self { version, pid, ..successor })
            }
            FromSuccessor::Hello { protocol, version, .. } => {
                Err(UpgradeRefused::Protocol { protocol, version })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Hands over descriptors, and waits until it has loaded its configuration and bound what is missing. Returns its
    /// `startup_wait`.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn bind(&mut self, handed: Descriptors<'_>) -> Result<Duration, UpgradeRefused> {
        const STEP: &str = "load its configuration";
        let Descriptors { endpoints, admin, state_dir } = handed;
        let (places, admin): (Vec<String>, Vec<OwnedFd>) = admin.into_iter().unzip();
        let (state_dir, lock) = state_dir.unzip();
        let form = |endpoint: &Endpoint| EndpointForm { address: endpoint.address, udp: endpoint.udp.len() };
        let endpoints_form = endpoints.iter().map(form).collect();
        self.send(
            STEP,
            &FromPredecessor::Descriptors { endpoints: endpoints_form, admin: places, state_dir },
        )
        .await?;
        for Endpoint { udp, tcp, .. } in endpoints {
            for socket in udp {
                self.send_descriptor(STEP, socket.as_fd()).await?;
            }
            self.send_descriptor(STEP, tcp.as_fd()).await?;
        }
        for descriptor in admin.iter().map(AsFd::as_fd).chain(lock) {
            self.send_descriptor(STEP, descriptor).await?;
        }
        match self.receive(STEP, LOAD_TIME).await? {
            FromSuccessor::Bound { startup_wait_milliseconds } => {
                Ok(Duration::from_millis(startup_wait_milliseconds))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Hands over health and overrides, and waits until it could answer. `startup_wait` is the time that it may take
    /// for the first probes of new backends.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn prepare(&mut self, memory: String, startup_wait: Duration) -> Result<(), UpgradeRefused> {
        const STEP: &str = "take over the state and become ready";
        self.send(STEP, &FromPredecessor::State { memory }).await?;
        match self.receive(STEP, STEP_TIME + startup_wait).await? {
            FromSuccessor::Ready => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Lets it answer, and waits until it does.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn answer(&mut self) -> Result<(), UpgradeRefused> {
        const STEP: &str = "answer";
        self.send(STEP, &FromPredecessor::Answer).await?;
        match self.receive(STEP, STEP_TIME).await? {
            FromSuccessor::Answering => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Hands over an open connection.
    ///
    /// # Errors
    /// If it has ended.
    pub async fn connection(&mut self, stream: &TcpStream) -> Result<(), UpgradeRefused> {
        const STEP: &str = "take over a connection";
        self.send(STEP, &FromPredecessor::Connection).await?;
        self.send_descriptor(STEP, stream.as_fd()).await
    }

    /// Watches it for a time.
    ///
    /// # Errors
    /// If it ends or gives up meanwhile.
    pub async fn watch(&mut self, time: Duration) -> Result<(), UpgradeRefused> {
        match self.receive("go on", time).await {
            Err(UpgradeRefused::Slow { .. }) => Ok(()),
            Ok(message) => Err(unexpected(&message)),
            Err(ended) => Err(ended),
        }
    }

    /// Hands over the rest, and waits until it has everything. From then on, it serves.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn commit(&mut self, counters: String, reload: bool, by: Author) -> Result<(), UpgradeRefused> {
        const STEP: &str = "take over everything";
        self.send(STEP, &FromPredecessor::Commit { counters, reload, by }).await?;
        match self.receive(STEP, STEP_TIME).await? {
            FromSuccessor::Committed => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Lets it run when this process ends.
    pub fn leave(self) {
        // A child without a handle runs on; `kill_on_drop` would end it.
        std::mem::forget(self.child);
    }

    async fn send(&mut self, step: &'static str, message: &FromPredecessor) -> Result<(), UpgradeRefused> {
        let sent = timeout(STEP_TIME, self.channel.send(message)).await;
        self.sent(step, sent).await
    }

    async fn send_descriptor(
        &mut self,
        step: &'static str,
        descriptor: BorrowedFd<'_>,
    ) -> Result<(), UpgradeRefused> {
        let sent = timeout(STEP_TIME, self.channel.send_descriptor(descriptor)).await;
        self.sent(step, sent).await
    }

    async fn sent(
        &mut self,
        step: &'static str,
        sent: Result<std::io::Result<()>, tokio::time::error::Elapsed>,
    ) -> Result<(), UpgradeRefused> {
        match sent {
            Ok(Ok(())) => Ok(()),
            // It may have given a reason before it ended.
            Ok(Err(error)) => match self.receive(step, EXIT_TIME).await {
                Err(reason @ (UpgradeRefused::GaveUp(_) | UpgradeRefused::Ended { .. })) => Err(reason),
                _ => Err(UpgradeRefused::Channel { step, error }),
            },
            Err(_) => Err(UpgradeRefused::Slow { step, limit: STEP_TIME }),
        }
    }

    async fn receive(
        &mut self,
        step: &'static str,
        limit: Duration,
    ) -> Result<FromSuccessor, UpgradeRefused> {
        match timeout(limit, self.channel.receive()).await {
            Err(_) => Err(UpgradeRefused::Slow { step, limit }),
            Ok(Ok(FromSuccessor::Failed { reason })) => Err(UpgradeRefused::GaveUp(reason)),
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                Err(UpgradeRefused::Channel { step, error })
            }
            Ok(Err(_)) => {
                let ended = timeout(EXIT_TIME, self.child.wait()).await;
                Err(UpgradeRefused::Ended { step, ended: ended.ok().and_then(Result::ok) })
            }
        }
    }
}

fn unexpected(message: &FromSuccessor) -> UpgradeRefused {
    UpgradeRefused::GaveUp(format!("it sent {message:?} at the wrong time"))
}
