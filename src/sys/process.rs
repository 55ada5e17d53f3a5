//! Ending other programs, giving way to other threads, and the processor time of this one.

use std::fs;
use std::io;
use std::time::Duration;

/// Lets the other threads of this machine go first: while they are busy, the calling thread has a small part
/// of the time, about a tenth of what one of them has.
pub fn give_way() {
    /// Half of the way to the least favoured.
    const NICENESS: libc::c_int = 10;
    // Linux knows this of each thread, and 0 is the one that calls. It can always be raised.
    // SAFETY: takes and gives numbers, touches no memory of this process.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
}

/// The processor time that the calling thread has taken since its start.
#[must_use]
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the one structure that is written.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Makes this process the parent of all orphans below it.
///
/// # Errors
///
/// Those of the system; none is known.
pub fn adopt_orphans() -> io::Result<()> {
    const YES: libc::c_ulong = 1;
    // SAFETY: takes numbers, touches no memory of this process.
    super::succeeded(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, YES) })
}

/// Keeps descriptors from this number on to this process: programs that it starts do not get them. No other
/// thread may open or close one meanwhile.
///
/// # Errors
///
/// When /proc cannot be read.
pub fn close_on_exec_from(first: libc::c_int) -> io::Result<()> {
    // `close_range` does it at one stroke, but Linux before 5.11 cannot, and a filter of system calls may
    // refuse it.
    for entry in fs::read_dir("/proc/self/fd")? {
        let descriptor = entry?.file_name().to_str().and_then(|name| name.parse::<libc::c_int>().ok());
        if let Some(descriptor) = descriptor.filter(|descriptor| *descriptor >= first) {
            // SAFETY: takes numbers; the descriptor stays open in this process.
            super::succeeded(unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) })?;
        }
    }
    Ok(())
}

/// The processes that this one is the parent of, those that have ended and wait to be reaped included. One
/// that is started meanwhile may be missing.
///
/// # Errors
///
/// When /proc cannot be read.
pub fn children() -> io::Result<Vec<u32>> {
    let this = std::process::id();
    let mut children = Vec::new();
    // `/proc/self/task/*/children` is quicker, but not every kernel has it, and it may leave some out.
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended meanwhile. Its name, in brackets, may hold anything.
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        if parent == Some(this) {
            children.push(process);
        }
    }
    Ok(children)
}

/// Kills one process. It should be a child of this one that was not reaped: then its number is its own.
///
/// # Errors
///
/// `InvalidInput` for 0 and 1; else those of the system.
pub fn kill(process: u32) -> io::Result<()> {
    let process = number_of(process)?;
    // SAFETY: takes and gives numbers, touches no memory of this process.
    super::succeeded(unsafe { libc::kill(process, libc::SIGKILL) })
}

/// Kills all processes of the group that this one leads, at one stroke. It should be a child of this one
/// that was not reaped, as for [`kill`].
///
/// # Errors
///
/// As those of [`kill`].
pub fn kill_group(leader: u32) -> io::Result<()> {
    let leader = number_of(leader)?;
    // SAFETY: takes and gives numbers, touches no memory of this process.
    super::succeeded(unsafe { libc::kill(-leader, libc::SIGKILL) })
}

fn number_of(process: u32) -> io::Result<libc::pid_t> {
    let process = libc::pid_t::try_from(process).ok().filter(|process| *process > 1);
    process.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Waits until a child has ended, and leaves it to be reaped.
///
/// # Errors
///
/// When it is no child of this process.
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

/// Reaps all children that have ended; whether there are others.
#[must_use]
pub fn reap() -> bool {
    loop {
        // SAFETY: a null pointer says that the status is not wanted.
        match unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } {
            0 => return true,
            1.. => {}
            // There is no child.
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
        // Unlike those of the standard library, it is left to programs.
        let socket = Socket::new_raw(Domain::UNIX, Type::STREAM, None).unwrap();
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let is_left = || Command::new("test").args(["-S", &path]).status().unwrap().success();
        assert!(is_left());
        close_on_exec_from(socket.as_raw_fd()).unwrap();
        assert!(!is_left());
    }
}
