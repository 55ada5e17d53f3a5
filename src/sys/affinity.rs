//! The CPUs of this process and its threads.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that the calling thread may run on, by number.
///
/// # Errors
/// Returns the error of the system, for example with more than 1024 CPUs.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Lets the calling thread run on this CPU only.
///
/// # Errors
/// Returns `InvalidInput` if there is no such CPU, or this process may not use it.
pub fn pin_to(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_pinned_to_one_of_its_cpus() {
        let cpus = allowed_cpus().unwrap();
        let last = *cpus.last().unwrap();
        let pinned = std::thread::spawn(move || {
            pin_to(last).unwrap();
            allowed_cpus().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [last]);
        assert_eq!(allowed_cpus().unwrap(), cpus, "other threads are not");
        for absent in [CpuSet::MAX_CPU - 1, CpuSet::MAX_CPU, usize::MAX] {
            assert_eq!(pin_to(absent).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
