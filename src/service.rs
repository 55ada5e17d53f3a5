//! Services: names that are answered from pools.
//!
//! Plain data as configured; `table` decides which pool answers now.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::name::Name;
use crate::pool::PoolId;
use crate::selection::{MAX_ANSWERS, Spread};

/// Index of a service, dense from 0, valid within one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub u32);

impl ServiceId {
    /// The id as an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A DNS name that is answered from pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The key under `[services]`; may be a wildcard.
    pub name: Name,
    /// Pools by priority, at least one; the first usable one answers.
    pub tiers: Vec<PoolId>,
    /// At most this many addresses in an answer.
    pub answers: Answers,
    /// TTL of the answers, seconds.
    pub ttl: u32,
    /// How addresses are drawn.
    pub policy: Policy,
    /// How answers spread over sites.
    pub spread: Spread,
    /// The answer when no tier is usable.
    pub when_down: WhenDown,
}

/// The maximum number of addresses in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answers {
    /// At most this many, 1 to [`MAX_ANSWERS`].
    AtMost(u16),
    /// All eligible addresses, up to [`MAX_ANSWERS`].
    All,
}

impl Answers {
    /// The limit as a number.
    #[must_use]
    pub fn limit(self) -> usize {
        match self {
            Self::AtMost(count) => usize::from(count).min(MAX_ANSWERS),
            Self::All => MAX_ANSWERS,
        }
    }
}

/// How addresses are drawn from the eligible ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// By weight: the probability of being first is exactly proportional to the weight, and so is
    /// the probability of being in an answer, unless the address is in every answer.
    Weighted,
    /// All eligible addresses, or as many as the limit allows, as if their weights were equal.
    All,
}

/// The answer when no tier is usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhenDown {
    /// All backends of the first tier that has the family, as if they were healthy.
    FailOpen,
    /// NOERROR without addresses.
    NoData,
    /// SERVFAIL.
    ServFail,
    /// Fixed addresses.
    Addresses {
        /// For A.
        ipv4: Vec<Ipv4Addr>,
        /// For AAAA.
        ipv6: Vec<Ipv6Addr>,
    },
}
