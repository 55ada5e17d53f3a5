//! Checks that the tests named in the table of standards exist.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files at a path or below it.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().flat_map(|entry| sources(&entry.unwrap().path())).collect()
    } else {
        path.extension().is_some_and(|extension| extension == "rs").then(|| path.into()).into_iter().collect()
    }
}

/// Whether a file has this test: a test attribute followed by the function.
fn has_test(file: &Path, name: &str) -> bool {
    let text = std::fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let attribute = |line: &str| line.starts_with("#[") && line.contains("test");
    let function = |line: &str| line.trim_start_matches("async ").starts_with(&format!("fn {name}("));
    lines.windows(2).any(|pair| attribute(pair[0]) && function(pair[1]))
}

/// Whether `module::path::name` is a test of the library, or of the test program `module`.
fn exists(path: &str) -> bool {
    let (module, rest) = path.split_once("::").unwrap();
    let name = rest.rsplit("::").next().unwrap();
    ["src", "tests"].iter().any(|folder| {
        let place = root().join(folder).join(module);
        [place.with_extension("rs"), place]
            .iter()
            .filter(|place| place.exists())
            .flat_map(|place| sources(place))
            .any(|file| has_test(&file, name))
    })
}

#[test]
fn every_row_names_tests_that_exist() {
    let document = std::fs::read_to_string(root().join("docs/RFC.md")).unwrap();
    let (table, _) = document.split_once("\n## ").unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 30, "the table is not where it was: {} rows", rows.len());
    for row in rows {
        let column = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap();
        let tests: Vec<&str> = column.split(',').map(|test| test.trim().trim_matches('`')).collect();
        for test in tests {
            assert!(test.contains("::") && exists(test), "no such test: {test:?} in the row\n{row}");
        }
    }
    assert!(!exists("answer::tests::that_is_not_there"));
}
