//! Rules: which rule of a service applies to a client, by its address.
//!
//! The conditions of all rules, and the geography of addresses, are compiled into one table of address ranges. A
//! look-up bisects it: the cost does not depend on the kinds of conditions, and hardly on their number. Reading files
//! and geographic databases does not belong here, nor does the meaning of a rule, which `service` has.

mod codes;
mod geography;
mod ranges;
mod sweep;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::network::Network;

pub use codes::{Continent, Country};
pub use geography::{Fields, GeoLayer, GeoRecord, LayerBuilder, LayerError};

use ranges::RuleRanges;
use sweep::RuleSet;

/// The most rules of a service.
pub const MAX_RULES: usize = 1000;

/// The clients to which a rule applies. Conditions of one kind are alternatives; conditions of different kinds must
/// all be met. A rule without conditions applies to all clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Conditions {
    /// The client's address is in one of these networks. `Some` of an empty list applies to nobody.
    pub networks: Option<Vec<Network>>,
    /// The client's country is one of these. Empty means any.
    pub countries: Vec<Country>,
    /// The client's continent is one of these. Empty means any.
    pub continents: Vec<Continent>,
    /// The number of the client's autonomous system is one of these. Empty means any.
    pub asns: Vec<u32>,
}

impl Conditions {
    /// The fields of geographic databases that these conditions ask for.
    #[must_use]
    pub fn fields(&self) -> Fields {
        Fields {
            country: !self.countries.is_empty(),
            continent: !self.continents.is_empty(),
            asn: !self.asns.is_empty(),
        }
    }

    /// Whether the conditions on geography are met.
    fn accepts(&self, record: &GeoRecord) -> bool {
        fn meets<T: PartialEq>(accepted: &[T], value: Option<T>) -> bool {
            accepted.is_empty() || value.is_some_and(|value| accepted.contains(&value))
        }
        meets(&self.countries, record.country)
            && meets(&self.continents, record.continent)
            && meets(&self.asns, record.asn)
    }
}

/// Index of a rule table, dense from 0, valid within one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleTableId(pub u32);

impl RuleTableId {
    /// The id as an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// All rule tables of a configuration, by [`RuleTableId`]. Services with the same conditions share one.
pub type RuleTables = Arc<[Arc<RuleTable>]>;

/// The rule for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleMatch {
    /// The index of the first rule that applies; `None` if none does.
    pub rule: Option<u16>,
    /// The length of the widest prefix around the address in which the same is true of all addresses.
    pub scope: u8,
}

/// A list of rules, compiled. Of several rules that apply to an address, the first one counts.
#[derive(PartialEq, Eq)]
pub struct RuleTable {
    ipv4: RuleRanges<u32>,
    ipv6: Ipv6Ranges,
    /// The indices of rules that apply to no address, in ascending order.
    idle: Box<[u16]>,
}

/// IPv6 networks rarely divide a /64. Then half of each address is enough.
#[derive(PartialEq, Eq)]
enum Ipv6Ranges {
    Halves(RuleRanges<u64>),
    Whole(RuleRanges<u128>),
}

impl RuleTable {
    /// Compiles rules. `layers` are geographic databases, each cut where its records change; if several know the
    /// same field of an address, the first one counts. Rules past [`MAX_RULES`] are ignored.
    #[must_use]
    pub fn compile(rules: &[Conditions], layers: &[GeoLayer]) -> Self {
        let rules = rules.get(..MAX_RULES).unwrap_or(rules);
        let mut used = RuleSet::none(rules.len());
        let ipv4 = sweep::sweep(rules, layers, &mut used);
        let halves = rules.iter().flat_map(|rule| rule.networks.iter().flatten()).all(is_wide)
            && layers.iter().all(GeoLayer::has_wide_networks);
        let ipv6 = if halves {
            Ipv6Ranges::Halves(sweep::sweep(rules, layers, &mut used))
        } else {
            Ipv6Ranges::Whole(sweep::sweep(rules, layers, &mut used))
        };
        let idle = (0_u16..).zip(rules).map(|(rule, _)| rule).filter(|rule| !used.has((*rule).into()));
        Self { ipv4, ipv6, idle: idle.collect() }
    }

    /// The rule for an address. An IPv4-mapped IPv6 address counts as IPv6: the scope is a prefix of what was given.
    #[must_use]
    #[inline]
    pub fn find(&self, address: IpAddr) -> RuleMatch {
        match address {
            IpAddr::V4(address) => self.ipv4.find(address.to_bits()),
            IpAddr::V6(address) => match &self.ipv6 {
                Ipv6Ranges::Halves(halves) => halves.find(ranges::first_half(address.to_bits())),
                Ipv6Ranges::Whole(ranges) => ranges.find(address.to_bits()),
            },
        }
    }

    /// The indices of rules that apply to no address, because earlier rules apply to all their clients or because
    /// nobody meets their conditions.
    #[must_use]
    pub fn idle(&self) -> &[u16] {
        &self.idle
    }

    /// The number of address ranges.
    #[must_use]
    pub fn ranges(&self) -> usize {
        let ipv6 = match &self.ipv6 {
            Ipv6Ranges::Halves(ranges) => ranges.count(),
            Ipv6Ranges::Whole(ranges) => ranges.count(),
        };
        self.ipv4.count() + ipv6
    }

    /// The memory that the table holds, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let ipv6 = match &self.ipv6 {
            Ipv6Ranges::Halves(ranges) => ranges.bytes(),
            Ipv6Ranges::Whole(ranges) => ranges.bytes(),
        };
        self.ipv4.bytes() + ipv6 + size_of_val(&*self.idle)
    }
}

/// A table may have millions of ranges.
impl fmt::Debug for RuleTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleTable").field("ranges", &self.ranges()).finish_non_exhaustive()
    }
}

/// Whether a network does not divide a /64.
fn is_wide(network: &Network) -> bool {
    network.first().is_ipv4() || network.length() <= 64
}
