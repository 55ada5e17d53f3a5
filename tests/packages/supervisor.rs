//! Stands in for the part of systemd that listens to a service: takes messages as a unit with `NotifyAccess=main` does.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};
use rustix::time::{ClockId, clock_gettime};

use crate::support::wait_for;
use crate::text;

/// A message of the service.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) at: Instant,
    pub(crate) from: u32,
    pub(crate) text: String,
}

#[derive(Debug, Default)]
struct Seen {
    /// The main process: as the one before has named it. If that has ended or there is none, the first that sends a
    /// message.
    main: Option<u32>,
    /// The messages that systemd would heed, and the others, with the reason.
    heeded: Vec<Message>,
    refused: Vec<(Message, &'static str)>,
}

/// Listens until the process of the test ends.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor {
    seen: Arc<Mutex<Seen>>,
    /// The socket, for `NOTIFY_SOCKET`.
    pub(crate) path: PathBuf,
}

impl Supervisor {
    /// `main_changed` is called with each new main process that the service names.
    pub(crate) fn listen(path: &Path, main_changed: impl Fn(u32) + Send + 'static) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        sockopt::set_socket_passcred(&socket, true).unwrap();
        let supervisor = Self { seen: Arc::default(), path: path.to_owned() };
        let seen = Arc::clone(&supervisor.seen);
        std::thread::spawn(move || {
            loop {
                let message = receive(&socket);
                let mut seen = seen.lock().unwrap();
                if let Some(main) = seen.take(message) {
                    main_changed(main);
                }
            }
        });
        supervisor
    }

    pub(crate) fn main(&self) -> Option<u32> {
        self.seen.lock().unwrap().main
    }

    /// The messages that systemd would heed, without the signs of life, from this one on.
    pub(crate) fn told(&self, from: usize) -> Vec<Message> {
        let seen = self.seen.lock().unwrap();
        seen.heeded.iter().filter(|message| message.text != "WATCHDOG=1").skip(from).cloned().collect()
    }

    /// Waits until there are this many of [`Supervisor::told`], and returns them.
    pub(crate) fn wait_told(&self, from: usize, count: usize) -> Vec<Message> {
        wait_for("messages of the service", || {
            let told = self.told(from);
            (told.len() >= count).then_some(told)
        })
    }

    /// The signs of life.
    pub(crate) fn alive(&self) -> Vec<Message> {
        let seen = self.seen.lock().unwrap();
        seen.heeded.iter().filter(|message| message.text.contains("WATCHDOG=1")).cloned().collect()
    }

    /// The messages that systemd would not heed, each with the reason.
    pub(crate) fn refused(&self) -> Vec<(Message, &'static str)> {
        self.seen.lock().unwrap().refused.clone()
    }
}

impl Seen {
    /// Heeds or refuses a message. Returns another main process.
    fn take(&mut self, message: Message) -> Option<u32> {
        let main = self.main.filter(|main| is_running(*main)).unwrap_or(message.from);
        self.main = Some(main);
        if message.from != main {
            self.refused.push((message, "it is not from the main process"));
            return None;
        }
        let value =
            |key: &str| message.text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        if value("RELOADING").is_some() {
            let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap();
            let since =
                value("MONOTONIC_USEC").and_then(|micros| micros.parse().ok()).map(Duration::from_micros);
            if since.and_then(|since| now.checked_sub(since)).is_none_or(|ago| ago > Duration::from_secs(60))
            {
                self.refused.push((message, "it does not say when the reload began"));
                return None;
            }
        }
        let other = value("MAINPID").map(|process| process.parse::<u32>().unwrap());
        if other.is_some_and(|other| !is_running(other)) {
            self.refused.push((message, "there is no such process"));
            return None;
        }
        self.main = other.or(self.main);
        self.heeded.push(message);
        other
    }
}

fn is_running(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// Waits for the next message.
fn receive(socket: &UnixDatagram) -> Message {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let from = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid),
        _ => None,
    });
    let from = u32::try_from(from.unwrap().as_raw_nonzero().get()).unwrap();
    Message { at: Instant::now(), from, text: text(&bytes[..received.bytes]) }
}
