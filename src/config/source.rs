//! A configuration file as text, and places in it.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeTable;

use crate::config::fault::{Fault, Faults, Place, Severity};

/// A configuration file.
#[derive(Debug)]
pub(super) struct Source {
    path: Arc<Path>,
    text: String,
    /// Where each line begins.
    lines: Vec<usize>,
}

/// The faults found so far. Shared, so that whoever holds a value can say what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Findings {
    faults: RefCell<Vec<Fault>>,
    errors: Cell<usize>,
}

/// A place in a configuration file, and where to report what is wrong there.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'s> {
    source: &'s Source,
    findings: &'s Findings,
    start: usize,
    end: usize,
}

impl Source {
    /// Takes what was read from a file.
    ///
    /// # Errors
    /// When it is not UTF-8: where.
    pub(super) fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, Box<Fault>> {
        String::from_utf8(bytes).map(|text| Self::new(path, text)).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let lossy = Self::new(path, String::from_utf8_lossy(error.as_bytes()).into_owned());
            let message = "the file is not UTF-8 from here on".into();
            let place = lossy.place(valid..valid + 1);
            Box::new(Fault { severity: Severity::Error, message, place, hint: None, related: None })
        })
    }

    fn new(path: &Path, text: String) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        Self { path: path.into(), text, lines }
    }

    /// The path the file was read from.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A path that this file names: relative ones start at its directory.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Reads the text as TOML. What is not TOML is reported.
    pub(super) fn parse<'s>(&'s self, findings: &'s Findings) -> Spanned<DeTable<'s>> {
        let (tree, mut errors) = DeTable::parse_recoverable(&self.text);
        let end = self.text.len();
        errors.sort_by_key(|error| error.span().map_or(end, |span| span.start));
        // A list or inline table that is not closed swallows what follows, and makes an error of
        // each word of it: only the first is worth showing.
        let in_brackets = |message: &str| message.contains("array") || message.contains("inline table");
        let is_open = |message: &str| message.starts_with("unclosed") && in_brackets(message);
        let swallows = errors.iter().any(|error| is_open(error.message()));
        for error in &errors {
            let at = self.at(findings, Some(error.span().unwrap_or(end..end)));
            match error.message() {
                "duplicate key" => at.error("the same key or table stands above already"),
                message if swallows && in_brackets(message) => {
                    let hint = "perhaps the list or table before this is not closed".to_owned();
                    at.error_with_hint(format!("this is not TOML: {message}"), hint);
                    break;
                }
                message => at.error(format!("this is not TOML: {message}")),
            }
        }
        tree
    }

    /// The file as a whole, or bytes of it.
    pub(super) fn at<'s>(&'s self, findings: &'s Findings, span: Option<Range<usize>>) -> At<'s> {
        let Range { start, end } = span.unwrap_or(usize::MAX..usize::MAX);
        At { source: self, findings, start, end }
    }

    fn place(&self, span: Range<usize>) -> Place {
        if span.start == usize::MAX {
            return Place::whole(Arc::clone(&self.path));
        }
        let line = self.lines.partition_point(|&begin| begin <= span.start).max(1);
        let begin = self.lines.get(line - 1).copied().unwrap_or(0);
        let end = self.lines.get(line).copied().unwrap_or(self.text.len());
        let text = self.text.get(begin..end).unwrap_or("").trim_end_matches(['\r', '\n']);
        Place::in_line(Arc::clone(&self.path), line, text, span.start - begin..span.end.saturating_sub(begin))
    }
}

impl Findings {
    pub(super) fn push(&self, fault: Fault) {
        if fault.severity == Severity::Error {
            self.errors.set(self.errors.get() + 1);
        }
        self.faults.borrow_mut().push(fault);
    }

    /// How many errors there are so far: what was read without a new one is sound.
    pub(super) fn errors(&self) -> usize {
        self.errors.get()
    }

    pub(super) fn into_faults(self) -> Faults {
        Faults::new(self.faults.into_inner())
    }
}

impl<'s> At<'s> {
    /// The file the place is in.
    pub(super) fn source(self) -> &'s Source {
        self.source
    }

    /// Where faults of this place are reported.
    pub(super) fn findings(self) -> &'s Findings {
        self.findings
    }

    /// Another place of the same file.
    pub(super) fn elsewhere(self, span: Range<usize>) -> Self {
        Self { start: span.start, end: span.end, ..self }
    }

    pub(super) fn error(self, message: impl Into<String>) {
        self.report(Severity::Error, message.into(), None, None);
    }

    pub(super) fn error_with_hint(self, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.report(Severity::Error, message.into(), hint.into(), None);
    }

    /// An error that has to do with another place too; `label` says what that is.
    pub(super) fn error_beside(self, message: impl Into<String>, other: At<'s>, label: &str) {
        self.report(Severity::Error, message.into(), None, Some((other, label)));
    }

    pub(super) fn warning(self, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.report(Severity::Warning, message.into(), hint.into(), None);
    }

    fn report(
        self,
        severity: Severity,
        message: String,
        hint: Option<String>,
        related: Option<(At<'s>, &str)>,
    ) {
        self.findings.push(Fault {
            severity,
            message,
            place: self.source.place(self.start..self.end),
            hint,
            related: related.map(|(at, label)| (at.source.place(at.start..at.end), label.to_owned())),
        });
    }
}
