//! Interesting questions about a set of zones: names that exist, and names next to, below or
//! between them.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::support::message::{
    A, AAAA, ANY, CNAME, DNAME, DS, Edns, MX, NS, PTR, Query, Record, SOA, SRV, TXT, Wire, labels, name_of,
    wire,
};

/// Types that are queried at any name. NAPTR, RRSIG, NSEC, DNSKEY, NSEC3, HTTPS and two unassigned
/// types represent all types that most zones lack.
const TYPES: &[u16] = &[
    A, A, A, AAAA, AAAA, NS, NS, SOA, MX, TXT, CNAME, DNAME, DS, DS, SRV, PTR, ANY, 35, 46, 47, 48, 50, 65,
    65280, 62347,
];

/// Payload sizes around all relevant limits.
const PAYLOADS: &[u16] = &[0, 511, 512, 513, 600, 1000, 1231, 1232, 1233, 1452, 4096, 65_535];

/// Labels to put below and beside names.
const LABELS: &[&[u8]] =
    &[b"x", b"www", b"*", b"_tcp", b"ns", b"\x00", b".", b"*a", b"**", b"a b", b"zzzz", b"alias", b"0"];

/// A question for each RRset of the zones.
pub(crate) fn of_every_rrset(records: &BTreeSet<Record>) -> Vec<Query> {
    let rrsets: BTreeSet<_> = records.iter().map(|record| (record.owner.clone(), record.rtype)).collect();
    rrsets.into_iter().map(|(owner, rtype)| Query::plain(owner, rtype)).collect()
}

/// An endless sequence of queries; the same seed gives the same queries.
pub(crate) struct Queries {
    rng: StdRng,
    /// The names in the zones with their types, and names in record data without types.
    names: Vec<(Wire, Vec<u16>)>,
}

impl Queries {
    pub(crate) fn new(seed: u64, records: &BTreeSet<Record>) -> Self {
        let mut names: BTreeMap<Wire, BTreeSet<u16>> = BTreeMap::new();
        for record in records {
            names.entry(record.owner.clone()).or_default().insert(record.rtype);
            if let Some(target) = record.target() {
                names.entry(target.to_vec()).or_default();
            }
        }
        let names = names.into_iter().map(|(name, types)| (name, types.into_iter().collect())).collect();
        Self { rng: StdRng::seed_from_u64(seed), names }
    }

    fn label(&mut self) -> Vec<u8> {
        match self.rng.random_range(0..10) {
            0 => vec![self.rng.random(); self.rng.random_range(1..=63)],
            1 => (0..self.rng.random_range(1..8)).map(|_| self.rng.random()).collect(),
            _ => LABELS.choose(&mut self.rng).unwrap().to_vec(),
        }
    }

    /// A name, and a type that may be there.
    fn name(&mut self) -> (Wire, Option<u16>) {
        let (base, types) = self.names.choose(&mut self.rng).unwrap().clone();
        let present = types.choose(&mut self.rng).copied();
        let mut parts: Vec<Vec<u8>> = labels(&base).into_iter().map(<[u8]>::to_vec).collect();
        match self.rng.random_range(0..100) {
            // The name itself.
            0..45 => {}
            // A name below it.
            45..65 => {
                for _ in 0..self.rng.random_range(1..4) {
                    parts.insert(0, self.label());
                }
            }
            // A name above it: empty non-terminals, apexes.
            65..75 => drop(parts.drain(..self.rng.random_range(0..=parts.len()))),
            // A name next to it, or next to a name above it.
            75..88 => {
                parts.drain(..self.rng.random_range(0..=parts.len()));
                parts.insert(0, self.label());
            }
            // The labels of another name in front of it.
            88..94 => {
                let (other, _) = self.names.choose(&mut self.rng).unwrap();
                let first = labels(other).first().map_or(b"x".to_vec(), |label| label.to_vec());
                parts.insert(0, first);
            }
            // A name of the maximum length.
            94..98 => {
                let room = |parts: &[Vec<u8>]| 254 - parts.iter().map(|part| part.len() + 1).sum::<usize>();
                while room(&parts) >= 2 {
                    let longest = (room(&parts) - 1).min(63);
                    let length = self.rng.random_range(1..=longest);
                    parts.insert(0, vec![b'q'; if self.rng.random() { longest } else { length }]);
                }
            }
            // A name in no zone.
            _ => parts = labels(&wire("some.where.else.invalid")).into_iter().map(<[u8]>::to_vec).collect(),
        }
        while parts.iter().map(|part| part.len() + 1).sum::<usize>() > 254 {
            parts.remove(0);
        }
        (name_of(&parts), present)
    }

    fn qtype(&mut self, present: Option<u16>) -> u16 {
        match self.rng.random_range(0..100) {
            0..40 => present.unwrap_or(A),
            40..98 => *TYPES.choose(&mut self.rng).unwrap(),
            // Any number of a data type (RFC 6895, section 3.1), except OPT.
            _ => *[
                self.rng.random_range(1..41),
                self.rng.random_range(42..128),
                self.rng.random_range(256..65_535),
            ]
            .choose(&mut self.rng)
            .unwrap(),
        }
    }

    fn edns(&mut self) -> Option<Edns> {
        self.rng.random_bool(0.6).then(|| Edns {
            version: u8::from(self.rng.random_bool(0.01)),
            payload: *PAYLOADS.choose(&mut self.rng).unwrap(),
            dnssec_ok: self.rng.random(),
        })
    }
}

impl Iterator for Queries {
    type Item = Query;

    fn next(&mut self) -> Option<Query> {
        let (mut name, present) = self.name();
        if self.rng.random_bool(0.3) {
            // Length bytes are at most 63, below any letter.
            for byte in &mut name {
                *byte = if self.rng.random() { byte.to_ascii_uppercase() } else { *byte };
            }
        }
        Some(Query {
            name,
            qtype: self.qtype(present),
            edns: self.edns(),
            recursion_desired: self.rng.random(),
            checking_disabled: self.rng.random_bool(0.2),
        })
    }
}
