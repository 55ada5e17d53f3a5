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

    /// The same text, cut to a width.
    fn cut(&self, width: usize) -> Self {
        if self.width() <= width {
            return self.clone();
        }
        let kept = self.text.chars().take(width.saturating_sub(1));
        Self { text: kept.chain([CUT]).collect(), tone: self.tone }
    }
}

/// The columns of the largest terminal line that tables are made for.
pub(super) const PAGE: usize = 100;

/// A column that must shrink keeps this width.
const LEAST: usize = 8;

/// The end of a text that is cut.
const CUT: char = '…';

/// Formats rows in columns as wide as their widest cells, without trailing spaces.
pub(super) fn render(rows: &[Vec<Cell>], color: bool) -> String {
    rendered(rows, &widths(rows), color)
}

/// Like [`render`], but cuts the texts of the widest columns, so that a line has at most [`PAGE`] columns.
pub(super) fn render_on_page(rows: &[Vec<Cell>], color: bool) -> String {
    let mut widths = widths(rows);
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > PAGE {
        let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > LEAST) else { break };
        *widest -= 1;
    }
    let cut = |row: &Vec<Cell>| row.iter().zip(&widths).map(|(cell, width)| cell.cut(*width)).collect();
    rendered(&rows.iter().map(cut).collect::<Vec<_>>(), &widths, color)
}

/// Breaks a text into lines of at most [`PAGE`] columns, at spaces where there are any. All lines have this indent.
pub(super) fn wrapped(text: &str, indent: usize) -> String {
    let text = printable(text);
    let room = PAGE - indent;
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        if !line.is_empty() && line.chars().count() + 1 + word.len() > room {
            lines.push(std::mem::take(&mut line));
        }
        while word.len() > room {
            lines.push(word.drain(..room).collect());
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word);
    }
    lines.push(line);
    lines.iter().map(|line| format!("{:indent$}{line}", "")).collect::<Vec<_>>().join("\n")
}

fn widths(rows: &[Vec<Cell>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0);
    (0..columns).map(width).collect()
}

fn rendered(rows: &[Vec<Cell>], widths: &[usize], color: bool) -> String {
    let mut lines = Vec::with_capacity(rows.len());
    for row in rows {
        let mut line = String::new();
        let mut gap = 0;
        for (cell, width) in row.iter().zip(widths) {
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
    fn a_page_has_a_hundred_columns() {
        let row = |texts: [&str; 3]| texts.map(Cell::plain).to_vec();
        let long = "x".repeat(90);
        let rows = [
            row(["SERVICE", "STATE", "POOL"]),
            row([&long, "up", &"y".repeat(30)]),
            row(["a", "down", "web"]),
        ];
        let shown = render_on_page(&rows, false);
        let widths: Vec<usize> = shown.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths[1], PAGE, "{shown}");
        assert!(widths.iter().all(|width| *width <= PAGE), "{shown}");
        assert!(shown.lines().nth(1).unwrap().starts_with("xxxx") && shown.contains("x…  up    "), "{shown}");
        assert_eq!(render_on_page(&rows[2..], false), render(&rows[2..], false));
        let many = vec![Cell::plain("123456789"); 20];
        assert!(render_on_page(&[many], false).starts_with("1234567…  "), "it is readable, and too wide");
    }

    #[test]
    fn long_texts_are_broken_at_spaces() {
        assert_eq!(wrapped("short text", 2), "  short text");
        let shown = wrapped(&format!("{} {}", "word ".repeat(30).trim(), "z".repeat(120)), 4);
        assert!(
            shown.lines().all(|line| line.starts_with("    ") && line.chars().count() <= PAGE),
            "{shown}"
        );
        assert_eq!(shown.matches("word").count(), 30);
        assert_eq!(shown.matches('z').count(), 120);
        assert_eq!(wrapped("\u{1b}[2J", 0), "\\u{1b}[2J");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let rows = [vec![Cell::plain("status 500 \x1b[2J\r\n\u{9b}\u{202e}x")]];
        let shown = render(&rows, true);
        assert_eq!(shown, "status 500 \\u{1b}[2J\\r\\n\\u{9b}\\u{202e}x");
    }
}
