//! Counts of DNS messages that a thread handles together, for example those of one receive call.
//!
//! They are added to [`Metrics`] once for all. The counters are defined beside [`Metrics`].

use std::cell::Cell;
use std::net::IpAddr;

use super::limits::{LimitKind, LimitedReply, cookie_column};
use super::{COLUMNS, Counted, Dropped, FIRST_DROP, FIRST_EVENT, FIRST_LIMIT, FIRST_RCODE, Metrics};
use crate::answer::{Disposition, DropReason, Transport};
use crate::counters::CounterRow;
use crate::network::Network;
use crate::pool::Family;
use crate::wire::rcode;

/// Counts that are not in the metrics yet. They get there by [`Batch::settle`], and on drop.
#[derive(Debug)]
pub struct Batch<'m> {
    metrics: &'m Metrics,
    row: CounterRow,
    counts: [Cell<u32>; COLUMNS],
    /// The network of the last limited reply.
    limited: Cell<Option<Network>>,
}

impl<'m> Batch<'m> {
    pub(super) fn new(metrics: &'m Metrics, row: CounterRow) -> Self {
        Self { metrics, row, counts: [const { Cell::new(0) }; COLUMNS], limited: Cell::new(None) }
    }

    /// The row of the thread, also for the counts of the table.
    #[must_use]
    pub fn row(&self) -> CounterRow {
        self.row
    }

    /// Adds everything to the metrics. Before the replies are sent, so that a client that has its
    /// reply finds it counted.
    pub fn settle(&self) {
        for (column, count) in self.counts.iter().enumerate() {
            let count = count.take();
            if count > 0 {
                self.metrics.traffic.add(self.row, column, count.into());
            }
        }
        if let Some(network) = self.limited.take() {
            self.metrics.last_networks.note(LimitKind::RateLimit, network);
        }
    }

    /// Counts a received message as a query.
    pub fn received(&self, transport: Transport, client: IpAddr) {
        let transport = if transport == Transport::Udp { 0 } else { 2 };
        self.add(transport + Family::of(client).index(), 1);
    }

    /// Counts the reply to a message, or the drop.
    pub fn answered(&self, disposition: &Disposition<'_>) {
        match disposition {
            Disposition::Drop(reason) => self.dropped(Dropped::Unanswerable(*reason)),
            Disposition::Reply(reply) => {
                self.replied(reply.rcode);
                self.add(FIRST_LIMIT + cookie_column(reply.cookie), 1);
                if reply.truncated {
                    self.happened(Counted::Truncated, 1);
                }
            }
        }
    }

    /// Counts a reply with this code.
    pub fn replied(&self, rcode: u16) {
        let known = rcode::NAMES.iter().position(|(_, code)| *code == rcode);
        self.add(FIRST_RCODE + known.unwrap_or(rcode::NAMES.len()), 1);
    }

    /// Counts a message without a reply.
    pub fn dropped(&self, why: Dropped) {
        let reason = match why {
            Dropped::Unanswerable(DropReason::Short) => 0,
            Dropped::Unanswerable(DropReason::Response) => 1,
            Dropped::Unanswerable(DropReason::PortZero) => 2,
            Dropped::Long => 3,
            Dropped::Limited => 4,
        };
        self.add(FIRST_DROP + reason, 1);
    }

    /// Counts a reply that response rate limiting does not let pass.
    pub fn limited(&self, reply: LimitedReply<'_>) {
        self.add(FIRST_LIMIT + reply.column(), 1);
        self.limited.set(Some(reply.network));
    }

    /// Counts an event at a listener, `times` times.
    pub fn happened(&self, event: Counted, times: u32) {
        self.add(FIRST_EVENT + event as usize, times);
    }

    fn add(&self, column: usize, amount: u32) {
        if let Some(count) = self.counts.get(column) {
            count.set(count.get().saturating_add(amount));
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}
