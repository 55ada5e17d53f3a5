//! Follows the files that rules name: lists of networks and geographic databases.
//!
//! ```text
//! as compiled --other metadata--> changed --the same at the next look--> read, on a blocking thread
//!     ^                              |                                       | valid     | damaged
//!     |                              `--changing still: look again           |           `--> refused: the earlier
//!     `-------- the checker publishes tables that are compiled from it <-----'                content stays in force
//! ```
//!
//! A reload reads all files in any case. Without such files, nothing is looked at.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::checker::{CheckerCommand, CheckerHandle};
use crate::config::SetOrigin;
use crate::events::tell;
use crate::file::{FileStamp, Reading};
use crate::geo::{RuleFiles, SourceFault};
use crate::metrics::Metrics;
use crate::reload::Reach;
use crate::reload::swap::ask;
use crate::rules::RuleTable;

/// How often the files are looked at. A file counts as complete if it has not changed for this time.
pub(super) const LOOK: Duration = Duration::from_secs(2);
/// Time limit for reading and compiling all files.
const READ_TIME: Duration = Duration::from_secs(30);

type Stamps = Vec<Option<FileStamp>>;

/// The files of the running configuration.
#[derive(Debug)]
pub(super) struct WatchedFiles {
    files: Arc<RuleFiles>,
    looks: Interval,
    /// A look in progress; a file system may hang.
    looking: Option<JoinHandle<Stamps>>,
    /// The stamps of the last look, if they differ from those of the compiled files.
    changing: Option<Stamps>,
    /// The stamps of files that could not be used.
    refused: Option<Stamps>,
}

/// The times to look at files.
pub(super) fn looks() -> Interval {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

impl WatchedFiles {
    /// The files of an earlier configuration are not followed: its lists of networks are not those on disk.
    pub(super) fn new(origin: &SetOrigin, mut files: RuleFiles, metrics: &Metrics) -> Self {
        if *origin != SetOrigin::Files {
            files.stamps.clear();
        }
        let watched =
            Self { files: Arc::new(files), looks: looks(), looking: None, changing: None, refused: None };
        watched.show(metrics);
        watched
    }

    /// Shows the age of each database.
    fn show(&self, metrics: &Metrics) {
        let databases = self.files.sources.databases().iter().map(|path| path.display().to_string());
        metrics.operation.databases_read(databases.zip(self.files.built.iter().copied()).collect());
    }

    /// Returns when it is time to look at the files; never if there are none.
    pub(super) async fn due(&mut self) {
        if self.files.stamps.is_empty() {
            std::future::pending::<()>().await;
        }
        self.looks.tick().await;
    }

    /// Looks at the files, and compiles the rules again if some have changed.
    pub(super) async fn look(&mut self, Reach { checker, metrics, events, .. }: &Reach) {
        let Some(stamps) = self.stamps().await else { return };
        if stamps == self.files.stamps {
            (self.changing, self.refused) = (None, None);
            return;
        }
        if self.refused.as_ref() == Some(&stamps) {
            return;
        }
        if self.changing.as_ref() != Some(&stamps) {
            self.changing = Some(stamps);
            return;
        }
        self.changing = None;
        let changed = self.changed(&stamps);
        match self.read().await {
            Ok((tables, built)) => {
                let (files, ranges) =
                    (changed.join(", "), tables.iter().map(|table| table.ranges()).sum::<usize>());
                let replaced = publish(checker, tables).await;
                self.files = Arc::new(RuleFiles { stamps, built, ..RuleFiles::clone(&self.files) });
                self.refused = None;
                self.show(metrics);
                metrics.operation.rule_files_read(true);
                tell!(
                    events.now(),
                    info,
                    Reload,
                    files,
                    ranges,
                    replaced,
                    "files of rules have changed and were read again"
                );
            }
            Err(fault) => {
                tell!(
                    events.now(),
                    warn,
                    Reload,
                    "{fault}; the rules stay as they were, and the file is read again when it changes"
                );
                metrics.operation.rule_files_read(false);
                self.refused = Some(stamps);
            }
        }
    }

    /// The stamps of the files now. `None` while a file system does not respond.
    async fn stamps(&mut self) -> Option<Stamps> {
        let looking = self.looking.get_or_insert_with(|| {
            let files = Arc::clone(&self.files);
            spawn_blocking(move || {
                let reading = Reading::default();
                files.sources.stamps(|path| reading.look_at(path).is_ok())
            })
        });
        let stamps = timeout(LOOK, looking).await.ok()?;
        self.looking = None;
        stamps.ok()
    }

    /// The files whose stamps differ.
    fn changed(&self, stamps: &Stamps) -> Vec<String> {
        let files = self.files.sources.files().into_iter().map(Path::display);
        let pairs = files.zip(self.files.stamps.iter().zip(stamps));
        pairs.filter(|(_, (before, now))| before != now).map(|(file, _)| file.to_string()).collect()
    }

    /// Reads and compiles all files.
    async fn read(&self) -> Result<(Vec<Arc<RuleTable>>, Vec<u64>), SourceFault> {
        let reading = Arc::new(Reading::default());
        let (files, by) = (Arc::clone(&self.files), Arc::clone(&reading));
        let work = spawn_blocking(move || {
            let read = files.sources.read(&by);
            by.end();
            read
        });
        let fault = |path: PathBuf, reason: &str| SourceFault { path, reason: reason.to_owned() };
        match timeout(READ_TIME, work).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) => Err(fault(reading.give_up(), "reading it panicked; this is a bug in steerd")),
            Err(_) => Err(fault(reading.give_up(), "it could not be read in time")),
        }
    }
}

/// Hands the tables to the checker. Tables that are equal to the running ones are kept. Returns how many are new.
async fn publish(checker: &CheckerHandle, tables: Vec<Arc<RuleTable>>) -> usize {
    let running = Arc::clone(checker.published.load().rule_tables());
    let compare = move || {
        let mut replaced = 0;
        let pairs = tables.into_iter().enumerate().map(|(index, table)| match running.get(index) {
            Some(old) if *old == table => Arc::clone(old),
            _ => {
                replaced += 1;
                table
            }
        });
        let tables: Arc<[Arc<RuleTable>]> = pairs.collect();
        (tables, replaced)
    };
    let Ok((tables, replaced)) = spawn_blocking(compare).await else { return 0 };
    if replaced > 0 {
        // If the checker has ended, so does the server.
        let _ = ask(checker, |reply| CheckerCommand::RuleTables(tables, reply)).await;
    }
    replaced
}
