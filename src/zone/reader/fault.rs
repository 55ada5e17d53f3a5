//! Faults and their places: byte offsets while a file is read; line and column in reports.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// At most this many faults are reported per zone; the rest are counted.
pub const MAX_FAULTS: usize = 100;

/// Reading stops after this many faults: the file is not a zone file, and composing a million hints
/// would take too long.
const MAX_COUNTED: usize = 1000;

/// A fault of a zone, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneFault {
    /// The master file.
    pub file: PathBuf,
    /// The file that includes it; `None` for the first file.
    pub named_by: Option<PathBuf>,
    /// The line, from 1; 0 if the fault concerns the whole file or zone.
    pub line: u32,
    /// The first byte of the marked part of `text`, from 1; 0 if `line` is 0.
    pub column: u32,
    /// The length of the marked part in bytes, at least 1 unless `line` is 0.
    pub length: u32,
    /// The fault, what was expected, and how to correct it.
    pub message: String,
    /// The line without its end; invalid UTF-8 is replaced.
    pub text: String,
}

impl ZoneFault {
    fn of_file(file: &Path, message: String) -> Self {
        Self {
            file: file.into(),
            named_by: None,
            line: 0,
            column: 0,
            length: 0,
            message,
            text: String::new(),
        }
    }
}

impl fmt::Display for ZoneFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {}", self.message)
    }
}

impl std::error::Error for ZoneFault {}

/// A part of a file, in bytes from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) length: usize,
}

impl Span {
    /// From the start of this span to the end of the other.
    pub(super) fn to(self, last: Span) -> Self {
        let end = last.start + last.length;
        Self { start: self.start, length: end.saturating_sub(self.start) }
    }
}

/// A fault in the file being read.
#[derive(Debug)]
pub(super) struct SpanFault {
    pub(super) at: Span,
    pub(super) message: String,
}

impl SpanFault {
    pub(super) fn at(at: Span, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// The files of a zone, and the origin of each record.
///
/// A tag is a line number that counts through all files in reading order. A run is a part of a file
/// without an `$INCLUDE`, so the size of the table depends on the includes, not on the records.
#[derive(Debug, Default)]
pub(super) struct SourceMap {
    files: Vec<File>,
    runs: Vec<LineRun>,
    last_tag: u32,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    named_by: Option<PathBuf>,
    source: Arc<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
struct LineRun {
    first_tag: u32,
    file: usize,
    first_line: u32,
}

impl SourceMap {
    pub(super) fn add_file(&mut self, path: PathBuf, named_by: Option<PathBuf>, source: Vec<u8>) -> usize {
        self.files.push(File { path, named_by, source: Arc::new(source) });
        self.files.len() - 1
    }

    /// The contents of a file.
    pub(super) fn source(&self, file: usize) -> Arc<Vec<u8>> {
        self.files.get(file).map(|file| Arc::clone(&file.source)).unwrap_or_default()
    }

    pub(super) fn path(&self, file: usize) -> &Path {
        self.files.get(file).map_or(Path::new(""), |file| &file.path)
    }

    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// The next tags count from this line of this file.
    pub(super) fn go_on(&mut self, file: usize, first_line: u32) {
        let first_tag = self.last_tag.saturating_add(1);
        self.runs.push(LineRun { first_tag, file, first_line });
    }

    /// The tag of a line of the current file.
    pub(super) fn tag(&mut self, line: u32) -> u32 {
        if let Some(run) = self.runs.last() {
            self.last_tag = run.first_tag.saturating_add(line.saturating_sub(run.first_line));
        }
        self.last_tag
    }

    /// A fault that marks the whole text of the tagged line.
    pub(super) fn fault_of_tag(&self, tag: u32, message: String) -> ZoneFault {
        let after = self.runs.partition_point(|run| run.first_tag <= tag);
        let Some(run) = after.checked_sub(1).and_then(|at| self.runs.get(at)) else {
            return self.fault_of_zone(message);
        };
        let before = (run.first_line - 1).saturating_add(tag - run.first_tag);
        let source = self.source(run.file);
        let line: &[u8] = source.split(|&byte| byte == b'\n').nth(before as usize).unwrap_or(&[]);
        let blank = line.len() - line.trim_ascii_start().len();
        self.show(run.file, before, line, blank..blank + line.trim_ascii().len(), message)
    }

    /// A fault at a part of a file.
    pub(super) fn fault(&self, file: usize, problem: SpanFault) -> ZoneFault {
        let source = self.source(file);
        let start = problem.at.start.min(source.len());
        let (before, after) = source.split_at(start);
        let lines = before.split(|&byte| byte == b'\n').count() - 1;
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let line_end = start + after.iter().position(|&byte| byte == b'\n').unwrap_or(after.len());
        let line = source.get(line_start..line_end).unwrap_or(&[]);
        let lines = u32::try_from(lines).unwrap_or(u32::MAX);
        let marked = start - line_start..start - line_start + problem.at.length;
        self.show(file, lines, line, marked, problem.message)
    }

    /// A fault in one line. Columns refer to the line as displayed, so the mark is right even if
    /// bytes were replaced.
    fn show(
        &self,
        file: usize,
        before: u32,
        line: &[u8],
        marked: Range<usize>,
        message: String,
    ) -> ZoneFault {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (before_mark, rest) = line.split_at(marked.start.min(line.len()));
        let marked = rest.get(..marked.len()).unwrap_or(rest);
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).len();
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        ZoneFault {
            file: self.path(file).into(),
            named_by: self.files.get(file).and_then(|file| file.named_by.clone()),
            line: before.saturating_add(1),
            column: number(shown(before_mark) + 1),
            length: number(shown(marked).max(1)),
            message,
            text: String::from_utf8_lossy(line).into_owned(),
        }
    }

    /// A fault of the whole zone, reported for its first file.
    pub(super) fn fault_of_zone(&self, message: String) -> ZoneFault {
        ZoneFault::of_file(self.path(0), message)
    }
}

/// The faults of one zone: the first [`MAX_FAULTS`], and the number of the others.
#[derive(Debug, Default)]
pub(super) struct ZoneFaults {
    told: Vec<ZoneFault>,
    more: usize,
}

impl ZoneFaults {
    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Adds a fault. `fault` is not called if there are too many.
    pub(super) fn add(&mut self, fault: impl FnOnce() -> ZoneFault) {
        if self.told.len() < MAX_FAULTS {
            self.told.push(fault());
        } else {
            self.more += 1;
        }
    }

    /// Whether there are too many faults to continue.
    pub(super) fn are_too_many(&self) -> bool {
        self.told.len() + self.more >= MAX_COUNTED
    }

    pub(super) fn add_file(&mut self, file: &Path, message: String) {
        self.add(|| ZoneFault::of_file(file, message));
    }

    pub(super) fn finish(mut self, file: &Path) -> Vec<ZoneFault> {
        if self.more > 0 {
            let at_least = if self.are_too_many() { "at least " } else { "" };
            let message = format!("{at_least}{} more faults are not shown", self.more);
            self.told.push(ZoneFault::of_file(file, message));
        }
        self.told
    }
}
