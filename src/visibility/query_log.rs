//! The sink of the query log: lines in a file. If they cannot be written, they are dropped, and it tries again.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::events::{Events, tell};
use crate::metrics::TapSeries;
use crate::tap::Sample;
use crate::visibility::line;
use crate::visibility::rotated::{MOST_BYTES, RotatedFile};
use crate::visibility::writer::SampleSink;

/// Lines are written once they have this many bytes, or when no more samples wait.
const WRITE_AT: usize = 64 << 10;
/// Pause after a failed write.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct QueryLogSink {
    file: RotatedFile,
    anonymize: bool,
    series: Arc<TapSeries>,
    events: Events,
    lines: Vec<u8>,
    /// The number of lines.
    count: u64,
    failing: Option<Failing>,
}

/// The file cannot be written.
struct Failing {
    again_at: Instant,
    dropped: u64,
}

impl QueryLogSink {
    pub(super) fn new(path: PathBuf, anonymize: bool, series: Arc<TapSeries>, events: Events) -> Self {
        Self::with_size(path, MOST_BYTES, anonymize, series, events)
    }

    fn with_size(
        path: PathBuf,
        most_bytes: u64,
        anonymize: bool,
        series: Arc<TapSeries>,
        events: Events,
    ) -> Self {
        let file = RotatedFile::new(path, most_bytes);
        let lines = Vec::with_capacity(2 * WRITE_AT);
        Self { file, anonymize, series, events, lines, count: 0, failing: None }
    }

    fn failed(&mut self, error: &io::Error) {
        let dropped = self.failing.as_ref().map_or(0, |failing| failing.dropped) + self.count;
        if self.failing.is_none() {
            let file = self.file.path().display().to_string();
            tell!(self.events.now(), warn, Server, file, %error,
                "the query log cannot be written; queries are answered, samples are dropped, and steerd tries again");
        }
        self.series.drop_samples(self.count);
        self.failing = Some(Failing { again_at: Instant::now() + PAUSE, dropped });
    }

    fn succeeded(&mut self) {
        self.series.write_samples(self.count);
        if let Some(Failing { dropped, .. }) = self.failing.take() {
            let file = self.file.path().display().to_string();
            tell!(self.events.now(), info, Server, file, dropped, "the query log can be written again");
        }
    }
}

impl SampleSink for QueryLogSink {
    fn take(&mut self, sample: &Sample) {
        self.count += 1;
        let is_paused = self.failing.as_ref().is_some_and(|failing| Instant::now() < failing.again_at);
        if !is_paused {
            line::append(&mut self.lines, sample, self.anonymize);
        }
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= WRITE_AT
    }

    fn flush(&mut self) {
        if self.lines.is_empty() {
            if let Some(failing) = &mut self.failing {
                failing.dropped += self.count;
                self.series.drop_samples(self.count);
                self.count = 0;
            }
            return;
        }
        match self.file.append(&self.lines) {
            Ok(()) => self.succeeded(),
            Err(error) => self.failed(&error),
        }
        self.lines.clear();
        self.count = 0;
    }

    fn close(&mut self) {}
}
