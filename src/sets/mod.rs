//! The last good sets of configuration files, kept in `state_dir/configurations` so that there is a way back.
//!
//! ```text
//! start, reload --keep--> 12.jsonl    the newest set; not if its texts are those of the last one
//!                         11.jsonl    the set before
//!                         ..          the oldest goes when there are too many, or too many bytes
//! rollback, start with the last good one --open--> texts that a load reads in place of their files
//!                         running     the number of the set that runs: after a rollback it is not the newest
//! ```
//!
//! A set has the texts of the configuration with its includes, of zone files, and of lists of networks. Secrets and
//! certificates are never copied: a rollback reads them from their place, and so it does with texts that were too large.
//! Nothing here loads a configuration or decides which one runs.

mod form;

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::file::{FileKind, KeptTexts, ReadFile};
use crate::state;

pub use form::{SetFile, SetHead, hash_of};

/// The directory in `state_dir`.
pub const CONFIGURATIONS: &str = "configurations";
/// The file in [`CONFIGURATIONS`] with the number of the running set.
const RUNNING: &str = "running";
/// How many sets are kept at most.
pub const MOST_SETS: usize = 10;
/// How many bytes all sets have at most; the newest is kept in any case.
pub const MAX_SETS: u64 = 256 << 20;
/// The longest first line that is read, bytes.
const MAX_HEAD: u64 = 64 << 20;
/// The largest file with a number that is read, bytes.
const MAX_RUNNING: u64 = 64;
/// The largest file of a set that is read, bytes: texts in JSON may be twice as long.
const MAX_SET: u64 = 256 << 20;

/// A set that can be loaded.
#[derive(Clone, Debug)]
pub struct KeptSet {
    /// Its description.
    pub head: SetHead,
    /// Its texts.
    pub texts: KeptTexts,
}

/// The description of a new set.
#[derive(Clone, Debug)]
pub struct SetOccasion {
    /// The main file.
    pub main: PathBuf,
    /// When it was loaded.
    pub at: Timestamp,
    /// The client that requested it.
    pub by: String,
    /// The changes to the configuration before it, on one line.
    pub changes: String,
}

/// Keeps the running set, unless the newest one has the same texts. Returns its number. Blocks.
///
/// # Errors
/// The system's error; then the earlier sets are as before.
pub fn keep(state_dir: &Path, files: &[ReadFile], occasion: SetOccasion) -> io::Result<u64> {
    let directory = state_dir.join(CONFIGURATIONS);
    match fs::DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let numbers = numbers(&directory)?;
    let newest = numbers.last().copied();
    let head = SetHead::new(newest.map_or(1, |number| number.saturating_add(1)), files, occasion);
    let is_same = |number| read_head(&path(&directory, number)).is_ok_and(|newest| newest.is_same(&head));
    if let Some(number) = newest.filter(|number| is_same(*number)) {
        set_running(state_dir, number)?;
        return Ok(number);
    }
    state::replace(&path(&directory, head.number), &form::encode(&head, files)?)?;
    prune(&directory, numbers);
    set_running(state_dir, head.number)?;
    Ok(head.number)
}

/// Keeps which set runs. Blocks.
///
/// # Errors
/// The system's error; then the earlier number stays.
pub fn set_running(state_dir: &Path, number: u64) -> io::Result<()> {
    if running(state_dir) == Some(number) {
        return Ok(());
    }
    state::replace(&state_dir.join(CONFIGURATIONS).join(RUNNING), format!("{number}\n").as_bytes())
}

/// The number of the set that ran last; none if it is not known. Blocks.
#[must_use]
pub fn running(state_dir: &Path) -> Option<u64> {
    let content = crate::file::read(&state_dir.join(CONFIGURATIONS).join(RUNNING), MAX_RUNNING).ok()?;
    std::str::from_utf8(&content.bytes).ok()?.trim_ascii().parse().ok()
}

/// The heads of all sets, the newest first; of a damaged one its number and the reason. Blocks.
///
/// # Errors
/// If the directory cannot be read. If there is none, there are no sets.
pub fn list(state_dir: &Path) -> io::Result<Vec<Result<SetHead, (u64, String)>>> {
    let directory = state_dir.join(CONFIGURATIONS);
    let head = |number: u64| read_head(&path(&directory, number)).map_err(|reason| (number, reason));
    Ok(numbers(&directory)?.into_iter().rev().map(head).collect())
}

/// Opens a set. Blocks.
///
/// # Errors
/// Why it cannot be used, as the end of a sentence.
pub fn open(state_dir: &Path, number: u64) -> Result<KeptSet, String> {
    let path = path(&state_dir.join(CONFIGURATIONS), number);
    let content =
        crate::file::read(&path, MAX_SET).map_err(|error| format!("{}: {error}", path.display()))?;
    let (head, texts) =
        form::decode(&content.bytes).map_err(|reason| format!("{} {reason}", path.display()))?;
    Ok(KeptSet { head, texts: KeptTexts::new(texts) })
}

fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number}.jsonl"))
}

/// The numbers of the sets, in order.
fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".jsonl")?.parse().ok();
    let mut numbers: Vec<u64> = entries.filter_map(Result::ok).filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn read_head(path: &Path) -> Result<SetHead, String> {
    let line = || {
        let mut line = Vec::new();
        BufReader::new(crate::file::open(path)?).take(MAX_HEAD).read_until(b'\n', &mut line)?;
        io::Result::Ok(line)
    };
    let line = line().map_err(|error| format!("it cannot be read: {error}"))?;
    form::decode_head(&line)
}

/// Deletes the oldest of the `earlier` sets, until there are few and small enough.
fn prune(directory: &Path, earlier: Vec<u64>) {
    let size = |number| path(directory, number).symlink_metadata().map_or(0, |file| file.len());
    let mut bytes = earlier.last().map_or(0, |newest| size(newest.saturating_add(1)));
    for (place, number) in earlier.into_iter().rev().enumerate() {
        bytes = bytes.saturating_add(size(number));
        if place + 1 >= MOST_SETS || bytes > MAX_SETS {
            // If it stays, the next set tries again.
            let _ = fs::remove_file(path(directory, number));
        }
    }
}

/// Whether a set has the text of a file of this kind.
fn belongs(file: &ReadFile) -> bool {
    file.kind.is_kept()
}

/// The kind with this name.
fn kind_named(name: &str) -> Option<FileKind> {
    FileKind::ALL.into_iter().find(|kind| kind.as_str() == name)
}

#[cfg(test)]
mod tests;
