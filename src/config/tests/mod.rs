//! Configurations as text, loaded from a directory of their own.

mod defaults;
mod faults;
mod files;
mod fit;
mod warnings;

use std::path::Path;

use super::{Faults, Setup, load};
use crate::config::fault::Fault;

/// A zone that every configuration here can use.
const ZONE: &str = "$TTL 60\n@ SOA ns1 host 1 3600 600 604800 30\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.1\nns2 A 192.0.2.2\n\
                    fixed A 192.0.2.3\nsub NS ns.elsewhere.\n\
                    bound HTTPS 1 . ipv4hint=192.0.2.3\n";

/// The sections that a configuration needs and a test is not about, below what it is about.
const REST: &str = "
[zones.\"example.com\"]
file = \"example.com.zone\"
[pools.web]
backends = [\"192.0.2.11\", \"192.0.2.12\", \"192.0.2.13\"]
[services.\"www.example.com\"]
pools = [\"web\"]
";

/// Loads `main`, with `files` beside it and the zone of the tests.
fn load_files(main: &str, files: &[(&str, &str)]) -> Result<Setup, Faults> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("example.com.zone", ZONE), ("steerd.toml", main)].iter().chain(files) {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    load(&directory.path().join("steerd.toml"))
}

/// Loads `text` with the rest of what a configuration needs below it.
fn load_with_rest(text: &str) -> Result<Setup, Faults> {
    load_files(&format!("{text}{REST}"), &[])
}

fn loaded(text: &str) -> Setup {
    load_files(text, &[]).unwrap_or_else(|faults| panic!("{text}\n{faults}"))
}

/// A fault in one line: place without directory, message, hint.
fn told(fault: &Fault) -> String {
    let file = fault.place.file.file_name().map_or("", |name| name.to_str().unwrap());
    let hint = fault.hint.as_ref().map(|hint| format!(" | {hint}")).unwrap_or_default();
    let directory = fault.place.file.parent().unwrap_or(Path::new("")).display().to_string();
    let message = fault.message.replace(&format!("{directory}/"), "");
    format!("{file}:{}:{} {message}{hint}", fault.place.line, fault.place.column)
}

fn errors(result: &Result<Setup, Faults>) -> Vec<String> {
    result.as_ref().err().map(|faults| faults.errors().map(told).collect()).unwrap_or_default()
}
