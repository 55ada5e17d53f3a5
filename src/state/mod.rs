//! State that survives a restart: health and operators' overrides, in a snapshot and a journal in
//! `state_dir`.
//!
//! ```text
//! start   lock the directory -> read the snapshot and its journals -> a memory, as hints for the
//!         checker; what cannot be read is set aside
//! work    ask the checker for what has changed -> append it to the journal, twice a second
//!         the journal is large, or the whole may be other -> begin another -> write a snapshot
//! stop    append once more
//! ```
//!
//! The files are numbered, so that what belongs together is known after a crash at any moment:
//!
//! ```text
//! health.json            the snapshot; says that journal 7 goes on from it
//! health.7.journal       what has changed since
//! health.8.journal       what has changed since a newer snapshot was begun, which will say 8
//! ```
//!
//! The snapshot is read first, then the journals from its number on, in order; without a snapshot, all
//! of them. Every change goes to the journal, whatever snapshot is being made, and a journal begins before
//! its snapshot is made. So no change is in neither, and a start loses at most what was not appended yet;
//! to carry out a change twice is the same as once.
//!
//! Nothing here stops an answer: a file that cannot be read is an empty memory, and one that cannot
//! be written is a warning. Only a directory that another server uses stops a start. The checker decides what
//! a remembered state is worth.

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

use crate::checker::Memory;
use crate::state::disk::{Disk, System};
use crate::state::recollection::{Recalled, Recollection};

pub use keeper::Keeper;
pub use lock::{LOCK, LockError, Place};
pub use recollection::HINT_AGE;

/// The snapshot in `state_dir`.
pub const FILE: &str = "health.json";
/// The largest file that is read or written, bytes: a million addresses with names as long as they
/// usually are. One that is larger is not ours.
pub const MAX_FILE: u64 = 256 << 20;
/// The most bytes of all journals together: as many as a start reads in its time. With a good disk there are
/// fewer, because a snapshot takes their place; beyond, changes are not written until one does.
const MAX_JOURNALS: u64 = MAX_FILE;
/// How many files that could not be read are kept for someone to look at, of each kind.
const MAX_DAMAGED: usize = 5;
/// Between the name of the file and the time at which it was set aside.
const DAMAGED: &str = ".damaged-";

/// Takes a directory for this process alone, and reads what is remembered there. Blocks.
///
/// A directory that cannot be locked for another reason than another server is no obstacle: nothing
/// is written then until it can be.
///
/// # Errors
/// When another server uses the directory.
pub fn open(directory: PathBuf, now: SystemTime) -> Result<(Place, Memory), LockError> {
    let place = match Place::take(directory.clone()) {
        Err(LockError::Refused { .. }) => Place::unlocked(directory),
        taken => taken?,
    };
    let memory = recall(place.directory(), now);
    Ok((place, memory))
}

/// Reads what is remembered in a directory. Blocks.
///
/// A file that is damaged, foreign or of a later version is set aside, so that someone can look at it.
fn recall(directory: &Path, now: SystemTime) -> Memory {
    let path = directory.join(FILE);
    let snapshot = match read(&path) {
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => file::decode(&bytes).map(Some).map_err(|refused| refused.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let snapshot = match snapshot {
        Ok(None) if journals(directory).is_empty() => {
            info!(file = %path.display(), "nothing is remembered yet: there is no such file");
            return Memory::default();
        }
        Ok(snapshot) => snapshot,
        Err(reason) => {
            tell_set_aside(&path, &reason, now, "it starts empty");
            for (_, path) in journals(directory) {
                // They say only what has changed since.
                tell_set_aside(
                    &path,
                    "it goes on from a snapshot that cannot be read",
                    now,
                    "it is left out",
                );
            }
            return Memory::default();
        }
    };
    let numbers = journals(directory).into_iter().map(|(number, _)| number);
    let bytes = |number| Ok(read(&journal::path(directory, number))?.unwrap_or_default());
    let (recollection, changes, faults) = recollect(snapshot, numbers, bytes);
    for (number, fault) in faults {
        // A copy: until there is a new snapshot, what can be read of it is needed.
        tell_copied(&journal::path(directory, number), &fault, now);
    }
    let Recalled { memory, age, too_old } = recollection.until_now(now);
    let (states, overrides) = (memory.states.len(), memory.overrides.len());
    info!(file = %path.display(), ?age, states, overrides, changes, "health and overrides are remembered");
    if too_old {
        warn!(?age, limit = ?HINT_AGE, "the remembered states are too old to be of use; overrides are not");
    }
    memory
}

/// The combined content of the snapshot, if there is one, and the journals after it, how many records those
/// have, and which of them could not be read as a whole.
fn recollect(
    snapshot: Option<file::Snapshot>,
    journals: impl Iterator<Item = u64>,
    bytes: impl Fn(u64) -> io::Result<Vec<u8>>,
) -> (Recollection, usize, Vec<(u64, String)>) {
    // A snapshot that names none is newer than all journals that may lie about: an earlier steerd
    // wrote it.
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

/// The journals in a directory, in the order of their numbers.
fn journals(directory: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let numbered =
        entries.filter_map(|entry| Some((journal::number(entry.file_name().to_str()?)?, entry.path())));
    let mut journals: Vec<_> = numbered.collect();
    journals.sort();
    journals
}

/// The bytes of the file; none when there is no file.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match crate::file::read(path, MAX_FILE) {
        Ok(content) => Ok(Some(content.bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where a file is kept for someone to look at.
fn aside(path: &Path, now: SystemTime) -> PathBuf {
    let time = Timestamp::try_from(now).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Of one length, so that the order of the names is that of the times.
    name.push(format!("{DAMAGED}{time:.9}"));
    path.with_file_name(name)
}

fn tell_set_aside(path: &Path, reason: &str, now: SystemTime, follows: &str) {
    let (file, aside) = (path.display(), aside(path, now));
    match fs::rename(path, &aside) {
        Ok(()) => {
            let aside = aside.display();
            warn!(%file, reason, renamed = %aside, "the memory of health and overrides is no good file; {follows}");
        }
        Err(error) => {
            warn!(%file, reason, %error, "the memory of health and overrides is no good file and cannot be renamed; {follows}");
        }
    }
    delete_oldest(path);
}

fn tell_copied(path: &Path, reason: &str, now: SystemTime) {
    let (file, aside) = (path.display(), aside(path, now));
    let copy = || System.create(&aside)?.write_all(&crate::file::read(path, MAX_FILE)?.bytes);
    let copied = copy().map_or_else(|error| format!("no: {error}"), |()| aside.display().to_string());
    warn!(%file, reason, copied, "the journal of health and overrides cannot be read as a whole; some changes may be lost");
    delete_oldest(path);
}

/// Deletes the oldest files of this kind that were set aside, beyond [`MAX_DAMAGED`].
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
