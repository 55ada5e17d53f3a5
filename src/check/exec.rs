//! The exec probe: a program judges.

use std::path::PathBuf;

/// Runs a program, without a shell. Exit code 0 passes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExecProbe {
    /// The program: an absolute path. It runs as the user of this process.
    pub program: PathBuf,
    /// Its arguments, without null characters.
    pub arguments: Vec<String>,
    /// Passed to it in `STEERD_PORT`.
    pub port: Option<u16>,
}
