//! The Prometheus text format, written series by series: at 100,000 backends there are hundreds of
//! thousands of them, and an object for each would cost more than the text.

use std::fmt::{Display, Write as _};
use std::io;

/// How much is gathered before it is written, bytes.
const GATHERED: usize = 8 * 1024;

/// Whether a family only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

/// Where the text goes, and the family that series belong to.
pub(super) struct Text<'s> {
    sink: &'s mut dyn io::Write,
    /// The text still to be passed on.
    gathered: String,
    name: &'static str,
    written: io::Result<()>,
}

impl<'s> Text<'s> {
    pub(super) fn new(sink: &'s mut dyn io::Write) -> Self {
        Self { sink, gathered: String::new(), name: "", written: Ok(()) }
    }

    /// Begins a family; the series that follow belong to it. It is named even if none follows.
    pub(super) fn family(&mut self, name: &'static str, help: &str, kind: Kind) {
        let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
        self.name = name;
        self.write(format_args!("# HELP steerd_{name} {help}\n# TYPE steerd_{name} {kind}\n"));
    }

    /// One series of the family.
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

    /// A family of one series without labels.
    pub(super) fn single(&mut self, name: &'static str, help: &str, kind: Kind, value: impl Display) {
        self.family(name, help, kind);
        self.series(&[], value);
    }

    /// Whether the text could be written to its end; after the first error nothing more is.
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
        // A string takes all that is written to it.
        let _ = self.gathered.write_fmt(arguments);
    }
}

/// 1 or 0.
pub(super) fn flag(value: bool) -> u8 {
    value.into()
}
