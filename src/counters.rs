//! Counters that many threads increment without sharing a cache line.
//!
//! A table of counts has one row per thread; reading a count sums its column over the rows. The
//! owner gives the columns their meaning and names.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Two cache lines, because current x86-64 processors fetch adjacent lines in pairs.
#[repr(align(128))]
#[derive(Debug, Default)]
struct LinePair([AtomicU64; 16]);

/// A table of counts: one column per count, one row per thread. Clones share the counts.
#[derive(Clone, Debug)]
pub struct Counters {
    cells: Cells,
    columns: usize,
    /// Cells taken over by [`Counters::continued`]; threads may still add to them.
    earlier: Arc<[Earlier]>,
    /// Indexed by column: the sum of the cells to which no thread adds any more.
    settled: Arc<[u64]>,
}

#[derive(Clone, Debug)]
struct Cells {
    lines: Arc<[LinePair]>,
    lines_per_row: usize,
}

/// Cells with an earlier arrangement of columns.
#[derive(Clone, Debug)]
struct Earlier {
    cells: Cells,
    /// Indexed by current column: the earlier column that it continues.
    columns: Box<[Option<usize>]>,
}

impl Counters {
    /// Creates `columns` counts; `rows` threads may add to them.
    #[must_use]
    pub fn new(rows: usize, columns: usize) -> Self {
        let earlier = Vec::new().into();
        Self { cells: Cells::new(rows, columns), columns, earlier, settled: vec![0; columns].into() }
    }

    /// Makes a table with other columns. Each entry of `columns` is the column of `self` that the
    /// new column continues, or `None` to start at 0.
    ///
    /// A thread that still has `self` may keep adding to it. Its counts appear in the new table
    /// too, so a displayed count never decreases.
    #[must_use]
    pub fn continued(&self, columns: impl IntoIterator<Item = Option<usize>>) -> Self {
        let columns: Box<[Option<usize>]> =
            columns.into_iter().map(|column| column.filter(|column| *column < self.columns)).collect();
        let through = |old: &[Option<usize>]| -> Box<[Option<usize>]> {
            columns.iter().map(|column| old.get((*column)?).copied().flatten()).collect()
        };
        let mut settled: Vec<u64> = columns
            .iter()
            .map(|column| self.settled.get((*column)?).copied())
            .map(Option::unwrap_or_default)
            .collect();
        let mut earlier = Vec::new();
        for old in &*self.earlier {
            let old = Earlier { cells: old.cells.clone(), columns: through(&old.columns) };
            // `self` has one reference and this clone another. If there are no more, no thread can
            // still add. The fence makes earlier additions visible.
            if Arc::strong_count(&old.cells.lines) == 2 {
                fence(Ordering::Acquire);
                for (column, sum) in settled.iter_mut().enumerate() {
                    *sum += old.sum(column);
                }
            } else {
                earlier.push(old);
            }
        }
        let rows = self.cells.rows();
        let count = columns.len();
        earlier.push(Earlier { cells: self.cells.clone(), columns });
        Self {
            cells: Cells::new(rows, count),
            columns: count,
            earlier: earlier.into(),
            settled: settled.into(),
        }
    }

    /// Returns the number of counts.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Adds to one count. Ignores a row or column that does not exist.
    pub fn add(&self, row: usize, column: usize, amount: u64) {
        if column < self.columns
            && let Some(cell) = self.cells.get(row, column)
        {
            cell.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// Returns the sum of a count over all rows.
    #[must_use]
    pub fn sum(&self, column: usize) -> u64 {
        if column >= self.columns {
            return 0;
        }
        let earlier: u64 = self.earlier.iter().map(|earlier| earlier.sum(column)).sum();
        self.settled.get(column).copied().unwrap_or(0) + earlier + self.cells.sum(column)
    }
}

impl Cells {
    fn new(rows: usize, columns: usize) -> Self {
        let lines_per_row = columns.div_ceil(16).max(1);
        let lines = (0..rows * lines_per_row).map(|_| LinePair::default()).collect();
        Self { lines, lines_per_row }
    }

    fn rows(&self) -> usize {
        self.lines.len() / self.lines_per_row
    }

    fn get(&self, row: usize, column: usize) -> Option<&AtomicU64> {
        self.lines.get(row * self.lines_per_row + column / 16)?.0.get(column % 16)
    }

    fn sum(&self, column: usize) -> u64 {
        (0..self.rows())
            .filter_map(|row| self.get(row, column))
            .map(|cell| cell.load(Ordering::Relaxed))
            .sum()
    }
}

impl Earlier {
    /// The sum of the earlier column that a current column continues.
    fn sum(&self, column: usize) -> u64 {
        self.columns.get(column).copied().flatten().map_or(0, |column| self.cells.sum(column))
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

    #[test]
    fn columns_go_on_in_another_order_and_nothing_is_lost() {
        let mut counters = Counters::new(2, 3);
        for column in 0..3 {
            counters.add(0, column, 10 + column as u64);
        }
        let old = counters.clone();
        counters = counters.continued([Some(2), None, Some(0)]);
        assert_eq!([0, 1, 2].map(|column| counters.sum(column)), [12, 0, 10]);
        old.add(1, 2, 100);
        counters.add(1, 0, 1000);
        counters.add(1, 1, 5);
        assert_eq!([0, 1, 2].map(|column| counters.sum(column)), [1112, 5, 10]);
        // While `old` exists, its cells are kept through any number of changes.
        let later = counters.continued([Some(0), Some(7)]).continued([None, Some(0)]);
        old.add(0, 2, 1);
        assert_eq!([0, 1].map(|column| later.sum(column)), [0, 1113]);
        assert_eq!(later.earlier.len(), 3);
        drop(old);
        drop(counters);
        let last = later.continued([Some(1)]);
        assert_eq!(last.sum(0), 1113);
        assert_eq!(last.earlier.len(), 1, "cells that no thread adds to are settled");
    }

    #[test]
    fn any_number_of_changes_takes_no_more_room() {
        let mut counters = Counters::new(1, 2);
        for round in 0..100 {
            counters.add(0, round % 2, 1);
            counters = counters.continued([Some(1), Some(0)]);
            assert!(counters.earlier.len() <= 2);
            assert_eq!(counters.sum(0) + counters.sum(1), round as u64 + 1);
        }
    }
}
