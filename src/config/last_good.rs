//! `[server] start_with_last_good`, read even if the configuration has mistakes: then it counts.
//!
//! The main file must be readable, and its lines up to the section `[server]` must be TOML. A mistake elsewhere, an
//! unknown key or a faulty value hide nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::document::{Document, Sections};
use crate::config::fault::ConfigFaults;
use crate::config::load;
use crate::config::source::{Findings, SourceFile};
use crate::config::value::TomlValue;
use crate::file::{self, FileKind, Reading};

/// The `state_dir` of a configuration that allows a start with the last good one; none if it does not, or cannot be
/// read.
#[must_use]
pub fn state_dir_for_last_good(path: &Path) -> Option<PathBuf> {
    let main = path.to_owned();
    let find = move |reading: &Arc<Reading>| -> Result<_, ConfigFaults> {
        Ok(read(&Findings::of(Arc::clone(reading)), &main))
    };
    load::within(load::LOAD_TIME, path, &Arc::default(), find).ok()?
}

fn read(findings: &Findings, path: &Path) -> Option<PathBuf> {
    let content = findings.read(path, FileKind::Configuration, file::CONFIGURATION).ok()?;
    let source = SourceFile::from_bytes(path, content.bytes, true).ok()?;
    let main = Document::parse(&source, findings);
    let included = main.included(findings);
    let included: Vec<_> = included.iter().map(|source| Document::parse(source, findings)).collect();
    let server = Sections::collect(&main, &included, findings).server?;
    let mut table = server.value.table(server.at)?;
    let allowed = table.read("start_with_last_good", TomlValue::boolean)?.value;
    table.read("state_dir", TomlValue::path).map(|read| read.value).filter(|_| allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_found_in_a_configuration_full_of_faults() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("steerd.toml");
        let of = |text: &str| {
            std::fs::write(&path, text).unwrap();
            state_dir_for_last_good(&path)
        };
        let found = Some(directory.path().join("state"));
        let server = "[server]\nstart_with_last_good = true\nstate_dir = \"state\"\n";
        for rest in [
            "",
            "odd = 1\nworkers = 'x'\n",
            "[pools\n",
            "[pools.web]\nbackends = [\n",
            "[zones.a]\nfile = 5\n",
        ] {
            assert_eq!(of(&format!("{server}{rest}")), found, "{rest}");
        }
        for text in [
            "",
            "[server]\nstate_dir = \"state\"\n",
            "[server]\nstart_with_last_good = false\nstate_dir = \"state\"\n",
            "[server]\nstart_with_last_good = true\n",
            "\u{0}",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(state_dir_for_last_good(&directory.path().join("none")), None);
    }
}
