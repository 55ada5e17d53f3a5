//! A series of reads: one load of a configuration with all files that it names.
//!
//! Another thread can watch it and end it. It can record what it has read, and read kept texts in place of files: so a
//! rollback loads an earlier configuration as every load does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::included::{self, Matches};
use super::record::{FileKind, FileRecord, IncludePattern, KeptTexts};
use super::{Content, FileRefusal, FileStamp, open, read};

/// A series of reads that another thread can watch and end.
///
/// ```text
/// GoingOn --end--> Ended
///     `--give_up--> GivenUp: starts no further file --the file system answers--> Left
/// ```
#[derive(Debug, Default)]
pub struct Reading {
    state: Mutex<ReadingState>,
    changed: Condvar,
    /// The files read until now, if they are recorded.
    record: Option<Mutex<FileRecord>>,
    /// Texts that are read in place of their files.
    kept: Option<KeptTexts>,
}

#[derive(Debug, Default)]
struct ReadingState {
    phase: ReadingPhase,
    current: PathBuf,
    /// The path at which another reading hangs, if that stopped this one.
    hangs_at: Option<PathBuf>,
}

/// The phase of a [`Reading`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadingPhase {
    /// In progress, and the result is wanted.
    #[default]
    GoingOn,
    /// The result is no longer wanted, but the reading may still wait for a file system.
    GivenUp,
    /// The reading was given up, and has stopped.
    Left,
    /// The reading is complete.
    Ended,
}

/// Readings that were given up. If one hangs at a path, no other reading accesses that path, so
/// repeated loads leave only one thread waiting there.
static GIVEN_UP: Mutex<Vec<Arc<Reading>>> = Mutex::new(Vec::new());

/// The readings that were given up and still hang.
fn hanging() -> MutexGuard<'static, Vec<Arc<Reading>>> {
    let mut given_up = GIVEN_UP.lock().unwrap_or_else(PoisonError::into_inner);
    given_up.retain(|reading| reading.state().phase == ReadingPhase::GivenUp);
    given_up
}

impl Reading {
    /// Returns the number of readings that were given up and still hang.
    #[must_use]
    pub fn count_hanging() -> usize {
        hanging().len()
    }

    fn state(&self) -> MutexGuard<'_, ReadingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the path that will be read next.
    ///
    /// # Errors
    /// If this reading is no longer wanted, or if another one hangs at this path, which also stops
    /// this one.
    pub fn look_at(&self, path: &Path) -> io::Result<()> {
        let hangs = hanging().iter().any(|other| other.state().current == path);
        let mut state = self.state();
        if state.phase != ReadingPhase::GoingOn || state.hangs_at.is_some() {
            return Err(FileRefusal::GivenUp.into());
        }
        if hangs {
            state.hangs_at = Some(path.to_owned());
            return Err(FileRefusal::Hangs.into());
        }
        path.clone_into(&mut state.current);
        Ok(())
    }

    /// A series of reads that is recorded.
    #[must_use]
    pub fn recorded() -> Self {
        Self { record: Some(Mutex::default()), ..Self::default() }
    }

    /// A recorded series that reads these texts in place of their files, and all other files from their place.
    #[must_use]
    pub fn of_kept(kept: KeptTexts) -> Self {
        Self { kept: Some(kept), ..Self::recorded() }
    }

    /// Like [`read()`], but as part of this series.
    ///
    /// # Errors
    /// Those of [`read()`] and [`Reading::look_at`].
    pub fn read(&self, path: &Path, kind: FileKind, limit: u64) -> io::Result<Content> {
        if let Some(text) = self.kept.as_ref().and_then(|kept| kept.get(path)) {
            let content = Content::kept(text);
            self.note(|record| record.add(path, kind, &content));
            return Ok(content);
        }
        self.look_at(path)?;
        self.note_look(path);
        let content = read(path, limit)?;
        self.note(|record| record.add(path, kind, &content));
        Ok(content)
    }

    /// Whether a file can be opened, or its text was kept.
    ///
    /// # Errors
    /// Those of [`open`] and [`Reading::look_at`].
    pub fn try_open(&self, path: &Path) -> io::Result<()> {
        if self.kept.as_ref().is_some_and(|kept| kept.get(path).is_some()) {
            return Ok(());
        }
        self.look_at(path)?;
        self.note_look(path);
        open(path).map(drop)
    }

    /// The files that a pattern of `include` matches: those on disk, or the kept ones in place of them.
    pub fn matches(&self, pattern: &Path) -> Matches {
        let matches = match &self.kept {
            Some(kept) => included::among(pattern, kept.included()),
            None => included::on_disk(pattern, |path| self.look_at(path)),
        };
        self.note(|record| {
            let files = self.kept.is_none().then(|| matches.files.clone());
            record.patterns.push(IncludePattern { pattern: pattern.into(), files });
        });
        matches
    }

    /// The files read until now.
    #[must_use]
    pub fn record(&self) -> FileRecord {
        let record = self.record.as_ref();
        record.map(|record| record.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap_or_default()
    }

    /// Records a file that will be read or opened.
    fn note_look(&self, path: &Path) {
        if self.record.is_some() {
            // Not under the lock: a file system may hang.
            let stamp = FileStamp::of(path);
            self.note(|record| record.looked_at(path, stamp));
        }
    }

    fn note(&self, note: impl FnOnce(&mut FileRecord)) {
        if let Some(record) = &self.record {
            note(&mut record.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Whether the result is still wanted.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.state().phase == ReadingPhase::GoingOn
    }

    /// The path at which another reading hangs, if that stopped this one.
    #[must_use]
    pub fn hangs_at(&self) -> Option<PathBuf> {
        self.state().hangs_at.clone()
    }

    /// Gives up: no further file is started. Returns the path that was being read.
    pub fn give_up(self: &Arc<Self>) -> PathBuf {
        let mut state = self.state();
        let current = state.current.clone();
        if state.phase == ReadingPhase::GoingOn {
            state.phase = ReadingPhase::GivenUp;
            drop(state);
            self.changed.notify_all();
            hanging().push(Arc::clone(self));
        }
        current
    }

    /// Marks the reading as finished.
    pub fn end(&self) {
        let mut state = self.state();
        state.phase = match state.phase {
            ReadingPhase::GoingOn | ReadingPhase::Ended => ReadingPhase::Ended,
            ReadingPhase::GivenUp | ReadingPhase::Left => ReadingPhase::Left,
        };
        drop(state);
        self.changed.notify_all();
    }

    /// Waits at most `time` until the phase is no longer `phase`, and returns the phase.
    #[must_use]
    pub fn wait_while(&self, phase: ReadingPhase, time: Duration) -> ReadingPhase {
        let waited = self.changed.wait_timeout_while(self.state(), time, |state| state.phase == phase);
        waited.unwrap_or_else(PoisonError::into_inner).0.phase
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::SECRET;

    #[test]
    fn a_run_that_was_given_up_on_reads_no_further_file() {
        let reading = Arc::new(Reading::default());
        reading.read(Path::new("/proc/self/status"), FileKind::Secret, SECRET).unwrap();
        assert_eq!(reading.give_up(), Path::new("/proc/self/status"));
        assert!(!reading.goes_on());
        assert!(reading.read(Path::new("/proc/self/stat"), FileKind::Secret, SECRET).is_err());
        reading.end();
    }

    #[test]
    fn where_one_hangs_no_other_looks_until_it_has_ended() {
        let hung = Arc::new(Reading::default());
        hung.look_at(Path::new("where one hangs")).unwrap();
        let other = Reading::default();
        other.look_at(Path::new("where one hangs")).expect("the first one is not given up yet");
        hung.give_up();
        let next = Reading::default();
        next.look_at(Path::new("elsewhere")).unwrap();
        assert!(next.look_at(Path::new("where one hangs")).is_err());
        assert_eq!(next.hangs_at().as_deref(), Some(Path::new("where one hangs")));
        assert!(next.look_at(Path::new("a third")).is_err(), "it was stopped, too");
        hung.end();
        Reading::default().look_at(Path::new("where one hangs")).unwrap();
    }

    #[test]
    fn a_kept_text_is_read_in_place_of_its_file_and_recorded() {
        let directory = tempfile::tempdir().unwrap();
        let (kept, other) = (directory.path().join("a.toml"), directory.path().join("token"));
        std::fs::write(&kept, "on disk").unwrap();
        std::fs::write(&other, "secret").unwrap();
        let reading = Reading::recorded();
        reading.read(&kept, FileKind::Configuration, SECRET).unwrap();
        reading.read(&other, FileKind::Secret, SECRET).unwrap();
        assert!(reading.read(Path::new("/none"), FileKind::Zone, SECRET).is_err());
        let record = reading.record();
        let [file, secret] = &record.files[..] else { panic!("{record:?}") };
        assert_eq!(file.text.as_deref(), Some(&b"on disk"[..]));
        assert_eq!((secret.size, secret.hash.as_ref(), secret.text.as_ref()), (6, None, None));
        assert!(secret.modified.is_some() && record.looked_at.contains_key(Path::new("/none")));
        let texts = [(kept.clone(), FileKind::Configuration, b"earlier"[..].into())];
        let again = Reading::of_kept(KeptTexts::new(texts));
        let read = |path: &Path, kind| again.read(path, kind, SECRET).unwrap().bytes;
        assert_eq!(read(&kept, FileKind::Configuration), b"earlier");
        assert_eq!(read(&other, FileKind::Secret), b"secret");
        std::fs::remove_file(&kept).unwrap();
        again.try_open(&kept).expect("it was kept");
        assert!(again.record().files[0].modified.is_none());
    }
}
