//! The files of the audit: appends lines, and replaces the oldest file when the newest is full.
//!
//! ```text
//! audit.jsonl      the newest entries; when it is full, each file takes the next number
//! audit.1.jsonl    earlier entries
//! audit.4.jsonl    the oldest entries; this one is deleted next
//! ```
//!
//! A line is appended with one call, and ends with a line feed. If a crash has cut off the last line, the next append
//! completes it with a line feed and a line that says so. So a reader finds every other line whole. The file is opened
//! for each append: it may have been deleted, or another process may have renamed it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::entry::AuditRecord;

/// The newest file in `state_dir`.
pub const AUDIT: &str = "audit.jsonl";
/// How many files there are at most.
pub const AUDIT_FILES: usize = 5;
/// The largest size of a file, bytes: some 30,000 entries.
pub const MAX_AUDIT_FILE: u64 = 8 << 20;

/// The content of files of the audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFiles {
    /// The entries, the latest last.
    pub records: Vec<AuditRecord>,
    /// How many lines are no entries: a crash has cut them off, or something else has changed the file.
    pub torn: usize,
}

/// The state of the file before an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastLine {
    Whole,
    Torn,
}

/// The paths of the files in a directory, the newest first. They need not exist.
#[must_use]
pub fn files(directory: &Path) -> [PathBuf; AUDIT_FILES] {
    std::array::from_fn(|number| match number {
        0 => directory.join(AUDIT),
        _ => directory.join(format!("audit.{number}.jsonl")),
    })
}

/// Reads a file.
///
/// # Errors
/// The system's error.
pub fn read_file(path: &Path) -> io::Result<AuditFiles> {
    // An entry that was just larger than the rest of the room has its place.
    let content = crate::file::read(path, 2 * MAX_AUDIT_FILE)?;
    let mut found = AuditFiles::default();
    for line in content.bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        match serde_json::from_slice(line) {
            Ok(record) => found.records.push(record),
            Err(_) => found.torn += 1,
        }
    }
    Ok(found)
}

/// The last entries in a directory, at most `most`; the latest last. Files that cannot be read are left out.
pub(super) fn last(directory: &Path, most: usize) -> Vec<AuditRecord> {
    let mut records: Vec<AuditRecord> = Vec::new();
    for path in files(directory) {
        let Ok(mut read) = read_file(&path) else { continue };
        read.records.append(&mut records);
        records = read.records;
        if records.len() >= most {
            break;
        }
    }
    records.drain(..records.len().saturating_sub(most));
    records
}

/// Appends lines, each with its line feed. `torn` makes the line that follows an incomplete one.
///
/// # Errors
/// The system's error; then the lines of the file are as before.
pub(super) fn append(directory: &Path, lines: &[u8], torn: impl FnOnce() -> Vec<u8>) -> io::Result<LastLine> {
    let path = directory.join(AUDIT);
    let mut file = open(&path)?;
    let mut length = file.metadata()?.len();
    if length > 0 && length.saturating_add(lines.len() as u64) > MAX_AUDIT_FILE {
        rotate(directory)?;
        file = open(&path)?;
        length = 0;
    }
    if length == 0 {
        // Before the lines: after them, a failure here would have them written twice.
        File::open(directory)?.sync_all()?;
    }
    let last = last_line(&mut file, length)?;
    let mut bytes = if last == LastLine::Torn { torn() } else { Vec::new() };
    bytes.extend(lines);
    let written = file.write_all(&bytes).and_then(|()| file.sync_data());
    if let Err(error) = written {
        // A part of a line must neither stay nor take up space on a full disk.
        let _ = file.set_len(length);
        return Err(error);
    }
    Ok(last)
}

fn open(path: &Path) -> io::Result<File> {
    // Opening a FIFO would wait for its other end, and a link could lead to another program's file.
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

fn last_line(file: &mut File, length: u64) -> io::Result<LastLine> {
    let Some(last) = length.checked_sub(1) else { return Ok(LastLine::Whole) };
    let mut byte = [0];
    file.seek(SeekFrom::Start(last))?;
    file.read_exact(&mut byte)?;
    Ok(if byte == *b"\n" { LastLine::Whole } else { LastLine::Torn })
}

/// Gives each file the next number. The oldest is replaced.
fn rotate(directory: &Path) -> io::Result<()> {
    let paths = files(directory);
    for (newer, older) in paths.iter().zip(paths.iter().skip(1)).rev() {
        match fs::rename(newer, older) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
