//! `steerd check`: loads everything as `serve` would, and says what is wrong with it.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::{has_color, lines, print_json};
use crate::config::fault::Faults;
use crate::config::{self, Setup};

/// Checks a configuration. Faults go to standard error and the summary to standard output; with
/// `json` all goes to standard output. Success unless there is an error; warnings are none.
#[must_use]
pub(super) fn run(path: &Path, json: bool) -> ExitCode {
    let loaded = config::load(path);
    if json {
        print_json(&format!("{:#}", as_json(&loaded)));
    } else {
        // A reader that closes our output early, as `head` does, wants no message about it.
        let _ = tell(path, &loaded);
    }
    if loaded.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(path: &Path, loaded: &Result<Setup, Faults>) -> std::io::Result<()> {
    let faults = faults(loaded);
    let mut stderr = std::io::stderr().lock();
    if !faults.is_empty() {
        writeln!(stderr, "{}\n", faults.render(has_color(&std::io::stderr())))?;
    }
    let warnings = match faults.warnings().count() {
        0 => String::new(),
        count => format!(", {}", counted(count, "warning", "warnings")),
    };
    match loaded {
        Ok(setup) => writeln!(std::io::stdout(), "configuration is valid: {}{warnings}", summary(setup)),
        Err(faults) => {
            let errors = counted(faults.errors().count(), "error", "errors");
            let path = lines(&path.to_string_lossy());
            writeln!(stderr, "{path} is not valid: {errors}{warnings}")
        }
    }
}

fn faults(loaded: &Result<Setup, Faults>) -> &Faults {
    match loaded {
        Ok(setup) => &setup.warnings,
        Err(faults) => faults,
    }
}

/// "2 zones, 3 pools, 12 backends, 4 services".
fn summary(setup: &Setup) -> String {
    let checker = &setup.checker;
    let backends = checker.pools.iter().map(|pool| pool.pool.backends.len()).sum();
    [
        counted(checker.catalog.zones().len(), "zone", "zones"),
        counted(checker.pools.len(), "pool", "pools"),
        counted(backends, "backend", "backends"),
        counted(checker.services.len(), "service", "services"),
    ]
    .join(", ")
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn as_json(loaded: &Result<Setup, Faults>) -> Value {
    let faults = faults(loaded);
    json!({
        "valid": loaded.is_ok(),
        "errors": faults.errors().collect::<Vec<_>>(),
        "warnings": faults.warnings().collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/minimal.toml");

    #[test]
    fn a_valid_configuration_is_counted() {
        let loaded = config::load(Path::new(VALID));
        assert_eq!(summary(loaded.as_ref().unwrap()), "1 zone, 1 pool, 3 backends, 1 service");
        assert_eq!(as_json(&loaded), json!({ "valid": true, "errors": [], "warnings": [] }));
        assert_eq!(run(Path::new(VALID), false), ExitCode::SUCCESS);
    }

    #[test]
    fn faults_keep_their_places_in_json() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("steerd.toml");
        std::fs::write(&path, "[server]\nworkrs = 1\n").unwrap();
        let file = path.to_str().unwrap();
        let expected = json!({
            "valid": false,
            "errors": [
                {
                    "file": file, "line": null, "column": null, "hint": null,
                    "message": "no [zones] are configured: there is no name to answer for",
                },
                {
                    "file": file, "line": 2, "column": 1, "hint": "did you mean `workers`?",
                    "message": "unknown key `workrs`",
                },
            ],
            "warnings": [],
        });
        assert_eq!(as_json(&config::load(&path)), expected);
        assert_eq!(run(&path, true), ExitCode::FAILURE);
    }
}
