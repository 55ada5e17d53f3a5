//! A text of a configuration without its secrets, for people who may read but not know them.
//!
//! By rule, secrets stand in files of their own. But a URL may have a password, the URL of a chat is one itself, and the
//! query of a path, a header, data that a check sends or expects and the arguments of a program may have others: a
//! reload does not show these either. Comments are kept as they are.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Takes the place of a secret.
const MASK: &str = "***";
/// Keys whose values may have secrets.
const SECRET_KEYS: [&str; 5] = ["send", "send_hex", "expect", "expect_hex", "arguments"];
/// Parts of the names of headers whose values are secrets.
const SECRET_HEADERS: [&str; 6] = ["auth", "cookie", "key", "token", "secret", "password"];

/// The text with its secrets masked.
#[must_use]
pub fn masked(text: &str) -> String {
    let (tree, _) = DeTable::parse_recoverable(text);
    let mut masks = Vec::new();
    find(tree.get_ref(), &[], &mut masks);
    masks.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut shown = text.to_owned();
    for (span, mask) in masks {
        if shown.get(span.clone()).is_some() {
            shown.replace_range(span, &format!("{mask:?}"));
        }
    }
    shown
}

/// The strings to replace, and what replaces each. `path` has the keys of the tables around it.
fn find(table: &DeTable<'_>, path: &[&str], masks: &mut Vec<(Range<usize>, String)>) {
    for (key, value) in table {
        let path = [path, &[key.get_ref().as_ref()]].concat();
        of_value(value.get_ref(), value.span(), &path, masks);
    }
}

fn of_value(value: &DeValue<'_>, span: Range<usize>, path: &[&str], masks: &mut Vec<(Range<usize>, String)>) {
    match value {
        DeValue::Table(table) => find(table, path, masks),
        DeValue::Array(array) => {
            let is_command = matches!(path, [.., "exec"]);
            for (place, element) in array.iter().enumerate() {
                // The first element of a command is the program.
                if is_command && place > 0 {
                    masks.push((element.span(), MASK.to_owned()));
                } else {
                    of_value(element.get_ref(), element.span(), path, masks);
                }
            }
        }
        DeValue::String(text) => masks.extend(mask(text, path).map(|mask| (span, mask))),
        _ => {}
    }
}

/// The replacement of a string that has a secret.
fn mask(text: &str, path: &[&str]) -> Option<String> {
    if let [.., "headers", name] = path {
        let name = name.to_ascii_lowercase();
        return SECRET_HEADERS.iter().any(|part| name.contains(part)).then(|| MASK.to_owned());
    }
    if path.last().is_some_and(|key| SECRET_KEYS.contains(key)) {
        return Some(MASK.to_owned());
    }
    if let [.., "path"] = path {
        return text.split_once('?').map(|(path, _)| format!("{path}?{MASK}"));
    }
    let (scheme, rest) = text.split_once("://")?;
    let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let user = if host.len() < authority.len() { format!("{MASK}@") } else { String::new() };
    // The path or the query of a receiver is often its secret.
    let is_receiver = matches!(path, ["alerts", "url", ..]);
    let after = match after.split_once('?') {
        _ if is_receiver && after.len() > 1 => format!("/{MASK}"),
        Some((path, _)) => format!("{path}?{MASK}"),
        None => after.to_owned(),
    };
    let shown = format!("{scheme}://{user}{host}{after}");
    (shown != text).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_the_rest_stays() {
        for (text, expected) in [
            ("a = \"b\" # c\n", "a = \"b\" # c\n"),
            (
                "[[alerts]]\nurl = 'https://hooks.example/T0/B0/secret'\n",
                "[[alerts]]\nurl = \"https://hooks.example/***\"\n",
            ),
            (
                "[[alerts]]\nurl = \"https://chat.example?token=x\"",
                "[[alerts]]\nurl = \"https://chat.example/***\"",
            ),
            ("x = ['http://u:p@h/a', 'http://h/a']", "x = [\"http://***@h/a\", 'http://h/a']"),
            ("check = \"http://:80/a?b=c\"", "check = \"http://:80/a?***\""),
            (
                "checks = [{ path = \"/a?b\" }, { path = '/a' }]",
                "checks = [{ path = \"/a?***\" }, { path = '/a' }]",
            ),
            ("send = \"AUTH x\"\nexpect = 'y'\nport = 1", "send = \"***\"\nexpect = \"***\"\nport = 1"),
            ("program = \"a\"\narguments = ['b', \"c\"]", "program = \"a\"\narguments = [\"***\", \"***\"]"),
            ("exec = [\"/bin/a\", 'b', 3]", "exec = [\"/bin/a\", \"***\", \"***\"]"),
            (
                "headers = { Authorization = \"Basic x\", Accept = \"a\", X-Api-Key = '''k''' }",
                "headers = { Authorization = \"***\", Accept = \"a\", X-Api-Key = \"***\" }",
            ),
        ] {
            assert_eq!(masked(text), expected);
        }
    }
}
