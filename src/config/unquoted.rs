//! Hints for lines that are not valid TOML because their quotes are missing or typographic.

/// The sections whose keys are names that the operator chooses.
const NAMED: [&str; 4] = ["keys", "pools", "services", "zones"];

/// Typographic quotes, which word processors and web pages insert for straight ones.
const TYPOGRAPHIC: [char; 7] = ['“', '”', '„', '‟', '‘', '’', '«'];

/// The hint for a line that is not valid TOML; `section` is the table that contains it.
pub(super) fn hint(line: &str, section: Option<&str>) -> Option<String> {
    let line = line.trim();
    if let Some(header) = line.strip_prefix('[') {
        let (section, name) = header.trim_start_matches('[').split_once('.')?;
        let section = section.trim();
        let name = bare(name.split(']').next()?);
        return (NAMED.contains(&section) && is_quotable(&name))
            .then(|| format!("a name with other characters than letters, digits, - and _ needs quotes: write [{section}.\"{name}\"]"));
    }
    if line.contains(TYPOGRAPHIC) {
        return Some("write straight quotes, \", in place of typographic ones".to_owned());
    }
    let (key, _) = line.split_once('=')?;
    let name = bare(key);
    (section.is_some_and(|section| NAMED.contains(&section)) && is_quotable(&name)).then(|| {
        format!(
            "a name with other characters than letters, digits, - and _ needs quotes: write \"{name}\" = .."
        )
    })
}

/// The name without surrounding quotes and blanks, and without a final dot.
fn bare(written: &str) -> String {
    let is_around = |character: char| {
        character.is_whitespace() || matches!(character, '"' | '\'' | '»') || TYPOGRAPHIC.contains(&character)
    };
    let name = written.trim_matches(is_around);
    name.strip_suffix('.').unwrap_or(name).to_owned()
}

/// Whether a name needs quotes, and is valid between quotes without escapes.
fn is_quotable(name: &str) -> bool {
    let needs_quotes =
        |character: char| !(character.is_ascii_alphanumeric() || matches!(character, '-' | '_'));
    name.contains(needs_quotes) && !name.contains(['"', '\\', '\'']) && !name.contains(TYPOGRAPHIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_without_quotes() {
        for (line, section, written) in [
            ("[services.*.lb.example.com]", None, "write [services.\"*.lb.example.com\"]"),
            ("  [services.münchen.lb.example.com] # x", None, "write [services.\"münchen.lb.example.com\"]"),
            ("[zones.lb.example.com.]", None, "write [zones.\"lb.example.com\"]"),
            ("[zones.“lb.example.com”]", None, "write [zones.\"lb.example.com\"]"),
            ("[[pools.web@eu]]", None, "write [pools.\"web@eu\"]"),
            ("*.lb.example.com = {}", Some("services"), "write \"*.lb.example.com\" = .."),
            ("file = “lb.zone”", None, "write straight quotes"),
        ] {
            let told = hint(line, section).unwrap_or_default();
            assert!(told.contains(written), "{line}: {told}");
        }
        for (line, section) in [
            ("[server.*]", None),
            ("[zones", None),
            ("[zones.\"a\\\"b\"]", None),
            ("*.lb.example.com = {}", Some("server")),
            ("x", Some("zones")),
            ("x = a b", Some("zones")),
            ("[zones.x]]", None),
            ("", None),
        ] {
            assert_eq!(hint(line, section), None, "{line}");
        }
    }
}
