//! A configuration of gdnsd as a draft: service types become checks, resources become pools and tiers.
//!
//! gdnsd looks a setting up in the resource, then in the plugin. Keys of a resource that are no settings are labels of
//! addresses.

use std::collections::HashMap;
use std::net::IpAddr;

use super::draft::{DraftBackend, DraftPool, DraftService, ImportDraft, quoted, unique_name};
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
/// The most consecutive outcomes that steerd counts.
const MAX_FLIPS: u64 = 100;

/// How a resource of gdnsd is answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Resource {
    pub(super) service: DraftService,
    /// The pool of each datacenter, for names such as `metafo!res/dc`.
    pub(super) datacenters: Vec<(String, String)>,
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
    importer.options(config.get("options"));
    for (name, service_type) in config.get("service_types").map_or(&[][..], Vscf::hash) {
        let check = importer.check(name, service_type);
        importer.checks.insert(name.clone(), check);
    }
    let plugins = config.get("plugins").map_or(&[][..], Vscf::hash);
    for (plugin, body) in plugins {
        importer.plugin(plugin, body);
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

fn number(value: Option<&Vscf>, default: u64) -> u64 {
    value.and_then(Vscf::text).and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn is_true(value: Option<&Vscf>) -> bool {
    value.and_then(Vscf::text).is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

/// The members of a hash that are no settings.
fn labels(body: &Vscf) -> impl Iterator<Item = &(String, Vscf)> {
    body.hash().iter().filter(|(key, _)| !SETTINGS.contains(&key.as_str()))
}

impl GdnsdImporter<'_> {
    fn options(&mut self, options: Option<&Vscf>) {
        for (key, value) in options.map_or(&[][..], Vscf::hash) {
            let what = format!("option `{key}` (line {})", value.place.line);
            match key.as_str() {
                "listen" => self.listen(value, number(options.and_then(|all| all.get("dns_port")), 53)),
                "dns_port" if options.is_some_and(|all| all.get("listen").is_some()) => {}
                "nsid_ascii" => {
                    if let Some(text) = value.text() {
                        self.draft.server.push(("nsid", quoted(text)));
                    }
                }
                "udp_threads" | "tcp_threads" => self.draft.lose(
                    what,
                    "the workers of steerd serve all addresses, one for each core by default",
                    "set `workers` under [server] only if that is wrong",
                ),
                _ => self.draft.lose(
                    what,
                    "options of gdnsd are not carried over",
                    "see [server] in config/example.toml for a key with this purpose",
                ),
            }
        }
    }

    fn listen(&mut self, value: &Vscf, port: u64) {
        let texts: Vec<&str> = match &value.data {
            VscfData::Hash(members) => members.iter().map(|(address, _)| address.as_str()).collect(),
            _ => value.list().iter().filter_map(Vscf::text).collect(),
        };
        let address = |text: &&str| {
            let text = if *text == "any" { "0.0.0.0" } else { text };
            let ip = text
                .parse::<IpAddr>()
                .map(|ip| std::net::SocketAddr::new(ip, u16::try_from(port).unwrap_or(53)));
            text.parse().or(ip).ok()
        };
        let addresses: Vec<std::net::SocketAddr> = texts.iter().filter_map(address).collect();
        if addresses.is_empty() || addresses.len() < texts.len() || texts == ["any"] {
            self.draft.lose(
                format!("option `listen` (line {})", value.place.line),
                "steerd listens on port 53 of all addresses by default",
                "set `listen` under [server] if that is wrong",
            );
            return;
        }
        let shown: Vec<String> = addresses.iter().map(|address| quoted(&address.to_string())).collect();
        self.draft.server.push(("listen", format!("[{}]", shown.join(", "))));
    }

    /// The check for a service type, as TOML.
    fn check(&mut self, name: &str, service_type: &Vscf) -> Option<String> {
        let what = format!("service type `{name}` (line {})", service_type.place.line);
        let text = |key: &str| service_type.get(key).and_then(Vscf::text);
        let kind = text("plugin").unwrap_or_default();
        let interval = number(service_type.get("interval"), 10).clamp(1, 3600);
        let timeout = number(service_type.get("timeout"), interval / 2).clamp(1, 3600);
        let mut keys = Vec::new();
        match kind {
            "tcp_connect" => {
                let Some(port) = text("port").and_then(|port| port.parse::<u16>().ok()) else {
                    self.draft.lose(what, "it has no port", "add a check to its pools");
                    return None;
                };
                keys.push(format!("type = \"tcp\", port = {port}"));
            }
            "http_status" => {
                let port = u16::try_from(number(service_type.get("port"), 80)).unwrap_or(80);
                keys.push(format!("type = \"http\", port = {port}"));
                let path = text("url_path").unwrap_or("/");
                keys.push(format!("path = {}", quoted(if path.starts_with('/') { path } else { "/" })));
                if let Some(host) = text("vhost") {
                    keys.push(format!("host = {}", quoted(host)));
                }
                let codes = service_type.get("ok_codes").map_or(&[][..], Vscf::list);
                let codes: Vec<u16> = codes
                    .iter()
                    .filter_map(|code| code.text()?.parse().ok())
                    .filter(|code| (100..600).contains(code))
                    .collect();
                let codes = if codes.is_empty() { vec![200] } else { codes };
                keys.push(format!("status = {codes:?}"));
            }
            "extmon" => {
                self.draft.lose(
                    what,
                    "a program of gdnsd gets the address as an argument, one of steerd in STEERD_ADDRESS",
                    "write `check = { type = \"exec\", program = ... }` into its pools, with a program that reads STEERD_ADDRESS",
                );
                return None;
            }
            _ => {
                self.draft.lose(
                    what,
                    format!("steerd has no kind of check like `{kind}`"),
                    "add a check to its pools; without one they are always healthy, and `steerd drain` takes backends out",
                );
                return None;
            }
        }
        let rise = number(service_type.get("up_thresh"), 20);
        let fall = number(service_type.get("down_thresh"), 10);
        if rise.max(fall) > MAX_FLIPS {
            self.draft.lose(
                &*what,
                format!("it counts more than {MAX_FLIPS} outcomes"),
                "rise and fall are 100 now",
            );
        }
        let (rise, fall) = (rise.clamp(1, MAX_FLIPS), fall.clamp(1, MAX_FLIPS));
        self.draft.lose(
            &*what,
            format!(
                "its {fall} failures and {rise} passes are kept, but steerd counts consecutive ones, and repeats a probe after `recheck` (1s)"
            ),
            "leave interval, timeout, rise and fall out: the defaults of steerd find a silent backend in 8 to 13 s; compare with `steerd plan`",
        );
        // A timeout must be below the interval, and gdnsd has whole seconds.
        let timeout =
            if timeout < interval { format!("{timeout}s") } else { format!("{}ms", interval * 800) };
        keys.push(format!(
            "interval = \"{interval}s\", timeout = \"{timeout}\", rise = {rise}, fall = {fall}"
        ));
        Some(format!("{{ {} }}", keys.join(", ")))
    }

    fn plugin(&mut self, plugin: &str, body: &Vscf) {
        match plugin {
            "multifo" | "weighted" | "simplefo" => {
                for (name, resource) in labels(body) {
                    let found = self.simple(plugin, name, resource, body);
                    self.resources.insert(format!("{plugin}!{name}"), found);
                }
            }
            "metafo" | "geoip" => {
                let maps = body.get("maps");
                for (name, resource) in body.get("resources").map_or(&[][..], Vscf::hash) {
                    let found = self.meta(plugin, name, resource, body, maps);
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

    /// A resource of multifo, weighted or simplefo.
    fn simple(&mut self, plugin: &str, name: &str, resource: &Vscf, above: &Vscf) -> Resource {
        let mut service = DraftService::default();
        if plugin == "simplefo" {
            for role in ["primary", "secondary"] {
                let mut pool = self.pool(resource, above);
                for part in families(resource) {
                    if let Some(address) = part.get(role) {
                        self.add_address(&mut pool, role, address, 1, None);
                    }
                }
                self.add_tier(&mut service, &format!("{name}-{role}"), pool);
            }
            return Resource { service, datacenters: Vec::new() };
        }
        let mut pool = self.pool(resource, above);
        for part in families(resource) {
            self.add_part(&mut pool, part, plugin);
        }
        if plugin == "multifo" {
            service.keys = vec![("policy", quoted("all")), ("answers", quoted("all"))];
        } else {
            let is_multi = is_true(resource.get("multi").or_else(|| above.get("multi")));
            service.keys.push(("answers", answers_like(&pool, is_multi).to_string()));
            if is_multi {
                self.draft.lose(
                    format!("resource `{plugin}!{name}` with `multi` (line {})", resource.place.line),
                    "gdnsd answers with a random number of addresses; steerd with a fixed one, the mean of gdnsd's",
                    "choose `answers` of the service; each backend is then in an answer by its weight",
                );
            }
        }
        self.add_tier(&mut service, name, pool);
        Resource { service, datacenters: Vec::new() }
    }

    fn add_part(&mut self, pool: &mut DraftPool, part: &Vscf, plugin: &str) {
        if let VscfData::List(members) = &part.data {
            for (index, address) in members.iter().enumerate() {
                self.add_address(pool, &(index + 1).to_string(), address, 1, None);
            }
            return;
        }
        if let Some(cnames) = part.get("cnames") {
            self.lose_alias(cnames, "an alias");
        }
        for (label, value) in labels(part) {
            match (&value.data, plugin) {
                (VscfData::List(pair), "weighted") => {
                    if let [address, weight] = pair.as_slice() {
                        self.add_address(pool, label, address, number(Some(weight), 1), None);
                    }
                }
                (VscfData::Hash(members), "weighted") => {
                    for (inner, pair) in members.iter().filter(|(key, _)| !SETTINGS.contains(&key.as_str())) {
                        if let [address, weight] = pair.list() {
                            self.add_address(pool, inner, address, number(Some(weight), 1), Some(label));
                        }
                    }
                    self.draft.lose(
                        format!("group `{label}` (line {})", value.place.line),
                        "gdnsd chooses a group and then addresses in it; in steerd the group is a `site`",
                        "set `answers` and `spread` of the service",
                    );
                }
                _ => self.add_address(pool, label, value, 1, None),
            }
        }
    }

    /// A resource of metafo or geoip: a pool for each datacenter, in order.
    fn meta(
        &mut self,
        plugin: &str,
        name: &str,
        resource: &Vscf,
        above: &Vscf,
        maps: Option<&Vscf>,
    ) -> Resource {
        let map_name = resource.get("map").and_then(Vscf::text).unwrap_or_default();
        let map = maps.and_then(|maps| maps.get(map_name));
        let order: Vec<&str> = resource
            .get("datacenters")
            .or_else(|| map?.get("datacenters"))
            .map_or(&[][..], Vscf::list)
            .iter()
            .filter_map(Vscf::text)
            .collect();
        let inner = resource.get("plugin").and_then(Vscf::text).unwrap_or("multifo");
        let inner = if inner == "weighted" { inner } else { "multifo" };
        let mut found = Resource::default();
        let dcmap = resource.get("dcmap");
        for &datacenter in &order {
            let Some(value) = dcmap.and_then(|dcmap| dcmap.get(datacenter)) else { continue };
            if let Some(text) = value.text()
                && text.parse::<IpAddr>().is_err()
            {
                self.lose_alias(value, &format!("datacenter `{datacenter}` of `{plugin}!{name}`"));
                continue;
            }
            let mut pool = self.pool(value, resource);
            if pool.checks.is_empty()
                && value.get("service_types").or(resource.get("service_types")).is_none()
            {
                pool.checks = self.pool(above, above).checks;
            }
            match &value.data {
                VscfData::Text(_) => self.add_address(&mut pool, "1", value, 1, None),
                _ => families(value).into_iter().for_each(|part| self.add_part(&mut pool, part, inner)),
            }
            if let Some(pool) = self.add_tier(&mut found.service, &format!("{name}-{datacenter}"), pool) {
                found.datacenters.push((datacenter.to_owned(), pool));
            }
        }
        if inner == "multifo" {
            found.service.keys = vec![("policy", quoted("all")), ("answers", quoted("all"))];
        }
        if let Some(map) = map {
            self.map(map, map_name, &mut found);
        }
        found
    }

    /// The networks of a map become rules; its countries need a database, which only the operator has.
    fn map(&mut self, map: &Vscf, name: &str, found: &mut Resource) {
        let pools = |order: &Vscf| -> Vec<String> {
            let names = order.list().iter().filter_map(Vscf::text);
            names
                .filter_map(|name| found.datacenters.iter().find(|(known, _)| known == name))
                .map(|(_, pool)| quoted(pool))
                .collect()
        };
        let nets = map.get("nets").map_or(&[][..], Vscf::hash);
        let mut rules = Vec::new();
        for (network, order) in nets {
            let pools = pools(order);
            if network.parse::<ipnet::IpNet>().is_ok_and(|network| network.trunc() == network)
                && !pools.is_empty()
            {
                rules.push(format!("{{ networks = [{}], pools = [{}] }}", quoted(network), pools.join(", ")));
            } else {
                self.draft.lose(
                    format!("network `{network}` of map `{name}`"),
                    "it is no prefix, or its datacenters have no pool",
                    "add a rule to its services",
                );
            }
        }
        if !nets.is_empty() {
            self.draft.lose(
                format!("`nets` of map `{name}`"),
                "they are rules of the services now; the first rule that applies counts, not the longest prefix",
                "put longer prefixes first, and name the resolvers that send client subnets in `client_subnet`",
            );
        }
        for (place, inner) in map.get("map").map_or(&[][..], Vscf::hash) {
            self.draft.lose(
                format!("`{place}` in map `{name}` (line {})", inner.place.line),
                "a rule by geography needs a database",
                "set `database` under [geo], and give the service rules such as { continents = [\"EU\"], pools = [...] }",
            );
        }
        if map.get("auto_dc_coords").is_some() {
            self.draft.lose(
                format!("`auto_dc_coords` of map `{name}`"),
                "steerd does not compute distances",
                "write rules by continent or country",
            );
        }
        found.service.rules = rules;
    }

    /// A pool with the checks and the threshold of a resource, or of the plugin or resource above it.
    fn pool(&mut self, resource: &Vscf, above: &Vscf) -> DraftPool {
        let mut pool = DraftPool::default();
        let setting = |key: &str| resource.get(key).or_else(|| above.get(key));
        if is_true(setting("ignore_health")) {
            return pool;
        }
        for service_type in setting("service_types").map_or(&[][..], Vscf::list).iter().filter_map(Vscf::text)
        {
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
        let threshold = setting("up_thresh").and_then(Vscf::text).and_then(|text| text.parse::<f64>().ok());
        let percent = (threshold.unwrap_or(0.5).clamp(0.0, 1.0) * 100.0).ceil().max(1.0);
        pool.keys.push(("min_healthy", quoted(&format!("{percent}%"))));
        pool
    }

    fn add_address(
        &mut self,
        pool: &mut DraftPool,
        label: &str,
        value: &Vscf,
        weight: u64,
        site: Option<&str>,
    ) {
        let text = value.text().unwrap_or_default();
        let Ok(address) = text.parse::<IpAddr>() else {
            self.lose_alias(value, &format!("`{label}`"));
            return;
        };
        if pool.backends.iter().any(|backend| backend.address == address.to_string()) {
            self.draft.lose(
                format!("`{label}` (line {})", value.place.line),
                format!("{address} is in this pool already"),
                "nothing, or add its weight to the other one",
            );
            return;
        }
        let site = site.map(|site| ("site", quoted(&super::draft::plain_name(site))));
        let name = unique_name(&pool.backends, label);
        let weight = weight.min(1_000_000);
        pool.backends.push(DraftBackend {
            name,
            address: address.to_string(),
            weight,
            keys: site.into_iter().collect(),
        });
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

/// The mean number of addresses in an answer of gdnsd's weighted plugin, at least 1.
fn answers_like(pool: &DraftPool, is_multi: bool) -> u64 {
    let most = pool.backends.iter().map(|backend| backend.weight).max().unwrap_or(1).max(1);
    let total: u64 = pool.backends.iter().map(|backend| backend.weight).sum();
    if is_multi { ((total + most / 2) / most).clamp(1, 64) } else { 1 }
}
