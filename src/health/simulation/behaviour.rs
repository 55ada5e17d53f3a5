//! Behaviours of simulated backends: how they answer probes, and how soon the verdict must follow.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::check::Timing;
use crate::health::schedule::longest_jitter;
use crate::health::simulation::LATENCY;
use crate::health::{Outcome, Verdict};

/// The behaviour of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Serve,
    /// Just before the timeout.
    ServeSlowly,
    /// Fails as fast as other backends pass; represents resets and bad status codes too.
    Refuse,
    Hang,
    /// Good or bad at random.
    Flap,
    Drain,
}

impl Behaviour {
    pub(crate) const ALL: [Self; 6] =
        [Self::Serve, Self::ServeSlowly, Self::Refuse, Self::Hang, Self::Flap, Self::Drain];

    /// The verdict that probes eventually reach; `None` if their outcomes vary.
    pub(crate) fn truth(self) -> Option<Verdict> {
        match self {
            Self::Serve | Self::ServeSlowly => Some(Verdict::Healthy),
            Self::Refuse | Self::Hang => Some(Verdict::Unhealthy),
            Self::Drain => Some(Verdict::Draining),
            Self::Flap => None,
        }
    }

    /// The duration and the outcome of a probe.
    pub(crate) fn answer(self, timeout: Duration, rng: &mut SmallRng) -> (Duration, Outcome) {
        let quick = LATENCY.min(timeout);
        match self {
            Self::Serve => (quick, Outcome::Passed),
            Self::ServeSlowly => (timeout.mul_f64(0.9), Outcome::Passed),
            Self::Refuse => (quick, Outcome::Failed),
            Self::Hang => (timeout, Outcome::Failed),
            Self::Drain => (quick, Outcome::Draining),
            Self::Flap => {
                [Self::Serve, Self::Refuse, Self::Hang][rng.random_range(0..3)].answer(timeout, rng)
            }
        }
    }

    /// The longest time from a change to this behaviour until the verdict follows, if nothing else happens:
    /// the probe in flight ends, a whole period passes, and then `rise` or `fall` outcomes arrive.
    pub(crate) fn bound(self, timing: &Timing, late: Duration) -> Duration {
        let (period, count) = match self.truth() {
            Some(Verdict::Unhealthy) => (timing.interval, timing.fall),
            _ => (timing.interval.max(timing.interval_down), timing.rise),
        };
        let jitter = longest_jitter(period, timing.timeout);
        timing.timeout + late + period + jitter + self.outcomes(count, timing, late)
    }

    /// The longest time that `count` outcomes take.
    fn outcomes(self, count: u16, timing: &Timing, late: Duration) -> Duration {
        let quick = LATENCY.min(timing.timeout);
        let each = if matches!(self, Self::Hang | Self::ServeSlowly) { timing.timeout } else { quick };
        (each + late * 2) * u32::from(count) + timing.recheck * u32::from(count.saturating_sub(1))
    }
}

/// The longest time from an outcome to the next one, with each event noticed up to `late` after it happened.
pub(crate) fn longest_round(timing: &Timing, late: Duration) -> Duration {
    let period = timing.interval.max(timing.interval_down);
    period + longest_jitter(period, timing.timeout) + timing.timeout + late * 3
}
