//! The running configuration: which files it was loaded from, when and by whom, and whether it is that of the files on
//! disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;

use crate::config::SetOrigin;
use crate::file::{FileKind, FileRecord};
use crate::sets::hash_of;

/// A running configuration keeps its texts in memory if they have at most this many bytes together.
pub const MAX_SHOWN: u64 = 4 << 20;

/// The running configuration.
#[derive(Clone, Debug)]
pub struct RunningSet {
    /// The main file; none if the server runs without a file.
    pub main: Option<PathBuf>,
    /// When it was loaded.
    pub loaded: SystemTime,
    /// The client that requested it.
    pub by: String,
    /// Whether it is that of the files on disk.
    pub origin: SetOrigin,
    /// Its number among the kept sets; none if it is not kept.
    pub number: Option<u64>,
    /// The SHA-256 of its texts, in hexadecimal digits.
    pub sha256: String,
    /// The files that were read. Only files of the configuration itself have their texts, and only up to [`MAX_SHOWN`].
    pub record: Arc<FileRecord>,
}

impl RunningSet {
    /// A configuration that was just loaded.
    pub(super) fn new(main: Option<PathBuf>, by: &str, origin: SetOrigin, record: FileRecord) -> Self {
        let sha256 = hash_of(&record.files);
        let number = match origin {
            SetOrigin::Files => None,
            SetOrigin::Rollback { number, .. } | SetOrigin::LastGood { number, .. } => Some(number),
        };
        let record = Arc::new(record);
        Self { main, loaded: SystemTime::now(), by: by.into(), origin, number, sha256, record }
    }

    /// The same without the texts that only a kept set needs.
    pub(super) fn without_texts(mut self) -> Self {
        let record = Arc::make_mut(&mut self.record);
        let of_configuration = record.files.iter().filter(|file| file.kind == FileKind::Configuration);
        let shown = of_configuration.map(|file| file.size).sum::<u64>() <= MAX_SHOWN;
        for file in &mut record.files {
            if file.kind != FileKind::Configuration || !shown {
                file.text = None;
            }
        }
        self
    }

    /// A sentence for those who upgrade, if the running configuration is not that of the files on disk.
    #[must_use]
    pub fn warning_of_upgrade(&self) -> Option<String> {
        let number = self.number.map_or_else(String::new, |number| format!(" {number}"));
        let reason = match self.origin {
            SetOrigin::Files => return None,
            SetOrigin::Rollback { .. } => "a rollback",
            SetOrigin::LastGood { .. } => "a start with faulty files",
        };
        Some(format!(
            "the process before ran the earlier configuration{number} because of {reason}; this one runs the files on disk"
        ))
    }

    /// A sentence for people, if the running configuration is not that of the files on disk.
    #[must_use]
    pub fn notice(&self) -> Option<String> {
        let at = |at: &Timestamp| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        match &self.origin {
            SetOrigin::Files => None,
            SetOrigin::Rollback { number, at: loaded } => Some(format!(
                "runs the configuration {number} of {}, not the files on disk, because of a rollback by {}: a reload, \
                 upgrade or restart reads the files",
                at(loaded),
                self.by
            )),
            SetOrigin::LastGood { number, at: loaded, reason } => Some(format!(
                "runs the last good configuration, {number} of {}, not the files on disk, because they had a mistake at \
                 the start: {reason}; correct it, and reload",
                at(loaded)
            )),
        }
    }
}
