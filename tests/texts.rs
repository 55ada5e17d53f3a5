//! Collects every text that the program can print in one list; `cargo test --test texts -- --nocapture`
//! prints where it is. Read the list when messages change: the rules below catch only what a machine can.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs;
use std::path::{Path, PathBuf};

/// A string literal of the source.
struct Text {
    /// Its file and line.
    place: String,
    /// As written, with line continuations removed.
    words: String,
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(&*name, "tests" | "simulation") {
                rust_files(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

/// The string literals in front of a file's tests.
fn texts(path: &str, source: &str) -> Vec<Text> {
    // Tests are at the end of a file; files that contain only tests are skipped.
    let body = source.match_indices("#[cfg(test)]").find(|(at, _)| {
        let declared = source[*at..].lines().find(|line| !line.starts_with("#["));
        declared.is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
    });
    let source = &source[..body.map_or(source.len(), |(at, _)| at)];
    let bytes = source.as_bytes();
    let (mut texts, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let rest = &source[at..];
        let line = || format!("{path}:{}", 1 + source[..at].matches('\n').count());
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\''") {
            at += 3;
        } else if rest.starts_with("r\"") || rest.starts_with("r#\"") {
            let (open, close) = if rest.starts_with("r\"") { (2, "\"") } else { (3, "\"#") };
            let end = rest[open..].find(close).unwrap();
            texts.push(Text { place: line(), words: rest[open..open + end].into() });
            at += open + end + close.len();
        } else if let Some(body) = rest.strip_prefix('"') {
            let mut end = 0;
            while !body[end..].starts_with('"') {
                end += if body[end..].starts_with('\\') { 2 } else { 1 };
                while !body.is_char_boundary(end) {
                    end += 1;
                }
            }
            let mut parts = body[..end].split("\\\n");
            let mut words = parts.next().unwrap().to_owned();
            parts.for_each(|part| words.push_str(part.trim_start()));
            texts.push(Text { place: line(), words });
            at += end + 2;
        } else {
            at += rest.chars().next().unwrap().len_utf8();
        }
    }
    texts
}

/// Whether people read the text: it has several words.
fn is_prose(words: &str) -> bool {
    words.split_whitespace().filter(|word| word.chars().any(char::is_alphabetic)).count() > 2
}

fn all() -> Vec<Text> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    files.sort();
    let of = |file: &PathBuf| {
        let path = file.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        texts(&path, &fs::read_to_string(file).unwrap())
    };
    files.iter().flat_map(of).filter(|text| is_prose(&text.words)).collect()
}

/// The violated rule, if any.
fn fault(words: &str) -> Option<&'static str> {
    let openers = ["What ", "Who ", "Whoever ", "Whatever "];
    if openers.iter().any(|opener| words.starts_with(opener) || words.contains(&format!(". {opener}"))) {
        return Some("no sentence begins so: subject, verb, object");
    }
    if words.contains("whoever") {
        return Some("name the one who acts: the operator, the client, the process");
    }
    if words.contains(" ,") || words.contains(" .") && !words.contains(" ..") && words.contains(" . ") {
        return Some("a space stands before a comma or a full stop");
    }
    None
}

#[test]
fn every_text_is_in_one_list_and_keeps_the_rules() {
    let texts = all();
    assert!(texts.len() > 500, "the source was not understood: {} texts", texts.len());
    let list: Vec<String> = texts.iter().map(|text| format!("{}: {}", text.place, text.words)).collect();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("texts.txt");
    fs::write(&path, list.join("\n")).unwrap();
    println!("{} texts: {}", texts.len(), path.display());
    let faults: Vec<String> = texts
        .iter()
        .filter_map(|text| Some(format!("{}: {:?}: {}", text.place, text.words, fault(&text.words)?)))
        .collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn texts_are_found_however_they_are_written() {
    let source = "// \"no comment here\"\nf(\"a \\\"quoted\\\" word\");\nlet c = '\"';\nf(\"one \\\n   two three\", \
                  r#\"raw \"text\" too\"#);\n#[cfg(test)]\nmod tests {\n    f(\"not this one\");\n}";
    let found: Vec<(String, String)> =
        texts("f.rs", source).into_iter().map(|text| (text.place, text.words)).collect();
    let expected =
        [("f.rs:2", "a \\\"quoted\\\" word"), ("f.rs:4", "one two three"), ("f.rs:5", "raw \"text\" too")];
    assert_eq!(found, expected.map(|(place, words)| (place.into(), words.into())));
    assert!(fault("What is stuck cannot tell so").is_some() && fault("The checker is stuck").is_none());
}
