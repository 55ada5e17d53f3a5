//! `[server] watch`: reloads when files of the configuration change.
//!
//! ```text
//! as loaded --other files or metadata--> changing --the same at the next look--> reload --> as looked at
//!                                         |    ^
//!                                         `----' changing still
//! ```
//!
//! Metadata are compared through links, so a link that now leads to another directory is a change: Kubernetes replaces
//! the files of a `ConfigMap` that way. A refused reload is not tried again before the next change. Lists of networks and
//! databases are followed in any case: `files`.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Interval, timeout};

use crate::config::SetOrigin;
use crate::file::{FileKind, FileRecord, FileStamp, Reading};
use crate::reload::files::{LOOK, looks};
use crate::reload::running::RunningSet;

/// The files that a configuration consists of, as seen once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sight {
    /// The files that were loaded, in their order; none for one that cannot be looked up.
    stamps: Vec<Option<FileStamp>>,
    /// The files of each pattern of `include`.
    matches: Vec<Vec<PathBuf>>,
}

/// The files of the running configuration, if they are watched.
#[derive(Debug)]
pub(super) struct WatchedConfiguration {
    /// The files that were loaded; none if they are not watched.
    record: Option<Arc<FileRecord>>,
    looks: Interval,
    /// A look in progress; a file system may hang.
    looking: Option<JoinHandle<Sight>>,
    /// The files as loaded, or as the last reload was refused. None before the first look at the files on disk while an
    /// earlier configuration runs, as after a rollback: these are not loaded before they change.
    settled: Option<Sight>,
    /// The last look, if it differs.
    changing: Option<Sight>,
}

impl WatchedConfiguration {
    pub(super) fn new(is_wanted: bool, set: &RunningSet) -> Self {
        let settled = (set.origin == SetOrigin::Files).then(|| Sight::as_loaded(&set.record));
        let record = is_wanted.then(|| Arc::clone(&set.record));
        Self { record, looks: looks(), looking: None, settled, changing: None }
    }

    /// Returns when it is time to look at the files; never if they are not watched.
    pub(super) async fn due(&mut self) {
        if self.record.is_none() {
            std::future::pending::<()>().await;
        }
        self.looks.tick().await;
    }

    /// Looks at the files. Returns whether they have changed, and stay as they are for the time between two looks.
    pub(super) async fn look(&mut self) -> bool {
        let Some(sight) = self.sight().await else { return false };
        let Some(settled) = &self.settled else {
            self.settled = Some(sight);
            return false;
        };
        if *settled == sight {
            self.changing = None;
        } else if self.changing.as_ref() == Some(&sight) {
            (self.settled, self.changing) = (self.changing.take(), None);
            return true;
        } else {
            self.changing = Some(sight);
        }
        false
    }

    /// The files now. `None` while a file system does not respond.
    async fn sight(&mut self) -> Option<Sight> {
        let record = Arc::clone(self.record.as_ref()?);
        let looking = self.looking.get_or_insert_with(|| spawn_blocking(move || Sight::now(&record)));
        let sight = timeout(LOOK, looking).await.ok()?;
        self.looking = None;
        sight.ok()
    }
}

impl Sight {
    fn as_loaded(record: &FileRecord) -> Self {
        Self {
            stamps: watched(record).map(|(_, stamp)| stamp).collect(),
            matches: record.patterns.iter().map(|pattern| pattern.files.clone()).collect(),
        }
    }

    fn now(record: &FileRecord) -> Self {
        let reading = Reading::default();
        let look_up = |path: &PathBuf| reading.look_at(path).ok().and_then(|()| FileStamp::of(path));
        Self {
            stamps: watched(record).map(|(path, _)| look_up(path)).collect(),
            matches: record.patterns.iter().map(|pattern| reading.matches(&pattern.pattern).files).collect(),
        }
    }
}

/// The watched files of a load.
fn watched(record: &FileRecord) -> impl Iterator<Item = (&PathBuf, Option<FileStamp>)> {
    let is_watched = |kind| !matches!(kind, FileKind::Networks | FileKind::Database);
    record.files.iter().filter(move |file| is_watched(file.kind)).map(|file| (&file.path, file.stamp))
}
