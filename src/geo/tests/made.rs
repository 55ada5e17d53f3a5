//! Makes databases in the format of MaxMind for tests.

use std::net::IpAddr;

use crate::network::Network;
use crate::rules::{Continent, Country, GeoRecord};

/// When the databases were made, seconds since 1970.
pub(super) const BUILT: u64 = 1_790_000_000;

/// A database that knows the country and continent of one network.
pub(crate) fn countries() -> Vec<u8> {
    let record = GeoRecord { country: Country::known("DE"), continent: Continent::known("EU"), asn: None };
    database(&[("192.0.2.0/24".parse().unwrap(), record)], 4, 24)
}

/// A database with these networks, which must be disjoint.
pub(super) fn database(networks: &[(Network, GeoRecord)], version: u16, size: u16) -> Vec<u8> {
    // Records of the tree: another node, data (with its offset), or nothing.
    #[derive(Clone, Copy)]
    enum Leaf {
        None,
        Node(usize),
        Data(usize),
    }
    let mut nodes = vec![[Leaf::None; 2]];
    let mut data = Vec::new();
    for (network, record) in networks {
        let (bits, length) = match (network.first(), version) {
            (IpAddr::V4(first), 6) => (u128::from(first.to_bits()), 96 + network.length()),
            (IpAddr::V4(first), _) => (u128::from(first.to_bits()) << 96, network.length()),
            (IpAddr::V6(first), _) => (first.to_bits(), network.length()),
        };
        let bit = |index: u8| usize::from(bits >> (127 - index) & 1 == 1);
        let mut node = 0;
        for index in 0..length - 1 {
            node = match nodes[node][bit(index)] {
                Leaf::Node(next) => next,
                _ => {
                    nodes.push([Leaf::None; 2]);
                    let next = nodes.len() - 1;
                    nodes[node][bit(index)] = Leaf::Node(next);
                    next
                }
            };
        }
        nodes[node][bit(length - 1)] = Leaf::Data(data.len());
        data.extend(encoded(record));
    }
    let count = nodes.len();
    let number = |leaf: Leaf| {
        u32::try_from(match leaf {
            Leaf::None => count,
            Leaf::Node(next) => next,
            // The separator has 16 bytes.
            Leaf::Data(offset) => count + 16 + offset,
        })
        .unwrap()
    };
    let nodes: Vec<[u32; 2]> = nodes.into_iter().map(|node| node.map(number)).collect();
    of_nodes(&nodes, &data, version, size)
}

/// A database with this search tree and data.
pub(super) fn of_nodes(nodes: &[[u32; 2]], data: &[u8], version: u16, size: u16) -> Vec<u8> {
    let node = |[left, right]: &[u32; 2]| -> Vec<u8> {
        let [left, right] = [left, right].map(|record| record.to_be_bytes());
        match size {
            24 => [&left[1..], &right[1..]].concat(),
            28 => [&left[1..], &[left[0] << 4 | right[0]], &right[1..]].concat(),
            _ => [left, right].concat(),
        }
    };
    let mut bytes: Vec<u8> = nodes.iter().flat_map(node).collect();
    bytes.extend([0; 16]);
    bytes.extend(data);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    let count = u32::try_from(nodes.len()).unwrap();
    let metadata: [(&str, Vec<u8>); 9] = [
        ("binary_format_major_version", number(5, &2_u16.to_be_bytes())),
        ("binary_format_minor_version", number(5, &0_u16.to_be_bytes())),
        ("build_epoch", number(9, &BUILT.to_be_bytes())),
        ("database_type", text("Test")),
        ("description", map(&[])),
        ("ip_version", number(5, &version.to_be_bytes())),
        // An array without elements: an extended type.
        ("languages", vec![0, 11 - 7]),
        ("node_count", number(6, &count.to_be_bytes())),
        ("record_size", number(5, &size.to_be_bytes())),
    ];
    bytes.extend(map(&metadata));
    bytes
}

fn encoded(record: &GeoRecord) -> Vec<u8> {
    let coded = |key: &str, code: String| map(&[(key, text(&code))]);
    let mut fields = Vec::new();
    fields.extend(record.country.map(|it| ("country", coded("iso_code", it.to_string()))));
    fields.extend(record.continent.map(|it| ("continent", coded("code", it.to_string()))));
    fields.extend(record.asn.map(|it| ("autonomous_system_number", number(6, &it.to_be_bytes()))));
    map(&fields)
}

fn control(kind: u8, length: usize) -> Vec<u8> {
    let length = u8::try_from(length).unwrap();
    assert!(length < 29, "longer values have another form");
    if kind > 7 { vec![length, kind - 7] } else { vec![kind << 5 | length] }
}

fn number(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [control(kind, bytes.len()), bytes.to_vec()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [control(2, text.len()), text.as_bytes().to_vec()].concat()
}

fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let content = entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat());
    control(7, entries.len()).into_iter().chain(content).collect()
}
