//! A configuration of gdnsd as a draft: service types become checks, resources become pools and tiers.
//!
//! gdnsd looks a setting up in the resource, then in the plugin. Keys of a resource that are no settings are labels of
//! addresses.

use std::collections::HashMap;
use std::net::IpAddr;

use super::draft::{DraftPool, DraftService, ImportDraft, plain_name, quoted};
use super::gdnsd_map::{default_order, rules};
use super::gdnsd_option::{check, number, options};
use super::vscf::{Vscf, VscfData};

/// Keys of a resource or plugin that are settings, not labels.
const SETTINGS: [&str; 13] = [
    "service_types",
    "up_thresh",
    "ignore_health",
    "multi",
    "addrs_v4",
    "addrs_v6",
    "cnames",
    "datacenters",
    "dcmap",
    "plugin",
    "map",
    "skip_first",
    "undefined_datacenters_ok",
];
/// The largest weight of a backend.
const MAX_WEIGHT: u64 = 1_000_000;
/// The error of a decimal fraction as a double.
const EPSILON: f64 = 1e-9;

/// How a resource of gdnsd is answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Resource {
    pub(super) service: DraftService,
    /// The pools of each datacenter, for names such as `metafo!res/dc`.
    pub(super) datacenters: Vec<(String, Vec<String>)>,
}

/// The resources of a configuration, by `plugin!resource`.
pub(super) type Resources = HashMap<String, Resource>;

struct GdnsdImporter<'d> {
    draft: &'d mut ImportDraft,
    resources: Resources,
    /// The check of each service type, as TOML; none if it cannot be one.
    checks: HashMap<String, Option<String>>,
}

/// Adds the pools of a configuration to the draft, and returns its resources.
pub(super) fn import(config: &Vscf, draft: &mut ImportDraft) -> Resources {
    let mut importer = GdnsdImporter { draft, resources: Resources::new(), checks: HashMap::new() };
    options(importer.draft, config.get("options"));
    for (name, service_type) in config.get("service_types").map_or(&[][..], Vscf::hash) {
        let check = check(importer.draft, name, service_type);
        importer.checks.insert(name.clone(), check);
    }
    let plugins = config.get("plugins").map_or(&[][..], Vscf::hash);
    // A datacenter of a meta-plugin may refer to a resource of another plugin.
    let is_meta = |plugin: &str| matches!(plugin, "metafo" | "geoip");
    for (plugin, body) in plugins.iter().filter(|(plugin, _)| !is_meta(plugin)) {
        importer.plugin(plugin, body);
    }
    for (plugin, body) in plugins.iter().filter(|(plugin, _)| is_meta(plugin)) {
        importer.meta_plugin(plugin, body);
    }
    for (key, value) in config.hash() {
        if !["options", "service_types", "plugins"].contains(&key.as_str()) {
            importer.draft.lose(
                format!("`{key}` (line {})", value.place.line),
                "it is unknown",
                "look it up",
            );
        }
    }
    importer.resources
}

fn is_true(value: Option<&Vscf>) -> bool {
    value.and_then(Vscf::text).is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

/// A setting of a resource, or of what is around it: `chain` begins with the innermost.
fn setting<'v>(chain: &[&'v Vscf], key: &str) -> Option<&'v Vscf> {
    chain.iter().find_map(|value| value.get(key))
}

fn texts(value: Option<&Vscf>) -> Vec<&str> {
    value.map_or(&[][..], Vscf::list).iter().filter_map(Vscf::text).collect()
}

/// The members of a hash that are no settings.
fn labels(body: &Vscf) -> impl Iterator<Item = &(String, Vscf)> {
    body.hash().iter().filter(|(key, _)| !SETTINGS.contains(&key.as_str()))
}

impl GdnsdImporter<'_> {
    fn plugin(&mut self, plugin: &str, body: &Vscf) {
        match plugin {
            "multifo" | "weighted" | "simplefo" => {
                for (name, resource) in labels(body) {
                    let found = self.simple(plugin, name, &[resource, body], false);
                    self.resources.insert(format!("{plugin}!{name}"), found);
                }
            }
            // These have no settings of their own, or only those of their service types.
            "http_status" | "tcp_connect" | "extmon" | "extfile" => {}
            _ => self.draft.lose(
                format!("plugin `{plugin}` (line {})", body.place.line),
                "steerd has nothing like it",
                "put fixed addresses into the zone file",
            ),
        }
    }

    fn meta_plugin(&mut self, plugin: &str, body: &Vscf) {
        for (name, resource) in body.get("resources").map_or(&[][..], Vscf::hash) {
            let found = self.meta(plugin, name, resource, body);
            self.resources.insert(format!("{plugin}!{name}"), found);
        }
    }

    /// A resource of multifo, weighted or simplefo, which may be below a meta-plugin. `chain` begins with the resource.
    fn simple(&mut self, plugin: &str, name: &str, chain: &[&Vscf], is_below: bool) -> Resource {
        let mut found = Resource::default();
        let Some(&resource) = chain.first() else { return found };
        let what = format!("`{plugin}!{name}` (line {})", resource.place.line);
        let parts = families(resource);
        let mut checked = DraftPool::default();
        if plugin == "multifo" && is_true(self.family_setting(&parts, chain, "ignore_health", &what)) {
            if is_below {
                self.checks(&mut checked, &parts, chain, &what);
                self.draft.lose(
                    format!("`ignore_health` of {what}"),
                    "gdnsd uses health only to choose the datacenter, and then answers with all its addresses; steerd \
                     leaves unhealthy ones out",
                    "nothing, unless clients must get unhealthy addresses too",
                );
            } else {
                self.draft.lose(
                    format!("`ignore_health` of {what}"),
                    "gdnsd answers with all addresses whatever their health, so the pool has no checks and no \
                     `min_healthy`; a layer above takes it as healthy",
                    "give the pool its checks with `observe_only = true` to see the states",
                );
            }
        } else {
            self.checks(&mut checked, &parts, chain, &what);
        }
        if plugin == "simplefo" {
            for role in ["primary", "secondary"] {
                let mut pool = checked.clone();
                for part in &parts {
                    if let Some(address) = part.get(role) {
                        self.add_address(&mut pool, role, address, None, None);
                    }
                }
                self.add_tier(&mut found.service, &format!("{name}-{role}"), pool);
            }
            return found;
        }
        let mut pool = checked;
        for part in &parts {
            self.add_part(&mut pool, part, plugin);
        }
        if !pool.checks.is_empty() {
            let threshold = self.family_setting(&parts, chain, "up_thresh", &what);
            self.threshold(&mut pool, threshold, &what);
        }
        if plugin == "multifo" {
            found.service.keys = vec![("policy", quoted("all")), ("answers", quoted("all"))];
        } else {
            let is_multi = is_true(self.family_setting(&parts, chain, "multi", &what));
            let means = answers_like(&pool);
            let most = means.iter().copied().max().filter(|_| is_multi).unwrap_or(1);
            found.service.keys.push(("answers", most.to_string()));
            if is_multi {
                let differ = means.iter().any(|mean| *mean != most);
                self.draft.lose(
                    format!("resource `{plugin}!{name}` with `multi` (line {})", resource.place.line),
                    format!(
                        "gdnsd answers with a random number of addresses; steerd with a fixed one, the mean of gdnsd's{}",
                        if differ { ", here the larger one of both families" } else { "" }
                    ),
                    "choose `answers` of the service; each backend is then in an answer by its weight",
                );
            }
        }
        self.add_tier(&mut found.service, name, pool);
        found
    }

    /// A setting that both families share in steerd: that of the first part.
    fn family_setting<'v>(
        &mut self,
        parts: &[&'v Vscf],
        chain: &[&'v Vscf],
        key: &str,
        what: &str,
    ) -> Option<&'v Vscf> {
        let of = |part: &&'v Vscf| part.get(key).or_else(|| setting(chain, key));
        let first = parts.first().and_then(of);
        if parts.iter().any(|part| texts(of(part)) != texts(first)) {
            self.draft.lose(
                format!("`{key}` of {what}"),
                "its families have different values, and a pool has one for both: that of addrs_v4",
                "make a pool and a service for each family if this matters",
            );
        }
        first
    }

    /// The share of the weight that must be healthy, in the whole percents that steerd has.
    #[allow(
        clippy::cast_precision_loss,
        reason = "the weights of a pool are far below the integers that a double has"
    )]
    fn threshold(&mut self, pool: &mut DraftPool, setting: Option<&Vscf>, what: &str) {
        let share = setting.and_then(Vscf::text).and_then(|text| text.parse::<f64>().ok());
        let share = share.filter(|share| share.is_finite()).unwrap_or(0.5).clamp(0.0, 1.0);
        let least = |share: f64, total: u64| (share * total as f64 - EPSILON).ceil().max(1.0);
        let totals: Vec<u64> = weights(pool).iter().map(|weights| weights.iter().sum()).collect();
        let is_exact = |percent: &f64| {
            totals.iter().all(|&total| (least(percent / 100.0, total) - least(share, total)).abs() < EPSILON)
        };
        let exact = share * 100.0;
        let nearest = (exact - EPSILON).round().max(1.0);
        let near = [nearest, (exact - EPSILON).ceil().max(1.0), exact.floor().max(1.0)];
        let percent = near.into_iter().find(is_exact).unwrap_or_else(|| {
            self.draft.lose(
                format!("`up_thresh` of {what}"),
                format!(
                    "{share} is no whole percentage, and no percentage needs the same number of addresses"
                ),
                format!(
                    "`min_healthy` is {nearest}% now; write a number of addresses if another one is meant"
                ),
            );
            nearest
        });
        pool.keys.push(("min_healthy", quoted(&format!("{percent}%"))));
    }

    fn add_part(&mut self, pool: &mut DraftPool, part: &Vscf, plugin: &str) {
        if let VscfData::List(members) = &part.data {
            for (index, address) in members.iter().enumerate() {
                self.add_address(pool, &(index + 1).to_string(), address, None, None);
            }
            return;
        }
        if part.text().is_some() {
            return self.add_address(pool, "1", part, None, None);
        }
        if let Some(cnames) = part.get("cnames") {
            self.lose_alias(cnames, "an alias");
        }
        for (label, value) in labels(part) {
            match (&value.data, plugin) {
                (VscfData::List(pair), "weighted") => {
                    if let [address, weight] = pair.as_slice() {
                        self.add_address(pool, label, address, Some(weight), None);
                    }
                }
                (VscfData::Hash(hash), "weighted") => {
                    for (inner, pair) in
                        hash.members.iter().filter(|(key, _)| !SETTINGS.contains(&key.as_str()))
                    {
                        if let [address, weight] = pair.list() {
                            self.add_address(pool, inner, address, Some(weight), Some(label));
                        }
                    }
                    self.draft.lose(
                        format!("group `{label}` (line {})", value.place.line),
                        "gdnsd chooses a group and then addresses in it; in steerd the group is a `site`",
                        "set `answers` and `spread` of the service",
                    );
                }
                _ => self.add_address(pool, label, value, None, None),
            }
        }
    }

    /// A resource of metafo or geoip: the pools of each datacenter, in order.
    fn meta(&mut self, plugin: &str, name: &str, resource: &Vscf, above: &Vscf) -> Resource {
        let what = format!("`{plugin}!{name}` (line {})", resource.place.line);
        let map_name = resource.get("map").and_then(Vscf::text).unwrap_or_default();
        let map = above.get("maps").and_then(|maps| maps.get(map_name));
        let listed = texts(resource.get("datacenters").or_else(|| map?.get("datacenters")));
        let mut found = Resource::default();
        let mut keys: Vec<Vec<(&'static str, String)>> = Vec::new();
        for &datacenter in &listed {
            let place = format!("datacenter `{datacenter}` of {what}");
            let Some(inner) = self.datacenter(name, datacenter, &place, resource, above) else { continue };
            if !inner.keys.is_empty() && !keys.contains(&inner.keys) {
                keys.push(inner.keys);
            }
            found.datacenters.push((datacenter.to_owned(), inner.pools));
        }
        if keys.len() > 1 {
            self.draft.lose(
                format!("the numbers of answers of {what}"),
                "its datacenters answer with different numbers of addresses, and a service has one number for all tiers",
                "it is that of the first datacenter; choose `answers` and `policy` of the service",
            );
        }
        found.service.keys = keys.into_iter().next().unwrap_or_default();
        let mut order =
            map.and_then(default_order).map_or_else(|| listed.clone(), |order| texts(Some(order)));
        let mut skipped = 0;
        if is_true(setting(&[resource, above], "skip_first")) {
            skipped = 1;
            if order.len() > 1 {
                order.remove(0);
            }
            self.draft.lose(
                format!("`skip_first` of {what}"),
                "steerd has no such key: the first datacenter of each order is left out",
                "compare the tiers and rules of the service with what this name is for",
            );
        }
        for datacenter in order {
            for (_, pools) in found.datacenters.iter().filter(|(known, _)| known == datacenter) {
                found.service.pools.extend(pools.iter().cloned());
            }
        }
        if let Some(map) = map {
            found.service.rules = rules(self.draft, map, map_name, &found.datacenters, skipped);
        }
        let pools = found.service.pools.iter().filter_map(|pool| self.draft.pools.get(pool));
        if found.service.pools.len() > 1 && pools.map(weights).any(|families| families.len() > 1) {
            self.draft.lose(
                format!("the families of {what}"),
                "in gdnsd a family that fails takes the other one along to the next datacenter; steerd chooses the tier \
                 for each family",
                "nothing, unless clients must find both families in one datacenter",
            );
        }
        found
    }

    /// The tiers of a datacenter.
    fn datacenter(
        &mut self,
        name: &str,
        datacenter: &str,
        place: &str,
        resource: &Vscf,
        above: &Vscf,
    ) -> Option<DraftService> {
        let Some(value) = resource.get("dcmap").and_then(|dcmap| dcmap.get(datacenter)) else {
            self.draft.lose(place, "`dcmap` has nothing for it", "nothing, or add a pool and a tier");
            return None;
        };
        if let Some(target) = value.text().and_then(|text| text.strip_prefix('%')) {
            return self.reference(target, place);
        }
        if value.text().is_some_and(|text| text.parse::<IpAddr>().is_err()) {
            self.lose_alias(value, place);
            return None;
        }
        let chain = [value, resource, above];
        let is_single = value.text().is_some();
        let inner =
            setting(&chain, "plugin").and_then(Vscf::text).filter(|_| !is_single).unwrap_or("multifo");
        if !matches!(inner, "multifo" | "weighted" | "simplefo") {
            self.draft.lose(
                place,
                format!("plugin `{inner}` inside a datacenter is not carried over, so it is left out"),
                "add a pool with its addresses as a tier",
            );
            return None;
        }
        let mut found = self.simple(inner, &format!("{name}-{datacenter}"), &chain, true);
        if is_single {
            // One address is the whole answer, whatever the other datacenters have.
            found.service.keys.clear();
        }
        Some(found.service).filter(|service| !service.pools.is_empty())
    }

    /// The tiers of another resource, `plugin!resource`, in the place of a datacenter.
    fn reference(&mut self, target: &str, place: &str) -> Option<DraftService> {
        let found = self.resources.get(target).map(|found| found.service.clone());
        let Some(service) = found.filter(|service| !service.pools.is_empty()) else {
            self.draft.lose(
                place,
                format!("it refers to `{target}`, which has no pools or stands below; it is left out"),
                "add the pools of that resource as tiers of the service",
            );
            return None;
        };
        if !service.rules.is_empty() {
            self.draft.lose(
                place,
                format!("it refers to `{target}`, whose rules do not apply here"),
                "add rules to the service",
            );
        }
        Some(service)
    }

    /// Gives a pool the checks of the service types.
    fn checks(&mut self, pool: &mut DraftPool, parts: &[&Vscf], chain: &[&Vscf], what: &str) {
        for service_type in texts(self.family_setting(parts, chain, "service_types", what)) {
            match self.checks.get(service_type) {
                Some(Some(check)) => pool.checks.push(check.clone()),
                Some(None) => {}
                None if service_type == "up" => {}
                None => self.draft.lose(
                    format!("service type `{service_type}`"),
                    "it is not in the file",
                    "add a check to its pools",
                ),
            }
        }
        pool.checks.dedup();
    }

    /// Adds an address; a backend with this label and the same weight gets it if it has only the other family.
    fn add_address(
        &mut self,
        pool: &mut DraftPool,
        label: &str,
        value: &Vscf,
        weight: Option<&Vscf>,
        site: Option<&str>,
    ) {
        let text = value.text().unwrap_or_default();
        let Ok(address) = text.parse::<IpAddr>() else {
            return self.lose_alias(value, &format!("`{label}`"));
        };
        let is_weighted = weight.is_some();
        let weight = number(weight, 1);
        if weight > MAX_WEIGHT {
            self.draft.lose(
                format!("the weight of `{label}` (line {})", value.place.line),
                format!("it is above {MAX_WEIGHT}, the largest of steerd"),
                format!("it is {MAX_WEIGHT} now; divide all weights of the pool"),
            );
        }
        let weight = weight.min(MAX_WEIGHT);
        if let Some(backend) = pool.holder(address) {
            if is_weighted {
                backend.weight = (backend.weight + weight).min(MAX_WEIGHT);
            }
            self.draft.lose(
                format!("`{label}` (line {})", value.place.line),
                format!("{address} is in this pool already"),
                if is_weighted { "nothing: its weight is added there" } else { "nothing" },
            );
            return;
        }
        let site = site.map(|site| ("site", quoted(&plain_name(site))));
        let keys = site.into_iter().collect();
        // The members of a list have numbers, which say nothing about the machine.
        let is_named = label.parse::<u64>().is_err();
        if !(is_named && pool.extend(label, address, weight, &keys)) {
            pool.add(label, address, weight, keys);
        }
    }

    fn lose_alias(&mut self, value: &Vscf, what: &str) {
        let target = value.text().unwrap_or("its targets");
        self.draft.lose(
            format!("{what} (line {}): {target}", value.place.line),
            "backends of steerd are addresses, not names",
            "give the addresses of the target, or make the name a CNAME in the zone file",
        );
    }

    /// Adds a pool as the next tier, unless it is empty.
    fn add_tier(&mut self, service: &mut DraftService, name: &str, pool: DraftPool) -> Option<String> {
        if pool.backends.is_empty() {
            self.draft.lose(format!("pool `{name}`"), "it has no address", "add backends and a service");
            return None;
        }
        let name = self.draft.add_pool(name, pool);
        if !service.pools.contains(&name) {
            service.pools.push(name.clone());
        }
        Some(name)
    }
}

/// The parts of a resource with addresses: itself, or its two families.
fn families(resource: &Vscf) -> Vec<&Vscf> {
    let parts: Vec<&Vscf> = ["addrs_v4", "addrs_v6"].iter().filter_map(|key| resource.get(key)).collect();
    if parts.is_empty() { vec![resource] } else { parts }
}

/// The weights of a pool in each family that it has.
fn weights(pool: &DraftPool) -> Vec<Vec<u64>> {
    let of = |is_ipv4: bool| -> Vec<u64> {
        let addresses = pool.backends.iter().flat_map(|backend| {
            backend.addresses.iter().map(move |address| (address.is_ipv4(), backend.weight))
        });
        addresses.filter(|(family, _)| *family == is_ipv4).map(|(_, weight)| weight).collect()
    };
    [of(true), of(false)].into_iter().filter(|weights| !weights.is_empty()).collect()
}

/// The mean number of addresses in an answer of gdnsd's weighted plugin with `multi`, at least 1, for each family.
fn answers_like(pool: &DraftPool) -> Vec<u64> {
    let mean = |weights: Vec<u64>| {
        let most = weights.iter().copied().max().unwrap_or(1).max(1);
        ((weights.iter().sum::<u64>() + most / 2) / most).clamp(1, 64)
    };
    weights(pool).into_iter().map(mean).collect()
}
