//! Tells the beginning and the end of a hold by damping.

use crate::duration::time_of_day;
use crate::events::tell;
use crate::fleet::Fleet;
use crate::fleet::targets::Spot;
use crate::health::{DAMPING_WINDOW, Moment};
use crate::table::Standing;

impl Fleet {
    /// The longest hold among the checks of an address: its end, and the falls that caused it.
    fn hold(&self, spot: Spot) -> Option<(Moment, u8)> {
        let pool = self.pools.get(spot.pool)?;
        let address = pool.address(spot.backend as usize, spot.address as usize)?;
        let holds = address
            .targets
            .iter()
            .filter_map(|id| Some((self.health.held_until(*id)?, self.health.flaps(*id))));
        holds.max()
    }

    /// Exports and tells that an address is now held, or no longer held.
    pub(super) fn tell_hold(&self, spot: Spot, held: bool, standing: Standing) {
        let Some((pool, backend, address)) = self.pools.named(spot) else { return };
        if let Some(state) = self.pools.get(spot.pool) {
            state.series.held(spot.backend as usize, spot.address as usize, held);
        }
        let minutes = DAMPING_WINDOW.as_secs() / 60;
        match (held, self.hold(spot)) {
            (true, Some((end, falls))) => {
                let [now, end] = [self.at, self.at.after(end.saturating_sub(self.now))]
                    .map(|stamp| jiff::Timestamp::try_from(self.calendar.shown(stamp)).unwrap_or_default());
                let until = time_of_day(end, now);
                tell!(self.teller, warn, Hold,
                    pool,
                    backend,
                    %address,
                    until,
                    falls,
                    "a backend passes its checks and is held back until {until}: {falls} falls in {minutes} minutes"
                );
            }
            (true, None) => {}
            (false, _) if standing == Standing::Unhealthy => {
                tell!(self.teller, info, Hold, pool, backend, %address, "a backend is no longer held back: it fails again");
            }
            // The address is no longer probed; this is told elsewhere.
            (false, _) if standing == Standing::Unknown => {}
            (false, _) => {
                tell!(self.teller, info, Hold, pool, backend, %address, "a backend is no longer held back: it returns");
            }
        }
    }
}
