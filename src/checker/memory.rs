//! What is worth keeping over a restart. The file it is kept in is `state`'s.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::SystemTime;

use crate::health::Verdict;
use crate::pool::Override;

/// What was known of the backends, by the names of the configuration, so that it fits one that has
/// changed meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What each check said of each address.
    pub states: Vec<RememberedState>,
    /// What operators said.
    pub overrides: Vec<RememberedOverride>,
}

/// What a check said of an address. A hint: shown as such, and used only until the first outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedState {
    /// The pool's name.
    pub pool: String,
    /// The backend's name.
    pub backend: String,
    /// The address.
    pub address: IpAddr,
    /// The check's name.
    pub check: String,
    /// What it said.
    pub verdict: Verdict,
    /// Since when.
    pub since: SystemTime,
}

/// What an operator said of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedOverride {
    /// The pool's name.
    pub pool: String,
    /// The backend's name.
    pub backend: String,
    /// What it is.
    pub state: Override,
    /// Since when.
    pub since: SystemTime,
    /// When it ends by itself.
    pub until: Option<SystemTime>,
    /// Why.
    pub reason: Option<String>,
}

/// What is remembered of the checks of a pool, by backend, address and check.
pub(super) type Hints<'a> = HashMap<(&'a str, IpAddr, &'a str), (Verdict, SystemTime)>;

/// Sorts what is remembered by pool.
pub(super) fn hints(states: &[RememberedState]) -> HashMap<&str, Hints<'_>> {
    let mut pools: HashMap<&str, Hints<'_>> = HashMap::new();
    for RememberedState { pool, backend, address, check, verdict, since } in states {
        pools.entry(pool).or_default().insert((backend, *address, check), (*verdict, *since));
    }
    pools
}
