//! `[services."NAME"]`: which pools answer for a name, and how.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::route::{answers, resolve_tiers, tiers, ttl, when_down};
use crate::config::rules::{self, ReadRule, RuleKeys};
use crate::config::source::At;
use crate::config::value::{Located, NamedValue, TomlTable, TomlValue};
use crate::config::{labels, persistence};
use crate::name::Name;
use crate::pool::PoolId;
use crate::selection::Spread;
use crate::service::{Answers, DEFAULT_TTL, Failback, Persistence, Policy, Route, Service, Ttl, WhenDown};

/// The range of durations after which a service returns to an earlier tier.
const FAILBACK: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);

static POLICIES: [(&str, Policy); 3] = [
    ("weighted", Policy::Weighted),
    ("all", Policy::All),
    ("persistent", Policy::Persistent(Persistence::DEFAULT)),
];
const SPREADS: [(&str, Spread); 3] =
    [("shares", Spread::Shares), ("always", Spread::Always), ("off", Spread::Off)];
const FAILBACKS: [(&str, Failback); 2] = [("auto", Failback::Auto), ("manual", Failback::Manual)];

/// A service as read.
#[derive(Debug)]
pub(super) struct ReadService<'s> {
    /// The location of the name.
    pub(super) at: At<'s>,
    /// The location of `answers`, or of the name if the service has none.
    pub(super) answers_at: At<'s>,
    /// The location of `ttl`, or of the name if the service has none.
    pub(super) ttl_at: At<'s>,
    /// The location of `policy`, or of the name if the service has none.
    pub(super) policy_at: At<'s>,
    /// The location of `when_down`, or of the name if the service has none.
    pub(super) when_down_at: At<'s>,
    /// The service as read.
    pub(super) service: Service,
    /// The locations of its rules.
    pub(super) rules: Vec<ReadRule<'s>>,
    /// Whether it has faults; then no further faults are derived from it.
    pub(super) faulty: bool,
}

/// The keys of a service. Each can have a default.
#[derive(Debug, Default)]
pub(super) struct ServiceKeys<'s> {
    pools: Option<Located<'s, Vec<Located<'s, &'s str>>>>,
    answers: Option<Located<'s, Answers>>,
    ttl: Option<Located<'s, Ttl>>,
    policy: Option<Located<'s, Policy>>,
    persistence: Option<Located<'s, Persistence>>,
    spread: Option<Located<'s, Spread>>,
    when_down: Option<Located<'s, WhenDown>>,
    failback: Option<Located<'s, Failback>>,
    rules: Option<Located<'s, Vec<RuleKeys<'s>>>>,
    faulty: bool,
}

impl<'s> ServiceKeys<'s> {
    /// Reads `[defaults.service]`.
    pub(super) fn read_defaults(entry: NamedValue<'s>) -> Self {
        entry.value.table(entry.at).map(Self::read).unwrap_or_default()
    }

    fn read(mut table: TomlTable<'s>) -> Self {
        let findings = table.at.findings();
        let before = findings.errors();
        let keys = Self {
            pools: table.read("pools", tiers),
            answers: table.read("answers", answers),
            ttl: table.read("ttl", ttl),
            policy: table.read("policy", policy),
            persistence: table.read("persistence", persistence::read),
            spread: table.read("spread", |value| value.word(&SPREADS, None)),
            when_down: table.read("when_down", when_down),
            failback: table.read("failback", failback),
            rules: table.read("rules", rules::rules),
            faulty: false,
        };
        table.close();
        Self { faulty: findings.errors() > before, ..keys }
    }
}

impl ServiceKeys<'_> {
    /// The policy with its prefix lengths.
    fn policy(&self, defaults: &Self) -> Policy {
        let policy = Located::or_default(self.policy, defaults.policy.as_ref());
        let persistence = Located::or_default(self.persistence, defaults.persistence.as_ref());
        match policy.map_or(Policy::Weighted, |policy| policy.value) {
            Policy::Persistent(default) => {
                Policy::Persistent(persistence.map_or(default, |persistence| persistence.value))
            }
            policy => policy,
        }
    }
}

impl<'s> ReadService<'s> {
    /// Reads one service. None if its name is not a domain name.
    pub(super) fn read(
        entry: NamedValue<'s>,
        defaults: &ServiceKeys<'s>,
        pools: &HashMap<&'s str, PoolId>,
    ) -> Option<Self> {
        let before = entry.at.findings().errors();
        let keys = entry.value.table(entry.at).map(ServiceKeys::read);
        let name = dns_name(entry)?;
        let keys = keys?;
        let own = |at: Option<At<'s>>| at.unwrap_or(entry.at);
        let answers_at = own(keys.answers.map(|answers| answers.at));
        let ttl_at = own(keys.ttl.map(|ttl| ttl.at));
        let policy_at = own(keys.policy.map(|policy| policy.at));
        let when_down_at = own(keys.when_down.as_ref().map(|when_down| when_down.at));
        let sound = !keys.faulty && !defaults.faulty;

        let policy = keys.policy(defaults);
        if let (false, Some(persistence)) =
            (matches!(policy, Policy::Persistent(_)) || !sound, keys.persistence)
        {
            persistence.at.error_with_hint(
                format!(
                    "`persistence` of `{}` has no effect, because its policy is not \"persistent\"",
                    entry.name
                ),
                "set `policy = \"persistent\"`, or leave `persistence` out".to_owned(),
            );
        }
        let tiers = Located::or_default(keys.pools, defaults.pools.as_ref());
        if tiers.is_none() && sound {
            entry.at.error(format!("service `{}` has no `pools`", entry.name));
        }
        let tiers = tiers.map(|tiers| tiers.value).unwrap_or_default();
        let default = Route {
            tiers: resolve_tiers(tiers, pools),
            answers: Located::or_default(keys.answers, defaults.answers.as_ref())
                .map_or(Answers::default_of(policy), |answers| answers.value),
            ttl: Located::or_default(keys.ttl, defaults.ttl.as_ref())
                .map_or(Ttl::fixed(DEFAULT_TTL), |ttl| ttl.value),
            when_down: Located::or_default(keys.when_down, defaults.when_down.as_ref())
                .map_or(WhenDown::FailOpen, |when_down| when_down.value),
        };
        let rules = Located::or_default(keys.rules, defaults.rules.as_ref()).map(|rules| rules.value);
        let rules = rules.unwrap_or_default().into_iter().map(|keys| keys.resolve(&default, pools));
        let (rules, read_rules) = rules.unzip();
        let service = Service {
            name,
            default,
            rules,
            rule_table: None,
            policy,
            spread: Located::or_default(keys.spread, defaults.spread.as_ref())
                .map_or(Spread::default(), |spread| spread.value),
            failback: Located::or_default(keys.failback, defaults.failback.as_ref())
                .map_or(Failback::default(), |failback| failback.value),
        };
        let faulty = !sound || entry.at.findings().errors() > before;
        Some(Self {
            at: entry.at,
            answers_at,
            ttl_at,
            policy_at,
            when_down_at,
            service,
            rules: read_rules,
            faulty,
        })
    }
}

/// A route of a service, with the locations of its keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadRoute<'r, 's> {
    pub(super) route: &'r Route,
    /// The location of the rule, or of the service's name.
    pub(super) at: At<'s>,
    pub(super) answers_at: At<'s>,
    pub(super) ttl_at: At<'s>,
    pub(super) when_down_at: At<'s>,
}

impl<'s> ReadService<'s> {
    /// The routes: the default one, and those of rules that differ from it.
    pub(super) fn routes(&self) -> impl Iterator<Item = ReadRoute<'_, 's>> {
        let Self { at, answers_at, ttl_at, when_down_at, .. } = *self;
        let default = ReadRoute { route: &self.service.default, at, answers_at, ttl_at, when_down_at };
        let rules = self.service.rules.iter().zip(&self.rules).map(move |(rule, read)| ReadRoute {
            route: &rule.route,
            at: read.at,
            answers_at: read.answers_at.unwrap_or(read.at),
            ttl_at: read.ttl_at.unwrap_or(read.at),
            when_down_at: read.when_down_at.unwrap_or(read.at),
        });
        std::iter::once(default).chain(rules.filter(|rule| *rule.route != self.service.default))
    }
}

/// A name of `[zones]` or `[services]`, in A-labels if it is not ASCII.
pub(super) fn dns_name(entry: NamedValue<'_>) -> Option<Name> {
    let refuse = |reason: &str| entry.at.error(format!("`{}` is not a domain name: {reason}", entry.name));
    let Some(ascii) = labels::to_ascii(entry.name) else {
        refuse("it has characters that no name can have");
        return None;
    };
    Name::parse(&ascii).map_err(|error| refuse(&error.to_string())).ok()
}

fn policy(value: TomlValue<'_>) -> Option<Policy> {
    let remedy = match value.as_str() {
        Some("round-robin" | "roundrobin" | "rr" | "random") => {
            Some("\"weighted\" with equal weights gives every backend the same share".to_owned())
        }
        Some("sticky" | "source" | "source-ip" | "ip-hash" | "ip_hash" | "hash" | "consistent-hash") => {
            Some("\"persistent\" gives clients of one network the same backends".to_owned())
        }
        _ => None,
    };
    value.word_or(&POLICIES, None, remedy)
}

fn failback(value: TomlValue<'_>) -> Option<Failback> {
    let is_duration =
        value.as_str().is_some_and(|text| text.starts_with(|first: char| first.is_ascii_digit()));
    if is_duration || value.is_integer() {
        return value.duration(FAILBACK).map(Failback::After);
    }
    value.word(&FAILBACKS, Some("a duration such as \"10m\""))
}
