//! Query visibility: the query log and dnstap, in force by the configuration or switched by an operator for a time.
//!
//! ```text
//! configuration --.                                    .-- listeners: samples --> queue
//! operator, for a --> rate, destination --> taps in force                          |
//! limited time                                         `-- a thread each: lines in a file, frames in a socket
//! ```
//!
//! A thread runs only while its tap is on. It may wait for its file or its socket; nothing waits for it, and
//! samples that have no room meanwhile are counted as dropped. Nothing here decides about answers.

mod dnstap;
mod frames;
mod line;
mod query_log;
mod rotated;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::task::spawn_blocking;
use tracing::error;

use crate::duration::Shown;
use crate::events::{Events, tell};
use crate::listener::InForce;
use crate::metrics::{Metrics, TapSeries};
use crate::tap::{SampleRate, Tap, Taps};

use dnstap::DnstapSink;
use query_log::QueryLogSink;

/// The file of the query log if the configuration names none, in `state_dir`.
const DEFAULT_FILE: &str = "queries.jsonl";
/// How long a stopping server waits for the last samples to be written.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// `[server] query_log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryLogSettings {
    /// The share of the queries that are logged; none if it is only prepared.
    pub sample: SampleRate,
    /// The file.
    pub file: PathBuf,
    /// Whether addresses of clients are cut to their networks.
    pub anonymize: bool,
}

/// `[server] dnstap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnstapSettings {
    /// The share of the queries that are sent; none if it is only prepared.
    pub sample: SampleRate,
    /// The Unix socket on which a reader listens.
    pub socket: PathBuf,
    /// The name of this server in each message; empty for none.
    pub identity: String,
}

/// The configured query log and dnstap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VisibilitySettings {
    /// The query log.
    pub query_log: Option<QueryLogSettings>,
    /// dnstap.
    pub dnstap: Option<DnstapSettings>,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapKind {
    /// The query log.
    QueryLog,
    /// dnstap.
    Dnstap,
}

impl TapKind {
    /// The name in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueryLog => "the query log",
            Self::Dnstap => "dnstap",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Why a tap was not switched.
#[derive(Debug, thiserror::Error)]
pub enum NotSwitched {
    /// The query log has no file.
    #[error(
        "the query log has no file: set `query_log = {{ file = \"..\", sample = \"0%\" }}` under [server], or `state_dir`, \
         and reload"
    )]
    NoFile,
    /// dnstap has no socket.
    #[error(
        "dnstap has no socket: set `dnstap = {{ socket = \"..\", sample = \"0%\" }}` under [server], and reload"
    )]
    NoSocket,
    /// The thread cannot be started.
    #[error("the thread that writes the samples cannot be started: {0}")]
    Thread(#[source] io::Error),
}

/// The state of a tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapStatus {
    /// The share of the queries that are sampled now.
    pub sample: SampleRate,
    /// The share according to the configuration.
    pub configured: SampleRate,
    /// If an operator has switched it: until when, and who.
    pub switched: Option<(SystemTime, String)>,
    /// The file or the socket.
    pub destination: Option<PathBuf>,
    /// The number of samples written since the start.
    pub written: u64,
    /// The number of samples lost since the start.
    pub dropped: u64,
}

/// The query log and dnstap of a server. Clones share them.
#[derive(Clone, Debug)]
pub struct Visibility(Arc<SharedVisibility>);

#[derive(Debug)]
struct SharedVisibility {
    limits: InForce,
    metrics: Arc<Metrics>,
    events: Events,
    /// Indexed by [`TapKind::index`].
    parts: Mutex<[TapState; 2]>,
}

#[derive(Debug, Default)]
struct TapState {
    configured: SampleRate,
    destination: Option<SampleDestination>,
    switched: Option<SwitchedTap>,
    running: Option<RunningTap>,
    /// The thread of the last tap, which may still write its last samples.
    last: Option<JoinHandle<()>>,
    /// How often an operator has switched it.
    times: u64,
}

/// Where samples go.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SampleDestination {
    File { path: PathBuf, anonymize: bool },
    Socket { path: PathBuf, identity: String },
}

impl SampleDestination {
    fn path(&self) -> &Path {
        match self {
            Self::File { path, .. } | Self::Socket { path, .. } => path,
        }
    }
}

/// The setting of an operator, for a time.
#[derive(Clone, Debug)]
struct SwitchedTap {
    rate: SampleRate,
    until: SystemTime,
    by: String,
}

#[derive(Debug)]
struct RunningTap {
    tap: Arc<Tap>,
    destination: SampleDestination,
}

impl TapState {
    fn rate(&self) -> SampleRate {
        self.switched.as_ref().map_or(self.configured, |switched| switched.rate)
    }

    /// Starts, changes or ends the tap as wanted.
    fn follow(&mut self, series: &Arc<TapSeries>, events: &Events) -> (Option<Arc<Tap>>, io::Result<()>) {
        let rate = self.rate();
        series.show_rate(if self.destination.is_some() { rate.as_float() } else { 0.0 });
        let wanted = self.destination.clone().filter(|_| !rate.is_none());
        match (&self.running, wanted) {
            (Some(running), Some(wanted)) if running.destination == wanted => {
                running.tap.set_rate(rate);
                (None, Ok(()))
            }
            (_, None) => (self.running.take().map(|running| running.tap), Ok(())),
            (_, Some(destination)) => {
                let ended = self.running.take().map(|running| running.tap);
                let tap = Arc::new(Tap::new(rate, Arc::clone(series)));
                let started = match destination.clone() {
                    SampleDestination::File { path, anonymize } => {
                        let sink = QueryLogSink::new(path, anonymize, Arc::clone(series), events.clone());
                        writer::start("query-log", Arc::clone(&tap), sink, self.last.take())
                    }
                    SampleDestination::Socket { path, identity } => {
                        let sink = DnstapSink::new(path, &identity, Arc::clone(series), events.clone());
                        writer::start("dnstap", Arc::clone(&tap), sink, self.last.take())
                    }
                };
                let outcome = started.map(|thread| {
                    self.last = Some(thread);
                    self.running = Some(RunningTap { tap, destination });
                });
                if outcome.is_err() {
                    series.show_rate(0.0);
                }
                (ended, outcome)
            }
        }
    }
}

impl Visibility {
    /// Nothing is on.
    #[must_use]
    pub fn new(limits: InForce, metrics: Arc<Metrics>, events: Events) -> Self {
        Self(Arc::new(SharedVisibility { limits, metrics, events, parts: Mutex::default() }))
    }

    /// Follows a configuration. An operator's wish stays in force until its end.
    pub fn configure(&self, settings: &VisibilitySettings, state_dir: Option<&Path>) {
        let VisibilitySettings { query_log, dnstap } = settings;
        let mut parts = self.parts();
        let [log, tap] = &mut *parts;
        log.configured = query_log.as_ref().map_or(SampleRate::NONE, |log| log.sample);
        log.destination = match query_log {
            Some(QueryLogSettings { file, anonymize, .. }) => {
                Some(SampleDestination::File { path: file.clone(), anonymize: *anonymize })
            }
            None => state_dir.map(|directory| SampleDestination::File {
                path: directory.join(DEFAULT_FILE),
                anonymize: false,
            }),
        };
        tap.configured = dnstap.as_ref().map_or(SampleRate::NONE, |tap| tap.sample);
        tap.destination = dnstap.as_ref().map(|DnstapSettings { socket, identity, .. }| {
            SampleDestination::Socket { path: socket.clone(), identity: identity.clone() }
        });
        for kind in [TapKind::QueryLog, TapKind::Dnstap] {
            if let Err(error) = self.follow(&mut parts, kind) {
                error!(%error, "{} is off, because its thread cannot be started; a reload tries it again", kind.as_str());
            }
        }
    }

    /// Samples at this rate for a time; a rate of 0 % switches off what the configuration has on. Must be called within
    /// a tokio runtime, which ends it.
    ///
    /// # Errors
    /// If there is no destination, or the thread cannot be started.
    pub fn switch(
        &self,
        kind: TapKind,
        rate: SampleRate,
        length: Duration,
        by: &str,
    ) -> Result<TapStatus, NotSwitched> {
        let mut parts = self.parts();
        let Some(part) = parts.get_mut(kind.index()) else { return Err(NotSwitched::NoFile) };
        let Some(destination) = part.destination.as_ref().map(|place| place.path().display().to_string())
        else {
            return Err(match kind {
                TapKind::QueryLog => NotSwitched::NoFile,
                TapKind::Dnstap => NotSwitched::NoSocket,
            });
        };
        let until = SystemTime::now() + length;
        let before = part.switched.replace(SwitchedTap { rate, until, by: by.to_owned() });
        part.times += 1;
        let times = part.times;
        if let Err(error) = self.follow(&mut parts, kind) {
            if let Some(part) = parts.get_mut(kind.index()) {
                part.switched = before;
                // The end of the earlier switch is still to come.
                part.times -= 1;
            }
            return Err(NotSwitched::Thread(error));
        }
        let (length_shown, rate_shown) = (Shown(length), rate);
        tell!(self.0.events.now(), info, Server, by, destination, sample = %rate_shown, length = %length_shown,
            "{} was switched for a time", kind.as_str());
        let visibility = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(length).await;
            visibility.end_switched(kind, Some(times), "its time is over");
        });
        Ok(self.status_of(&parts, kind))
    }

    /// Ends what an operator has switched, so that the configuration decides again.
    pub fn end(&self, kind: TapKind, by: &str) {
        self.end_switched(kind, None, by);
    }

    /// Ends what was switched, if it is still that of this time.
    fn end_switched(&self, kind: TapKind, times: Option<u64>, by: &str) {
        let mut parts = self.parts();
        let Some(part) = parts.get_mut(kind.index()) else { return };
        if times.is_some_and(|times| times != part.times) || part.switched.take().is_none() {
            return;
        }
        let sample = part.configured;
        if let Err(error) = self.follow(&mut parts, kind) {
            error!(%error, "{} is off, because its thread cannot be started; a reload tries it again", kind.as_str());
        }
        tell!(self.0.events.now(), info, Server, by, sample = %sample, "{} follows the configuration again", kind.as_str());
    }

    /// The state of a tap.
    #[must_use]
    pub fn status(&self, kind: TapKind) -> TapStatus {
        self.status_of(&self.parts(), kind)
    }

    /// Ends the taps and waits for a short time until what they have is written.
    pub async fn stop(&self) {
        let threads: Vec<JoinHandle<()>> = {
            let mut parts = self.parts();
            self.0.limits.tap(&Taps::default());
            for running in parts.iter_mut().filter_map(|part| part.running.take()) {
                running.tap.end();
            }
            parts.iter_mut().filter_map(|part| part.last.take()).collect()
        };
        let joined = spawn_blocking(|| threads.into_iter().for_each(|thread| drop(thread.join())));
        let _ = tokio::time::timeout(STOP_PATIENCE, joined).await;
    }

    fn parts(&self) -> MutexGuard<'_, [TapState; 2]> {
        self.0.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn series(&self, kind: TapKind) -> &Arc<TapSeries> {
        let taps = &self.0.metrics.taps;
        match kind {
            TapKind::QueryLog => &taps.query_log,
            TapKind::Dnstap => &taps.dnstap,
        }
    }

    /// Brings a part into force. The replaced tap ends only after the listeners have the new one.
    fn follow(&self, parts: &mut [TapState; 2], kind: TapKind) -> io::Result<()> {
        let Some(part) = parts.get_mut(kind.index()) else { return Ok(()) };
        let (ended, outcome) = part.follow(self.series(kind), &self.0.events);
        let [query_log, dnstap] =
            parts.each_ref().map(|part| part.running.as_ref().map(|running| Arc::clone(&running.tap)));
        self.0.limits.tap(&Taps { query_log, dnstap });
        if let Some(ended) = ended {
            ended.end();
        }
        outcome
    }

    fn status_of(&self, parts: &[TapState; 2], kind: TapKind) -> TapStatus {
        let (series, nothing) = (self.series(kind), TapState::default());
        let part = parts.get(kind.index()).unwrap_or(&nothing);
        TapStatus {
            sample: part.running.as_ref().map_or(SampleRate::NONE, |_| part.rate()),
            configured: part.configured,
            switched: part.switched.as_ref().map(|switched| (switched.until, switched.by.clone())),
            destination: part.destination.as_ref().map(|destination| destination.path().to_owned()),
            written: series.written(),
            dropped: series.dropped(),
        }
    }
}
