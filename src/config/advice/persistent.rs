//! Warnings about persistent services.

use crate::check::Probe;
use crate::config::pool::ReadPool;
use crate::config::service::ReadService;
use crate::duration::Shown;
use crate::service::Policy;

/// Candidates from which ranking them for each query is a large part of the cost of the query.
const DEAR: usize = 2000;
/// The measured time to rank one candidate, nanoseconds, rounded up.
const NANOSECONDS_PER_CANDIDATE: usize = 4;

/// Warns if servers with the same configuration may rank differently, or if ranking is dear.
pub(super) fn about_persistence(read: &ReadService<'_>, tiers: &[&ReadPool<'_>]) {
    if !matches!(read.service.policy, Policy::Persistent(_)) {
        return;
    }
    let name = &read.service.name;
    for tier in tiers {
        let pool = &tier.setup.pool;
        if !pool.slow_start.is_zero() {
            let message = format!(
                "`{name}` is persistent, and pool `{}` has a `slow_start` of {}: servers that see a backend recover at \
                 different times give it different weights, and send some of its clients to different backends meanwhile",
                pool.name,
                Shown(pool.slow_start),
            );
            read.policy_at.warning(message, "set `slow_start` of this pool to \"0s\"".to_owned());
        }
        let header = tier.checks.iter().find_map(|read| match &read.check.probe {
            Probe::Http(http) => Some((&read.check.name, http.weight_header.as_ref()?)),
            _ => None,
        });
        if let Some((check, header)) = header {
            let message = format!(
                "`{name}` is persistent, and check `{check}` of pool `{}` takes weights from the header `{header}`: servers \
                 probe at different times, and send clients to different backends while their weights differ",
                pool.name,
            );
            read.policy_at.warning(message, "leave out `weight_header` of this check".to_owned());
        }
        let count = pool.backends.iter().map(|backend| backend.addresses.len()).sum::<usize>();
        if count >= DEAR {
            let message = format!(
                "`{name}` is persistent, and ranks up to {count} addresses of pool `{}` for each query: about {} \
                 microseconds",
                pool.name,
                count * NANOSECONDS_PER_CANDIDATE / 1000,
            );
            read.policy_at.warning(message, "smaller pools, behind several names, are cheaper".to_owned());
        }
    }
}
