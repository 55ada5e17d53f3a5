//! Pools: interchangeable backends, and when a pool is usable.
//!
//! Plain data as configured. Health belongs to `health`; `table` decides which addresses are answered
//! now.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// The largest weight a backend may have.
pub const MAX_WEIGHT: u32 = 1_000_000;

/// The largest percentage of its weight that an operator may give a backend. [`MAX_WEIGHT`] times this is below
/// 2^30, so the weights of a draw are still 32-bit numbers.
pub const MAX_WEIGHT_PERCENT: u16 = 1000;

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
    /// The pool is usable only if this is reached; otherwise the next tier answers.
    pub min_healthy: MinHealthy,
    /// A recovered address regains its weight linearly over this time; 0 restores it at once.
    pub slow_start: Duration,
    /// Percent of the addresses, 1 to 100. If at least this many fail within one interval, steerd first
    /// assumes a fault on this machine. `None` turns this off.
    pub suspect_self: Option<u8>,
    /// In configuration order. Names and addresses are unique within a pool.
    pub backends: Vec<Backend>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The configured name, otherwise the first address.
    pub name: String,
    /// At least one; each has its own health.
    pub addresses: Vec<IpAddr>,
    /// Share of traffic, 0 to [`MAX_WEIGHT`]. A backend of weight 0 is answered only if the pool
    /// fails open and all weights are 0.
    pub weight: u32,
    /// A backend that is not enabled is not probed, not answered, and not counted.
    pub enabled: bool,
    /// Its failure domain: a rack, a data centre.
    pub site: Option<String>,
    /// The port that its checks use instead of the configured one.
    pub port: Option<u16>,
    /// The host that its checks use instead of the configured one; with a port if the port must be
    /// sent.
    pub host: Option<String>,
    /// Probed instead of its addresses.
    pub check_address: Option<IpAddr>,
}

/// Default for [`Pool::suspect_self`], percent.
pub const SUSPECT_SELF: u8 = 90;

impl Pool {
    /// A pool with defaults for everything else.
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
    /// An enabled backend of weight 1, with defaults for everything else.
    #[must_use]
    pub fn new(name: impl Into<String>, addresses: Vec<IpAddr>) -> Self {
        Self {
            name: name.into(),
            addresses,
            weight: 1,
            enabled: true,
            site: None,
            port: None,
            host: None,
            check_address: None,
        }
    }
}

/// An operator's override for the state of a backend. It takes precedence over the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Override {
    /// Alive, but gets no new clients: if the pool fails open, it is answered only if no other backend
    /// is left. Counts in the total for `min_healthy`, but not as healthy.
    Drain,
    /// Treated as not enabled: not answered, and not counted.
    Disabled,
    /// Treated as healthy, whatever slow start and load say about its weight.
    Up,
    /// Treated as unhealthy.
    Down,
}

impl Override {
    /// All overrides.
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

/// The two things of a backend that an operator overrides, each apart from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OverrideKind {
    /// The result of the checks.
    State,
    /// The configured weight.
    Weight,
}

impl OverrideKind {
    /// Both kinds, in the order of [`OverrideKind::index`].
    pub const ALL: [Self; 2] = [Self::State, Self::Weight];

    /// The index in arrays by kind.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::State => 0,
            Self::Weight => 1,
        }
    }
}

/// The value that an operator has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverrideValue {
    /// The state of the backend.
    State(Override),
    /// Percent of the configured weight, 0 to [`MAX_WEIGHT_PERCENT`]. With 0 the backend gets no new clients, as
    /// with [`Override::Drain`].
    Weight(u16),
}

impl OverrideValue {
    /// The overridden thing.
    #[must_use]
    pub fn kind(self) -> OverrideKind {
        match self {
            Self::State(_) => OverrideKind::State,
            Self::Weight(_) => OverrideKind::Weight,
        }
    }
}

/// `drain`, `30%`.
impl fmt::Display for OverrideValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => f.write_str(state.as_str()),
            Self::Weight(percent) => write!(f, "{percent}%"),
        }
    }
}

/// How many checks of an address must pass for the address to be healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Require {
    /// All of them.
    #[default]
    All,
    /// At least this many, 1 or more; `any` is 1.
    AtLeast(u16),
}

/// How much of a pool must be healthy for the pool to be usable, separately for each address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinHealthy {
    /// This many addresses of positive weight, at least 1.
    Count(u32),
    /// This share of the configured weight, 1 to 100 percent.
    Percent(u8),
}

impl MinHealthy {
    /// Whether `count` healthy addresses with the weight `weight` suffice, given the total weight. If
    /// there are none, the result is false.
    #[must_use]
    pub fn is_met(self, count: usize, weight: u64, total_weight: u64) -> bool {
        count > 0
            && match self {
                Self::Count(minimum) => count >= minimum as usize,
                // Neither side overflows: 2^32 weights of 10^6 are below 2^52, and 100 times that is
                // below 2^59.
                Self::Percent(percent) => weight * 100 >= total_weight * u64::from(percent),
            }
    }
}

/// An address family, as A and AAAA records distinguish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Answered by A records.
    Ipv4,
    /// Answered by AAAA records.
    Ipv6,
}

impl Family {
    /// Both families, in the order of [`Family::index`].
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// 0 for IPv4, 1 for IPv6: the index in tables by family.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Ipv4 => 0,
            Self::Ipv6 => 1,
        }
    }

    /// The entry of this family.
    #[must_use]
    pub fn select<T>(self, by_family: &[T; 2]) -> &T {
        let [ipv4, ipv6] = by_family;
        match self {
            Self::Ipv4 => ipv4,
            Self::Ipv6 => ipv6,
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
