//! The share of an address: the percentage of its weight that it gets, and when it changes by
//! itself.

use std::cmp::Reverse;

use crate::fleet::Fleet;
use crate::fleet::certainty::PendingChange;
use crate::fleet::pools::PoolState;
use crate::fleet::targets::Spot;
use crate::health::TargetId;

impl Fleet {
    /// Updates all addresses that use a target, because its load has changed.
    pub(super) fn weigh_users(&mut self, target: TargetId) {
        let Some(target) = self.targets.get(target) else { return };
        let spots: Vec<Spot> = target.users.iter().map(|user| user.spot).collect();
        for spot in spots {
            self.weigh(spot);
        }
    }

    /// Computes the share of an address, and when it next changes by itself.
    pub(super) fn weigh(&mut self, spot: Spot) {
        let Some(pool) = self.pools.0.get_mut(spot.pool.index()) else { return };
        let PoolState { setup, backends, .. } = pool;
        let Some(address) = backends
            .get_mut(spot.backend as usize)
            .and_then(|backend| backend.addresses.get_mut(spot.address as usize))
        else {
            return;
        };
        let (changed, next) = address.weigh(setup, &mut self.targets, self.now);
        if changed {
            self.touched.insert(spot.pool);
        }
        self.certainty.note(spot.pool, PendingChange::Share(spot), next);
        // One entry per address is enough; an entry that is too early changes nothing.
        if let Some(next) = next.filter(|next| address.wake.is_none_or(|wake| *next < wake)) {
            address.wake = Some(next);
            self.wakes.push(Reverse((next, spot)));
        }
    }

    /// Computes the shares that are due to change.
    pub(super) fn weigh_due(&mut self) {
        while let Some(Reverse((due, spot))) = self.wakes.peek().copied().filter(|wake| wake.0.0 <= self.now)
        {
            self.wakes.pop();
            if let Some(address) = self.pools.address_mut(spot).filter(|address| address.wake == Some(due)) {
                address.wake = None;
                self.weigh(spot);
            }
        }
    }
}
