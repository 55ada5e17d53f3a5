//! Loads configurations from text, each in its own directory.

mod admin;
mod alerts;
mod check_faults;
mod check_values;
mod defaults;
mod faults;
mod files;
mod fit;
mod request_faults;
mod rules;
mod traps;
mod visibility;
mod warnings;

use std::path::Path;

use super::{ConfigFaults, Setup, load};
use crate::config::fault::ConfigFault;

/// A zone for all configurations here.
const ZONE: &str = "$TTL 60\n@ SOA ns1 host 1 3600 600 604800 30\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.1\nns2 A 192.0.2.2\n\
                    fixed A 192.0.2.3\nsub NS ns.elsewhere.\n\
                    bound HTTPS 1 . ipv4hint=192.0.2.3\n";

/// Sections that a configuration needs but the test does not care about; they follow the tested
/// text.
const REST: &str = "
[zones.\"example.com\"]
file = \"example.com.zone\"
[pools.web]
backends = [\"192.0.2.11\", \"192.0.2.12\", \"192.0.2.13\"]
[services.\"www.example.com\"]
pools = [\"web\"]
";

/// Loads `main`, with `files` and the zone of the tests in the same directory.
fn load_files(main: &str, files: &[(&str, &str)]) -> Result<Setup, ConfigFaults> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("example.com.zone", ZONE), ("steerd.toml", main)].iter().chain(files) {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    load(&directory.path().join("steerd.toml"))
}

/// Loads `text`, followed by the sections that a configuration needs.
fn load_with_rest(text: &str) -> Result<Setup, ConfigFaults> {
    load_files(&format!("{text}{REST}"), &[])
}

fn loaded(text: &str) -> Setup {
    load_files(text, &[]).unwrap_or_else(|faults| panic!("{text}\n{faults}"))
}

/// A fault in one line: place without directory, message, hint.
fn told(fault: &ConfigFault) -> String {
    let file = fault.location.file.file_name().map_or("", |name| name.to_str().unwrap());
    let hint = fault.hint.as_ref().map(|hint| format!(" | {hint}")).unwrap_or_default();
    let directory = fault.location.file.parent().unwrap_or(Path::new("")).display().to_string();
    let message = fault.message.replace(&format!("{directory}/"), "");
    format!("{file}:{}:{} {message}{hint}", fault.location.line, fault.location.column)
}

fn errors(result: &Result<Setup, ConfigFaults>) -> Vec<String> {
    result.as_ref().err().map(|faults| faults.errors().map(told).collect()).unwrap_or_default()
}

/// Checks that a configuration has exactly one error; `expected` is `LINE:COLUMN MESSAGE | HINT`.
fn one_error(text: &str, expected: &str) {
    let result = load_with_rest(text);
    assert_eq!(errors(&result), [format!("steerd.toml:{expected}")], "\n{text}");
}

/// As [`one_error`], for a pool `x` with these lines, which begin on line 2.
fn in_pool(lines: &str, expected: &str) {
    one_error(&format!("[pools.x]\n{lines}\n"), expected);
}

/// As [`one_error`], for a pool `x` with this check; column 9 is where it begins.
fn in_check(check: &str, expected: &str) {
    in_pool(&format!("check = {check}\nbackends = [\"192.0.2.1\"]"), expected);
}

/// As [`one_error`], for a service `x.example.com` with these lines, which begin on line 2.
fn in_service(lines: &str, expected: &str) {
    one_error(&format!("[services.\"x.example.com\"]\n{lines}\n"), expected);
}
