//! Captures the log lines of a test.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock};

use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::fmt::MakeWriter;

/// The log lines of this thread, while the guard exists.
#[derive(Clone, Default)]
pub struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl CapturedLog {
    /// Captures the lines of this thread until the guard is dropped.
    pub fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        // While tracing knows only one subscriber, it asks that one, on whichever thread comes first,
        // whether a line is wanted, and caches the answer. That thread may belong to a test that does
        // not listen.
        static ANOTHER: OnceLock<Dispatch> = OnceLock::new();
        ANOTHER.get_or_init(|| Dispatch::new(NoSubscriber::default()));
        let log = Self::default();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(log.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// Drains the log and returns the lines that contain this text.
    ///
    /// # Panics
    /// If a line is not UTF-8.
    pub fn take(&self, text: &str) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let all = String::from_utf8(bytes).unwrap();
        all.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

impl Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for CapturedLog {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
