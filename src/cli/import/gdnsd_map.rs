//! A map of gdnsd's geoip as rules: its networks, since its countries need a database that only the operator has.

use ipnet::IpNet;

use super::draft::{ImportDraft, quoted};
use super::vscf::Vscf;

/// The order of the datacenters for clients that nothing else in the map applies to.
pub(super) fn default_order(map: &Vscf) -> Option<&Vscf> {
    map.get("map")?.get("default").filter(|order| order.hash().is_empty())
}

/// The rules of a map, as TOML; longer prefixes come first. `datacenters` have the names of their pools.
pub(super) fn rules(
    draft: &mut ImportDraft,
    map: &Vscf,
    name: &str,
    datacenters: &[(String, Vec<String>)],
    skipped: usize,
) -> Vec<String> {
    let mut found: Vec<(IpNet, String)> = Vec::new();
    for (network, order) in map.get("nets").map_or(&[][..], Vscf::hash) {
        let names: Vec<&str> = order.list().iter().filter_map(Vscf::text).collect();
        let names = names.get(skipped.min(names.len().saturating_sub(1))..).unwrap_or_default();
        let known = names.iter().filter_map(|name| datacenters.iter().find(|(known, _)| known == name));
        let pools: Vec<&Vec<String>> = known.map(|(_, pools)| pools).collect();
        let is_whole = pools.len() == names.len();
        let pools: Vec<String> = pools.into_iter().flatten().map(|pool| quoted(pool)).collect();
        let prefix = network.parse::<IpNet>().ok().filter(|prefix| prefix.trunc() == *prefix);
        if !is_whole || prefix.is_none() || pools.is_empty() {
            draft.lose(
                format!("network `{network}` of map `{name}` (line {})", order.place.line),
                "it is no prefix, or one of its datacenters has no pool",
                "look at the rule for it, or add one to its services",
            );
        }
        if let Some(prefix) = prefix.filter(|_| !pools.is_empty()) {
            let rule = format!("{{ networks = [{}], pools = [{}] }}", quoted(network), pools.join(", "));
            found.push((prefix, rule));
        }
    }
    found.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.prefix_len()));
    lose_rest(draft, map, name);
    found.into_iter().map(|(_, rule)| rule).collect()
}

fn lose_rest(draft: &mut ImportDraft, map: &Vscf, name: &str) {
    for (key, value) in map.hash() {
        let what = format!("`{key}` of map `{name}` (line {})", value.place.line);
        match key.as_str() {
            "datacenters" | "map" => {}
            "nets" if value.text().is_some() => draft.lose(
                what,
                format!("the file {} is not read", value.text().unwrap_or_default()),
                "put its networks into the map and import again, or give the services rules with `networks_file`",
            ),
            "nets" => draft.lose(
                what,
                "they are rules of the services now, longer prefixes first, as the first rule that applies counts",
                "name the resolvers that send client subnets in `client_subnet`",
            ),
            "geoip2_db" => draft.lose(
                what,
                "no rule by geography is carried over, so it is not used",
                "set `database` under [geo] to such a file, and write rules by continent or country",
            ),
            "auto_dc_coords" => draft.lose(
                what,
                "steerd does not compute distances",
                "write rules by continent or country",
            ),
            _ => draft.lose(what, "steerd has nothing like it", "look its purpose up, and write rules"),
        }
    }
    let default = default_order(map);
    for (place, inner) in map.get("map").map_or(&[][..], Vscf::hash) {
        if default.is_none() || place != "default" {
            draft.lose(
                format!("`{place}` in map `{name}` (line {})", inner.place.line),
                "a rule by geography needs a database",
                "set `database` under [geo], and give the service rules such as { continents = [\"EU\"], pools = [...] }",
            );
        }
    }
}
