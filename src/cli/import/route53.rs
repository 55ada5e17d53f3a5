//! Record sets of Amazon Route 53 as a draft: sets with a routing policy become pools and services, the others records of
//! the zone.
//!
//! The input is the JSON of `aws route53 list-resource-record-sets`, and of `aws route53 list-health-checks`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use serde_json::Value;

use super::draft::{DraftBackend, DraftPool, DraftService, ImportDraft, plain_name, quoted, unique_name};

/// Route 53 answers with at most this many records of a multivalue policy.
const MULTIVALUE: usize = 8;

/// How Route 53 chooses among the sets of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Routing {
    Weighted,
    Failover,
    Multivalue,
    Latency,
    Geolocation,
    Unknown,
}

struct Route53Importer<'a> {
    draft: &'a mut ImportDraft,
    /// By their ids.
    health_checks: BTreeMap<&'a str, &'a Value>,
    zone: String,
}

/// Adds the record sets to the draft.
///
/// # Errors
/// If the JSON is not a list of record sets of one zone.
pub(super) fn import(
    sets: &Value,
    health_checks: Option<&Value>,
    draft: &mut ImportDraft,
) -> Result<(), String> {
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
    let mut importer = Route53Importer { draft, health_checks: health_checks.collect(), zone };
    let mut records = String::new();
    let mut routed: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    let addresses = ["A", "AAAA"];
    let is_address = |set: &Value| addresses.iter().any(|kind| set["Type"] == *kind);
    for set in sets.iter().filter(|set| set["SetIdentifier"].is_string()) {
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
    let mut sorted: Vec<&Value> = sets.iter().filter(|set| !set["SetIdentifier"].is_string()).collect();
    // A zone file begins with its SOA record.
    sorted.sort_by_key(|set| (set["Type"] != "SOA", name_of(set)));
    let mut aliases = BTreeSet::new();
    for set in sorted {
        if set["AliasTarget"].is_object() {
            importer.alias(set, sets, &mut records, &mut aliases);
        } else if is_address(set) && routed.contains_key(&name_of(set)) {
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

/// A domain name in Route 53's form, with octal escapes, in the form of a zone file and without the final dot.
fn plain(name: &str) -> String {
    let mut text = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let octal = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        rest = match octal {
            Some(byte) if byte.is_ascii_alphanumeric() || b"*-_".contains(&byte) => {
                text.push(char::from(byte));
                after.get(3..).unwrap_or_default()
            }
            Some(byte) => {
                let _ = write!(text, "\\{byte:03}");
                after.get(3..).unwrap_or_default()
            }
            None => {
                text.push('\\');
                after
            }
        };
    }
    text.push_str(rest);
    text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase()
}

fn name_of(set: &Value) -> String {
    plain(set["Name"].as_str().unwrap_or_default())
}

fn values(set: &Value) -> impl Iterator<Item = &str> {
    let records = set["ResourceRecords"].as_array().map_or(&[][..], Vec::as_slice);
    records.iter().filter_map(|record| record["Value"].as_str())
}

fn label(set: &Value) -> String {
    set["SetIdentifier"].as_str().unwrap_or_default().to_owned()
}

fn routing(set: &Value) -> Routing {
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
fn condition(location: &Value) -> Option<String> {
    let list = |key: &str, code: &str| format!("{key} = [{}]", quoted(code));
    match (location["ContinentCode"].as_str(), location["CountryCode"].as_str()) {
        (Some(continent), _) => Some(list("continents", continent)),
        (None, Some("*") | None) => None,
        (None, Some(country)) => location["SubdivisionCode"].is_null().then(|| list("countries", country)),
    }
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
        for value in values(set).filter(|value| !value.contains(['\n', '\r'])) {
            let _ = writeln!(records, "{}. {ttl} IN {kind} {value}", name_of(set));
        }
    }

    /// Writes an alias as a CNAME where that is possible.
    fn alias(&mut self, set: &'a Value, sets: &[Value], records: &mut String, done: &mut BTreeSet<String>) {
        let name = name_of(set);
        let target = plain(set["AliasTarget"]["DNSName"].as_str().unwrap_or_default());
        let others = sets.iter().any(|other| name_of(other) == name && !other["AliasTarget"].is_object());
        if name == self.zone || others || target.is_empty() || target == name {
            return self.lose_set(
                set,
                "steerd does not follow aliases, and a CNAME cannot be here",
                "make it a service with the addresses of the target as backends",
            );
        }
        if done.insert(name.clone()) {
            let _ = writeln!(records, "{name}. 60 IN CNAME {target}.");
            self.draft.lose(
                format!("the alias {name}"),
                "it is a CNAME to the same target now",
                "nothing, unless clients must not see the name of the target",
            );
        }
    }

    /// A name with a routing policy.
    fn service(&mut self, name: &str, sets: &[&'a Value]) {
        let kind = sets.first().map_or(Routing::Unknown, |set| routing(set));
        let mut service = DraftService::default();
        let mut members: Vec<&Value> = Vec::new();
        for &set in sets {
            if routing(set) != kind || kind == Routing::Unknown {
                self.lose_set(
                    set,
                    "steerd has no such routing policy, or the name has another one",
                    "add a rule or a pool to the service",
                );
            } else if set["AliasTarget"].is_object() {
                self.lose_set(
                    set,
                    "steerd does not follow aliases",
                    "add a backend with the address of the target",
                );
            } else {
                members.push(set);
            }
        }
        let of = |wanted: &dyn Fn(&Value) -> bool| {
            members.iter().copied().filter(|set| wanted(set)).collect::<Vec<_>>()
        };
        let answers = |sets: &[&Value]| sets.iter().map(|set| values(set).count()).max().unwrap_or(1).max(1);
        match kind {
            Routing::Failover => {
                for role in ["PRIMARY", "SECONDARY"] {
                    let tier = of(&|set| set["Failover"] == role);
                    self.tier(&mut service, &format!("{name}-{}", role.to_ascii_lowercase()), &tier, None);
                }
                service.keys.push(("answers", answers(&members).to_string()));
            }
            Routing::Multivalue => {
                self.tier(&mut service, name, &members, None);
                service.keys = vec![("policy", quoted("all")), ("answers", MULTIVALUE.to_string())];
            }
            Routing::Latency => {
                self.tier(&mut service, name, &members, Some("Region"));
                service.keys.push(("answers", answers(&members).to_string()));
                self.draft.lose(
                    format!("the latencies of {name}"),
                    "steerd does not measure the latency of networks: all clients draw from all regions, which are sites now",
                    "give the service rules by network, continent or country",
                );
            }
            Routing::Geolocation => self.locations(&mut service, name, &members),
            Routing::Weighted | Routing::Unknown => {
                self.tier(&mut service, name, &members, None);
                service.keys.push(("answers", answers(&members).to_string()));
            }
        }
        if service.pools.is_empty() {
            self.draft.lose(name, "no address of it could be carried over", "add a pool and a service");
            return;
        }
        if let Some(ttl) = members.iter().filter_map(|set| set["TTL"].as_u64()).min() {
            service.keys.push(("ttl", quoted(&format!("{}s", ttl.min(2_147_483_647)))));
        }
        self.draft.services.insert(name.to_owned(), service);
    }

    fn locations(&mut self, service: &mut DraftService, name: &str, members: &[&'a Value]) {
        let is_default = |set: &&&Value| set["GeoLocation"]["CountryCode"] == "*";
        let default: Vec<&Value> = members.iter().filter(is_default).copied().collect();
        self.tier(service, name, &default, None);
        let others: Vec<&Value> = members.iter().filter(|set| !is_default(set)).copied().collect();
        if service.pools.is_empty() {
            self.tier(service, name, &others, None);
            self.draft.lose(
                format!("the locations of {name}"),
                "there is no default location, and steerd answers all clients",
                "give the service rules by continent or country",
            );
            return;
        }
        let mut pools: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for set in others {
            match condition(&set["GeoLocation"]) {
                Some(condition) => pools.entry(condition).or_default().push(set),
                None => self.lose_set(set, "steerd has no rules by subdivision", "add a rule by network"),
            }
        }
        for (condition, sets) in pools {
            let mut unused = DraftService::default();
            self.tier(&mut unused, &format!("{name}-{}", label(sets[0])), &sets, None);
            let pools: Vec<String> = unused.pools.iter().map(|pool| quoted(pool)).collect();
            self.draft.lose(
                format!("the location of {name} with {condition}"),
                "a rule by geography needs a database, which only you have",
                format!(
                    "set `database` under [geo], and add to the service: rules = [{{ {condition}, pools = [{}] }}]",
                    pools.join(", ")
                ),
            );
        }
    }

    /// Adds a pool of these sets as the next tier; `site` is the member of a set that names its site.
    fn tier(&mut self, service: &mut DraftService, name: &str, sets: &[&'a Value], site: Option<&str>) {
        let mut pool = DraftPool::default();
        // Several values of a set share its weight.
        let shares: u64 = sets.iter().map(|set| values(set).count().max(1) as u64).fold(1, least_multiple);
        let total = sets.iter().filter_map(|set| set["Weight"].as_u64()).max().unwrap_or(1).max(1);
        let shares = if total.saturating_mul(shares) <= 1_000_000 { shares } else { 1 };
        for set in sets {
            let weight = set["Weight"].as_u64().unwrap_or(1).min(1_000_000) * shares
                / (values(set).count().max(1) as u64).min(shares);
            for value in values(set) {
                let Ok(address) = value.parse::<IpAddr>() else {
                    self.lose_set(set, "its value is no address", "add a backend");
                    continue;
                };
                let address = address.to_string();
                if pool.backends.iter().any(|backend| backend.address == address) {
                    self.lose_set(
                        set,
                        &format!("{address} is in this pool already"),
                        "nothing, or add its weight to the other one",
                    );
                    continue;
                }
                let mut keys = Vec::new();
                if let Some(site) = site.and_then(|site| set[site].as_str()) {
                    keys.push(("site", quoted(&plain_name(site))));
                }
                let name = unique_name(&pool.backends, &label(set));
                pool.backends.push(DraftBackend { name, address, weight, keys });
            }
        }
        if pool.backends.is_empty() {
            return;
        }
        self.check(name, &mut pool, sets);
        service.pools.push(self.draft.add_pool(name, pool));
    }

    /// Gives the pool the check that most of its sets have.
    fn check(&mut self, pool_name: &str, pool: &mut DraftPool, sets: &[&'a Value]) {
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        let mut without = 0;
        for set in sets {
            let Some(id) = set["HealthCheckId"].as_str() else {
                without += 1;
                continue;
            };
            let Some(config) = self.health_checks.get(id).copied() else {
                self.draft.lose(
                    format!("health check {id}"),
                    "its definition is not known",
                    "give the output of `aws route53 list-health-checks` with --health-checks, or add a check to its pools",
                );
                continue;
            };
            match check_of(config) {
                Ok(check) => *known.entry(check).or_default() += 1,
                Err(why) => self.draft.lose(
                    format!("health check {id}"),
                    why,
                    "add a check of another kind, such as `exec`, to its pools",
                ),
            }
        }
        let most = known.iter().max_by_key(|(_, count)| **count).map(|(check, _)| check.clone());
        let Some(check) = most else { return };
        for other in known.keys().filter(|other| **other != check) {
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
        pool.checks.push(check);
    }
}

fn least_multiple(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).saturating_mul(b).min(1_000_000)
}

/// The check for a health check, as TOML, or why there is none.
fn check_of(config: &Value) -> Result<String, String> {
    let kind = config["Type"].as_str().unwrap_or_default();
    if config["Inverted"] == true || config["Disabled"] == true {
        return Err("it is inverted or disabled".to_owned());
    }
    let port =
        |usual: u64| config["Port"].as_u64().filter(|port| (1..=65_535).contains(port)).unwrap_or(usual);
    let mut keys = match kind {
        "TCP" => vec![format!("type = \"tcp\", port = {}", port(80))],
        "HTTP" | "HTTP_STR_MATCH" => vec![format!("type = \"http\", port = {}", port(80))],
        "HTTPS" | "HTTPS_STR_MATCH" => vec![format!("type = \"https\", port = {}", port(443))],
        _ => return Err(format!("steerd has no check like `{kind}`")),
    };
    if kind != "TCP" {
        let path = config["ResourcePath"].as_str().filter(|path| path.starts_with('/')).unwrap_or("/");
        keys.push(format!("path = {}", quoted(path)));
        if let Some(host) = config["FullyQualifiedDomainName"].as_str() {
            keys.push(format!("host = {}", quoted(host)));
        }
        keys.push("status = [\"200-399\"]".to_owned());
        if let Some(text) = config["SearchString"].as_str().filter(|text| !text.is_empty()) {
            keys.push(format!("body = {{ contains = {} }}", quoted(text)));
        }
        if kind.starts_with("HTTPS") {
            keys.push("tls = { verify = false }".to_owned());
        }
    }
    let interval = config["RequestInterval"].as_u64().unwrap_or(30).clamp(10, 30);
    let threshold = config["FailureThreshold"].as_u64().unwrap_or(3).clamp(1, 10);
    keys.push(format!(
        "interval = \"{interval}s\", timeout = \"4s\", rise = {threshold}, fall = {threshold}"
    ));
    Ok(format!("{{ {} }}", keys.join(", ")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_have_octal_escapes() {
        assert_eq!(plain("\\052.Example.COM."), "*.example.com");
        assert_eq!(plain("a\\057b.example.com"), "a\\047b.example.com");
        assert_eq!(plain("a\\"), "a\\");
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
