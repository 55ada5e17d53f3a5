//! The Prometheus text format, written straight into one string: at 100,000 backends there are
//! hundreds of thousands of series, and an object for each of them would cost more than the text.

use std::fmt::{Display, Write};

/// Whether a family only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

/// The text so far, and the family that series belong to.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    name: &'static str,
}

impl Text {
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
            self.text.push(before);
            self.text.push_str(label);
            self.text.push_str("=\"");
            for char in value.chars() {
                match char {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    char => self.text.push(char),
                }
            }
            self.text.push('"');
            before = ',';
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.write(format_args!(" {value}\n"));
    }

    /// A family of one series without labels.
    pub(super) fn single(&mut self, name: &'static str, help: &str, kind: Kind, value: impl Display) {
        self.family(name, help, kind);
        self.series(&[], value);
    }

    pub(super) fn into_string(self) -> String {
        self.text
    }

    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        // A string takes all that is written to it.
        let _ = self.text.write_fmt(arguments);
    }
}

/// 1 or 0.
pub(super) fn flag(value: bool) -> u8 {
    value.into()
}
