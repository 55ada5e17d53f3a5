//! The lock that gives each state directory to one server.
//!
//! The lock belongs to the open file (`flock`), so it ends with the process, even after a crash.
//! The file contains the process id for people; nothing depends on its content.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};

/// The lock file in `state_dir`.
pub const LOCK: &str = "lock";
/// Width of the process id in the file. It is constant, so that a new holder completely overwrites
/// the old id, and always has room for it on a full disk.
const DIGITS: usize = 10;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another server uses it.
    #[error(
        "`state_dir` {} is in use by {}; stop that process, or give each server a directory of its own",
        directory.display(),
        holder.map_or_else(|| "another process".into(), |holder| format!("process {holder}"))
    )]
    Held {
        /// The directory.
        directory: PathBuf,
        /// The process, if the file names it.
        holder: Option<u32>,
    },
    /// The system refuses to lock it.
    #[error("`state_dir` {} cannot be locked: {error}", directory.display())]
    Refused {
        /// The directory.
        directory: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The file system does not respond.
    #[error(
        "the file system of `state_dir` {} has not answered for {limit:?}; choose a directory on another file system, or reload again when it answers",
        directory.display()
    )]
    Silent {
        /// The directory.
        directory: PathBuf,
        /// How long steerd waited.
        limit: Duration,
    },
}

/// The lock of a directory. It is held as long as this value exists.
#[derive(Debug)]
struct Lock {
    /// It keeps the lock.
    file: File,
    /// Device and inode of the file. They are stored because the file system may stop responding.
    identity: (u64, u64),
}

/// A `state_dir`, with its lock if it could be taken.
#[derive(Clone, Debug)]
pub struct StateDirectory {
    directory: PathBuf,
    lock: Option<Arc<Lock>>,
}

impl StateDirectory {
    /// Locks a directory for this process. Blocks.
    ///
    /// # Errors
    /// If another process has the lock, or it cannot be taken.
    pub fn take(directory: PathBuf) -> Result<Self, LockError> {
        let lock = Some(Arc::new(Lock::take(&directory)?));
        Ok(Self { directory, lock })
    }

    /// A directory that another process has locked through this descriptor of its lock file. The lock lasts until both
    /// processes have closed it; until [`StateDirectory::name_holder`], its file names that process. Blocks.
    ///
    /// # Errors
    /// If it is not the lock file of the directory.
    pub fn taken_over(directory: PathBuf, lock: OwnedFd) -> Result<Self, LockError> {
        let refused = |error: io::Error| LockError::Refused { directory: directory.clone(), error };
        let file = File::from(lock);
        let lock = Lock { identity: identity(&file.metadata().map_err(refused)?), file };
        if !lock.is_in(&directory) {
            return Err(refused(io::Error::other("the directory was replaced meanwhile")));
        }
        Ok(Self { directory, lock: Some(Arc::new(lock)) })
    }

    /// Writes the id of this process into the lock file, once the process that had the lock has given it up. Blocks.
    pub fn name_holder(&self) {
        if let Some(lock) = &self.lock {
            // The lock is valid without the text: the disk may be full.
            let _ = write_holder(&lock.file);
        }
    }

    /// The lock file, for a process that takes over; none if it is not locked.
    #[must_use]
    pub fn lock_file(&self) -> Option<BorrowedFd<'_>> {
        self.lock.as_ref().map(|lock| lock.file.as_fd())
    }

    /// A directory that `hold` has not locked yet.
    #[must_use]
    pub fn unlocked(directory: PathBuf) -> Self {
        Self { directory, lock: None }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The same directory under another path; `None` if the lock is not there. Accesses only that
    /// path, because the file system of the current one may not respond. Blocks.
    #[must_use]
    pub fn by_path(&self, path: &Path) -> Option<Self> {
        let lock = self.lock.as_ref().filter(|lock| lock.is_in(path))?;
        Some(Self { directory: path.into(), lock: Some(Arc::clone(lock)) })
    }

    /// Makes sure that this process still has the lock, because the directory may have been
    /// replaced.
    ///
    /// # Errors
    /// Those of [`StateDirectory::take`].
    pub(super) fn hold(&mut self) -> Result<(), LockError> {
        if !self.lock.as_ref().is_some_and(|lock| lock.is_in(&self.directory)) {
            self.lock = None;
            self.lock = Some(Arc::new(Lock::take(&self.directory)?));
        }
        Ok(())
    }
}

impl Lock {
    fn take(directory: &Path) -> Result<Self, LockError> {
        let refused = |error: io::Error| LockError::Refused { directory: directory.into(), error };
        let mut file = open(&directory.join(LOCK)).map_err(refused)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // The lock is valid without the text: the disk may be full.
                let _ = write_holder(&file);
                let identity = identity(&file.metadata().map_err(refused)?);
                Ok(Self { file, identity })
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(LockError::Held { directory: directory.into(), holder: holder(&mut file) })
            }
            Err(error) => Err(refused(error.into())),
        }
    }

    /// Whether the lock is on the file in this directory.
    fn is_in(&self, directory: &Path) -> bool {
        let there = directory.join(LOCK).symlink_metadata();
        there.is_ok_and(|there| identity(&there) == self.identity)
    }
}

fn write_holder(file: &File) -> io::Result<()> {
    file.write_all_at(format!("{:<DIGITS$}", std::process::id()).as_bytes(), 0)
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn open(path: &Path) -> io::Result<File> {
    // Opening a FIFO would wait for its other end, and a link could lead to another program's file.
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("`lock` is not a file")) }
}

/// The process that has the lock; `None` if it has not written its id yet.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(DIGITS as u64).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_directory_has_one_holder_and_says_which() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().to_owned();
        std::fs::write(path.join(LOCK), "4194304   left behind").unwrap();
        let first = StateDirectory::take(path.clone()).unwrap();
        let refused = StateDirectory::take(path.clone()).unwrap_err().to_string();
        let expected = format!("`state_dir` {} is in use by process {};", path.display(), std::process::id());
        assert!(refused.starts_with(&expected), "{refused}");
        let same = first.by_path(&path.join(".")).expect("the same directory");
        assert!(first.by_path(Path::new("/")).is_none());
        let moved = directory.path().join("moved");
        std::os::unix::fs::symlink(&path, &moved).unwrap();
        let mut elsewhere = first.clone();
        elsewhere.directory = "/present/is/not/looked/at".into();
        assert!(elsewhere.by_path(&moved).is_some(), "by the lock alone");
        drop(elsewhere);
        drop(first);
        assert!(StateDirectory::take(path.clone()).is_err(), "while any clone in this process exists");
        drop(same);
        StateDirectory::take(path).expect("it is free");
    }

    #[test]
    fn a_holder_that_has_not_said_so_is_another_process() {
        let directory = TempDir::new().unwrap();
        let _first = StateDirectory::take(directory.path().into()).unwrap();
        for text in ["", "        12", "not a number"] {
            std::fs::write(directory.path().join(LOCK), text).unwrap();
            let refused = StateDirectory::take(directory.path().into()).unwrap_err().to_string();
            assert_eq!(refused.contains("process 12;"), text.contains("12"), "{refused}");
            assert!(text.contains("12") || refused.contains("in use by another process;"), "{refused}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused_and_a_replaced_directory_is_locked_anew() {
        let directory = TempDir::new().unwrap();
        let state = directory.path().join("state");
        assert!(
            matches!(StateDirectory::take(state.clone()), Err(LockError::Refused { .. })),
            "there is none"
        );
        std::fs::create_dir(&state).unwrap();
        let mut place = StateDirectory::take(state.clone()).unwrap();
        place.hold().unwrap();
        std::fs::remove_dir_all(&state).unwrap();
        place.hold().unwrap_err();
        std::fs::create_dir(&state).unwrap();
        let other = StateDirectory::take(state.clone()).unwrap();
        assert!(matches!(place.hold(), Err(LockError::Held { .. })));
        drop(other);
        place.hold().unwrap();
        assert!(StateDirectory::take(state.clone()).is_err());
        drop(place);
        std::fs::remove_file(state.join(LOCK)).unwrap();
        std::os::unix::fs::symlink("/dev/null", state.join(LOCK)).unwrap();
        assert!(matches!(StateDirectory::take(state.clone()), Err(LockError::Refused { .. })), "a link");
        std::fs::remove_file(state.join(LOCK)).unwrap();
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            state.join(LOCK),
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        )
        .unwrap();
        assert!(matches!(StateDirectory::take(state), Err(LockError::Refused { .. })), "a pipe");
    }
}
