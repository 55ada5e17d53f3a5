//! Exec probe: a program judges; exit code 0 is a pass.

use std::path::PathBuf;

/// Runs a program, without a shell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExecProbe {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Given to it in `STEERD_PORT`.
    pub port: Option<u16>,
}
