//! Tells when a limit on clients begins to bite, and when that has ended.
//!
//! Once a second a task compares counters that the listeners count anyway, so answers cost nothing more.
//!
//! ```text
//!           at least LEAST in a second: tell that it bites
//!   quiet --------------------------------------------------> biting
//!     ^                                                          |
//!     '--- fewer than LEAST a second for QUIET: tell that it ended'
//! ```
//!
//! So a limit writes at most two lines in [`QUIET`], however often it bites.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::duration::Shown;
use crate::events::{Events, Notice, tell};
use crate::metrics::{LimitKind, Metrics};
use crate::network::Network;

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// How many clients or replies a limit must hit between two looks.
pub const LEAST: u64 = 10;
/// A limit has ended to bite after so long.
pub const QUIET: Duration = Duration::from_secs(30);

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PressureChange {
    Begins { count: u64, network: Option<Network> },
    Ended { count: u64, lasted: Duration, network: Option<Network> },
}

/// The state of one limit.
#[derive(Debug, Default)]
struct Pressure {
    /// The count at the last look.
    seen: u64,
    biting: Option<Biting>,
}

#[derive(Debug)]
struct Biting {
    since: Duration,
    /// When it last hit at least [`LEAST`].
    last: Duration,
    /// The count before it began.
    before: u64,
    /// The network that was hit at most looks, by majority vote (Boyer and Moore), and its lead.
    network: Option<Network>,
    lead: u32,
}

impl Biting {
    fn vote(&mut self, network: Option<Network>) {
        match network {
            None => {}
            Some(_) if self.network == network => self.lead += 1,
            Some(_) if self.lead == 0 => (self.network, self.lead) = (network, 1),
            Some(_) => self.lead -= 1,
        }
    }
}

impl Pressure {
    /// Looks at the count of the limit, and at the network that it hit last.
    fn look(&mut self, count: u64, network: Option<Network>, now: Duration) -> Option<PressureChange> {
        let before = std::mem::replace(&mut self.seen, count);
        let hits = count.saturating_sub(before) >= LEAST;
        match &mut self.biting {
            None if hits => {
                self.biting = Some(Biting { since: now, last: now, before, network, lead: 1 });
                Some(PressureChange::Begins { count: count - before, network })
            }
            None => None,
            Some(biting) if hits => {
                biting.last = now;
                biting.vote(network);
                None
            }
            Some(biting) if now.saturating_sub(biting.last) < QUIET => None,
            Some(biting) => {
                let lasted = (biting.last + LOOK).saturating_sub(biting.since);
                let told = PressureChange::Ended {
                    count: count.saturating_sub(biting.before),
                    lasted,
                    network: biting.network,
                };
                self.biting = None;
                Some(told)
            }
        }
    }
}

/// Watches all limits until the runtime ends.
pub async fn watch(metrics: Arc<Metrics>, events: Events) {
    let began = Instant::now();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut limits = LimitKind::ALL.map(|kind| {
        let (seen, _) = metrics.hits(kind);
        (kind, Pressure { seen, biting: None })
    });
    loop {
        looks.tick().await;
        for (kind, pressure) in &mut limits {
            let (count, network) = metrics.hits(*kind);
            if let Some(told) = pressure.look(count, network, began.elapsed()) {
                tell(*kind, &told, &events);
            }
        }
    }
}

fn tell(kind: LimitKind, told: &PressureChange, events: &Events) {
    let limit = kind.as_str();
    let effect = kind.effect();
    match told {
        PressureChange::Begins { count, network } => {
            let network = network.map(|network| network.to_string());
            tell!(events.now(), warn, Server, limit, count, network, "a limit begins to bite: {effect}");
            let of_network =
                network.map_or_else(String::new, |network| format!(", such as those of {network}"));
            let notice = format!("the limit {limit} bites: {effect}{of_network}");
            events.show(Notice::Limit(limit), Some(notice));
        }
        PressureChange::Ended { count, lasted, network } => {
            let network = network.map(|network| network.to_string());
            let lasted = Shown(*lasted);
            tell!(events.now(), info, Server, limit, count, network, %lasted, "a limit bites no more");
            events.show(Notice::Limit(limit), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn it_is_told_once_when_it_begins_and_once_when_it_ends() {
        let mut limit = Pressure::default();
        let (victim, other) = (Some(network("192.0.2.0/24")), Some(network("198.51.100.0/24")));
        let mut told = Vec::new();
        let mut count = 0;
        for second in 0..200_u64 {
            // A few hits now and then are no attack; two floods with a short pause are one.
            count += match second {
                10..20 | 30..40 => 100,
                _ if second % 7 == 0 => LEAST - 1,
                _ => 0,
            };
            let hit = if second == 35 { other } else { victim };
            told.extend(limit.look(count, hit, Duration::from_secs(second)).map(|told| (second, told)));
        }
        // From the second before it began on: both floods, and the hits at 21, 28, 42, 49, 56 and 63 seconds.
        let count = 2000 + 6 * (LEAST - 1);
        assert_eq!(
            told,
            [
                (10, PressureChange::Begins { count: 100, network: victim }),
                (69, PressureChange::Ended { count, lasted: Duration::from_secs(30), network: victim }),
            ]
        );
    }

    #[test]
    fn the_network_is_that_of_the_majority() {
        let (victim, other) = (Some(network("192.0.2.0/24")), Some(network("2001:db8::/56")));
        let mut limit = Pressure::default();
        let mut ended = None;
        for second in 0..100 {
            let count = 100 * (second + 1).min(30);
            let hit = if second % 3 == 0 { other } else { victim };
            ended = ended.or(limit
                .look(count, hit, Duration::from_secs(second))
                .filter(|told| matches!(told, PressureChange::Ended { .. })));
        }
        assert_eq!(
            ended,
            Some(PressureChange::Ended { count: 3000, lasted: Duration::from_secs(30), network: victim })
        );
    }
}
