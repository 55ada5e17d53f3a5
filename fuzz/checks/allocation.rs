//! The global allocator of every program that includes this: the system's, which counts what the
//! current thread takes. Each thread counts for itself, so tests may run side by side.

#![allow(
    unsafe_code,
    reason = "a global allocator is not written without; every call is handed on unchanged"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

/// Memory that one thread has taken so far.
struct Taken {
    /// Calls that take memory, growing a block included.
    calls: Cell<u64>,
    /// Bytes taken and not given back; below 0 where a thread gives back what another has taken.
    bytes: Cell<isize>,
    /// The most that `bytes` has been since it was last set.
    peak: Cell<isize>,
}

thread_local! {
    // Neither lazy nor dropped, so the allocator may use it at any time.
    static TAKEN: Taken = const { Taken { calls: Cell::new(0), bytes: Cell::new(0), peak: Cell::new(0) } };
}

fn take(call: u64, bytes: isize) {
    TAKEN.with(|taken| {
        taken.calls.set(taken.calls.get() + call);
        taken.bytes.set(taken.bytes.get() + bytes);
        taken.peak.set(taken.peak.get().max(taken.bytes.get()));
    });
}

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(1, layout.size().cast_signed());
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(1, layout.size().cast_signed());
        // SAFETY: the caller keeps the promises of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(1, size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the caller keeps the promises of `realloc`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        take(0, -layout.size().cast_signed());
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// How often this thread takes memory while `run` runs.
pub(crate) fn calls_during<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let before = TAKEN.with(|taken| taken.calls.get());
    let result = run();
    (result, TAKEN.with(|taken| taken.calls.get()) - before)
}

/// How many bytes more than at its start this thread holds at most while `run` runs.
pub(crate) fn peak_during<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = TAKEN.with(|taken| {
        taken.peak.set(taken.bytes.get());
        taken.bytes.get()
    });
    let result = run();
    let peak = TAKEN.with(|taken| taken.peak.get());
    (result, usize::try_from(peak - before).unwrap_or(0))
}
