//! A geographic database in the format of MaxMind, reduced to what rules ask for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use maxminddb::{LookupResult, MaxMindDbError, PathElement, Reader, WithinOptions};

use super::tree::{SearchTree, TreeError};
use crate::network::Network;
use crate::rules::{Continent, Country, Fields, GeoLayer, GeoRecord, LayerBuilder, LayerError};

/// The most networks that a database may lead to: ten times as many as the largest ones of MaxMind have.
const MAX_NETWORKS: u32 = 1 << 26;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file is damaged, or has another format.
    #[error("it is not a database in the format of MaxMind: {0}; take a complete copy of the .mmdb file")]
    Format(#[from] MaxMindDbError),
    /// The search tree is damaged.
    #[error("it is damaged: {0}; take a complete copy of the .mmdb file")]
    Tree(#[from] TreeError),
    /// The search tree leads to too many networks.
    #[error("its search tree leads to more than {MAX_NETWORKS} networks, the most that are read")]
    Large,
    /// Its networks overlap.
    #[error("it is damaged: {0}; take a complete copy of the .mmdb file")]
    Order(#[from] LayerError),
}

/// A database.
#[derive(Debug)]
pub struct GeoDatabase {
    /// The networks with what rules ask for.
    pub layer: GeoLayer,
    /// The fields that at least one network has.
    pub fields: Fields,
    /// The number of networks.
    pub networks: usize,
    /// The type that the database gives itself, such as `GeoLite2-Country`.
    pub kind: String,
    /// When it was made, seconds since 1970.
    pub built: u64,
}

impl GeoDatabase {
    /// Reads the content of a file, and keeps only the `wanted` fields.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn read(bytes: &[u8], wanted: Fields) -> Result<Self, DatabaseError> {
        let reader = Reader::from_source(bytes)?;
        let metadata = reader.metadata();
        let tree = SearchTree::new(bytes, metadata.node_count, metadata.record_size);
        if tree.networks()? > MAX_NETWORKS {
            return Err(DatabaseError::Large);
        }
        let mut database = Self {
            layer: LayerBuilder::new(wanted).finish(),
            fields: Fields::default(),
            networks: 0,
            kind: metadata.database_type.clone(),
            built: metadata.build_epoch,
        };
        let mut builder = LayerBuilder::new(wanted);
        let mut records = HashMap::new();
        let families: &[IpAddr] = match metadata.ip_version {
            6 => &[IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
            _ => &[IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
        };
        for all in families.iter().filter_map(|first| IpNetwork::new(*first, 0).ok()) {
            database.add(&reader, all, (&mut builder, &mut records))?;
        }
        database.layer = builder.finish();
        Ok(database)
    }

    /// Adds the networks of one family. Records that several networks share are read once.
    fn add(
        &mut self,
        reader: &Reader<&[u8]>,
        all: IpNetwork,
        (builder, records): (&mut LayerBuilder, &mut HashMap<usize, GeoRecord>),
    ) -> Result<(), DatabaseError> {
        for found in reader.within(all, WithinOptions::default())? {
            let found = found?;
            let Some(offset) = found.offset() else { continue };
            let network = match (all, found.network()?) {
                // A database without IPv4 networks of its own has one for the whole IPv4 part of its IPv6 space.
                (IpNetwork::V4(_), IpNetwork::V6(_)) => Network::around(all.ip(), 0, 0),
                (_, network) => Network::around(network.ip(), network.prefix(), network.prefix()),
            };
            // IPv4 networks and their images in IPv6 space are read with the other family.
            if network.first().is_ipv4() != all.is_ipv4() {
                continue;
            }
            let record = match records.get(&offset) {
                Some(record) => *record,
                None => *records.entry(offset).or_insert(record(&found)?),
            };
            self.networks += 1;
            self.fields = self.fields.or(Fields {
                country: record.country.is_some(),
                continent: record.continent.is_some(),
                asn: record.asn.is_some(),
            });
            builder.add(network, record)?;
        }
        Ok(())
    }
}

/// The facts of a record.
fn record(found: &LookupResult<'_, &[u8]>) -> Result<GeoRecord, MaxMindDbError> {
    let text = |path: [&'static str; 2]| found.decode_path::<&str>(&path.map(PathElement::Key));
    Ok(GeoRecord {
        country: text(["country", "iso_code"])?.and_then(Country::of_database),
        continent: text(["continent", "code"])?.and_then(Continent::of_database),
        asn: number(found, &[PathElement::Key("autonomous_system_number")])?,
    })
}

/// A number, which may be stored in fewer or more bits than it has here.
fn number(found: &LookupResult<'_, &[u8]>, path: &[PathElement<'_>]) -> Result<Option<u32>, MaxMindDbError> {
    found.decode_path::<u32>(path).or_else(|error| {
        let narrow = found.decode_path::<u16>(path).map(|number| number.map(u32::from));
        let wide =
            || found.decode_path::<u64>(path).map(|number| number.and_then(|it| u32::try_from(it).ok()));
        narrow.or_else(|_| wide()).map_err(|_| error)
    })
}
