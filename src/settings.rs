//! Settings for answers apart from zones, services and health: sizes, identity, cookies, trusted
//! resolvers, rights to zone transfers.
//!
//! Plain data, and part of the published table, so all changes take effect together.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use crate::cookie::CookieSecrets;
use crate::keys::Keys;
use crate::name::Name;
use crate::network::Networks;

/// Default for the largest UDP reply, bytes (DNS Flag Day 2020).
pub const DEFAULT_UDP_PAYLOAD: u16 = 1232;
/// The longest NSID text, bytes.
pub const MAX_NSID: usize = 128;

/// The settings on which answers depend: those of `[server]`, the keys, and the rights to zone
/// transfers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The largest UDP reply, 512 to 4096 bytes.
    pub udp_payload: u16,
    /// The NSID of this server (RFC 5001), at most [`MAX_NSID`] bytes.
    pub nsid: Option<Box<[u8]>>,
    /// Server cookies (RFC 7873); `None` ignores the option.
    pub cookies: Option<Cookies>,
    /// Resolvers whose client-subnet option is used and answered (RFC 7871).
    pub client_subnet: Networks,
    /// The answer to queries of class CH.
    pub chaos: Chaos,
    /// Idle timeout of a TCP connection in units of 100 ms, the unit of RFC 7828.
    pub tcp_idle: u16,
    /// Keys and rights to zone transfers.
    pub transfers: Transfers,
}

/// The configuration of server cookies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookies {
    /// The secrets of the cookies.
    pub secrets: CookieSecrets,
    /// Whether a UDP client must prove its address. If a cookie does not prove it, the client gets
    /// BADCOOKIE; a client without cookies is sent to TCP.
    pub required: bool,
}

/// Rights to zone transfers, and the secondaries to notify of changes; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// All keys of the configuration.
    pub keys: Keys,
    /// The clients that may transfer a zone, by the zone's name.
    pub zones: HashMap<Name, Allowed>,
    /// The secondaries to notify of a change, by the zone's name.
    pub secondaries: HashMap<Name, Vec<Secondary>>,
}

/// A server that holds a copy of a zone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Secondary {
    /// The address to notify.
    pub address: SocketAddr,
    /// The name of the key that signs the notification.
    pub key: Option<Name>,
}

/// The clients that may transfer a zone: those in one of the networks, and those with one of the
/// keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Allowed by address, without a key.
    pub networks: Networks,
    /// Allowed by key, from any address.
    pub keys: HashSet<Name>,
}

impl Transfers {
    /// Whether a client may transfer the zone of this name (wire form), because of its address, or
    /// because of the key that it has proved to have.
    #[must_use]
    pub fn allows(&self, zone: &[u8], client: IpAddr, key: Option<&Name>) -> bool {
        let allowed = Name::from_wire(zone).and_then(|zone| self.zones.get(&zone));
        allowed.is_some_and(|allowed| {
            allowed.networks.contains(client) || key.is_some_and(|key| allowed.keys.contains(key))
        })
    }
}

/// The answer to `version.bind` and similar queries.
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
