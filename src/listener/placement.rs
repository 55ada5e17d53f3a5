//! Which UDP worker runs on which CPU.

use tracing::warn;

use crate::sys::affinity;

/// The CPUs of the workers, in turn; without any, each worker runs on any CPU.
///
/// Workers are pinned only if there is one for each CPU. Fewer are left to the scheduler, which knows
/// what else runs: several programs with one worker each would all take the first CPU.
#[derive(Debug)]
pub(super) struct Placement {
    cpus: Vec<usize>,
    workers: usize,
}

impl Placement {
    /// Places workers on the CPUs that this process may use.
    pub(super) fn new(workers: usize) -> Self {
        let cpus = affinity::allowed_cpus().unwrap_or_else(|error| {
            warn!(%error, "the system does not tell the CPUs of this process; UDP workers run on any of them");
            Vec::new()
        });
        Self::on(cpus, workers)
    }

    fn on(cpus: Vec<usize>, workers: usize) -> Self {
        Self { cpus: if workers < cpus.len() { Vec::new() } else { cpus }, workers }
    }

    /// The CPU of a worker.
    pub(super) fn cpu(&self, worker: usize) -> Option<usize> {
        self.cpus.get(worker.checked_rem(self.cpus.len())?).copied()
    }

    /// The CPUs in the order of their workers, if each has exactly one.
    pub(super) fn one_on_each(&self) -> Option<&[usize]> {
        (self.cpus.len() == self.workers).then_some(&self.cpus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_pinned_if_there_is_one_for_each_cpu() {
        let placed = |cpus: &[usize], workers| {
            let placement = Placement::on(cpus.to_vec(), workers);
            let one_on_each = placement.one_on_each().map(<[usize]>::to_vec);
            ((0..workers).map(|worker| placement.cpu(worker)).collect::<Vec<_>>(), one_on_each)
        };
        assert_eq!(placed(&[4, 5, 9], 3), (vec![Some(4), Some(5), Some(9)], Some(vec![4, 5, 9])));
        assert_eq!(placed(&[4, 5, 9], 2), (vec![None, None], None));
        assert_eq!(placed(&[4, 5], 3), (vec![Some(4), Some(5), Some(4)], None));
        assert_eq!(placed(&[], 2), (vec![None, None], None));
    }
}
