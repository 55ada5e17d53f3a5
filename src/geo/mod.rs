//! The files that rules name: lists of networks, and geographic databases in the format of MaxMind.
//!
//! Reads them, and compiles rules with what they say. `rules` has the compiled form; `config` reports faults at the place
//! that names a file, and `reload` reads replaced files again.

mod database;
mod list;
mod sources;
mod tree;
#[cfg(test)]
pub(crate) mod tests;

pub use database::{DatabaseError, GeoDatabase};
pub use list::{ListFault, read_list};
pub use sources::{RuleFiles, RuleSources, SourceFault, SourceRule};

/// Maximum size of a list of networks, bytes: more than a million of the longest ones.
pub const LIST: u64 = 64 << 20;
/// Maximum size of a geographic database, bytes. The largest of MaxMind has about 500 MiB.
pub const DATABASE: u64 = 1 << 30;
/// The most databases of a configuration.
pub const MAX_DATABASES: usize = 16;
