//! Filters of lists: which pools, backends or services a request wants, and from which page on.
//!
//! A page has the order of names, which changes neither with health nor by a reload, so a client that follows `next`
//! sees each name once.

use std::fmt::Write;

use axum::extract::Query;
use axum::http::{StatusCode, Uri};

use crate::admin::problem::Problem;
use crate::pattern::NamePattern;

/// The most items of a page, and the number without `limit`.
pub(super) const MOST_IN_A_PAGE: usize = 1000;

/// The parameters that one list accepts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted {
    /// The parameter with the pattern for names.
    pub(super) name: &'static str,
    /// Whether items have a site.
    pub(super) has_sites: bool,
    /// The states that items may have.
    pub(super) states: &'static [&'static str],
}

/// The items that a request wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    limit: usize,
    after: Option<String>,
    name: NamePattern,
    site: Option<String>,
    /// Empty if all are wanted.
    states: Vec<&'static str>,
    /// The path of the list, and the query without `after`: the beginning of the path of the next page.
    place: String,
}

impl Filter {
    /// The filter of a request; none without a query, which wants the whole list.
    ///
    /// # Errors
    /// If a parameter is unknown or bad, with those that are accepted.
    pub(super) fn read(uri: &Uri, accepted: &Accepted) -> Result<Option<Self>, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|rejection| bad(rejection.body_text()))?;
        if pairs.is_empty() {
            return Ok(None);
        }
        let mut filter = Self {
            limit: MOST_IN_A_PAGE,
            after: None,
            name: NamePattern::any(),
            site: None,
            states: Vec::new(),
            place: format!("{}?", uri.path()),
        };
        let mut seen: Vec<&str> = Vec::new();
        for (key, value) in &pairs {
            if seen.contains(&&**key) {
                return Err(bad(format!("`{key}` is given twice")));
            }
            seen.push(key);
            match &**key {
                "limit" => filter.limit = limit(value)?,
                "after" => filter.after = Some(value.clone()),
                key if key == accepted.name => filter.name = NamePattern::new(&**value),
                "site" if accepted.has_sites => filter.site = Some(value.clone()),
                "state" if !accepted.states.is_empty() => filter.states = states(value, accepted.states)?,
                key => return Err(bad(format!("`{key}` is no parameter; these are: {}", accepted.list()))),
            }
            if key != "after" {
                let _ = write!(filter.place, "{key}={}&", encoded(value));
            }
        }
        Ok(Some(filter))
    }

    /// Whether an item with this name may be on this page or a later one.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.after.as_deref().is_none_or(|after| name > after) && self.name.matches(name)
    }

    /// Whether items of this site are wanted.
    pub(super) fn has_site(&self, site: Option<&str>) -> bool {
        self.site.is_none() || self.site.as_deref() == site
    }

    /// Whether items with one of these states are wanted.
    pub(super) fn has_state<'a>(&self, mut states: impl Iterator<Item = &'a str>) -> bool {
        self.states.is_empty() || states.any(|state| self.states.contains(&state))
    }

    /// The most items of this page.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The path of the page after this name.
    pub(super) fn next(&self, last: &str) -> String {
        format!("{}after={}", self.place, encoded(last))
    }

    /// The same for equal requests.
    pub(super) fn key(&self) -> String {
        format!("{}{:?}", self.place, self.after)
    }
}

impl Accepted {
    fn list(&self) -> String {
        let names = [Some("limit"), Some("after"), Some(self.name)]
            .into_iter()
            .chain([self.has_sites.then_some("site"), (!self.states.is_empty()).then_some("state")]);
        names.flatten().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }
}

fn limit(text: &str) -> Result<usize, Problem> {
    let limit =
        text.parse().ok().filter(|limit| (1..=MOST_IN_A_PAGE).contains(limit) && !text.starts_with('+'));
    limit.ok_or_else(|| bad(format!("`limit` must be a whole number from 1 to {MOST_IN_A_PAGE}")))
}

fn states(text: &str, known: &'static [&'static str]) -> Result<Vec<&'static str>, Problem> {
    let find = |word: &str| known.iter().copied().find(|state| *state == word);
    let found: Option<Vec<_>> = text.split(',').map(find).collect();
    found.ok_or_else(|| {
        bad(format!("`state` must be one or more of {}, separated by commas", known.join(", ")))
    })
}

/// A value in a query (RFC 3986, section 3.4).
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~*".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKENDS: Accepted =
        Accepted { name: "backend", has_sites: true, states: &["healthy", "unhealthy"] };
    const POOLS: Accepted = Accepted { name: "name", has_sites: false, states: &[] };

    fn read(query: &str, accepted: &Accepted) -> Result<Option<Filter>, Problem> {
        Filter::read(&format!("/api/v1/pools/a%20b{query}").parse().unwrap(), accepted)
    }

    #[test]
    fn a_filter_selects_by_each_parameter() {
        assert_eq!(read("", &POOLS), Ok(None));
        assert_eq!(read("?", &POOLS), Ok(None));
        let filter =
            read("?backend=gw*&site=b&state=unhealthy&limit=2&after=gw1", &BACKENDS).unwrap().unwrap();
        assert!(filter.has_name("gw2") && filter.has_name("gw10") && !filter.has_name("gw1"));
        assert!(!filter.has_name("x1") && !filter.has_name("gw0"));
        assert!(filter.has_site(Some("b")) && !filter.has_site(Some("a")) && !filter.has_site(None));
        assert!(
            filter.has_state(["healthy", "unhealthy"].into_iter())
                && !filter.has_state(["healthy"].into_iter())
        );
        assert_eq!(filter.limit(), 2);
        let next = "/api/v1/pools/a%20b?backend=gw*&site=b&state=unhealthy&limit=2&after=2001%3Adb8%3A%3A1";
        assert_eq!(filter.next("2001:db8::1"), next);
        let all = read("?limit=1000", &POOLS).unwrap().unwrap();
        assert!(all.has_name("") && all.has_site(None) && all.has_state(std::iter::empty()));
    }

    #[test]
    fn what_is_no_filter_says_what_is() {
        for (query, accepted) in [
            ("?limit=0", &POOLS),
            ("?limit=1001", &POOLS),
            ("?limit=%2B1", &POOLS),
            ("?limit=", &POOLS),
            ("?limit=1&limit=1", &POOLS),
            ("?site=b", &POOLS),
            ("?state=healthy", &POOLS),
            ("?backend=a", &POOLS),
            ("?name=a", &BACKENDS),
            ("?state=", &BACKENDS),
            ("?state=healthy,", &BACKENDS),
            ("?state=Healthy", &BACKENDS),
            ("?x", &BACKENDS),
        ] {
            assert!(read(query, accepted).is_err(), "{query}");
        }
        let said = format!("{:?}", read("?x=1", &BACKENDS));
        assert!(said.contains("these are: `limit`, `after`, `backend`, `site`, `state`"), "{said}");
    }
}
