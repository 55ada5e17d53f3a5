//! Settings that every answer depends on besides zones, services and health: sizes, identity, cookies, whom
//! to believe, who may have a whole zone.
//!
//! Plain data, part of the published table, so that a change of it is seen with all else.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use crate::cookie::CookieSecrets;
use crate::keys::Keys;
use crate::name::Name;
use crate::network::Networks;

/// The largest UDP reply unless configured otherwise, bytes (DNS Flag Day 2020).
pub const DEFAULT_UDP_PAYLOAD: u16 = 1232;
/// The longest NSID text, bytes.
pub const MAX_NSID: usize = 128;

/// The settings that answers depend on: those of `[server]`, the keys, and the rights to zones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The largest UDP reply, 512 to 4096 bytes.
    pub udp_payload: u16,
    /// The answer to NSID (RFC 5001), at most [`MAX_NSID`] bytes.
    pub nsid: Option<Box<[u8]>>,
    /// Server cookies (RFC 7873); without, the option is ignored.
    pub cookies: Option<Cookies>,
    /// Resolvers whose client-subnet option is believed and answered (RFC 7871).
    pub client_subnet: Networks,
    /// The answer to questions of class CH.
    pub chaos: Chaos,
    /// How long a TCP connection may be idle, in units of 100 ms: the unit of RFC 7828.
    pub tcp_idle: u16,
    /// Signatures, and whole zones.
    pub transfers: Transfers,
}

/// Server cookies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookies {
    /// The secrets they are made with.
    pub secrets: CookieSecrets,
    /// Whether a UDP client must prove its address: an unproven one gets BADCOOKIE, one without
    /// cookies is sent to TCP.
    pub required: bool,
}

/// The clients that may transfer each zone, and the secondaries notified of its changes; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// All keys of the configuration.
    pub keys: Keys,
    /// The clients that may have a zone, by the zone's name.
    pub zones: HashMap<Name, Allowed>,
    /// The secondaries notified that a zone has changed, by the zone's name.
    pub secondaries: HashMap<Name, Vec<Secondary>>,
}

/// A server that has a copy of a zone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Secondary {
    /// Where it is told.
    pub address: SocketAddr,
    /// The name of the key that it is told with.
    pub key: Option<Name>,
}

/// The clients that may transfer a zone: those in one of the networks, or with one of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// By address, without a key.
    pub networks: Networks,
    /// By the names of keys, from anywhere.
    pub keys: HashSet<Name>,
}

impl Transfers {
    /// Whether a client may have the zone of this name (wire form), by its address or by the key
    /// that it has proved to hold.
    #[must_use]
    pub fn allows(&self, zone: &[u8], client: IpAddr, key: Option<&Name>) -> bool {
        let allowed = Name::from_wire(zone).and_then(|zone| self.zones.get(&zone));
        allowed.is_some_and(|allowed| {
            allowed.networks.contains(client) || key.is_some_and(|key| allowed.keys.contains(key))
        })
    }
}

/// The answer to `version.bind` and its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chaos {
    /// REFUSED.
    Refuse,
    /// The version of the server, and the NSID text as its name.
    Version,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            udp_payload: DEFAULT_UDP_PAYLOAD,
            nsid: None,
            cookies: None,
            client_subnet: Networks::default(),
            chaos: Chaos::Refuse,
            tcp_idle: 100,
            transfers: Transfers::default(),
        }
    }
}
