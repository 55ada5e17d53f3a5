//! The exec probe: a program decides.

use std::path::PathBuf;

/// Runs a program, without a shell. Exit code 0 passes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExecProbe {
    /// The absolute path of the program. It runs as the user of this process.
    pub program: PathBuf,
    /// The arguments, without null characters.
    pub arguments: Vec<String>,
    /// Passed to the program in `STEERD_PORT`.
    pub port: Option<u16>,
}
