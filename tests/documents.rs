//! Holds what the documents show to what the program does.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs;
use std::path::Path;

const DOCUMENTS: [&str; 3] = ["README.md", "docs/ARCHITECTURE.md", "docs/OPERATIONS.md"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The contents of the fenced blocks marked `language`.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    document.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn every_configuration_shown_loads() {
    let documents = DOCUMENTS.map(read);
    let zone =
        documents.iter().flat_map(|text| blocks(text, "zone")).next().expect("a zone file in a document");
    let mut shown = 0;
    for (path, text) in DOCUMENTS.iter().zip(&documents) {
        for block in blocks(text, "toml") {
            let directory = tempfile::tempdir().unwrap();
            let config = directory.path().join("steerd.toml");
            fs::write(&config, block).unwrap();
            fs::write(directory.path().join("lb.example.com.zone"), zone).unwrap();
            if let Err(faults) = steerd::config::load(&config) {
                panic!("a configuration in {path}:\n{}", faults.render(false));
            }
            shown += 1;
        }
    }
    assert!(shown > 0, "no document shows a configuration");
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    for path in DOCUMENTS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        for link in read(path).split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let target = directory.parent().unwrap().join(link);
            assert!(link.contains("://") || target.exists(), "{path} links to {link}, which is not there");
        }
    }
}
