//! EDNS Client Subnet (RFC 7871): strict parsing, and the reply option with its scope.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::network::Network;

/// The longest option, bytes: family, two prefix lengths, an IPv6 address.
pub const LONGEST: usize = 20;

/// The length of the prefix of IPv4-mapped addresses (RFC 4291, section 2.5.5.2).
const MAPPED: u8 = 96;

/// A client subnet as sent by a resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSubnet {
    /// 1 for IPv4, 2 for IPv6.
    family: u16,
    /// The number of leading address bits that were sent.
    source: u8,
    address: [u8; 16],
}

impl ClientSubnet {
    /// Parses the option of a query. Returns `None` if it violates RFC 7871, section 6: an unknown
    /// family, a prefix longer than the address, a nonzero scope, more or fewer bytes than the
    /// prefix needs, or bits set after the prefix.
    #[must_use]
    pub fn read(option: &[u8]) -> Option<Self> {
        let (&[f0, f1, source, scope], sent) = option.split_first_chunk::<4>()?;
        let family = u16::from_be_bytes([f0, f1]);
        let bits = match family {
            1 => 32,
            2 => 128,
            _ => return None,
        };
        if source > bits || scope != 0 || sent.len() != usize::from(source).div_ceil(8) {
            return None;
        }
        let mut address = [0; 16];
        address.get_mut(..sent.len())?.copy_from_slice(sent);
        let past = source % 8;
        let excess = if past == 0 { 0 } else { sent.last().copied().unwrap_or(0) << past };
        (excess == 0).then_some(Self { family, source, address })
    }

    /// The subnet of `source` bits that contains an address. A length beyond the width of the address means the
    /// address alone.
    #[must_use]
    pub fn of(address: IpAddr, source: u8) -> Self {
        let network = Network::around(address, source, source);
        let mut bytes = [0; 16];
        let family = match network.first() {
            IpAddr::V4(address) => {
                if let Some(first) = bytes.first_chunk_mut() {
                    *first = address.octets();
                }
                1
            }
            IpAddr::V6(address) => {
                bytes = address.octets();
                2
            }
        };
        Self { family, source: network.length(), address: bytes }
    }

    /// The number of leading address bits that were sent.
    #[must_use]
    pub fn source(&self) -> u8 {
        self.source
    }

    /// The address of the subnet, with zeros after the prefix.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        let [a, b, c, d, ..] = self.address;
        if self.family == 1 {
            Ipv4Addr::from([a, b, c, d]).into()
        } else {
            Ipv6Addr::from(self.address).into()
        }
    }

    /// The address for which the answer is made; `None` if the resolver has sent no bit of it. Then nothing may be
    /// assumed about the client, and the answer is made for the resolver.
    #[must_use]
    pub fn client(&self) -> Option<IpAddr> {
        (self.source > 0).then(|| self.address().to_canonical())
    }

    /// The scope of an answer that depends on this many leading bits of [`ClientSubnet::client`]. An IPv4-mapped
    /// address has the bits of its IPv4 address at the end.
    #[must_use]
    pub fn scope(&self, bits: u8) -> u8 {
        match self.client() {
            Some(client) if bits > 0 && client != self.address() => MAPPED + bits.min(32),
            Some(_) => bits,
            None => 0,
        }
    }

    /// The number of bytes that [`ClientSubnet::write`] returns.
    #[must_use]
    pub fn length(&self) -> usize {
        4 + usize::from(self.source).div_ceil(8)
    }

    /// The option of a reply: the subnet as sent, and the prefix length for which the answer is
    /// valid.
    #[must_use]
    pub fn write(&self, scope: u8) -> ([u8; LONGEST], usize) {
        let mut option = [0; LONGEST];
        let [f0, f1] = self.family.to_be_bytes();
        if let Some((head, address)) = option.split_first_chunk_mut::<4>() {
            *head = [f0, f1, self.source, scope];
            address.copy_from_slice(&self.address);
        }
        (option, self.length())
    }
}

impl Display for ClientSubnet {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(), self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_options_come_back_with_the_scope() {
        for (option, address) in [
            (&[0, 1, 24, 0, 192, 0, 2][..], "192.0.2.0"),
            (&[0, 1, 0, 0], "0.0.0.0"),
            (&[0, 1, 32, 0, 192, 0, 2, 1], "192.0.2.1"),
            (&[0, 1, 20, 0, 192, 0, 0x20], "192.0.32.0"),
            (&[0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 1], "2001:db8:0:100::"),
            (&[0, 2, 0, 0], "::"),
        ] {
            let subnet = ClientSubnet::read(option).unwrap();
            assert_eq!(subnet.address().to_string(), address);
            let (written, length) = subnet.write(16);
            let mut expected = option.to_vec();
            expected[3] = 16;
            assert_eq!(written[..length], expected);
        }
    }

    #[test]
    fn scopes_count_the_bits_of_the_option() {
        let mapped = &[0, 2, 120, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2][..];
        for (option, client, bits, scope) in [
            (&[0, 1, 24, 0, 192, 0, 2][..], Some("192.0.2.0"), 24, 24),
            (&[0, 1, 20, 0, 192, 0, 0x20], Some("192.0.32.0"), 24, 24),
            (&[0, 1, 0, 0], None, 24, 0),
            (&[0, 2, 0, 0], None, 56, 0),
            (&[0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 1], Some("2001:db8:0:100::"), 48, 48),
            (mapped, Some("192.0.2.0"), 24, 120),
            (mapped, Some("192.0.2.0"), 0, 0),
        ] {
            let subnet = ClientSubnet::read(option).unwrap();
            assert_eq!(subnet.client(), client.map(|client| client.parse().unwrap()), "{option:?}");
            assert_eq!(subnet.scope(bits), scope, "{option:?}");
        }
    }

    #[test]
    fn bad_options_are_refused() {
        for option in [
            &[][..],
            &[0, 1, 24],
            &[0, 0, 0, 0],
            &[0, 3, 0, 0],
            &[0, 1, 33, 0, 1, 2, 3, 4, 5],
            &[0, 1, 24, 1, 192, 0, 2],
            &[0, 1, 24, 0, 192, 0],
            &[0, 1, 24, 0, 192, 0, 2, 0],
            &[0, 1, 23, 0, 192, 0, 3],
            &[0, 2, 129, 0],
        ] {
            assert_eq!(ClientSubnet::read(option), None, "{option:?}");
        }
    }
}
