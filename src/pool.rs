//! Pools: interchangeable backends, and when a pool is usable.
//!
//! Plain data as the operator described it. Health is not here (`health`), nor what is answered
//! from it (`table`).

use std::net::IpAddr;

/// The largest weight a backend may have.
pub const MAX_WEIGHT: u32 = 1_000_000;

/// Index of a pool, dense from 0, valid within one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub u32);

impl PoolId {
    /// The id as an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Backends that are interchangeable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The key under `[pools]`.
    pub name: String,
    /// Below it the pool is not usable and the next tier is taken.
    pub min_healthy: MinHealthy,
    /// In the order of the file. Within a pool a name or an address occurs once.
    pub backends: Vec<Backend>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The configured name, else the first address.
    pub name: String,
    /// One or more; each has a health of its own.
    pub addresses: Vec<IpAddr>,
    /// Share of traffic, 0 to [`MAX_WEIGHT`]; 0 is never answered unless all weights are 0 in an
    /// all-down answer.
    pub weight: u32,
    /// A backend that is not enabled is neither probed nor answered, and counts in no total.
    pub enabled: bool,
}

/// What must be healthy of a pool, in one address family, for the pool to be usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinHealthy {
    /// This many addresses of positive weight, at least 1.
    Count(u32),
    /// This share of the configured weight, 1 to 100 percent.
    Percent(u8),
}

impl MinHealthy {
    /// Whether a pool with `count` healthy addresses that weigh `weight` of `total_weight` has
    /// enough. Nothing is never enough.
    #[must_use]
    pub fn is_met(self, count: usize, weight: u64, total_weight: u64) -> bool {
        count > 0
            && match self {
                Self::Count(minimum) => count >= minimum as usize,
                // Both sides fit: 2^32 backends of 10^6 are below 2^52, times 100 below 2^59.
                Self::Percent(percent) => weight * 100 >= total_weight * u64::from(percent),
            }
    }
}

/// An address family, as the two record types A and AAAA see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Answered by A records.
    Ipv4,
    /// Answered by AAAA records.
    Ipv6,
}

impl Family {
    /// Both, in the order of [`Family::index`].
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// 0 or 1, for tables with a row for each family.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Ipv4 => 0,
            Self::Ipv6 => 1,
        }
    }

    /// The word for it in metrics, logs and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_healthy_by_count_and_by_weight() {
        assert!(!MinHealthy::Count(1).is_met(0, 0, 10));
        assert!(MinHealthy::Count(1).is_met(1, 1, 10));
        assert!(!MinHealthy::Count(2).is_met(1, 9, 10));
        assert!(MinHealthy::Percent(7).is_met(7, 7, 100), "exact: no rounding up of 0.07 x 100");
        assert!(!MinHealthy::Percent(8).is_met(7, 7, 100));
        assert!(!MinHealthy::Percent(1).is_met(0, 0, 0), "nothing is never enough");
        assert!(MinHealthy::Percent(100).is_met(2, 10, 10));
    }
}
