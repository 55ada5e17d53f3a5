//! What survives a restart: health and operators' overrides, in a snapshot and a journal in
//! `state_dir`.
//!
//! ```text
//! start   lock the directory -> read the snapshot and its journals -> a memory, as hints for the
//!         checker; what cannot be read is set aside
//! work    ask the checker for what has changed -> append it to the journal, twice a second
//!         the journal is large, or everything is new -> begin another -> write a snapshot
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
//! The snapshot is read first, then the journals from its number on, in order. A journal begins
//! before its snapshot is made, so no change is in neither; to carry out a change twice is the same
//! as once.
//!
//! Nothing here stops an answer: a file that cannot be read is an empty memory, and one that cannot
//! be written is a warning. Only a directory that another server uses stops a start. What a
//! remembered state is worth is `checker`'s to say.

mod disk;
mod file;
mod form;
mod journal;
mod keeper;
mod lock;
mod recollection;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use tracing::{info, warn};

use crate::checker::Memory;
use crate::state::recollection::{Recalled, Recollection};

pub use keeper::Keeper;
pub use lock::{LOCK, LockError, Place};
pub use recollection::HINT_AGE;

/// The snapshot in `state_dir`.
pub const FILE: &str = "health.json";
/// The largest file that is read or written, bytes: a million addresses with names as long as they
/// usually are. One that is larger is not ours.
pub const MAX_FILE: u64 = 256 << 20;
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
        Ok(None) => {
            info!(file = %path.display(), "nothing is remembered yet: there is no such file");
            return Memory::default();
        }
        Ok(Some(bytes)) => file::decode(&bytes).map_err(|refused| refused.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let snapshot = match snapshot {
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

/// What a snapshot and the journals after it say together, how many records those have, and which of
/// them could not be read as a whole.
fn recollect(
    snapshot: file::Snapshot,
    journals: impl Iterator<Item = u64>,
    bytes: impl Fn(u64) -> io::Result<Vec<u8>>,
) -> (Recollection, usize, Vec<(u64, String)>) {
    // A snapshot that names none is newer than all journals that may lie about: an earlier steerd
    // wrote it.
    let first = snapshot.journal.unwrap_or(u64::MAX);
    let mut recollection = Recollection::new(snapshot);
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
    let copied =
        fs::copy(path, &aside).map_or_else(|error| error.to_string(), |_| aside.display().to_string());
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
