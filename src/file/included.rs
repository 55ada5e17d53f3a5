//! The files that a pattern of `include` matches.

use std::io;
use std::path::{Path, PathBuf, absolute};

use glob::{GlobError, MatchOptions, Pattern};

/// A star matches neither a slash nor a leading dot: editors keep hidden files in the same directory.
const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The most files that one pattern may match.
const MAX_MATCHES: usize = 10_000;

/// The files that a pattern matches, by name.
#[derive(Debug, Default)]
pub struct Matches {
    /// The files.
    pub files: Vec<PathBuf>,
    /// Why there may be others.
    pub faults: Vec<PatternFault>,
}

/// Why a pattern does not lead to all its files.
#[derive(Debug, thiserror::Error)]
pub enum PatternFault {
    /// It is no pattern.
    #[error("this is not a pattern of paths: {0}")]
    NoPattern(&'static str),
    /// The load was abandoned, or another one hangs there.
    #[error("cannot look for {}: {error}", pattern.display())]
    NotLookedAt {
        /// The pattern.
        pattern: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// A directory cannot be read.
    #[error("cannot look for files: {0}")]
    Directory(GlobError),
    /// It has too many files.
    #[error("this matches more than {MAX_MATCHES} files")]
    TooMany,
}

impl From<PatternFault> for Matches {
    fn from(fault: PatternFault) -> Self {
        Self { files: Vec::new(), faults: vec![fault] }
    }
}

/// Those of these files that a pattern matches.
pub(super) fn among(pattern: &Path, files: &[PathBuf]) -> Matches {
    let whole = absolute(pattern).unwrap_or_else(|_| pattern.to_owned());
    match Pattern::new(&whole.to_string_lossy()) {
        Ok(pattern) => {
            let is_match = |file: &&PathBuf| pattern.matches_path_with(file, MATCHING);
            Matches { files: files.iter().filter(is_match).cloned().collect(), faults: Vec::new() }
        }
        Err(error) => PatternFault::NoPattern(error.msg).into(),
    }
}

/// The files on disk that a pattern matches. A path without wildcards always matches itself, so that a missing file is
/// reported when it is read. Access to each path is announced by `look_at`.
pub(super) fn on_disk(pattern: &Path, look_at: impl Fn(&Path) -> io::Result<()>) -> Matches {
    let text = pattern.to_string_lossy();
    if !text.contains(['*', '?', '[']) {
        return Matches { files: vec![pattern.to_owned()], faults: Vec::new() };
    }
    let mut paths = match glob::glob_with(&text, MATCHING) {
        Ok(paths) => paths,
        Err(error) => return PatternFault::NoPattern(error.msg).into(),
    };
    let mut matches = Matches::default();
    loop {
        // The next step reads a directory, which may hang like a file.
        if let Err(error) = look_at(pattern) {
            return PatternFault::NotLookedAt { pattern: pattern.to_owned(), error }.into();
        }
        let Some(found) = paths.next() else { return matches };
        if matches.files.len() == MAX_MATCHES {
            matches.faults.push(PatternFault::TooMany);
            return matches;
        }
        match found {
            Ok(path) if look_at(&path).is_ok() && path.is_dir() => {}
            Ok(path) => matches.files.push(path),
            Err(error) => matches.faults.push(PatternFault::Directory(error)),
        }
    }
}
