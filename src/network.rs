//! Networks: address prefixes, and sets of them with longest-prefix match.
//!
//! Plain data, parsed from text and displayed as text. The owner of a network defines its meaning
//! (a rule, an exemption, a trusted resolver).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::pool::Family;

/// The length of the prefix of IPv4-mapped IPv6 addresses (RFC 4291, section 2.5.5.2).
const MAPPED_LENGTH: u8 = 96;

/// An address prefix, written `192.0.2.0/24` or `2001:db8::/32`.
///
/// IPv4-mapped IPv6 addresses (`::ffff:192.0.2.1`) count as IPv4, in networks and in look-ups: a
/// client is the same if it arrives through a dual-stack socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
// All bits past the prefix are zero, and an IPv4-mapped network is an IPv4 network.
pub struct Network(IpNet);

/// Why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The text before the slash is not an address.
    #[error(
        "`{0}` is not a network: write an address (192.0.2.1, 2001:db8::1) or a prefix (192.0.2.0/24, 2001:db8::/32)"
    )]
    NotAnAddress(String),
    /// The text after the slash is not a valid prefix length.
    #[error("the prefix length of `{text}` must be a number from 0 to {longest}")]
    BadLength {
        /// The whole text.
        text: String,
        /// 32 or 128.
        longest: u8,
    },
    /// The address has bits set after its prefix.
    #[error(
        "`{text}` has address bits beyond its prefix: write `{network}` for the network, or `{address}` for the one address"
    )]
    HostBits {
        /// The whole text.
        text: String,
        /// The network that contains the address.
        network: Network,
        /// The address.
        address: IpAddr,
    },
}

impl Network {
    /// The network that contains all addresses of a family.
    #[must_use]
    pub fn all(family: Family) -> Self {
        Self(match family {
            Family::Ipv4 => Ipv4Net::default().into(),
            Family::Ipv6 => Ipv6Net::default().into(),
        })
    }

    /// The network around `address` with a prefix of `ipv4_length` or `ipv6_length` bits, depending
    /// on the family. A length beyond the width of the address means the address alone.
    #[must_use]
    pub fn around(address: IpAddr, ipv4_length: u8, ipv6_length: u8) -> Self {
        let address = address.to_canonical();
        let length = if address.is_ipv4() { ipv4_length } else { ipv6_length };
        Self(IpNet::new(address, length).map_or(address.into(), |network| network.trunc()))
    }

    /// The lowest address of the network.
    #[must_use]
    pub fn first(self) -> IpAddr {
        self.0.network()
    }

    /// The highest address of the network.
    #[must_use]
    pub fn last(self) -> IpAddr {
        self.0.broadcast()
    }

    /// The prefix length in bits: 0 to 32 for IPv4, 0 to 128 for IPv6.
    #[must_use]
    pub fn length(self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether the network contains `address`.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (written, digits) =
            text.split_once('/').map_or((text, None), |(written, digits)| (written, Some(digits)));
        let written: IpAddr = written.parse().map_err(|_| NetworkError::NotAnAddress(text.into()))?;
        let alone = IpNet::from(written);
        let exact = match digits {
            None => alone,
            // Accepts only one notation for a length: no sign, no leading zero.
            Some(digits) => Some(digits)
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .filter(|digits| digits.len() == 1 || !digits.starts_with('0'))
                .and_then(|digits| IpNet::new(written, digits.parse().ok()?).ok())
                .ok_or_else(|| NetworkError::BadLength {
                    text: text.into(),
                    longest: alone.max_prefix_len(),
                })?,
        };
        let network = Self(unmapped(exact.trunc()));
        if exact == exact.trunc() {
            Ok(network)
        } else {
            Err(NetworkError::HostBits { text: text.into(), network, address: written.to_canonical() })
        }
    }
}

impl fmt::Display for Network {
    /// The text parses back to the same network. A single address has no length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.first())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

/// Converts an IPv4-mapped network to its IPv4 network; returns any other unchanged.
fn unmapped(network: IpNet) -> IpNet {
    let length = network.prefix_len().checked_sub(MAPPED_LENGTH);
    match (network.network().to_canonical(), length) {
        (IpAddr::V4(first), Some(length)) if network.network().is_ipv6() => {
            Ipv4Net::new(first, length).map_or(network, IpNet::from)
        }
        _ => network,
    }
}

/// A set of networks with longest-prefix match.
///
/// Two networks are nested or disjoint, so they cut the address space into ranges, each with one
/// most specific network. A look-up bisects these ranges: it allocates nothing, and takes about ten
/// steps for a thousand networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Sorted, without duplicates.
    members: Box<[Network]>,
    ipv4: Ranges,
    ipv6: Ranges,
}

impl Networks {
    /// The most specific network that contains `address`.
    #[must_use]
    pub fn longest_match(&self, address: IpAddr) -> Option<Network> {
        let index = match address.to_canonical() {
            IpAddr::V4(address) => self.ipv4.find(address.to_bits().into()),
            IpAddr::V6(address) => self.ipv6.find(address.to_bits()),
        }?;
        self.members.get(index).copied()
    }

    /// Whether any network contains `address`.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.longest_match(address).is_some()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The networks: IPv4 first, by address, then from wide to narrow, without duplicates.
    pub fn iter(&self) -> impl Iterator<Item = Network> {
        self.members.iter().copied()
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let mut networks: Vec<Network> = networks.into_iter().collect();
        networks.sort_unstable();
        networks.dedup();
        let bounds = |ipv4| {
            networks
                .iter()
                .enumerate()
                .filter(move |(_, network)| network.first().is_ipv4() == ipv4)
                .map(|(index, network)| Bounds::of(index, *network))
        };
        let (ipv4, ipv6) = (Ranges::new(bounds(true)), Ranges::new(bounds(false)));
        Self { members: networks.into_boxed_slice(), ipv4, ipv6 }
    }
}

impl fmt::Display for Networks {
    /// The networks, separated by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{network}")?;
        }
        Ok(())
    }
}

/// The lowest and highest address of a network as numbers, and its index.
struct Bounds {
    first: u128,
    last: u128,
    index: usize,
}

impl Bounds {
    fn of(index: usize, network: Network) -> Self {
        let number = |address| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        Self { first: number(network.first()), last: number(network.last()), index }
    }
}

/// The address space of one family, cut where the most specific network changes: the start of each
/// range and the index of its network. A range ends where the next one starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<(u128, Option<usize>)>);

impl Ranges {
    /// Takes the bounds in ascending order of the first address; if it is equal, the wider network
    /// first.
    fn new(networks: impl Iterator<Item = Bounds>) -> Self {
        let mut ranges = Self::default();
        // The networks that contain the current position, widest first.
        let mut open: Vec<Bounds> = Vec::new();
        for network in networks {
            ranges.close(&mut open, |last| last < network.first);
            ranges.begin(network.first, Some(network.index));
            open.push(network);
        }
        ranges.close(&mut open, |_| true);
        ranges
    }

    /// Closes the innermost open networks whose last address satisfies `over`. After each of them,
    /// a range of the network around it begins.
    fn close(&mut self, open: &mut Vec<Bounds>, over: impl Fn(u128) -> bool) {
        while let Some(ended) = open.pop_if(|network| over(network.last)) {
            if let Some(next) = ended.last.checked_add(1) {
                self.begin(next, open.last().map(|around| around.index));
            }
        }
    }

    fn begin(&mut self, first: u128, network: Option<usize>) {
        match self.0.last_mut() {
            Some(range) if range.0 == first => range.1 = network,
            _ => self.0.push((first, network)),
        }
    }

    fn find(&self, address: u128) -> Option<usize> {
        let after = self.0.partition_point(|&(first, _)| first <= address);
        self.0.get(after.checked_sub(1)?)?.1
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_read_is_written_back() {
        for text in ["192.0.2.0/24", "0.0.0.0/0", "::/0", "2001:db8::/32", "192.0.2.1", "2001:db8::1"] {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(network("192.0.2.1/32").to_string(), "192.0.2.1");
        assert_eq!(network("::ffff:192.0.2.0/120").to_string(), "192.0.2.0/24");
        assert_eq!(network("::ffff:192.0.2.1").to_string(), "192.0.2.1");
        assert_eq!(network("::ffff:0:0/96").to_string(), "0.0.0.0/0");
        assert_eq!(network("::fffe:0:0/95").to_string(), "::fffe:0:0/95");
    }

    #[test]
    fn errors_say_what_to_write() {
        let error = |text: &str| text.parse::<Network>().unwrap_err().to_string();
        for text in ["", "/", "x", "192.0.2/24", "192.0.2.01", " 192.0.2.1", "fe80::1%eth0", "any"] {
            assert!(
                error(text).starts_with(&format!("`{text}` is not a network: write an address")),
                "{text}"
            );
        }
        for text in ["192.0.2.0/33", "192.0.2.0/", "192.0.2.0/024", "192.0.2.0/+8", "192.0.2.0/8/8"] {
            assert_eq!(error(text), format!("the prefix length of `{text}` must be a number from 0 to 32"));
        }
        for text in ["::/129", "::/-1", "::/256", "::/1000"] {
            assert_eq!(error(text), format!("the prefix length of `{text}` must be a number from 0 to 128"));
        }
        assert_eq!(
            error("192.0.2.7/24"),
            "`192.0.2.7/24` has address bits beyond its prefix: write `192.0.2.0/24` for the network, \
             or `192.0.2.7` for the one address"
        );
        assert!(error("2001:db8::1/32").contains("write `2001:db8::/32` for the network"));
        assert!(
            error("::ffff:192.0.2.7/120").contains("write `192.0.2.0/24` for the network, or `192.0.2.7`")
        );
    }

    #[test]
    fn a_mapped_address_is_ipv4() {
        let mapped = address("::ffff:192.0.2.1");
        assert!(network("192.0.2.0/24").contains(mapped));
        assert!(!network("::/0").contains(mapped));
        assert!(!network("::/0").contains(address("192.0.2.1")));
        let set = Networks::from_iter([network("::/0"), network("192.0.2.0/24")]);
        assert_eq!(set.longest_match(mapped), Some(network("192.0.2.0/24")));
        assert!(!set.contains(address("::ffff:198.51.100.1")));
        assert_eq!(Network::around(mapped, 24, 56), network("192.0.2.0/24"));
    }

    #[test]
    fn the_network_around_an_address() {
        assert_eq!(Network::around(address("192.0.2.77"), 24, 56), network("192.0.2.0/24"));
        assert_eq!(Network::around(address("2001:db8:1:2ff::1"), 24, 56), network("2001:db8:1:200::/56"));
        assert_eq!(Network::around(address("192.0.2.77"), 200, 200), network("192.0.2.77"));
        assert_eq!(Network::around(address("192.0.2.77"), 0, 0), network("0.0.0.0/0"));
    }

    #[test]
    fn the_ends_of_the_address_space() {
        let set: Networks = ["0.0.0.0/0", "255.255.255.255", "0.0.0.0", "::/0", "ff00::/8"]
            .map(network)
            .into_iter()
            .collect();
        for (address_text, expected) in [
            ("0.0.0.0", "0.0.0.0"),
            ("0.0.0.1", "0.0.0.0/0"),
            ("255.255.255.254", "0.0.0.0/0"),
            ("255.255.255.255", "255.255.255.255"),
            ("::", "::/0"),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ff00::/8"),
            ("feff::", "::/0"),
        ] {
            assert_eq!(set.longest_match(address(address_text)), Some(network(expected)), "{address_text}");
        }
        assert!(Networks::default().is_empty());
        assert!(!Networks::default().contains(address("::1")));
        assert_eq!(set.to_string(), "0.0.0.0/0, 0.0.0.0, 255.255.255.255, ::/0, ff00::/8");
    }

    /// Networks with few distinct bits, so that they nest, touch and repeat.
    fn any_network() -> impl Strategy<Value = Network> {
        (any_address(), 0..=128_u8)
            .prop_map(|(address, length)| Network::around(address, length % 33, length))
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        let crowded = prop::sample::select(vec![0_u8, 1, 2, 127, 128, 254, 255]);
        (any::<bool>(), any::<bool>(), prop::array::uniform16(crowded)).prop_map(|(ipv4, low, bytes)| {
            let [a, b, c, d, ..] = bytes;
            match (ipv4, low) {
                (true, _) => IpAddr::from([a, b, c, d]),
                (false, true) => IpAddr::from(u128::from(u32::from_be_bytes([a, b, c, d])).to_be_bytes()),
                (false, false) => IpAddr::from(bytes),
            }
        })
    }

    /// The bits as text. This shares nothing with the code under test.
    fn bits(address: IpAddr) -> String {
        match address.to_canonical() {
            IpAddr::V4(address) => format!("{:032b}", u32::from(address)),
            IpAddr::V6(address) => format!("{:0128b}", u128::from(address)),
        }
    }

    fn holds(network: Network, address: IpAddr) -> bool {
        let (prefix, all) = (bits(network.first()), bits(address));
        prefix.len() == all.len() && prefix[..network.length().into()] == all[..network.length().into()]
    }

    proptest! {
        #[test]
        fn one_network_against_the_model(network in any_network(), address in any_address()) {
            prop_assert_eq!(network.contains(address), holds(network, address));
            prop_assert!(network.contains(network.first()));
            prop_assert_eq!(network.to_string().parse(), Ok(network));
        }

        #[test]
        fn a_set_against_the_model(
            networks in prop::collection::vec(any_network(), 0..16),
            addresses in prop::collection::vec(any_address(), 20),
        ) {
            let set: Networks = networks.iter().copied().collect();
            // Errors of a bisection show first at the edges of networks.
            let edges = networks.iter().flat_map(|network| edges(*network));
            for address in addresses.iter().copied().chain(edges) {
                let model = networks
                    .iter()
                    .copied()
                    .filter(|network| holds(*network, address))
                    .max_by_key(|network| network.length());
                prop_assert_eq!(set.longest_match(address), model, "{} in {}", address, set);
            }
        }
    }

    /// The first and last address of a network and their neighbours outside.
    fn edges(network: Network) -> Vec<IpAddr> {
        match network.first() {
            IpAddr::V4(first) => {
                let (first, hosts) =
                    (first.to_bits(), u32::MAX.checked_shr(network.length().into()).unwrap_or(0));
                let last = first | hosts;
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                    .map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
                    .to_vec()
            }
            IpAddr::V6(first) => {
                let (first, hosts) =
                    (first.to_bits(), u128::MAX.checked_shr(network.length().into()).unwrap_or(0));
                let last = first | hosts;
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                    .map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
                    .to_vec()
            }
        }
    }
}
