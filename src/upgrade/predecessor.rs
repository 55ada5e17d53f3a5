//! The process that serves, as the one that takes over sees it.

use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;

use crate::audit::Author;
use crate::listener::Endpoint;
use crate::upgrade::TAKE_OVER;
use crate::upgrade::channel::{self, Channel};
use crate::upgrade::message::{FromPredecessor, FromSuccessor, PROTOCOL};

/// Time limit for the last steps of the process that has handed over everything.
const LEAVE_TIME: Duration = Duration::from_secs(1);

/// Everything that was handed over by its descriptor.
#[derive(Debug)]
pub struct Handed {
    /// The sockets for DNS.
    pub endpoints: Vec<Endpoint>,
    /// The listeners of the admin server, with their addresses as in the configuration.
    pub admin: Vec<(String, OwnedFd)>,
    /// The state directory, and its lock file.
    pub state_dir: Option<(PathBuf, OwnedFd)>,
}

/// The next request, once DNS is answered.
#[derive(Debug)]
pub enum HandOverStep {
    /// Serve this connection.
    Connection(TcpStream),
    /// Take over everything: the counters, and whether to reload.
    Commit {
        /// Its counters, as in its metrics.
        counters: String,
        /// Whether a reload was requested meanwhile.
        reload: bool,
        /// The client that requested the upgrade.
        by: Author,
    },
}

/// The process that serves.
#[derive(Debug)]
pub struct Predecessor(StdStream);

impl Predecessor {
    /// The process at the other end of standard input, if this one is to take over from it. It is told that this one
    /// can. Blocks.
    ///
    /// # Errors
    /// If standard input is not its socket.
    pub fn from_environment() -> io::Result<Option<Self>> {
        if std::env::var_os(TAKE_OVER).is_none() {
            return Ok(None);
        }
        let own = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        let nothing = File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        let stream = StdStream::from(own);
        let (version, pid) = (env!("CARGO_PKG_VERSION").to_owned(), std::process::id());
        channel::send_now(&stream, &FromSuccessor::Hello { protocol: PROTOCOL, version, pid })?;
        Ok(Some(Self(stream)))
    }

    /// Tells it why this process ends. Blocks. Later than [`Predecessor::talk`], use [`Conversation::give_up`].
    pub fn give_up(&self, reason: String) {
        let _ = channel::send_now(&self.0, &FromSuccessor::Failed { reason });
    }

    /// The same, for threads that share a runtime. Must be called within it.
    ///
    /// # Errors
    /// The system's error.
    pub fn talk(self) -> io::Result<Conversation> {
        Channel::new(self.0).map(Conversation)
    }
}

/// The conversation with the process that serves. Each error means that it has ended, or that this process must.
#[derive(Debug)]
pub struct Conversation(Channel);

impl Conversation {
    /// Takes the descriptors.
    ///
    /// # Errors
    /// See [`Conversation`].
    pub async fn handed(&mut self) -> io::Result<Handed> {
        let FromPredecessor::Descriptors { endpoints, admin, state_dir } = self.0.receive().await? else {
            return Err(unexpected());
        };
        let mut handed = Handed { endpoints: Vec::new(), admin: Vec::new(), state_dir: None };
        for form in endpoints {
            let mut udp = Vec::new();
            for _ in 0..form.udp {
                udp.push(UdpSocket::from(self.0.receive_descriptor().await?));
            }
            let tcp = TcpListener::from(self.0.receive_descriptor().await?);
            handed.endpoints.push(Endpoint::taken_over(form.address, udp, tcp));
        }
        for place in admin {
            handed.admin.push((place, self.0.receive_descriptor().await?));
        }
        if let Some(directory) = state_dir {
            handed.state_dir = Some((directory, self.0.receive_descriptor().await?));
        }
        Ok(handed)
    }

    /// Tells that all sockets are bound, and takes health and overrides.
    ///
    /// # Errors
    /// See [`Conversation`].
    pub async fn bound(&mut self, startup_wait: Duration) -> io::Result<String> {
        let startup_wait_milliseconds = u64::try_from(startup_wait.as_millis()).unwrap_or(u64::MAX);
        self.0.send(&FromSuccessor::Bound { startup_wait_milliseconds }).await?;
        match self.0.receive().await? {
            FromPredecessor::State { memory } => Ok(memory),
            _ => Err(unexpected()),
        }
    }

    /// Tells that DNS could be answered, and waits until it is to be.
    ///
    /// # Errors
    /// See [`Conversation`].
    pub async fn ready(&mut self) -> io::Result<()> {
        self.0.send(&FromSuccessor::Ready).await?;
        match self.0.receive().await? {
            FromPredecessor::Answer => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Tells that DNS is answered.
    ///
    /// # Errors
    /// See [`Conversation`].
    pub async fn answering(&mut self) -> io::Result<()> {
        self.0.send(&FromSuccessor::Answering).await
    }

    /// The next request.
    ///
    /// # Errors
    /// See [`Conversation`].
    pub async fn next(&mut self) -> io::Result<HandOverStep> {
        match self.0.receive().await? {
            FromPredecessor::Connection => {
                Ok(HandOverStep::Connection(TcpStream::from(self.0.receive_descriptor().await?)))
            }
            FromPredecessor::Commit { counters, reload, by } => {
                Ok(HandOverStep::Commit { counters, reload, by })
            }
            _ => Err(unexpected()),
        }
    }

    /// Tells that this process has everything.
    ///
    /// # Errors
    /// See [`Conversation`].
    pub async fn committed(&mut self) -> io::Result<()> {
        self.0.send(&FromSuccessor::Committed).await
    }

    /// Waits until the other process does nothing more as the one that serves.
    pub async fn left(mut self) {
        let _ = timeout(LEAVE_TIME, self.0.receive::<FromPredecessor>()).await;
    }

    /// Tells why this process ends.
    pub async fn give_up(&mut self, reason: String) {
        let _ = self.0.send(&FromSuccessor::Failed { reason }).await;
    }
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it sent a message at the wrong time")
}
