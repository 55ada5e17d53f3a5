//! The cost of answering each kind of query, from query bytes to reply bytes, without the network.
//!
//! ```text
//! cargo bench --bench respond                       nanoseconds per query
//! cargo bench --bench respond -- --instructions     instructions per query, counted by valgrind
//! cargo bench --bench respond -- service            only kinds whose name contains this word
//! ```

#[path = "../fuzz/checks/mod.rs"]
mod checks;

use std::hint::black_box;
use std::io::{Error, Result};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use steerd::answer::{Client, Responder};
use steerd::table::Table;
use steerd::wire::MAX_MESSAGE;

use crate::checks::kinds::{self, Kind};
use crate::checks::respond::Setting;
use crate::checks::world::World;

/// Rounds of each kind; the median is shown.
const ROUNDS: usize = 15;
/// Approximate length of a round.
const ROUND: Duration = Duration::from_millis(20);
/// Number of queries whose instructions are counted.
const COUNTED: u32 = 1000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--count", name] => count(name),
        ["--instructions", words @ ..] => instructions(words)?,
        words => nanoseconds(words),
    }
    Ok(())
}

/// The kinds whose name contains one of the words; all kinds if there are no words.
fn chosen(words: &[&str]) -> impl Iterator<Item = Kind> {
    let is_chosen = |kind: &Kind| words.is_empty() || words.iter().any(|word| kind.name.contains(word));
    kinds::all().into_iter().filter(is_chosen)
}

fn nanoseconds(words: &[&str]) {
    let world = World::new();
    println!("{:32} {:>9} {:>9}", "kind", "ns/query", "best");
    for kind in chosen(words) {
        let table = kind.table(&world);
        kind.check(table);
        let mut asked = Asked::new(&kind, table);
        let mut queries = 1;
        while asked.time(queries) < ROUND {
            queries *= 2;
        }
        let mut rounds: Vec<Duration> = (0..ROUNDS).map(|_| asked.time(queries) / queries).collect();
        // Fractions of a nanosecond do not matter: the fastest kind takes dozens.
        rounds.sort();
        println!("{:32} {:>9} {:>9}", kind.name, rounds[ROUNDS / 2].as_nanos(), rounds[0].as_nanos());
    }
}

/// One kind of query, asked repeatedly.
struct Asked<'k> {
    query: &'k [u8],
    client: Client,
    table: &'k Table,
    responder: Responder<SmallRng>,
    reply: Vec<u8>,
}

impl<'k> Asked<'k> {
    fn new(kind: &'k Kind, table: &'k Table) -> Self {
        Self {
            query: &kind.query,
            client: Setting::new(kind.transport).client,
            table,
            responder: Responder::new(SmallRng::seed_from_u64(1)),
            reply: vec![0; MAX_MESSAGE],
        }
    }

    fn time(&mut self, queries: u32) -> Duration {
        let begun = Instant::now();
        self.answer(queries);
        begun.elapsed()
    }

    // Valgrind selects this function by its name.
    #[inline(never)]
    fn answer(&mut self, queries: u32) {
        for _ in 0..queries {
            let verdict =
                self.responder.respond(black_box(self.query), &self.client, self.table, &mut self.reply);
            black_box(verdict);
        }
    }
}

/// Answers one kind of query under valgrind.
fn count(name: &str) {
    let world = World::new();
    for kind in kinds::all().into_iter().filter(|kind| kind.name == name) {
        Asked::new(&kind, kind.table(&world)).answer(COUNTED);
    }
}

fn instructions(words: &[&str]) -> Result<()> {
    println!("{:32} {:>12}", "kind", "instructions");
    for kind in chosen(words) {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*Asked*answer*"])
            .arg(std::env::current_exe()?)
            .args(["--count", kind.name])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let collected =
            said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<u64>().ok());
        let Some(collected) = collected.filter(|&collected| collected > 0) else {
            return Err(Error::other(said.into_owned()));
        };
        println!("{:32} {:>12}", kind.name, collected / u64::from(COUNTED));
    }
    Ok(())
}
