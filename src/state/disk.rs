//! Replaces a file atomically: after a crash of the process or the machine, a reader finds either
//! the old file or the new one.
//!
//! ```text
//! create new file -> write -> fsync -> rename over it -> fsync the directory
//! ```
//!
//! The steps are methods of a trait, so that a test can stop after each one and inspect the result.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Suffix of the new file until it is renamed.
const NEW: &str = ".new";

/// The steps of replacing a file.
pub(super) trait Disk: Clone + Send + 'static {
    type File: Write + Send + 'static;

    /// Deletes a file, if it exists.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// Creates a new empty file that only its owner may access.
    fn create(&mut self, path: &Path) -> io::Result<Self::File>;
    /// Returns when the content is safe against a loss of power.
    fn sync(&mut self, file: &mut Self::File) -> io::Result<()>;
    /// Replaces a file with another, atomically.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Returns when the names in a directory are safe against a loss of power.
    fn sync_directory(&mut self, directory: &Path) -> io::Result<()>;
}

/// Replaces the content of a file with `bytes`.
///
/// # Errors
/// If a step fails. Before the rename, the old file is unchanged.
pub(super) fn replace<D: Disk>(disk: &mut D, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = beside(path);
    disk.remove(&new)?;
    let written = disk.create(&new).and_then(|mut file| {
        file.write_all(bytes)?;
        disk.sync(&mut file)
    });
    if let Err(error) = written.and_then(|()| disk.rename(&new, path)) {
        // An incomplete file must not take up space on a full disk.
        let _ = disk.remove(&new);
        return Err(error);
    }
    disk.sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// The path of the new file until it is renamed.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(NEW);
    path.with_file_name(name)
}

/// The real disk.
#[derive(Clone)]
pub(super) struct System;

impl Disk for System {
    type File = File;

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    fn sync(&mut self, file: &mut File) -> io::Result<()> {
        // Syncs the metadata that is needed to read the content, but not the file times.
        file.sync_data()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }
}
