//! Pools: interchangeable backends, and when a pool is usable.
//!
//! Plain data as the operator described it. Health is not here (`health`), nor what is answered
//! from it (`table`).

use std::net::IpAddr;
use std::time::Duration;

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
    /// The weight of a recovered address grows linearly over this time; 0 gives it back at once.
    pub slow_start: Duration,
    /// Percent of the addresses, 1 to 100: when so many fail within one interval, this machine is
    /// suspected before they are. Never, without.
    pub suspect_self: Option<u8>,
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
    /// Its failure domain: a rack, a data centre.
    pub site: Option<String>,
    /// The port of its checks, instead of that of the check.
    pub port: Option<u16>,
    /// Probed instead of each of its addresses.
    pub check_address: Option<IpAddr>,
}

/// The share of a pool that must fail at once for this machine to be suspected, percent.
pub const SUSPECT_SELF: u8 = 90;

impl Pool {
    /// A pool with everything else as it is by default.
    #[must_use]
    pub fn new(name: impl Into<String>, backends: Vec<Backend>) -> Self {
        Self {
            name: name.into(),
            min_healthy: MinHealthy::Count(1),
            slow_start: Duration::ZERO,
            suspect_self: Some(SUSPECT_SELF),
            backends,
        }
    }
}

impl Backend {
    /// An enabled backend of weight 1, with everything else as it is by default.
    #[must_use]
    pub fn new(name: impl Into<String>, addresses: Vec<IpAddr>) -> Self {
        Self {
            name: name.into(),
            addresses,
            weight: 1,
            enabled: true,
            site: None,
            port: None,
            check_address: None,
        }
    }
}

/// An operator's override of a backend, whatever the result of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Override {
    /// Alive, but not answered, not even in fail open unless no other is left. It stays in
    /// the total of `min_healthy` and does not count as healthy there.
    Drain,
    /// As if it were not enabled: not answered, and in no total.
    Disabled,
    /// As if it were healthy, at full weight.
    Up,
    /// As if it were unhealthy.
    Down,
}

impl Override {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Drain, Self::Disabled, Self::Up, Self::Down];

    /// The word for it on the command line, in the API and in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Disabled => "disabled",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// How many of several checks of an address must say that it is healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Require {
    /// Every one.
    #[default]
    All,
    /// This many, at least 1; `any` is 1.
    AtLeast(u16),
}

/// The part of a pool that must be healthy, in one address family, for the pool to be usable.
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
