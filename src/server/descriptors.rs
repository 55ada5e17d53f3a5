//! Divides the limit of file descriptors between DNS connections, probes and a reserve. Without IO.

use crate::admin;
use crate::fleet;

/// Reserve for files, event queues, notifications to secondaries and connections that are closing.
const OTHERS: usize = 256;

/// The shares of probes and DNS connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Maximum number of probes in flight.
    pub(super) probes: usize,
    /// Maximum number of DNS connections over TCP.
    pub(super) connections: usize,
}

impl Shares {
    /// Shares without a descriptor limit.
    pub(super) const UNLIMITED: Self = Self { probes: fleet::MAX_IN_FLIGHT, connections: usize::MAX };

    /// Divides `limit` descriptors, of which `listeners` are for the listeners of DNS. Probes get half of what
    /// the reserve leaves, up to what they can use; connections get the rest. The configured number
    /// of connections does not count, because a reload may change it.
    pub(super) fn of(limit: u64, listeners: usize) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let reserve = listeners + admin::MOST_CONNECTIONS + OTHERS;
        // If the limit is low, the reserve is reduced, not the shares.
        let free = limit - reserve.min(limit / 2);
        let for_probes = (free / 2).min(fleet::MOST_DESCRIPTORS);
        Self { probes: fleet::probes_within(for_probes), connections: (free - for_probes).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_shared_out_than_there_is() {
        let mut last = Shares { probes: 0, connections: 0 };
        for limit in (0..20_000).chain([65_536, 1 << 20, u64::MAX]) {
            let shares = Shares::of(limit, 10);
            let Shares { probes, connections } = shares;
            assert!(
                probes >= last.probes.max(1) && connections >= last.connections.max(1),
                "{limit}: {shares:?}"
            );
            let all = probes.saturating_add(connections) as u64;
            assert!(all <= limit.max(2), "{limit}: {shares:?}");
            if limit > 2_000 {
                assert!(all + (10 + admin::MOST_CONNECTIONS + OTHERS) as u64 <= limit, "{limit}: {shares:?}");
            }
            last = shares;
        }
    }

    #[test]
    fn the_defaults_fit_into_the_limit_of_the_unit() {
        let Shares { probes, connections } = Shares::of(65_536, 4);
        assert_eq!(probes, fleet::MAX_IN_FLIGHT);
        assert!((50_000..65_536).contains(&connections), "{connections}");
    }
}
