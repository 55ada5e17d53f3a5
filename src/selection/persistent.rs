//! Ranks candidates for one client: the same client always gets the same answer, without any memory of it.
//!
//! This is weighted rendezvous hashing. All steps are in integers, and all constants are public, so every server, and
//! any other program, ranks in the same way:
//!
//! ```text
//! candidate = SipHash-2-4(number as 4 bytes, big-endian; name)
//! client    = SipHash-2-4(4 or 6; prefix length; first address of the prefix, 4 or 16 bytes)
//!             both with the key "steerd selection"
//! u         = mix(candidate xor client) | 1, between 0 and 2^64
//! score     = -log2(u / 2^64) / weight        lowest first
//! mix       = the finalizer of SplitMix64
//! ```
//!
//! Each score is an exponential variable with the rate `weight`, so a candidate of weight `w` is first for exactly `w / W`
//! of all clients. A score depends on one candidate and one client only. So without a candidate all others keep
//! their order, and a new weight of a candidate moves only that one. `logarithm` defines the logarithm. The quotients
//! are compared without rounding, so a common factor of all weights changes nothing.
//!
//! The number counts the addresses of a backend within one family, so the first A and the first AAAA record of a backend
//! have the same key. Sources: Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998; for
//! weights Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005.
//!
//! If sites matter, the best candidate is first, then the best of each site that is not in the answer yet, in rank order,
//! until no site is left; the others follow in rank order.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use super::inclusion::{Candidate, MAX_ANSWERS, Spread};
use super::logarithm::negative_log2;
use super::picked::{Picked, RankedLists};
use super::ranked::{Best, Bound, Ranked};
use crate::network::Network;

/// The key of both hashes. It is public: it only has to be the same everywhere.
const HASH_KEY: &[u8; 16] = b"steerd selection";

/// The hash of a client's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientKey(pub u64);

/// The hash of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CandidateKey(pub u64);

/// Candidates, prepared for ranking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranking {
    /// Those of positive weight.
    candidates: Box<[Keyed]>,
    answers: usize,
    /// The number of sites; 0 if sites cannot change an answer.
    sites: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Keyed {
    key: u64,
    weight: u32,
    site: u32,
    /// Its index in the list of candidates.
    index: u32,
}

impl ClientKey {
    /// The key of the clients in a prefix.
    #[must_use]
    pub fn new(prefix: Network) -> Self {
        let mut hasher = SipHasher24::new_with_key(HASH_KEY);
        let length = prefix.length();
        match prefix.first() {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                hasher.write(&[4, length, a, b, c, d]);
            }
            IpAddr::V6(address) => {
                let mut bytes = [6; 18];
                bytes[1] = length;
                bytes[2..].copy_from_slice(&address.octets());
                hasher.write(&bytes);
            }
        }
        Self(hasher.finish())
    }
}

impl CandidateKey {
    /// The key of an address, by the name of its backend and the number of its addresses of the same family before it.
    #[must_use]
    pub fn new(backend: &str, number: u32) -> Self {
        let mut hasher = SipHasher24::new_with_key(HASH_KEY);
        hasher.write(&number.to_be_bytes());
        hasher.write(backend.as_bytes());
        Self(hasher.finish())
    }
}

/// Whether sites can change an answer.
pub(super) fn sites_matter(spread: Spread, answers: usize, sites: usize, candidates: usize) -> bool {
    spread != Spread::Off && answers > 1 && (2..candidates).contains(&sites)
}

/// The finalizer of `SplitMix64`, a permutation in which each bit depends on all bits. Source: Steele, Lea and Flood, "Fast
/// Splittable Pseudorandom Number Generators", 2014; variant 13 of Stafford, "Better Bit Mixing", 2011.
#[inline]
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

impl Keyed {
    /// The hash for a client: uniform over the odd numbers, the midpoints of equal parts.
    #[inline]
    fn hash(&self, client: ClientKey) -> u64 {
        mix(self.key ^ client.0) | 1
    }

    fn ranked(&self, hash: u64) -> Ranked {
        let Self { key, weight, site, index } = *self;
        Ranked { index, weight, logarithm: negative_log2(hash), site, key }
    }
}

impl Ranking {
    /// Prepares to rank candidates for answers of at most `answers`. Candidates of weight 0 are never chosen.
    #[must_use]
    pub fn new(
        candidates: impl IntoIterator<Item = (CandidateKey, Candidate)>,
        answers: usize,
        spread: Spread,
    ) -> Self {
        let candidates: Box<[Keyed]> = (0..)
            .zip(candidates)
            .filter(|(_, (_, candidate))| candidate.weight > 0)
            .map(|(index, (CandidateKey(key), Candidate { weight, site }))| Keyed {
                key,
                weight,
                site,
                index,
            })
            .collect();
        let answers = answers.min(MAX_ANSWERS).min(candidates.len());
        let mut sites: Vec<u32> = candidates.iter().map(|candidate| candidate.site).collect();
        sites.sort_unstable();
        sites.dedup();
        let sites =
            if sites_matter(spread, answers, sites.len(), candidates.len()) { sites.len() } else { 0 };
        Self { candidates, answers, sites }
    }

    /// The number of candidates in each answer.
    #[must_use]
    #[inline]
    pub fn answers(&self) -> usize {
        self.answers
    }

    /// Ranks for a client, and picks the answer in rank order. Allocates nothing. The time is proportional to the number
    /// of candidates.
    #[inline]
    pub fn pick(&self, client: ClientKey, picked: &mut Picked) {
        let lists = &mut picked.ranked;
        lists.of_sites.reset(self.answers.min(self.sites));
        // The others of an answer are among as many best ones as it has places.
        lists.best.reset(if self.sites < self.answers { self.answers } else { 0 });
        if self.sites == 0 {
            self.rank(client, &mut lists.best);
        } else {
            self.rank_sites(client, lists);
        }
        picked.take_ranked(self.answers);
    }

    /// Finds the best candidates of all.
    fn rank(&self, client: ClientKey, best: &mut Best) {
        let mut bound = Bound::NONE;
        for candidate in &self.candidates {
            let hash = candidate.hash(client);
            if !bound.rules_out(hash, candidate.weight) {
                best.insert(candidate.ranked(hash));
                bound = Bound::of(best.last_if_full());
            }
        }
    }

    /// Finds the best candidates of all sites, and the best of all.
    fn rank_sites(&self, client: ClientKey, lists: &mut RankedLists) {
        let RankedLists { of_sites, best } = lists;
        let (mut bound_of_sites, mut bound) = (Bound::NONE, Bound::NONE);
        for candidate in &self.candidates {
            let hash = candidate.hash(client);
            let is_behind_all = best.limit == 0 || bound.rules_out(hash, candidate.weight);
            if is_behind_all && bound_of_sites.rules_out(hash, candidate.weight) {
                continue;
            }
            let ranked = candidate.ranked(hash);
            of_sites.insert_best_of_site(ranked);
            bound_of_sites = Bound::of(of_sites.last_if_full());
            if best.limit > 0 {
                best.insert(ranked);
                bound = Bound::of(best.last_if_full());
            }
        }
    }

    /// All candidates in the order in which this client gets them: an answer is the beginning of this list.
    #[must_use]
    pub fn of_client(&self, client: ClientKey) -> Vec<Ranked> {
        let mut all: Vec<Ranked> =
            self.candidates.iter().map(|candidate| candidate.ranked(candidate.hash(client))).collect();
        all.sort_by(|a, b| if a.is_before(b) { Ordering::Less } else { Ordering::Greater });
        if self.sites > 0 {
            let mut seen = HashSet::new();
            let (mut ranked, others): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|ranked| seen.insert(ranked.site));
            ranked.extend(others);
            all = ranked;
        }
        all
    }
}
