//! A server under attack, and the kernel memory for its connections.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::support::{Process, Steerd, TOKEN, http_get, http_with, wait_for, write_config};

/// Runs one attack at a time, because kernel memory and waiting times are measured.
static ALONE: Mutex<()> = Mutex::new(());

/// A server whose received messages are not counted.
pub(crate) struct Target {
    _process: Process,
    pub(crate) dns: SocketAddr,
    pub(crate) admin: SocketAddr,
    directory: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Target {
    pub(crate) fn start(config: &str, files: &[(&str, &str)]) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // Both ends of each connection are on this machine.
        steerd::sys::raise_descriptor_limit().unwrap();
        let Steerd { ledger, process, dns, admin, directory } = Steerd::start(config, files);
        // The number of sent queries is unknown when an attack is interrupted.
        std::mem::forget(ledger);
        Self { _process: process, dns, admin, directory, _alone: alone }
    }

    /// Makes the server require [`TOKEN`], which its directory contains in the file `token`.
    pub(crate) fn want_token(&self, config: &str) {
        write_config(&self.directory.path().join("steerd.toml"), config, "token_file = \"token\"");
        assert_eq!(http_with(self.admin, "POST", "/api/v1/reload", TOKEN, "").0, 200);
    }

    /// The value of a series, given its name and labels as printed.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        wait_for(series, || {
            let (_, body) = http_get(self.admin, "/metrics");
            body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
        })
    }
}

/// A server's sockets to one /24.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Sockets in any state except TIME-WAIT.
    pub(crate) sockets: usize,
    /// Bytes that wait to be sent or read.
    pub(crate) bytes: u64,
}

/// The server's sockets to clients in `network`.
pub(crate) fn held(server: SocketAddr, network: [u8; 3]) -> Held {
    const TIME_WAIT: &str = "06";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut held = Held::default();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, state, queues, ..] = fields.as_slice() else { continue };
        let address = u32::from_str_radix(&remote[..8], 16).unwrap().to_le_bytes();
        let port = u16::from_str_radix(&local[9..], 16).unwrap();
        if port != server.port() || address[..3] != network || *state == TIME_WAIT {
            continue;
        }
        held.sockets += 1;
        let (send, receive) = queues.split_once(':').unwrap();
        held.bytes +=
            [send, receive].map(|queue| u64::from_str_radix(queue, 16).unwrap()).iter().sum::<u64>();
    }
    held
}

/// Memory of all TCP sockets of this machine, bytes.
pub(crate) fn kernel_memory() -> u64 {
    const PAGE: u64 = 4096;
    let text = std::fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap();
    line.rsplit(' ').next().unwrap().parse::<u64>().unwrap() * PAGE
}
