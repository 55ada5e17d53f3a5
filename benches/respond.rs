//! The cost of answering each kind of query, from query bytes to reply bytes, without the network.
//!
//! ```text
//! cargo bench --bench respond                       nanoseconds per query
//! cargo bench --bench respond -- --instructions     instructions per query, counted by valgrind
//! cargo bench --bench respond -- service            only kinds whose name contains this word
//!
//! cargo bench --bench respond -- --instructions --check      fails if a kind takes more than is on record
//! cargo bench --bench respond -- --instructions --record     records what all kinds take
//! ```

#[path = "../fuzz/checks/mod.rs"]
mod checks;
#[path = "instructions/mod.rs"]
mod instructions;

use std::hint::black_box;
use std::io::Result;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use steerd::answer::{Client, Responder};
use steerd::table::Table;
use steerd::wire::MAX_MESSAGE;

use crate::checks::kinds::{self, Kind};
use crate::checks::respond::Setting;
use crate::checks::world::World;
use crate::instructions::Record;

/// Rounds of each kind; the median is shown.
const ROUNDS: usize = 15;
/// Approximate length of a round.
const ROUND: Duration = Duration::from_millis(20);
/// Number of queries whose instructions are counted.
const COUNTED: u32 = 1000;

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--count", names @ ..] => answer_once(names),
        ["--instructions", "--check"] => return check(),
        ["--instructions", "--record"] => Record::write(count(&[])?, count_named)?,
        ["--instructions", words @ ..] => instructions(words)?,
        words => nanoseconds(words),
    }
    Ok(ExitCode::SUCCESS)
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
        // Fractions of a nanosecond do not matter: even the fastest kind takes dozens.
        rounds.sort();
        println!("{:32} {:>9} {:>9}", kind.name, rounds[ROUNDS / 2].as_nanos(), rounds[0].as_nanos());
    }
}

/// One kind of query, which is sent repeatedly.
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

    // Valgrind selects this function by name.
    #[inline(never)]
    fn answer(&mut self, queries: u32) {
        for _ in 0..queries {
            let verdict =
                self.responder.respond(black_box(self.query), &self.client, self.table, &mut self.reply);
            black_box(verdict);
        }
    }
}

/// Answers kinds of queries one after the other, under valgrind.
fn answer_once(names: &[&str]) {
    let (world, kinds) = (World::new(), kinds::all());
    for name in names {
        for kind in kinds.iter().filter(|kind| kind.name == *name) {
            Asked::new(kind, kind.table(&world)).answer(COUNTED);
        }
    }
}

/// The instructions per query of the chosen kinds.
fn count(words: &[&str]) -> Result<Vec<(&'static str, u64)>> {
    let names: Vec<&'static str> = chosen(words).map(|kind| kind.name).collect();
    let counts = count_named(&names)?;
    Ok(names.into_iter().zip(counts).collect())
}

fn count_named(names: &[&str]) -> Result<Vec<u64>> {
    instructions::count(names, "*Asked::answer", COUNTED.into())
}

fn instructions(words: &[&str]) -> Result<()> {
    println!("{:32} {:>12}", "kind", "instructions");
    for (name, count) in count(words)? {
        println!("{name:32} {count:>12}");
    }
    Ok(())
}

fn check() -> Result<ExitCode> {
    let record = Record::read()?;
    if let Some(skipped) = record.of_another_compiler()? {
        println!("{skipped}");
        return Ok(ExitCode::SUCCESS);
    }
    record.check(count(&[])?, count_named)
}
