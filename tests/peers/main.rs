//! Compares steerd with NSD, Knot DNS and BIND: the same zone files, the same questions, the same
//! answers.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what a test cannot do fails it")]

mod differences;
mod queries;
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::differences::{Case, DIFFERENCES, Difference, Kind, level};
use crate::queries::Queries;
use crate::servers::{PEERS, Server, ZoneFile, zone_files};
use crate::support::message::{Query, Record, Reply};

/// The number of queries for each set of zones.
const QUERIES: u64 = 20_000;
const ROOT_QUERIES: u64 = 3000;

/// The seed for the queries, unless `PEERS_SEED` is set in the environment.
const SEED: u64 = 1;

/// How many unexplained differences of each kind are printed.
const SHOWN: usize = 2;

#[test]
fn same_answers_as_nsd_knot_and_bind() {
    let met = compare(&zone_files(false), QUERIES);
    for rule in DIFFERENCES.iter().filter(|rule| !met.contains_key(rule.name)) {
        // Other versions of the peers may decide differently. Differences by design, or allowed by
        // the standards, remain.
        assert!(rule.kind == Kind::Contested, "the rule {:?} explains nothing", rule.name);
        println!("with these versions of the peers there is nothing to explain: {}", rule.name);
    }
}

#[test]
fn same_answers_for_the_root_zone() {
    compare(&zone_files(true), ROOT_QUERIES);
}

#[test]
fn every_difference_is_documented() {
    let document =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/RFC.md")).unwrap();
    for rule in DIFFERENCES {
        assert!(
            document.contains(&format!("| {} |", rule.name)),
            "docs/RFC.md does not tell of {:?}",
            rule.name
        );
    }
}

#[test]
fn steerd_stands_alone_by_decision_only() {
    for rule in DIFFERENCES.iter().filter(|rule| rule.kind == Kind::Contested) {
        assert!(rule.peers.len() < PEERS.len(), "{:?}: of all servers, steerd alone does so", rule.name);
    }
}

/// A number from the environment, for repeating or extending a run.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn compare(zones: &[ZoneFile], queries: u64) -> BTreeMap<&'static str, usize> {
    let seed = number("PEERS_SEED").unwrap_or(SEED);
    let queries = usize::try_from(number("PEERS_QUERIES").unwrap_or(queries)).unwrap();
    println!("PEERS_SEED={seed} PEERS_QUERIES={queries}");
    let peers = PEERS.map(|peer| Server::peer(peer, zones));
    let steerd = Server::steerd(zones);
    let records = records(zones, &peers);
    let mut comparison = Comparison { steerd, peers, records, met: BTreeMap::new(), faults: BTreeMap::new() };
    let examples = DIFFERENCES.iter().flat_map(Difference::examples);
    let every = queries::of_every_rrset(&comparison.records);
    let generated = Queries::new(seed, &comparison.records).take(queries);
    for (id, query) in (0..=u16::MAX).cycle().zip(examples.chain(every).chain(generated)) {
        comparison.ask(&query, id);
    }
    for rule in DIFFERENCES {
        if let Some(met) = comparison.met.get(rule.name) {
            println!("met {met} times: {} ({:?}). {}", rule.name, rule.kind, rule.reason);
        }
    }
    for (kind, faults) in &comparison.faults {
        println!("\n{} x {kind}", faults.len());
        faults.iter().take(SHOWN).for_each(|fault| println!("{fault}"));
    }
    let faults: usize = comparison.faults.values().map(Vec::len).sum();
    assert!(
        faults == 0,
        "{faults} differences are not explained (PEERS_SEED={seed} PEERS_QUERIES={queries})"
    );
    comparison.met
}

/// All records of the zones as the peers read them; all peers must agree.
fn records(zones: &[ZoneFile], peers: &[Server; 3]) -> BTreeSet<Record> {
    let mut records = BTreeSet::new();
    for zone in zones {
        let [nsd, knot, bind] = peers.each_ref().map(|peer| peer.transfer(&zone.apex));
        for (peer, other) in [("Knot", &knot), ("BIND", &bind)] {
            let differ: Vec<_> = nsd.symmetric_difference(other).collect();
            assert!(differ.is_empty(), "NSD and {peer} do not read {:?} alike: {differ:?}", zone.apex);
        }
        records.extend(nsd);
    }
    records
}

struct Comparison {
    steerd: Server,
    peers: [Server; 3],
    records: BTreeSet<Record>,
    /// How often each rule was applied.
    met: BTreeMap<&'static str, usize>,
    /// Differences that no rule explains, by peer and part of the reply.
    faults: BTreeMap<String, Vec<String>>,
}

impl Comparison {
    /// Queries all servers over UDP, and also over TCP if a reply is truncated.
    fn ask(&mut self, query: &Query, id: u16) {
        let ours = decode("steerd", query, &self.steerd.client.ask(query, id));
        let theirs = self.peers.each_ref().map(|peer| decode("a peer", query, &peer.client.ask(query, id)));
        self.judge(query, false, &ours, &theirs);
        if !ours.truncated && theirs.iter().all(|reply| !reply.truncated) {
            return;
        }
        let whole = decode("steerd", query, &self.steerd.client.ask_tcp(query, id));
        let theirs =
            self.peers.each_ref().map(|peer| decode("a peer", query, &peer.client.ask_tcp(query, id)));
        self.judge(query, true, &whole, &theirs);
        let same = (&ours.answer, &ours.authority) == (&whole.answer, &whole.authority);
        assert!(ours.truncated || same, "over TCP steerd has another answer to dig {query}");
    }

    fn judge(&mut self, query: &Query, tcp: bool, ours: &Reply, theirs: &[Reply; 3]) {
        for (peer, theirs) in PEERS.into_iter().zip(theirs) {
            let case = Case { query, records: &self.records, peer, tcp };
            let (mut our_rest, mut their_rest) = (ours.clone(), theirs.clone());
            for name in level(&case, &mut our_rest, &mut their_rest) {
                *self.met.entry(name).or_default() += 1;
            }
            if our_rest != their_rest {
                let over = if tcp { " +tcp" } else { "" };
                let kind = format!("{peer:?}{over}: {}", our_rest.differences(&their_rest).join(", "));
                let (ours, theirs) = (ours.beside(theirs), theirs.beside(ours));
                let fault = format!("dig {query}{over}\n  steerd: {ours}  {peer:?}: {theirs}");
                self.faults.entry(kind).or_default().push(fault);
            }
        }
    }
}

fn decode(who: &str, query: &Query, message: &[u8]) -> Reply {
    let reply = Reply::decode(message);
    let reply = reply.unwrap_or_else(|error| panic!("{who} sent a malformed reply to dig {query}: {error}"));
    assert_eq!(
        query.encode(0)[12..][..query.name.len() + 4],
        reply.question,
        "{who} sent back another question than dig {query}"
    );
    reply
}
