//! Replacing a file as a whole, so that whoever reads it finds the old one or the new one,
//! whenever this process or this machine stops.
//!
//! ```text
//! create beside it -> write -> fsync -> rename over it -> fsync the directory
//! ```
//!
//! The steps go through a trait, so that a test can stop after each and look at what is left.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Beyond the name of the file: the new one until it takes its place.
const NEW: &str = ".new";

/// The steps.
pub(super) trait Disk: Clone + Send + 'static {
    type File: Write + Send + 'static;

    /// Deletes a file that is in the way, if there is one.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// Makes an empty file where there is none, for its owner alone.
    fn create(&mut self, path: &Path) -> io::Result<Self::File>;
    /// Returns when the content would survive a loss of power.
    fn sync(&mut self, file: &mut Self::File) -> io::Result<()>;
    /// Puts a file in the place of another, at once.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Returns when the names of a directory would survive a loss of power.
    fn sync_directory(&mut self, directory: &Path) -> io::Result<()>;
}

/// Puts `bytes` in the place of what the file holds.
///
/// # Errors
/// When a step fails. Before the rename the old file is untouched.
pub(super) fn replace<D: Disk>(disk: &mut D, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = beside(path);
    disk.remove(&new)?;
    let written = disk.create(&new).and_then(|mut file| {
        file.write_all(bytes)?;
        disk.sync(&mut file)
    });
    if let Err(error) = written.and_then(|()| disk.rename(&new, path)) {
        // A part of a file must not stay on a disk that is full.
        let _ = disk.remove(&new);
        return Err(error);
    }
    disk.sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Where the new file stands until it takes its place.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(NEW);
    path.with_file_name(name)
}

/// The disk of this machine.
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
        // With all that is needed to read the content; without the times of the file.
        file.sync_data()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }
}
