//! Looking for what is expected while it comes, in time that is linear in what was read.
//!
//! A text is looked for in what is new. An expression must be searched for from the beginning, so it is
//! looked for when twice as much is there as the last time, when the backend pauses, and at the end. Each
//! pause that brought nothing makes the next one twice as long, so there are few of them. A search that
//! could take long is handed to [`threads`], so that a backend that makes it slow delays no other; and when
//! it takes more than [`BUDGET`], the probe fails.
//!
//! When a probe runs out of time during a search, it fails, with one exception: it is void when a short
//! search has waited for a substantial part of the time limit. Only then was the delay made by this machine.
//! Whether a search is a short one depends on the searches of earlier probes too: see [`effort`].

mod effort;
mod threads;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::check::{Expected, Pattern};
use crate::probe::fault::Fault;
use crate::probe::search::effort::{BUDGET, Charge, Effort, is_long};
use crate::probe::search::threads::{Answer, Job};
use crate::probe::{Cause, Trace};

/// How much work ([`Pattern::work`]) a search may be that is done at once: at worst it takes about 100
/// microseconds.
const WORK_AT_ONCE: usize = 1 << 20;

/// Up to so many bytes, an expression is looked for after every read: a backend that says little should
/// not be waited for.
const LITTLE: usize = 4 * 1024;

/// When nothing comes for so long, what has come is looked at; the next time after twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The part of the time limit that a search must have waited for, at least, before the delay is this
/// machine's. A backend that sends its last bytes later than that has no claim to an answer in time.
const WAITED_PART: u32 = 10;

/// A search that a thread makes, seen from the probe that waits for it.
#[derive(Debug)]
pub(super) struct UnderWay {
    since: Instant,
    charge: Arc<Charge>,
}

impl UnderWay {
    fn new(charge: Arc<Charge>) -> Self {
        Self { since: Instant::now(), charge }
    }

    pub(super) fn charge(&self) -> Duration {
        self.charge.get()
    }

    /// Whether it is this machine's fault when the search is not done at the end of the time limit.
    pub(super) fn is_delayed_here(&self, timeout: Duration) -> bool {
        !is_long(self.charge()) && self.since.elapsed() >= timeout / WAITED_PART
    }
}

/// A search through what a backend sends, for as long as it sends.
pub(super) struct Search<'e> {
    expected: &'e Expected,
    /// Whether what is there counts although more may come.
    early: bool,
    /// How many bytes have been looked at.
    looked: usize,
    /// None before the first search by a thread.
    effort: Option<Effort>,
    /// How long nothing must come for a look in a pause.
    pause: Duration,
    found: bool,
}

impl<'e> Search<'e> {
    /// In words, of which each may be the last: what has been heard is judged as it is.
    pub(super) fn in_words(expected: &'e Expected) -> Self {
        Self { expected, early: true, looked: 0, effort: None, pause: FIRST_PAUSE, found: false }
    }

    /// In a body, which has an end: before it only what no more bytes can undo is a match.
    pub(super) fn in_body(expected: &'e Expected) -> Self {
        Self { early: expected.is_certain_early(), ..Self::in_words(expected) }
    }

    /// Whether to look now that so many bytes are there.
    fn is_due(&self, heard: usize) -> bool {
        let doubled = match self.expected {
            Expected::Text(_) => true,
            Expected::Pattern(_) => heard <= LITTLE || heard / 2 >= self.looked,
        };
        self.is_behind(heard) && doubled
    }

    /// Whether there is something to look at.
    fn is_behind(&self, heard: usize) -> bool {
        self.early && heard > self.looked
    }

    /// Whether it is found already; looks if it is time to. `heard` is the same for as long as the search
    /// lasts, and grows; `paused` says that nothing has come for a while.
    pub(super) async fn goes_on(
        &mut self,
        heard: &mut Vec<u8>,
        paused: bool,
        trace: &mut Trace,
    ) -> Result<bool, Fault> {
        if self.is_due(heard.len()) {
            self.look(heard, trace).await?;
        } else if paused && self.is_behind(heard.len()) {
            self.pause *= 2;
            self.look(heard, trace).await?;
        }
        Ok(self.found)
    }

    /// Whether it is found, now that nothing more comes.
    pub(super) async fn ends(&mut self, heard: &mut Vec<u8>, trace: &mut Trace) -> Result<bool, Fault> {
        // An expression may match where there is nothing.
        if !self.found && (self.looked < heard.len() || self.looked == 0 || !self.early) {
            self.look(heard, trace).await?;
        }
        Ok(self.found)
    }

    /// Reads until there is something, or none came for a while and it is time to look at what is there.
    pub(super) async fn patiently<T>(&self, heard: usize, read: impl Future<Output = T>) -> Option<T> {
        if self.is_behind(heard) {
            tokio::time::timeout(self.pause, read).await.ok()
        } else {
            Some(read.await)
        }
    }

    async fn look(&mut self, heard: &mut Vec<u8>, trace: &mut Trace) -> Result<(), Fault> {
        match self.expected {
            Expected::Text(text) => self.found = Expected::text_is_in(text, heard, self.looked),
            Expected::Pattern(pattern) if pattern.work(heard.len()) <= WORK_AT_ONCE => {
                self.found = pattern.is_in(heard, heard.len());
            }
            // Boxed, as most probes never come here.
            Expected::Pattern(pattern) => Box::pin(self.look_elsewhere(pattern, heard, trace)).await?,
        }
        self.looked = heard.len();
        Ok(())
    }

    async fn look_elsewhere(
        &mut self,
        pattern: &Pattern,
        heard: &mut Vec<u8>,
        trace: &mut Trace,
    ) -> Result<(), Fault> {
        let effort = self.effort.unwrap_or_else(|| Effort::after(trace.search_charge));
        let job = Job::new(pattern.clone(), std::mem::take(heard), effort);
        trace.search = Some(UnderWay::new(job.charge()));
        let done = threads::search(job).await.map_err(Fault::local)?;
        trace.search = None;
        trace.search_charge = done.effort.rest();
        (*heard, self.effort) = (done.bytes, Some(done.effort));
        self.found = match done.answer {
            Answer::Found => true,
            Answer::Missing => false,
            Answer::TooLong => return Err(self.too_long()),
        };
        Ok(())
    }

    fn too_long(&self) -> Fault {
        let expected = self.expected.in_words();
        let text = format!(
            "to look for {expected} in what the backend sent took more than {BUDGET:?} of processor time: \
             a simpler expression takes less"
        );
        Fault::new(Cause::Body, text)
    }
}

#[cfg(test)]
mod tests;
