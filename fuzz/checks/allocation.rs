//! The global allocator of every program that includes this module: the system's allocator with
//! counters per thread, so that tests may run in parallel.

#![allow(unsafe_code, reason = "a global allocator needs it; every call is passed on unchanged")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

/// Allocations of one thread so far.
struct Taken {
    /// Calls that allocate, including those that enlarge a block.
    calls: Cell<u64>,
    /// Bytes allocated and not freed; negative if the thread frees what another one allocated.
    bytes: Cell<isize>,
    /// The maximum of `bytes` since it was last reset.
    peak: Cell<isize>,
}

thread_local! {
    // Needs neither lazy initialization nor a destructor, so the allocator may always use it.
    static TAKEN: Taken = const { Taken { calls: Cell::new(0), bytes: Cell::new(0), peak: Cell::new(0) } };
}

fn take(call: u64, bytes: isize) {
    TAKEN.with(|taken| {
        taken.calls.set(taken.calls.get() + call);
        taken.bytes.set(taken.bytes.get() + bytes);
        taken.peak.set(taken.peak.get().max(taken.bytes.get()));
    });
}

// SAFETY: every call passes its arguments unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(1, layout.size().cast_signed());
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(1, layout.size().cast_signed());
        // SAFETY: the caller upholds the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(1, size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the caller upholds the contract of `realloc`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        take(0, -layout.size().cast_signed());
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Runs `run`. Also returns how often this thread allocates meanwhile.
pub(crate) fn calls_during<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let before = TAKEN.with(|taken| taken.calls.get());
    let result = run();
    (result, TAKEN.with(|taken| taken.calls.get()) - before)
}

/// Runs `run`. Also returns how much more memory this thread uses afterwards, bytes.
pub(crate) fn kept_during<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = TAKEN.with(|taken| taken.bytes.get());
    let result = run();
    let kept = TAKEN.with(|taken| taken.bytes.get()) - before;
    (result, usize::try_from(kept).unwrap_or(0))
}

/// Runs `run`. Also returns how much the memory of this thread grows meanwhile, bytes.
pub(crate) fn peak_during<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = TAKEN.with(|taken| {
        taken.peak.set(taken.bytes.get());
        taken.bytes.get()
    });
    let result = run();
    let peak = TAKEN.with(|taken| taken.peak.get());
    (result, usize::try_from(peak - before).unwrap_or(0))
}
