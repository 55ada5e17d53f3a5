//! Checks: a URL or a table, completed with `[defaults.check]` and then with built-in values.
//!
//! ```text
//! URL   -> url  -+
//! table ---------+-> keys, a line for each -> with the defaults -> resolve, timing -> Check
//!                      how a value is read: request, pattern, certificate, program
//! ```
//!
//! A wrong key leads to no further faults, and neither does the built-in value of a key that may have been misspelt.
//! All other keys are still checked against each other.

mod certificate;
mod key;
mod keys;
mod pattern;
pub(super) mod program;
mod request;
mod resolve;
mod timing;
mod url;

use std::collections::HashMap;

use crate::check::{Check, name_in};
use crate::config::source::At;
use crate::config::value::{Located, TomlValue, listed};
use crate::pool::Backend;

pub(super) use certificate::{authorities, end_in_words};
pub(super) use keys::CheckKeys;
pub(crate) use timing::{DEFAULT_INTERVAL, built_in_timing};

/// The most checks in a pool: every check probes each address.
pub(super) const MAX_CHECKS: u16 = 32;

/// The kind of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckKind {
    Http,
    Https,
    Tcp,
    Tls,
    Grpc,
    Exec,
}

static KINDS: [(&str, CheckKind); 6] = [
    ("http", CheckKind::Http),
    ("https", CheckKind::Https),
    ("tcp", CheckKind::Tcp),
    ("tls", CheckKind::Tls),
    ("grpc", CheckKind::Grpc),
    ("exec", CheckKind::Exec),
];

impl CheckKind {
    fn word(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }

    /// The kind with its article, such as "an http check", as the subject of a sentence.
    fn with_article(self) -> String {
        let article = if matches!(self, Self::Http | Self::Https | Self::Exec) { "an" } else { "a" };
        format!("{article} {} check", self.word())
    }

    /// Several kinds in words, with `last` before the last one.
    fn words(kinds: &[Self], last: &str) -> String {
        listed(&kinds.iter().map(|kind| kind.word().to_owned()).collect::<Vec<_>>(), last)
    }

    /// The default port. A protocol without a usual port has none, because a wrong guess would look like a dead
    /// backend.
    fn default_port(self) -> Option<u16> {
        match self {
            Self::Http => Some(80),
            Self::Https => Some(443),
            Self::Tcp | Self::Tls | Self::Grpc | Self::Exec => None,
        }
    }
}

/// The checks of a pool, as set in one place.
pub(super) type CheckList<'s> = Vec<Located<'s, CheckKeys<'s>>>;

/// A check as read.
#[derive(Debug)]
pub(super) struct ReadCheck<'s> {
    /// Its location.
    pub(super) at: At<'s>,
    /// Its configured name.
    name: Option<Located<'s, &'s str>>,
    /// The location of `critical`, if it is true.
    pub(super) critical_at: Option<At<'s>>,
    /// The location of `tls.verify`, if it is false.
    pub(super) unverified_at: Option<At<'s>>,
    /// The check as read.
    pub(super) check: Check,
}

/// Reads `check` or `checks` of a pool: a check, or a list of checks that may be empty. Unreadable checks are left out.
pub(super) fn read_list(value: TomlValue<'_>) -> Option<CheckList<'_>> {
    let values = if value.is_list() { value.list_or_none("a list of checks")? } else { vec![value] };
    if values.len() > usize::from(MAX_CHECKS) {
        value.at.error(format!("a pool has at most {MAX_CHECKS} checks; these are {}", values.len()));
        return None;
    }
    let mut list = Vec::with_capacity(values.len());
    for value in values {
        let keys = read_one(value);
        list.extend(keys.map(|keys| Located { value: keys, at: value.at, inherited: false }));
    }
    Some(list)
}

/// Which backends of a pool have a `host`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hosts<'b> {
    /// No backend.
    None,
    /// Some backends; this is the first one without.
    Some { without: &'b str },
    /// All backends.
    All,
}

impl<'b> Hosts<'b> {
    pub(super) fn of(backends: &'b [Backend]) -> Self {
        if backends.iter().all(|backend| backend.host.is_none()) {
            return Self::None;
        }
        let without = backends.iter().find(|backend| backend.host.is_none());
        without.map_or(Self::All, |backend| Self::Some { without: &backend.name })
    }
}

/// Reads a check of a pool: a URL or a table.
fn read_one(value: TomlValue<'_>) -> Option<CheckKeys<'_>> {
    if value.is_table() {
        return Some(CheckKeys::read_table(value.table(value.at)?));
    }
    let Some(text) = value.as_str() else {
        value.expected("a URL such as \"http://:8080/healthz\", or a table", None);
        return None;
    };
    url::read(value, text)
}

/// Reads the `host` of a backend: a name that a certificate can have, optionally with a port.
pub(super) fn backend_host(value: TomlValue<'_>) -> Option<String> {
    let host = request::host(value)?;
    certificate::checked_name(value, name_in(host))?;
    Some(request::sent(host))
}

/// The checks of a list, completed with the defaults, each with a unique name. Checks with faults are left out.
pub(super) fn resolve_list<'s>(
    list: &CheckList<'s>,
    defaults: &CheckKeys<'s>,
    hosts: Hosts<'_>,
) -> Vec<ReadCheck<'s>> {
    let mut checks: Vec<ReadCheck<'s>> =
        list.iter().filter_map(|keys| keys.value.resolve(defaults, keys.at, hosts)).collect();
    let mut names: HashMap<String, At<'s>> = HashMap::new();
    for name in checks.iter().filter_map(|read| read.name) {
        if let Some(first) = names.insert(name.value.to_owned(), name.at) {
            let message = format!("a check `{}` is in this pool already", name.value);
            name.at.error_beside(message, first, "first here");
        }
    }
    // The name that a check gets by default must not be the configured name of another one, even of a later one.
    for read in &mut checks {
        let kind = read.check.name.clone();
        let numbered = |number| if number == 1 { kind.clone() } else { format!("{kind}-{number}") };
        read.check.name = match read.name {
            Some(name) => name.value.to_owned(),
            None => {
                let mut free = (1..=names.len() + 1).map(numbered).filter(|name| !names.contains_key(name));
                free.next().unwrap_or_default()
            }
        };
        names.insert(read.check.name.clone(), read.at);
    }
    checks
}
