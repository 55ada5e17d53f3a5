//! Searches for the expected content as it arrives, in time proportional to the bytes read.
//!
//! For a text, only new bytes are searched. For an expression, the search must start from the beginning: each time the
//! number of bytes has doubled, when the backend pauses, and at the end. Each pause without a match doubles the length
//! of the next one, so there are few of them. A search that may take long runs in [`threads`], so that it does not
//! delay other probes; if it takes more than [`BUDGET`], the probe fails.
//!
//! A probe that runs out of time during a search fails, with one exception: it is void if a short search has waited for
//! a substantial part of the time limit, because this machine then caused the delay. Whether a search counts as short
//! depends on the searches of earlier probes too: see [`effort`].

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

/// Up to this many bytes, expressions are searched for after every read, so that a probe does not wait for more bytes
/// from a backend that sends few.
const LITTLE: usize = 4 * 1024;

/// The received bytes are searched after a pause of this length; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// A search must have waited for this part of the time limit (one tenth) before this machine counts as the cause of the
/// delay. A backend that sends its last bytes later than that is itself too late.
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

    /// Whether this machine is to blame if the search has not ended within the time limit.
    pub(super) fn is_delayed_here(&self, timeout: Duration) -> bool {
        !is_long(self.charge()) && self.since.elapsed() >= timeout / WAITED_PART
    }
}

/// A search in the bytes from a backend while they arrive.
pub(super) struct Search<'e> {
    expected: &'e Expected,
    /// Whether a match counts although more bytes may arrive.
    early: bool,
    /// How many bytes have been searched.
    looked: usize,
    /// None before the first search on a thread.
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

    /// Whether to search now that this many bytes have arrived.
    fn is_due(&self, heard: usize) -> bool {
        let doubled = match self.expected {
            Expected::Text(_) => true,
            Expected::Pattern(_) => heard <= LITTLE || heard / 2 >= self.looked,
        };
        self.is_behind(heard) && doubled
    }

    /// Whether some bytes have not been searched.
    fn is_behind(&self, heard: usize) -> bool {
        self.early && heard > self.looked
    }

    /// Searches if it is due, and returns whether the content is found. `heard` is always the same growing buffer;
    /// `paused` says that nothing has arrived for a while.
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

    /// Whether the content is found, when no more bytes arrive.
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

    /// Waits for a read; none if nothing arrived for a while and the received bytes should be searched.
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
            "searching the response for {expected} took more than {BUDGET:?} of processor time: use a simpler \
             expression"
        );
        ProbeFailure::new(Cause::Body, text)
    }
}

#[cfg(test)]
mod tests;
