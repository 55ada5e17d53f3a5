//! Counts how many addresses of a pool are healthy.

use std::fmt;

use crate::pool::{Backend, Override};
use crate::table::Standing;

/// How many addresses are healthy, as `min_healthy` counts them: overrides take precedence over the checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    healthy: usize,
    total: usize,
}

impl Tally {
    /// The addresses of one backend. `weight` is the operator's percentage of its weight.
    pub(super) fn of(
        configured: &Backend,
        over: Option<Override>,
        weight: u16,
        addresses: impl Iterator<Item = Standing>,
    ) -> Self {
        let total = configured.addresses.len();
        match over {
            Some(Override::Disabled) => Self::default(),
            _ if !configured.enabled => Self::default(),
            _ if weight == 0 => Self { healthy: 0, total },
            Some(Override::Up) => Self { healthy: total, total },
            Some(Override::Drain | Override::Down) => Self { healthy: 0, total },
            None => {
                Self { healthy: addresses.filter(|standing| *standing == Standing::Healthy).count(), total }
            }
        }
    }

    /// Replaces a part of the count.
    pub(super) fn replace(&mut self, before: Self, now: Self) {
        self.healthy = self.healthy - before.healthy + now.healthy;
        self.total = self.total - before.total + now.total;
    }
}

/// `2 of 3 healthy`.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} healthy", self.healthy, self.total)
    }
}
