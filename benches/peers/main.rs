//! steerd beside other servers: the cost of an answer, and of a health check.
//!
//! ```text
//! cargo bench --bench peers                              everything: three quarters of an hour
//! cargo bench --bench peers -- NXDOMAIN "of 8"           only cases with one of these words in their name
//! cargo bench --bench peers -- checks                    only health checks
//! cargo bench --bench peers -- --peers nsd,knot          only these peers
//! cargo bench --bench peers -- --rounds 15 --seconds 5   more rounds, or longer ones
//! cargo bench --bench peers -- --rounds 0                checks the answers, and measures nothing
//! ```
//!
//! As root on Debian or Ubuntu it installs what is missing; elsewhere it lists it. All servers run on loopback with the
//! same data, one UDP worker and no rate limiting, pinned to core 0. dnsperf drives them from core 1, one after the
//! other in each round, in a new order each time, so that other load on the machine affects all of them.
//!
//! The compared figure is the CPU time of all processes of the server per right answer, including the kernel's work for
//! them. It is compared with that of an echo, which sends each query back as its own reply: nothing that answers over
//! a UDP socket costs less. Before the first round, the answers of each server are checked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench that cannot continue ends"
)]

mod cases;
mod checks;
mod drivers;
mod echo;
mod load;
#[path = "../measure/mod.rs"]
mod measure;
mod programs;
mod servers;
#[path = "../../tests/support/mod.rs"]
mod support;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tempfile::TempDir;

use crate::cases::{CASES, Case};
use crate::measure::run_alone;
use crate::programs::{Need, find_or_install};
use crate::servers::{SOFTWARE, Server, Software};
use crate::table::Row;

const USAGE: &str =
    "usage: cargo bench --bench peers -- [--rounds N] [--seconds N] [--peers NAME,...] [WORD]...";

/// The programs that load the servers and pin them to cores.
const TOOLS: [Need; 2] = [("dnsperf", "dnsperf"), ("taskset", "util-linux")];

/// Command line options.
struct Options {
    words: Vec<String>,
    rounds: usize,
    seconds: u64,
    peers: Option<Vec<Software>>,
}

impl Options {
    fn parse() -> Option<Self> {
        let mut options = Self { words: Vec::new(), rounds: 5, seconds: 5, peers: None };
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--rounds" => options.rounds = arguments.next()?.parse().ok()?,
                "--seconds" => options.seconds = arguments.next()?.parse().ok()?,
                "--peers" => {
                    let peer = |name: &str| Some(SOFTWARE.iter().find(|(_, known)| *known == name)?.0);
                    options.peers = Some(arguments.next()?.split(',').map(peer).collect::<Option<_>>()?);
                }
                word if word.starts_with('-') => return None,
                word => options.words.push(word.to_lowercase()),
            }
        }
        Some(options)
    }

    fn wants(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }

    fn servers(&self) -> impl Iterator<Item = Software> {
        let is_chosen =
            |software: Software| self.peers.as_ref().is_none_or(|peers| peers.contains(&software));
        SOFTWARE
            .iter()
            .map(|(software, _)| *software)
            .filter(move |software| !software.is_peer() || is_chosen(*software))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, address] = arguments.as_slice()
        && flag == "--echo"
    {
        let served = echo::serve(address.parse().expect("an address"));
        panic!("the echo ended: {served:?}");
    }
    let Some(options) = Options::parse() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let cases: Vec<Case> = CASES.into_iter().filter(|case| options.wants(case.name)).collect();
    let checks: Vec<checks::Kind> =
        checks::KINDS.into_iter().filter(|kind| options.wants(kind.name)).collect();
    if cases.is_empty() && checks.is_empty() {
        let names = CASES.iter().map(|case| case.name).chain(checks::KINDS.iter().map(|kind| kind.name));
        eprintln!("no case has such a word in its name:\n  {}", names.collect::<Vec<_>>().join("\n  "));
        return ExitCode::from(2);
    }
    let mut needs: Vec<Need> = Vec::new();
    if !cases.is_empty() {
        needs.extend(TOOLS);
        needs.extend(options.servers().flat_map(Software::needs));
    }
    if !checks.is_empty() {
        needs.extend(checks::NEEDS);
    }
    if let Err(missing) = find_or_install(&needs) {
        eprintln!("{missing}");
        return ExitCode::FAILURE;
    }
    if let Some(code) = run_alone() {
        return code;
    }
    if !cases.is_empty() {
        answers(&options, &cases);
    }
    if !checks.is_empty() && options.rounds > 0 {
        checks::run(&checks, options.rounds, Duration::from_secs(options.seconds));
    }
    ExitCode::SUCCESS
}

/// Measures the cost of answers, and prints a table.
fn answers(options: &Options, cases: &[Case]) {
    let directory = TempDir::new().expect("a directory");
    let queries: Vec<PathBuf> =
        cases.iter().map(|case| case.write_queries(directory.path()).expect("a file")).collect();
    let port = servers::backends();
    let servers: Vec<Server> = options
        .servers()
        .map(|software| {
            eprintln!("starting {}", software.name());
            Server::start(software, port)
        })
        .collect();
    let mut rows = Vec::new();
    for case in cases.iter().copied() {
        for server in servers.iter().filter(|server| server.software.serves(case)) {
            rows.push(Row {
                case,
                software: server.software,
                lengths: server.verify(case),
                rounds: Vec::new(),
            });
        }
    }
    eprintln!("every server answers every case rightly");
    for round in 0..options.rounds {
        for (case, queries) in cases.iter().zip(&queries) {
            let turn = round % servers.len();
            for server in servers[turn..].iter().chain(&servers[..turn]) {
                let row = rows.iter_mut().find(|row| row.case == *case && row.software == server.software);
                let Some(row) = row else { continue };
                let measured = load::drive(server, *case, queries, options.seconds);
                eprintln!(
                    "round {}: {} {} {:.2} us/query",
                    round + 1,
                    case.name,
                    server.software.name(),
                    measured.cost
                );
                row.rounds.push(measured);
            }
        }
    }
    table::print(&rows);
}
