//! `[pools.NAME]`: backends, their checks, and when the pool is usable.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::check::PoolSetup;
use crate::config::check::{self, CheckKeys, CheckList, Hosts, MAX_CHECKS, ReadCheck};
use crate::config::names;
use crate::config::source::At;
use crate::config::value::{Located, NamedValue, TomlTable, TomlValue, percent};
use crate::pool::{Backend, MAX_WEIGHT, MinHealthy, Pool, Require};

/// For longer times, the operator changes the weight of the backend by hand.
const SLOW_STARTS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// A pool as read.
#[derive(Debug)]
pub(super) struct ReadPool<'s> {
    /// The location of the name.
    pub(super) at: At<'s>,
    /// The pool as read.
    pub(super) setup: PoolSetup,
    /// The checks with their locations, for warnings.
    pub(super) checks: Vec<ReadCheck<'s>>,
    /// Whether it has faults; then no further faults are derived from it.
    pub(super) faulty: bool,
}

/// The keys of a pool that can have a default.
#[derive(Debug, Default)]
pub(super) struct PoolKeys<'s> {
    /// `check` or `checks`.
    checks: Option<Located<'s, CheckList<'s>>>,
    require: Option<Located<'s, Require>>,
    min_healthy: Option<Located<'s, MinHealthy>>,
    slow_start: Option<Located<'s, Duration>>,
    suspect_self: Option<Located<'s, SuspectSelf>>,
}

#[derive(Clone, Copy, Debug)]
enum SuspectSelf {
    Off,
    /// From this percentage of the addresses on.
    From(u8),
}

/// The names and addresses of the pool so far.
#[derive(Default)]
struct TakenNames<'s> {
    names: HashMap<String, At<'s>>,
    addresses: HashMap<IpAddr, At<'s>>,
}

impl<'s> PoolKeys<'s> {
    /// Reads `[defaults.pool]`.
    pub(super) fn read_defaults(entry: NamedValue<'s>) -> Self {
        let Some(mut table) = entry.value.table(entry.at) else { return Self::default() };
        let keys = Self::read(&mut table);
        table.close();
        keys
    }

    fn read(table: &mut TomlTable<'s>) -> Self {
        let one = table.read("check", check::read_list);
        let several = table.read("checks", check::read_list);
        if let (Some(one), Some(several)) = (&one, &several) {
            let message = "a pool has `check` or `checks`, not both";
            several.at.error_beside(message, one.at, "the other");
        }
        Self {
            checks: several.or(one),
            require: table.read("require", require),
            min_healthy: table.read("min_healthy", min_healthy),
            slow_start: table.read("slow_start", |value| value.duration(SLOW_STARTS)),
            suspect_self: table.read("suspect_self", suspect_self),
        }
    }

    fn or_default(self, defaults: &Self) -> Self {
        Self {
            checks: Located::or_default(self.checks, defaults.checks.as_ref()),
            require: Located::or_default(self.require, defaults.require.as_ref()),
            min_healthy: Located::or_default(self.min_healthy, defaults.min_healthy.as_ref()),
            slow_start: Located::or_default(self.slow_start, defaults.slow_start.as_ref()),
            suspect_self: Located::or_default(self.suspect_self, defaults.suspect_self.as_ref()),
        }
    }
}

impl<'s> ReadPool<'s> {
    /// Reads one pool. A pool with faults is returned too, because services may refer to it.
    pub(super) fn read(
        entry: NamedValue<'s>,
        defaults: &PoolKeys<'s>,
        check_defaults: &CheckKeys<'s>,
    ) -> Self {
        let findings = entry.at.findings();
        let before = findings.errors();
        names::check(entry.at, entry.name, "a pool", names::is_in_pool_name);
        let pool = Pool::new(entry.name, Vec::new());
        let setup = PoolSetup { pool, checks: Vec::new(), require: Require::All };
        let mut read = Self { at: entry.at, setup, checks: Vec::new(), faulty: false };
        if let Some(mut table) = entry.value.table(entry.at) {
            let owner = format!("pool `{}`", entry.name);
            if let Some(backends) = table.require("backends", &owner, read_backends) {
                read.setup.pool.backends = backends.value;
            }
            let keys = PoolKeys::read(&mut table);
            table.close();
            let keys = keys.or_default(defaults);
            if keys.checks.is_none() && findings.is_check() {
                entry.at.warning(
                    format!("pool `{}` has no check: its backends are always answered", entry.name),
                    "give it a `check`, such as \"tcp://:443\"; `checks = []` says that none is meant"
                        .to_owned(),
                );
            }
            if let Some(checks) = &keys.checks {
                let backends = &read.setup.pool.backends;
                read.checks = check::resolve_list(&checks.value, check_defaults, Hosts::of(backends));
            }
            read.take(&keys, findings.errors() == before);
        }
        read.faulty = findings.errors() > before;
        read
    }

    /// Takes the values of the keys. If the pool is `sound` so far, reports contradictions between them.
    ///
    /// Defaults are for pools of many sizes. But a default that this pool can never meet is still a fault, at the
    /// location of the pool.
    fn take(&mut self, keys: &PoolKeys<'s>, sound: bool) {
        let Self { at, setup: PoolSetup { pool, checks, require }, .. } = self;
        *checks = self.checks.iter().map(|read| read.check.clone()).collect();
        let place = |at_key, inherited| if inherited { *at } else { at_key };
        if let Some(key) = &keys.require {
            *require = key.value;
            // Without checks, a default has no effect.
            if sound && !(key.inherited && checks.is_empty()) {
                let deciding = checks.iter().filter(|check| !check.observe_only).count();
                check_require(place(key.at, key.inherited), key.value, deciding, &pool.name);
            }
        }
        if let Some(key) = &keys.min_healthy {
            pool.min_healthy = key.value;
            if sound {
                check_min_healthy(place(key.at, key.inherited), pool);
            }
        }
        if let Some(key) = &keys.slow_start {
            pool.slow_start = key.value;
        }
        if let Some(key) = &keys.suspect_self {
            pool.suspect_self = match key.value {
                SuspectSelf::Off => None,
                SuspectSelf::From(share) => Some(share),
            };
        }
    }
}

fn check_require(at: At<'_>, require: Require, deciding: usize, pool: &str) {
    let Require::AtLeast(least) = require else { return };
    // Without checks, "any" and "all" are the same.
    if usize::from(least) > deciding.max(1) {
        let checks = match deciding {
            0 => "no check that decides".to_owned(),
            1 => "one check that decides".to_owned(),
            several => format!("{several} checks that decide"),
        };
        at.error(format!("`require` is {least}, but pool `{pool}` has {checks}: it would never be usable"));
    }
}

fn check_min_healthy(at: At<'_>, pool: &Pool) {
    let addresses: usize = pool.backends.iter().map(|backend| backend.addresses.len()).sum();
    let MinHealthy::Count(minimum) = pool.min_healthy else { return };
    if minimum as usize > addresses {
        at.error(format!(
            "`min_healthy` is {minimum}, but pool `{}` has {addresses} addresses: it would never be usable",
            pool.name
        ));
    }
}

fn read_backends(value: TomlValue<'_>) -> Option<Vec<Backend>> {
    let what = "a list of backends, such as [\"192.0.2.11\", \"192.0.2.12\"]";
    let mut taken = TakenNames::default();
    let mut backends: Vec<Backend> =
        value.list(what)?.into_iter().filter_map(|value| taken.read_backend(value)).collect();
    backends.shrink_to_fit();
    Some(backends)
}

impl<'s> TakenNames<'s> {
    /// Reads a backend: an address or a table.
    fn read_backend(&mut self, value: TomlValue<'s>) -> Option<Backend> {
        if value.is_table() {
            return self.read_table(value.table(value.at)?);
        }
        if value.as_str().is_none() {
            value.expected("an address, or a table such as { name = \"a\", address = \"192.0.2.11\" }", None);
            return None;
        }
        let address = self.address(value)?;
        let name = self.name(value.at, address.to_string())?;
        Some(Backend::new(name, vec![address]))
    }

    fn read_table(&mut self, mut table: TomlTable<'s>) -> Option<Backend> {
        let at = table.at;
        let name = table.read("name", |value| value.string("a name"));
        let one = table.get("address");
        let several = table.get("addresses");
        let weight = table.read("weight", weight).map_or(1, |weight| weight.value);
        let enabled = table.read("enabled", TomlValue::boolean).is_none_or(|enabled| enabled.value);
        let site = table.read("site", site);
        let port = table.read("port", |value| value.integer(1..=u16::MAX));
        let host = table.read("host", check::backend_host);
        let check_address = table.read("check_address", |value| value.address_for("probe"));
        table.close();
        let addresses: Vec<IpAddr> = match (one, several) {
            (Some(one), Some(several)) => {
                several.at.error_beside(
                    "a backend has `address` or `addresses`, not both",
                    one.at,
                    "the other",
                );
                return None;
            }
            (None, None) => {
                at.error("the backend has no `address`");
                return None;
            }
            (Some(one), None) => {
                let hint = one.value.is_list().then(|| "several addresses belong in `addresses`".to_owned());
                if one.value.as_str().is_none() {
                    one.value.expected("an IP address", hint);
                    return None;
                }
                self.address(one.value).into_iter().collect()
            }
            (None, Some(several)) => {
                let values = several.value.list("a list of IP addresses")?;
                values.into_iter().filter_map(|value| self.address(value)).collect()
            }
        };
        let name = match name {
            Some(name) => {
                names::check(name.at, name.value, "a backend", is_in_backend_name);
                self.name(name.at, name.value.to_owned())?
            }
            None => self.name(at, addresses.first()?.to_string())?,
        };
        Some(Backend {
            weight,
            enabled,
            site: site.map(|site| site.value.to_owned()),
            port: port.map(|port| port.value),
            host: host.map(|host| host.value),
            check_address: check_address.map(|address| address.value),
            ..Backend::new(name, addresses)
        })
    }

    fn address(&mut self, value: TomlValue<'s>) -> Option<IpAddr> {
        let address = value.address()?;
        if let Some(first) = self.addresses.insert(address, value.at) {
            value.at.error_beside(format!("`{address}` is in this pool already"), first, "first here");
            return None;
        }
        Some(address)
    }

    fn name(&mut self, at: At<'s>, name: String) -> Option<String> {
        if let Some(first) = self.names.insert(name.clone(), at) {
            at.error_beside(format!("a backend `{name}` is in this pool already"), first, "first here");
            return None;
        }
        Some(name)
    }
}

/// A backend without a name gets its address as its name, so names may contain colons.
fn is_in_backend_name(character: char) -> bool {
    names::is_in_pool_name(character) || character == ':'
}

fn weight(value: TomlValue<'_>) -> Option<u32> {
    value.integer_or(0..=MAX_WEIGHT, || {
        value
            .is_fraction()
            .then(|| "only the proportions count: 0.5 and 1 are the same as 1 and 2".to_owned())
    })
}

fn site(value: TomlValue<'_>) -> Option<&str> {
    let text = value.string("the name of a site")?;
    names::check(value.at, text, "a site", names::is_in_pool_name).then_some(text)
}

fn min_healthy(value: TomlValue<'_>) -> Option<MinHealthy> {
    let what = "a count from 1, or a share of the weight from \"1%\" to \"100%\"";
    if value.is_integer() {
        return value.integer(1..=u32::MAX).map(MinHealthy::Count);
    }
    // It may be meant as a share.
    let as_share = |remedy| match value.as_str().and_then(|text| percent(&format!("{text}%"))) {
        Some(percent) => format!("{remedy}; or write \"{percent}%\" for a share"),
        None => remedy,
    };
    let remedy = value.integer_in_quotes(&(1..=u32::MAX)).map(as_share);
    let remedy = remedy.or_else(|| value.share_of_number());
    share(value, what, remedy).map(MinHealthy::Percent)
}

/// `"off"`, or a share of the addresses.
fn suspect_self(value: TomlValue<'_>) -> Option<SuspectSelf> {
    if value.as_str() == Some("off") {
        return Some(SuspectSelf::Off);
    }
    let what = "a share of the addresses from \"1%\" to \"100%\", or \"off\"";
    let remedy =
        value.share_of_number().or_else(|| value.is_false().then(|| "did you mean \"off\"?".to_owned()));
    share(value, what, remedy).map(SuspectSelf::From)
}

fn share(value: TomlValue<'_>, what: &str, remedy: Option<String>) -> Option<u8> {
    let Some(text) = value.as_str() else {
        value.expected(what, remedy);
        return None;
    };
    let share = percent(text);
    if share.is_none() {
        value.must_be(format!("{what}; this is `{text}`"), remedy);
    }
    share
}

fn require(value: TomlValue<'_>) -> Option<Require> {
    if value.is_integer() {
        return value.integer(1..=MAX_CHECKS).map(Require::AtLeast);
    }
    let words = [("all", Require::All), ("any", Require::AtLeast(1))];
    value.word_or(&words, Some("a number of checks"), value.integer_in_quotes(&(1..=MAX_CHECKS)))
}
