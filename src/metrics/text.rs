//! The Prometheus text format, written one series at a time: 100,000 backends have hundreds of
//! thousands of series, and an object for each would cost more than its text.

use std::fmt::{Display, Write as _};
use std::io;

/// Size of the buffer that is written at once, bytes.
const GATHERED: usize = 8 * 1024;

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

/// Writes series to a sink, family by family.
pub(super) struct Text<'s> {
    sink: &'s mut dyn io::Write,
    /// Text that is not written yet.
    gathered: String,
    name: &'static str,
    written: io::Result<()>,
}

impl<'s> Text<'s> {
    pub(super) fn new(sink: &'s mut dyn io::Write) -> Self {
        Self { sink, gathered: String::new(), name: "", written: Ok(()) }
    }

    /// Starts a family. The series that follow belong to it. Its header is written even if none
    /// follows.
    pub(super) fn family(&mut self, name: &'static str, help: &str, kind: Kind) {
        let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
        self.name = name;
        self.write(format_args!("# HELP steerd_{name} {help}\n# TYPE steerd_{name} {kind}\n"));
    }

    /// Writes one series of the family.
    pub(super) fn series(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let name = self.name;
        self.write(format_args!("steerd_{name}"));
        let mut before = '{';
        for (label, value) in labels {
            self.gathered.push(before);
            self.gathered.push_str(label);
            self.gathered.push_str("=\"");
            for char in value.chars() {
                match char {
                    '\\' => self.gathered.push_str("\\\\"),
                    '"' => self.gathered.push_str("\\\""),
                    '\n' => self.gathered.push_str("\\n"),
                    char => self.gathered.push(char),
                }
            }
            self.gathered.push('"');
            before = ',';
        }
        if !labels.is_empty() {
            self.gathered.push('}');
        }
        self.write(format_args!(" {value}\n"));
        if self.gathered.len() >= GATHERED {
            self.pass_on();
        }
    }

    /// Writes a family with one series and no labels.
    pub(super) fn single(&mut self, name: &'static str, help: &str, kind: Kind, value: impl Display) {
        self.family(name, help, kind);
        self.series(&[], value);
    }

    /// Writes the rest. Returns the first error; nothing was written after it.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.pass_on();
        self.written
    }

    fn pass_on(&mut self) {
        if self.written.is_ok() {
            self.written = self.sink.write_all(self.gathered.as_bytes());
        }
        self.gathered.clear();
    }

    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.gathered.write_fmt(arguments);
    }
}

/// 1 or 0.
pub(super) fn flag(value: bool) -> u8 {
    value.into()
}
