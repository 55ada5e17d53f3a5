//! Searches for the expected content while it arrives, in time that is linear in the bytes read.
//!
//! A text is searched for in the new bytes only. An expression must be searched for from the beginning: each time that
//! the bytes have doubled, when the backend pauses, and at the end. Each pause without a match doubles the length of
//! the next one, so there are few of them. A search that may take long runs in [`threads`], so that it does not delay
//! other probes; if it takes more than [`BUDGET`], the probe fails.
//!
//! A probe that runs out of time during a search fails, with one exception: it is void if a short search has waited
//! for a substantial part of the time limit, because then this machine caused the delay. Whether a search counts as
//! short depends on the searches of earlier probes too: see [`effort`].

mod effort;
mod threads;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::check::{Expected, Pattern};
use crate::probe::failure::ProbeFailure;
use crate::probe::search::effort::{BUDGET, Charge, Effort, is_long};
use crate::probe::search::threads::{Job, SearchOutcome};
use crate::probe::{Cause, Trace};

/// The most work ([`Pattern::work`]) of a search that runs on the thread of the probes: at worst about 100
/// microseconds.
const WORK_AT_ONCE: usize = 1 << 20;

/// Up to this many bytes, an expression is searched for after every read, so that a probe does not wait for more bytes
/// from a backend that sends few.
const LITTLE: usize = 4 * 1024;

/// After a pause of this length the received bytes are searched; each next pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The part of the time limit (one tenth) that a search must have waited for before the delay counts as this machine's.
/// A backend that sends its last bytes later than that is itself too late.
const WAITED_PART: u32 = 10;

/// A search in another thread, as seen by the probe that waits for it.
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

    /// Whether it is this machine's fault that the search has not ended within the time limit.
    pub(super) fn is_delayed_here(&self, timeout: Duration) -> bool {
        !is_long(self.charge()) && self.since.elapsed() >= timeout / WAITED_PART
    }
}

/// A search in the bytes that a backend sends, while it sends them.
pub(super) struct Search<'e> {
    expected: &'e Expected,
    /// Whether a match counts although more bytes may come.
    early: bool,
    /// How many bytes have been searched.
    looked: usize,
    /// None before the first search by a thread.
    effort: Option<Effort>,
    /// The length of the next pause.
    pause: Duration,
    found: bool,
}

impl<'e> Search<'e> {
    /// In an exchange: any bytes may be the last, so a match always counts.
    pub(super) fn in_words(expected: &'e Expected) -> Self {
        Self { expected, early: true, looked: 0, effort: None, pause: FIRST_PAUSE, found: false }
    }

    /// In a body: before its end a match counts only if further bytes cannot undo it.
    pub(super) fn in_body(expected: &'e Expected) -> Self {
        Self { early: expected.is_certain_early(), ..Self::in_words(expected) }
    }

    /// Whether to search now that this many bytes have come.
    fn is_due(&self, heard: usize) -> bool {
        let doubled = match self.expected {
            Expected::Text(_) => true,
            Expected::Pattern(_) => heard <= LITTLE || heard / 2 >= self.looked,
        };
        self.is_behind(heard) && doubled
    }

    /// Whether there are bytes that have not been searched.
    fn is_behind(&self, heard: usize) -> bool {
        self.early && heard > self.looked
    }

    /// Searches if it is time to, and returns whether the content is found. `heard` is always the same, and grows;
    /// `paused` says that nothing has come for a while.
    pub(super) async fn goes_on(
        &mut self,
        heard: &mut Vec<u8>,
        paused: bool,
        trace: &mut Trace,
    ) -> Result<bool, ProbeFailure> {
        if self.is_due(heard.len()) {
            self.look(heard, trace).await?;
        } else if paused && self.is_behind(heard.len()) {
            self.pause *= 2;
            self.look(heard, trace).await?;
        }
        Ok(self.found)
    }

    /// Whether the content is found, now that nothing more comes.
    pub(super) async fn ends(
        &mut self,
        heard: &mut Vec<u8>,
        trace: &mut Trace,
    ) -> Result<bool, ProbeFailure> {
        // An expression may match the empty text.
        if !self.found && (self.looked < heard.len() || self.looked == 0 || !self.early) {
            self.look(heard, trace).await?;
        }
        Ok(self.found)
    }

    /// Waits for a read; none if nothing came for a while and the received bytes should be searched.
    pub(super) async fn patiently<T>(&self, heard: usize, read: impl Future<Output = T>) -> Option<T> {
        if self.is_behind(heard) {
            tokio::time::timeout(self.pause, read).await.ok()
        } else {
            Some(read.await)
        }
    }

    async fn look(&mut self, heard: &mut Vec<u8>, trace: &mut Trace) -> Result<(), ProbeFailure> {
        match self.expected {
            Expected::Text(text) => self.found = Expected::text_is_in(text, heard, self.looked),
            Expected::Pattern(pattern) if pattern.work(heard.len()) <= WORK_AT_ONCE => {
                self.found = pattern.is_in(heard, heard.len());
            }
            // Boxed, because most probes never get here.
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
    ) -> Result<(), ProbeFailure> {
        let effort = self.effort.unwrap_or_else(|| Effort::after(trace.search_charge));
        let job = Job::new(pattern.clone(), std::mem::take(heard), effort);
        trace.search = Some(UnderWay::new(job.charge()));
        let done = threads::search(job).await.map_err(ProbeFailure::local)?;
        trace.search = None;
        trace.search_charge = done.effort.rest();
        (*heard, self.effort) = (done.bytes, Some(done.effort));
        self.found = match done.answer {
            SearchOutcome::Found => true,
            SearchOutcome::Missing => false,
            SearchOutcome::TooLong => return Err(self.too_long()),
        };
        Ok(())
    }

    fn too_long(&self) -> ProbeFailure {
        let expected = self.expected.in_words();
        let text = format!(
            "to look for {expected} in what the backend sent took more than {BUDGET:?} of processor time: \
             a simpler expression takes less"
        );
        ProbeFailure::new(Cause::Body, text)
    }
}

#[cfg(test)]
mod tests;
