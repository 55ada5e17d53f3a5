//! The one way to open a file that somebody else has named: in the configuration, in a zone file,
//! on the command line.
//!
//! A name may lead anywhere: to a pipe that nobody writes to, to a device without an end, to a file
//! system that does not answer. Regular files alone are opened, to open one waits for nobody, and
//! none is read beyond a limit. The content of a file does not belong here.

use std::fmt;
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most bytes of a configuration, with all files that it includes: half a million backends.
pub const CONFIGURATION: u64 = 64 << 20;
/// The most bytes of all zones of a configuration, with all files that they include: ten million records
/// and more.
pub const ZONES: u64 = 1 << 30;
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
    #[error("an earlier attempt to read the configuration still waits for this file")]
    Hangs,
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
    read_open(&open(path)?, limit, || ())
}

/// Reads a file that is open; between asking for its size and reading it, `meanwhile` is done.
fn read_open(mut file: &File, limit: u64, meanwhile: impl FnOnce()) -> io::Result<Content> {
    let metadata = file.metadata()?;
    let size = metadata.len();
    if size > limit {
        return Err(Refused::Large { size, limit }.into());
    }
    // A file that grows as fast as it is read would else be read up to the limit.
    let most = if size == 0 { limit.min(UNSIZED) } else { size };
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(size).unwrap_or(usize::MAX))?;
    meanwhile();
    file.by_ref().take(most + 1).read_to_end(&mut bytes).map_err(waits)?;
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

/// A run of reads that another thread watches: where it is, and whether it is still wanted.
///
/// ```text
/// going on --end--> ended
///    `--give_up--> given up: it begins no further file --the file system answers--> left
/// ```
#[derive(Debug, Default)]
pub struct Reading {
    state: Mutex<ReadingState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ReadingState {
    phase: Phase,
    current: PathBuf,
    /// Where another one hangs, so that this one did not go on.
    hangs_at: Option<PathBuf>,
}

/// Where a [`Reading`] stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It is wanted, and reads.
    #[default]
    GoingOn,
    /// It is no longer wanted, and may still wait for a file system.
    GivenUp,
    /// It was given up on, and reads no more.
    Left,
    /// It is complete.
    Ended,
}

/// Those that were given up on. A path that one of them waits at is not looked at again, so that
/// however often a load is tried again, one thread alone waits there.
static GIVEN_UP: Mutex<Vec<Arc<Reading>>> = Mutex::new(Vec::new());

/// The readings that were given up on and have not ended.
fn hanging() -> MutexGuard<'static, Vec<Arc<Reading>>> {
    let mut given_up = GIVEN_UP.lock().unwrap_or_else(PoisonError::into_inner);
    given_up.retain(|reading| reading.state().phase == Phase::GivenUp);
    given_up
}

impl Reading {
    /// How many were given up on and have not ended.
    #[must_use]
    pub fn count_hanging() -> usize {
        hanging().len()
    }

    fn state(&self) -> MutexGuard<'_, ReadingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which path is about to be looked at.
    ///
    /// # Errors
    /// When it is no longer wanted, or another one still waits at this path: this one ends then, too.
    pub fn look_at(&self, path: &Path) -> io::Result<()> {
        let hangs = hanging().iter().any(|other| other.state().current == path);
        let mut state = self.state();
        if state.phase != Phase::GoingOn || state.hangs_at.is_some() {
            return Err(Refused::GivenUp.into());
        }
        if hangs {
            state.hangs_at = Some(path.to_owned());
            return Err(Refused::Hangs.into());
        }
        path.clone_into(&mut state.current);
        Ok(())
    }

    /// As [`read`], where it is watched.
    ///
    /// # Errors
    /// Those of [`read`], and those of [`Reading::look_at`].
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Content> {
        self.look_at(path)?;
        read(path, limit)
    }

    /// Whether what is read is still wanted.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.state().phase == Phase::GoingOn
    }

    /// The path that another one waits at, if that ended this one.
    #[must_use]
    pub fn hangs_at(&self) -> Option<PathBuf> {
        self.state().hangs_at.clone()
    }

    /// Ends it before the next file, and says which file it was looking at.
    pub fn give_up(self: &Arc<Self>) -> PathBuf {
        let mut state = self.state();
        let current = state.current.clone();
        if state.phase == Phase::GoingOn {
            state.phase = Phase::GivenUp;
            drop(state);
            self.changed.notify_all();
            hanging().push(Arc::clone(self));
        }
        current
    }

    /// Says that nothing more is read.
    pub fn end(&self) {
        let mut state = self.state();
        state.phase = match state.phase {
            Phase::GoingOn | Phase::Ended => Phase::Ended,
            Phase::GivenUp | Phase::Left => Phase::Left,
        };
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until it is no longer in this phase, for a time only; answers with its phase then.
    #[must_use]
    pub fn wait_while(&self, phase: Phase, time: Duration) -> Phase {
        let waited = self.changed.wait_timeout_while(self.state(), time, |state| state.phase == phase);
        waited.unwrap_or_else(PoisonError::into_inner).0.phase
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
        fs::write(&path, "complete").unwrap();
        let grow =
            || File::options().append(true).open(&path).unwrap().write_all(&vec![b'x'; 1 << 20]).unwrap();
        let grown = read_open(&open(&path).unwrap(), SECRET, grow);
        let refused = grown.map(|content| content.bytes.len()).unwrap_err().to_string();
        assert!(refused.contains("it grew while it was read"), "{refused}");
        fs::write(&path, "complete").unwrap();
        assert_eq!(read_open(&open(&path).unwrap(), SECRET, || ()).unwrap().bytes, b"complete");
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
        let reading = Arc::new(Reading::default());
        reading.read(Path::new("/proc/self/status"), SECRET).unwrap();
        assert_eq!(reading.give_up(), Path::new("/proc/self/status"));
        assert!(!reading.goes_on());
        assert!(reading.read(Path::new("/proc/self/stat"), SECRET).is_err());
        reading.end();
    }

    #[test]
    fn where_one_hangs_no_other_looks_until_it_has_ended() {
        let hung = Arc::new(Reading::default());
        hung.look_at(Path::new("where one hangs")).unwrap();
        let other = Reading::default();
        other.look_at(Path::new("where one hangs")).expect("it is still waited for");
        hung.give_up();
        let next = Reading::default();
        next.look_at(Path::new("elsewhere")).unwrap();
        assert!(next.look_at(Path::new("where one hangs")).is_err());
        assert_eq!(next.hangs_at().as_deref(), Some(Path::new("where one hangs")));
        assert!(next.look_at(Path::new("a third")).is_err(), "it has ended, too");
        hung.end();
        Reading::default().look_at(Path::new("where one hangs")).unwrap();
    }
}
