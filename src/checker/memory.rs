//! What is worth keeping over a restart. The file it is kept in is `state`'s.

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
