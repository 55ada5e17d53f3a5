//! Saves the memory of a running server: appends changes to the journal and makes snapshots.
//!
//! ```text
//! twice a second     ask for changes -> append them to the journal
//! from time to time  begin a journal -> ask for the whole memory -> write a snapshot that names it
//! ```
//!
//! ```text
//!              +------ failed ------+     the journal begun for it stays in use; try again
//!              v                    |
//! Snapshot:  Wanted --- begun --> Begun --- written --> Made
//!              ^                                         |
//!              +-- the journal is large, or everything --+
//!                  may have changed: new journal
//! ```
//!
//! A snapshot is made in the background, so changes are appended meanwhile. No change is lost
//! between the checker and the disk: the checker keeps it until the keeper asks for it, and then it
//! is pending here until it is appended. Only one journal operation runs at a time. A file system
//! that does not respond delays neither the stop of the server nor the switch to another directory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use crate::checker::{CheckerCommand, CheckerHandle};
use crate::fleet::{Memory, MemoryChanges, Survey};
use crate::metrics::Metrics;
use crate::state::disk::{Disk, System};
use crate::state::journal::Journal;
use crate::state::{FILE, MAX_FILE, MAX_JOURNALS, StateDirectory, disk, file, journals};

/// How often the checker is asked for changes. A change is on disk within a second.
const PERIOD: Duration = Duration::from_millis(500);
/// Up to this size, a journal causes no snapshot, bytes. Above it, a journal causes a snapshot if
/// it is larger than the last one, so that snapshots write no more bytes than the journal.
const SMALL: u64 = 1 << 20;
/// Maximum length of a journal, bytes. At this length the next one is begun, with or without a
/// snapshot, because a journal longer than [`MAX_FILE`] would not be read.
const LONG: u64 = MAX_FILE / 2;
/// Maximum number of answers from the checker that are appended at once: a tenth of [`MAX_FILE`]
/// with names of typical length.
const ANSWERS_AT_ONCE: usize = 32;
/// Snapshots because of large journals take at most one part in this many of the time.
const SHARE: u32 = 20;
/// A record is written this often even without changes, because the time of the last write decides
/// how old the hints are.
const REFRESH: Duration = Duration::from_secs(600);
/// The time from a failed write to the next attempt. A write that takes longer counts as failed.
const RETRY: Duration = Duration::from_secs(10);
/// Timeout for an answer from the checker.
const ASK_TIME: Duration = Duration::from_secs(5);
/// Why nothing survives a restart.
const NO_PLACE: &str = "no state_dir is set under [server]";
/// Why nothing survives a restart although there is a directory.
pub const NOT_WRITTEN: &str = "state_dir cannot be written; the log says why";
/// The longest time by which a write may delay the stop, or the release of the directory.
const STOP_TIME: Duration = Duration::from_secs(2);

/// Saves the memory of a running server.
#[derive(Debug)]
pub struct Keeper {
    place: watch::Sender<Option<StateDirectory>>,
    lost_because: watch::Receiver<Option<&'static str>>,
    releases: mpsc::Sender<oneshot::Sender<bool>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Starts saving the state of the checker. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(place: Option<StateDirectory>, checker: CheckerHandle, metrics: Arc<Metrics>) -> Self {
        Self::start_on(System, place, checker, metrics)
    }

    /// Like [`Keeper::start`], on another disk.
    pub(super) fn start_on<D: Disk>(
        disk: D,
        place: Option<StateDirectory>,
        checker: CheckerHandle,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (place, places) = watch::channel(place);
        let (stop, stopped) = watch::channel(false);
        let (lost, lost_because) = watch::channel(place.borrow().is_none().then_some(NO_PLACE));
        let work = Work {
            disk,
            place: None,
            checker,
            metrics,
            asked: None,
            pending: Vec::new(),
            is_whole_needed: false,
            journal: None,
            writing: None,
            earlier: 0,
            appended: Instant::now(),
            snapshot: SnapshotProgress::Wanted,
            not_before: Instant::now(),
            retry: Instant::now(),
            is_failing: false,
            is_full: false,
            lost,
        };
        let (releases, released) = mpsc::channel(1);
        let task = tokio::spawn(work.run(places, released, stopped));
        Self { place, lost_because, releases, stop, task }
    }

    /// A sender for changing or removing the directory while this runs. The memory is written to
    /// the new directory at once; files that exist there are not read.
    #[must_use]
    pub fn place(&self) -> watch::Sender<Option<StateDirectory>> {
        self.place.clone()
    }

    /// Leaves the directory to another process: nothing is being written there any more. Returns false if a write takes
    /// longer than two seconds; then this one goes on to write.
    pub async fn release(&self) -> bool {
        let (reply, released) = oneshot::channel();
        // A task that has ended writes nothing.
        let released = self.releases.send(reply).await.is_err() || released.await.unwrap_or(true);
        if released {
            self.place.send_replace(None);
        }
        released
    }

    /// Why the current memory would not survive a restart; none if it would.
    #[must_use]
    pub fn lost_because(&self) -> watch::Receiver<Option<&'static str>> {
        self.lost_because.clone()
    }

    /// Writes the last changes and ends, within seconds.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

struct Work<D: Disk> {
    disk: D,
    /// The directory for the files.
    place: Option<StateDirectory>,
    checker: CheckerHandle,
    metrics: Arc<Metrics>,
    /// The outstanding answer from the checker. It is awaited until it arrives, so that no changes
    /// are lost.
    asked: Option<oneshot::Receiver<MemoryChanges>>,
    /// Changes that may not be in a journal yet.
    pending: Vec<MemoryChanges>,
    /// Whether a snapshot is needed, whatever the length of the journal.
    is_whole_needed: bool,
    /// `None` before the first journal, during a write, and after a failed write.
    journal: Option<Journal<D::File>>,
    /// The running operation on a journal.
    writing: Option<JoinHandle<Written<D::File>>>,
    /// Bytes of earlier journals that are needed until the next snapshot.
    earlier: u64,
    /// When the last record was appended.
    appended: Instant,
    snapshot: SnapshotProgress,
    /// The earliest time for a snapshot because of a large journal.
    not_before: Instant,
    /// The earliest time for the next attempt after a failure.
    retry: Instant,
    is_failing: bool,
    /// Whether nothing is appended because the journals have reached their maximum size.
    is_full: bool,
    /// See [`Keeper::lost_because`].
    lost: watch::Sender<Option<&'static str>>,
}

/// The result of an operation on a journal.
struct Written<F> {
    /// With its lock, if it could be locked.
    place: StateDirectory,
    /// How many pending changes are now in the journal.
    appended: usize,
    /// The journal to use from now on, and the bytes of earlier ones.
    journal: io::Result<(Journal<F>, u64)>,
}

/// The state of the snapshot that the journal continues.
enum SnapshotProgress {
    /// There is none, and none is in progress.
    Wanted,
    /// In progress: since when, the first journal that continues it, and its size once it is done.
    Begun(Instant, u64, JoinHandle<io::Result<u64>>),
    /// Written, with this size in bytes.
    Made(u64),
}

impl<D: Disk> Work<D> {
    async fn run(
        mut self,
        mut places: watch::Receiver<Option<StateDirectory>>,
        mut releases: mpsc::Receiver<oneshot::Sender<bool>>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut period = interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.place.clone_from(&places.borrow_and_update());
        loop {
            // `work` may be cancelled at any await point, and later continues from there.
            tokio::select! {
                biased;
                () = async { drop(stopped.wait_for(|stop| *stop).await) } => break,
                Ok(()) = places.changed() => self.move_on(places.borrow_and_update().clone()),
                Some(reply) = releases.recv() => {
                    let is_settled = timeout(STOP_TIME, self.settle()).await.is_ok();
                    if is_settled {
                        self.move_on(None);
                    }
                    let _ = reply.send(is_settled);
                }
                () = self.work(&mut period) => {}
            }
        }
        if places.has_changed().unwrap_or(false) {
            self.move_on(places.borrow_and_update().clone());
        }
        if timeout(STOP_TIME, self.finish()).await.is_err() {
            warn!("health and overrides could not be written in time; the last changes are lost");
        }
    }

    async fn work(&mut self, period: &mut Interval) {
        tokio::select! {
            biased;
            Some(made) = self.snapshot.made() => self.heed(made),
            _ = period.tick() => {}
        }
        self.turn(false).await;
        self.note_loss();
    }

    fn note_loss(&self) {
        self.lost.send_replace(match self.place {
            None => Some(NO_PLACE),
            Some(_) if self.is_failing || self.is_full => Some(NOT_WRITTEN),
            Some(_) => None,
        });
    }

    /// Waits until nothing is being written.
    async fn settle(&mut self) {
        self.written().await;
        if let Some(made) = self.snapshot.made().await {
            self.heed(made);
        }
    }

    /// Switches to another directory. A running write is finished in the old one.
    fn move_on(&mut self, place: Option<StateDirectory>) {
        self.place = place;
        (self.journal, self.writing, self.snapshot) = (None, None, SnapshotProgress::Wanted);
        (self.not_before, self.retry) = (Instant::now(), Instant::now());
        (self.is_whole_needed, self.is_full) = (true, false);
        self.note_loss();
    }

    /// Writes changes, and starts a snapshot if one is due.
    async fn turn(&mut self, is_last: bool) {
        self.written().await;
        if self.place.is_none() {
            return;
        }
        // This comes first, so that the changes reported in this turn can be appended.
        if self.journal.is_none() && Instant::now() >= self.retry {
            self.begin_journal().await;
        }
        loop {
            if self.fills_up() {
                break;
            }
            if self.journal.as_ref().is_some_and(|journal| journal.length >= LONG) {
                info!(
                    "the journal of health and overrides is large and waits for a snapshot; a new journal is started"
                );
                self.begin_journal().await;
            }
            if self.journal.is_none() {
                break;
            }
            let more = self.ask().await;
            if !self.pending.is_empty() || is_last || self.appended.elapsed() >= REFRESH {
                self.append().await;
            }
            if !more {
                break;
            }
        }
        if self.is_snapshot_due(Instant::now()) {
            self.begin_snapshot().await;
        }
    }

    /// Whether the journals have reached their maximum total size. The checker keeps later changes
    /// until a snapshot has replaced the journals.
    fn fills_up(&mut self) -> bool {
        let is_full = self.length() >= MAX_JOURNALS;
        if is_full && !self.is_full {
            let limit = MAX_JOURNALS >> 20;
            warn!(
                "the journals in state_dir have grown to {limit} MiB, because no snapshot can be written; changes of health and overrides are not written until one can"
            );
        }
        self.is_full = is_full;
        is_full
    }

    /// Total bytes of the journals that a start would read.
    fn length(&self) -> u64 {
        self.earlier + self.journal.as_ref().map_or(0, |journal| journal.length)
    }

    fn is_snapshot_due(&self, now: Instant) -> bool {
        let length = self.length();
        let is_due = match self.snapshot {
            SnapshotProgress::Begun(..) => false,
            SnapshotProgress::Wanted => true,
            SnapshotProgress::Made(bytes) => {
                let is_large = length >= bytes.clamp(SMALL, LONG) && now >= self.not_before;
                self.is_whole_needed || is_large || length >= LONG
            }
        };
        is_due && self.journal.is_some() && now >= self.retry
    }

    /// Writes the last changes, and a snapshot if the journal needs one.
    async fn finish(&mut self) {
        self.turn(true).await;
        // A complete snapshot only needs its journal.
        let is_needed =
            |work: &Self| work.journal.is_none() || !matches!(work.snapshot, SnapshotProgress::Made(_));
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

    /// Asks for changes. Returns whether there are more.
    async fn ask(&mut self) -> bool {
        while self.pending.len() < ANSWERS_AT_ONCE {
            if self.asked.is_none() {
                let (reply, asked) = oneshot::channel();
                let sent = self.checker.commands.send(CheckerCommand::MemoryChanges(reply));
                if !matches!(timeout(ASK_TIME, sent).await, Ok(Ok(()))) {
                    return false;
                }
                self.asked = Some(asked);
            }
            let Some(asked) = &mut self.asked else { return false };
            // A late answer is taken in the next turn.
            let Ok(told) = timeout(ASK_TIME, asked).await else { return false };
            self.asked = None;
            let Ok(changes) = told else { return false };
            self.is_whole_needed |= changes.everything;
            let more = changes.more;
            let changes = MemoryChanges { more: false, everything: false, ..changes };
            if changes != MemoryChanges::default() {
                self.pending.push(changes);
            }
            if !more {
                return false;
            }
        }
        true
    }

    async fn append(&mut self) {
        let Some(mut journal) = self.journal.take() else { return };
        let (changes, earlier) = (self.pending.clone(), self.earlier);
        self.write(changes.len(), move |disk, _| {
            journal.append(disk, changes, SystemTime::now())?;
            Ok((journal, earlier))
        });
        self.written().await;
    }

    /// Begins the next journal.
    async fn begin_journal(&mut self) {
        self.journal = None;
        self.write(0, begin);
        self.written().await;
    }

    /// Starts an operation on a journal. If it succeeds, the first `pending` changes are in the
    /// journal.
    fn write(
        &mut self,
        pending: usize,
        work: impl FnOnce(&mut D, &Path) -> io::Result<(Journal<D::File>, u64)> + Send + 'static,
    ) {
        let Some(mut place) = self.place.clone() else { return };
        let mut disk = self.disk.clone();
        self.writing = Some(spawn_blocking(move || {
            let held = place.hold().map_err(io::Error::other);
            let journal = held.and_then(|()| work(&mut disk, place.directory()));
            let appended = if journal.is_ok() { pending } else { 0 };
            Written { place, appended, journal }
        }));
    }

    /// Waits until the running operation is done.
    async fn written(&mut self) {
        let written = loop {
            let Some(writing) = &mut self.writing else { return };
            match timeout(RETRY, writing).await {
                Ok(written) => break written,
                Err(_) => {
                    self.fail(&io::Error::other(format!("the file system takes longer than {RETRY:?}")));
                }
            }
        };
        self.writing = None;
        // The panic was logged.
        let Ok(Written { place, appended, journal }) = written else {
            return self.move_on(self.place.clone());
        };
        self.place = Some(place);
        self.pending.drain(..appended);
        match journal {
            Ok((journal, earlier)) => {
                (self.journal, self.earlier, self.appended) = (Some(journal), earlier, Instant::now());
                self.tell_recovered();
            }
            Err(error) => {
                self.is_whole_needed = true;
                self.fail(&error);
            }
        }
    }

    /// Starts a snapshot. Before it, begins a new journal, unless the current one still waits for
    /// its snapshot.
    async fn begin_snapshot(&mut self) {
        let is_used = |journal: &Journal<D::File>| {
            !journal.is_empty
                && (self.is_whole_needed
                    || journal.length >= LONG
                    || matches!(self.snapshot, SnapshotProgress::Made(_)))
        };
        if self.journal.as_ref().is_some_and(is_used) {
            self.begin_journal().await;
        }
        let Some(number) = self.journal.as_ref().map(|journal| journal.number) else { return };
        let Some(mut place) = self.place.clone() else { return };
        let (reply, memory) = oneshot::channel();
        if !matches!(
            timeout(ASK_TIME, self.checker.commands.send(CheckerCommand::Memory(Survey::default(), reply)))
                .await,
            Ok(Ok(()))
        ) {
            return;
        }
        self.is_whole_needed = false;
        let mut disk = self.disk.clone();
        let making = tokio::spawn(async move {
            let told = timeout(ASK_TIME, memory).await.ok().and_then(Result::ok);
            let memory = told.ok_or_else(|| io::Error::other("the health checker does not answer"))?;
            let write = move || {
                // The directory may have been replaced after the last change was appended.
                place.hold().map_err(io::Error::other)?;
                write(&mut disk, place.directory(), memory, number)
            };
            spawn_blocking(write).await.map_err(io::Error::other)?
        });
        self.snapshot = SnapshotProgress::Begun(Instant::now(), number, making);
    }

    /// Handles the end of a snapshot.
    fn heed(&mut self, made: io::Result<u64>) {
        let SnapshotProgress::Begun(began, number, _) =
            std::mem::replace(&mut self.snapshot, SnapshotProgress::Wanted)
        else {
            return;
        };
        match made {
            Ok(bytes) => {
                self.snapshot = SnapshotProgress::Made(bytes);
                self.not_before = Instant::now() + began.elapsed() * SHARE;
                if self.journal.as_ref().is_some_and(|journal| journal.number == number) {
                    self.earlier = 0;
                }
                self.tell_recovered();
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Logs the end of a failure, when both the journal and the snapshot are in order.
    fn tell_recovered(&mut self) {
        let is_in_order = self.journal.is_some() && matches!(self.snapshot, SnapshotProgress::Made(_));
        if is_in_order && std::mem::take(&mut self.is_failing) {
            info!("health and overrides are written again");
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.metrics.operation.state_write_failed();
        self.retry = Instant::now() + RETRY;
        if !std::mem::replace(&mut self.is_failing, true) {
            warn!(%error, "health and overrides cannot be written; they would not survive a restart. steerd continues, and tries again every {RETRY:?}");
        }
    }
}

impl SnapshotProgress {
    /// Waits for a snapshot in progress; returns `None` if there is none.
    async fn made(&mut self) -> Option<io::Result<u64>> {
        let Self::Begun(_, _, making) = self else { return None };
        Some(making.await.unwrap_or_else(|broken| Err(io::Error::other(broken))))
    }
}

/// Begins the next journal. Returns it and the total bytes of earlier ones. Blocks.
fn begin<D: Disk>(disk: &mut D, directory: &Path) -> io::Result<(Journal<D::File>, u64)> {
    let journals = journals(directory);
    let length = |(_, path): &(u64, PathBuf)| path.symlink_metadata().map_or(0, |metadata| metadata.len());
    let earlier = journals.iter().map(length).sum();
    let number = journals.last().map_or(1, |(number, _)| number.saturating_add(1));
    Ok((Journal::begin(disk, directory, number)?, earlier))
}

/// Writes a snapshot that journal `number` continues, and deletes earlier journals. Returns the
/// size of the snapshot in bytes. Blocks.
fn write<D: Disk>(disk: &mut D, directory: &Path, memory: Memory, number: u64) -> io::Result<u64> {
    let text = file::encode(memory, Some(number), SystemTime::now())?;
    let length = text.len() as u64;
    if length > MAX_FILE {
        return Err(io::Error::other(format!("health and overrides take more than {} MiB", MAX_FILE >> 20)));
    }
    disk::replace(disk, &directory.join(FILE), text.as_bytes())?;
    for (_, path) in journals(directory).into_iter().filter(|(other, _)| *other < number) {
        disk.remove(&path)?;
    }
    Ok(length)
}
