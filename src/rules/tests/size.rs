//! A million networks: the memory that they take.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::network::Network;
use crate::rules::{Conditions, RuleTable};

const NETWORKS: u32 = 1_000_000;
/// The bound on the memory of a table of [`NETWORKS`] networks.
const MOST_BYTES: usize = 64 << 20;

/// Networks of `length` bits with gaps between them, so that none unite.
fn networks(length: u8) -> Vec<Network> {
    (0..NETWORKS)
        .map(|index| {
            let address: IpAddr = if length <= 32 {
                Ipv4Addr::from_bits(index << 9).into()
            } else {
                Ipv6Addr::from_bits((0x2001 << 112) | (u128::from(index) << (129 - length))).into()
            };
            Network::around(address, length, length)
        })
        .collect()
}

#[test]
fn a_million_networks_take_less_than_64_mebibytes() {
    for (length, ipv6_length) in [(24, None), (0, Some(64)), (0, Some(128))] {
        let networks = networks(ipv6_length.unwrap_or(length));
        let some: Vec<Network> = networks.iter().step_by(99_991).copied().collect();
        let table =
            RuleTable::compile(&[Conditions { networks: Some(networks), ..Conditions::default() }], &[]);
        assert!(table.ranges() >= 2 * NETWORKS as usize, "{table:?}");
        assert!(table.bytes() < MOST_BYTES, "{} bytes", table.bytes());
        for network in some {
            let found = table.find(network.first());
            assert_eq!((found.rule, found.scope), (Some(0), network.length()));
        }
    }
}
