//! Runs an exec probe: a program decides; exit code 0 passes.
//!
//! The program gets the backend's address in an almost empty environment. A supervisor (`program`) kills it and its
//! descendants when it exits, when its time is over, when the probe is dropped, and when this process ends.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::check::ExecProbe;
use crate::interpreter::{self, DEFAULT_PATH};
use crate::printable::excerpt;
use crate::probe::failure::ProbeFailure;
use crate::probe::program::{ARGUMENT, MESSAGE, Message};
use crate::probe::words::first_line;
use crate::probe::{Cause, Finding, ProbeStep, Trace};

/// How much of the output is kept, 4 KiB; its first line is shown. The rest is read and discarded, so that the
/// program never blocks on a full pipe.
pub const OUTPUT_LIMIT: usize = 4 * 1024;

/// Size of one read of the output.
const READ: usize = 16 * 1024;

/// How many bytes of output are read between pauses, so that a program with much output does not delay other probes.
const BURST: usize = 256 * 1024;

/// The pause after each burst of output.
const PAUSE: Duration = Duration::from_millis(10);

pub(super) async fn attempt(
    probe: &ExecProbe,
    address: IpAddr,
    timeout: Duration,
    trace: &mut Trace,
) -> Result<Finding, ProbeFailure> {
    trace.rename(ProbeStep::Start);
    let (mut running, mut output) = start(probe, address, timeout).await?;
    trace.enter(ProbeStep::Program);
    let mut kept = Vec::new();
    let status = running.watch(&mut output, &mut kept, trace).await?;
    let line = first_line(&kept);
    let said = if line.is_empty() { String::new() } else { format!(": {}", excerpt(line)) };
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(Finding::passed(format!("exit code 0{said}"))),
        (Some(code), _) => {
            Err(ProbeFailure::new(Cause::Status, format!("exit code {code}, expected 0{said}")))
        }
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            Err(ProbeFailure::new(Cause::Status, format!("ended by signal {signal}{said}")))
        }
    }
}

/// Starts the supervisor on a blocking thread. If the probe is dropped meanwhile, the result is dropped too, and this
/// ends the supervisor.
async fn start(
    probe: &ExecProbe,
    address: IpAddr,
    timeout: Duration,
) -> Result<(Supervised, Receiver), ProbeFailure> {
    let cannot = |error: io::Error| cannot_start(probe, &error);
    let mut command = Command::new(SUPERVISOR.get_or_init(|| "/proc/self/exe".into()));
    command
        .arg(ARGUMENT)
        .arg(&probe.program)
        .args(&probe.arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()))
        .env("STEERD_ADDRESS", address.to_string())
        .env("STEERD_TIMEOUT_MS", timeout.as_millis().to_string())
        .envs(probe.port.map(|port| ("STEERD_PORT", port.to_string())))
        .process_group(0);
    let started = tokio::task::spawn_blocking(move || spawn(command)).await;
    let (mut running, output) = started.unwrap_or_else(|broken| Err(broken.into())).map_err(cannot)?;
    match running.hear().await? {
        Message::Started => Ok((running, output)),
        Message::NotStarted(number) => Err(not_started(probe, io::Error::from_raw_os_error(number)).await),
        Message::Ended(_) => Err(lost()),
    }
}

/// The system has one error number for many causes; the file may show which one it is.
async fn not_started(probe: &ExecProbe, error: io::Error) -> ProbeFailure {
    let program = probe.program.clone();
    let looked = tokio::task::spawn_blocking(move || interpreter::fault(&program, |_| Ok(()))).await;
    match looked {
        Ok(Some(fault)) => {
            let program = probe.program.display();
            ProbeFailure::local(format_args!("{program} could not be started: {}", fault.reason))
        }
        _ if error.raw_os_error() == Some(libc::ENOEXEC) => {
            let program = probe.program.display();
            ProbeFailure::local(format_args!(
                "{program} could not be started: it is neither a program for this machine nor a script, which \
                 begins with #! and its interpreter, as in #!/bin/sh"
            ))
        }
        _ => cannot_start(probe, &error),
    }
}

fn cannot_start(probe: &ExecProbe, error: &io::Error) -> ProbeFailure {
    ProbeFailure::local(format_args!("{} could not be started: {error}", probe.program.display()))
}

/// The executable of the supervisor: that of this process, unless a test sets another.
static SUPERVISOR: OnceLock<PathBuf> = OnceLock::new();

/// Sets the executable of the supervisor, for a process other than steerd. Call this before the first probe.
pub fn supervise_by(steerd: PathBuf) {
    // Only the first call has an effect.
    let _ = SUPERVISOR.set(steerd);
}

fn lost() -> ProbeFailure {
    ProbeFailure::local("the supervisor of the program has ended unexpectedly")
}

/// Standard output and standard error share a pipe, so that lines keep their order.
fn spawn(mut command: Command) -> io::Result<(Supervised, Receiver)> {
    let (ours, theirs) = Socket::pair()?;
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(writer.try_clone()?).stderr(writer);
    let output = Receiver::from_owned_fd(reader.into())?;
    ours.set_nonblocking(true)?;
    let supervisor = UnixStream::from_std(ours)?;
    Ok((Supervised { _process: command.spawn()?, supervisor }, output))
}

/// A running program. Dropping this closes the socket of its supervisor, which then kills the program and its
/// descendants; tokio reaps the supervisor.
struct Supervised {
    _process: Child,
    supervisor: UnixStream,
}

impl Supervised {
    /// The next message from the supervisor.
    async fn hear(&mut self) -> Result<Message, ProbeFailure> {
        let mut message = [0; MESSAGE];
        let read = self.supervisor.read_exact(&mut message).await;
        read.ok().and_then(|_| Message::decode(message)).ok_or_else(lost)
    }

    /// Waits until the program exits, and keeps the beginning of its output. It does not wait for the pipe to be
    /// closed: another process that the program started may keep it open.
    async fn watch(
        &mut self,
        output: &mut Receiver,
        kept: &mut Vec<u8>,
        trace: &mut Trace,
    ) -> Result<ExitStatus, ProbeFailure> {
        let mut part = vec![0; READ];
        let (mut burst, mut paused_until) = (0, None::<Instant>);
        let (mut open, mut message, mut heard) = (true, [0; MESSAGE], 0);
        while heard < MESSAGE {
            tokio::select! {
                read = self.supervisor.read(message.get_mut(heard..).unwrap_or_default()) => match read {
                    Ok(length @ 1..) => heard += length,
                    _ => return Err(lost()),
                },
                () = tokio::time::sleep_until(paused_until.unwrap_or_else(Instant::now)), if paused_until.is_some() => {
                    paused_until = None;
                }
                read = output.read(&mut part), if open && paused_until.is_none() => match read {
                    Ok(length @ 1..) => {
                        let part = part.get(..length).unwrap_or_default();
                        trace.hear(part);
                        keep(kept, part);
                        burst += length;
                        if burst >= BURST {
                            (burst, paused_until) = (0, Some(Instant::now() + PAUSE));
                        }
                    }
                    // The program has closed its output, but still runs.
                    _ => open = false,
                },
            }
        }
        // The end of the output may still be in the pipe.
        while open
            && let Ok(length @ 1..) = output.try_read(&mut part)
            && kept.len() < OUTPUT_LIMIT
        {
            keep(kept, part.get(..length).unwrap_or_default());
        }
        match Message::decode(message) {
            Some(Message::Ended(status)) => Ok(ExitStatus::from_raw(status)),
            _ => Err(lost()),
        }
    }
}

fn keep(kept: &mut Vec<u8>, part: &[u8]) {
    let room = OUTPUT_LIMIT - kept.len();
    kept.extend_from_slice(part.get(..room).unwrap_or(part));
}
