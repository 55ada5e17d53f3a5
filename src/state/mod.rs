//! State that survives a restart: health and overrides, as a snapshot and journals in `state_dir`.
//!
//! ```text
//! start   lock the directory -> read the snapshot and its journals -> a memory, as hints for the
//! checker; unreadable files are set aside work    ask the checker for changes -> append them to
//! the journal, twice a second the journal is large, or everything may have changed -> new journal
//! -> new snapshot stop    append once more
//! ```
//!
//! The files are numbered, so that a crash at any moment leaves no doubt about which belong
//! together:
//!
//! ```text
//! health.json            the snapshot; says that journal 7 continues it
//! health.7.journal       changes since then
//! health.8.journal       changes since a newer snapshot was begun, which will say 8
//! ```
//!
//! The snapshot is read first, then the journals from its number on, in order; without a snapshot,
//! all journals. Every change goes to the journal, even while a snapshot is made, and a journal is
//! begun before its snapshot. So every change is in at least one of them, and a crash loses only
//! changes that were not yet appended. Applying a change twice is harmless.
//!
//! No fault here stops answers: an unreadable file means an empty memory, and a failed write causes
//! a warning. Only a directory that another server uses prevents a start. The checker decides how
//! far to trust a remembered state.

mod disk;
mod file;
mod form;
mod journal;
mod keeper;
mod lock;
mod recollection;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use tracing::{info, warn};

use crate::fleet::Memory;
use crate::state::disk::{Disk, System};
use crate::state::recollection::{Recalled, Recollection};

pub use keeper::{Keeper, NOT_WRITTEN};
pub use lock::{LOCK, LockError, StateDirectory};
pub use recollection::HINT_AGE;

/// File name of the snapshot in `state_dir`.
pub const FILE: &str = "health.json";
/// Maximum size of a file that is read or written, bytes: a million addresses with names of typical
/// length. steerd never writes a larger file.
pub const MAX_FILE: u64 = 256 << 20;
/// Maximum size of all journals together, bytes: as much as a start can read in time. A snapshot
/// usually replaces them earlier. When they reach this size, no changes are written until there is
/// a new snapshot.
const MAX_JOURNALS: u64 = MAX_FILE;
/// Maximum number of damaged files of each kind that are kept for inspection.
const MAX_DAMAGED: usize = 5;
/// Separates the file name from the time at which the file was set aside.
const DAMAGED: &str = ".damaged-";

/// Replaces the content of a file: after a crash, it is the old or the new one. Blocks.
///
/// # Errors
/// The system's error; then the old file is unchanged.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    disk::replace(&mut System, path, bytes)
}

/// Locks a directory for this process and reads its memory. Blocks.
///
/// If locking fails for another reason, the start continues; nothing is written until the directory
/// can be locked.
///
/// # Errors
/// If another server uses the directory.
pub fn open(directory: PathBuf, now: SystemTime) -> Result<(StateDirectory, Memory), LockError> {
    let place = match StateDirectory::take(directory.clone()) {
        Err(LockError::Refused { .. }) => StateDirectory::unlocked(directory),
        taken => taken?,
    };
    let memory = recall(place.directory(), now);
    Ok((place, memory))
}

/// The memory as text, for a process that takes over at once. Takes a second for a million addresses.
///
/// # Errors
/// Errors of the serializer. No memory causes one.
pub fn encode(memory: Memory, now: SystemTime) -> io::Result<String> {
    Ok(file::encode(memory, None, now)?)
}

/// Reads the text of [`encode`], of this version of its format or an earlier one.
///
/// # Errors
/// The reason, as a sentence.
pub fn decode(text: &str) -> Result<Memory, String> {
    file::decode(text.as_bytes()).map(|snapshot| snapshot.memory).map_err(|refused| refused.to_string())
}

/// Reads the memory in a directory. Blocks.
///
/// A file that is damaged, foreign or from a newer version is set aside for inspection.
fn recall(directory: &Path, now: SystemTime) -> Memory {
    let path = directory.join(FILE);
    let snapshot = match read(&path) {
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => file::decode(&bytes).map(Some).map_err(|refused| refused.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let snapshot = match snapshot {
        Ok(None) if journals(directory).is_empty() => {
            info!(file = %path.display(), "no health and overrides to restore: there is no such file");
            return Memory::default();
        }
        Ok(snapshot) => snapshot,
        Err(reason) => {
            tell_set_aside(&path, &reason, now, "steerd starts without it");
            for (_, path) in journals(directory) {
                // Without the snapshot, the changes in a journal are useless.
                tell_set_aside(&path, "it continues a snapshot that cannot be read", now, "it is ignored");
            }
            return Memory::default();
        }
    };
    let numbers = journals(directory).into_iter().map(|(number, _)| number);
    let bytes = |number| Ok(read(&journal::path(directory, number))?.unwrap_or_default());
    let (recollection, changes, faults) = recollect(snapshot, numbers, bytes);
    for (number, fault) in faults {
        // This is a copy, because the readable part of the original is needed until there is a new
        // snapshot.
        tell_copied(&journal::path(directory, number), &fault, now);
    }
    let Recalled { memory, age, too_old } = recollection.until_now(now);
    let (states, overrides) = (memory.states.len(), memory.overrides.len());
    info!(file = %path.display(), ?age, states, overrides, changes, "health and overrides are restored");
    if too_old {
        warn!(?age, limit = ?HINT_AGE, "the stored states are too old and are ignored; overrides apply");
    }
    memory
}

/// Combines the snapshot, if there is one, with the journals after it. Also returns the number of
/// records in them, and the journals that could not be read completely.
fn recollect(
    snapshot: Option<file::Snapshot>,
    journals: impl Iterator<Item = u64>,
    bytes: impl Fn(u64) -> io::Result<Vec<u8>>,
) -> (Recollection, usize, Vec<(u64, String)>) {
    // A snapshot without a journal number comes from an earlier version of steerd, which wrote it
    // after all journals in the directory.
    let first = snapshot.as_ref().map_or(0, |snapshot| snapshot.journal.unwrap_or(u64::MAX));
    let mut recollection = snapshot.map(Recollection::new).unwrap_or_default();
    let (mut records, mut faults) = (0, Vec::new());
    for number in journals.filter(|number| *number >= first) {
        let fault = match bytes(number) {
            Ok(bytes) => {
                let replayed = journal::replay(&bytes, number, &mut recollection);
                records += replayed.records;
                replayed.fault
            }
            Err(error) => Some(error.to_string()),
        };
        faults.extend(fault.map(|fault| (number, fault)));
    }
    (recollection, records, faults)
}

/// The journals in a directory, ordered by number.
fn journals(directory: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let numbered =
        entries.filter_map(|entry| Some((journal::number(entry.file_name().to_str()?)?, entry.path())));
    let mut journals: Vec<_> = numbered.collect();
    journals.sort();
    journals
}

/// The content of a file; `None` if it does not exist.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match crate::file::read(path, MAX_FILE) {
        Ok(content) => Ok(Some(content.bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The path under which a damaged file is kept for inspection.
fn aside(path: &Path, now: SystemTime) -> PathBuf {
    let time = Timestamp::try_from(now).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Times have a constant length, so the order of names is the order of times.
    name.push(format!("{DAMAGED}{time:.9}"));
    path.with_file_name(name)
}

fn tell_set_aside(path: &Path, reason: &str, now: SystemTime, follows: &str) {
    let (file, aside) = (path.display(), aside(path, now));
    match fs::rename(path, &aside) {
        Ok(()) => {
            let aside = aside.display();
            warn!(%file, reason, renamed = %aside, "the file of health and overrides cannot be used; {follows}");
        }
        Err(error) => {
            warn!(%file, reason, %error, "the file of health and overrides cannot be used, nor renamed; {follows}");
        }
    }
    delete_oldest(path);
}

fn tell_copied(path: &Path, reason: &str, now: SystemTime) {
    let (file, aside) = (path.display(), aside(path, now));
    let copy = || System.create(&aside)?.write_all(&crate::file::read(path, MAX_FILE)?.bytes);
    let copied = copy().map_or_else(|error| format!("no: {error}"), |()| aside.display().to_string());
    warn!(%file, reason, copied, "the journal of health and overrides cannot be read completely; some changes may be lost");
    delete_oldest(path);
}

/// Deletes the oldest files of this kind that were set aside, so that [`MAX_DAMAGED`] remain.
fn delete_oldest(path: &Path) {
    let directory = path.parent().unwrap_or(Path::new("."));
    let is_journal = |name: &str| journal::number(name).is_some();
    let kind = path.file_name().and_then(|name| name.to_str()).is_some_and(is_journal);
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let mut damaged: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let (of, time) = name.to_str()?.split_once(DAMAGED)?;
            let is_kind = if kind { is_journal(of) } else { of == FILE };
            is_kind.then(|| (time.to_owned(), entry.path()))
        })
        .collect();
    damaged.sort();
    let surplus = damaged.len().saturating_sub(MAX_DAMAGED);
    for (_, old) in damaged.iter().take(surplus) {
        if let Err(error) = fs::remove_file(old) {
            warn!(file = %old.display(), %error, "cannot delete an old damaged file");
        }
    }
}

#[cfg(test)]
mod tests;
