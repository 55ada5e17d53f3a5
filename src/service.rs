//! Services: names that are answered from pools.
//!
//! Plain data as configured; `table` decides which pool answers now.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::duration::Shown;
use crate::name::Name;
use crate::network::Network;
use crate::pool::PoolId;
use crate::rules::{Conditions, RuleTableId};
use crate::selection::{MAX_ANSWERS, Spread};

/// How many values of a condition are shown to people.
const MOST_SHOWN: usize = 3;
/// TTL of the answers of services that do not set one, seconds.
pub const DEFAULT_TTL: u32 = 20;

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
    /// Answers clients that no rule matches.
    pub default: Route,
    /// For some clients another route; the first rule that matches counts.
    pub rules: Vec<Rule>,
    /// The compiled conditions of the rules; `None` if there are no rules.
    pub rule_table: Option<RuleTableId>,
    /// How addresses are drawn.
    pub policy: Policy,
    /// How answers spread over sites.
    pub spread: Spread,
    /// When it returns to an earlier tier.
    pub failback: Failback,
}

/// How a service answers some of its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Pools by priority, at least one; the first usable one answers.
    pub tiers: Vec<PoolId>,
    /// At most this many addresses in an answer.
    pub answers: Answers,
    /// TTL of the answers.
    pub ttl: Ttl,
    /// The answer when no tier is usable.
    pub when_down: WhenDown,
}

/// A route for some clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its clients, except for the networks in the file.
    pub clients: Conditions,
    /// A file of further networks.
    pub networks_file: Option<PathBuf>,
    /// How its clients are answered.
    pub route: Route,
}

/// The clients of a rule, for people: `networks 10.0.0.0/8, 192.0.2.0/24 and 3 more; countries DE`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn first<T: fmt::Display>(key: &str, values: &[T]) -> Option<String> {
            let shown: Vec<String> = values.iter().take(MOST_SHOWN).map(T::to_string).collect();
            let more = values.len() - shown.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            (!values.is_empty()).then(|| format!("{key} {}{more}", shown.join(", ")))
        }
        let Conditions { networks, countries, continents, asns } = &self.clients;
        let conditions = [
            first("networks", networks.as_deref().unwrap_or_default()),
            self.networks_file.as_ref().map(|file| format!("networks_file {}", file.display())),
            first("countries", countries),
            first("continents", continents),
            first("asns", asns),
        ];
        f.write_str(&conditions.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

/// The index of a route of a service: 0 is the default route, `n` the route of the n-th rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteIndex(pub u16);

impl RouteIndex {
    /// The route for clients that no rule matches.
    pub const DEFAULT: Self = Self(0);

    /// The number of the rule, from 1; `None` for the default route.
    #[must_use]
    pub fn rule(self) -> Option<u16> {
        (self != Self::DEFAULT).then_some(self.0)
    }
}

/// Seconds for which a resolver may keep an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ttl {
    /// The shortest, while a change is near.
    pub min: u32,
    /// The longest.
    pub max: u32,
}

impl Ttl {
    /// Whether it never changes.
    #[must_use]
    #[inline]
    pub fn is_fixed(self) -> bool {
        self.min == self.max
    }

    /// Always the same TTL, seconds.
    #[must_use]
    pub fn fixed(seconds: u32) -> Self {
        Self { min: seconds, max: seconds }
    }
}

impl Service {
    /// A service with these tiers, with defaults for everything else.
    #[must_use]
    pub fn new(name: Name, tiers: Vec<PoolId>) -> Self {
        let default = Route {
            tiers,
            answers: Answers::DEFAULT,
            ttl: Ttl::fixed(DEFAULT_TTL),
            when_down: WhenDown::FailOpen,
        };
        Self {
            name,
            default,
            rules: Vec::new(),
            rule_table: None,
            policy: Policy::Weighted,
            spread: Spread::default(),
            failback: Failback::Auto,
        }
    }

    /// Its routes, in the order of [`RouteIndex`].
    pub fn routes(&self) -> impl Iterator<Item = (RouteIndex, &Route)> {
        let rules = self.rules.iter().map(|rule| &rule.route);
        (0..).map(RouteIndex).zip(std::iter::once(&self.default).chain(rules))
    }

    /// The route with this index.
    #[must_use]
    #[inline]
    pub fn route(&self, index: RouteIndex) -> Option<&Route> {
        match index.0.checked_sub(1) {
            None => Some(&self.default),
            Some(rule) => self.rules.get(usize::from(rule)).map(|rule| &rule.route),
        }
    }

    /// The pools of all its routes, each once: those of the default route first, in order.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolId> {
        let mut pools = self.default.tiers.clone();
        for tier in self.rules.iter().flat_map(|rule| &rule.route.tiers) {
            if !pools.contains(tier) {
                pools.push(*tier);
            }
        }
        pools
    }
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
    /// The value for services that do not set it.
    pub const DEFAULT: Self = Self::AtMost(2);

    /// The value for persistent services that do not set it: further addresses are only fall-backs.
    pub const PERSISTENT_DEFAULT: Self = Self::AtMost(1);

    /// The value for services with this policy that do not set it.
    #[must_use]
    pub fn default_of(policy: Policy) -> Self {
        match policy {
            Policy::Weighted | Policy::All => Self::DEFAULT,
            Policy::Persistent(_) => Self::PERSISTENT_DEFAULT,
        }
    }

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
    /// By the client: the same prefix gets the same addresses. Each is first for a part of all prefixes that is
    /// exactly proportional to its weight.
    Persistent(Persistence),
}

/// The prefix lengths of the clients that get the same answer from a persistent service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Persistence {
    /// For IPv4 clients, 1 to 32.
    pub ipv4: u8,
    /// For IPv6 clients, 1 to 128.
    pub ipv6: u8,
}

impl Policy {
    /// The word for it in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Weighted => "weighted",
            Self::All => "all",
            Self::Persistent(_) => "persistent",
        }
    }
}

impl Persistence {
    /// The longest prefixes that resolvers usually send (RFC 7871, section 11.1).
    pub const DEFAULT: Self = Self { ipv4: 24, ipv6: 56 };

    /// The prefix of a client.
    #[must_use]
    pub fn prefix(self, client: IpAddr) -> Network {
        Network::around(client, self.ipv4, self.ipv6)
    }
}

/// An operator's choice of the pool that answers for a service as long as it is usable. Times are times of day, since
/// 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// One of the service's pools. Routes without it stay as they are.
    pub pool: PoolId,
    /// When it began.
    pub since: Duration,
    /// When it ends by itself.
    pub until: Option<Duration>,
    /// The reason for it.
    pub reason: Option<String>,
    /// The client that requested it.
    pub by: Option<String>,
}

/// When a service returns to an earlier tier that is usable again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Failback {
    /// At once.
    #[default]
    Auto,
    /// After the tier has been usable without a break for this long.
    After(Duration),
    /// When an operator says so.
    Manual,
}

/// The value of the key, as a person writes it.
impl fmt::Display for Failback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::After(length) => Shown(*length).fmt(f),
            Self::Manual => f.write_str("manual"),
        }
    }
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
