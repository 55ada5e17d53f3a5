//! `steerd completions`: prints the completions of the command line for a shell.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use crate::cli::{PROGRAM, print_as_it_is};

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(completions: &Completions, mut command: clap::Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut command, PROGRAM, &mut script);
    print_as_it_is(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
