//! Counters that many threads increment without sharing a cache line.
//!
//! A table of counts has one row for each thread that counts alone, and one row that all other threads
//! share. The owner gives the columns their meaning and names.
//!
//! A cell of a row has only 16 bits. Whenever it passes a multiple of the step, its thread carries one step
//! to the column's 64-bit total. So a count costs a load and a store in the thread's own memory, a locked
//! addition is needed only once in dozens of counts, and each of 64 threads needs only 2 bytes per count:
//!
//! ```text
//! total   carried, 64 bits:   a number of whole steps, never more than was counted
//! cells   16 bits, one for each row:   the exact count of the row, modulo 2^16
//! count = carried + (the sum of the cells - carried) mod 2^16
//! ```
//!
//! This is exact because less than 2^16 of each column is counted but not yet carried.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering, fence};

/// Two cache lines, because current x86-64 processors fetch adjacent lines in pairs.
#[repr(align(128))]
#[derive(Debug)]
struct LinePair([AtomicU16; CELLS]);

const CELLS: usize = 64;

/// The most that may be counted in one column but not yet carried: at most half of the range of a cell. The
/// other half is for counts that are added while the cells are read.
const UNCARRIED: u64 = 1 << 15;
/// Maximum number of threads that carry from the shared row at the same time.
const SHARING: u64 = 256;

/// The row in which a thread counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterRow {
    /// The row of the thread with this number.
    Own(usize),
    /// The row of all other threads.
    Shared,
}

/// A table of counts: one column per count, one row per thread. Clones share the counts.
#[derive(Clone, Debug)]
pub struct Counters {
    cells: Arc<Cells>,
    /// Cells taken over by [`Counters::continued`]; threads may still add to them.
    earlier: Arc<[Earlier]>,
    /// Indexed by column: the sum of the cells to which no thread adds any more.
    settled: Arc<[u64]>,
}

#[derive(Debug)]
struct Cells {
    /// How many threads have their own row. The shared row follows these rows.
    threads: usize,
    lines_per_row: usize,
    lines: Box<[LinePair]>,
    /// Indexed by column.
    carried: Box<[AtomicU64]>,
    /// A power of two, so that a cell passes a multiple of it exactly when one of its upper bits changes.
    step: u16,
}

/// Cells with an earlier arrangement of columns.
#[derive(Clone, Debug)]
struct Earlier {
    cells: Arc<Cells>,
    /// Indexed by current column: the earlier column that it continues.
    columns: Box<[Option<usize>]>,
}

impl Counters {
    /// Creates `columns` counts: `threads` threads have their own rows, and all others share one.
    #[must_use]
    pub fn new(threads: usize, columns: usize) -> Self {
        let cells = Arc::new(Cells::new(threads, columns));
        Self { cells, earlier: Vec::new().into(), settled: vec![0; columns].into() }
    }

    /// Makes a table with other columns. Each entry of `columns` is the column of `self` that the
    /// new column continues, or `None` to start at 0.
    ///
    /// A thread that still has `self` may keep adding to it. Its counts appear in the new table too, so a
    /// displayed count never decreases. If the columns are the same, so are the counts.
    #[must_use]
    pub fn continued(&self, columns: impl IntoIterator<Item = Option<usize>>) -> Self {
        let columns: Box<[Option<usize>]> =
            columns.into_iter().map(|column| column.filter(|column| *column < self.columns())).collect();
        let is_same = columns.len() == self.columns();
        if is_same && columns.iter().zip(0..).all(|(column, index)| *column == Some(index)) {
            return self.clone();
        }
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
            let old = Earlier { cells: Arc::clone(&old.cells), columns: through(&old.columns) };
            // `self` has one reference and this clone another. If there are no more, no thread can
            // still add. The fence makes earlier additions visible.
            if Arc::strong_count(&old.cells) == 2 {
                fence(Ordering::Acquire);
                for (column, sum) in settled.iter_mut().enumerate() {
                    *sum += old.sum(column);
                }
            } else {
                earlier.push(old);
            }
        }
        let cells = Arc::new(Cells::new(self.cells.threads, columns.len()));
        earlier.push(Earlier { cells: Arc::clone(&self.cells), columns });
        Self { cells, earlier: earlier.into(), settled: settled.into() }
    }

    /// Returns the number of counts.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.cells.carried.len()
    }

    /// Returns the number of threads with their own row.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.cells.threads
    }

    /// Adds to one count. Ignores a row or column that does not exist. Only one thread at a time may add to
    /// an own row; otherwise counts are lost.
    pub fn add(&self, row: CounterRow, column: usize, amount: u64) {
        let Some(carried) = self.cells.carried.get(column) else { return };
        let Some(cell) = self.cells.cell(row, column) else { return };
        let step = u64::from(self.cells.step);
        let mut left = amount;
        if left > u64::from(u16::MAX) {
            // A multiple of 2^16 changes no cell.
            let whole = left - left % (1 << 16);
            carried.fetch_add(whole, Ordering::Release);
            left -= whole;
        }
        while left > 0 {
            // This passes at most one multiple of the step.
            let part = low_bits(left.min(step));
            left -= u64::from(part);
            let before = match row {
                CounterRow::Own(_) => {
                    let before = cell.load(Ordering::Relaxed);
                    cell.store(before.wrapping_add(part), Ordering::Release);
                    before
                }
                CounterRow::Shared => cell.fetch_add(part, Ordering::AcqRel),
            };
            if (before ^ before.wrapping_add(part)) & !(self.cells.step - 1) != 0 {
                carried.fetch_add(step, Ordering::Release);
            }
        }
    }

    /// Returns the sum of a count over all rows.
    #[must_use]
    pub fn sum(&self, column: usize) -> u64 {
        if column >= self.columns() {
            return 0;
        }
        let earlier: u64 = self.earlier.iter().map(|earlier| earlier.sum(column)).sum();
        self.settled.get(column).copied().unwrap_or(0) + earlier + self.cells.sum(column)
    }

    /// Memory of the cells, without those of earlier arrangements, bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of_val(&*self.cells.lines) + size_of_val(&*self.cells.carried)
    }
}

impl Cells {
    fn new(threads: usize, columns: usize) -> Self {
        let lines_per_row = columns.div_ceil(CELLS).max(1);
        let lines = (0..(threads + 1) * lines_per_row)
            .map(|_| LinePair([const { AtomicU16::new(0) }; CELLS]))
            .collect();
        let carried = (0..columns).map(|_| AtomicU64::new(0)).collect();
        // For each row: one step less one since it last carried, and for each thread the step that it is
        // carrying.
        let most = UNCARRIED / (2 * threads as u64 + SHARING + 1);
        let step = 1 << most.max(1).ilog2();
        Self { threads, lines_per_row, lines, carried, step }
    }

    fn cell(&self, row: CounterRow, column: usize) -> Option<&AtomicU16> {
        let row = match row {
            CounterRow::Own(row) if row < self.threads => row,
            CounterRow::Own(_) => return None,
            CounterRow::Shared => self.threads,
        };
        self.lines.get(row * self.lines_per_row + column / CELLS)?.0.get(column % CELLS)
    }

    fn sum(&self, column: usize) -> u64 {
        let Some(carried) = self.carried.get(column) else { return 0 };
        let rows = || (0..self.threads).map(CounterRow::Own).chain([CounterRow::Shared]);
        // The order of the loads ensures that the cells include everything in `before`, and that `after`
        // includes everything that was carried from the cells as read.
        let mut before = carried.load(Ordering::Acquire);
        loop {
            let cells = rows().filter_map(|row| self.cell(row, column));
            let sum = cells.fold(0, |sum: u16, cell| sum.wrapping_add(cell.load(Ordering::Acquire)));
            let after = carried.load(Ordering::Acquire);
            if after - before < UNCARRIED {
                return before + u64::from(sum.wrapping_sub(low_bits(before)));
            }
            // The reader was interrupted for so long that a cell may have wrapped around.
            before = after;
        }
    }
}

/// A count modulo 2^16.
fn low_bits(count: u64) -> u16 {
    let [first, second, ..] = count.to_le_bytes();
    u16::from_le_bytes([first, second])
}

impl Earlier {
    /// The sum of the earlier column that a current column continues.
    fn sum(&self, column: usize) -> u64 {
        self.columns.get(column).copied().flatten().map_or(0, |column| self.cells.sum(column))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    #[test]
    fn rows_are_summed_and_strangers_ignored() {
        let counters = Counters::new(3, 200);
        for row in 0..3 {
            for column in 0..200 {
                counters.add(CounterRow::Own(row), column, (row * 100 + column) as u64);
            }
        }
        for column in 0..200 {
            counters.add(CounterRow::Shared, column, 7);
        }
        counters.add(CounterRow::Own(3), 0, 1);
        counters.add(CounterRow::Own(0), 200, 1);
        counters.add(CounterRow::Shared, 200, 1);
        for column in 0..200 {
            assert_eq!(counters.sum(column), 307 + 3 * column as u64);
        }
        assert_eq!(counters.sum(200), 0);
    }

    #[test]
    fn amounts_of_all_sizes_are_counted() {
        for threads in [0, 1, 64, 1024] {
            let counters = Counters::new(threads, 1);
            let mut expected = 0;
            for amount in (0..200).chain([65_535, 65_536, 65_537, 131_072, 1 << 20, (1 << 40) + 12_345]) {
                for row in (0..threads.min(3)).map(CounterRow::Own).chain([CounterRow::Shared]) {
                    counters.add(row, 0, amount);
                    expected += amount;
                    assert_eq!(counters.sum(0), expected, "{threads} threads, {row:?} + {amount}");
                }
            }
        }
    }

    #[test]
    fn cells_that_go_round_lose_nothing() {
        let counters = Counters::new(64, 1);
        let rows = || (0..64).map(CounterRow::Own).chain([CounterRow::Shared]);
        for round in 1..=5000 {
            rows().for_each(|row| counters.add(row, 0, 63));
            assert_eq!(counters.sum(0), round * 63 * 65);
        }
    }

    /// The counts of one test, by thread: started, and finished.
    #[derive(Default)]
    struct Known([AtomicU64; 2]);

    impl Known {
        fn add(&self, count: impl FnOnce()) {
            self.0[0].fetch_add(1, Ordering::SeqCst);
            count();
            self.0[1].fetch_add(1, Ordering::SeqCst);
        }

        /// Reads a sum, and checks that it is between the finished and the started counts.
        fn check(&self, sum: impl FnOnce() -> u64) {
            let done = self.0[1].load(Ordering::SeqCst);
            let sum = sum();
            let begun = self.0[0].load(Ordering::SeqCst);
            assert!((done..=begun).contains(&sum), "{sum} is not from {done} to {begun}");
        }
    }

    const TIMES: usize = 300_000;

    #[test]
    fn a_sum_is_exact_at_every_moment() {
        let (counters, known, over) = (Counters::new(2, 3), Known::default(), AtomicBool::new(false));
        let rows = [
            CounterRow::Own(0),
            CounterRow::Own(1),
            CounterRow::Shared,
            CounterRow::Shared,
            CounterRow::Shared,
        ];
        thread::scope(|scope| {
            let (counters, known) = (&counters, &known);
            let adding = rows.map(|row| {
                scope.spawn(move || (0..TIMES).for_each(|_| known.add(|| counters.add(row, 1, 1))))
            });
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    known.check(|| counters.sum(1));
                }
            });
            for thread in adding {
                thread.join().unwrap();
            }
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!([0, 1, 2].map(|column| counters.sum(column)), [0, (TIMES * rows.len()) as u64, 0]);
    }

    #[test]
    fn nothing_is_lost_while_columns_move() {
        let (known, over) = (Known::default(), AtomicBool::new(false));
        let newest = RwLock::new((Counters::new(2, 4), 0));
        thread::scope(|scope| {
            let (known, newest) = (&known, &newest);
            let adding = [CounterRow::Own(0), CounterRow::Own(1), CounterRow::Shared].map(|row| {
                scope.spawn(move || {
                    let mut held = newest.read().unwrap().clone();
                    for time in 0..TIMES {
                        // Like a worker that keeps a replaced table for a while.
                        if time % 100 == 0 {
                            held = newest.read().unwrap().clone();
                        }
                        known.add(|| held.0.add(row, held.1, 1));
                    }
                })
            });
            scope.spawn(|| {
                let mut moves = 0;
                while !over.load(Ordering::Relaxed) {
                    let (counters, column) = newest.read().unwrap().clone();
                    known.check(|| counters.sum(column));
                    let columns = (0..4).map(|column| Some((column + 3) % 4));
                    let next = (counters.continued(columns), (column + 1) % 4);
                    drop(counters);
                    *newest.write().unwrap() = next;
                    moves += 1;
                }
                assert!(moves > 1);
            });
            for thread in adding {
                thread.join().unwrap();
            }
            over.store(true, Ordering::Relaxed);
        });
        let (counters, column) = newest.into_inner().unwrap();
        assert_eq!(counters.sum(column), 3 * TIMES as u64);
    }

    #[test]
    fn columns_go_on_in_another_order_and_nothing_is_lost() {
        let (first, second) = (CounterRow::Own(0), CounterRow::Own(1));
        let mut counters = Counters::new(2, 3);
        for column in 0..3 {
            counters.add(first, column, 10 + column as u64);
        }
        let old = counters.clone();
        counters = counters.continued([Some(2), None, Some(0)]);
        assert_eq!([0, 1, 2].map(|column| counters.sum(column)), [12, 0, 10]);
        old.add(second, 2, 100);
        counters.add(second, 0, 1000);
        counters.add(second, 1, 5);
        assert_eq!([0, 1, 2].map(|column| counters.sum(column)), [1112, 5, 10]);
        // While `old` exists, its cells are kept through any number of changes.
        let later = counters.continued([Some(0), Some(7)]).continued([None, Some(0)]);
        old.add(first, 2, 1);
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
            counters.add(CounterRow::Own(0), round % 2, 1);
            counters = counters.continued([Some(1), Some(0)]);
            assert!(counters.earlier.len() <= 2);
            assert_eq!(counters.sum(0) + counters.sum(1), round as u64 + 1);
        }
    }

    #[test]
    fn a_count_takes_two_bytes_a_thread() {
        const { assert!(size_of::<LinePair>() == 2 * CELLS) };
        let counters = Counters::new(64, 100_000);
        assert!(counters.size() < 14_000_000, "{} bytes", counters.size());
    }
}
