//! The status of a server, as its API tells it, and the part of it about one pool or service.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::spelling::closest;

/// `/api/v1/status`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct RemoteStatus {
    pub(super) version: String,
    pub(super) generation: u64,
    /// Sentences that warn operators about the server itself.
    #[serde(default)]
    pub(super) notices: Vec<String>,
    pub(super) suspected: Option<RemoteSuspicion>,
    pub(super) services: Vec<RemoteService>,
    pub(super) pools: Vec<RemotePool>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RemoteSuspicion {
    pub(super) since: Option<Timestamp>,
    pub(super) reason: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RemoteService {
    pub(super) name: String,
    #[serde(default)]
    pub(super) unicode_name: Option<String>,
    pub(super) tier: RemoteTier,
    /// All its pools, those of its first tiers first.
    #[serde(default)]
    pub(super) pools: Vec<String>,
    pub(super) down: bool,
    pub(super) fail_open: bool,
    pub(super) ttl: u32,
    #[serde(default)]
    pub(super) failover: Option<RemoteFailover>,
    #[serde(default)]
    pub(super) waiting: RemoteWaiting,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RemoteFailover {
    pub(super) pool: String,
    pub(super) reason: Option<String>,
    pub(super) by: Option<String>,
    pub(super) until: Option<Timestamp>,
}

/// The earlier tier that is usable and not taken yet, per family.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct RemoteWaiting {
    pub(super) ipv4: Option<RemoteWaitingTier>,
    pub(super) ipv6: Option<RemoteWaitingTier>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct RemoteWaitingTier {
    pub(super) pool: String,
    pub(super) until: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct RemoteTier {
    pub(super) ipv4: Option<String>,
    pub(super) ipv6: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RemotePool {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) usable: bool,
    pub(super) healthy_weight: u64,
    pub(super) total_weight: u64,
    pub(super) suspected: Option<RemoteSuspicion>,
    pub(super) backends: Vec<RemoteBackend>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RemoteBackend {
    pub(super) name: String,
    pub(super) enabled: bool,
    pub(super) weight: u32,
    pub(super) r#override: Option<RemoteOverride>,
    #[serde(default)]
    pub(super) weight_override: Option<RemoteOverride>,
    pub(super) safe_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) shares: Vec<RemoteShare>,
    #[serde(default)]
    pub(super) answers: u64,
    pub(super) addresses: Vec<RemoteAddress>,
}

/// An override, with a state or a percentage of the weight.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RemoteOverride {
    #[serde(default)]
    pub(super) state: Option<String>,
    #[serde(default)]
    pub(super) percent: Option<u16>,
    pub(super) reason: Option<String>,
    pub(super) by: Option<String>,
    pub(super) until: Option<Timestamp>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RemoteShare {
    pub(super) wanted: f64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RemoteAddress {
    #[serde(rename = "address")]
    pub(super) ip: String,
    pub(super) state: String,
    pub(super) since: Option<Timestamp>,
    pub(super) held: bool,
    pub(super) held_until: Option<Timestamp>,
    pub(super) percent: u8,
    pub(super) checks: Vec<RemoteCheck>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RemoteCheck {
    pub(super) name: String,
    pub(super) state: String,
    #[serde(default)]
    pub(super) certificate_expires: Option<Timestamp>,
    #[serde(default)]
    pub(super) void_since: Option<Timestamp>,
    pub(super) last: Option<RemoteOutcome>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RemoteOutcome {
    #[serde(rename = "outcome")]
    pub(super) word: String,
    pub(super) detail: String,
}

impl RemoteCheck {
    /// Whether the last probe said nothing about the backend.
    pub(super) fn is_void(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.word == "void")
    }
}

impl RemoteService {
    pub(super) fn is_troubled(&self) -> bool {
        self.down || self.fail_open
    }

    fn is_named(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.name.eq_ignore_ascii_case(name) || self.unicode_name.as_deref() == Some(name)
    }
}

/// Removes all but one pool with its services, or one service with its pools, from the document of a server.
///
/// # Errors
/// If there is no such pool or service.
pub(super) fn select(document: &mut Value, status: &RemoteStatus, name: &str) -> Result<(), String> {
    let (pools, services): (BTreeSet<&str>, BTreeSet<&str>) =
        if status.pools.iter().any(|pool| pool.name == name) {
            let has_pool = |service: &&RemoteService| service.pools.iter().any(|pool| pool == name);
            let services = status.services.iter().filter(has_pool).map(|service| &*service.name);
            (BTreeSet::from([name]), services.collect())
        } else if let Some(service) = status.services.iter().find(|service| service.is_named(name)) {
            (service.pools.iter().map(|pool| &**pool).collect(), BTreeSet::from([&*service.name]))
        } else {
            let pools = status.pools.iter().map(|pool| &*pool.name);
            let known = pools.chain(status.services.iter().map(|service| &*service.name));
            let meant =
                closest(name, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            return Err(format!("there is no pool or service `{name}`{meant}"));
        };
    for (list, names) in [("pools", pools), ("services", services)] {
        if let Some(entries) = document[list].as_array_mut() {
            entries.retain(|entry| entry["name"].as_str().is_some_and(|name| names.contains(name)));
        }
    }
    Ok(())
}
