//! A file that is replaced when it is full, so that a forgotten query log cannot fill the disk.
//!
//! The size decides, not another program: a log that is switched on for ten minutes at 100,000 queries a second must be
//! bounded too, and nobody has set up `logrotate` for it then.
//!
//! ```text
//! queries.jsonl --full--> queries.jsonl.1 --> .2 --> .3 --> removed
//! ```

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The size at which a file is full, bytes.
pub(super) const MOST_BYTES: u64 = 128 << 20;
/// How many full files are kept.
pub(super) const KEPT: u32 = 3;
/// How often the path is compared with the open file: somebody may have removed or moved that one.
const LOOK: Duration = Duration::from_secs(1);

/// The file, opened when it is first written.
#[derive(Debug)]
pub(super) struct RotatedFile {
    path: PathBuf,
    most_bytes: u64,
    open: Option<Open>,
    /// Whether the last write ended in the middle of a line.
    is_torn: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    length: u64,
    /// Its device and inode.
    identity: (u64, u64),
    /// When the path was last seen to lead to it.
    seen: Instant,
}

impl RotatedFile {
    pub(super) fn new(path: PathBuf, most_bytes: u64) -> Self {
        Self { path, most_bytes, open: None, is_torn: false }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines.
    ///
    /// # Errors
    /// If they are not written, or only in part; the next write opens the file anew and begins a new line.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let outcome = self.try_append(lines);
        if outcome.is_err() {
            self.open = None;
        }
        outcome
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.open.as_mut().is_some_and(|open| !open.is_at(&self.path)) {
            self.open = None;
        }
        let mut open = self.opened()?;
        if open.length >= self.most_bytes {
            // A full file that cannot be renamed gets nothing more.
            self.rotate()?;
            open = self.opened()?;
        }
        let Open { file, length, .. } = self.open.insert(open);
        if self.is_torn {
            file.write_all(b"\n")?;
            self.is_torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            let written = match file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            *length += written as u64;
            let (done, left) = rest.split_at(written.min(rest.len()));
            self.is_torn = done.last() != Some(&b'\n');
            rest = left;
        }
        Ok(())
    }

    /// The open file, taken out, or else the one at the path.
    fn opened(&mut self) -> io::Result<Open> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        let open = open(&self.path)?;
        let mut last = [b'\n'];
        if open.length > 0 && open.file.read_at(&mut last, open.length - 1).is_ok() {
            self.is_torn = last != *b"\n";
        }
        Ok(open)
    }

    /// Renames the full files; the oldest is replaced.
    fn rotate(&self) -> io::Result<()> {
        for number in (0..KEPT).rev() {
            match fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Open {
    /// Whether the path leads to this file; looked up once in [`LOOK`].
    fn is_at(&mut self, path: &Path) -> bool {
        if self.seen.elapsed() < LOOK {
            return true;
        }
        self.seen = Instant::now();
        fs::metadata(path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity)
    }
}

/// A new file is for its user and group alone: addresses of clients are personal data.
fn open(path: &Path) -> io::Result<Open> {
    // Without waiting: a path may be a FIFO that nobody reads.
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("this is not a regular file"));
    }
    let identity = (metadata.dev(), metadata.ino());
    Ok(Open { file, length: metadata.len(), identity, seen: Instant::now() })
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_renamed_and_only_some_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("q");
        let mut file = RotatedFile::new(path.clone(), 10);
        for line in 0..20_u8 {
            file.append(&[b'a' + line, b'a' + line, b'a' + line, b'a' + line, b'\n']).unwrap();
        }
        let content = |number| fs::read_to_string(numbered(&path, number)).unwrap();
        assert_eq!(
            [0, 1, 2, 3].map(content),
            ["ssss\ntttt\n", "qqqq\nrrrr\n", "oooo\npppp\n", "mmmm\nnnnn\n"]
        );
        assert!(!numbered(&path, KEPT + 1).exists());
        let mut again = RotatedFile::new(path.clone(), 10);
        again.append(b"u\n").unwrap();
        again.append(b"v\n").unwrap();
        assert_eq!([0, 1].map(content), ["u\nv\n", "ssss\ntttt\n"], "an existing full file is renamed");
    }

    #[test]
    fn a_path_that_is_no_file_is_refused_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path().to_owned(), "/dev/null".into(), directory.path().join("no/such")] {
            assert!(RotatedFile::new(path, 10).append(b"x\n").is_err());
        }
        let path = directory.path().join("late");
        let mut file = RotatedFile::new(path.join("q"), 10);
        assert!(file.append(b"x\n").is_err());
        fs::create_dir(&path).unwrap();
        file.append(b"y\n").unwrap();
        assert_eq!(fs::read(path.join("q")).unwrap(), b"y\n");
    }

    /// Torn by this process, or by an earlier one.
    #[test]
    fn a_line_after_a_torn_one_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("q");
        let mut file = RotatedFile::new(path.clone(), 1000);
        file.append(b"whole\n").unwrap();
        file.append(b"torn").unwrap();
        file.append(b"next\nagain").unwrap();
        RotatedFile::new(path.clone(), 1000).append(b"last\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\ntorn\nnext\nagain\nlast\n");
    }

    /// A directory in place of the file to be replaced stands for missing rights, which root would not notice.
    #[test]
    fn a_full_file_that_cannot_be_renamed_grows_no_further() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("q");
        fs::create_dir_all(numbered(&path, KEPT).join("in the way")).unwrap();
        fs::write(numbered(&path, KEPT - 1), "").unwrap();
        let mut file = RotatedFile::new(path.clone(), 10);
        file.append(b"0123456789\n").unwrap();
        for _ in 0..5 {
            assert!(file.append(b"more\n").is_err());
        }
        assert_eq!(fs::read(&path).unwrap(), b"0123456789\n");
        fs::remove_dir_all(numbered(&path, KEPT)).unwrap();
        file.append(b"more\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"more\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_written_no_further() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("q"), directory.path().join("moved"));
        let mut file = RotatedFile::new(path.clone(), 1000);
        file.append(b"a\n").unwrap();
        fs::rename(&path, &moved).unwrap();
        file.open.as_mut().unwrap().seen -= LOOK;
        file.append(b"b\n").unwrap();
        assert_eq!((fs::read(&moved).unwrap(), fs::read(&path).unwrap()), (b"a\n".into(), b"b\n".into()));
    }
}
