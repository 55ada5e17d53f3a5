//! Names and values of Amazon Route 53 in the form of a zone file.

use std::fmt::Write;

use serde_json::Value;

/// A text with octal escapes, with the decimal ones of a zone file.
fn decimal(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        result.push_str(before);
        let octal = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        rest = match octal {
            Some(byte) if byte.is_ascii_alphanumeric() || b"*-_".contains(&byte) => {
                result.push(char::from(byte));
                after.get(3..).unwrap_or_default()
            }
            Some(byte) => {
                let _ = write!(result, "\\{byte:03}");
                after.get(3..).unwrap_or_default()
            }
            None => {
                result.push('\\');
                // A second backslash begins no escape of its own.
                let escaped = after.chars().next().map_or(0, char::len_utf8);
                result.push_str(after.get(..escaped).unwrap_or_default());
                after.get(escaped..).unwrap_or_default()
            }
        };
    }
    result.push_str(rest);
    result
}

/// A domain name without its final dot.
pub(super) fn plain(name: &str) -> String {
    let text = decimal(name);
    text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase()
}

pub(super) fn name_of(set: &Value) -> String {
    plain(set["Name"].as_str().unwrap_or_default())
}

pub(super) fn values(set: &Value) -> impl Iterator<Item = &str> {
    let records = set["ResourceRecords"].as_array().map_or(&[][..], Vec::as_slice);
    records.iter().filter_map(|record| record["Value"].as_str())
}

/// The data of a record. Route 53 takes all names in it as absolute, a zone file only those with a final dot.
pub(super) fn data(kind: &str, value: &str) -> String {
    let value = decimal(value);
    let absolute = |name: &str| if name.ends_with('.') { name.to_owned() } else { format!("{name}.") };
    let names = match kind {
        "CNAME" | "NS" | "PTR" | "MX" | "SRV" | "NAPTR" => return absolute(value.trim_end()),
        "SOA" => 0..2,
        "HTTPS" | "SVCB" => 1..2,
        _ => return value,
    };
    let fields = value.split(' ').filter(|field| !field.is_empty()).enumerate();
    let fields =
        fields.map(|(at, field)| if names.contains(&at) { absolute(field) } else { field.to_owned() });
    fields.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_decimal() {
        assert_eq!(plain("\\052.Example.COM."), "*.example.com");
        assert_eq!(plain("a\\057b.example.com"), "a\\047b.example.com");
        assert_eq!(plain("a\\"), "a\\");
        assert_eq!(data("TXT", "\"\\303\\244 \\\\101 \\\"b\\\"\""), "\"\\195\\164 \\\\101 \\\"b\\\"\"");
    }

    #[test]
    fn names_in_values_are_absolute() {
        for (kind, value, expected) in [
            ("CNAME", "a.example.net", "a.example.net."),
            ("CNAME", "a.example.net.", "a.example.net."),
            ("NS", "ns1.example.net", "ns1.example.net."),
            ("PTR", "a.example.net", "a.example.net."),
            ("MX", "10 mail.example.net", "10 mail.example.net."),
            ("SRV", "1 2 443 a.example.net", "1 2 443 a.example.net."),
            ("HTTPS", "1 . alpn=h2", "1 . alpn=h2"),
            ("SVCB", "0 a.example.net", "0 a.example.net."),
            ("NAPTR", "1 2 \"u\" \"sip\" \"\" a.example.net", "1 2 \"u\" \"sip\" \"\" a.example.net."),
            ("SOA", "ns1.a hostmaster.a 1 2 3 4 5", "ns1.a. hostmaster.a. 1 2 3 4 5"),
            ("TXT", "\"a.example.net\"", "\"a.example.net\""),
            ("A", "192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(data(kind, value), expected, "{kind} {value}");
        }
    }
}
