//! Instructions per answer, counted by valgrind, and their comparison with the counts on record. The kinds of
//! answers and the code that answers them do not belong here.
//!
//! The record holds for one compiler on one kind of machine: another one makes other instructions of the same code.

use std::fmt::Write as _;
use std::fs;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use tempfile::TempDir;

/// The command that records the counts.
const RECORD: &str = "cargo bench --bench respond -- --instructions --record";
/// One percent of a count on record, in millionths of it.
const PERCENT: i64 = 10_000;
/// Growth that fails.
const GROWTH: i64 = 3 * PERCENT;
/// A drop after which the record says too little.
const DROP: i64 = 10 * PERCENT;
/// Runs of a kind before its least count is taken. Hash tables have a new seed in each run, so names collide in some
/// runs and not in others; the least count is the one without collisions.
const ATTEMPTS: usize = 8;

/// Counts the instructions of this many answers of each kind, by running this program again under valgrind with
/// `--count` and the names. It must call a function that matches `function` once for each name, in this order.
pub(crate) fn count(names: &[&str], function: &str, answers: u64) -> Result<Vec<u64>> {
    let directory = TempDir::new()?;
    let dump = directory.path().join("counts");
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", dump.display()))
        .args([format!("--toggle-collect={function}"), format!("--dump-after={function}")])
        .arg(std::env::current_exe()?)
        .arg("--count")
        .args(names)
        .output()
        .map_err(|error| Error::other(format!("valgrind cannot be run: {error}")))?;
    let counted = |part: usize| {
        let text = fs::read_to_string(format!("{}.{part}", dump.display())).ok()?;
        let total: u64 = text.lines().find_map(|line| line.strip_prefix("summary: ")?.trim().parse().ok())?;
        (total > 0).then_some(total / answers)
    };
    let counts: Option<Vec<u64>> = (1..=names.len()).map(counted).collect();
    counts.ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        Error::other(format!("valgrind has not counted every kind; it said:\n{said}"))
    })
}

/// The compiler and the kind of machine, such as `rustc 1.90.0 (1159e78c4 2025-09-14) for x86_64-unknown-linux-gnu`.
fn compiler() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.lines().next().unwrap_or_default();
    let host = said.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    Ok(format!("{version} for {host}"))
}

/// The counts on record.
pub(crate) struct Record {
    compiler: String,
    counts: Vec<(String, u64)>,
}

impl Record {
    fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/counts.txt")
    }

    /// Reads the file: the compiler in the first line that is not a comment, then a count and a kind in each line.
    pub(crate) fn read() -> Result<Self> {
        let path = Self::path();
        let text = fs::read_to_string(&path)
            .map_err(|error| Error::other(format!("{}: {error}; `{RECORD}` writes it", path.display())))?;
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let compiler = lines.next().unwrap_or_default().to_owned();
        let entry = |line: &str| {
            let (count, kind) = line.trim_start().split_once("  ")?;
            Some((kind.to_owned(), count.parse().ok()?))
        };
        Ok(Self { compiler, counts: lines.filter_map(entry).collect() })
    }

    /// Replaces the file by these counts. `recount` counts kinds again.
    pub(crate) fn write(
        mut counts: Vec<(&str, u64)>,
        recount: impl Fn(&[&str]) -> Result<Vec<u64>>,
    ) -> Result<()> {
        for _ in 1..ATTEMPTS {
            take_least(counts.iter_mut().collect(), &recount)?;
        }
        let mut text = format!(
            "# Instructions per answer, for this compiler only. Written by:\n# {RECORD}\n{}\n",
            compiler()?
        );
        for (kind, count) in counts {
            writeln!(text, "{count:>8}  {kind}").map_err(Error::other)?;
        }
        fs::write(Self::path(), text)
    }

    /// Says that another compiler is in use, if so.
    pub(crate) fn of_another_compiler(&self) -> Result<Option<String>> {
        let compiler = compiler()?;
        let recorded = &self.compiler;
        Ok((compiler != *recorded).then(|| {
            format!("instruction counts: skipped. They are on record for {recorded}; this is {compiler}.")
        }))
    }

    /// The change of a count since it was recorded, in millionths. `None` if it is not on record.
    pub(crate) fn change(&self, kind: &str, count: u64) -> Option<i64> {
        let (_, recorded) = self.counts.iter().find(|(name, _)| name == kind)?;
        let [count, recorded] =
            [count, (*recorded).max(1)].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        Some((count - recorded).saturating_mul(100 * PERCENT) / recorded)
    }

    /// Compares the counts of all kinds with the record, and says what is wrong. `recount` counts kinds again.
    pub(crate) fn check(
        &self,
        mut counts: Vec<(&str, u64)>,
        recount: impl Fn(&[&str]) -> Result<Vec<u64>>,
    ) -> Result<ExitCode> {
        for _ in 1..ATTEMPTS {
            let has_grown = |(kind, count): &&mut (&str, u64)| {
                self.change(kind, *count).is_some_and(|change| change > GROWTH)
            };
            let grown: Vec<_> = counts.iter_mut().filter(has_grown).collect();
            if grown.is_empty() {
                break;
            }
            take_least(grown, &recount)?;
        }
        let (mut failed, mut stale) = (false, false);
        for (kind, count) in &counts {
            match self.change(kind, *count) {
                None => {
                    eprintln!("instruction counts: \"{kind}\" takes {count}, and is not on record");
                    failed = true;
                }
                Some(change) if change > GROWTH => {
                    eprintln!(
                        "instruction counts: \"{kind}\" takes {count}, {} than on record",
                        more(change)
                    );
                    failed = true;
                }
                Some(change) if change < -DROP => {
                    println!("instruction counts: \"{kind}\" takes {count}, {} than on record", more(change));
                    stale = true;
                }
                Some(_) => {}
            }
        }
        for (kind, _) in self.counts.iter().filter(|(kind, _)| counts.iter().all(|(name, _)| name != kind)) {
            eprintln!("instruction counts: \"{kind}\" is on record, but there is no such kind");
            failed = true;
        }
        if failed {
            eprintln!("instruction counts: find out why; if it must be so, record them: {RECORD}");
            return Ok(ExitCode::FAILURE);
        }
        println!(
            "instruction counts: {} kinds of answers take no more than on record, give or take {} %",
            counts.len(),
            GROWTH / PERCENT
        );
        if stale {
            println!("instruction counts: record them, so that they guard what was gained: {RECORD}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Counts these kinds again, and keeps the lesser count of each.
fn take_least(counts: Vec<&mut (&str, u64)>, recount: impl Fn(&[&str]) -> Result<Vec<u64>>) -> Result<()> {
    let kinds: Vec<&str> = counts.iter().map(|(kind, _)| *kind).collect();
    for (entry, count) in counts.into_iter().zip(recount(&kinds)?) {
        entry.1 = entry.1.min(count);
    }
    Ok(())
}

/// A change in millionths, in words.
fn more(change: i64) -> String {
    let word = if change < 0 { "less" } else { "more" };
    let tenths = change.abs() / (PERCENT / 10);
    format!("{}.{} % {word}", tenths / 10, tenths % 10)
}
