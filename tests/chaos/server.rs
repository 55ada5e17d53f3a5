//! A server with its state directory, and every process that it becomes.
#![allow(dead_code, reason = "each program uses only a part of this")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{PATIENCE, Process, STEERD, free_port, wait_for};

/// A variable in the environment of all processes of a server; its value is the directory.
const MARK: &str = "STEERD_CHAOS_DIRECTORY";
const ZONE: &str = "$TTL 300\n@ IN SOA ns1 hostmaster 1 3600 900 604800 2\n@ NS ns1\nns1 A 127.0.0.1\n";

/// Runs the program through a link, which a test may replace.
pub(crate) struct Server {
    /// The process that the test started last.
    pub(crate) first: Process,
    pub(crate) dns: SocketAddr,
    pub(crate) admin: SocketAddr,
    directory: TempDir,
}

impl Server {
    /// Starts a server with these pools and services, and waits until it answers.
    pub(crate) fn start(config: &str) -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("zone"), ZONE).unwrap();
        std::fs::create_dir(directory.path().join("state")).unwrap();
        let [dns, admin] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port("127.0.0.1"))));
        symlink(STEERD, directory.path().join("steerd")).unwrap();
        write(directory.path(), dns, admin, config);
        let first = spawn(directory.path());
        let server = Self { first, dns, admin, directory };
        server.wait_until_it_answers();
        server
    }

    /// Starts it again in its directory, without waiting.
    pub(crate) fn start_again(&mut self) {
        self.first = spawn(self.directory.path());
    }

    pub(crate) fn wait_until_it_answers(&self) {
        wait_for("DNS is answered", || self.first.said("DNS is answered").pop());
    }

    pub(crate) fn configure(&self, config: &str) {
        write(self.directory.path(), self.dns, self.admin, config);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces the program by a script.
    pub(crate) fn replace_program(&self, script: &str) {
        let new = self.path("new");
        std::fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(new, self.path("steerd")).unwrap();
    }

    pub(crate) fn restore_program(&self) {
        symlink(STEERD, self.path("new")).unwrap();
        std::fs::rename(self.path("new"), self.path("steerd")).unwrap();
    }

    /// The reply to an API request, unless the server is killed meanwhile.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        request(self.admin, method, path, body)
    }

    /// The sum of all series with this name.
    pub(crate) fn metric_sum(&self, name: &str) -> u64 {
        let text = exchange(self.admin, "GET", "/metrics", "").unwrap();
        let lines =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// The process that has the lock of the state directory.
    pub(crate) fn serving(&self) -> u32 {
        let lock = std::fs::read_to_string(self.path("state/lock")).unwrap();
        lock.trim().parse().unwrap()
    }

    /// All its running processes, and those of programs in its place.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mark = format!("{MARK}={}\0", self.directory.path().display());
        let environment = |pid: &u32| std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        all_processes().filter(|pid| String::from_utf8_lossy(&environment(pid)).contains(&mark)).collect()
    }

    /// Whether this is its only process, and the lock names it.
    pub(crate) fn is_alone(&self, pid: u32) -> bool {
        self.serving() == pid && self.processes() == [pid] && children(pid).is_empty()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.processes().into_iter().for_each(kill);
    }
}

fn spawn(directory: &Path) -> Process {
    let file = directory.join("steerd.toml");
    Process::start(
        Command::new(directory.join("steerd")).arg("serve").arg("-c").arg(file).env(MARK, directory),
    )
}

fn write(directory: &Path, dns: SocketAddr, admin: SocketAddr, config: &str) {
    let text = format!(
        "[server]\nlisten = [\"{dns}\"]\nstate_dir = \"state\"\ntcp_connections = 8000\n[admin]\nlisten = \"{admin}\"\n\
         [zones.\"lb.example.test\"]\nfile = \"zone\"\n{config}"
    );
    std::fs::write(directory.join("steerd.toml"), text).unwrap();
}

fn all_processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The processes that this one has started and that still are in the table, also ended ones.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
        fields.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    all_processes().filter(is_child).collect()
}

pub(crate) fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Whether it has a thread that reads queries.
pub(crate) fn reads_queries(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let name = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm"));
    threads.filter_map(|thread| name(thread).ok()).any(|name| name == "udp-0\n")
}

/// Resident memory, KiB.
pub(crate) fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse().unwrap())
}

/// Ends a process at once, if it exists.
pub(crate) fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Sends a signal to a process, if it exists.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal);
}

pub(crate) fn request(admin: SocketAddr, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
    let text = exchange(admin, method, path, body).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).ok()?))
}

fn exchange(admin: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(2 * PATIENCE))?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {admin}\r\nContent-Length: {length}\r\nContent-Type: application/json\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    Ok(reply)
}
