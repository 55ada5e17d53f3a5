//! A program that runs below a supervisor (`program`): started, watched until it exits, killed when this is dropped.
//!
//! Programs of checks and of alerts run in this way, in an almost empty environment.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::interpreter::{self, DEFAULT_PATH};
use crate::printable::excerpt;
use crate::probe::program::{ARGUMENT, ARGUMENT_WITH_INPUT, MESSAGE, Message};
use crate::probe::words::first_line;

/// How much of the output is kept, 4 KiB; its first line is shown. The rest is read and discarded, so that the
/// program never blocks on a full pipe.
pub const OUTPUT_LIMIT: usize = 4 * 1024;

/// Size of one read of the output.
const READ: usize = 16 * 1024;

/// How many bytes of output are read between pauses, so that a program with much output does not delay other probes.
const BURST: usize = 256 * 1024;

/// The pause after each burst of output.
const PAUSE: Duration = Duration::from_millis(10);

/// A program to run.
#[derive(Debug)]
pub(super) struct ProgramStart<'a> {
    /// Its absolute path.
    pub(super) program: &'a Path,
    pub(super) arguments: &'a [String],
    /// Beside `PATH`.
    pub(super) environment: Vec<(&'static str, String)>,
    /// The bytes on its standard input; none for an empty one.
    pub(super) input: Option<Vec<u8>>,
}

impl ProgramStart<'_> {
    /// Starts the supervisor on a blocking thread. If this is dropped meanwhile, the result is dropped too, and this
    /// ends the supervisor.
    ///
    /// # Errors
    /// Why it could not be started, as a sentence.
    pub(super) async fn start(self) -> Result<Supervised, String> {
        let mut command = Command::new(SUPERVISOR.get_or_init(|| "/proc/self/exe".into()));
        command
            .arg(if self.input.is_some() { ARGUMENT_WITH_INPUT } else { ARGUMENT })
            .arg(self.program)
            .args(self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .process_group(0);
        let started = tokio::task::spawn_blocking(move || spawn(command)).await;
        let cannot = |error: io::Error| cannot_start(self.program, &error);
        let mut running = started.unwrap_or_else(|broken| Err(broken.into())).map_err(cannot)?;
        if let Some(input) = &self.input {
            running.give(input).await.map_err(cannot)?;
        }
        match running.hear().await? {
            Message::Started => Ok(running),
            Message::NotStarted(number) => {
                Err(not_started(self.program, io::Error::from_raw_os_error(number)).await)
            }
            Message::Ended(_) => Err(lost()),
        }
    }
}

/// The system has one error number for many causes; the file may show which one it is.
async fn not_started(program: &Path, error: io::Error) -> String {
    let path = program.to_owned();
    let looked = tokio::task::spawn_blocking(move || interpreter::fault(&path, |_| Ok(()))).await;
    match looked {
        Ok(Some(fault)) => format!("{} could not be started: {}", program.display(), fault.reason),
        _ if error.raw_os_error() == Some(libc::ENOEXEC) => format!(
            "{} could not be started: it is neither a program for this machine nor a script, which begins with #! and \
             its interpreter, as in #!/bin/sh",
            program.display()
        ),
        _ => cannot_start(program, &error),
    }
}

fn cannot_start(program: &Path, error: &io::Error) -> String {
    format!("{} could not be started: {error}", program.display())
}

fn lost() -> String {
    "the supervisor of the program has ended unexpectedly".into()
}

/// The executable of the supervisor: that of this process, unless a test sets another.
static SUPERVISOR: OnceLock<PathBuf> = OnceLock::new();

/// Sets the executable of the supervisor, for a process other than steerd. Call this before the first probe.
pub fn supervise_by(steerd: PathBuf) {
    // Only the first call has an effect.
    let _ = SUPERVISOR.set(steerd);
}

/// Standard output and standard error share a pipe, so that lines keep their order.
fn spawn(mut command: Command) -> io::Result<Supervised> {
    let (ours, theirs) = Socket::pair()?;
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(writer.try_clone()?).stderr(writer);
    let output = Receiver::from_owned_fd(reader.into())?;
    ours.set_nonblocking(true)?;
    let supervisor = UnixStream::from_std(ours)?;
    Ok(Supervised { _process: command.spawn()?, supervisor, output })
}

/// A running program. Dropping this closes the socket of its supervisor, which then kills the program and its
/// descendants; tokio reaps the supervisor.
pub(super) struct Supervised {
    _process: Child,
    supervisor: UnixStream,
    output: Receiver,
}

impl Supervised {
    /// Gives the supervisor the input of the program: its length, and the bytes.
    async fn give(&mut self, input: &[u8]) -> io::Result<()> {
        let length = u32::try_from(input.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.supervisor.write_all(&length.to_be_bytes()).await?;
        self.supervisor.write_all(input).await
    }

    /// The next message from the supervisor.
    async fn hear(&mut self) -> Result<Message, String> {
        let mut message = [0; MESSAGE];
        let read = self.supervisor.read_exact(&mut message).await;
        read.ok().and_then(|_| Message::decode(message)).ok_or_else(lost)
    }

    /// Waits until the program exits, and keeps the beginning of its output, of which `hear` gets each part. It does
    /// not wait for the pipe to be closed: another process that the program started may keep it open.
    ///
    /// # Errors
    /// If the supervisor is lost, as a sentence.
    pub(super) async fn watch(
        &mut self,
        kept: &mut Vec<u8>,
        mut hear: impl FnMut(&[u8]),
    ) -> Result<ExitStatus, String> {
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
                read = self.output.read(&mut part), if open && paused_until.is_none() => match read {
                    Ok(length @ 1..) => {
                        let part = part.get(..length).unwrap_or_default();
                        hear(part);
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
            && let Ok(length @ 1..) = self.output.try_read(&mut part)
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

/// How a program has ended in words, with the first line of its output. An error unless its exit code is 0.
pub(super) fn ended(status: ExitStatus, output: &[u8]) -> Result<String, String> {
    let line = first_line(output);
    let said = if line.is_empty() { String::new() } else { format!(": {}", excerpt(line)) };
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(format!("exit code 0{said}")),
        (Some(code), _) => Err(format!("exit code {code}, expected 0{said}")),
        (None, signal) => Err(format!("ended by signal {}{said}", signal.unwrap_or_default())),
    }
}

/// Runs a program until it exits, with these bytes on its standard input. It is killed when this is dropped.
///
/// # Errors
/// If it could not be started, or its exit code is not 0, as a sentence.
pub async fn run(
    program: &Path,
    arguments: &[String],
    environment: Vec<(&'static str, String)>,
    input: Vec<u8>,
) -> Result<String, String> {
    let start = ProgramStart { program, arguments, environment, input: Some(input) };
    let mut running = start.start().await?;
    let mut kept = Vec::new();
    let status = running.watch(&mut kept, |_| {}).await?;
    ended(status, &kept)
}
