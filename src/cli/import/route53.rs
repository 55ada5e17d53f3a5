//! Record sets of Amazon Route 53 as a draft: sets with a routing policy become pools and services, the others records of
//! the zone.
//!
//! The input is the JSON of `aws route53 list-resource-record-sets`, and of `aws route53 list-health-checks`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;
use std::net::IpAddr;

use serde_json::Value;

use super::draft::{DraftPool, DraftService, ImportDraft, plain_name, quoted};
use super::route53_check::{Route53Check, check_of};
use super::route53_record::{data, name_of, values};
use super::route53_set::{MAX_WEIGHT, RoutedSet, Routing, condition, label, routing, target};

/// Route 53 answers with at most this many records of a multivalue policy.
const MULTIVALUE: usize = 8;
/// The most aliases that are followed to an address.
const MAX_ALIASES: usize = 8;

struct Route53Importer<'a> {
    draft: &'a mut ImportDraft,
    /// By their ids.
    health_checks: BTreeMap<&'a str, &'a Value>,
    /// The sets without a routing policy, by name and type.
    simple: HashMap<(String, &'a str), &'a Value>,
    zone: String,
}

/// Adds the record sets to the draft.
///
/// # Errors
/// If the JSON is not a list of all record sets of one zone.
pub(super) fn import(
    sets: &Value,
    health_checks: Option<&Value>,
    draft: &mut ImportDraft,
) -> Result<(), String> {
    for all in [Some(sets), health_checks].into_iter().flatten() {
        if all["NextToken"].is_string() || all["IsTruncated"] == true {
            return Err(
                "it is only a part of the listing: repeat the `aws` command without --max-items and \
                        --no-paginate"
                    .to_owned(),
            );
        }
    }
    let sets = sets["ResourceRecordSets"]
        .as_array()
        .ok_or("`ResourceRecordSets` is missing: the file must be the output of `aws route53 list-resource-record-sets`")?;
    let soa =
        sets.iter().find(|set| set["Type"] == "SOA").ok_or("it has no SOA record, so its zone is unknown")?;
    let zone = name_of(soa);
    let health_checks =
        health_checks.and_then(|all| all["HealthChecks"].as_array()).map_or(&[][..], Vec::as_slice);
    let health_checks =
        health_checks.iter().filter_map(|check| Some((check["Id"].as_str()?, &check["HealthCheckConfig"])));
    let is_routed = |set: &&Value| set["SetIdentifier"].is_string();
    let simple = sets.iter().filter(|set| !is_routed(set));
    let simple = simple.filter_map(|set| Some(((name_of(set), set["Type"].as_str()?), set))).collect();
    let mut importer = Route53Importer { draft, health_checks: health_checks.collect(), simple, zone };
    let mut routed: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    let is_address = |set: &Value| set["Type"] == "A" || set["Type"] == "AAAA";
    for set in sets.iter().filter(is_routed) {
        if is_address(set) {
            routed.entry(name_of(set)).or_default().push(set);
        } else {
            importer.lose_set(
                set,
                "only A and AAAA records have a routing policy in steerd",
                "write one record into the zone file",
            );
        }
    }
    let mut records = String::new();
    let mut sorted: Vec<&Value> = sets.iter().filter(|set| !is_routed(set)).collect();
    // A zone file begins with its SOA record.
    sorted.sort_by_cached_key(|set| (set["Type"] != "SOA", name_of(set)));
    // A CNAME must be alone at its name.
    let occupied: HashSet<String> =
        sets.iter().filter(|set| !set["AliasTarget"].is_object()).map(name_of).collect();
    let mut aliases = HashMap::new();
    for set in sorted {
        let name = name_of(set);
        if set["AliasTarget"].is_object() {
            let is_free = name != importer.zone && !occupied.contains(&name) && !routed.contains_key(&name);
            importer.alias(set, is_free, &mut records, &mut aliases);
        } else if is_address(set) && routed.contains_key(&name) {
            importer.lose_set(
                set,
                "another type of this name has a routing policy",
                "add its addresses to the pool",
            );
        } else {
            importer.record(set, &mut records);
        }
    }
    for (name, sets) in routed {
        importer.service(&name, &sets);
    }
    if records.contains(" NS ") {
        importer.draft.lose(
            "the NS and SOA records of the zone",
            "they name the servers of Route 53",
            "replace them with the names of your servers, and add their addresses",
        );
    }
    let zone = importer.zone;
    draft.zones.insert(zone, records);
    Ok(())
}

impl<'a> Route53Importer<'a> {
    fn lose_set(&mut self, set: &Value, why: &str, remedy: &str) {
        let kind = set["Type"].as_str().unwrap_or_default();
        let label = label(set);
        let label = if label.is_empty() { label } else { format!(" `{label}`") };
        self.draft.lose(format!("{} {kind}{label}", name_of(set)), why, remedy);
    }

    /// Writes a set into the zone.
    fn record(&mut self, set: &Value, records: &mut String) {
        let (Some(kind), Some(ttl)) = (set["Type"].as_str(), set["TTL"].as_u64()) else {
            return self.lose_set(set, "it has no TTL", "write it into the zone file");
        };
        if let Some(id) = set["HealthCheckId"].as_str() {
            self.lose_set(
                set,
                &format!("records of a zone file are not checked, and its health check is {id}"),
                "make it a service",
            );
        }
        for value in values(set).filter(|value| !value.contains(['\n', '\r'])) {
            let _ = writeln!(records, "{}. {ttl} IN {kind} {}", name_of(set), data(kind, value));
        }
    }

    /// Writes an alias as a CNAME if its name is free for one.
    fn alias(
        &mut self,
        set: &Value,
        is_free: bool,
        records: &mut String,
        done: &mut HashMap<String, String>,
    ) {
        let (name, target) = (name_of(set), target(set));
        if !is_free || target.is_empty() || target == name {
            return self.lose_set(
                set,
                "steerd does not follow aliases, and a CNAME cannot be here",
                "make it a service with the addresses of the target as backends",
            );
        }
        match done.get(&name) {
            Some(first) if *first == target => {}
            Some(first) => self.lose_set(
                set,
                &format!("its target is {target}, but the name is a CNAME to {first} already"),
                "make it a service with the addresses of both targets as backends",
            ),
            None => {
                let _ = writeln!(records, "{name}. 60 IN CNAME {target}.");
                self.draft.lose(
                    format!("the alias {name}"),
                    "it is a CNAME to the same target now",
                    "nothing, unless clients must not see the name of the target, or its records of other types",
                );
                done.insert(name, target);
            }
        }
    }

    /// A set with the values that it has or that its alias leads to in this zone.
    fn member(&self, set: &'a Value) -> Option<RoutedSet<'a>> {
        let mut source = set;
        for _ in 0..MAX_ALIASES {
            if !source["AliasTarget"].is_object() {
                return Some(RoutedSet { set, source });
            }
            source = self.simple.get(&(target(source), set["Type"].as_str()?)).copied()?;
        }
        None
    }

    /// A name with a routing policy.
    fn service(&mut self, name: &str, sets: &[&'a Value]) {
        let kind = sets.first().map_or(Routing::Unknown, |set| routing(set));
        let mut service = DraftService::default();
        let mut members: Vec<RoutedSet<'a>> = Vec::new();
        let mut is_whole = true;
        for &set in sets {
            let is_default = set["GeoLocation"]["CountryCode"] == "*";
            if routing(set) != kind || kind == Routing::Unknown {
                self.lose_set(
                    set,
                    "steerd has no such routing policy, or the name has another one; it is not answered",
                    "add a rule or a pool to the service",
                );
            } else if let Some(member) = self.member(set) {
                if set["AliasTarget"].is_object() {
                    self.lose_set(
                        set,
                        &format!("it is an alias of {}, and has a copy of its addresses now", target(set)),
                        "change both when the target changes",
                    );
                }
                members.push(member);
            } else if kind == Routing::Geolocation && !is_default {
                self.lose_set(
                    set,
                    &format!(
                        "its target {} has no addresses in this zone; clients there get the default location",
                        target(set)
                    ),
                    "add a pool with the addresses of the target, and a rule for it",
                );
            } else {
                is_whole = false;
                self.lose_set(
                    set,
                    &format!(
                        "its target {} has no addresses in this zone; the other record sets would be answered in its \
                         place, so the whole service {name} is left out",
                        target(set)
                    ),
                    "write the service and a pool for each record set, with the addresses of the target as backends",
                );
            }
        }
        if !is_whole {
            return;
        }
        let most = members.iter().map(|member| member.count()).max().unwrap_or(1);
        match kind {
            Routing::Failover => {
                for role in ["PRIMARY", "SECONDARY"] {
                    let tier: Vec<_> =
                        members.iter().copied().filter(|member| member.set["Failover"] == role).collect();
                    self.tier(&mut service, &format!("{name}-{}", role.to_ascii_lowercase()), &tier, None);
                }
                service.keys.push(("answers", most.to_string()));
            }
            Routing::Multivalue => {
                self.tier(&mut service, name, &members, None);
                service.keys = vec![("policy", quoted("all")), ("answers", MULTIVALUE.to_string())];
            }
            Routing::Latency => {
                self.tier(&mut service, name, &members, Some("Region"));
                self.one_answer(name, most, &mut service);
                self.draft.lose(
                    format!("the latencies of {name}"),
                    "steerd does not measure the latency of networks: all clients draw from all regions, which are sites now",
                    "give the service rules by network, continent or country",
                );
            }
            Routing::Geolocation => {
                self.locations(&mut service, name, &members);
                service.keys.push(("answers", most.to_string()));
            }
            Routing::Weighted | Routing::Unknown => {
                self.weighted(&mut service, name, &members);
                self.one_answer(name, most, &mut service);
            }
        }
        if service.pools.is_empty() {
            self.draft.lose(name, "no address of it could be carried over", "add a pool and a service");
            return;
        }
        let times = members.iter().filter_map(|member| member.source["TTL"].as_u64());
        if let (Some(least), Some(largest)) = (times.clone().min(), times.max()) {
            service.keys.push(("ttl", quoted(&format!("{}s", least.min(2_147_483_647)))));
            if least != largest {
                self.draft.lose(
                    format!("the TTLs of {name}"),
                    format!("they are {least} to {largest} seconds, and a service has one TTL"),
                    format!(
                        "it is the smallest now; set `ttl` of the service if {least} seconds are too short"
                    ),
                );
            }
        }
        self.draft.services.insert(name.to_owned(), service);
    }

    /// Route 53 answers with one of the record sets.
    fn one_answer(&mut self, name: &str, most: usize, service: &mut DraftService) {
        service.keys.push(("answers", "1".to_owned()));
        if most > 1 {
            self.draft.lose(
                format!("the record sets of {name} with several values"),
                "Route 53 answers with all values of one record set; steerd draws each address on its own, and answers \
                 with one",
                "set `answers` of the service if clients need several addresses, which may be of several record sets",
            );
        }
    }

    /// Weight 0 is the last resort; if a type has no other weight, all its sets are equal.
    fn weighted(&mut self, service: &mut DraftService, name: &str, members: &[RoutedSet<'a>]) {
        let (last, usual): (Vec<_>, Vec<_>) =
            members.iter().copied().partition(|member| member.weight() == 0);
        self.tier(service, name, &usual, None);
        if usual.is_empty() {
            return self.tier(service, name, &last, None);
        }
        if !last.is_empty() {
            self.tier(service, &format!("{name}-last-resort"), &last, None);
            self.draft.lose(
                format!("the record sets of {name} with weight 0"),
                "Route 53 answers with them only if all others are unhealthy: they are the second tier now",
                "nothing; remove that pool from the service if they must never be answered",
            );
        }
    }

    fn locations(&mut self, service: &mut DraftService, name: &str, members: &[RoutedSet<'a>]) {
        let (default, others): (Vec<_>, Vec<_>) =
            members.iter().copied().partition(|member| member.set["GeoLocation"]["CountryCode"] == "*");
        self.tier(service, name, &default, None);
        if service.pools.is_empty() {
            self.tier(service, name, &others, None);
            self.draft.lose(
                format!("the locations of {name}"),
                "there is no default location, and steerd answers all clients",
                "give the service rules by continent or country",
            );
            return;
        }
        let mut pools: BTreeMap<(bool, String), Vec<RoutedSet<'a>>> = BTreeMap::new();
        for member in others {
            match condition(&member.set["GeoLocation"]) {
                Some(condition) => pools.entry(condition).or_default().push(member),
                None => self.lose_set(
                    member.set,
                    "steerd has no rules by subdivision; clients there get the rule of their country, or the default \
                     location",
                    "add a rule by network",
                ),
            }
        }
        let conditions: Vec<String> = pools.keys().map(|(_, condition)| condition.clone()).collect();
        let mut rules = Vec::new();
        for ((_, condition), members) in pools {
            let first = members.first().map_or_else(String::new, |member| label(member.set));
            let mut own = DraftService::default();
            self.tier(&mut own, &format!("{name}-{first}"), &members, None);
            let tiers: Vec<String> =
                own.pools.iter().chain(&service.pools).map(|pool| quoted(pool)).collect();
            rules.push(format!("{{ {condition}, pools = [{}] }}", tiers.join(", ")));
        }
        if !rules.is_empty() {
            self.draft.lose(
                format!("the locations of {name} with {}", conditions.join(", ")),
                "a rule by geography needs a database, which only you have; until then all clients get the default location",
                format!(
                    "set `database` under [geo], and add to the service, in this order, as Route 53 tries countries first: \
                     rules = [{}]; a location that is unhealthy falls back to the default, but in Route 53 a country \
                     to its continent first: put that pool between them",
                    rules.join(", ")
                ),
            );
        }
    }

    /// Adds a pool of these sets as the next tier; `site` is the member of a set that names its site.
    fn tier(
        &mut self,
        service: &mut DraftService,
        name: &str,
        members: &[RoutedSet<'a>],
        site: Option<&str>,
    ) {
        let mut pool = DraftPool::default();
        // Several values of a set share its weight.
        let shares = members.iter().map(|member| member.count() as u64).fold(1, least_multiple);
        let largest = members.iter().map(|member| member.weight()).max().unwrap_or(1).max(1);
        let is_shared = largest.saturating_mul(shares) <= MAX_WEIGHT;
        if !is_shared {
            self.draft.lose(
                format!("the weights of pool `{name}`"),
                "its record sets have too many different numbers of values, so each value has the whole weight of its set",
                "set `weight` of its backends",
            );
        }
        let mut checks: BTreeMap<String, usize> = BTreeMap::new();
        let mut without = 0;
        for &member in members {
            let check = self.check(member);
            match &check {
                Some(check) => *checks.entry(check.check.clone()).or_default() += 1,
                None => without += 1,
            }
            let share = if is_shared { shares / member.count() as u64 } else { 1 };
            // The sets of a tier with weight 0 are equal.
            let weight = member.weight().max(1) * share;
            for value in values(member.source) {
                let Ok(address) = value.parse::<IpAddr>() else {
                    self.lose_set(member.set, "its value is no address", "add a backend");
                    continue;
                };
                if let Some(backend) = pool.holder(address) {
                    let is_weighted = member.set["Weight"].is_number();
                    if is_weighted {
                        backend.weight = (backend.weight + weight).min(MAX_WEIGHT);
                    }
                    self.lose_set(
                        member.set,
                        &format!("{address} is in this pool already"),
                        if is_weighted { "nothing: its weight is added there" } else { "nothing" },
                    );
                    continue;
                }
                let mut keys = Vec::new();
                if let Some(site) = site.and_then(|site| member.set[site].as_str()) {
                    keys.push(("site", quoted(&plain_name(site))));
                }
                let probed = check.as_ref().and_then(|check| check.address);
                if let Some(probed) = probed.filter(|probed| *probed != address) {
                    keys.push(("check_address", quoted(&probed.to_string())));
                }
                pool.add(&label(member.set), address, weight, keys);
            }
        }
        if pool.backends.is_empty() {
            return;
        }
        self.choose(name, &mut pool, &checks, without);
        service.pools.push(self.draft.add_pool(name, pool));
    }

    /// The check of a set; without one, it is healthy for Route 53.
    fn check(&mut self, member: RoutedSet<'a>) -> Option<Route53Check> {
        let id = member.health_check()?;
        let Some(config) = self.health_checks.get(id).copied() else {
            self.draft.lose(
                format!("health check {id}"),
                "its definition is not known",
                "give the output of `aws route53 list-health-checks` with --health-checks, or add a check to its pools",
            );
            return None;
        };
        let check = match check_of(config) {
            Ok(check) => check,
            Err(why) => {
                self.draft.lose(
                    format!("health check {id}"),
                    why,
                    "add a check of another kind, such as `exec`, to its pools",
                );
                return None;
            }
        };
        if check.address.is_none() {
            self.draft.lose(
                format!("health check {id} without an address"),
                "Route 53 looks its name up and probes what it finds; steerd probes each backend at its own address",
                "set `check_address` of the backends if another address is meant",
            );
        }
        if check.is_unverified {
            self.draft.lose(
                format!("the certificate of health check {id}"),
                "Route 53 does not verify certificates, so the check has `verify = false`",
                "remove that key if the backends have valid certificates for the host",
            );
        }
        Some(check)
    }

    /// Gives the pool the check that most of its sets have.
    fn choose(
        &mut self,
        pool_name: &str,
        pool: &mut DraftPool,
        checks: &BTreeMap<String, usize>,
        without: usize,
    ) {
        let Some((check, _)) = checks.iter().max_by_key(|(_, count)| **count) else { return };
        for other in checks.keys().filter(|other| *other != check) {
            self.draft.lose(
                format!("another check of pool `{pool_name}`: {other}"),
                "all backends of a pool have the same checks",
                "use `port` and `host` of a backend if only these differ, or another pool",
            );
        }
        if without > 0 {
            self.draft.lose(
                format!("{without} record sets of pool `{pool_name}` without a health check"),
                "all backends of a pool have the same checks, so these are checked too",
                "move them to another pool if they cannot be checked",
            );
        }
        pool.checks.push(check.clone());
    }
}

fn least_multiple(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).saturating_mul(b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_are_whole() {
        assert_eq!(least_multiple(4, 6), 12);
    }

    fn odd() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<u64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            "[a-z.\\\\0-9*:/ \n\"]{0,12}".prop_map(Value::from),
            prop_oneof![
                Just("A"),
                Just("AAAA"),
                Just("SOA"),
                Just("PRIMARY"),
                Just("*"),
                Just("192.0.2.1"),
                Just("TCP")
            ]
            .prop_map(Value::from),
        ];
        let key = prop_oneof![
            Just("Name"),
            Just("Type"),
            Just("TTL"),
            Just("ResourceRecords"),
            Just("Value"),
            Just("SetIdentifier"),
            Just("Weight"),
            Just("Failover"),
            Just("MultiValueAnswer"),
            Just("Region"),
            Just("GeoLocation"),
            Just("CountryCode"),
            Just("AliasTarget"),
            Just("DNSName"),
            Just("HealthCheckId"),
            Just("Port"),
        ];
        leaf.prop_recursive(4, 60, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(key.clone(), inner, 0..8).prop_map(|members| {
                    Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_json_is_too_odd(sets in prop::collection::vec(odd(), 0..6), checks in odd()) {
            let soa = serde_json::json!({ "Name": "example.com.", "Type": "SOA", "TTL": 5 });
            let sets: Vec<Value> = std::iter::once(soa).chain(sets).collect();
            let sets = serde_json::json!({ "ResourceRecordSets": sets });
            let checks = serde_json::json!({ "HealthChecks": [{ "Id": "a", "HealthCheckConfig": checks }] });
            let mut draft = ImportDraft::default();
            let _ = import(&sets, Some(&checks), &mut draft);
            let _ = (draft.toml("test"), draft.notes());
        }
    }
}
