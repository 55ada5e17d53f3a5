//! Text in aligned columns, for a terminal.

use std::fmt::Write;

use crate::printable::printable;

/// Space between two columns.
const GAP: usize = 2;

/// A piece of text and its display style.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

/// The meaning of a text. With colours, it is green or red.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Bad,
}

impl Cell {
    /// The text, with control characters escaped.
    pub(super) fn new(text: &str, tone: Tone) -> Self {
        Self { text: printable(text).into_owned(), tone }
    }

    pub(super) fn plain(text: &str) -> Self {
        Self::new(text, Tone::Plain)
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Formats rows in columns as wide as their widest cells, without trailing spaces.
pub(super) fn render(rows: &[Vec<Cell>], color: bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0))
        .collect();
    let mut lines = Vec::with_capacity(rows.len());
    for row in rows {
        let mut line = String::new();
        let mut gap = 0;
        for (cell, width) in row.iter().zip(&widths) {
            if cell.text.is_empty() {
                gap += width + GAP;
                continue;
            }
            let (before, after) = match cell.tone {
                Tone::Good if color => ("\x1b[32m", "\x1b[0m"),
                Tone::Bad if color => ("\x1b[31m", "\x1b[0m"),
                _ => ("", ""),
            };
            // Writing to a string cannot fail.
            let _ = write!(line, "{:gap$}{before}{}{after}", "", cell.text);
            gap = width - cell.width() + GAP;
        }
        lines.push(line);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_without_trailing_space() {
        let rows = [
            vec![Cell::plain("POOL"), Cell::plain("VERDICT"), Cell::plain("DETAIL")],
            vec![Cell::plain("a"), Cell::new("healthy", Tone::Good), Cell::plain("")],
            vec![Cell::plain("standby"), Cell::plain(""), Cell::plain("täst")],
        ];
        assert_eq!(
            render(&rows, false),
            "POOL     VERDICT  DETAIL\na        healthy\nstandby           täst"
        );
        assert!(render(&rows, true).contains("\x1b[32mhealthy\x1b[0m\n"));
        assert_eq!(render(&[], false), "");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let rows = [vec![Cell::plain("status 500 \x1b[2J\r\n\u{9b}\u{202e}x")]];
        let shown = render(&rows, true);
        assert_eq!(shown, "status 500 \\u{1b}[2J\\r\\n\\u{9b}\\u{202e}x");
    }
}
