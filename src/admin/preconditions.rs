//! Preconditions of requests for overrides, and entity tags (RFC 9110, sections 8.8.3 and 13.1).
//!
//! They are only read here. The checker compares them in the turn of the change.

use axum::http::StatusCode;
use axum::http::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};

use crate::admin::problem::Problem;
use crate::fleet::{OverrideVersion, Precondition};

/// The entity tag of a version, with its quotes. It is strong: equal tags mean the same override.
pub(super) fn entity_tag(version: OverrideVersion) -> String {
    format!("\"{version}\"")
}

/// The precondition of a request.
///
/// # Errors
/// If it has another form than those that the server can check.
pub(super) fn precondition(headers: &HeaderMap) -> Result<Precondition, Problem> {
    let (present, absent) = (field(headers, &IF_MATCH)?, field(headers, &IF_NONE_MATCH)?);
    match (present.as_deref(), absent.as_deref()) {
        (None, None) => Ok(Precondition::Anything),
        (Some("*"), None) => Ok(Precondition::Something),
        (None, Some("*")) => Ok(Precondition::Nothing),
        (Some(tags), None) => members(tags)
            .map(|tag| versions(tag.trim()))
            .collect::<Option<Vec<_>>>()
            .map(|versions| Precondition::OneOf(versions.concat()))
            .ok_or_else(|| bad("If-Match must be `*` or entity tags in quotes, separated by commas")),
        (None, Some(_)) => Err(bad("If-None-Match must be `*`: only if there is no override")),
        (Some(_), Some(_)) => Err(bad("a request has If-Match or If-None-Match, and not both")),
    }
}

/// The members of a list. A comma in quotes is a part of a tag.
fn members(list: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    list.split(move |character| {
        is_quoted ^= character == '"';
        character == ',' && !is_quoted
    })
}

/// The versions that an entity tag names: one, or none if no override has it; `None` if it is no entity tag.
fn versions(tag: &str) -> Option<Vec<OverrideVersion>> {
    let (opaque, is_weak) = tag.strip_prefix("W/").map_or((tag, false), |opaque| (opaque, true));
    let opaque = opaque.strip_prefix('"')?.strip_suffix('"').filter(|opaque| !opaque.contains('"'))?;
    let is_digits =
        opaque.len() == 16 && opaque.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    // A weak tag matches nothing in If-Match (section 13.1.1).
    let named = u64::from_str_radix(opaque, 16).ok().filter(|_| is_digits && !is_weak);
    Some(named.map(OverrideVersion).into_iter().collect())
}

/// The value of a field; several lines are one list (section 5.2).
fn field(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Problem> {
    let lines: Result<Vec<&str>, _> = headers.get_all(name).iter().map(|value| value.to_str()).collect();
    let lines = lines.map_err(|_| bad(format!("{name} must be text")))?;
    Ok((!lines.is_empty()).then(|| lines.join(",").trim().to_owned()))
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(HeaderName, &str)]) -> Option<Precondition> {
        let headers = lines.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        precondition(&headers).ok()
    }

    #[test]
    fn the_two_fields() {
        let [one, two] = [OverrideVersion(1), OverrideVersion(0xabc)];
        let [first, second] = ["\"0000000000000001\"", "\"0000000000000abc\""];
        assert_eq!([one, two].map(entity_tag), [first, second]);
        let both = format!("{first} , {second}");
        for (lines, expected) in [
            (&[][..], Some(Precondition::Anything)),
            (&[(IF_MATCH, "*")], Some(Precondition::Something)),
            (&[(IF_NONE_MATCH, " * ")], Some(Precondition::Nothing)),
            (&[(IF_MATCH, first)], Some(Precondition::OneOf(vec![one]))),
            (&[(IF_MATCH, &both)], Some(Precondition::OneOf(vec![one, two]))),
            (&[(IF_MATCH, first), (IF_MATCH, second)], Some(Precondition::OneOf(vec![one, two]))),
            (&[(IF_MATCH, "\"of another server\"")], Some(Precondition::OneOf(Vec::new()))),
            (&[(IF_MATCH, "\"a,b\",\"0000000000000001\"")], Some(Precondition::OneOf(vec![one]))),
            (&[(IF_MATCH, "\"a,b")], None),
            (&[(IF_MATCH, "W/\"0000000000000001\"")], Some(Precondition::OneOf(Vec::new()))),
            (&[(IF_MATCH, "0000000000000001")], None),
            (&[(IF_MATCH, "")], None),
            (&[(IF_NONE_MATCH, first)], None),
            (&[(IF_MATCH, "*"), (IF_NONE_MATCH, "*")], None),
        ] {
            assert_eq!(read(lines), expected, "{lines:?}");
        }
    }
}
