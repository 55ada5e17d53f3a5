//! The geography of addresses as a database has it: which country, continent and autonomous system each belongs to.
//!
//! A layer is one database, reduced to the fields that rules ask for. It is needed only while rules are compiled.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Continent, Country};
use crate::network::Network;

/// Facts about an address. A database may know some of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GeoRecord {
    /// The country.
    pub country: Option<Country>,
    /// The continent.
    pub continent: Option<Continent>,
    /// The number of the autonomous system.
    pub asn: Option<u32>,
}

impl GeoRecord {
    /// The same facts, completed by those of another database.
    #[must_use]
    pub(super) fn or(self, other: &Self) -> Self {
        Self {
            country: self.country.or(other.country),
            continent: self.continent.or(other.continent),
            asn: self.asn.or(other.asn),
        }
    }

    /// Only the facts that are asked for.
    #[must_use]
    fn only(self, fields: Fields) -> Self {
        Self {
            country: self.country.filter(|_| fields.country),
            continent: self.continent.filter(|_| fields.continent),
            asn: self.asn.filter(|_| fields.asn),
        }
    }
}

/// Fields of [`GeoRecord`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// [`GeoRecord::country`].
    pub country: bool,
    /// [`GeoRecord::continent`].
    pub continent: bool,
    /// [`GeoRecord::asn`].
    pub asn: bool,
}

impl Fields {
    /// The fields that are in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            country: self.country || other.country,
            continent: self.continent || other.continent,
            asn: self.asn || other.asn,
        }
    }
}

/// One database: the address space, cut where the record changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeoLayer {
    /// The first one is empty.
    records: Vec<GeoRecord>,
    ipv4: Vec<(u32, u32)>,
    ipv6: Vec<(u128, u32)>,
    /// Whether no network divides a /64.
    wide: bool,
}

impl GeoLayer {
    /// The first address of each range of IPv4 addresses, with the index of its record. Addresses before the first
    /// range have no record.
    pub(super) fn ipv4(&self) -> impl Iterator<Item = (u32, u32)> {
        self.ipv4.iter().copied()
    }

    /// The same for IPv6 addresses.
    pub(super) fn ipv6(&self) -> impl Iterator<Item = (u128, u32)> {
        self.ipv6.iter().copied()
    }

    pub(super) fn record(&self, index: u32) -> GeoRecord {
        self.records.get(index as usize).copied().unwrap_or_default()
    }

    pub(super) fn has_wide_networks(&self) -> bool {
        self.wide
    }
}

/// Why a network cannot follow in a layer: networks of one family must be disjoint and in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its networks are not in order: {0} begins before the end of the network before it")]
pub struct LayerError(Network);

/// Collects the networks of a database.
#[derive(Debug)]
pub struct LayerBuilder {
    fields: Fields,
    layer: GeoLayer,
    indices: HashMap<GeoRecord, u32>,
    /// The first address that no network has yet; `None` at the end of the family.
    ipv4: Option<u32>,
    ipv6: Option<u128>,
}

impl LayerBuilder {
    /// A layer that keeps these fields.
    #[must_use]
    pub fn new(fields: Fields) -> Self {
        let empty = GeoRecord::default();
        Self {
            fields,
            layer: GeoLayer { records: vec![empty], ipv4: Vec::new(), ipv6: Vec::new(), wide: true },
            indices: HashMap::from([(empty, 0)]),
            ipv4: Some(0),
            ipv6: Some(0),
        }
    }

    /// Adds the record of a network, which must lie after those of its family that were added before.
    ///
    /// # Errors
    /// If it does not.
    pub fn add(&mut self, network: Network, record: GeoRecord) -> Result<(), LayerError> {
        let record = record.only(self.fields);
        let Self { layer, indices, .. } = self;
        let index = *indices.entry(record).or_insert_with(|| {
            layer.records.push(record);
            u32::try_from(layer.records.len() - 1).unwrap_or(0)
        });
        match (network.first(), network.last()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                let free = self.ipv4.filter(|free| *free <= first.to_bits()).ok_or(LayerError(network))?;
                put(&mut layer.ipv4, free, first.to_bits(), index);
                self.ipv4 = last.to_bits().checked_add(1);
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                let free = self.ipv6.filter(|free| *free <= first.to_bits()).ok_or(LayerError(network))?;
                put(&mut layer.ipv6, free, first.to_bits(), index);
                self.ipv6 = last.to_bits().checked_add(1);
                // A network without a record of its own cuts nothing.
                layer.wide &= network.length() <= 64 || index == 0;
            }
            _ => {}
        }
        Ok(())
    }

    /// The layer of all networks.
    #[must_use]
    pub fn finish(mut self) -> GeoLayer {
        if let Some(free) = self.ipv4 {
            begin(&mut self.layer.ipv4, free, 0);
        }
        if let Some(free) = self.ipv6 {
            begin(&mut self.layer.ipv6, free, 0);
        }
        self.layer
    }
}

/// Begins a range at `first`, and before it one without a record if addresses from `free` on have none.
fn put<A: Copy + Ord>(ranges: &mut Vec<(A, u32)>, free: A, first: A, index: u32) {
    if free < first {
        begin(ranges, free, 0);
    }
    begin(ranges, first, index);
}

fn begin<A>(ranges: &mut Vec<(A, u32)>, first: A, index: u32) {
    if ranges.last().map_or(0, |(_, last)| *last) != index {
        ranges.push((first, index));
    }
}
