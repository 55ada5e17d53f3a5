//! `[server] watch`: reloads when files of the configuration change.
//!
//! ```text
//! as loaded --other files or metadata--> changing --the same at the next look--> reload --> as looked at
//!                                         |    ^
//!                                         `----' changing still
//! ```
//!
//! After a refused reload, the files that it has looked at are watched too: the missing file may be one that only the new
//! configuration names. While an earlier configuration runs, its files and those of the disk are watched.
//!
//! Metadata are compared through links, so a link that now leads to another directory is a change: Kubernetes replaces
//! the files of a `ConfigMap` that way. A refused reload is not tried again before the next change. Lists of networks and
//! databases are followed in any case: `files`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Interval, timeout};

use crate::config::SetOrigin;
use crate::file::{FileRecord, FileStamp, Reading};
use crate::reload::files::{LOOK, looks};

/// Files of a configuration, as seen once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sight {
    /// Each file with its metadata; none if it cannot be looked up.
    stamps: BTreeMap<PathBuf, Option<FileStamp>>,
    /// The files of each pattern of `include`.
    matches: BTreeMap<PathBuf, Vec<PathBuf>>,
}

/// The watched paths.
#[derive(Clone, Debug, Default)]
struct WatchedPaths {
    files: BTreeSet<PathBuf>,
    patterns: BTreeSet<PathBuf>,
}

/// The files of the running configuration, if they are watched.
#[derive(Debug)]
pub(super) struct WatchedConfiguration {
    /// The paths of the running configuration; none if they are not watched.
    running: Option<WatchedPaths>,
    /// These, and those of a refused reload.
    watched: Arc<WatchedPaths>,
    looks: Interval,
    /// A look in progress; a file system may hang.
    looking: Option<JoinHandle<Sight>>,
    /// The files as loaded, or as the last reload was refused. A file that is missing here, as after a rollback, counts
    /// as settled at the first look.
    settled: Sight,
    /// The last look, if it differs.
    changing: Option<Sight>,
}

impl WatchedConfiguration {
    pub(super) fn new(is_wanted: bool, record: &FileRecord) -> Self {
        let running = is_wanted.then(|| WatchedPaths::of(record));
        let settled = if is_wanted { Sight::as_loaded(record) } else { Sight::default() };
        let watched = Arc::new(running.clone().unwrap_or_default());
        Self { running, watched, looks: looks(), looking: None, settled, changing: None }
    }

    /// The files after a successful load. After a rollback, those on disk stay watched, from what they are now on.
    pub(super) fn replaced_by(&self, is_wanted: bool, record: &FileRecord, origin: &SetOrigin) -> Self {
        let mut new = Self::new(is_wanted, record);
        if *origin != SetOrigin::Files && is_wanted {
            new.watch_too(&self.watched, Sight::default());
            new.settled = Sight::default();
            new.running = Some(WatchedPaths::clone(&new.watched));
        }
        new
    }

    /// Watches the files of a refused reload too, and no longer those of one before.
    pub(super) fn refused(&mut self, record: &FileRecord) {
        let Some(running) = &self.running else { return };
        self.settled.keep_only(running);
        self.watched = Arc::new(running.clone());
        self.watch_too(&WatchedPaths::of(record), Sight::as_loaded(record));
        (self.looking, self.changing) = (None, None);
    }

    fn watch_too(&mut self, paths: &WatchedPaths, settled: Sight) {
        let watched = Arc::make_mut(&mut self.watched);
        watched.files.extend(paths.files.iter().cloned());
        watched.patterns.extend(paths.patterns.iter().cloned());
        self.settled.stamps.extend(settled.stamps);
        self.settled.matches.extend(settled.matches);
    }

    /// Returns when it is time to look at the files; never if they are not watched.
    pub(super) async fn due(&mut self) {
        if self.running.is_none() {
            std::future::pending::<()>().await;
        }
        self.looks.tick().await;
    }

    /// Looks at the files. Returns whether they have changed, and stay as they are for the time between two looks.
    pub(super) async fn look(&mut self) -> bool {
        let Some(sight) = self.sight().await else { return false };
        self.settled.adopt(&sight);
        if self.settled == sight {
            self.changing = None;
        } else if self.changing.as_ref() == Some(&sight) {
            (self.settled, self.changing) = (sight, None);
            return true;
        } else {
            self.changing = Some(sight);
        }
        false
    }

    /// The files now. `None` while a file system does not respond.
    async fn sight(&mut self) -> Option<Sight> {
        let watched = Arc::clone(&self.watched);
        let looking = self.looking.get_or_insert_with(|| spawn_blocking(move || Sight::now(&watched)));
        let sight = timeout(LOOK, looking).await.ok()?;
        self.looking = None;
        sight.ok()
    }
}

impl WatchedPaths {
    fn of(record: &FileRecord) -> Self {
        let read = record.files.iter().filter(|file| file.kind.is_watched()).map(|file| &file.path);
        let files = read.cloned().chain(Sight::as_loaded(record).stamps.into_keys()).collect();
        let patterns = record.patterns.iter().map(|pattern| pattern.pattern.clone()).collect();
        Self { files, patterns }
    }
}

impl Sight {
    fn as_loaded(record: &FileRecord) -> Self {
        let not_watched = record.files.iter().filter(|file| !file.kind.is_watched());
        let not_watched: BTreeSet<&PathBuf> = not_watched.map(|file| &file.path).collect();
        let stamps = record.looked_at.iter().filter(|(path, _)| !not_watched.contains(path));
        let matches = record.patterns.iter();
        Self {
            stamps: stamps.map(|(path, stamp)| (path.clone(), *stamp)).collect(),
            matches: matches
                .filter_map(|pattern| Some((pattern.pattern.clone(), pattern.files.clone()?)))
                .collect(),
        }
    }

    fn now(watched: &WatchedPaths) -> Self {
        let reading = Reading::default();
        let stamp = |path: &PathBuf| reading.look_at(path).ok().and_then(|()| FileStamp::of(path));
        Self {
            stamps: watched.files.iter().map(|path| (path.clone(), stamp(path))).collect(),
            matches: watched
                .patterns
                .iter()
                .map(|pattern| (pattern.clone(), reading.matches(pattern).files))
                .collect(),
        }
    }

    /// Takes what is missing here from a later sight.
    fn adopt(&mut self, later: &Self) {
        for (path, stamp) in &later.stamps {
            self.stamps.entry(path.clone()).or_insert(*stamp);
        }
        for (pattern, files) in &later.matches {
            self.matches.entry(pattern.clone()).or_insert_with(|| files.clone());
        }
    }

    fn keep_only(&mut self, paths: &WatchedPaths) {
        self.stamps.retain(|path, _| paths.files.contains(path));
        self.matches.retain(|pattern, _| paths.patterns.contains(pattern));
    }
}
