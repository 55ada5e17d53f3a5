//! `persistence` of a service: which clients get the same answer.

use std::ops::RangeInclusive;

use crate::config::value::TomlValue;
use crate::service::Persistence;

/// A prefix of 0 bits would send all clients of a family to one backend.
const IPV4_LENGTHS: RangeInclusive<u8> = 1..=32;
const IPV6_LENGTHS: RangeInclusive<u8> = 1..=128;

/// Reads the prefix lengths.
pub(super) fn read(value: TomlValue<'_>) -> Option<Persistence> {
    let example = "write `persistence = { ipv4 = 24, ipv6 = 56 }`".to_owned();
    let mut table = value.table_such_as(value.at, Some(example))?;
    let default = Persistence::DEFAULT;
    let ipv4 = table.read("ipv4", |value| value.integer(IPV4_LENGTHS));
    let ipv6 = table.read("ipv6", |value| value.integer(IPV6_LENGTHS));
    table.close();
    Some(Persistence {
        ipv4: ipv4.map_or(default.ipv4, |length| length.value),
        ipv6: ipv6.map_or(default.ipv6, |length| length.value),
    })
}
