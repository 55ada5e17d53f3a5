//! The bytes received from a backend, up to a limit, and the search for the expected content in them.

use std::time::Duration;

use tokio::time::Instant;

use crate::check::Expected;
use crate::probe::Trace;
use crate::probe::failure::ProbeFailure;
use crate::probe::search::Search;

/// The bytes of a body or an exchange.
pub(super) struct Hearing<'e> {
    limit: usize,
    /// How many bytes have been received, up to the limit.
    length: usize,
    /// The received bytes, if `keep`.
    kept: Vec<u8>,
    keep: bool,
    search: Option<Search<'e>>,
    /// Whether nothing has arrived for a while.
    paused: bool,
    /// When the wait ends for bytes that are not searched and may be endless.
    until: Option<Instant>,
}

impl<'e> Hearing<'e> {
    /// For an exchange: reads until the expected content arrives.
    pub(super) fn of_words(expected: &'e Expected, limit: usize) -> Self {
        Self::new(limit, true, Some(Search::in_words(expected)))
    }

    /// For a body: reads until it is certain whether the body contains the expected content.
    pub(super) fn of_body(expected: Option<&'e Expected>, limit: usize) -> Self {
        Self::new(limit, expected.is_some(), expected.map(Search::in_body))
    }

    /// The same, but waits at most `patience` if no content is expected.
    pub(super) fn within(self, patience: Duration) -> Self {
        let until = self.search.is_none().then(|| Instant::now() + patience);
        Self { until, ..self }
    }

    /// For a complete message.
    pub(super) fn of_message(limit: usize) -> Self {
        Self::new(limit, true, None)
    }

    fn new(limit: usize, keep: bool, search: Option<Search<'e>>) -> Self {
        Self { limit, length: 0, kept: Vec::new(), keep, search, paused: false, until: None }
    }

    /// How many bytes more are wanted.
    pub(super) fn room(&self) -> usize {
        self.limit - self.length
    }

    /// The bytes received so far, if they are kept.
    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Takes received bytes, up to the limit.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let bytes = bytes.get(..self.room()).unwrap_or(bytes);
        self.length += bytes.len();
        if self.keep {
            self.kept.extend_from_slice(bytes);
        }
    }

    /// Whether no more bytes are needed.
    pub(super) async fn is_enough(&mut self, trace: &mut Trace) -> Result<bool, ProbeFailure> {
        let found = match &mut self.search {
            Some(search) => search.goes_on(&mut self.kept, self.paused, trace).await?,
            None => self.paused,
        };
        self.paused = false;
        Ok(found || self.room() == 0)
    }

    /// Waits for the next read; none if nothing arrives for a while, and [`Hearing::is_enough`] must be called
    /// again.
    pub(super) async fn patiently<T>(&mut self, read: impl Future<Output = T>) -> Option<T> {
        let read = match (&self.search, self.until) {
            (Some(search), _) => search.patiently(self.kept.len(), read).await,
            (None, Some(until)) => Box::pin(tokio::time::timeout_at(until, read)).await.ok(),
            (None, None) => Some(read.await),
        };
        self.paused = read.is_none();
        read
    }

    /// Whether the expected content was found, when everything has been read; true if nothing is expected.
    pub(super) async fn ends(&mut self, trace: &mut Trace) -> Result<bool, ProbeFailure> {
        match &mut self.search {
            Some(search) => search.ends(&mut self.kept, trace).await,
            None => Ok(true),
        }
    }
}
