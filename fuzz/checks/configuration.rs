//! Loads arbitrary bytes as a configuration: every fault has a place, and loading twice gives the
//! same result.

use std::fs;
use std::path::Path;

use steerd::config;
use steerd::config::fault::{ConfigFault, ConfigFaults, Severity};
use steerd::reload::Configured;
use tempfile::TempDir;
use toml::de::{DeTable, DeValue};

use super::allocation;

/// Maximum length of an input, bytes.
const LONGEST: usize = 1 << 16;

/// Maximum memory for a configuration of that length, bytes.
const MEMORY: usize = 256 << 20;

/// Separates the main file from `other.toml`, which it may include: the ASCII file separator.
const SEPARATOR: u8 = 0x1c;

/// The zone that configurations may use as `zone`.
const ZONE: &str = "$TTL 60\n@ SOA ns1 host 1 3600 600 604800 30\n@ NS ns1\nns1 A 192.0.2.1\n";

/// A directory with the files that a configuration may name.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("zone", ZONE);
        write("token", "0123456789abcdef0123456789abcdef\n");
        write("key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n");
        write("secrets", "000102030405060708090a0b0c0d0e0f\n");
        Self(directory)
    }
}

/// Loads the input as a configuration.
pub(crate) fn check(files: &Files, input: &[u8]) {
    if input.len() > LONGEST {
        return;
    }
    let mut parts = input.splitn(2, |&byte| byte == SEPARATOR);
    let (main, other) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if [main, other].iter().any(|text| leaves_its_directory(text)) {
        return;
    }
    let directory = files.0.path();
    let file = directory.join("steerd.toml");
    fs::write(&file, main).unwrap();
    fs::write(directory.join("other.toml"), other).unwrap();
    let (loaded, peak) = allocation::peak_during(|| config::load(&file));
    assert!(peak <= MEMORY, "{peak} bytes of memory to read {} bytes", input.len());
    match (loaded, config::load(&file)) {
        (Ok(setup), Ok(again)) => {
            check_faults(directory, &setup.warnings);
            assert_eq!(setup.warnings.errors().count(), 0, "a valid configuration has no errors");
            assert_eq!(setup.warnings, again.warnings);
            assert_eq!(setup.served.services.len(), again.served.services.len());
            drop(Configured::of(&setup));
        }
        (Err(faults), Err(again)) => {
            check_faults(directory, &faults);
            assert!(faults.errors().next().is_some(), "a refused configuration has an error");
            assert_eq!(faults, again);
        }
        (first, second) => panic!("{first:?}, then {second:?}"),
    }
}

fn check_faults(directory: &Path, faults: &ConfigFaults) {
    for fault in faults.iter() {
        check_fault(directory, fault);
    }
    for shown in [faults.render(false), faults.to_string()] {
        let foreign = |character: &char| character.is_control() && *character != '\n';
        assert_eq!(shown.chars().find(foreign), None, "a control character reaches the terminal: {shown:?}");
    }
}

fn check_fault(directory: &Path, fault: &ConfigFault) {
    assert!(!fault.message.is_empty(), "{fault:?}");
    assert!(matches!(fault.severity, Severity::Error | Severity::Warning));
    let related = fault.related.iter().map(|(location, label)| (location, label.is_empty()));
    for (location, unlabelled) in std::iter::once((&fault.location, false)).chain(related) {
        assert!(!unlabelled && location.file.starts_with(directory), "{fault:?}");
        assert_eq!(location.line == 0, location.column == 0, "{fault:?}");
        assert!(location.text.get(location.span.clone()).is_some(), "{fault:?}");
    }
}

/// Whether a configuration may name files outside its directory, with an absolute path or with
/// `..`. Reading arbitrary files of the machine would reveal nothing about the configuration. HTTP
/// paths may be absolute, and so may programs, which are inspected but not run.
fn leaves_its_directory(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let (tree, _) = DeTable::parse_recoverable(text);
    in_table(tree.get_ref())
}

fn in_table(table: &DeTable<'_>) -> bool {
    table.iter().any(|(key, value)| {
        let may_be_absolute = ["path", "command", "args"].contains(&key.get_ref().as_ref());
        !may_be_absolute && in_value(value.get_ref())
    })
}

fn in_value(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::String(text) => text.trim_start().starts_with('/') || text.contains(".."),
        DeValue::Array(values) => values.iter().any(|value| in_value(value.get_ref())),
        DeValue::Table(table) => in_table(table),
        _ => false,
    }
}

/// Seeds: the examples, every section of the example with each of its keys, and typical mistakes.
pub(crate) fn first_inputs() -> Vec<Vec<u8>> {
    let minimal = include_str!("../../config/minimal.toml");
    let every = include_str!("../../config/example.toml");
    let mut inputs = vec![ZONES.to_owned(), here(minimal), here(every)];
    inputs.push(format!("include = [\"other.toml\"]\n{ZONES}\u{1c}[pools.b]\nbackends = [\"192.0.2.7\"]\n"));
    for section in every.split("\n\n") {
        let lines: Vec<&str> = section.lines().filter(|line| !line.starts_with('#')).collect();
        if !lines.is_empty() {
            inputs.push(here(&lines.join("\n")));
        }
    }
    for slip in SLIPS {
        inputs.push(format!("{ZONES}{slip}\n"));
    }
    inputs.into_iter().map(String::into_bytes).collect()
}

/// The example with the names of existing files.
fn here(text: &str) -> String {
    let mut text = text.replace("../zones/lb.example.com.zone", "zone").replace("# ", "");
    text = text.replace("admin.token", "token").replace("secondary.key", "key");
    text.replace("cookies.secret", "secrets")
}

const ZONES: &str = "[zones.\"lb.example.com\"]\nfile = \"zone\"\n";

const SLIPS: [&str; 14] = [
    "[pools.a]\nbackends = [\"192.0.2.1\", \"2001:db8::1\"]\ncheck = \"http://:8080/healthz\"\n\
     [services.\"a.lb.example.com\"]\npools = [\"a\"]",
    "[pools.a]\nbackends = [{ name = \"x\", address = \"192.0.2.1\", weight = 3, site = \"b\" }]\nmin_healthy = \"40%\"",
    "[pools.a]\nbackends = [\"192.0.2.1\"]\ncheck = { type = \"tcp\", port = 5432, expect = \"ok\", send = \"hi\\r\\n\" }",
    "[pools.a]\nbackends = [\"192.0.2.1\"]\ncheck = { type = \"http\", body = { matches = \"(a|b)*[\" } }",
    "[pools.a]\nbackends = [\"192.0.2.1\"]\ncheck = { type = \"https\", tls = { min_days_left = 3 }, interval = \"1m30s\" }",
    "[pools.a]\nbackends = [\"192.0.2.1\"]\ncheck = \"grpc://:50051/my.package.Service\"",
    "[pools.a]\nbackends = [\"192.0.2.1\"]\ncheck = { type = \"exec\", command = [\"/bin/true\", \"{address}\"] }",
    "[pool.a]\nbackends = [\"192.0.2.1\"]",
    "[pools.a]\nbackends = [\"192.0.2.999\", 3, true, \"\\u009b\"]",
    "[services.\"*.lb.example.com\"]\npools = [\"nothing\"]\nttl = \"3000d\"",
    "[server]\nlisten = \"0.0.0.0\"\nrate_limit = { responses_per_second = -1 }",
    "[server\nlisten = [",
    "[keys.k]\nsecret_file = \"key\"\n[zones.\"b.example\"]\nfile = \"missing\"\ntransfer = { keys = [\"k\"], networks = [\"any\"] }",
    "[defaults.check]\ninterval = \"5s\"\nrise = 0\n[defaults.pool]\nrequire = \"any\"\n[defaults.service]\nttl = 20",
];
