//! Threads for slow searches, in addition to the thread that runs all probes.
//!
//! A search works in *steps*: it searches the first kilobyte, then two, four and so on. It can be given up between
//! steps. The next search of the same probe begins with twice as many bytes as the last one reached. So all steps
//! together take a few times as long as one search of all bytes. The search with the least charge
//! ([`effort`](super::effort)) gets the next step; among equals, the oldest one. A plain search has no charge, so it
//! overtakes all slow ones. Long searches continue on threads of low priority.
//!
//! ```text
//!  search --> waiting (the least charge first) --> a step --+--> found, or all looked through --> answer
//!                 ^                                         +--> too long ----------------------> answer
//!                 |                                         +--> the probe has ended
//!                 +-----------------------------------------+
//! ```

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use regex_automata::meta::Cache;
use tokio::sync::oneshot;

use crate::check::Pattern;
use crate::probe::search::effort::{Charge, Effort, is_long};
use crate::sys::process;

/// The most threads for short searches, and for long ones, however many processors there are.
const MAX_THREADS: usize = 4;

/// For how many expressions a thread keeps a cache. Each takes up to half a megabyte.
const MAX_CACHES: usize = 4;

/// How many searches may wait before those of ended probes are removed.
const FIRST_SWEEP: usize = 16;

/// A search that has not ended.
pub(super) struct Job {
    pattern: Pattern,
    bytes: Vec<u8>,
    effort: Effort,
    /// The charge of the effort, shared with the probe.
    charge: Arc<Charge>,
    /// Numbers searches in the order of their arrival.
    number: u64,
    reply: Option<oneshot::Sender<SearchResult>>,
}

/// The result of a search, with the searched bytes.
pub(super) struct SearchResult {
    pub(super) bytes: Vec<u8>,
    pub(super) effort: Effort,
    pub(super) answer: SearchOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SearchOutcome {
    Found,
    Missing,
    /// The search has taken, or would take, more than its budget.
    TooLong,
}

struct JobQueue {
    waiting: BinaryHeap<Job>,
    number: u64,
    threads: usize,
    /// When this many searches wait, those of ended probes are removed.
    sweep_at: usize,
}

struct Threads {
    queue: Mutex<JobQueue>,
    came: Condvar,
    name: &'static str,
    give_way: bool,
}

static FOR_SHORT: Threads = Threads::new("search", false);
static FOR_LONG: Threads = Threads::new("search-long", true);

/// Runs a search on a thread. The error says why this was not possible.
pub(super) async fn search(mut job: Job) -> Result<SearchResult, String> {
    let (reply, answer) = oneshot::channel();
    job.reply = Some(reply);
    Threads::of(&job).take(job).map_err(|error| format!("cannot start a thread for the search: {error}"))?;
    answer.await.map_err(|_| "the search panicked; this is a bug in steerd".to_owned())
}

impl Threads {
    const fn new(name: &'static str, give_way: bool) -> Self {
        Self { queue: Mutex::new(JobQueue::new()), came: Condvar::new(), name, give_way }
    }

    /// The threads for this search.
    fn of(job: &Job) -> &'static Self {
        if is_long(job.charge.get()) { &FOR_LONG } else { &FOR_SHORT }
    }

    fn lock(&self) -> MutexGuard<'_, JobQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&'static self, job: Job) -> std::io::Result<()> {
        let mut queue = self.lock();
        // One thread per two processors, and at least one. All of them start with the first search.
        let wanted =
            thread::available_parallelism().map_or(1, |count| (count.get() / 2).clamp(1, MAX_THREADS));
        while queue.threads < wanted {
            let started = thread::Builder::new().name(self.name.into()).spawn(|| self.work());
            match started {
                Ok(_) => queue.threads += 1,
                Err(error) if queue.threads == 0 => return Err(error),
                Err(_) => break,
            }
        }
        queue.push(job);
        drop(queue);
        self.came.notify_one();
        Ok(())
    }

    fn work(&self) -> ! {
        if self.give_way {
            process::give_way();
        }
        let mut caches = Caches::default();
        loop {
            let mut queue = self.lock();
            let job = loop {
                match queue.waiting.pop() {
                    Some(job) => break job,
                    None => queue = self.came.wait(queue).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(queue);
            if let Ok(Some(job)) = catch_unwind(AssertUnwindSafe(|| job.step(&mut caches))) {
                // If a search is dropped, here or by a panic, the probe gets an error.
                let _ = Self::of(&job).take(job);
            }
        }
    }
}

impl JobQueue {
    const fn new() -> Self {
        Self { waiting: BinaryHeap::new(), number: 0, threads: 0, sweep_at: FIRST_SWEEP }
    }

    /// Adds a search. Searches of ended probes might wait behind others forever, so they are removed each time the
    /// queue has doubled.
    fn push(&mut self, mut job: Job) {
        job.number = self.number;
        self.number += 1;
        if self.waiting.len() >= self.sweep_at {
            self.waiting.retain(Job::is_awaited);
            self.sweep_at = FIRST_SWEEP.max(2 * self.waiting.len());
        }
        self.waiting.push(job);
    }
}

/// The caches of the last expressions that a thread has searched for, the latest first. Making a new one takes 3 to 30
/// microseconds, and up to half a millisecond for an expression with many states.
#[derive(Default)]
struct Caches(Vec<(Pattern, Cache)>);

impl Caches {
    /// Removes and returns the cache for an expression. The cache of a different expression with the same text cannot
    /// be used.
    fn take(&mut self, pattern: &Pattern) -> (Pattern, Cache) {
        match self.0.iter().position(|(kept, _)| kept.is_same(pattern)) {
            Some(place) => self.0.remove(place),
            None => (pattern.clone(), pattern.cache()),
        }
    }

    fn put_back(&mut self, kept: (Pattern, Cache)) {
        self.0.truncate(MAX_CACHES - 1);
        self.0.insert(0, kept);
    }
}

impl Job {
    pub(super) fn new(pattern: Pattern, bytes: Vec<u8>, effort: Effort) -> Self {
        let charge = Arc::new(Charge::new(effort.charge()));
        Self { pattern, bytes, effort, charge, number: 0, reply: None }
    }

    /// The charge of the search, as a shared value.
    pub(super) fn charge(&self) -> Arc<Charge> {
        Arc::clone(&self.charge)
    }

    fn is_awaited(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }

    /// Runs one step; none if the search is over.
    fn step(mut self, caches: &mut Caches) -> Option<Self> {
        if !self.is_awaited() {
            return None;
        }
        let answer = self.answer(caches);
        let (Some(answer), Some(reply)) = (answer, self.reply.take_if(|_| answer.is_some())) else {
            return Some(self);
        };
        let Self { bytes, effort, .. } = self;
        // The probe may have ended.
        let _ = reply.send(SearchResult { bytes, effort, answer });
        None
    }

    /// Searches the bytes of one step; none if more steps are needed.
    fn answer(&mut self, caches: &mut Caches) -> Option<SearchOutcome> {
        if self.effort.is_too_long() {
            return Some(SearchOutcome::TooLong);
        }
        let length = self.effort.next_step(self.bytes.len());
        // The time to create a cache is not charged: other searches have displaced the last one.
        let mut kept = caches.take(&self.pattern);
        let began = process::thread_time();
        let found = self.pattern.is_in_with(&mut kept.1, &self.bytes, length);
        self.effort.add(length, process::thread_time().saturating_sub(began));
        self.charge.set(self.effort.charge());
        caches.put_back(kept);
        if found {
            Some(SearchOutcome::Found)
        } else {
            (length == self.bytes.len()).then_some(SearchOutcome::Missing)
        }
    }

    /// The search with the lowest rank goes first: the lowest charge, then the earliest arrival.
    fn rank(&self) -> (Duration, u64) {
        (self.effort.charge(), self.number)
    }
}

/// The greatest goes first.
impl Ord for Job {
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank().cmp(&self.rank())
    }
}

impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Job {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A search in one kilobyte, with a charge of `number` microseconds.
    fn job(pattern: &Pattern, number: u32) -> Job {
        let effort = Effort::after(Duration::from_micros(number.into()));
        Job::new(pattern.clone(), vec![0; 1024], effort)
    }

    #[test]
    fn searches_of_ended_probes_do_not_pile_up() {
        let pattern = Pattern::new("ready|fine").unwrap();
        let mut queue = JobQueue::new();
        let (mut awaited, mut most) = (Vec::new(), 0);
        for number in 0..10_000 {
            let mut job = job(&pattern, number);
            let (reply, answer) = oneshot::channel();
            job.reply = Some(reply);
            if number % 100 == 0 {
                awaited.push(answer);
            }
            queue.push(job);
            most = most.max(queue.waiting.len());
        }
        assert_eq!(queue.waiting.iter().filter(|job| job.is_awaited()).count(), awaited.len());
        assert!(
            most <= 2 * awaited.len() + FIRST_SWEEP,
            "{most} waited, of which {} in earnest",
            awaited.len()
        );
    }
}
