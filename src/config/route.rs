//! The keys of a route, which a service and each of its rules can have.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::config::value::{Located, TomlValue};
use crate::pool::PoolId;
use crate::selection::MAX_ANSWERS;
use crate::service::{Answers, Ttl, WhenDown};
use crate::spelling::closest;

/// The largest TTL, seconds (RFC 2181, section 8).
const MAX_TTL: u64 = (1 << 31) - 1;

static WHEN_DOWN: [(&str, WhenDown); 3] =
    [("fail-open", WhenDown::FailOpen), ("nodata", WhenDown::NoData), ("servfail", WhenDown::ServFail)];

/// The pools with these names; reports those that do not exist.
pub(super) fn resolve_tiers<'s>(
    tiers: Vec<Located<'s, &'s str>>,
    pools: &HashMap<&'s str, PoolId>,
) -> Vec<PoolId> {
    tiers.into_iter().filter_map(|tier| resolve_tier(tier, pools)).collect()
}

fn resolve_tier<'s>(tier: Located<'s, &'s str>, pools: &HashMap<&'s str, PoolId>) -> Option<PoolId> {
    let found = pools.get(tier.value).copied();
    if found.is_none() {
        let near = closest(tier.value, pools.keys().copied());
        tier.at.error_with_hint(
            format!("there is no pool `{}`", tier.value),
            near.map(|near| format!("did you mean `{near}`?")),
        );
    }
    found
}

pub(super) fn tiers<'s>(value: TomlValue<'s>) -> Option<Vec<Located<'s, &'s str>>> {
    let mut tiers: Vec<Located<'s, &'s str>> = Vec::new();
    for value in value.list("a list of pools, such as [\"web\"]")? {
        let Some(name) = value.string("the name of a pool") else { continue };
        if let Some(first) = tiers.iter().find(|tier| tier.value == name) {
            value.at.error_beside(format!("pool `{name}` is a tier already"), first.at, "first here");
            continue;
        }
        tiers.push(Located { value: name, at: value.at, inherited: false });
    }
    Some(tiers)
}

pub(super) fn answers(value: TomlValue<'_>) -> Option<Answers> {
    let what = format!("a number from 1 to {MAX_ANSWERS}, or \"all\"");
    let counts = 1..=u16::try_from(MAX_ANSWERS).unwrap_or(u16::MAX);
    if value.is_integer() {
        return value.integer(counts).map(Answers::AtMost);
    }
    let text = value.string(&what)?;
    if text != "all" {
        value.must_be(format!("{what}; this is `{text}`"), value.integer_in_quotes(&counts));
        return None;
    }
    Some(Answers::All)
}

/// A fixed TTL, or its bounds.
pub(super) fn ttl(value: TomlValue<'_>) -> Option<Ttl> {
    if !value.is_table() {
        return seconds(value).map(Ttl::fixed);
    }
    let mut table = value.table(value.at)?;
    let [min, max] = ["min", "max"].map(|key| table.require(key, "this `ttl`", seconds));
    table.close();
    let (min, max) = (min?, max?);
    if min.value >= max.value {
        min.at.error_with_hint(
            "`min` must be below `max`".to_owned(),
            Some(format!("write `ttl = \"{}s\"` for a TTL that is always the same", max.value)),
        );
        return None;
    }
    Some(Ttl { min: min.value, max: max.value })
}

fn seconds(value: TomlValue<'_>) -> Option<u32> {
    let duration = value.duration(Duration::ZERO..=Duration::from_secs(MAX_TTL))?;
    if duration.subsec_nanos() > 0 {
        value.must_be("whole seconds: DNS has no smaller unit", None);
        return None;
    }
    u32::try_from(duration.as_secs()).ok()
}

pub(super) fn when_down(value: TomlValue<'_>) -> Option<WhenDown> {
    if !value.is_list() {
        return value.word(&WHEN_DOWN, Some("a list of addresses"));
    }
    let values = value.list("a list of addresses")?;
    if values.len() > MAX_ANSWERS {
        value.must_be(format!("a list of at most {MAX_ANSWERS} addresses"), None);
        return None;
    }
    let mut seen = HashSet::new();
    let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
    for value in values {
        match value.address() {
            Some(address) if !seen.insert(address) => {
                value.at.error(format!("`{address}` is in this list already"));
            }
            Some(IpAddr::V4(address)) => ipv4.push(address),
            Some(IpAddr::V6(address)) => ipv6.push(address),
            None => {}
        }
    }
    Some(WhenDown::Addresses { ipv4, ipv6 })
}
