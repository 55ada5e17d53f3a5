//! `rules` of a service: which clients get another route.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::path::PathBuf;

use crate::config::route::{answers, resolve_tiers, tiers, ttl, when_down};
use crate::config::source::At;
use crate::config::value::{Located, TomlValue};
use crate::network::Network;
use crate::pool::PoolId;
use crate::rules::{Conditions, Continent, Country, MAX_RULES};
use crate::service::{Answers, Route, Rule, Ttl, WhenDown};

/// The keys of a rule. Those of its route are taken from the service if they are not set.
#[derive(Clone, Debug)]
pub(super) struct RuleKeys<'s> {
    at: At<'s>,
    clients: Conditions,
    networks_file: Option<Located<'s, PathBuf>>,
    /// The locations of `countries`, `continents` and `asns`.
    geographic: [Option<At<'s>>; 3],
    pools: Option<Located<'s, Vec<Located<'s, &'s str>>>>,
    answers: Option<Located<'s, Answers>>,
    ttl: Option<Located<'s, Ttl>>,
    when_down: Option<Located<'s, WhenDown>>,
}

/// The locations of a rule as read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadRule<'s> {
    /// The location of the rule.
    pub(super) at: At<'s>,
    /// The location of `networks_file`.
    pub(super) networks_file_at: Option<At<'s>>,
    /// The locations of `countries`, `continents` and `asns`.
    pub(super) geographic: [Option<At<'s>>; 3],
    /// The location of `answers`, if the rule has its own.
    pub(super) answers_at: Option<At<'s>>,
    /// The location of `ttl`, if the rule has its own.
    pub(super) ttl_at: Option<At<'s>>,
    /// The location of `when_down`, if the rule has its own.
    pub(super) when_down_at: Option<At<'s>>,
}

/// Reads the list of rules.
pub(super) fn rules(value: TomlValue<'_>) -> Option<Vec<RuleKeys<'_>>> {
    let what = "a list of rules, such as [{ networks = [\"192.0.2.0/24\"], pools = [\"near\"] }]";
    let values = value.list(what)?;
    if values.len() > MAX_RULES {
        value.must_be(format!("a list of at most {MAX_RULES} rules"), None);
        return None;
    }
    Some(values.into_iter().filter_map(RuleKeys::read).collect())
}

impl<'s> RuleKeys<'s> {
    fn read(value: TomlValue<'s>) -> Option<Self> {
        let mut table = value.table(value.at)?;
        let before = value.at.findings().errors();
        let networks = table.read("networks", |value| elements(value, NETWORKS, network));
        let networks_file = table.read("networks_file", TomlValue::path);
        let countries = table.read("countries", |value| elements(value, COUNTRIES, country));
        let continents = table.read("continents", |value| elements(value, CONTINENTS, continent));
        let asns = table.read("asns", |value| elements(value, ASNS, asn));
        let geographic = [
            countries.as_ref().map(|countries| countries.at),
            continents.as_ref().map(|continents| continents.at),
            asns.as_ref().map(|asns| asns.at),
        ];
        let keys = Self {
            at: value.at,
            geographic,
            pools: table.read("pools", tiers),
            answers: table.read("answers", answers),
            ttl: table.read("ttl", ttl),
            when_down: table.read("when_down", when_down),
            clients: Conditions {
                networks: networks.map(|networks| networks.value),
                countries: countries.map(|countries| countries.value).unwrap_or_default(),
                continents: continents.map(|continents| continents.value).unwrap_or_default(),
                asns: asns.map(|asns| asns.value).unwrap_or_default(),
            },
            networks_file,
        };
        table.close();
        let sound = value.at.findings().errors() == before;
        if sound && keys.networks_file.is_none() && keys.clients == Conditions::default() {
            value.at.error_with_hint(
                "this rule does not say for which clients it is",
                "name them by `networks`, `networks_file`, `countries`, `continents` or `asns`; `pools` of the \
                 service is for all others"
                    .to_owned(),
            );
        }
        sound.then_some(keys)
    }

    /// The rule of a service with this default route.
    pub(super) fn resolve(self, default: &Route, pools: &HashMap<&'s str, PoolId>) -> (Rule, ReadRule<'s>) {
        let Self { at, clients, networks_file, geographic, pools: own, answers, ttl, when_down } = self;
        let read = ReadRule {
            at,
            networks_file_at: networks_file.as_ref().map(|file| file.at),
            geographic,
            answers_at: answers.map(|answers| answers.at),
            ttl_at: ttl.map(|ttl| ttl.at),
            when_down_at: when_down.as_ref().map(|when_down| when_down.at),
        };
        let route = Route {
            tiers: own.map_or_else(|| default.tiers.clone(), |own| resolve_tiers(own.value, pools)),
            answers: answers.map_or(default.answers, |answers| answers.value),
            ttl: ttl.map_or(default.ttl, |ttl| ttl.value),
            when_down: when_down.map_or_else(|| default.when_down.clone(), |when_down| when_down.value),
        };
        (Rule { clients, networks_file: networks_file.map(|file| file.value), route }, read)
    }
}

const NETWORKS: &str = "a list of networks, such as [\"192.0.2.0/24\", \"2001:db8::/32\"]";
const COUNTRIES: &str = "a list of countries, such as [\"DE\", \"FR\"]";
const CONTINENTS: &str = "a list of continents, such as [\"EU\"]";
const ASNS: &str = "a list of numbers of autonomous systems, such as [64496]";

/// The elements of a list, each once.
fn elements<'s, T: Copy + Eq + Hash>(
    value: TomlValue<'s>,
    what: &str,
    read: impl Fn(TomlValue<'s>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut elements = Vec::new();
    let mut known: HashMap<T, At<'s>> = HashMap::new();
    for value in value.list(what)? {
        let Some(element) = read(value) else { continue };
        match known.entry(element) {
            Entry::Occupied(first) => {
                value.at.error_beside("this is in the list twice", *first.get(), "first here");
            }
            Entry::Vacant(slot) => {
                slot.insert(value.at);
                elements.push(element);
            }
        }
    }
    Some(elements)
}

fn network(value: TomlValue<'_>) -> Option<Network> {
    let text = value.string("an address or a network, such as \"192.0.2.0/24\"")?;
    text.parse().map_err(|error: crate::network::NetworkError| value.at.error(error.to_string())).ok()
}

fn country(value: TomlValue<'_>) -> Option<Country> {
    let text = value.string("the code of a country, such as \"DE\"")?;
    let known = Country::known(text);
    if known.is_none() {
        let hint = Country::meant_by(text).map(|code| format!("did you mean \"{code}\"?"));
        value.at.error_with_hint(
            format!("`{text}` is not the code of a country (ISO 3166-1, two letters)"),
            hint,
        );
    }
    known
}

fn continent(value: TomlValue<'_>) -> Option<Continent> {
    let text = value.string("the code of a continent, such as \"EU\"")?;
    let known = Continent::known(text);
    if known.is_none() {
        let codes: Vec<String> = Continent::all().map(|(code, name)| format!("{code} ({name})")).collect();
        let hint = Continent::meant_by(text).map(|code| format!("did you mean \"{code}\"?"));
        let message = format!("`{text}` is not the code of a continent: {}", codes.join(", "));
        value.at.error_with_hint(message, hint);
    }
    known
}

fn asn(value: TomlValue<'_>) -> Option<u32> {
    value.integer_or(1..=u32::MAX, || {
        let digits = value.as_str()?.trim().trim_start_matches(['A', 'S', 'a', 's']);
        digits.parse::<u32>().ok().map(|number| format!("write the number alone: {number}"))
    })
}
