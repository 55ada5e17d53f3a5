//! Which UDP worker runs on which CPU.

use std::io;
use std::sync::Arc;

use tracing::warn;

use crate::sys::affinity;

/// The CPUs of the workers, in turn, or the reason why each worker runs on any CPU.
///
/// Workers are pinned only if there is exactly one for each CPU. Fewer are left to the scheduler, which
/// knows what else runs: several programs with one worker each would all take the first CPU. More
/// would load the CPUs unevenly.
#[derive(Clone, Debug)]
pub(super) struct Placement(Result<Vec<usize>, Arc<Unpinned>>);

/// Why there is not one worker for each CPU, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unpinned {
    #[error("the system does not tell the CPUs of this process: {0}")]
    Unknown(io::Error),
    /// The number of workers was chosen here, and is lower only because of a quota.
    #[error(
        "a CPU quota (cgroup `cpu.max`) is below the {cpus} CPUs that steerd may use, so `workers = 0` starts only \
         {workers}. Set `workers = {cpus}`, or let steerd run on {workers} of the CPUs (`AllowedCPUs=` of systemd, \
         `--cpuset-cpus` of Docker)"
    )]
    Quota { workers: usize, cpus: usize },
    #[error("`workers` is set to {workers}, and the number of CPUs is {cpus}. Set `workers = {cpus}`")]
    Set { workers: usize, cpus: usize },
}

impl Placement {
    /// Places workers on the CPUs that this process may use. `configured` is the number in the
    /// configuration, where 0 leaves it to the system.
    pub(super) fn new(configured: usize, workers: usize) -> Self {
        let cpus = affinity::allowed_cpus().inspect_err(|error| {
            warn!(%error, "the system does not tell the CPUs of this process; UDP workers run on any of them");
        });
        Self::on(cpus, configured, workers)
    }

    fn on(cpus: io::Result<Vec<usize>>, configured: usize, workers: usize) -> Self {
        let placed = match cpus {
            Err(error) => Err(Unpinned::Unknown(error)),
            Ok(cpus) if cpus.len() == workers => Ok(cpus),
            Ok(cpus) if configured == 0 => Err(Unpinned::Quota { workers, cpus: cpus.len() }),
            Ok(cpus) => Err(Unpinned::Set { workers, cpus: cpus.len() }),
        };
        Self(placed.map_err(Arc::new))
    }

    /// The CPU of a worker.
    pub(super) fn cpu(&self, worker: usize) -> Option<usize> {
        self.0.as_ref().ok()?.get(worker).copied()
    }

    /// The CPUs in the order of their workers.
    ///
    /// # Errors
    /// If there is not one worker for each.
    pub(super) fn one_on_each(&self) -> Result<&[usize], &Unpinned> {
        self.0.as_deref().map_err(|reason| &**reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The CPUs of the workers, and why they have none.
    fn placed(cpus: &[usize], configured: usize, workers: usize) -> (Vec<Option<usize>>, String) {
        let placement = Placement::on(Ok(cpus.to_vec()), configured, workers);
        let of_workers = (0..workers).map(|worker| placement.cpu(worker)).collect();
        match placement.one_on_each() {
            Ok(each) => {
                assert_eq!(each, cpus);
                (of_workers, String::new())
            }
            Err(reason) => (of_workers, reason.to_string()),
        }
    }

    #[test]
    fn workers_are_pinned_if_there_is_exactly_one_for_each_cpu() {
        for configured in [0, 3] {
            let pinned = (vec![Some(4), Some(5), Some(9)], String::new());
            assert_eq!(placed(&[4, 5, 9], configured, 3), pinned);
        }
        for workers in [1, 2, 4, 7] {
            assert_eq!(placed(&[4, 5, 9], workers, workers).0, vec![None; workers]);
        }
        let unknown = Placement::on(Err(io::ErrorKind::Unsupported.into()), 0, 2);
        assert_eq!(unknown.cpu(0), None);
        let reason = unknown.one_on_each().unwrap_err().to_string();
        assert_eq!(reason, "the system does not tell the CPUs of this process: unsupported");
    }

    #[test]
    fn the_reason_not_to_pin_says_what_to_do() {
        let (_, quota) = placed(&[0, 1, 2, 3], 0, 2);
        assert_eq!(
            quota,
            "a CPU quota (cgroup `cpu.max`) is below the 4 CPUs that steerd may use, so `workers = 0` starts only 2. Set \
             `workers = 4`, or let steerd run on 2 of the CPUs (`AllowedCPUs=` of systemd, `--cpuset-cpus` of Docker)"
        );
        for workers in [3, 1] {
            assert_eq!(
                placed(&[0, 1], workers, workers).1,
                format!("`workers` is set to {workers}, and the number of CPUs is 2. Set `workers = 2`")
            );
        }
    }
}
