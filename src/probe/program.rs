//! A process of its own around each program of a check, so that nothing of that outlives the probe.
//!
//! A program can start others, and those can leave its process group and its parent (`setsid`, a double
//! fork). They stay below the *supervisor*, which adopts them (`PR_SET_CHILD_SUBREAPER`), and it ends them
//! all: when the program ends, when the probe is over, and when steerd ends in whatever way. It is
//! steerd itself, started anew with the argument [`ARGUMENT`], because a copy of a large process
//! would cost the threads that answer.
//!
//! ```text
//! steerd                            supervisor                         program
//!   | starts, with one end of a       |                                  |
//!   | socket as its standard input -->| starts ------------------------->|
//!   |<--------------- Started --------|                                  | starts others
//!   |<--------------- Ended ----------|<------------ ends ---------------|
//!   |                                 | kills all that is below it, ends
//!   | closes the socket, or ends ---->| kills all that is below it, ends
//! ```

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use crate::sys::process;

/// The first argument of a supervisor; the program and its arguments follow.
pub const ARGUMENT: &str = "supervise-program";

/// How many bytes a message has.
pub(super) const MESSAGE: usize = 5;

/// What a supervisor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The program runs.
    Started,
    /// The program could not be started: an error number.
    NotStarted(i32),
    /// It has ended: what the system calls its wait status.
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

/// Becomes a supervisor if that is what this process was started for; to be called first of all.
#[must_use]
pub fn supervise() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let Some(program) = arguments.next() else { return Some(ExitCode::FAILURE) };
    Some(match run(program, arguments.collect()) {
        Ok(()) => ExitCode::SUCCESS,
        // There is nobody to tell but those who wait for a message.
        Err(_) => ExitCode::FAILURE,
    })
}

fn run(program: OsString, arguments: Vec<OsString>) -> io::Result<()> {
    let mut steerd = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    process::adopt_orphans()?;
    process::close_on_exec_from(3)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let number = error.raw_os_error().unwrap_or_default();
            return steerd.write_all(&Message::NotStarted(number).encode());
        }
    };
    let mut lifeline = steerd.try_clone()?;
    let watch = thread::Builder::new().spawn(move || {
        // Nothing is ever sent here: it ends when the probe does, or steerd.
        let _ = lifeline.read(&mut [0]);
        end_all();
        std::process::exit(0);
    });
    // Whoever should hear this may have left, which the other thread sees; and that may have reaped the
    // program already.
    if watch.is_ok()
        && steerd.write_all(&Message::Started.encode()).is_ok()
        && let Ok(ended) = child.wait()
    {
        let _ = steerd.write_all(&Message::Ended(ended.into_raw()).encode());
    }
    end_all();
    watch.map(drop)
}

/// Kills what is below this process until nothing is left. What is killed leaves its children to this
/// process, so they come next.
fn end_all() {
    while let Ok(children) = process::children()
        && !children.is_empty()
    {
        for child in children {
            // One that has ended, or belongs to another user.
            let _ = process::kill(child);
        }
        if process::reap_one().is_err() {
            return;
        }
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
