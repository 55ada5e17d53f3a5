//! The checks that decide about the backends of a plan: how soon they find a failure and a recovery together.

use std::time::Duration;

use crate::check::{PoolSetup, Timing};
use crate::health::longest_jitter;
use crate::plan::Delay;
use crate::pool::Require;

/// The checks that decide, and how many of them must pass.
pub(super) struct Checks {
    pub(super) checks: Vec<Deciding>,
    pub(super) require: Require,
}

pub(super) struct Deciding {
    pub(super) timing: Timing,
    /// Its failure alone is enough.
    is_critical: bool,
}

/// For how long a failure or a recovery is not noticed.
pub(super) struct Found {
    /// A dead host: every check is refused.
    pub(super) refuses: Delay,
    /// A dead host that says nothing to any check.
    pub(super) silent: Delay,
    /// Every check passes again.
    pub(super) recovered: Delay,
    /// A silent fault that only the slowest check sees, if its failure is enough and another check is faster.
    pub(super) slowest: Option<Delay>,
}

impl Checks {
    pub(super) fn one(timing: Timing) -> Self {
        Self { checks: vec![Deciding { timing, is_critical: false }], require: Require::All }
    }

    pub(super) fn of(pool: &PoolSetup) -> Self {
        let deciding = pool.checks.iter().filter(|check| !check.observe_only);
        let checks = deciding.map(|check| Deciding { timing: check.timing, is_critical: check.critical });
        Self { checks: checks.collect(), require: pool.require }
    }

    /// `None` if no check decides.
    pub(super) fn found(&self) -> Option<Found> {
        let count = self.checks.len();
        let passing = match self.require {
            Require::All => count,
            Require::AtLeast(least) => usize::from(least).min(count),
        };
        // So many failures leave too few checks that pass.
        let failing = count - passing + 1;
        let delays = |of: fn(&Timing) -> Delay| -> Vec<Delay> {
            self.checks.iter().map(|check| of(&check.timing)).collect()
        };
        let critical = |of: fn(&Timing) -> Delay| -> Vec<Delay> {
            self.checks.iter().filter(|check| check.is_critical).map(|check| of(&check.timing)).collect()
        };
        let lost = |of: fn(&Timing) -> Delay| {
            let either = Delay::of_several(&delays(of), failing).into_iter();
            Delay::of_several(&either.chain(Delay::of_several(&critical(of), 1)).collect::<Vec<_>>(), 1)
        };
        let back = Delay::of_several(&delays(Delay::of_recovery), passing).into_iter();
        let back: Vec<Delay> = back.chain(critical(Delay::of_recovery)).collect();
        let silent = delays(Delay::of_silence);
        let alone = self.checks.iter().zip(&silent).filter(|(check, _)| failing == 1 || check.is_critical);
        let slowest = alone.map(|(_, delay)| *delay).max_by_key(|delay| delay.most);
        let silent = lost(Delay::of_silence)?;
        Some(Found {
            refuses: lost(Delay::of_refusal)?,
            silent,
            recovered: Delay::of_several(&back, back.len())?,
            slowest: slowest.filter(|delay| delay.most > silent.most),
        })
    }

    /// The timing of the slowest check.
    pub(super) fn slowest(&self) -> Option<Timing> {
        self.checks.iter().map(|check| check.timing).max_by_key(|timing| Delay::of_silence(timing).most)
    }

    /// The longest time by which a probe starts later than at its interval.
    pub(super) fn jitter(&self) -> Duration {
        let jitters =
            self.checks.iter().map(|Deciding { timing, .. }| longest_jitter(timing.interval, timing.timeout));
        jitters.max().unwrap_or_default()
    }
}
