//! Ending other programs, and giving way to others.

use std::io;

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

/// Makes this thread nicer than the others of the process: when there is no core for all, it waits
/// first. There is no way back without privileges, so the thread should be one that ends.
///
/// # Errors
///
/// Those of the system.
pub fn step_back(by: i32) -> io::Result<()> {
    // SAFETY: takes and gives a number, touches no memory of this process. On Linux it is about the
    // thread that calls.
    let before = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    // SAFETY: as above.
    super::succeeded(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, (before + by).min(19)) })
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
