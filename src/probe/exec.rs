//! Exec probe: a program judges; exit code 0 is a pass.
//!
//! The program gets the backend's address in its environment, and hardly anything else. It leads a
//! process group of its own, and nothing of that outlives the probe: the whole group is killed when the
//! program ends, when its time is over, and when the probe is dropped.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use std::os::unix::process::ExitStatusExt;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

use crate::probe::fault::Fault;
use crate::probe::quote::{first_line, quote};
use crate::probe::{Cause, Finding, Step, Trace};
use crate::sys::process::kill_group;

/// How much of the output is kept, 4 KiB; its first line is shown. The rest is read and thrown away, so
/// that a program that says much can end.
pub const OUTPUT_LIMIT: usize = 4 * 1024;

/// Where programs are looked for by those that start others, when this process has no PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Runs a program, without a shell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExecProbe {
    /// The program: an absolute path. Its user is that of this process.
    pub program: PathBuf,
    /// Its arguments, without null characters.
    pub arguments: Vec<String>,
    /// Given to it in `STEERD_PORT`.
    pub port: Option<u16>,
}

impl ExecProbe {
    pub(super) async fn attempt(
        &self,
        address: IpAddr,
        timeout: Duration,
        trace: &mut Trace,
    ) -> Result<Finding, Fault> {
        trace.rename(Step::Start);
        let (mut running, mut output) = self.start(address, timeout).await?;
        trace.enter(Step::Program);
        let mut kept = Vec::new();
        let status = running.watch(&mut output, &mut kept, trace).await?;
        let line = first_line(&kept);
        let said = if line.is_empty() { String::new() } else { format!(": {}", quote(line)) };
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(Finding::passed(format!("exit code 0{said}"))),
            (Some(code), _) => Err(Fault::new(Cause::Status, format!("exit code {code}, expected 0{said}"))),
            (None, signal) => {
                let signal = signal.unwrap_or_default();
                Err(Fault::new(Cause::Status, format!("ended by signal {signal}{said}")))
            }
        }
    }

    /// Starts the program on a thread for what blocks: its file may be anywhere. When the probe is
    /// dropped meanwhile, what was started is dropped with the result that nobody takes.
    async fn start(&self, address: IpAddr, timeout: Duration) -> Result<(Running, Receiver), Fault> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()))
            .env("STEERD_ADDRESS", address.to_string())
            .env("STEERD_TIMEOUT_MS", timeout.as_millis().to_string())
            .envs(self.port.map(|port| ("STEERD_PORT", port.to_string())))
            .stdin(Stdio::null())
            .process_group(0);
        let started = tokio::task::spawn_blocking(move || spawn(command)).await;
        started.unwrap_or_else(|broken| Err(broken.into())).map_err(|error| {
            Fault::local(format_args!("{} could not be started: {error}", self.program.display()))
        })
    }
}

/// Both outputs go into one pipe, so that lines stand in the order they were written.
fn spawn(mut command: Command) -> io::Result<(Running, Receiver)> {
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let output = Receiver::from_owned_fd(reader.into())?;
    Ok((Running(command.spawn()?), output))
}

/// A program that has been started. To drop it kills it; whoever is killed is reaped by tokio.
struct Running(Child);

impl Running {
    /// Waits for its end, and keeps the beginning of what it says. A process that it started may hold the
    /// pipe for longer, so its end is not waited for.
    async fn watch(
        &mut self,
        output: &mut Receiver,
        kept: &mut Vec<u8>,
        trace: &mut Trace,
    ) -> Result<ExitStatus, Fault> {
        let group = self.0.id();
        let mut part = [0; OUTPUT_LIMIT];
        let status = loop {
            tokio::select! {
                ended = self.0.wait() => {
                    break ended.map_err(|error| Fault::local(format_args!("the program was lost: {error}")))?;
                }
                read = output.read(&mut part) => match read {
                    Ok(length) if length > 0 => {
                        let part = part.get(..length).unwrap_or_default();
                        trace.hear(part);
                        keep(kept, part);
                    }
                    // It has closed its output and goes on.
                    _ => {
                        let ended = self.0.wait().await;
                        break ended.map_err(|error| Fault::local(format_args!("the program was lost: {error}")))?;
                    }
                },
            }
        };
        // It has just been reaped, and its number is not given away again so soon. What it leaves behind
        // ends here, and what it said last may still be in the pipe.
        group.map(kill_group);
        while let Ok(length @ 1..) = output.try_read(&mut part)
            && kept.len() < OUTPUT_LIMIT
        {
            keep(kept, part.get(..length).unwrap_or_default());
        }
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once it is reaped there is no number any more.
        if let Some(group) = self.0.id() {
            // It can only fail when all of it has ended.
            let _ = kill_group(group);
        }
    }
}

fn keep(kept: &mut Vec<u8>, part: &[u8]) {
    let room = OUTPUT_LIMIT - kept.len();
    kept.extend_from_slice(part.get(..room).unwrap_or(part));
}
