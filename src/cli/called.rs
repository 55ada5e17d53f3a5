//! The name of this program in commands that people paste.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The longest name with which each command in the welcome text of the demo fits on a line, characters.
pub(super) const LONGEST_PROGRAM: usize = 29;

/// The name under which this program was called, or another that finds it.
pub(super) fn program() -> String {
    let path = env::var_os("PATH").unwrap_or_default();
    let found: Vec<PathBuf> = env::split_paths(&path).map(|directory| directory.join("steerd")).collect();
    name(env::args().next(), env::current_exe().ok().as_deref(), env::current_dir().ok().as_deref(), &found)
}

/// The first of these that finds the running program: the name under which it was `called`, unless that is long;
/// `steerd`, if that is the first of the files `found` on the search path; its path below the directory `here`; its
/// whole path.
fn name(called: Option<String>, running: Option<&Path>, here: Option<&Path>, found: &[PathBuf]) -> String {
    let is_short = |called: &String| called.len() <= LONGEST_PROGRAM && !called.contains(char::is_whitespace);
    if let Some(called) = called.filter(is_short) {
        return called;
    }
    let Some(running) = running else { return "steerd".into() };
    let real = |path: &Path| fs::canonicalize(path).ok();
    let first = found.iter().find(|path| path.is_file());
    if first.is_some_and(|first| real(first).is_some() && real(first) == real(running)) {
        return "steerd".into();
    }
    let below = here.and_then(|here| running.strip_prefix(here).ok());
    word(&below.map_or_else(
        || running.to_string_lossy(),
        |below| Path::new(".").join(below).to_string_lossy().into_owned().into(),
    ))
}

/// A word for a shell.
pub(super) fn word(text: &str) -> String {
    let is_plain = |char: char| char.is_alphanumeric() || "/._-+@:,".contains(char);
    if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        for (path, quoted) in [("./steerd.toml", "./steerd.toml"), ("a b", "'a b'"), ("it's", r"'it'\''s'")] {
            assert_eq!(word(path), quoted);
        }
    }

    #[test]
    fn commands_name_this_program_as_it_was_called_or_where_it_is() {
        let directory = tempfile::TempDir::new().unwrap();
        let running = directory.path().join("a place/steerd");
        fs::create_dir(running.parent().unwrap()).unwrap();
        fs::write(&running, "").unwrap();
        let other = directory.path().join("steerd");
        fs::write(&other, "").unwrap();
        let (shown, here) = (running.display(), Some(directory.path()));
        let short = Some("target/release/steerd".to_owned());
        assert_eq!(name(short, Some(&running), here, &[]), "target/release/steerd");
        let missing = directory.path().join("missing/steerd");
        for long in [None, Some("x".repeat(LONGEST_PROGRAM + 1)), Some("./a b/steerd".to_owned())] {
            let name = |here, found: &[PathBuf]| name(long.clone(), Some(&running), here, found);
            assert_eq!(name(here, &[missing.clone(), running.clone()]), "steerd");
            assert_eq!(name(here, &[other.clone(), running.clone()]), "'./a place/steerd'");
            assert_eq!(name(None, std::slice::from_ref(&missing)), format!("'{shown}'"));
        }
    }
}
