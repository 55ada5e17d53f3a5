//! When a check runs: the timing keys, and contradictions between them.

use std::time::Duration;

use crate::check::Timing;
use crate::config::check::key::{CheckKey, contradiction};
use crate::config::check::keys::PlainKeys;
use crate::duration::Shown;

/// The default `interval`.
pub(crate) const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
/// The default `timeout`, unless four fifths of the shorter interval are less.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
/// The default `recheck`, unless the shorter interval is less.
const DEFAULT_RECHECK: Duration = Duration::from_secs(1);
const DEFAULT_RISE: u16 = 2;
const DEFAULT_FALL: u16 = 3;

/// The timing of a check; none if a key is wrong or contradicts another one, which is reported.
///
/// `timeout` must be shorter than both intervals, because a probe must end before the next one is due. `recheck` must
/// not be longer than them, because a passed probe of an unhealthy address must not delay the next one. If there are
/// `faulty` keys, a missing key may have been misspelt, so its built-in value contradicts nothing.
pub(super) fn read(keys: &PlainKeys<'_>, faulty: bool) -> Option<Timing> {
    let sound = [
        below(("timeout", &keys.timeout), ("interval", &keys.interval), faulty, true),
        below(("timeout", &keys.timeout), ("interval_down", &keys.interval_down), faulty, true),
        below(("recheck", &keys.recheck), ("interval", &keys.interval), faulty, false),
        below(("recheck", &keys.recheck), ("interval_down", &keys.interval_down), faulty, false),
    ];
    if sound.contains(&false) {
        return None;
    }
    let interval = keys.interval.or_built_in(DEFAULT_INTERVAL)?;
    let interval_down = keys.interval_down.or_built_in(interval)?;
    let built_in = built_in_timing(interval, interval_down);
    Some(Timing {
        timeout: keys.timeout.or_built_in(built_in.timeout)?,
        rise: keys.rise.or_built_in(built_in.rise)?,
        fall: keys.fall.or_built_in(built_in.fall)?,
        recheck: keys.recheck.or_built_in(built_in.recheck)?,
        damping: keys.damping.or_built_in(built_in.damping)?,
        ..built_in
    })
}

/// The timing of a check that sets only its intervals.
pub(crate) fn built_in_timing(interval: Duration, interval_down: Duration) -> Timing {
    let shorter = interval.min(interval_down);
    Timing {
        interval,
        timeout: DEFAULT_TIMEOUT.min(shorter * 4 / 5),
        rise: DEFAULT_RISE,
        fall: DEFAULT_FALL,
        recheck: DEFAULT_RECHECK.min(shorter),
        interval_down,
        damping: true,
    }
}

/// Whether a key is below an interval, or one of the two is not set; otherwise reports it. If `interval_down` is not
/// set, it equals `interval`, and needs no comparison.
fn below<'s>(
    (name, key): (&str, &CheckKey<'s, Duration>),
    (limit_name, limit): (&str, &CheckKey<'s, Duration>),
    faulty: bool,
    strictly: bool,
) -> bool {
    let Some(key) = key.set() else { return true };
    let value =
        if limit_name == "interval" { limit.or_likely(DEFAULT_INTERVAL, faulty) } else { limit.value() };
    let Some(value) = value else { return true };
    if key.value < value || (!strictly && key.value == value) {
        return true;
    }
    let must = if strictly { "must be below" } else { "must not be above" };
    let message = format!("`{name}` ({}) {must} `{limit_name}` ({})", Shown(key.value), Shown(value));
    contradiction((name, key), (limit_name, limit.set()), message);
    false
}
