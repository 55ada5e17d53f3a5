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

/// Kills a process group, every process in it at once.
///
/// `leader` is the process that was started as the head of its own group. Call this before it is
/// reaped, or right after: a number that nobody bears any more is given to another process only
/// when the kernel has dealt out all others in turn.
///
/// # Errors
///
/// `InvalidInput` for what leads no group of its own, such as 0 and 1; else those of the system, of
/// which "no such process" only says that all have ended.
pub fn kill_group(leader: u32) -> io::Result<()> {
    // 0 would be the group of this process, and 1 with its sign turned all processes there are.
    let group = libc::pid_t::try_from(leader).ok().filter(|group| *group > 1);
    let group = group.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: takes and gives numbers, touches no memory of this process.
    super::succeeded(unsafe { libc::killpg(group, libc::SIGKILL) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    use super::*;

    #[test]
    fn a_group_is_killed_and_never_that_of_this_process() {
        let mut child = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        kill_group(child.id()).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        for none in [0, 1, u32::MAX] {
            assert_eq!(kill_group(none).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
