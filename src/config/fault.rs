//! Faults of a configuration as plain data, and their text for terminals and for programs.
//!
//! Code that reads a value decides whether it has a fault.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::printable::printable;

/// The most faults that are shown; the rest are only counted.
const MAX_SHOWN: usize = 100;

/// The longest line that is shown, bytes. For a longer one, messages only have its number: a generated file may be a
/// single line, which would be repeated for every fault.
const MAX_LINE: usize = 2000;

/// Whether a configuration with the fault can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot run.
    Error,
    /// It can run, but may not do what its author wants.
    Warning,
}

/// A fault of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// Error or warning.
    pub severity: Severity,
    /// The mistake and what was expected: a sentence without the full stop.
    pub message: String,
    /// Its location.
    pub location: Location,
    /// How to correct it.
    pub hint: Option<String>,
    /// A second location that is involved, and its label.
    pub related: Option<(Location, String)>,
}

/// A location in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The path of the file, as it was given.
    pub file: Arc<Path>,
    /// From 1; 0 if the location is the file as a whole.
    pub line: u32,
    /// In characters from 1, on very long lines in bytes; 0 if the location is the file as a whole.
    pub column: u32,
    /// The line; empty for very long lines, and if the location is the file as a whole.
    pub text: String,
    /// The marked part, in bytes of `text`, on character boundaries.
    pub span: Range<usize>,
}

/// All faults of a configuration: errors first, then by file and line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFaults(Vec<ConfigFault>);

impl Location {
    /// The file as a whole.
    pub(super) fn whole(file: Arc<Path>) -> Self {
        Self { file, line: 0, column: 0, text: String::new(), span: 0..0 }
    }

    /// The bytes `span` of a line without its line break. If the span exceeds the line or splits a character, it is
    /// adjusted.
    pub(super) fn in_line(file: Arc<Path>, line: usize, text: &str, span: Range<usize>) -> Self {
        let boundary = |at: usize| (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
        let start = boundary(span.start).unwrap_or(0);
        let end = boundary(span.end).unwrap_or(0).max(start);
        let shown = text.len() <= MAX_LINE;
        let before = if shown { text.get(..start).map_or(0, |before| before.chars().count()) } else { start };
        let location = Self {
            file,
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(before + 1).unwrap_or(u32::MAX),
            text: String::new(),
            span: 0..0,
        };
        if !shown {
            return location;
        }
        // Escapes are longer than their characters, so the mark moves.
        let parts = [text.get(..start), text.get(start..end), text.get(end..)];
        let [before, marked, after] = parts.map(|part| shown_in_line(part.unwrap_or("")));
        let span = before.len()..before.len() + marked.len();
        Self { text: before + &marked + &after, span, ..location }
    }

    /// The same location without the text of the line.
    pub(super) fn without_text(self) -> Self {
        Self { text: String::new(), span: 0..0, ..self }
    }

    /// Adds the location to `group`, with the annotated line if its text is known.
    fn show<'a>(&'a self, group: Group<'a>, notes: impl IntoIterator<Item = Annotation<'a>>) -> Group<'a> {
        let path = printable(&self.file.to_string_lossy()).into_owned();
        if !self.text.is_empty() {
            let snippet = Snippet::source(self.text.as_str()).line_start(self.line as usize).path(path);
            return group.element(snippet.annotations(notes));
        }
        let origin = Origin::path(path);
        group.element(match self.line {
            0 => origin,
            line => origin.line(line as usize).char_column(self.column as usize),
        })
    }
}

/// Part of a line, for a terminal. Tabs remain, and are displayed as spaces.
fn shown_in_line(text: &str) -> String {
    let parts: Vec<_> = text.split('\t').map(printable).collect();
    parts.join("\t")
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.file.to_string_lossy()))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

impl ConfigFault {
    /// Makes the texts printable: they quote names and values, which may contain any character.
    fn make_printable(&mut self) {
        let label = self.related.as_mut().map(|(_, label)| label);
        for text in std::iter::once(&mut self.message).chain(&mut self.hint).chain(label) {
            if let Cow::Owned(shown) = printable(text) {
                *text = shown;
            }
        }
    }

    fn render(&self, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(self.message.as_str()));
        let here = AnnotationKind::Primary.span(self.location.span.clone());
        let there = self.related.as_ref().map(|(location, label)| {
            (location, AnnotationKind::Context.span(location.span.clone()).label(label.as_str()))
        });
        group = match there {
            Some((location, there))
                if (&location.file, location.line) == (&self.location.file, self.location.line) =>
            {
                self.location.show(group, [here, there])
            }
            Some((location, there)) => location.show(self.location.show(group, [here]), [there]),
            None => self.location.show(group, [here]),
        };
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        renderer.render(&[group])
    }
}

/// The form for programs. Line and column are null if the location is the file as a whole.
impl Serialize for ConfigFault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let known = |number: u32| (number > 0).then_some(number);
        let mut fault = serializer.serialize_struct("Fault", 5)?;
        fault.serialize_field("file", &self.location.file.to_string_lossy())?;
        fault.serialize_field("line", &known(self.location.line))?;
        fault.serialize_field("column", &known(self.location.column))?;
        fault.serialize_field("message", &self.message)?;
        fault.serialize_field("hint", &self.hint)?;
        fault.end()
    }
}

impl ConfigFaults {
    /// Sorts the faults and removes duplicates: many pools may use the same bad default.
    pub(super) fn new(mut faults: Vec<ConfigFault>) -> Self {
        faults.iter_mut().for_each(ConfigFault::make_printable);
        faults.sort_by(|a, b| {
            let key = |fault: &ConfigFault| (fault.severity, fault.location.line, fault.location.column);
            a.location.file.cmp(&b.location.file).then_with(|| key(a).cmp(&key(b)))
        });
        faults.sort_by_key(|fault| fault.severity);
        faults.dedup();
        Self(faults)
    }

    /// These faults, and warnings about a file as a whole.
    #[must_use]
    pub fn with_warnings(self, file: &Path, messages: Vec<String>) -> Self {
        let location = Location::whole(file.into());
        let warning = |message| ConfigFault {
            severity: Severity::Warning,
            message,
            location: location.clone(),
            hint: None,
            related: None,
        };
        Self::new(self.0.into_iter().chain(messages.into_iter().map(warning)).collect())
    }

    /// All faults.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigFault> {
        self.0.iter()
    }

    /// Faults that prevent the configuration from running.
    pub fn errors(&self) -> impl Iterator<Item = &ConfigFault> {
        self.0.iter().filter(|fault| fault.severity == Severity::Error)
    }

    /// Faults that do not prevent it from running.
    pub fn warnings(&self) -> impl Iterator<Item = &ConfigFault> {
        self.0.iter().filter(|fault| fault.severity == Severity::Warning)
    }

    /// Whether there are no faults.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text for a terminal: each fault with its line and a caret below it, separated by blank lines. `color` adds
    /// terminal escapes. At most 100 faults are shown; the rest are counted.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled().hyperlink(false) } else { Renderer::plain() };
        let mut shown: Vec<String> =
            self.0.iter().take(MAX_SHOWN).map(|fault| fault.render(&renderer)).collect();
        if let Some(more) = self.0.len().checked_sub(MAX_SHOWN).filter(|&more| more > 0) {
            shown.push(format!("... and {more} more"));
        }
        shown.join("\n\n")
    }
}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ConfigFaults {}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: usize, text: &str, span: Range<usize>) -> ConfigFault {
        ConfigFault {
            severity: Severity::Error,
            message: "that will not do".into(),
            location: Location::in_line(Path::new("steerd.toml").into(), line, text, span),
            hint: Some("write something else".into()),
            related: None,
        }
    }

    #[test]
    fn a_fault_is_shown_with_its_line_and_a_caret() {
        let shown = ConfigFaults::new(vec![fault(7, "täst = 5", 8..9)]).render(false);
        assert_eq!(
            shown,
            "error: that will not do
 --> steerd.toml:7:8
  |
7 | täst = 5
  |        ^
  |
  = help: write something else"
        );
    }

    #[test]
    fn two_places_are_both_shown() {
        let mut fault = fault(7, "[pools.web]", 7..10);
        let location = Location::in_line(Path::new("other.toml").into(), 12, "[pools.web]", 7..10);
        fault.related = Some((location, "first defined here".into()));
        let shown = ConfigFaults::new(vec![fault]).render(false);
        assert!(shown.contains("--> steerd.toml:7:8") && shown.contains("::: other.toml:12:8"), "{shown}");
        assert!(shown.contains("--- first defined here"), "{shown}");
    }

    #[test]
    fn two_places_of_one_line_share_it() {
        let mut fault = fault(7, "a = 1, b = 2", 7..8);
        let location = Location::in_line(Path::new("steerd.toml").into(), 7, "a = 1, b = 2", 0..1);
        fault.related = Some((location, "set here".into()));
        let shown = ConfigFaults::new(vec![fault]).render(false);
        assert_eq!(shown.matches("a = 1").count(), 1, "{shown}");
        assert!(shown.contains("steerd.toml:7:8") && shown.contains("set here"), "{shown}");
    }

    #[test]
    fn spans_are_fitted_to_the_line() {
        for (start, end) in (0..12).flat_map(|start| (0..12).map(move |end| (start, end))) {
            let fault = fault(1, "a\tä€\u{1f600}", start..end);
            assert!(fault.location.text.get(fault.location.span.clone()).is_some());
            assert!(fault.render(&Renderer::plain()).contains("steerd.toml:1:"));
        }
    }

    #[test]
    fn a_very_long_line_is_named_but_not_shown() {
        let shown = ConfigFaults::new(vec![fault(1, &"x".repeat(MAX_LINE + 1), 5..6)]).render(false);
        assert!(shown.contains("steerd.toml:1:6") && !shown.contains("xxx"), "{shown}");
    }

    #[test]
    fn errors_come_first_and_doubles_go() {
        let warning = ConfigFault { severity: Severity::Warning, ..fault(1, "a", 0..1) };
        let faults =
            ConfigFaults::new(vec![warning, fault(3, "c", 0..1), fault(2, "b", 0..1), fault(3, "c", 0..1)]);
        let order: Vec<_> = faults.iter().map(|fault| (fault.severity, fault.location.line)).collect();
        assert_eq!(order, [(Severity::Error, 2), (Severity::Error, 3), (Severity::Warning, 1)]);
    }

    #[test]
    fn many_faults_are_counted() {
        let faults = ConfigFaults::new((1..=103).map(|line| fault(line, "x", 0..1)).collect());
        assert!(faults.render(false).ends_with("... and 3 more"));
    }
}
