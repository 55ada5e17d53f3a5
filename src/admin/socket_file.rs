//! The file of a Unix socket: creating it with its rights, replacing one that a crash has left, and removing it.
//!
//! ```text
//! no file                 --> create
//! a socket, nobody there  --> remove, create: a process has ended without removing it
//! a socket of a process   --> refused
//! any other file          --> refused
//! ```
//!
//! A lock file beside it, which exists only meanwhile, keeps two processes from doing this at the same time. No other
//! user can open it, and so none can hold the lock. Nobody can connect before the socket has its rights, because it
//! listens only then.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::SocketRights;

/// Length of the accept queue. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// How long another process may take to create a socket.
const LOCK_TIME: Duration = Duration::from_secs(2);

/// How often the lock is tried.
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// The file of a Unix socket. Dropping it removes the file, unless that of another process has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and number of the file; none if it belongs to another process.
    own: Option<(u64, u64)>,
}

impl SocketFile {
    /// The file of a process that this one may replace.
    pub(super) const fn of_other_process(path: PathBuf) -> Self {
        Self { path, own: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn exists(&self) -> bool {
        identity(&self.path).is_some()
    }

    /// From now on, the file belongs to this process.
    pub(super) fn take(&mut self) {
        self.own = identity(&self.path);
    }

    /// From now on, the file belongs to another process.
    pub(super) fn leave(&mut self) {
        self.own = None;
    }

    pub(super) fn set_rights(&self, rights: SocketRights) -> io::Result<()> {
        let current = fs::metadata(&self.path)?;
        let group = rights.group.filter(|group| *group != current.gid());
        if group.is_some() {
            chown(&self.path, None, group)?;
        }
        if current.mode() & 0o777 != rights.mode {
            fs::set_permissions(&self.path, fs::Permissions::from_mode(rights.mode))?;
        }
        Ok(())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.own.is_some() && self.own == identity(&self.path) {
            // A file that stays is replaced by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    metadata.file_type().is_socket().then(|| (metadata.dev(), metadata.ino()))
}

/// Creates the file, and listens.
pub(super) fn listen(path: &Path, rights: SocketRights) -> io::Result<(SocketFile, UnixListener)> {
    let _lock = CreationLock::take(path, LOCK_TIME)?;
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let mut file = SocketFile::of_other_process(path.to_owned());
    file.take();
    file.set_rights(rights)?;
    socket.listen(BACKLOG)?;
    Ok((file, socket.into()))
}

/// The right to create or replace the file of a socket. Dropping it removes its own file.
struct CreationLock {
    path: PathBuf,
    _file: File,
}

impl CreationLock {
    fn take(socket: &Path, time: Duration) -> io::Result<Self> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let said =
            |kind, reason: &str| io::Error::new(kind, format!("its lock file {}: {reason}", path.display()));
        let end = Instant::now() + time;
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file: File = open(&path, flags, Mode::RUSR | Mode::WUSR)
                .map_err(|error| said(io::Error::from(error).kind(), &io::Error::from(error).to_string()))?
                .into();
            let opened = file.metadata()?;
            if !opened.is_file() {
                return Err(said(ErrorKind::AlreadyExists, "there is something that is no file: remove it"));
            }
            // Once it is locked, its last holder may have removed it.
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
                && fs::symlink_metadata(&path)
                    .is_ok_and(|there| (there.dev(), there.ino()) == (opened.dev(), opened.ino()))
            {
                return Ok(Self { path, _file: file });
            }
            if Instant::now() >= end {
                return Err(said(
                    ErrorKind::ResourceBusy,
                    "another process holds it: it is creating this socket",
                ));
            }
            thread::sleep(LOCK_INTERVAL);
        }
    }
}

impl Drop for CreationLock {
    fn drop(&mut self) {
        // A file that stays can be locked again.
        let _ = fs::remove_file(&self.path);
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            let reason = "there is a file that is no socket: remove it, or choose another path for `listen` under [admin]";
            return Err(io::Error::new(ErrorKind::AlreadyExists, reason));
        }
        Ok(_) => {}
    }
    // A blocking one would wait for a process that is too busy to accept.
    let client = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    client.set_nonblocking(true)?;
    match client.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => {
            let reason = "another program, or another steerd, listens there: stop it, or choose another path for `listen` \
                          under [admin]";
            Err(io::Error::new(ErrorKind::AddrInUse, reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn the_file_has_its_rights_and_goes_with_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let (file, listener) = listen(&path, SocketRights { mode: 0o600, group: None }).unwrap();
        assert_eq!(mode(&path), 0o600);
        file.set_rights(SocketRights { mode: 0o666, group: None }).unwrap();
        assert_eq!(mode(&path), 0o666);
        assert!(UnixStream::connect(&path).is_ok());
        drop((file, listener));
        assert!(!path.exists());
    }

    #[test]
    fn a_live_socket_and_other_files_stay_and_a_stale_one_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let rights = SocketRights::default();
        let (mut file, listener) = listen(&path, rights).unwrap();
        let refused = listen(&path, rights).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AddrInUse, "{refused}");
        assert!(UnixStream::connect(&path).is_ok(), "it is as before");
        // As after a crash.
        file.leave();
        drop((file, listener));
        assert!(path.exists());
        let (file, _listener) = listen(&path, rights).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        // Another process has replaced it.
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists(), "the file of another process stays");
        let plain = directory.path().join("plain");
        fs::write(&plain, "text").unwrap();
        assert_eq!(listen(&plain, rights).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&plain).unwrap(), "text");
    }

    #[test]
    fn two_processes_do_not_create_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let held = CreationLock::take(&path, LOCK_TIME).unwrap();
        let refused = CreationLock::take(&path, Duration::ZERO).err().unwrap();
        assert!(
            refused.kind() == ErrorKind::ResourceBusy && refused.to_string().contains("s.lock"),
            "{refused}"
        );
        let waiting = thread::spawn({
            let path = path.clone();
            move || listen(&path, SocketRights::default()).map(drop)
        });
        drop(held);
        waiting.join().unwrap().unwrap();
        let created: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                thread::spawn(move || listen(&path, SocketRights::default()))
            })
            .collect::<Vec<_>>()
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(created.iter().filter(|created| created.is_ok()).count(), 1, "{created:?}");
        drop(created);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing stays");
    }

    #[test]
    fn no_other_user_can_hold_it_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        // Everyone who may read a directory may lock it.
        let held = File::open(directory.path()).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        listen(&path, SocketRights::default()).unwrap();
        let lock = CreationLock::take(&path, LOCK_TIME).unwrap();
        assert_eq!(mode(&lock.path) & 0o077, 0);
        drop(lock);
        // Nothing that another user has put there is followed or used.
        let (target, lock) = (directory.path().join("target"), directory.path().join("s.lock"));
        std::os::unix::fs::symlink(&target, &lock).unwrap();
        assert!(listen(&path, SocketRights::default()).is_err());
        assert!(!target.exists());
        fs::remove_file(&lock).unwrap();
        let _socket = UnixListener::bind(&lock).unwrap();
        assert!(listen(&path, SocketRights::default()).is_err());
        assert!(lock.exists(), "it stays");
    }
}
