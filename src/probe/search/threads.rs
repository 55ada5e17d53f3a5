//! Threads for searches that may take long, apart from the one that all probes run on.
//!
//! A search goes through the first kilobyte, then two, four and so on, a *step* each: so it takes twice
//! the time of one search of all, and can be given up between steps. Whoever has taken the least
//! processor time so far has the next step, so a search that takes little passes by all that take much,
//! however many those are. The threads give way to all others of this machine.
//!
//! ```text
//!  search --> waiting (the least spent first) --> a step --+--> found, or all looked through --> answer
//!                 ^                                        +--> too long ----------------------> answer
//!                 |                                        +--> nobody waits any more
//!                 +----------------------------------------+
//! ```

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::probe::expected::Pattern;
use crate::probe::search::BUDGET;
use crate::sys::process;

/// How many bytes the first step goes through.
const FIRST_STEP: usize = 1024;

/// The most threads, however many processors there are.
const MAX_THREADS: usize = 4;

/// A search on its way.
pub(super) struct Job {
    pattern: Pattern,
    bytes: Vec<u8>,
    /// How many of them the next step goes through.
    step: usize,
    spent: Duration,
    /// In the order they came.
    number: u64,
    reply: Option<oneshot::Sender<Done>>,
}

/// What came of a search, with the bytes that it was made in.
pub(super) struct Done {
    pub(super) bytes: Vec<u8>,
    pub(super) spent: Duration,
    pub(super) answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Found,
    Missing,
    /// It has taken, or would take, more than [`BUDGET`].
    TooLong,
}

#[derive(Default)]
struct Queue {
    waiting: BinaryHeap<Job>,
    number: u64,
    threads: usize,
}

#[derive(Default)]
struct Threads {
    queue: Mutex<Queue>,
    came: Condvar,
}

static THREADS: LazyLock<Threads> = LazyLock::new(Threads::default);

/// Has a search made. The error says why there is none.
pub(super) async fn search(mut job: Job) -> Result<Done, String> {
    let (reply, answer) = oneshot::channel();
    job.reply = Some(reply);
    THREADS.take(job).map_err(|error| format!("the system gives no thread to search with: {error}"))?;
    answer.await.map_err(|_| "the search broke off; this is a fault in steerd".to_owned())
}

impl Threads {
    fn take(&'static self, mut job: Job) -> std::io::Result<()> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // One for every two processors, and one in any case: they all start with the first search.
        let wanted =
            thread::available_parallelism().map_or(1, |count| (count.get() / 2).clamp(1, MAX_THREADS));
        while queue.threads < wanted {
            let started = thread::Builder::new().name("search".into()).spawn(|| self.work());
            match started {
                Ok(_) => queue.threads += 1,
                Err(error) if queue.threads == 0 => return Err(error),
                Err(_) => break,
            }
        }
        job.number = queue.number;
        queue.number += 1;
        queue.waiting.push(job);
        drop(queue);
        self.came.notify_one();
        Ok(())
    }

    fn work(&self) -> ! {
        process::give_way();
        loop {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let job = loop {
                match queue.waiting.pop() {
                    Some(job) => break job,
                    None => queue = self.came.wait(queue).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(queue);
            // To drop what broke off tells its probe.
            if let Ok(Some(job)) = catch_unwind(AssertUnwindSafe(|| job.step())) {
                self.queue.lock().unwrap_or_else(PoisonError::into_inner).waiting.push(job);
            }
        }
    }
}

impl Job {
    pub(super) fn new(pattern: Pattern, bytes: Vec<u8>, spent: Duration) -> Self {
        Self { pattern, bytes, step: FIRST_STEP, spent, number: 0, reply: None }
    }

    /// Goes one step on; none when the search is over.
    fn step(mut self) -> Option<Self> {
        let reply = self.reply.take().filter(|reply| !reply.is_closed())?;
        let length = self.step.min(self.bytes.len());
        let began = process::thread_time();
        // The memory of a step goes with it: there may be thousands of searches.
        let found = self.pattern.is_in_with(&mut self.pattern.cache(), &self.bytes, length);
        let took = process::thread_time().saturating_sub(began);
        self.spent += took;
        let answer = if found {
            Answer::Found
        } else if length == self.bytes.len() {
            Answer::Missing
        } else if self.spent + took * 2 > BUDGET {
            Answer::TooLong
        } else {
            self.step *= 2;
            self.reply = Some(reply);
            return Some(self);
        };
        let Self { bytes, spent, .. } = self;
        // Whoever waited may have left.
        let _ = reply.send(Done { bytes, spent, answer });
        None
    }

    /// Who is before another: the least spent, then the first that came.
    fn rank(&self) -> (Duration, u64) {
        (self.spent, self.number)
    }
}

/// The greatest is the first to go on.
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
