//! Names of pools, backends, sites and checks.

use crate::config::source::At;

/// The longest name, bytes: names appear in labels of metrics and in columns on a terminal.
const MAX_NAME: usize = 64;

/// Reports a name that is too long or contains a character that is not allowed. Names appear as `POOL/BACKEND` on the
/// command line and in URLs.
pub(super) fn check(at: At<'_>, name: &str, what: &str, is_allowed: impl Fn(char) -> bool) -> bool {
    if name.is_empty() || name.len() > MAX_NAME {
        at.error(format!("the name of {what} has 1 to {MAX_NAME} characters; this has {}", name.len()));
        return false;
    }
    if let Some(bad) = name.chars().find(|character| !is_allowed(*character)) {
        at.error_with_hint(
            format!("{bad:?} is not allowed in the name of {what}"),
            "letters, digits, dots, dashes and underscores can".to_owned(),
        );
        return false;
    }
    true
}

pub(super) fn is_in_pool_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_')
}
