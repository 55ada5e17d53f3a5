//! Templates of the operator: a JSON text with placeholders, such as `{{text}}`.
//!
//! A value in a JSON string is escaped for it, so no value can change the structure of the message. `{{conditions}}` and
//! `{{count}}` stand outside of strings. There are no conditions and no loops: what needs them can run a program.

/// A placeholder, with what it stands for.
const PLACEHOLDERS: [(&str, Placeholder); 9] = [
    ("status", Placeholder::Status),
    ("summary", Placeholder::Summary),
    ("text", Placeholder::Text),
    ("severity", Placeholder::Severity),
    ("server", Placeholder::Server),
    ("alert", Placeholder::Alert),
    ("time", Placeholder::Time),
    ("count", Placeholder::Count),
    ("conditions", Placeholder::Conditions),
];

/// The meaning of a placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `firing`, `resolved` or `test`.
    Status,
    /// One line.
    Summary,
    /// One line for each condition.
    Text,
    /// `critical`, `error`, `warning` or `info`.
    Severity,
    /// The name of this server.
    Server,
    /// The name of the entry of `[[alerts]]`.
    Alert,
    /// When the message was made, RFC 3339.
    Time,
    /// How many conditions it tells of, a number.
    Count,
    /// The conditions, a list of JSON objects.
    Conditions,
}

impl Placeholder {
    /// Whether it is a JSON value itself, and so stands outside of strings.
    fn is_value(self) -> bool {
        matches!(self, Self::Count | Self::Conditions)
    }
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnTemplate(Vec<TemplatePiece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePiece {
    Text(String),
    Value(Placeholder),
}

impl OwnTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// Why it is not one, as part of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut rest, mut in_string) = (Vec::new(), text, false);
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, after)) = after.split_once("}}") else {
                return Err("a placeholder has no end: `{{` without `}}`".into());
            };
            in_string = is_in_string(before, in_string);
            let name = name.trim();
            let Some((_, placeholder)) = PLACEHOLDERS.iter().find(|(known, _)| *known == name) else {
                let known: Vec<String> =
                    PLACEHOLDERS.iter().map(|(name, _)| format!("{{{{{name}}}}}")).collect();
                return Err(format!("`{{{{{name}}}}}` is not a placeholder; known are {}", known.join(", ")));
            };
            match (placeholder.is_value(), in_string) {
                (true, true) if *placeholder == Placeholder::Conditions => {
                    return Err("{{conditions}} is a list, and so stands outside of a string".into());
                }
                (false, false) => {
                    return Err(format!(
                        "{{{{{name}}}}} is a text, and so stands in a string: \"{{{{{name}}}}}\""
                    ));
                }
                _ => {}
            }
            pieces.push(TemplatePiece::Text(before.to_owned()));
            pieces.push(TemplatePiece::Value(*placeholder));
            rest = after;
        }
        pieces.push(TemplatePiece::Text(rest.to_owned()));
        let template = Self(pieces);
        let sample = |placeholder: Placeholder| match placeholder {
            Placeholder::Conditions => "[]".to_owned(),
            Placeholder::Count => "1".to_owned(),
            _ => "x".to_owned(),
        };
        match serde_json::from_str::<serde_json::Value>(&template.fill(sample)) {
            Ok(_) => Ok(template),
            Err(error) => Err(format!("with its placeholders filled in, it is not JSON: {error}")),
        }
    }

    /// The text with the values of its placeholders; a text is escaped for a JSON string.
    pub fn fill(&self, value: impl Fn(Placeholder) -> String) -> String {
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                TemplatePiece::Text(text) => filled.push_str(text),
                TemplatePiece::Value(placeholder) if placeholder.is_value() => {
                    filled.push_str(&value(*placeholder));
                }
                TemplatePiece::Value(placeholder) => {
                    let quoted = serde_json::Value::from(value(*placeholder)).to_string();
                    let inner = quoted.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
                    filled.push_str(inner.unwrap_or_default());
                }
            }
        }
        filled
    }
}

/// Whether a JSON string is open after this text.
fn is_in_string(text: &str, mut open: bool) -> bool {
    let mut escaped = false;
    for character in text.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if open => escaped = true,
            '"' => open = !open,
            _ => {}
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn faults_are_told() {
        for (text, words) in [
            ("{\"a\": \"{{text\"}", "no end"),
            ("{\"a\": \"{{txt}}\"}", "`{{txt}}` is not a placeholder; known are {{status}}"),
            ("{\"a\": {{text}}}", "stands in a string"),
            ("{\"a\": \"{{conditions}}\"}", "outside of a string"),
            ("{\"a\": {{count}}", "not JSON"),
            ("{\"a\\\"\": {{summary}}}", "stands in a string"),
        ] {
            let told = OwnTemplate::parse(text).unwrap_err();
            assert!(told.contains(words), "{text}: {told}");
        }
    }

    proptest! {
        #[test]
        fn no_value_can_change_the_structure(value in ".*") {
            let template = OwnTemplate::parse("{\"say\": \"<{{text}}>\", \"n\": {{count}}, \"of\": \"{{ count }}\"}").unwrap();
            let filled = template.fill(|placeholder| match placeholder {
                Placeholder::Count => "7".into(),
                _ => value.clone(),
            });
            let read: serde_json::Value = serde_json::from_str(&filled).unwrap();
            prop_assert_eq!(read, serde_json::json!({ "say": format!("<{value}>"), "n": 7, "of": "7" }));
        }
    }
}
