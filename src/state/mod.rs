//! What survives a restart: health and operators' overrides, in one file of `state_dir`.
//!
//! ```text
//! start   read the file -> a memory, as hints for the checker; what is no good file is set aside
//! work    the table has changed -> ask the checker -> write, if there is something new in it
//! stop    write once more
//! ```
//!
//! Nothing here stops a start or an answer: a file that cannot be read is an empty memory, and one
//! that cannot be written is a warning. What a remembered state is worth is `checker`'s to say.

mod disk;
mod file;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use crate::checker::{Command, Handle, Memory};
use crate::metrics::Metrics;
use crate::state::disk::System;

pub use file::HINT_AGE;

/// The file in `state_dir`.
pub const FILE: &str = "health.json";
/// The largest file that is read or written, bytes: a million addresses with names as long as they
/// usually are. One that is larger is not ours.
pub const MAX_FILE: u64 = 256 << 20;
/// How many damaged files are kept for someone to look at.
const MAX_DAMAGED: usize = 5;
/// Between the name of the file and the time at which it was set aside.
const DAMAGED: &str = "damaged-";

/// How often it is looked whether there is anything new. It is written at most this often.
const PERIOD: Duration = Duration::from_secs(1);
/// Writing takes at most one part in so many of the time: with 100,000 backends the file is large.
const SHARE: u32 = 20;
/// The file is written this often though nothing is new: by its age it is told what its hints are
/// worth.
const REFRESH: Duration = Duration::from_secs(600);
/// From a failed write to the next attempt.
const RETRY: Duration = Duration::from_secs(10);
/// The longest the checker may take to say what it knows.
const ASK_TIME: Duration = Duration::from_secs(5);
/// The longest the last write may hold up the end.
const STOP_TIME: Duration = Duration::from_secs(2);

/// Reads what is remembered in a directory. Blocks.
///
/// A file that is damaged, foreign or of a later version is renamed, so that someone can look at it.
#[must_use]
pub fn recall(directory: &Path, now: SystemTime) -> Memory {
    let path = directory.join(FILE);
    let refused = match read(&path) {
        Ok(None) => {
            info!(file = %path.display(), "nothing is remembered yet: there is no such file");
            return Memory::default();
        }
        Ok(Some(bytes)) => match file::decode(&bytes, now) {
            Ok(recalled) => {
                let age = recalled.age;
                let Memory { states, overrides } = &recalled.memory;
                let (states, overrides) = (states.len(), overrides.len());
                info!(file = %path.display(), ?age, states, overrides, "health and overrides are remembered");
                if recalled.too_old {
                    warn!(?age, limit = ?HINT_AGE, "the remembered states are too old to be of use; overrides are not");
                }
                return recalled.memory;
            }
            Err(refused) => refused.to_string(),
        },
        Err(error) => error.to_string(),
    };
    let file = path.display();
    match set_aside(&path, now) {
        Ok(aside) => {
            let aside = aside.display();
            warn!(%file, reason = refused, renamed = %aside, "the memory of health and overrides is no good file; it starts empty");
        }
        Err(error) => {
            warn!(%file, reason = refused, %error, "the memory of health and overrides is no good file and cannot be renamed; it starts empty");
        }
    }
    Memory::default()
}

/// The bytes of the file; none when there is no file.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Looked at first: to open a pipe would wait for whoever writes to it.
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let too_large = || io::Error::other(format!("it is larger than {} MiB", MAX_FILE >> 20));
    if metadata.len() > MAX_FILE {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    // It may have grown meanwhile.
    if bytes.len() as u64 > MAX_FILE { Err(too_large()) } else { Ok(Some(bytes)) }
}

/// Renames a file that is no good, and deletes the oldest of those beyond [`MAX_DAMAGED`].
fn set_aside(path: &Path, now: SystemTime) -> io::Result<PathBuf> {
    let time = Timestamp::try_from(now).unwrap_or(Timestamp::UNIX_EPOCH);
    // Of one length, so that the order of the names is that of the times.
    let name = format!("{FILE}.{DAMAGED}{time:.9}");
    let aside = path.with_file_name(name);
    fs::rename(path, &aside)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut damaged: Vec<_> = fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .filter(|name| name.to_string_lossy().starts_with(&format!("{FILE}.{DAMAGED}")))
        .collect();
    damaged.sort();
    let surplus = damaged.len().saturating_sub(MAX_DAMAGED);
    for name in damaged.iter().take(surplus) {
        let old = directory.join(name);
        if let Err(error) = fs::remove_file(&old) {
            warn!(file = %old.display(), %error, "cannot delete an old damaged file");
        }
    }
    Ok(aside)
}

/// Keeps the memory of a running server.
#[derive(Debug)]
pub struct Keeper {
    directory: watch::Sender<Option<PathBuf>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Begins to keep what the checker knows. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(directory: Option<PathBuf>, checker: Handle, metrics: Arc<Metrics>) -> Self {
        let (directory, seen) = watch::channel(directory);
        let (stop, stopped) = watch::channel(false);
        let work = Work {
            directory: seen,
            checker,
            metrics,
            written: None,
            generation: None,
            not_before: Instant::now(),
            is_failing: false,
        };
        Self { directory, stop, task: tokio::spawn(work.run(stopped)) }
    }

    /// Where to send another directory, or none, while this works. What is known is written there at
    /// once; what stands there already is not read.
    #[must_use]
    pub fn directory(&self) -> watch::Sender<Option<PathBuf>> {
        self.directory.clone()
    }

    /// Writes what is new and ends, within seconds.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

struct Work {
    directory: watch::Receiver<Option<PathBuf>>,
    checker: Handle,
    metrics: Arc<Metrics>,
    /// What the file says, and since when.
    written: Option<(file::Fingerprint, Instant)>,
    /// Of the table when the checker was last asked.
    generation: Option<u64>,
    not_before: Instant,
    is_failing: bool,
}

impl Work {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut period = interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => break,
                Ok(()) = self.directory.changed() => {
                    (self.written, self.generation) = (None, None);
                    self.not_before = Instant::now();
                }
                _ = period.tick() => {}
            }
            if Instant::now() >= self.not_before && self.is_due() {
                self.keep().await;
            }
        }
        if timeout(STOP_TIME, self.keep()).await.is_err() {
            warn!("health and overrides could not be written in time; what changed last is not remembered");
        }
    }

    /// Whether there may be something new: every change of health and every override makes a table.
    fn is_due(&self) -> bool {
        self.generation != Some(self.checker.published.load().generation)
            || self.written.as_ref().is_none_or(|(_, since)| since.elapsed() >= REFRESH)
    }

    /// Writes what the checker knows, unless the file says it already and is not old.
    async fn keep(&mut self) {
        let Some(directory) = self.directory.borrow_and_update().clone() else { return };
        let generation = self.checker.published.load().generation;
        let Some(memory) = self.ask().await else { return };
        let began = Instant::now();
        let known = self.written.as_ref().filter(|(_, since)| since.elapsed() < REFRESH);
        let known = known.map(|(fingerprint, _)| *fingerprint);
        let written = spawn_blocking(move || write(&directory, memory, known)).await;
        // A panic of the other thread has been told by itself.
        let Ok(written) = written else { return };
        self.not_before = Instant::now() + PERIOD.max(began.elapsed() * SHARE);
        match written {
            Ok(fingerprint) => {
                if known != Some(fingerprint) {
                    self.written = Some((fingerprint, began));
                }
                self.generation = Some(generation);
                if std::mem::take(&mut self.is_failing) {
                    info!("health and overrides are written again");
                }
            }
            Err(error) => {
                self.metrics.operation.state_write_failed();
                self.not_before = Instant::now() + RETRY;
                self.generation = None;
                if !std::mem::replace(&mut self.is_failing, true) {
                    warn!(%error, "health and overrides cannot be written; they would not survive a restart. steerd goes on, and tries again every {RETRY:?}");
                }
            }
        }
    }

    async fn ask(&self) -> Option<Memory> {
        let ask = async {
            let (reply, memory) = oneshot::channel();
            self.checker.commands.send(Command::Memory(reply)).await.ok()?;
            memory.await.ok()
        };
        timeout(ASK_TIME, ask).await.ok().flatten()
    }
}

/// Writes a memory, unless it is `known` to be in the file. Blocks.
fn write(
    directory: &Path,
    memory: Memory,
    known: Option<file::Fingerprint>,
) -> io::Result<file::Fingerprint> {
    let body = file::Body::new(memory)?;
    let fingerprint = body.fingerprint();
    if known == Some(fingerprint) {
        return Ok(fingerprint);
    }
    let text = body.encode(SystemTime::now())?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("there is more to remember than {} MiB", MAX_FILE >> 20)));
    }
    disk::replace(&mut System, &directory.join(FILE), text.as_bytes())?;
    Ok(fingerprint)
}

#[cfg(test)]
mod tests;
