//! Checks that the source respects the order of the floors, and that `docs/ARCHITECTURE.md` matches the source.
//!
//! The module list of `src/lib.rs` is the architecture: a module names only modules above it in the list. The other
//! rules are in the tables below, each with its reason.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules whose only inputs are their arguments.
const PURE: [&str; 22] = [
    "cookie",
    "counters",
    "duration",
    "keys",
    "name",
    "network",
    "rules",
    "printable",
    "spelling",
    "pem",
    "plan",
    "pool",
    "check",
    "selection",
    "service",
    "settings",
    "zone",
    "served",
    "health",
    "table",
    "wire",
    "answer",
];

/// Names that pure modules must not use, with the alternative.
const IMPURE: [(&str, &str); 11] = [
    ("tokio", "the pure floors are synchronous: give the value as an argument"),
    ("Instant::now", "time is an argument: `health::Moment`"),
    ("SystemTime", "time is an argument: `health::Moment`"),
    ("UdpSocket", "sockets belong to `listener` and `probe`"),
    ("TcpStream", "sockets belong to `listener` and `probe`"),
    ("rand::rng", "chance is an argument: take a generator"),
    ("tracing", "return a fact, and let the caller log it"),
    ("std::fs", "take the bytes, or a way to get them, as an argument"),
    ("Mutex", "there is one writer: publish a new table"),
    ("RwLock", "there is one writer: publish a new table"),
    ("arc_swap", "there is one published cell: `table::Published`"),
];

/// Modules that take the time and random numbers as arguments, like pure modules, but write log lines and show times
/// of day.
const SANS_IO: [&str; 1] = ["fleet"];

/// Names of [`IMPURE`] that [`SANS_IO`] modules may use.
const OUTPUTS: [&str; 2] = ["tracing", "SystemTime"];

/// Further names that [`SANS_IO`] modules must not use, with the alternative.
const CLOCKS: [(&str, &str); 2] = [
    ("SystemTime::now", "the time is an argument: `fleet::Clocks`"),
    ("make_rng", "chance is an argument: take a generator"),
];

/// Dependencies that the order alone would allow: a module, names that it must not use, and the reason.
const SIDEWAYS: [(&str, &[&str], &str); 4] = [
    (
        "answer",
        &["health", "probe", "checker", "metrics"],
        "answers are made from the table and nothing else",
    ),
    ("health", &["zone", "table"], "health knows addresses, not DNS"),
    ("probe", &["table"], "a probe reports; what follows is not its business"),
    (
        "config",
        &["probe", "fleet", "checker"],
        "a configuration is plain: `check` and `served` are what it makes",
    ),
];

/// The only part of `health` that `probe` may use.
const PROBE_KNOWS_OF_HEALTH: &str = "crate::health::Outcome";

/// File formats are used only at the edge.
const SERDE: [&str; 9] =
    ["alerts", "visibility", "config", "state", "sets", "audit", "upgrade", "admin", "cli"];

const MAX_LINES: usize = 600;

/// The shell of the fleet, and its maximum number of lines in total, so that it can be read in one sitting.
const SHELL: (&str, usize) = ("checker", 400);

/// The file whose types may have the names of types elsewhere, because each is the document of the API for that type.
const DOCUMENTS: &str = "admin/status.rs";

/// The names that types of [`DOCUMENTS`] share, and what each is the document of.
const MIRRORED: [(&str, &str); 8] = [
    ("Backend", "a `pool::Backend` with its state"),
    ("Check", "a `check::Check` with its state"),
    ("Outcome", "a `health::Outcome` with its time and detail"),
    ("Override", "a `pool::Override` with its reason and end"),
    ("Pool", "a `pool::Pool` with its state"),
    ("Service", "a `service::Service` with the tier that answers"),
    ("Suspected", "a `fleet::Suspected`"),
    ("Transition", "a `health::Transition` with its time"),
];

/// A source file, below `src/`.
struct Source {
    /// For example `zone/builder.rs`.
    path: String,
    text: String,
    /// Whether the whole file is compiled only for tests.
    test: bool,
}

impl Source {
    /// The top-level module of the file; none for `lib.rs` and `main.rs`.
    fn module(&self) -> Option<&str> {
        let first = self.path.split('/').next()?;
        let module = first.strip_suffix(".rs").unwrap_or(first);
        (module != "lib" && module != "main").then_some(module)
    }
}

/// The modules of `lib.rs`, in order.
fn modules(lib: &str) -> Vec<&str> {
    lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect()
}

/// The text with comments and the contents of strings blanked; the lines stay the same.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            string_length(rest)
        } else if let Some(raw) = rest.strip_prefix('r').filter(|_| !code.ends_with(is_identifier)) {
            raw_string_length(raw).map_or(0, |length| length + 1)
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\''") {
            4
        } else {
            0
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.push(' ');
            code.extend(rest[..skipped].chars().filter(|&char| char == '\n'));
            rest = &rest[skipped..];
        }
    }
    code
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, char) in text.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a raw string without its `r`; none if it is not a raw string.
fn raw_string_length(text: &str) -> Option<usize> {
    let hashes = text.chars().take_while(|&char| char == '#').count();
    let body = text.get(hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(body.find(&end).map_or(text.len(), |at| hashes + 1 + at + end.len()))
}

fn is_identifier(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// The lines, from 1, that contain `word` as a whole word.
fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let stands_alone = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            !line[..at].ends_with(is_identifier) && !line[at + word.len()..].starts_with(is_identifier)
        })
    };
    code.lines().zip(1..).filter(|(line, _)| stands_alone(line)).map(|(_, number)| number).collect()
}

/// An item without its `pub` or `pub(..)`.
fn without_visibility(item: &str) -> &str {
    match item.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ").map_or(item, |(_, item)| item),
        Some(rest) => rest.strip_prefix(' ').unwrap_or(item),
        None => item,
    }
}

/// The modules behind `#[cfg(test)]`: the line of each (from 0), its name, and whether its body is in the file.
fn test_modules(code: &str) -> Vec<(usize, &str, bool)> {
    let lines: Vec<&str> = code.lines().collect();
    let declared_after = |start: usize| {
        let (at, line) =
            lines.iter().enumerate().skip(start).find(|(_, line)| !line.trim().starts_with("#["))?;
        let declared = without_visibility(line.trim()).strip_prefix("mod ")?;
        Some((at, declared.trim_end_matches([';', '{', ' ']), declared.ends_with('{')))
    };
    (0..lines.len())
        .filter(|&at| lines[at].trim() == "#[cfg(test)]")
        .filter_map(|at| declared_after(at + 1))
        .collect()
}

/// The code without the tests at its end.
fn without_tests(code: &str) -> String {
    let body = test_modules(code).into_iter().find(|(_, _, has_body)| *has_body);
    code.lines().take(body.map_or(usize::MAX, |(line, ..)| line)).collect::<Vec<_>>().join("\n")
}

/// The modules named as `crate::module`, each with its line.
fn named_modules(code: &str) -> Vec<(usize, &str)> {
    code.lines()
        .zip(1..)
        .flat_map(|(line, number)| {
            line.match_indices("crate::").map(move |(at, found)| {
                let rest = &line[at + found.len()..];
                (number, &rest[..rest.find(|char| !is_identifier(char)).unwrap_or(rest.len())])
            })
        })
        .collect()
}

/// All violations in one file.
fn faults(source: &Source, modules: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    let path = &source.path;
    let code = code(&source.text);
    if !source.text.starts_with("//!") {
        faults.push(format!("{path}:1: the file must begin with `//!`: what lives here, and what must not"));
    }
    if source.text.lines().count() > MAX_LINES {
        faults.push(format!("{path}: more than {MAX_LINES} lines; find the better cut"));
    }
    for line in lines_with(&code, "super::super") {
        faults.push(format!("{path}:{line}: name the module in full, `crate::module`, not `super::super`"));
    }
    if source.module() != Some("sys") {
        for line in lines_with(&code, "unsafe") {
            faults.push(format!("{path}:{line}: unsafe code belongs to `sys`"));
        }
    }
    if let Some(module) = source.module() {
        match modules.iter().position(|name| *name == module) {
            None => faults.push(format!("{path}: the module `{module}` is not in the list of src/lib.rs")),
            Some(place) => faults.extend(floor_faults(path, &code, module, modules, place)),
        }
        if !source.test {
            faults.extend(word_faults(path, &without_tests(&code), module));
        }
    }
    faults
}

fn floor_faults(path: &str, code: &str, module: &str, modules: &[&str], place: usize) -> Vec<String> {
    let mut faults = Vec::new();
    for (line, named) in named_modules(code) {
        match modules.iter().position(|name| *name == named) {
            None => faults.push(format!(
                "{path}:{line}: `crate::{named}` is no module; name the module in full, with a `use` for each"
            )),
            Some(below) if below > place => {
                faults.push(format!(
                    "{path}:{line}: `{module}` names `{named}`, which stands below it in src/lib.rs"
                ));
            }
            Some(_) => {}
        }
        for (_, banned, reason) in SIDEWAYS.iter().filter(|(from, ..)| *from == module) {
            if banned.contains(&named) {
                faults.push(format!("{path}:{line}: `{module}` must not name `{named}`: {reason}"));
            }
        }
    }
    if module == "probe" {
        let known = lines_with(code, PROBE_KNOWS_OF_HEALTH);
        for line in lines_with(code, "crate::health").into_iter().filter(|line| !known.contains(line)) {
            faults.push(format!("{path}:{line}: `probe` knows of health only `{PROBE_KNOWS_OF_HEALTH}`"));
        }
    }
    faults
}

fn word_faults(path: &str, code: &str, module: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if PURE.contains(&module) {
        // The only published cell is that of the table.
        for (word, instead) in IMPURE.iter().filter(|(word, _)| module != "table" || *word != "arc_swap") {
            for line in lines_with(code, word) {
                faults.push(format!("{path}:{line}: `{word}` on a pure floor; {instead}"));
            }
        }
    }
    if SANS_IO.contains(&module) {
        let impure = IMPURE.iter().filter(|(word, _)| !OUTPUTS.contains(word));
        for (word, instead) in impure.chain(&CLOCKS) {
            for line in lines_with(code, word) {
                faults.push(format!("{path}:{line}: `{word}` in a core without input or output; {instead}"));
            }
        }
    }
    if !SERDE.contains(&module) {
        for word in ["serde", "serde_json"] {
            for line in lines_with(code, word) {
                faults.push(format!(
                    "{path}:{line}: file formats stay at the edge: `{word}` only in {SERDE:?}"
                ));
            }
        }
    }
    faults
}

/// The path of a file's module, for example `zone::builder`; empty for `lib.rs`.
fn module_of(path: &str) -> Vec<&str> {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    let mut module: Vec<&str> = stem.split('/').collect();
    if matches!(module.last(), Some(&"mod" | &"lib")) {
        module.pop();
    }
    module
}

/// All paths that a file names, complete from the root of the crate; groups in braces are expanded.
fn named_paths(code: &str, module: &[&str], children: &BTreeSet<&str>) -> BTreeSet<Vec<String>> {
    let mut paths = BTreeSet::new();
    let is_path = |char: char| is_identifier(char) || char == ':';
    let mut at = 0;
    while let Some(start) = code[at..].find(is_path).map(|found| at + found) {
        let rest = &code[start..];
        let end = rest.find(|char| !is_path(char)).unwrap_or(rest.len());
        at = start + end;
        let mut parts: Vec<&str> = rest[..end].split("::").collect();
        if code[..start].ends_with('.') || parts.len() < 2 {
            continue;
        }
        let mut path: Vec<String> = match parts[0] {
            "crate" => Vec::new(),
            "super" => module[..module.len().saturating_sub(1)].iter().map(|&part| part.into()).collect(),
            "self" => module.iter().map(|&part| part.into()).collect(),
            child if children.contains(child) => {
                parts.insert(0, "self");
                module.iter().map(|&part| part.into()).collect()
            }
            _ => continue,
        };
        path.extend(parts[1..].iter().filter(|part| !part.is_empty()).map(|&part| part.into()));
        if code[at..].starts_with('{') {
            let group = &code[at + 1..];
            for member in group[..group.find('}').unwrap_or(group.len())].split(',') {
                let mut member_path = path.clone();
                member_path.extend(member.trim().split("::").map(Into::into));
                paths.insert(member_path);
            }
        }
        paths.insert(path);
    }
    paths
}

/// For each file, the files whose names it uses. A directory's `mod.rs` has the names that its files share, so using
/// those creates no dependency.
fn arrows(sources: &[Source]) -> BTreeMap<&str, BTreeSet<&str>> {
    let files: BTreeMap<Vec<&str>, &str> = sources
        .iter()
        .filter(|source| !source.test && source.module().is_some())
        .map(|source| (module_of(&source.path), source.path.as_str()))
        .collect();
    let mut arrows = BTreeMap::new();
    for (module, path) in &files {
        let source = sources.iter().find(|source| source.path == **path).unwrap();
        let children: BTreeSet<&str> = files
            .keys()
            .filter(|other| other.len() == module.len() + 1 && other.starts_with(module))
            .map(|other| other[module.len()])
            .collect();
        let named = named_paths(&without_tests(&code(&source.text)), module, &children);
        let owner = |named: &Vec<String>| {
            let named: Vec<&str> = named.iter().map(String::as_str).collect();
            let owner = (1..=named.len()).rev().find(|&length| files.contains_key(&named[..length]))?;
            (!module.starts_with(&named[..owner])).then(|| files[&named[..owner]])
        };
        arrows.insert(*path, named.iter().filter_map(owner).collect());
    }
    arrows
}

/// Groups of files in which each file depends on all others.
fn circles(arrows: &BTreeMap<&str, BTreeSet<&str>>) -> BTreeSet<Vec<String>> {
    let reached = |from: &str| {
        let mut reached = BTreeSet::new();
        let mut ahead: Vec<&str> = arrows.get(from).into_iter().flatten().copied().collect();
        while let Some(file) = ahead.pop() {
            if reached.insert(file) {
                ahead.extend(arrows.get(file).into_iter().flatten());
            }
        }
        reached
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> = arrows.keys().map(|&file| (file, reached(file))).collect();
    let circle = |file: &&str| -> Vec<String> {
        reach[file].iter().filter(|other| reach[**other].contains(file)).map(|&other| other.into()).collect()
    };
    arrows.keys().map(circle).filter(|circle| !circle.is_empty()).collect()
}

/// The name of the type that a line declares, if it declares one. A type within an `impl` or a `trait`, which is
/// indented, is not declared but given.
fn declared_type(line: &str) -> Option<&str> {
    let item = line.trim_start();
    let (keyword, rest) = without_visibility(item).split_once(' ')?;
    let declares = match keyword {
        "struct" | "enum" | "union" | "trait" => true,
        "type" => item == line,
        _ => false,
    };
    let name = &rest[..rest.find(|char| !is_identifier(char)).unwrap_or(rest.len())];
    (declares && !name.is_empty()).then_some(name)
}

/// The types of the program that have one name, by that name, with the place of each.
fn types_of_one_name(sources: &[Source]) -> BTreeMap<String, Vec<String>> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.test) {
        let code = without_tests(&code(&source.text));
        for (line, number) in code.lines().zip(1..) {
            if let Some(name) = declared_type(line) {
                places.entry(name.into()).or_default().push(format!("{}:{number}", source.path));
            }
        }
    }
    places.retain(|_, places| places.len() > 1);
    places
}

#[test]
fn each_type_has_a_name_of_its_own() {
    let mut found = types_of_one_name(&sources());
    for (name, document) in MIRRORED {
        let places = found.remove(name).unwrap_or_default();
        let documents = places.iter().filter(|place| place.starts_with(DOCUMENTS)).count();
        assert!(
            places.len() == 2 && documents == 1,
            "`{name}` must name a type of {DOCUMENTS}, {document}, and one other type, not {places:?}"
        );
    }
    let found: Vec<String> =
        found.iter().map(|(name, places)| format!("`{name}`: {}", places.join(", "))).collect();
    assert!(found.is_empty(), "a name says which type is meant; these name several:\n{}\n", found.join("\n"));
}

#[test]
fn a_name_of_two_types_is_found_however_they_are_declared() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into(), test: false };
    let found = |text: &str| {
        let sources = [source("a.rs", "/// An `enum Two`.\npub struct One<T>(T);"), source("b.rs", text)];
        types_of_one_name(&sources).into_keys().collect::<Vec<_>>()
    };
    for double in [
        "struct One;",
        "pub enum One<'a> {",
        "pub(super) trait One: Sized {",
        "pub(in crate::b) type One = u8;",
        "fn f() {\n    struct One(u8);\n}",
    ] {
        assert_eq!(found(double), ["One"], "{double}");
    }
    for innocent in [
        "struct OneMore;",
        "struct Two;",
        "impl A for B {\n    type One = u8;\n}",
        "// struct One;",
        "use crate::a::One;",
        "#[cfg(test)]\nmod tests {\n    struct One;\n}",
    ] {
        assert_eq!(found(innocent), Vec::<String>::new(), "{innocent}");
    }
}

#[test]
fn the_shell_of_the_fleet_is_short() {
    let (shell, most) = SHELL;
    let sources = sources();
    let files = sources.iter().filter(|source| !source.test && source.module() == Some(shell));
    let lines: usize = files.map(|source| source.text.lines().count()).sum();
    assert!((1..=most).contains(&lines), "{shell} has {lines} lines, at most {most} are allowed");
}

#[test]
fn files_stand_in_no_circle() {
    let sources = sources();
    let found: Vec<String> = circles(&arrows(&sources)).iter().map(|circle| circle.join(", ")).collect();
    assert!(found.is_empty(), "each file of a circle needs all others of it:\n{}\n", found.join("\n"));
}

#[test]
fn a_circle_is_found_however_its_names_are_written() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into(), test: false };
    let circle = |back: &str| {
        let sources = [
            source("a/mod.rs", "mod one;\nmod two;\npub struct Shared;"),
            source("a/one.rs", "use super::two::Two;\nuse super::Shared;"),
            source("a/two.rs", back),
            source("b.rs", "use crate::a::{Shared, one};"),
        ];
        circles(&arrows(&sources)).into_iter().collect::<Vec<_>>()
    };
    for back in [
        "use crate::a::one::One;",
        "fn f() { super::one::f() }",
        "use crate::{a::one, c};",
        "use super::{Shared, one};",
        "use crate::b::B;",
    ] {
        assert_eq!(circle(back).len(), 1, "{back}");
    }
    for innocent in
        ["use super::Shared;", "// crate::a::one", "#[cfg(test)]\nmod tests {\n    use crate::a::one;\n}"]
    {
        assert_eq!(circle(innocent), Vec::<Vec<String>>::new(), "{innocent}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// All files below `src/`.
fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut paths = Vec::new();
    rust_files(&src, &mut paths);
    let read: Vec<(PathBuf, String)> =
        paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect();
    let mut test_modules_at: Vec<PathBuf> = Vec::new();
    for (path, text) in &read {
        let directory = if path.ends_with("mod.rs") {
            path.parent().unwrap().to_owned()
        } else {
            path.with_extension("")
        };
        for (_, name, has_body) in test_modules(text) {
            if !has_body {
                test_modules_at.push(directory.join(name));
            }
        }
    }
    read.into_iter()
        .map(|(path, text)| Source {
            test: test_modules_at.iter().any(|at| path.starts_with(at) || path == at.with_extension("rs")),
            path: path.strip_prefix(&src).unwrap().to_string_lossy().into_owned(),
            text,
        })
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_source_keeps_to_its_floors() {
    let lib = read("src/lib.rs");
    let modules = modules(&lib);
    let sources = sources();
    assert!(modules.len() > 10 && sources.len() > modules.len(), "the list of src/lib.rs was not understood");
    assert!(PURE.iter().all(|module| modules.contains(module)), "a pure module is not in src/lib.rs");
    let faults: Vec<String> = sources.iter().flat_map(|source| faults(source, &modules)).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_map_of_the_architecture_is_that_of_the_source() {
    let document = read("docs/ARCHITECTURE.md");
    let map = document.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a map");
    let listed: Vec<&str> = map
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .map(|name| name.trim_end_matches(".rs").trim_end_matches('/'))
        .collect();
    assert_eq!(
        listed,
        modules(&read("src/lib.rs")),
        "the map and src/lib.rs list the same modules in one order"
    );
}

#[test]
fn every_path_and_module_that_the_architecture_names_exists() {
    let document = read("docs/ARCHITECTURE.md");
    let lib = read("src/lib.rs");
    let modules = modules(&lib);
    let outside_blocks: String = document.split("```").step_by(2).collect();
    let spans: Vec<&str> = outside_blocks.split('`').skip(1).step_by(2).collect();
    assert!(spans.len() > 10, "the document was not understood");
    for span in spans {
        let is_path = span.contains('/') || [".rs", ".md", ".toml"].iter().any(|end| span.ends_with(end));
        if is_path {
            assert!(root().join(span).exists() || root().join("src").join(span).exists(), "no file {span}");
        } else if let Some((module, _)) = span.split_once("::") {
            assert!(modules.contains(&module), "`{span}` begins with no module of src/lib.rs");
        }
    }
}

/// The violations in a file with this text at `path`.
fn faults_of(path: &str, text: &str) -> Vec<String> {
    let source = Source { path: path.into(), text: format!("//! Doc.\n{text}"), test: false };
    faults(&source, &["name", "pool", "zone", "health", "table", "wire", "answer", "probe", "sys", "admin"])
}

#[test]
fn each_rule_finds_its_breach() {
    for (path, text, expected) in [
        ("pool.rs", "use crate::zone::Zone;", "names `zone`, which stands below it"),
        ("pool.rs", "fn f() { crate::wire::read() }", "names `wire`, which stands below it"),
        ("answer/mod.rs", "use crate::health::State;", "`answer` must not name `health`"),
        ("health/mod.rs", "use crate::zone::Zone;", "`health` must not name `zone`"),
        ("probe/tcp.rs", "use crate::table::Table;", "`probe` must not name `table`"),
        ("probe/tcp.rs", "use crate::health::HealthTable;", "knows of health only"),
        ("pool.rs", "use crate::{name, zone};", "name the module in full"),
        ("pool.rs", "use crate::Name;", "name the module in full"),
        ("pool.rs", "use super::super::name;", "not `super::super`"),
        ("stray.rs", "", "is not in the list"),
        ("pool.rs", "use tokio::time;", "`tokio` on a pure floor"),
        ("zone/mod.rs", "let now = Instant::now();", "`Instant::now` on a pure floor"),
        ("name.rs", "let rng = rand::rng();", "`rand::rng` on a pure floor"),
        ("health/state.rs", "use arc_swap::ArcSwap;", "`arc_swap` on a pure floor"),
        ("table.rs", "use std::sync::Mutex;", "`Mutex` on a pure floor"),
        ("pool.rs", "#[derive(serde::Serialize)] struct A;", "`serde` only in"),
        ("admin/mod.rs", "unsafe { f() }", "unsafe code belongs to `sys`"),
        ("pool.rs", &"\n".repeat(MAX_LINES), "more than 600 lines"),
    ] {
        let found = faults_of(path, text);
        assert!(found.iter().any(|fault| fault.contains(expected)), "{path} {text:?}: {found:?}");
    }
    let undocumented = Source { path: "pool.rs".into(), text: "use std::fmt;".into(), test: false };
    assert!(faults(&undocumented, &["pool"]).iter().any(|fault| fault.contains("`//!`")));
}

#[test]
fn what_is_allowed_is_not_blamed() {
    for (path, text) in [
        ("zone/mod.rs", "use crate::pool::Pool;\nuse crate::zone::builder;"),
        ("table.rs", "use arc_swap::ArcSwap;"),
        ("probe/mod.rs", "use crate::health::Outcome;\nuse tokio::net::TcpStream;"),
        ("pool.rs", "use rand::rngs::SmallRng; // not tokio\n/* unsafe */ const A: &str = \"tokio unsafe\";"),
        (
            "pool.rs",
            "const A: &str = r#\"a \" tokio\"#; const B: char = '\"'; fn f<'a>() {} const C: char = '\\'';",
        ),
        ("pool.rs", "fn f() {}\n#[cfg(test)]\n#[allow(dead_code)]\nmod tests {\n    use tokio::time;\n}"),
        ("sys/mod.rs", "unsafe { f() }"),
        ("admin/mod.rs", "use serde::Serialize;\npub(crate) fn f() {}"),
        ("main.rs", "fn main() { steerd::cli::run() }"),
    ] {
        assert_eq!(faults_of(path, text), Vec::<String>::new(), "{path} {text:?}");
    }
}
