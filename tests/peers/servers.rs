//! The four servers, with the same zone files, each on its own loopback port.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::client::{Client, read_message};
use crate::support::message::{AXFR, Query, Record, Reply, SOA, wire};
use crate::support::traffic::Ledger;
use crate::support::{Process, Steerd, directory_of, free_port, program, wait_for};

/// A server for comparison with steerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    Nsd,
    Knot,
    Bind,
}

pub(crate) const PEERS: [Peer; 3] = [Peer::Nsd, Peer::Knot, Peer::Bind];

/// A zone file: its zone's name without the final dot (the root's is empty), and its path.
pub(crate) struct ZoneFile {
    pub(crate) apex: String,
    pub(crate) path: PathBuf,
}

/// All zone files of the tests except the root's, or only the root's: with the root zone, no name
/// is outside all zones.
pub(crate) fn zone_files(root: bool) -> Vec<ZoneFile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/zones");
    let mut files: Vec<ZoneFile> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let stem = path.file_stem().unwrap().to_str().unwrap();
            ZoneFile { apex: if stem == "root" { String::new() } else { stem.into() }, path }
        })
        .filter(|file| file.apex.is_empty() == root)
        .collect();
    files.sort_by(|a, b| a.apex.cmp(&b.apex));
    files
}

/// A running server, and a client for it.
pub(crate) struct Server {
    pub(crate) client: Client,
    /// For steerd. This field precedes the process, so that the counters are read before the
    /// process ends.
    _ledger: Option<Ledger>,
    process: Process,
    _directory: TempDir,
}

impl Server {
    /// Starts steerd with these zones.
    pub(crate) fn steerd(zones: &[ZoneFile]) -> Self {
        let mut config = String::new();
        for ZoneFile { apex, path } in zones {
            writeln!(config, "[zones.\"{apex}.\"]\nfile = \"{}\"", path.display()).unwrap();
        }
        let Steerd { ledger, process, dns, directory, .. } = Steerd::start(&config, &[]);
        let client = Client::counting(dns, &ledger.sent);
        Self { client, _ledger: Some(ledger), process, _directory: directory }
    }

    /// Starts a peer with these zones, and waits until it answers for the last one.
    pub(crate) fn peer(peer: Peer, zones: &[ZoneFile]) -> Self {
        let directory = TempDir::new().unwrap();
        let port = free_port("127.0.0.1");
        let path = directory.path().join("config");
        let (config, mut command) = match peer {
            Peer::Nsd => (nsd(&directory_of(&directory), port, zones), Command::new(program("nsd"))),
            Peer::Knot => (knot(&directory_of(&directory), port, zones), Command::new(program("knotd"))),
            Peer::Bind => (bind(&directory_of(&directory), port, zones), Command::new(program("named"))),
        };
        std::fs::write(&path, config).unwrap();
        match peer {
            Peer::Nsd => command.arg("-d"),
            Peer::Knot => &mut command,
            Peer::Bind => command.arg("-g"),
        };
        let process = Process::start(command.arg("-c").arg(&path));
        let client = Client::of(SocketAddr::from(([127, 0, 0, 1], port)));
        let mut server = Self { client, _ledger: None, process, _directory: directory };
        wait_for(&format!("{peer:?} answers for all zones"), || {
            assert!(server.process.is_running(), "{peer:?} ended: {:?}", server.process.said(""));
            zones.iter().all(|zone| server.has(&zone.apex)).then_some(())
        });
        server
    }

    /// Whether the server is authoritative for a zone.
    fn has(&self, apex: &str) -> bool {
        let reply = self.client.try_ask(&Query::plain(wire(apex), SOA), 1);
        let reply = reply.and_then(|message| Reply::decode(&message).ok());
        reply.is_some_and(|reply| reply.authoritative && !reply.answer.is_empty())
    }

    /// All records of a zone, by zone transfer: the result of an independent reader.
    pub(crate) fn transfer(&self, apex: &str) -> BTreeSet<Record> {
        let mut stream = self.client.stream(&Query::plain(wire(apex), AXFR), 1);
        let mut records = BTreeSet::new();
        let mut ends = 0;
        while ends < 2 {
            let reply = Reply::decode(&read_message(&mut stream).unwrap()).unwrap();
            assert!(!reply.answer.is_empty(), "the transfer of {apex} failed: {reply:?}");
            ends += reply.answer.iter().filter(|record| record.rtype == SOA).count();
            records.extend(reply.answer);
        }
        records
    }
}

fn nsd(dir: &str, port: u16, zones: &[ZoneFile]) -> String {
    let mut config = format!(
        "server:\n ip-address: 127.0.0.1@{port}\n server-count: 1\n username: \"\"\n database: \"\"\n \
         zonesdir: \"{dir}\"\n zonelistfile: \"{dir}/zones\"\n xfrdfile: \"{dir}/xfrd\"\n xfrdir: \"{dir}\"\n \
         pidfile: \"{dir}/pid\"\n rrl-ratelimit: 0\n rrl-whitelist-ratelimit: 0\n \
         ipv4-edns-size: 1232\n\
         remote-control:\n control-enable: no\n"
    );
    for ZoneFile { apex, path } in zones {
        writeln!(
            config,
            "zone:\n name: \"{apex}.\"\n zonefile: \"{}\"\n provide-xfr: 127.0.0.1 NOKEY",
            path.display()
        )
        .unwrap();
    }
    config
}

fn knot(dir: &str, port: u16, zones: &[ZoneFile]) -> String {
    let mut config = format!(
        "server:\n    rundir: \"{dir}\"\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n    \
         background-workers: 1\n    udp-max-payload: 1232\n\
         database:\n    storage: \"{dir}\"\n\
         log:\n  - target: stderr\n    any: info\n\
         acl:\n  - id: transfer\n    address: 127.0.0.1\n    action: transfer\n\
         template:\n  - id: default\n    storage: \"{dir}\"\n    zonefile-sync: -1\n    journal-content: none\n    acl: transfer\n\
         zone:\n"
    );
    for ZoneFile { apex, path } in zones {
        writeln!(config, "  - domain: \"{apex}.\"\n    file: \"{}\"", path.display()).unwrap();
    }
    config
}

fn bind(dir: &str, port: u16, zones: &[ZoneFile]) -> String {
    let mut config = format!(
        "options {{ directory \"{dir}\"; pid-file none; session-keyfile none; listen-on port {port} {{ 127.0.0.1; }}; \
         listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; empty-zones-enable no; notify no; \
         check-names primary ignore; check-integrity no; check-mx ignore; check-srv-cname ignore; \
         check-mx-cname ignore; edns-udp-size 1232; max-udp-size 1232; max-records-per-type 0; zero-no-soa-ttl no; }};\n\
         controls {{ }};\n"
    );
    for ZoneFile { apex, path } in zones {
        writeln!(config, "zone \"{apex}.\" {{ type primary; file \"{}\"; }};", path.display()).unwrap();
    }
    config
}
