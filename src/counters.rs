//! Counters that many threads add to without sharing a cache line.
//!
//! A table of counts has one row for each thread that adds and is summed when it is read. What is
//! counted, and under which name it is shown, is the owner's business.

use std::sync::atomic::{AtomicU64, Ordering};

/// Two cache lines: adjacent lines are fetched in pairs on current x86-64 processors.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Line([AtomicU64; 16]);

/// Counts in columns, a row for each thread that adds.
#[derive(Debug)]
pub struct Counters {
    lines: Box<[Line]>,
    lines_per_row: usize,
    columns: usize,
}

impl Counters {
    /// `rows` threads may add to each of `columns` counts.
    #[must_use]
    pub fn new(rows: usize, columns: usize) -> Self {
        let lines_per_row = columns.div_ceil(16).max(1);
        let lines = (0..rows * lines_per_row).map(|_| Line::default()).collect();
        Self { lines, lines_per_row, columns }
    }

    /// How many counts there are.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Adds to one count. A row or column that does not exist is ignored.
    pub fn add(&self, row: usize, column: usize, amount: u64) {
        if let Some(cell) = self.cell(row, column) {
            cell.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// The sum of a count over all rows.
    #[must_use]
    pub fn sum(&self, column: usize) -> u64 {
        let rows = self.lines.len() / self.lines_per_row;
        (0..rows).filter_map(|row| self.cell(row, column)).map(|cell| cell.load(Ordering::Relaxed)).sum()
    }

    fn cell(&self, row: usize, column: usize) -> Option<&AtomicU64> {
        if column >= self.columns {
            return None;
        }
        self.lines.get(row * self.lines_per_row + column / 16)?.0.get(column % 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_summed_and_strangers_ignored() {
        let counters = Counters::new(3, 20);
        for row in 0..3 {
            for column in 0..20 {
                counters.add(row, column, (row * 100 + column) as u64);
            }
        }
        counters.add(3, 0, 1);
        counters.add(0, 20, 1);
        for column in 0..20 {
            assert_eq!(counters.sum(column), 300 + 3 * column as u64);
        }
        assert_eq!(counters.sum(20), 0);
    }
}
