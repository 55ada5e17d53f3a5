//! What keeps the memory of a running server: the journal goes on, and snapshots are made of it.
//!
//! ```text
//!           +-- changes --> append to the journal --+
//! twice a second                                    +--> the journal is large: another one, and a
//!           +-- everything is new -> a new journal -+    snapshot from which it goes on
//! ```
//!
//! A snapshot is made beside this, so changes are appended while the checker tells everything and
//! while it is written.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use crate::checker::{Command, Handle, Memory, MemoryChanges};
use crate::metrics::Metrics;
use crate::state::disk::System;
use crate::state::journal::Journal;
use crate::state::{FILE, MAX_FILE, Place, disk, file, journals};

/// How often the checker is asked for what has changed: so often that what was said a second ago is
/// on the disk.
const PERIOD: Duration = Duration::from_millis(500);
/// A journal below this is not worth a snapshot, bytes. Above it, one is made when the journal is
/// larger than the snapshot, so that snapshots write no more than the journal does.
const SMALL: u64 = 1 << 20;
/// To make snapshots of large journals takes at most one part in so many of the time.
const SHARE: u32 = 20;
/// A record is written this often though nothing is new: by the age of the last one it is told what
/// the hints are worth.
const REFRESH: Duration = Duration::from_secs(600);
/// From a failed write to the next attempt.
const RETRY: Duration = Duration::from_secs(10);
/// The longest the checker may take to say what it knows.
const ASK_TIME: Duration = Duration::from_secs(5);
/// The longest the last write may hold up the end.
const STOP_TIME: Duration = Duration::from_secs(2);

/// Keeps the memory of a running server.
#[derive(Debug)]
pub struct Keeper {
    place: watch::Sender<Option<Place>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Begins to keep what the checker knows. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(place: Option<Place>, checker: Handle, metrics: Arc<Metrics>) -> Self {
        let (place, places) = watch::channel(place);
        let (stop, stopped) = watch::channel(false);
        let work = Work {
            places,
            place: None,
            checker,
            metrics,
            journal: None,
            appended: Instant::now(),
            snapshot: Snapshot::Wanted,
            not_before: Instant::now(),
            retry: Instant::now(),
            is_failing: false,
        };
        Self { place, stop, task: tokio::spawn(work.run(stopped)) }
    }

    /// Where to send another directory, or none, while this works. What is known is written there at
    /// once; what stands there already is not read.
    #[must_use]
    pub fn place(&self) -> watch::Sender<Option<Place>> {
        self.place.clone()
    }

    /// Writes what is new and ends, within seconds.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

struct Work {
    places: watch::Receiver<Option<Place>>,
    /// Where this writes.
    place: Option<Place>,
    checker: Handle,
    metrics: Arc<Metrics>,
    /// None until there is one, and when what follows cannot be appended to it.
    journal: Option<Journal<File>>,
    /// When the last record was appended.
    appended: Instant,
    snapshot: Snapshot,
    /// When the next snapshot may be made because the journal is large.
    not_before: Instant,
    /// When to try again after a failure.
    retry: Instant,
    is_failing: bool,
}

/// The snapshot from which the journal goes on.
enum Snapshot {
    /// There is none, and it is not being made.
    Wanted,
    /// It is being made, of so many bytes in the end.
    Begun(Instant, JoinHandle<io::Result<u64>>),
    /// It has so many bytes.
    Made(u64),
}

impl Work {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut period = interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.place.clone_from(&self.places.borrow_and_update());
        loop {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => break,
                Ok(()) = self.places.changed() => self.move_on(),
                Some(made) = self.snapshot.made() => self.heed(made),
                _ = period.tick() => {}
            }
            self.turn(false).await;
        }
        if timeout(STOP_TIME, self.finish()).await.is_err() {
            warn!("health and overrides could not be written in time; what changed last is not remembered");
        }
    }

    /// Goes on in another directory. A snapshot that is being made is finished where it was begun.
    fn move_on(&mut self) {
        self.place.clone_from(&self.places.borrow_and_update());
        (self.journal, self.snapshot) = (None, Snapshot::Wanted);
        (self.not_before, self.retry) = (Instant::now(), Instant::now());
    }

    /// Writes what has changed, and begins a snapshot when it is time for one.
    async fn turn(&mut self, is_last: bool) {
        if self.place.is_none() {
            return;
        }
        let Some(changes) = self.changes().await else {
            // What was told and not received is in no journal.
            self.journal = None;
            return;
        };
        if changes.iter().any(|changes| changes.everything) {
            self.journal = None;
        }
        let is_empty = changes.iter().all(|changes| *changes == MemoryChanges::default());
        if !is_empty || is_last || self.appended.elapsed() >= REFRESH {
            self.append(changes).await;
        }
        let now = Instant::now();
        let is_due = match (&self.journal, &self.snapshot) {
            (_, Snapshot::Begun(..)) => false,
            (None, _) | (_, Snapshot::Wanted) => now >= self.retry,
            (Some(journal), Snapshot::Made(bytes)) => {
                journal.length >= (*bytes).clamp(SMALL, MAX_FILE / 2) && now >= self.not_before
            }
        };
        if is_due {
            self.begin_snapshot().await;
        }
    }

    /// The last words: what has changed, and a snapshot if it would be worth nothing without.
    async fn finish(&mut self) {
        if self.places.has_changed().unwrap_or(false) {
            self.move_on();
        }
        self.turn(true).await;
        // The journal of a snapshot that was made before goes on without a new one.
        let is_needed = |work: &Self| work.journal.is_none() || !matches!(work.snapshot, Snapshot::Made(_));
        while self.place.is_some() && is_needed(self) {
            match self.snapshot.made().await {
                Some(made) => self.heed(made),
                None => break,
            }
            if self.is_failing {
                break;
            }
            self.turn(true).await;
        }
    }

    /// What has changed since this was last asked.
    async fn changes(&self) -> Option<Vec<MemoryChanges>> {
        let ask = async {
            let mut all = Vec::new();
            loop {
                let (reply, changes) = oneshot::channel();
                self.checker.commands.send(Command::MemoryChanges(reply)).await.ok()?;
                let changes = changes.await.ok()?;
                let more = changes.more;
                all.push(MemoryChanges { more: false, ..changes });
                if !more {
                    return Some(all);
                }
            }
        };
        timeout(ASK_TIME, ask).await.ok().flatten()
    }

    async fn append(&mut self, changes: Vec<MemoryChanges>) {
        let (Some(mut place), Some(mut journal)) = (self.place.clone(), self.journal.take()) else { return };
        let appended = spawn_blocking(move || {
            let appended = place
                .hold()
                .map_err(io::Error::other)
                .and_then(|()| journal.append(&mut System, changes, SystemTime::now()));
            (place, appended.map(|()| journal))
        });
        // A panic of the other thread has been told by itself.
        let Ok((place, appended)) = appended.await else { return self.move_on() };
        self.place = Some(place);
        match appended {
            Ok(journal) => (self.journal, self.appended) = (Some(journal), Instant::now()),
            Err(error) => self.fail(&error),
        }
    }

    /// Begins another journal, unless this one waits for its snapshot, and a snapshot from which it
    /// goes on.
    async fn begin_snapshot(&mut self) {
        let Some(mut place) = self.place.clone() else { return };
        if self.journal.is_none() || matches!(self.snapshot, Snapshot::Made(_)) {
            self.journal = None;
            let begun = spawn_blocking(move || {
                let begun = place.hold().map_err(io::Error::other).and_then(|()| begin(place.directory()));
                (place, begun)
            });
            let Ok((held, begun)) = begun.await else { return self.move_on() };
            place = held;
            self.place = Some(place.clone());
            match begun {
                Ok(journal) => (self.journal, self.appended) = (Some(journal), Instant::now()),
                Err(error) => return self.fail(&error),
            }
        }
        let Some(number) = self.journal.as_ref().map(|journal| journal.number) else { return };
        let (reply, memory) = oneshot::channel();
        // Sent before the next question for changes: those are counted from here.
        if self.checker.commands.send(Command::Memory(reply)).await.is_err() {
            return;
        }
        let making = tokio::spawn(async move {
            let told = timeout(ASK_TIME, memory).await.ok().and_then(Result::ok);
            let memory =
                told.ok_or_else(|| io::Error::other("the health checker does not say what it knows"))?;
            spawn_blocking(move || write(&place, memory, number)).await.map_err(io::Error::other)?
        });
        self.snapshot = Snapshot::Begun(Instant::now(), making);
    }

    /// Takes note of how a snapshot ended.
    fn heed(&mut self, made: io::Result<u64>) {
        let Snapshot::Begun(began, _) = std::mem::replace(&mut self.snapshot, Snapshot::Wanted) else {
            return;
        };
        match made {
            Ok(bytes) => {
                self.snapshot = Snapshot::Made(bytes);
                self.not_before = Instant::now() + began.elapsed() * SHARE;
                if std::mem::take(&mut self.is_failing) {
                    info!("health and overrides are written again");
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.metrics.operation.state_write_failed();
        self.retry = Instant::now() + RETRY;
        if !std::mem::replace(&mut self.is_failing, true) {
            warn!(%error, "health and overrides cannot be written; they would not survive a restart. steerd goes on, and tries again every {RETRY:?}");
        }
    }
}

impl Snapshot {
    /// Waits for one that is being made; none when that is not so.
    async fn made(&mut self) -> Option<io::Result<u64>> {
        let Self::Begun(_, making) = self else { return None };
        Some(making.await.unwrap_or_else(|broken| Err(io::Error::other(broken))))
    }
}

/// Begins the journal after the last one. Blocks.
fn begin(directory: &Path) -> io::Result<Journal<File>> {
    let number = journals(directory).last().map_or(1, |(number, _)| number.saturating_add(1));
    Journal::begin(&mut System, directory, number)
}

/// Writes a snapshot from which the journal of this number goes on, deletes those before, and says
/// how many bytes it has. Blocks.
fn write(place: &Place, memory: Memory, number: u64) -> io::Result<u64> {
    let text = file::encode(memory, number, SystemTime::now())?;
    let length = text.len() as u64;
    if length > MAX_FILE {
        return Err(io::Error::other(format!("there is more to remember than {} MiB", MAX_FILE >> 20)));
    }
    disk::replace(&mut System, &place.directory().join(FILE), text.as_bytes())?;
    for (_, path) in journals(place.directory()).into_iter().filter(|(other, _)| *other < number) {
        fs::remove_file(&path)?;
    }
    Ok(length)
}
