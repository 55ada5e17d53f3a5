//! The supervisor of a program of a check or an alert: a process that kills the program and all its descendants.
//!
//! A program can start other programs, which can leave its process group and its parent (`setsid`, a double fork).
//! The supervisor adopts them (`PR_SET_CHILD_SUBREAPER`) and kills them all when the program exits, when the probe
//! ends, and when steerd ends for any reason. It is steerd itself, executed with the argument [`ARGUMENT`]: forking a
//! large process would slow down the threads that answer.
//!
//! ```text
//! steerd                            supervisor                         program
//!   | starts, with one end of a       |                                  |
//!   | socket as its standard input -->| starts ------------------------->|
//!   |<--------------- Started --------|                                  | starts others
//!   |<--------------- Ended ----------|<------------ ends ---------------|
//!   |                                 | kills all its descendants, ends
//!   | closes the socket, or ends ---->| kills all its descendants, ends
//! ```

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::sys::process;

/// The first argument of a supervisor; the program and its arguments follow.
pub const ARGUMENT: &str = "supervise-program";

/// The first argument of a supervisor that first receives the input of the program: its length in four bytes, and the
/// bytes.
pub const ARGUMENT_WITH_INPUT: &str = "supervise-program-with-input";

/// The longest input, bytes.
const LONGEST_INPUT: usize = 16 << 20;

/// The length of a message, bytes.
pub(super) const MESSAGE: usize = 5;

/// The first pause between attempts to kill the descendants; each further pause is twice as long.
const FIRST_REST: Duration = Duration::from_millis(1);
/// The longest pause.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// A message of a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The program runs.
    Started,
    /// The program could not be started: the error number.
    NotStarted(i32),
    /// The program has ended: its wait status.
    Ended(i32),
}

impl Message {
    pub(super) fn encode(self) -> [u8; MESSAGE] {
        let (kind, number) = match self {
            Self::Started => (1, 0),
            Self::NotStarted(number) => (2, number),
            Self::Ended(number) => (3, number),
        };
        let [a, b, c, d] = i32::to_be_bytes(number);
        [kind, a, b, c, d]
    }

    pub(super) fn decode([kind, number @ ..]: [u8; MESSAGE]) -> Option<Self> {
        let number = i32::from_be_bytes(number);
        Some(match kind {
            1 => Self::Started,
            2 => Self::NotStarted(number),
            3 => Self::Ended(number),
            _ => return None,
        })
    }
}

/// Runs the supervisor if this process was started as one. Must be called before anything else.
#[must_use]
pub fn supervise() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next()?;
    let has_input = first == ARGUMENT_WITH_INPUT;
    if first != ARGUMENT && !has_input {
        return None;
    }
    let Some(program) = arguments.next() else { return Some(ExitCode::FAILURE) };
    Some(match run(program, arguments.collect(), has_input) {
        Ok(()) => ExitCode::SUCCESS,
        // The socket is closed, and so steerd is informed.
        Err(_) => ExitCode::FAILURE,
    })
}

fn run(program: OsString, arguments: Vec<OsString>, has_input: bool) -> io::Result<()> {
    let mut steerd = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut lifeline = steerd.try_clone()?;
    let input = if has_input { Some(read_input(&mut steerd)?) } else { None };
    let mut child = match start(program, arguments, has_input) {
        Ok(child) => child,
        Err(error) => {
            let number = error.raw_os_error().unwrap_or_default();
            return steerd.write_all(&Message::NotStarted(number).encode());
        }
    };
    let program = child.id();
    if let (Some(input), Some(mut standard_input)) = (input, child.stdin.take()) {
        // A program need not read its input, so this must not wait for it.
        thread::Builder::new().spawn(move || standard_input.write_all(&input))?;
    }
    // The thread that kills the descendants takes this lock and keeps it until this process ends. No process is
    // reaped without the lock, so until then no other process can have the program's number.
    let ending = Arc::new(Mutex::new(()));
    let watch = thread::Builder::new().spawn({
        let ending = Arc::clone(&ending);
        move || {
            // steerd sends nothing further: the read ends when the probe or steerd does.
            let _ = lifeline.read(&mut [0]);
            let _ending = ending.lock();
            let _ = process::kill_group(program);
            end_all();
            std::process::exit(0);
        }
    });
    let told = steerd.write_all(&Message::Started.encode());
    if watch.is_ok() && told.is_ok() {
        let _ = process::wait_for_end(program);
    }
    std::mem::forget(ending.lock());
    let _ = process::kill_group(program);
    // An error means that the probe has ended; the other thread notices that.
    if let Ok(ended) = child.wait() {
        let _ = steerd.write_all(&Message::Ended(ended.into_raw()).encode());
    }
    end_all();
    watch.map(drop)
}

fn read_input(steerd: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    steerd.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > LONGEST_INPUT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut input = vec![0; length];
    steerd.read_exact(&mut input)?;
    Ok(input)
}

fn start(program: OsString, arguments: Vec<OsString>, has_input: bool) -> io::Result<Child> {
    process::adopt_orphans()?;
    process::close_on_exec_from(3)?;
    let mut command = Command::new(program);
    let input = if has_input { Stdio::piped() } else { Stdio::null() };
    command.args(arguments).stdin(input).process_group(0);
    command.spawn()
}

/// Kills the descendants of this process until none is left. The children of a killed process become children of this
/// one, and are killed next.
fn end_all() {
    let mut rest = FIRST_REST;
    while process::reap() {
        for child in process::children().unwrap_or_default() {
            // This fails if the process has ended or belongs to another user. The loop waits for its end.
            let _ = process::kill(child);
        }
        thread::sleep(rest);
        rest = (rest * 2).min(LONGEST_REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        for message in [Message::Started, Message::NotStarted(2), Message::Ended(256), Message::Ended(9)] {
            assert_eq!(Message::decode(message.encode()), Some(message));
        }
        assert_eq!(Message::decode([0; MESSAGE]), None);
    }
}
