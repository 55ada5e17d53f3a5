//! A zone file of gdnsd: DYNA records become services, and leave the zone.

use super::draft::{ImportDraft, quoted};
use super::gdnsd::Resources;

/// Takes the zone over: its records without DYNA and DYNC, and a service for each DYNA.
pub(super) fn import(zone: &str, text: &str, resources: &Resources, draft: &mut ImportDraft) {
    let mut kept = String::new();
    let mut origin = zone.to_owned();
    let mut default_ttl: Option<String> = None;
    let mut owner = "@".to_owned();
    // The owner of removed records, for a next record without one.
    let mut orphaned = false;
    let mut depth = 0_i64;
    for (line, number) in text.lines().zip(1..) {
        let plain = without_comment(line);
        let begins = depth == 0;
        depth += parentheses(plain);
        let words: Vec<&str> = plain.split_whitespace().collect();
        let Some(&first) = words.first().filter(|_| begins) else {
            kept.push_str(line);
            kept.push('\n');
            continue;
        };
        if first.eq_ignore_ascii_case("$origin") {
            origin = absolute(words.get(1).copied().unwrap_or("@"), &origin);
        } else if first.eq_ignore_ascii_case("$ttl") {
            default_ttl = words.get(1).map(|&ttl| ttl.to_owned());
        } else if first.starts_with('$') {
            draft.lose(
                format!("`{}` in {zone} (line {number})", words.join(" ")),
                "the line is kept, but the file is neither read nor copied: the result does not load without it, and its \
                 DYNA records are not carried over",
                "copy the file beside the zone file, or put its records into the zone before the import",
            );
        } else {
            let has_owner = !plain.starts_with(char::is_whitespace);
            if has_owner {
                first.clone_into(&mut owner);
            }
            let fields = if has_owner { words.get(1..) } else { words.get(..) }.unwrap_or_default();
            let dynamic = fields
                .iter()
                .position(|word| ["DYNA", "DYNC"].iter().any(|kind| word.eq_ignore_ascii_case(kind)));
            // Before the type there are only a TTL and a class.
            if let Some(at) = dynamic.filter(|&at| at <= 2) {
                let name = absolute(&owner, &origin);
                let what = format!(
                    "`{}` of {name} ({zone}, line {number})",
                    fields.get(at..).unwrap_or_default().join(" ")
                );
                let ttl = fields
                    .get(..at)
                    .unwrap_or_default()
                    .iter()
                    .find(|word| word.starts_with(|char: char| char.is_ascii_digit()));
                let target = fields.get(at + 1).copied().unwrap_or_default();
                if fields.get(at).is_some_and(|kind| kind.eq_ignore_ascii_case("DYNC")) {
                    draft.lose(
                        what,
                        "steerd does not answer with one alias of several",
                        "give the addresses of its targets as backends, or write a CNAME into the zone file",
                    );
                } else {
                    add_service(
                        draft,
                        &name,
                        target,
                        ttl.copied().or(default_ttl.as_deref()),
                        resources,
                        what,
                    );
                }
                orphaned = orphaned || has_owner;
                continue;
            }
            if has_owner {
                orphaned = false;
            } else if orphaned {
                kept.push_str(&owner);
                orphaned = false;
            }
            if ["@Z", "@F"].iter().any(|mark| line.contains(mark)) {
                draft.lose(
                    format!("`@Z` or `@F` in {zone} (line {number})"),
                    "steerd does not know them",
                    "write the name of the zone",
                );
            }
        }
        kept.push_str(line);
        kept.push('\n');
    }
    draft.zones.insert(zone.to_owned(), kept);
}

fn add_service(
    draft: &mut ImportDraft,
    name: &str,
    target: &str,
    ttl: Option<&str>,
    resources: &Resources,
    what: String,
) {
    let (resource, datacenter) =
        target.split_once('/').map_or((target, None), |(resource, datacenter)| (resource, Some(datacenter)));
    let Some(found) = resources.get(resource) else {
        draft.lose(
            what,
            format!("the configuration has no resource `{resource}`"),
            "add a pool and a service",
        );
        return;
    };
    let mut service = found.service.clone();
    if let Some(datacenter) = datacenter {
        let of_datacenter = found.datacenters.iter().find(|(known, _)| known == datacenter);
        service.pools = of_datacenter.map(|(_, pools)| pools.clone()).unwrap_or_default();
        service.rules.clear();
    }
    if service.pools.is_empty() {
        draft.lose(what, "no address of its resource could be carried over", "add a pool and a service");
        return;
    }
    if let Some((most, least)) = ttl.and_then(times) {
        let bounds = if least == most {
            quoted(&format!("{most}s"))
        } else {
            format!("{{ min = \"{least}s\", max = \"{most}s\" }}")
        };
        service.keys.push(("ttl", bounds));
    }
    draft.services.insert(name.to_owned(), service);
}

/// The largest and the smallest TTL of `MAX[/MIN]`; the smallest is half of the largest if it is not given.
fn times(text: &str) -> Option<(u64, u64)> {
    let (most, least) = text.split_once('/').map_or((text, None), |(most, least)| (most, Some(least)));
    let most = seconds(most)?.min(2_147_483_647);
    let least = least.map_or(Some(most / 2), seconds)?.min(most);
    Some((most, least))
}

/// A TTL in seconds, or with units as in `1h30m`.
fn seconds(text: &str) -> Option<u64> {
    let (mut total, mut number) = (0_u64, None::<u64>);
    for char in text.chars() {
        if let Some(digit) = char.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit.into())?);
            continue;
        }
        let unit = match char.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    total.checked_add(number.unwrap_or(0))
}

/// The name without its final dot.
fn absolute(name: &str, origin: &str) -> String {
    match name.strip_suffix('.') {
        Some(absolute) => absolute.to_ascii_lowercase(),
        None if name == "@" => origin.to_ascii_lowercase(),
        None => format!("{name}.{origin}").to_ascii_lowercase(),
    }
}

/// The line up to a semicolon that is not in quotes.
fn without_comment(line: &str) -> &str {
    let mut is_quoted = false;
    let mut escaped = false;
    let end = line.char_indices().find(|&(_, char)| {
        let was_escaped = std::mem::take(&mut escaped);
        match char {
            '\\' => escaped = !was_escaped,
            '"' if !was_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        char == ';' && !is_quoted && !was_escaped
    });
    line.get(..end.map_or(line.len(), |(at, _)| at)).unwrap_or(line)
}

/// The opening parentheses less the closing ones, outside quotes.
fn parentheses(line: &str) -> i64 {
    let (mut depth, mut is_quoted, mut escaped) = (0, false, false);
    for char in line.chars() {
        let was_escaped = std::mem::take(&mut escaped);
        match char {
            '\\' => escaped = !was_escaped,
            _ if was_escaped => {}
            '"' => is_quoted = !is_quoted,
            '(' if !is_quoted => depth += 1,
            ')' if !is_quoted => depth -= 1,
            _ => {}
        }
    }
    depth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_a_least() {
        assert_eq!(times("600"), Some((600, 300)));
        assert_eq!(times("1h30m/20"), Some((5400, 20)));
        assert_eq!(times("20/60"), Some((20, 20)));
        assert_eq!(times("x"), None);
        assert_eq!(without_comment("a TXT \"b;c\\\";d\" ; e"), "a TXT \"b;c\\\";d\" ");
        assert_eq!(absolute("a", "b.c"), "a.b.c");
        assert_eq!(absolute("A.", "b.c"), "a");
    }
}
