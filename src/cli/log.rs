//! Writes log lines to standard error through a bounded buffer and a thread.
//!
//! Standard error can be an unread pipe, a stopped terminal, or a full disk. Threads that log, especially
//! the checker, must not block on it: if there is no room for a line, it is dropped, and the log reports
//! the number of dropped lines. Lines in the buffer are still written when the process ends.
//!
//! ```text
//! logging thread --push--> waiting --take--> writing thread --write--> standard error
//!                    `--> dropped, if there is no room, or dropped lines are not reported yet
//! ```

use std::borrow::Cow;
use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::printable::printable_json;

/// Size of the buffer, bytes. It holds about 20,000 lines, enough for a large configuration if every
/// backend changes at once.
const ROOM: usize = 4 * 1024 * 1024;

/// How much of the buffer is kept after a burst, bytes.
const KEPT: usize = 64 * 1024;

/// Time limit for writing the last lines when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The buffer of lines to write. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Lines(Arc<LineBuffer>);

#[derive(Debug)]
struct LineBuffer {
    state: Mutex<BufferState>,
    /// Signals that there are lines to write or to report.
    wanted: Condvar,
    /// Signals that all lines are written.
    done: Condvar,
    room: usize,
}

#[derive(Debug, Default)]
struct BufferState {
    waiting: Vec<u8>,
    /// The number of dropped lines that have not been reported yet.
    lost: u64,
    /// Whether the thread is writing, or about to report dropped lines.
    busy: bool,
}

impl BufferState {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.lost == 0
    }
}

/// On drop, waits for the last lines.
#[derive(Debug)]
pub(super) struct Flush(Lines);

impl Lines {
    /// Starts the writing thread. `tell` logs the number of dropped lines.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn to(
        output: impl Write + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<(Self, Flush)> {
        Self::with_room(ROOM, output, tell)
    }

    fn with_room(
        room: usize,
        output: impl Write + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<(Self, Flush)> {
        let shared =
            LineBuffer { state: Mutex::default(), wanted: Condvar::new(), done: Condvar::new(), room };
        let lines = Self(Arc::new(shared));
        let writer = lines.clone();
        thread::Builder::new().name("log".into()).spawn(move || writer.write(output, tell))?;
        Ok((lines.clone(), Flush(lines)))
    }

    fn lock(&self) -> MutexGuard<'_, BufferState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.lost > 0 || state.waiting.len() + line.len() > self.0.room {
            state.lost += 1;
            return;
        }
        let was_idle = state.is_idle();
        state.waiting.extend_from_slice(line);
        drop(state);
        if was_idle {
            self.0.wanted.notify_one();
        }
    }

    /// The loop of the writing thread.
    fn write(&self, mut output: impl Write, tell: impl Fn(u64)) {
        let mut taken = Vec::new();
        let mut state = self.lock();
        loop {
            state.busy = false;
            if state.is_idle() {
                self.0.done.notify_all();
                state = self
                    .0
                    .wanted
                    .wait_while(state, |state| state.is_idle())
                    .unwrap_or_else(PoisonError::into_inner);
            }
            state.busy = true;
            mem::swap(&mut taken, &mut state.waiting);
            let lost = mem::take(&mut state.lost);
            drop(state);
            // A failure to write the log cannot be logged.
            let _ = output.write_all(&taken).and_then(|()| output.flush());
            taken.clear();
            taken.shrink_to(KEPT);
            if lost > 0 {
                tell(lost);
            }
            state = self.lock();
        }
    }
}

impl Flush {
    /// Waits until all previous lines are written, at most for [`LAST_WORDS`].
    pub(super) fn wait(&self) {
        let shared = &self.0.0;
        let unwritten = |state: &mut BufferState| state.busy || !state.is_idle();
        drop(shared.done.wait_timeout_while(self.0.lock(), LAST_WORDS, unwritten));
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.wait();
    }
}

/// Each line is one write, so each write gets its own writer.
impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(&fit(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes to standard error without the buffer, at the end of the process.
pub(super) struct Direct;

impl Write for Direct {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(&fit(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Escapes control characters and line breaks in a line as JSON does, because values may contain foreign
/// text. Escape characters are kept, because colours use them; in values they are already escaped.
fn fit(line: &[u8]) -> Cow<'_, [u8]> {
    let (body, end) = line.strip_suffix(b"\n").map_or((line, ""), |body| (body, "\n"));
    if body.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\x1b')) {
        return Cow::Borrowed(line);
    }
    let body = String::from_utf8_lossy(body).replace('\n', "\\n");
    let parts: Vec<_> = body.split('\x1b').map(printable_json).collect();
    Cow::Owned((parts.join("\x1b") + end).into_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    #[test]
    fn no_value_steers_a_terminal_or_begins_a_line() {
        for (line, shown) in [
            ("plain\n", "plain\n"),
            ("\x1b[32mINFO\x1b[0m name=\u{9b}2J\u{202e}\n", "\x1b[32mINFO\x1b[0m name=\\u009b2J\\u202e\n"),
            ("a\nERROR forged\tä\n", "a\\nERROR forged\\u0009ä\n"),
            ("{\"a\":\"\u{85}\"}\n", "{\"a\":\"\\u0085\"}\n"),
        ] {
            assert_eq!(String::from_utf8(fit(line.as_bytes()).into_owned()).unwrap(), shown);
        }
    }

    /// An output that accepts one piece each time it is told to.
    struct Held {
        go: Receiver<()>,
        taken: Sender<String>,
    }

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.go.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            let _ = self.taken.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Lines with little room, with channels: to release a piece, for the released pieces, and for the
    /// reported numbers of lost lines.
    fn held(room: usize) -> (Lines, Flush, Sender<()>, Receiver<String>, Receiver<u64>) {
        let (allow, go) = mpsc::channel();
        let (taken, out) = mpsc::channel();
        let (told, losses) = mpsc::channel();
        let tell = move |lost| told.send(lost).unwrap_or_default();
        let (lines, flush) = Lines::with_room(room, Held { go, taken }, tell).unwrap();
        (lines, flush, allow, out, losses)
    }

    #[test]
    fn nobody_waits_for_an_output_that_takes_nothing_and_what_is_lost_is_told() {
        let (lines, flush, allow, out, losses) = held(8);
        lines.push(b"one\n");
        // The thread has the first line now, or will have it; it does not block the others.
        while !lines.lock().waiting.is_empty() {
            thread::yield_now();
        }
        lines.push(b"two\n");
        lines.push(b"three\n");
        lines.push(b"4\n");
        let waits = thread::spawn(move || drop(flush));
        waits.join().unwrap();
        for _ in 0..2 {
            allow.send(()).unwrap();
        }
        assert_eq!(out.recv().unwrap(), "one\n");
        assert_eq!(out.recv().unwrap(), "two\n");
        assert_eq!(losses.recv().unwrap(), 2, "the one without room, and the one that follows it");
        lines.push(b"five\n");
        allow.send(()).unwrap();
        assert_eq!(out.recv().unwrap(), "five\n", "there is room again");
    }

    #[test]
    fn the_end_waits_for_all_lines() {
        for round in 0..200 {
            let (lines, flush, allow, out, _losses) = held(1000);
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let lines = lines.clone();
                    thread::spawn(move || {
                        for line in 0..10 {
                            lines.push(format!("{writer}{line}\n").as_bytes());
                        }
                    })
                })
                .collect();
            for _ in 0..40 {
                allow.send(()).unwrap();
            }
            for writer in writers {
                writer.join().unwrap();
            }
            drop(flush);
            let mut written: Vec<String> = out
                .try_iter()
                .flat_map(|piece| piece.lines().map(str::to_owned).collect::<Vec<_>>())
                .collect();
            for writer in '0'..='3' {
                let own: Vec<_> = written.iter().filter(|line| line.starts_with(writer)).collect();
                assert!(own.is_sorted() && own.len() == 10, "round {round}: {own:?}");
            }
            written.sort();
            written.dedup();
            assert_eq!(written.len(), 40, "round {round}");
        }
    }
}
