//! A record set of Amazon Route 53 with a routing policy.

use serde_json::Value;

use super::draft::quoted;
use super::route53_record::{plain, values};

/// The largest weight of a backend.
pub(super) const MAX_WEIGHT: u64 = 1_000_000;

/// How Route 53 chooses among the sets of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Routing {
    Weighted,
    Failover,
    Multivalue,
    Latency,
    Geolocation,
    Unknown,
}

/// A set with a routing policy, and the set that has its values: itself, or the target of its alias.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoutedSet<'a> {
    pub(super) set: &'a Value,
    pub(super) source: &'a Value,
}

impl<'a> RoutedSet<'a> {
    pub(super) fn count(self) -> usize {
        values(self.source).count().max(1)
    }

    pub(super) fn weight(self) -> u64 {
        self.set["Weight"].as_u64().unwrap_or(1).min(MAX_WEIGHT)
    }

    pub(super) fn health_check(self) -> Option<&'a str> {
        let of_target = || {
            let is_followed = self.set["AliasTarget"]["EvaluateTargetHealth"] == true;
            self.source["HealthCheckId"].as_str().filter(|_| is_followed)
        };
        self.set["HealthCheckId"].as_str().or_else(of_target)
    }
}

pub(super) fn label(set: &Value) -> String {
    set["SetIdentifier"].as_str().unwrap_or_default().to_owned()
}

pub(super) fn target(set: &Value) -> String {
    plain(set["AliasTarget"]["DNSName"].as_str().unwrap_or_default())
}

pub(super) fn routing(set: &Value) -> Routing {
    if set["Weight"].is_number() {
        Routing::Weighted
    } else if set["Failover"].is_string() {
        Routing::Failover
    } else if set["MultiValueAnswer"] == true {
        Routing::Multivalue
    } else if set["Region"].is_string() {
        Routing::Latency
    } else if set["GeoLocation"].is_object() {
        Routing::Geolocation
    } else {
        Routing::Unknown
    }
}

/// The conditions of a rule for a location; `None` for the default location, and for one without a condition in steerd.
/// Route 53 tries countries before continents.
pub(super) fn condition(location: &Value) -> Option<(bool, String)> {
    let list = |key: &str, code: &str| format!("{key} = [{}]", quoted(code));
    match (location["ContinentCode"].as_str(), location["CountryCode"].as_str()) {
        (Some(continent), _) => Some((true, list("continents", continent))),
        (None, Some("*") | None) => None,
        (None, Some(country)) => {
            location["SubdivisionCode"].is_null().then(|| (false, list("countries", country)))
        }
    }
}
