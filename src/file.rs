//! Opens and reads files that a configuration, a zone file or the command line names.
//!
//! Such a path may lead to a FIFO without a writer, to an endless device, or to a file system that
//! does not answer. So only regular files are opened, opening never waits for another program, and
//! every read has a limit. A series of reads can be ended from another thread, can record what it has read, and can read
//! kept texts in place of files: `reading`. Parsing does not belong here.

mod included;
mod reading;
mod record;
mod stamp;

use std::fmt;
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use included::{Matches, PatternFault};
pub use reading::{Reading, ReadingPhase};
pub use record::{FileKind, FileRecord, IncludePattern, KeptTexts, MAX_KEPT_TEXTS, ReadFile};
pub use stamp::FileStamp;

/// Maximum size of a configuration with all included files, bytes: half a million backends.
pub const CONFIGURATION: u64 = 64 << 20;
/// Maximum size of all zones of a configuration with all included files, bytes: more than ten
/// million records.
pub const ZONES: u64 = 1 << 30;
/// Maximum size of a file that contains a token, a key or a few secrets, bytes.
pub const SECRET: u64 = 64 << 10;
/// Maximum size of a certificate file, bytes. All public authorities together need a quarter of a
/// megabyte.
pub const CERTIFICATES: u64 = 16 << 20;
/// Maximum size of a file that reports size 0, such as those below /proc, bytes.
const UNSIZED: u64 = 1 << 20;

/// How many bytes are examined to find out whether a file is text.
const LOOKED_AT: usize = 4 << 10;

/// The content of a file, and where it comes from.
#[derive(Debug)]
pub struct Content {
    /// All of it.
    pub bytes: Vec<u8>,
    /// The file that was read.
    pub origin: Origin,
}

/// The path and the metadata of a file that was read.
#[derive(Debug)]
pub struct Origin {
    /// The path with all links resolved; `None` if the system does not report it.
    path: Option<PathBuf>,
    /// None for a kept text.
    metadata: Option<Metadata>,
}

/// Why a file is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum FileRefusal {
    #[error("it is a directory; name a file")]
    Directory,
    #[error("it is a {0}; name a regular file")]
    Irregular(&'static str),
    #[error("it has {}, and at most {} are read", Size(*.size), Size(*.limit))]
    Large { size: u64, limit: u64 },
    #[error("it has more than {}, the most that is read", Size(*.0))]
    Endless(u64),
    #[error("it grew while it was read; try again when it is complete")]
    Grew,
    #[error("reading it would wait for another program; name a regular file that no program holds")]
    Waits,
    #[error("reading the configuration was cancelled")]
    GivenUp,
    #[error("an earlier attempt to read the configuration still waits for this file")]
    Hangs,
}

impl From<FileRefusal> for io::Error {
    fn from(refused: FileRefusal) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, refused)
    }
}

/// Opens a regular file for reading.
///
/// # Errors
/// The system's error, or the kind of the file if it is not regular.
pub fn open(path: &Path) -> io::Result<File> {
    // Opening a device can have side effects, so the type is checked first. The file may be
    // replaced before `open`, so opening does not block and the type is checked again.
    regular(fs::metadata(path)?.file_type())?;
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(waits)?;
    regular(file.metadata()?.file_type())?;
    Ok(file)
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// If the system refuses, or the file is not regular or too long.
pub fn read(path: &Path, limit: u64) -> io::Result<Content> {
    read_open(&open(path)?, limit, || ())
}

/// Reads an open file. Calls `meanwhile` between reading its size and its content.
fn read_open(mut file: &File, limit: u64, meanwhile: impl FnOnce()) -> io::Result<Content> {
    let metadata = file.metadata()?;
    let size = metadata.len();
    if size > limit {
        return Err(FileRefusal::Large { size, limit }.into());
    }
    // Without this bound, a file that grows while it is read would be read up to `limit`.
    let most = if size == 0 { limit.min(UNSIZED) } else { size };
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(size).unwrap_or(usize::MAX))?;
    meanwhile();
    file.by_ref().take(most + 1).read_to_end(&mut bytes).map_err(waits)?;
    if bytes.len() as u64 > most {
        return Err(if size == 0 { FileRefusal::Endless(most) } else { FileRefusal::Grew }.into());
    }
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok();
    Ok(Content { bytes, origin: Origin { path, metadata: Some(metadata) } })
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

fn regular(file_type: FileType) -> Result<(), FileRefusal> {
    if file_type.is_file() {
        return Ok(());
    }
    Err(irregular(file_type).map_or(FileRefusal::Directory, FileRefusal::Irregular))
}

/// Another program has a lease, or a kernel file has nothing to read now.
fn waits(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { FileRefusal::Waits.into() } else { error }
}

impl Origin {
    /// Whether messages may quote its lines. The file must be in the directory of the file that
    /// names it, and no link may lead out of that directory. In a directory below, which may
    /// contain keys of other programs, it must also be world-readable.
    #[must_use]
    pub fn is_quotable_by(&self, named_by: &Path) -> bool {
        let directory = named_by.parent().filter(|directory| *directory != Path::new(""));
        let directory = directory.unwrap_or(Path::new(".")).canonicalize().ok();
        self.path.as_ref().zip(directory).is_some_and(|(path, directory)| {
            let is_public = self.metadata.as_ref().is_some_and(|metadata| metadata.mode() & 0o004 != 0);
            path.parent() == Some(&directory) || (is_public && path.starts_with(&directory))
        })
    }
}

impl Content {
    /// A text that was kept from an earlier time. Nothing is known of its file.
    fn kept(text: &[u8]) -> Self {
        Self { bytes: text.to_owned(), origin: Origin { path: None, metadata: None } }
    }

    /// The file mode, if others than its owner may access the file. A file of root may be readable
    /// by a group other than that of root: root passes files to services in this way.
    #[must_use]
    pub fn exposed(&self) -> Option<u32> {
        let metadata = self.origin.metadata.as_ref()?;
        let handed_on = metadata.uid() == 0 && metadata.gid() != 0;
        let allowed = if handed_on { 0o740 } else { 0o700 };
        let mode = metadata.mode() & 0o777;
        (mode & !allowed != 0).then_some(mode)
    }

    /// Whether the file belongs to root.
    #[must_use]
    pub fn is_owned_by_root(&self) -> bool {
        self.origin.metadata.as_ref().is_some_and(|metadata| metadata.uid() == 0)
    }

    /// The content as UTF-8 text.
    ///
    /// # Errors
    /// If it is not valid UTF-8.
    pub fn text(&self) -> io::Result<&str> {
        if let Some(reason) = not_text(&self.bytes) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let text = std::str::from_utf8(&self.bytes);
        text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8"))
    }
}

/// The kind of file, if the bytes are clearly not text, as the end of a sentence.
#[must_use]
pub fn not_text(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.get(..bytes.len().min(LOOKED_AT)).unwrap_or(bytes);
    let is_utf_32 = |zeros: [usize; 3]| {
        start.len() >= 8 && start.chunks_exact(4).all(|unit| zeros.iter().all(|&at| unit.get(at) == Some(&0)))
    };
    let has_wide_mark = start.starts_with(b"\xff\xfe\0\0") || start.starts_with(b"\0\0\xfe\xff");
    let is_zero = start.iter().all(|byte| *byte == 0);
    if has_wide_mark || (!is_zero && (is_utf_32([1, 2, 3]) || is_utf_32([0, 1, 2]))) {
        return Some("it is text in UTF-32; save it as UTF-8");
    }
    let zeros = |odd: usize| start.iter().skip(odd).step_by(2).filter(|byte| **byte == 0).count();
    let has_mark = start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff");
    // In plain text without a mark, every second byte is zero.
    let alternates = zeros(0).max(zeros(1)) * 4 > start.len() && zeros(0).min(zeros(1)) == 0;
    if has_mark || (alternates && start.len() >= 4) {
        return Some("it is text in UTF-16; save it as UTF-8");
    }
    if start.starts_with(b"\x1f\x8b") {
        return Some("it is compressed with gzip; unpack it first");
    }
    start.contains(&0).then_some("it is a binary file; a text file is expected")
}

/// A size for messages, such as `64 KiB`.
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
        // A kernel file that reports size 0, but has content.
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
        assert!(!within("sub/file") && !within("within"), "below, and not world-readable");
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
}
