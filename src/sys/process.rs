//! Ending other programs, giving way to other threads, and the processor time of this one.

use std::io;
use std::time::Duration;

/// Lets all other threads of this machine go first: the calling thread runs when they leave time.
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

/// Keeps descriptors from this number on to this process: programs that it starts do not get them.
///
/// # Errors
///
/// Those of the system; before Linux 5.11 it does not know the call.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: takes numbers; descriptors stay open in this process.
    super::succeeded(unsafe { libc::close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) })
}

/// The processes that this one is the parent of, those that have ended and wait to be reaped included.
///
/// # Errors
///
/// When the kernel does not tell.
pub fn children() -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task")? {
        let listed = std::fs::read_to_string(thread?.path().join("children"))?;
        children.extend(listed.split_ascii_whitespace().filter_map(|number| number.parse::<u32>().ok()));
    }
    Ok(children)
}

/// Kills one process. It should be a child of this one that was not reaped: then its number is its own.
///
/// # Errors
///
/// `InvalidInput` for 0 and 1; else those of the system.
pub fn kill(process: u32) -> io::Result<()> {
    let process = libc::pid_t::try_from(process).ok().filter(|process| *process > 1);
    let process = process.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: takes and gives numbers, touches no memory of this process.
    super::succeeded(unsafe { libc::kill(process, libc::SIGKILL) })
}

/// Waits until any child has ended, and reaps it.
///
/// # Errors
///
/// When there is none.
pub fn reap_one() -> io::Result<()> {
    // SAFETY: a null pointer says that the status is not wanted.
    let reaped = unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
    if reaped > 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_is_listed_and_killed_and_never_this_process() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        assert!(children().unwrap().contains(&child.id()));
        kill(child.id()).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        for none in [0, 1, u32::MAX] {
            assert_eq!(kill(none).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
