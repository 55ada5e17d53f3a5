//! The one way to open a file that somebody else has named: in the configuration, in a zone file,
//! on the command line.
//!
//! A name may lead anywhere: to a pipe that nobody writes to, to a device without an end, to a file
//! system that does not answer. Regular files alone are opened, to open one waits for nobody, and
//! none is read beyond a limit. What a file says does not belong here.

use std::fmt;
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The most bytes of a configuration, with all files that it includes: half a million backends.
pub const CONFIGURATION: u64 = 64 << 20;
/// The most bytes of a zone, with all files that it includes: ten million records and more.
pub const ZONE: u64 = 1 << 30;
/// The most bytes of a file that holds a token, a key or a few secrets.
pub const SECRET: u64 = 64 << 10;
/// The most bytes of a file of certificates: all public authorities together take a quarter of a
/// megabyte.
pub const CERTIFICATES: u64 = 16 << 20;
/// The most bytes of a file that does not say how many it has, as those below /proc.
const UNSIZED: u64 = 1 << 20;

/// A file as it was when it was read.
#[derive(Debug)]
pub struct Content {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Where it comes from.
    pub origin: Origin,
}

/// The file that something was read from.
#[derive(Debug)]
pub struct Origin {
    /// Past all links; none when the system does not say.
    path: Option<PathBuf>,
    metadata: Metadata,
}

/// Why a file is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error("it is a directory; name a file")]
    Directory,
    #[error("it is a {0}; name a regular file")]
    Irregular(&'static str),
    #[error("it has {}, and at most {} are read", Size(*.size), Size(*.limit))]
    Large { size: u64, limit: u64 },
    #[error("it has more than {}, which is the most that is read", Size(*.0))]
    Endless(u64),
    #[error("it grew while it was read; try again when it is complete")]
    Grew,
    #[error("reading it would wait for another program; name a regular file that no program holds")]
    Waits,
    #[error("reading the configuration was given up on before")]
    GivenUp,
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, refused)
    }
}

/// Opens a regular file to read it.
///
/// # Errors
/// When the system refuses, or it is no regular file: what it is.
pub fn open(path: &Path) -> io::Result<File> {
    // To open a device can already do something, so it is looked at first. It may be another file a
    // moment later, so opening waits for nobody, and what was opened is looked at again.
    regular(fs::metadata(path)?.file_type())?;
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(waits)?;
    regular(file.metadata()?.file_type())?;
    Ok(file)
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// When the system refuses, it is no regular file, or it has more bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Content> {
    let file = open(path)?;
    let metadata = file.metadata()?;
    let size = metadata.len();
    if size > limit {
        return Err(Refused::Large { size, limit }.into());
    }
    // A file that grows as fast as it is read would else be read up to the limit.
    let most = if size == 0 { limit.min(UNSIZED) } else { size };
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(size).unwrap_or(usize::MAX))?;
    (&file).take(most + 1).read_to_end(&mut bytes).map_err(waits)?;
    if bytes.len() as u64 > most {
        return Err(if size == 0 { Refused::Endless(most) } else { Refused::Grew }.into());
    }
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok();
    Ok(Content { bytes, origin: Origin { path, metadata } })
}

/// The kind of a file that is neither regular nor a directory.
#[must_use]
pub fn irregular(file_type: FileType) -> Option<&'static str> {
    match file_type {
        kind if kind.is_fifo() => Some("FIFO"),
        kind if kind.is_socket() => Some("socket"),
        kind if kind.is_char_device() || kind.is_block_device() => Some("device"),
        _ => None,
    }
}

fn regular(file_type: FileType) -> Result<(), Refused> {
    if file_type.is_file() {
        return Ok(());
    }
    Err(irregular(file_type).map_or(Refused::Directory, Refused::Irregular))
}

/// A lease of another program, or a file of the kernel's that has nothing to say now.
fn waits(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { Refused::Waits.into() } else { error }
}

impl Origin {
    /// Whether messages may show its lines: it is in the directory of the file that names it, and no link
    /// leads out. In a directory below, which may hold the keys of another program, every user must be able
    /// to read it besides.
    #[must_use]
    pub fn is_quotable_by(&self, named_by: &Path) -> bool {
        let directory = named_by.parent().filter(|directory| *directory != Path::new(""));
        let directory = directory.unwrap_or(Path::new(".")).canonicalize().ok();
        self.path.as_ref().zip(directory).is_some_and(|(path, directory)| {
            let is_public = self.metadata.mode() & 0o004 != 0;
            path.parent() == Some(&directory) || (is_public && path.starts_with(&directory))
        })
    }
}

impl Content {
    /// The mode, when others than its user may read or write the file. To be read by a group is how
    /// root hands a file to a service, so that is no exposure of root's.
    #[must_use]
    pub fn exposed(&self) -> Option<u32> {
        let metadata = &self.origin.metadata;
        let handed_on = metadata.uid() == 0 && metadata.gid() != 0;
        let allowed = if handed_on { 0o740 } else { 0o700 };
        let mode = metadata.mode() & 0o777;
        (mode & !allowed != 0).then_some(mode)
    }

    /// The text, when it is UTF-8.
    ///
    /// # Errors
    /// When it is not.
    pub fn text(&self) -> io::Result<&str> {
        let text = std::str::from_utf8(&self.bytes);
        text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8"))
    }
}

/// A run of reads that another thread watches: where it is, and whether it is still waited for.
#[derive(Debug, Default)]
pub struct Reading {
    current: Mutex<PathBuf>,
    given_up: AtomicBool,
}

impl Reading {
    /// Says which file is about to be looked at.
    ///
    /// # Errors
    /// When nobody waits for it any more.
    pub fn look_at(&self, path: &Path) -> io::Result<()> {
        if self.given_up.load(Ordering::Relaxed) {
            return Err(Refused::GivenUp.into());
        }
        path.clone_into(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// As [`read`], where it is watched.
    ///
    /// # Errors
    /// Those of [`read`], and when nobody waits for it any more.
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Content> {
        self.look_at(path)?;
        read(path, limit)
    }

    /// Ends it before the next file, and says which file it was looking at.
    pub fn give_up(&self) -> PathBuf {
        self.given_up.store(true, Ordering::Relaxed);
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Bytes as one says them: `64 KiB`.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.iter().find(|(shift, _)| self.0 >> shift > 0) {
            Some((shift, unit)) => write!(f, "{} {unit}", self.0 >> shift),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    fn refusal(path: &Path, limit: u64) -> String {
        read(path, limit).map(|content| content.bytes.len()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_regular_file_is_named_and_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let _socket = UnixListener::bind(at("socket")).unwrap();
        symlink("pipe", at("link")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for (path, expected) in [
            (at("pipe"), "it is a FIFO; name a regular file"),
            (at("link"), "it is a FIFO; name a regular file"),
            (at("socket"), "it is a socket"),
            (PathBuf::from("/dev/zero"), "it is a device"),
            (at("."), "it is a directory; name a file"),
            (at("loop"), "symbolic links"),
            (at("none"), "No such file"),
        ] {
            let refused = refusal(&path, SECRET);
            assert!(refused.contains(expected), "{}: {refused}", path.display());
        }
    }

    #[test]
    fn no_file_is_read_beyond_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sparse");
        let file = File::create(&path).unwrap();
        for (size, expected) in [(100 << 30, "100 GiB"), (SECRET + 1, "64 KiB")] {
            file.set_len(size).unwrap();
            let refused = refusal(&path, SECRET);
            assert!(refused.contains(expected) && refused.contains("at most 64 KiB"), "{refused}");
        }
        file.set_len(SECRET).unwrap();
        assert_eq!(read(&path, SECRET).unwrap().bytes.len() as u64, SECRET);
        // A file of the kernel's that says it is empty, and is not.
        assert!(!read(Path::new("/proc/self/status"), SECRET).unwrap().bytes.is_empty());
        assert!(refusal(Path::new("/proc/self/status"), 10).contains("more than 10 bytes"));
    }

    #[test]
    fn a_file_that_grows_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("growing");
        let stop = AtomicBool::new(false);
        let grew = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut file = File::create(&path).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    file.write_all(&[b'x'; 4096]).unwrap();
                    if file.metadata().unwrap().len() > 16 << 20 {
                        file.set_len(1).unwrap();
                    }
                }
            });
            let met = |_| read(&path, ZONE).is_err_and(|error| error.to_string().contains("it grew"));
            let grew = (0..1_000_000).any(met);
            stop.store(true, Ordering::Relaxed);
            grew
        });
        assert!(grew, "it was never met while it grew");
    }

    #[test]
    fn a_link_out_of_a_directory_is_seen() {
        let outside = tempfile::tempdir().unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        fs::create_dir(directory.path().join("sub")).unwrap();
        fs::write(directory.path().join("sub/file"), "x").unwrap();
        symlink(outside.path(), directory.path().join("out")).unwrap();
        symlink("sub/file", directory.path().join("within")).unwrap();
        let within = |name: &str| {
            let content = read(&directory.path().join(name), SECRET).unwrap();
            content.origin.is_quotable_by(&directory.path().join("main"))
        };
        assert!(within("sub/file") && within("within") && within("sub/../within"));
        fs::set_permissions(directory.path().join("sub/file"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(!within("sub/file") && !within("within"), "below, and not for everyone");
        fs::write(directory.path().join("own"), "x").unwrap();
        fs::set_permissions(directory.path().join("own"), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(within("own") && within("sub/../own"));
        assert!(!within("out/secret"));
        assert!(!within(outside.path().join("secret").to_str().unwrap()));
    }

    #[test]
    fn who_else_may_read_a_file_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "x").unwrap();
        for (mode, exposed) in [(0o600, false), (0o400, false), (0o700, false), (0o604, true), (0o660, true)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path, SECRET).unwrap().exposed(), exposed.then_some(mode), "{mode:o}");
        }
    }

    #[test]
    fn a_run_that_was_given_up_on_reads_no_further_file() {
        let reading = Reading::default();
        reading.read(Path::new("/proc/self/status"), SECRET).unwrap();
        assert_eq!(reading.give_up(), Path::new("/proc/self/status"));
        assert!(reading.read(Path::new("/proc/self/status"), SECRET).is_err());
    }
}
