//! The text of a configuration file, and locations in it.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::fault::{ConfigFault, ConfigFaults, Location, Severity};
use crate::config::unquoted;
use crate::file::{self, Content, FileKind, FileRecord, Matches, Reading};
use crate::printable::without_quoted;

/// The mark that some editors write at the start of a UTF-8 file.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A configuration file.
#[derive(Debug)]
pub(super) struct SourceFile {
    path: Arc<Path>,
    text: String,
    /// Whether messages may quote its lines.
    quotable: bool,
    /// The offset at which each line begins.
    lines: Vec<usize>,
}

/// The faults found so far, and access to files. Every value shares it, to report its faults and to read the file that
/// it names.
#[derive(Debug, Default)]
pub(super) struct Findings {
    reading: Arc<Reading>,
    faults: RefCell<Vec<ConfigFault>>,
    errors: Cell<usize>,
    /// Whether this is a check, and no server will run with the configuration.
    check: bool,
}

/// A location in a configuration file, and where to report its faults.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'s> {
    source: &'s SourceFile,
    findings: &'s Findings,
    start: usize,
    end: usize,
    /// Whether messages must not quote the line, because it holds a secret.
    concealed: bool,
}

impl SourceFile {
    /// Takes the content of a file. `quotable` says whether messages may quote its lines: a pattern or a link may lead
    /// to any file.
    ///
    /// # Errors
    /// If it is not text, or not UTF-8, with the location.
    pub(super) fn from_bytes(path: &Path, bytes: Vec<u8>, quotable: bool) -> Result<Self, Box<ConfigFault>> {
        if let Some(reason) = file::not_text(&bytes) {
            let (location, message) = (Location::whole(path.into()), format!("this is not TOML: {reason}"));
            return Err(Box::new(ConfigFault {
                severity: Severity::Error,
                message,
                location,
                hint: None,
                related: None,
            }));
        }
        String::from_utf8(bytes).map(|text| Self::new(path, text, quotable)).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let lossy = Self::new(path, String::from_utf8_lossy(error.as_bytes()).into_owned(), quotable);
            let message = "the file is not UTF-8 from here on".into();
            let mark = if error.as_bytes().starts_with("\u{feff}".as_bytes()) {
                BYTE_ORDER_MARK.len_utf8()
            } else {
                0
            };
            let valid = valid - mark;
            let location = lossy.location(valid..valid + 1);
            Box::new(ConfigFault { severity: Severity::Error, message, location, hint: None, related: None })
        })
    }

    fn new(path: &Path, mut text: String, quotable: bool) -> Self {
        if text.starts_with(BYTE_ORDER_MARK) {
            // The mark has no column.
            text.drain(..BYTE_ORDER_MARK.len_utf8());
        }
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        Self { path: path.into(), text, quotable, lines }
    }

    /// The path the file was read from.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the file, bytes.
    pub(super) fn size(&self) -> u64 {
        self.text.len() as u64
    }

    /// Resolves a path that this file names: a relative one starts at the directory of the file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Parses the text as TOML, and reports faults.
    pub(super) fn parse<'s>(&'s self, findings: &'s Findings) -> Spanned<DeTable<'s>> {
        let (tree, mut errors) = DeTable::parse_recoverable(&self.text);
        let end = self.text.len();
        errors.sort_by_key(|error| error.span().map_or(end, |span| span.start));
        // After an unclosed array or inline table, the parser reports an error for every following word. Only the first
        // error is useful.
        let in_brackets = |message: &str| message.contains("array") || message.contains("inline table");
        let is_open = |message: &str| message.starts_with("unclosed") && in_brackets(message);
        let swallows = errors.iter().any(|error| is_open(error.message()));
        let mut hinted = None;
        for error in &errors {
            let span = error.span().unwrap_or(end..end);
            let (line, text) = self.line_at(span.start);
            let at = self.at(findings, Some(span));
            let is_about_quotes = error.message().contains("key") || error.message().contains("quoted");
            match error.message() {
                "duplicate key" => {
                    let message = "this key or table is defined twice";
                    match error.span().and_then(|span| self.first_of(tree.get_ref(), &span)) {
                        Some(first) => at.error_beside(message, at.elsewhere(first), "first here"),
                        None => at.error(message),
                    }
                }
                message if swallows && in_brackets(message) => {
                    let hint = "perhaps the list or table before this is not closed".to_owned();
                    at.error_with_hint(format!("this is not TOML: {message}"), hint);
                    break;
                }
                // A hint for this line was already given.
                _ if hinted == Some(line) => {}
                message => {
                    let hint = unquoted::hint(text, self.section_above(line)).filter(|_| is_about_quotes);
                    hinted = hint.is_some().then_some(line);
                    at.error_with_hint(format!("this is not TOML: {message}"), hint);
                }
            }
        }
        tree
    }

    /// The first location of the key or table that is repeated at `second`.
    fn first_of(&self, table: &DeTable<'_>, second: &Range<usize>) -> Option<Range<usize>> {
        let line = self.lines.iter().rev().find(|begin| **begin <= second.start)?;
        let (above, line) = self.text.split_at_checked(*line)?;
        if !line.trim_start().starts_with('[') {
            return self.key_above(table, second);
        }
        // If two headers define the same table, the tree has it at the second one.
        self.key_above(DeTable::parse_recoverable(above).0.get_ref(), second)
    }

    /// The nearest key above with the same text as `second`. Keys in a list or inline table that ends before `second`
    /// do not count: they belong to another table.
    fn key_above(&self, table: &DeTable<'_>, second: &Range<usize>) -> Option<Range<usize>> {
        let written = |span: &Range<usize>| Some(self.text.get(span.clone())?.trim_matches(['"', '\'']));
        let within = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
            DeValue::Table(table) if !(self.is_in_braces(value) && value.span().end <= second.start) => {
                self.key_above(table, second)
            }
            _ => None,
        };
        let above = table.iter().flat_map(|(key, value)| {
            let same = key.span().start < second.start && written(&key.span()) == written(second);
            let elements = match value.get_ref() {
                DeValue::Array(array) => array.iter().filter_map(within).collect(),
                _ => Vec::new(),
            };
            same.then(|| key.span()).into_iter().chain(within(value)).chain(elements)
        });
        above.max_by_key(|span| span.start)
    }

    fn is_in_braces(&self, value: &Spanned<DeValue<'_>>) -> bool {
        self.text.get(value.span()).is_some_and(|text| text.starts_with('{'))
    }

    /// A range of bytes of the file, or the file as a whole.
    pub(super) fn at<'s>(&'s self, findings: &'s Findings, span: Option<Range<usize>>) -> At<'s> {
        let Range { start, end } = span.unwrap_or(usize::MAX..usize::MAX);
        At { source: self, findings, start, end, concealed: false }
    }

    /// The number, from 1, and the text of the line that contains this byte.
    fn line_at(&self, at: usize) -> (usize, &str) {
        let line = self.lines.partition_point(|&begin| begin <= at).max(1);
        let begin = self.lines.get(line - 1).copied().unwrap_or(0);
        let end = self.lines.get(line).copied().unwrap_or(self.text.len());
        (line, self.text.get(begin..end).unwrap_or("").trim_end_matches(['\r', '\n']))
    }

    /// The name of the table that contains the line, as written.
    fn section_above(&self, line: usize) -> Option<&str> {
        let above = self.text.get(..*self.lines.get(line - 1)?)?;
        let header = above.lines().rev().find(|line| line.trim_start().starts_with('['))?;
        header.trim_start().trim_start_matches('[').split(']').next().map(str::trim)
    }

    fn location(&self, span: Range<usize>) -> Location {
        if span.start == usize::MAX {
            return Location::whole(Arc::clone(&self.path));
        }
        let (line, text) = self.line_at(span.start);
        let begin = self.lines.get(line - 1).copied().unwrap_or(0);
        let location = Location::in_line(
            Arc::clone(&self.path),
            line,
            text,
            span.start - begin..span.end.saturating_sub(begin),
        );
        if self.quotable { location } else { location.without_text() }
    }
}

impl Findings {
    /// No faults yet; files are read through `reading`.
    pub(super) fn of(reading: Arc<Reading>) -> Self {
        Self { reading, ..Self::default() }
    }

    /// As [`Findings::of`], for a check.
    pub(super) fn of_check(reading: Arc<Reading>) -> Self {
        Self { check: true, ..Self::of(reading) }
    }

    /// Whether this is a check, and no server will run with the configuration.
    pub(super) fn is_check(&self) -> bool {
        self.check
    }

    /// Announces access to a path. Fails if the load was abandoned, or the path is known to hang.
    pub(super) fn look_at(&self, path: &Path) -> io::Result<()> {
        self.reading.look_at(path)
    }

    /// Reads a file that a configuration names.
    pub(super) fn read(&self, path: &Path, kind: FileKind, limit: u64) -> io::Result<Content> {
        self.reading.read(path, kind, limit)
    }

    /// Whether a file that a configuration names can be opened.
    pub(super) fn try_open(&self, path: &Path) -> io::Result<()> {
        self.reading.try_open(path)
    }

    /// The files that a pattern of `include` matches.
    pub(super) fn matches(&self, pattern: &Path) -> Matches {
        self.reading.matches(pattern)
    }

    /// The files read until now.
    pub(super) fn record(&self) -> FileRecord {
        self.reading.record()
    }

    /// Whether the load may continue: it was not abandoned.
    pub(super) fn goes_on(&self) -> bool {
        self.reading.goes_on()
    }

    pub(super) fn push(&self, fault: ConfigFault) {
        if fault.severity == Severity::Error {
            self.errors.set(self.errors.get() + 1);
        }
        self.faults.borrow_mut().push(fault);
    }

    /// The number of errors so far. If it does not change while a part is read, the part has no errors.
    pub(super) fn errors(&self) -> usize {
        self.errors.get()
    }

    pub(super) fn into_faults(self) -> ConfigFaults {
        ConfigFaults::new(self.faults.into_inner())
    }
}

impl<'s> At<'s> {
    /// The file that contains the location.
    pub(super) fn source(self) -> &'s SourceFile {
        self.source
    }

    /// The collection that receives the faults of this location.
    pub(super) fn findings(self) -> &'s Findings {
        self.findings
    }

    /// Another location of the same file.
    pub(super) fn elsewhere(self, span: Range<usize>) -> Self {
        Self { start: span.start, end: span.end, ..self }
    }

    /// The location of `text`, if it is the end of this location.
    pub(super) fn ending_with(self, text: &str) -> Option<(&'s str, Self)> {
        let start = self.end.checked_sub(text.len())?;
        let written = self.source.text.get(start..self.end).filter(|written| *written == text)?;
        Some((written, self.elsewhere(start..self.end)))
    }

    /// The same location in a line that is not shown, because it may hold a password.
    pub(super) fn concealed(self) -> Self {
        Self { concealed: true, ..self }
    }

    /// Whether it begins with a brace, as an inline table does.
    pub(super) fn is_inline_table(self) -> bool {
        self.source.text.get(self.start..).is_some_and(|text| text.starts_with('{'))
    }

    /// The offset at which it begins in the file.
    pub(super) fn start(self) -> usize {
        self.start
    }

    /// The location of the bytes `part` of the string here; the whole location if the string has several lines.
    pub(super) fn inside(self, part: Range<usize>) -> Self {
        let written = self.source.text.get(self.start..self.end).unwrap_or("");
        let several_lines = written.starts_with("\"\"\"") || written.starts_with("'''");
        let Some(inner) = written.get(1..written.len().saturating_sub(1)).filter(|_| !several_lines) else {
            return self;
        };
        let has_escapes = written.starts_with('"');
        let location = |said| self.start + 1 + written_before(inner, said, has_escapes);
        self.elsewhere(location(part.start)..location(part.end))
    }

    pub(super) fn error(self, message: impl Into<String>) {
        self.report(Severity::Error, message.into(), None, None);
    }

    pub(super) fn error_with_hint(self, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.report(Severity::Error, message.into(), hint.into(), None);
    }

    /// Reports an error with a second location; `label` describes that location.
    pub(super) fn error_beside(self, message: impl Into<String>, other: At<'s>, label: &str) {
        self.report(Severity::Error, message.into(), None, Some((other, label)));
    }

    pub(super) fn warning(self, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.report(Severity::Warning, message.into(), hint.into(), None);
    }

    fn location(self) -> Location {
        let location = self.source.location(self.start..self.end);
        if self.concealed { location.without_text() } else { location }
    }

    fn report(
        self,
        severity: Severity,
        message: String,
        hint: Option<String>,
        related: Option<(At<'s>, &str)>,
    ) {
        // A hint is useless if the text of the file is not shown, and it might quote that text.
        let (message, hint) = if self.source.quotable {
            (message, hint)
        } else {
            (without_quoted(&message).into_owned(), None)
        };
        self.findings.push(ConfigFault {
            severity,
            message,
            location: self.location(),
            hint,
            related: related.map(|(at, label)| (at.location(), label.to_owned())),
        });
    }
}

/// How many bytes of `written` represent the first `said` bytes of a string: escapes are longer than their characters.
fn written_before(written: &str, said: usize, has_escapes: bool) -> usize {
    let (mut at, mut saying) = (0, 0);
    while saying < said
        && let Some(rest) = written.get(at..)
        && let Some(first) = rest.chars().next()
    {
        let (width, says) = match (first, rest.as_bytes().get(1)) {
            ('\\', Some(b'u')) if has_escapes => (6, escaped(rest.get(2..6))),
            ('\\', Some(b'U')) if has_escapes => (10, escaped(rest.get(2..10))),
            ('\\', Some(b'x')) if has_escapes => (4, escaped(rest.get(2..4))),
            ('\\', Some(_)) if has_escapes => (2, 1),
            _ => (first.len_utf8(), first.len_utf8()),
        };
        at += width;
        saying += says;
    }
    at
}

/// The length in UTF-8 of the character with this code point, in hexadecimal digits.
fn escaped(digits: Option<&str>) -> usize {
    let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    number.and_then(char::from_u32).map_or(1, char::len_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_take_more_than_they_say() {
        for (written, has_escapes, before) in [
            ("abc", true, vec![0, 1, 2, 3]),
            (r"a\\b", true, vec![0, 1, 3, 4]),
            (r"a\\b", false, vec![0, 1, 2, 3, 4]),
            (r"\u00e4b", true, vec![0, 6, 6, 7]),
            (r"\U0001f600\x41b", true, vec![0, 10, 10, 10, 10, 14, 15]),
            ("äb", true, vec![0, 2, 2, 3]),
        ] {
            let found: Vec<usize> =
                (0..before.len()).map(|said| written_before(written, said, has_escapes)).collect();
            assert_eq!(found, before, "{written}");
        }
        assert_eq!(written_before("ab", 9, true), 2, "not beyond the end");
    }
}
