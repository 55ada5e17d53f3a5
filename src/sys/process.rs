//! Processes and threads: killing programs, lowering the priority of a thread, and its processor
//! time.

use std::fs;
use std::io;
use std::time::Duration;

/// Lowers the priority of the calling thread. While other threads are busy, it gets about a tenth
/// of the time that each of them gets.
pub fn give_way() {
    /// Halfway to the lowest priority.
    const NICENESS: libc::c_int = 10;
    // On Linux niceness is per thread; 0 means the calling thread, and lowering its priority needs
    // no privilege.
    // SAFETY: takes and returns numbers, touches no memory of this process.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
}

/// Returns the processor time that the calling thread has used since its start.
#[must_use]
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid location for the one structure that is written.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Makes this process the parent of all orphaned descendants.
///
/// # Errors
///
/// Returns the error of `prctl`.
pub fn adopt_orphans() -> io::Result<()> {
    const YES: libc::c_ulong = 1;
    // SAFETY: takes numbers, touches no memory of this process.
    super::succeeded(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, YES) })
}

/// Sets close-on-exec on all descriptors from `first` upwards, so that started programs do not
/// inherit them. No other thread may open or close descriptors meanwhile.
///
/// # Errors
///
/// Returns an error if /proc cannot be read.
pub fn close_on_exec_from(first: libc::c_int) -> io::Result<()> {
    // `close_range` needs one call, but Linux before 5.11 lacks it, and a seccomp filter may refuse
    // it.
    for entry in fs::read_dir("/proc/self/fd")? {
        let descriptor = entry?.file_name().to_str().and_then(|name| name.parse::<libc::c_int>().ok());
        if let Some(descriptor) = descriptor.filter(|descriptor| *descriptor >= first) {
            // SAFETY: takes numbers; the descriptor stays open in this process.
            super::succeeded(unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) })?;
        }
    }
    Ok(())
}

/// Lists the children of this process, including those that have ended and are not reaped. It may
/// miss one that is started meanwhile.
///
/// # Errors
///
/// Returns an error if /proc cannot be read.
pub fn children() -> io::Result<Vec<u32>> {
    let this = std::process::id();
    let mut children = Vec::new();
    // `/proc/self/task/*/children` is faster, but not every kernel has it, and it may miss some
    // children.
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // The process may have ended meanwhile. Its name, in brackets, may contain any character.
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        if parent == Some(this) {
            children.push(process);
        }
    }
    Ok(children)
}

/// Kills a process. It should be an unreaped child of this one, so that its number was not reused.
///
/// # Errors
///
/// `InvalidInput` for 0 and 1, otherwise the error of `kill`.
pub fn kill(process: u32) -> io::Result<()> {
    let process = number_of(process)?;
    // SAFETY: takes and returns numbers, touches no memory of this process.
    super::succeeded(unsafe { libc::kill(process, libc::SIGKILL) })
}

/// Asks a process to reload, with SIGHUP.
///
/// # Errors
///
/// Returns the errors of [`kill`].
pub fn hang_up(process: u32) -> io::Result<()> {
    let process = number_of(process)?;
    // SAFETY: takes and returns numbers, touches no memory of this process.
    super::succeeded(unsafe { libc::kill(process, libc::SIGHUP) })
}

/// Asks a process to stop, with SIGTERM.
///
/// # Errors
///
/// Returns the errors of [`kill`].
pub fn terminate(process: u32) -> io::Result<()> {
    let process = number_of(process)?;
    // SAFETY: takes and returns numbers, touches no memory of this process.
    super::succeeded(unsafe { libc::kill(process, libc::SIGTERM) })
}

/// Kills the process group of a leader with one call. As for [`kill`], the leader should be an
/// unreaped child.
///
/// # Errors
///
/// Returns the errors of [`kill`].
pub fn kill_group(leader: u32) -> io::Result<()> {
    let leader = number_of(leader)?;
    // SAFETY: takes and returns numbers, touches no memory of this process.
    super::succeeded(unsafe { libc::kill(-leader, libc::SIGKILL) })
}

fn number_of(process: u32) -> io::Result<libc::pid_t> {
    let process = libc::pid_t::try_from(process).ok().filter(|process| *process > 1);
    process.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Waits until a child has ended, without reaping it.
///
/// # Errors
///
/// Returns an error if it is not a child of this process.
pub fn wait_for_end(child: u32) -> io::Result<()> {
    // SAFETY: a null pointer says that the status is not wanted.
    let waited =
        || unsafe { libc::waitid(libc::P_PID, child, std::ptr::null_mut(), libc::WEXITED | libc::WNOWAIT) };
    loop {
        match super::succeeded(waited()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            ended => return ended,
        }
    }
}

/// Reaps all children that have ended. Returns whether others remain.
#[must_use]
pub fn reap() -> bool {
    loop {
        // SAFETY: a null pointer says that the status is not wanted.
        match unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } {
            0 => return true,
            1.. => {}
            // There are no children.
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn a_child_is_listed_and_killed_and_never_this_process() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        assert!(children().unwrap().contains(&child.id()));
        assert!(!children().unwrap().contains(&std::process::id()));
        kill(child.id()).unwrap();
        wait_for_end(child.id()).unwrap();
        assert!(children().unwrap().contains(&child.id()), "it is not reaped yet");
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        for none in [0, 1, u32::MAX] {
            assert_eq!(kill(none).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            assert_eq!(kill_group(none).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_group_is_killed_at_one_stroke() {
        let mut leader = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let group = leader.id().cast_signed();
        let mut other = Command::new("sleep").arg("600").process_group(group).spawn().unwrap();
        kill_group(leader.id()).unwrap();
        for process in [&mut leader, &mut other] {
            assert_eq!(process.wait().unwrap().signal(), Some(libc::SIGKILL));
        }
    }

    #[test]
    fn a_descriptor_is_kept_from_programs() {
        // Programs inherit a raw socket, unlike the sockets of the standard library.
        let socket = Socket::new_raw(Domain::UNIX, Type::STREAM, None).unwrap();
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let is_left = || Command::new("test").args(["-S", &path]).status().unwrap().success();
        assert!(is_left());
        close_on_exec_from(socket.as_raw_fd()).unwrap();
        assert!(!is_left());
    }
}
