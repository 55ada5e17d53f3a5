//! The `steerd` program. All code is in the library; see `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    steerd::cli::run()
}
