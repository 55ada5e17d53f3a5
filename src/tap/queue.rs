//! A bounded queue of slots that exist from the start: many threads put samples, one takes them, and none waits.
//!
//! ```text
//! turn of a slot: n = free for the n-th sample -> n + 1 = the n-th sample is in it -> n + slots = free again
//! ```
//!
//! The turn gives one thread at a time the right to a slot, so its mutex is never contended: it is only the safe form of
//! that right. (The turns are those of D. Vyukov's bounded queue.)

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::sample::Sample;

/// The queue.
#[derive(Debug)]
pub(super) struct SampleQueue {
    slots: Box<[QueueSlot]>,
    /// The number of the next sample.
    next: Padded,
    /// The number of the oldest sample.
    oldest: Padded,
}

/// A number that shares its cache line with nothing else.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Padded(AtomicUsize);

#[derive(Debug)]
#[repr(align(64))]
struct QueueSlot {
    turn: AtomicUsize,
    sample: Mutex<Sample>,
}

impl SampleQueue {
    /// Creates a queue of this many slots, a power of two.
    pub(super) fn new(slots: usize) -> Self {
        debug_assert!(slots.is_power_of_two(), "numbers must go on where they wrap around");
        let slot = |turn| QueueSlot { turn: AtomicUsize::new(turn), sample: Mutex::new(Sample::default()) };
        Self { slots: (0..slots).map(slot).collect(), next: Padded::default(), oldest: Padded::default() }
    }

    fn slot(&self, number: usize) -> Option<&QueueSlot> {
        self.slots.get(number % self.slots.len())
    }

    /// Fills a free slot. Returns false if none is free.
    pub(super) fn put(&self, fill: impl FnOnce(&mut Sample)) -> bool {
        let next = &self.next.0;
        let mut number = next.load(Ordering::Relaxed);
        loop {
            let Some(slot) = self.slot(number) else { return false };
            let turn = slot.turn.load(Ordering::Acquire);
            if turn == number {
                let taken = next.compare_exchange_weak(
                    number,
                    number.wrapping_add(1),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                match taken {
                    Ok(_) => {
                        fill(&mut slot.sample.lock().unwrap_or_else(PoisonError::into_inner));
                        slot.turn.store(number.wrapping_add(1), Ordering::Release);
                        return true;
                    }
                    Err(now) => number = now,
                }
            } else if turn.wrapping_sub(number).cast_signed() < 0 {
                // It still has the sample of the round before, or that sample is still being copied.
                return false;
            } else {
                number = next.load(Ordering::Relaxed);
            }
        }
    }

    /// Reads the oldest sample and frees its slot. Only one thread may take.
    pub(super) fn take<T>(&self, read: impl FnOnce(&Sample) -> T) -> Option<T> {
        let number = self.oldest.0.load(Ordering::Relaxed);
        let slot = self.slot(number)?;
        if slot.turn.load(Ordering::Acquire) != number.wrapping_add(1) {
            return None;
        }
        let result = read(&slot.sample.lock().unwrap_or_else(PoisonError::into_inner));
        self.oldest.0.store(number.wrapping_add(1), Ordering::Relaxed);
        slot.turn.store(number.wrapping_add(self.slots.len()), Ordering::Release);
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicBool, AtomicU64};
    use std::thread;

    use super::*;

    #[test]
    fn a_full_queue_refuses_and_a_freed_slot_is_used_again() {
        let queue = SampleQueue::new(4);
        let put = |mark: u8| queue.put(|sample| sample.mark(&[mark]));
        let take = || queue.take(|sample| sample.marked()[0]);
        assert_eq!(take(), None);
        for round in 0..10 {
            for mark in 0..4 {
                assert!(put(4 * round + mark));
            }
            assert!(!put(0), "it is full");
            for mark in 0..4 {
                assert_eq!(take(), Some(4 * round + mark));
            }
            assert_eq!(take(), None);
        }
    }

    /// A thread that is interrupted while it copies must not hold up others.
    #[test]
    fn a_slot_that_is_being_filled_is_not_waited_for() {
        let queue = SampleQueue::new(4);
        assert!(queue.put(|sample| {
            for mark in 1..4 {
                assert!(queue.put(|sample| sample.mark(&[mark])));
            }
            assert!(!queue.put(|_| ()), "its turn has not come");
            assert_eq!(queue.take(|_| ()), None);
            sample.mark(&[0]);
        }));
        let take = || queue.take(|sample| sample.marked()[0]);
        assert_eq!([take(), take(), take(), take(), take()], [Some(0), Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn threads_lose_nothing_that_was_accepted_and_keep_their_order() {
        const THREADS: u64 = 4;
        const EACH: u64 = 50_000;
        let queue = SampleQueue::new(64);
        let (refused, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let (mut taken, mut last) = (0, HashMap::new());
        thread::scope(|scope| {
            let putting: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (queue, refused) = (&queue, &refused);
                    scope.spawn(move || {
                        for number in 0..EACH {
                            let mark = (thread << 32 | number).to_be_bytes();
                            if !queue.put(|sample| sample.mark(&mark)) {
                                refused.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    })
                })
                .collect();
            let over = &over;
            let taking = scope.spawn({
                let (queue, last) = (&queue, &mut last);
                move || {
                    let mut taken = 0;
                    loop {
                        let ended = over.load(Ordering::Acquire);
                        while let Some(mark) =
                            queue.take(|sample| u64::from_be_bytes(sample.marked().try_into().unwrap()))
                        {
                            let before = last.insert(mark >> 32, mark);
                            assert!(before.is_none_or(|before| before < mark));
                            taken += 1;
                        }
                        if ended {
                            return taken;
                        }
                    }
                }
            });
            for thread in putting {
                thread.join().unwrap();
            }
            over.store(true, Ordering::Release);
            taken = taking.join().unwrap();
        });
        assert_eq!(taken + refused.into_inner(), THREADS * EACH);
        assert!(taken >= 64);
    }
}
