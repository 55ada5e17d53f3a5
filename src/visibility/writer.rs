//! The thread of a tap: takes samples from the queue and hands them to a sink.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::sys::udp::RECEIVE_TIMEOUT;
use crate::tap::{Sample, Tap};

/// The shortest and the longest pause when the queue is empty. A listener never wakes this thread, because that would
/// be a system call; the queue holds the samples of the longest pause.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// Where samples go.
pub(super) trait SampleSink: Send + 'static {
    /// Takes a sample into its buffer.
    fn take(&mut self, sample: &Sample);
    /// Whether the buffer should be written now.
    fn is_full(&self) -> bool;
    /// Writes the buffer. Samples that cannot be written are counted as dropped.
    fn flush(&mut self);
    /// Ends in order.
    fn close(&mut self);
}

/// Starts the thread. It first waits for `last`, the thread before it, which may still have the file or the socket.
pub(super) fn start(
    name: &str,
    tap: Arc<Tap>,
    sink: impl SampleSink,
    last: Option<JoinHandle<()>>,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(move || {
        // A panic has been logged already.
        let _ = last.map(JoinHandle::join);
        run(&tap, sink);
    })
}

fn run(tap: &Tap, mut sink: impl SampleSink) {
    let mut pause = SHORTEST_PAUSE;
    // A sink that connects does so before the first sample.
    sink.flush();
    loop {
        let has_ended = tap.has_ended();
        if has_ended {
            // A worker that waits for queries may still have this tap for so long.
            thread::sleep(2 * RECEIVE_TIMEOUT);
        }
        let mut was_empty = true;
        while tap.next(|sample| sink.take(sample)).is_some() {
            was_empty = false;
            if sink.is_full() {
                sink.flush();
            }
        }
        sink.flush();
        if has_ended {
            return sink.close();
        }
        pause = if was_empty { (pause * 2).min(LONGEST_PAUSE) } else { SHORTEST_PAUSE };
        thread::sleep(pause);
    }
}
