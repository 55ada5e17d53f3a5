//! `steerd check`: loads everything as `serve` would, and reports faults of the configuration and
//! settings that cannot work on this machine or for this user.

mod draws;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::{has_color, hint_for_missing, lines, print_json};
use crate::config::fault::ConfigFaults;
use crate::config::{self, Setup};
use crate::name::Name;

use draws::{PoolDraw, draws};

/// The most draws that are printed.
const DRAWS: usize = 20;

/// Checks a configuration. Faults go to standard error and the summary to standard output; with
/// `json`, everything goes to standard output. Warnings do not cause a failure.
#[must_use]
pub(super) fn run(path: &Path, json: bool) -> ExitCode {
    let loaded = config::check(path);
    if json {
        print_json(&format!("{:#}", as_json(&loaded)));
    } else {
        // It is not an error if a reader such as `head` closes the pipe early.
        let _ = tell(path, &loaded);
    }
    if loaded.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(path: &Path, loaded: &Result<Setup, ConfigFaults>) -> std::io::Result<()> {
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
        Ok(setup) => {
            writeln!(std::io::stdout(), "configuration is valid: {}{warnings}", summary(setup))?;
            for (letters, ascii) in international(setup) {
                writeln!(std::io::stdout(), "{letters} is {ascii} in DNS, in metrics and in the API")?;
            }
            let draws = draws(setup);
            for draw in draws.iter().take(DRAWS) {
                writeln!(std::io::stdout(), "{draw}")?;
            }
            if draws.len() > DRAWS {
                writeln!(std::io::stdout(), "and {} more such draws: see --json", draws.len() - DRAWS)?;
            }
            Ok(())
        }
        Err(faults) => {
            let errors = counted(faults.errors().count(), "error", "errors");
            let shown = lines(&path.to_string_lossy());
            writeln!(stderr, "{shown} is not valid: {errors}{warnings}")?;
            match hint_for_missing(path) {
                Some(hint) => writeln!(stderr, "help: {hint}"),
                None => Ok(()),
            }
        }
    }
}

fn faults(loaded: &Result<Setup, ConfigFaults>) -> &ConfigFaults {
    match loaded {
        Ok(setup) => &setup.warnings,
        Err(faults) => faults,
    }
}

/// "2 zones, 3 pools, 12 backends, 4 services".
fn summary(setup: &Setup) -> String {
    let served = &setup.served;
    let backends = served.pools.iter().map(|pool| pool.pool.backends.len()).sum();
    [
        counted(served.catalog.zones().len(), "zone", "zones"),
        counted(served.pools.len(), "pool", "pools"),
        counted(backends, "backend", "backends"),
        counted(served.services.len(), "service", "services"),
    ]
    .join(", ")
}

/// Names of zones and services beyond ASCII, and their form in DNS.
fn international(setup: &Setup) -> Vec<(String, String)> {
    let zones = setup.served.catalog.zones().iter().filter_map(|zone| Name::from_wire(zone.apex_name()));
    let names = zones.chain(setup.served.services.iter().map(|service| service.name.clone()));
    let both = |name: Name| {
        let ascii = name.to_plain();
        Some((config::in_letters(&ascii)?, ascii))
    };
    names.filter_map(both).collect()
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn as_json(loaded: &Result<Setup, ConfigFaults>) -> Value {
    let faults = faults(loaded);
    let draws = loaded.as_ref().map(draws).unwrap_or_default();
    json!({
        "valid": loaded.is_ok(),
        "errors": faults.errors().collect::<Vec<_>>(),
        "warnings": faults.warnings().collect::<Vec<_>>(),
        "draws": draws.iter().map(PoolDraw::as_json).collect::<Vec<_>>(),
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
        assert_eq!(as_json(&loaded), json!({ "valid": true, "errors": [], "warnings": [], "draws": [] }));
        assert_eq!(run(Path::new(VALID), false), ExitCode::SUCCESS);
    }

    #[test]
    fn names_are_told_in_letters_and_as_dns_has_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("steerd.toml");
        let zone = "$TTL 60\n@ SOA ns1 h 1 2 3 4 5\n@ NS ns1\n@ NS ns2.elsewhere.\nns1 A 192.0.2.1\n";
        std::fs::write(directory.path().join("zone"), zone).unwrap();
        std::fs::write(
            &path,
            "[zones.\"münchen.example\"]\nfile = \"zone\"\n[pools.a]\nbackends = [\"192.0.2.1\", \"192.0.2.2\"]\n\
             check = { type = \"https\", host = \"würzburg.example:8443\" }\n\
             [services.\"größe.MÜNCHEN.example\"]\npools = [\"a\"]\nanswers = 1\n",
        )
        .unwrap();
        let setup = config::load(&path).unwrap();
        let both = |letters: &str, ascii: &str| (letters.to_owned(), ascii.to_owned());
        assert_eq!(
            international(&setup),
            [
                both("münchen.example", "xn--mnchen-3ya.example"),
                both("größe.münchen.example", "xn--gre-6ka8i.xn--mnchen-3ya.example"),
            ]
        );
        let probe = format!("{:?}", setup.served.pools[0].checks[0].probe);
        assert!(probe.contains("\"xn--wrzburg-n2a.example:8443\""), "{probe}");
        assert!(probe.contains("Some(\"xn--wrzburg-n2a.example\")"), "{probe}");
    }

    #[test]
    fn draws_that_differ_from_the_weights_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("steerd.toml");
        let zone = "$TTL 60\n@ SOA ns1 h 1 2 3 4 5\n@ NS ns1\n@ NS ns2.elsewhere.\nns1 A 192.0.2.1\n";
        std::fs::write(directory.path().join("zone"), zone).unwrap();
        let backend = |last: u32, weight: u32, site: &str| {
            format!(
                "{{ name = \"{site}{last}\", address = \"192.0.2.{last}\", weight = {weight}, site = \"{site}\" }}"
            )
        };
        let backends = [(1, 5, "a"), (2, 2, "a"), (3, 2, "b"), (4, 1, "c")]
            .map(|(last, weight, site)| backend(last, weight, site));
        let service = |name: &str, keys: &str| {
            format!("[services.\"{name}.example.com\"]\npools = [\"web\"]\n{keys}\n")
        };
        let text = format!(
            "[zones.\"example.com\"]\nfile = \"zone\"\n[pools.web]\nbackends = [{}]\n{}{}{}{}",
            backends.join(", "),
            service("two", "answers = 2"),
            service("three", "answers = 3"),
            service("also", "answers = 3"),
            service("sites", "answers = 2\nspread = \"always\""),
        );
        std::fs::write(&path, text).unwrap();
        let setup = config::load(&path).unwrap();
        let told: Vec<String> = draws(&setup).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "two.example.com draws 2 of pool `web` (ipv4):\n  \
                 in 100 % of answers, first in 50 %: a1\n  \
                 in 40 % of answers, first in 20 %: a2, b3\n  \
                 in 20 % of answers, first in 10 %: c4",
                "three.example.com and 1 other service draw 3 of pool `web` (ipv4):\n  \
                 in 100 % of answers, first in 50 %: a1\n  \
                 in 80 % of answers, first in 20 %: a2, b3\n  \
                 in 40 % of answers, first in 10 %: c4",
                // Site `a` is in every answer, divided 5 : 2; the other two share one address,
                // divided 2 : 1.
                "sites.example.com draws 2 of pool `web` (ipv4), spread over sites:\n  \
                 in 71.43 % of answers, first in 35.71 %: a1\n  \
                 in 66.67 % of answers, first in 33.33 %: b3\n  \
                 in 33.33 % of answers, first in 16.67 %: c4\n  \
                 in 28.57 % of answers, first in 14.29 %: a2",
            ]
        );
        let json = as_json(&Ok(setup));
        assert_eq!(json["draws"][1]["services"], json!(["three.example.com", "also.example.com"]));
        assert_eq!(
            json["draws"][1]["backends"][3],
            json!({ "backend": "c4", "included": 0.4, "first": 0.1 })
        );
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
            "draws": [],
        });
        assert_eq!(as_json(&config::load(&path)), expected);
        assert_eq!(run(&path, true), ExitCode::FAILURE);
    }
}
