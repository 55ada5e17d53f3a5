//! Counts what happens in a world, to show that a sweep has tried everything.

/// Counts events in a world. If an event never occurs in a sweep, the sweep proves nothing about it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Met {
    pub(super) launches: usize,
    pub(super) publishes: usize,
    pub(super) reloads: usize,
    pub(super) restarts: usize,
    pub(super) overrides: usize,
    pub(super) weights: usize,
    pub(super) refused: usize,
    pub(super) bulk: usize,
    pub(super) refused_bulk: usize,
    pub(super) ended: usize,
    pub(super) lost: usize,
    pub(super) stalls: usize,
    /// Turns that ended with a suspicion, with a share below 100 %, or with a probe that waits for a slot.
    pub(super) suspicions: usize,
    pub(super) shares: usize,
    pub(super) waiting: usize,
    pub(super) held: usize,
    pub(super) voids: usize,
    pub(super) stale: usize,
    pub(super) snapshots: usize,
    pub(super) compared: usize,
    /// Answers that were given while a change was pending, and completions of such changes.
    pub(super) uncertain: usize,
    pub(super) completions: usize,
    /// Turns that ended with an earlier tier that was usable and not taken.
    pub(super) waiting_tiers: usize,
    /// Returns to an earlier tier after its time, and by an operator.
    pub(super) returns: usize,
    pub(super) returns_by_hand: usize,
    pub(super) refused_returns: usize,
    /// Tiers remembered over a restart.
    pub(super) recalled: usize,
    pub(super) failovers: usize,
    pub(super) refused_failovers: usize,
    pub(super) ended_failovers: usize,
    pub(super) lost_failovers: usize,
    /// Turns that ended with a failover to a pool that could not answer.
    pub(super) idle_failovers: usize,
}

impl Met {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            launches: self.launches + other.launches,
            publishes: self.publishes + other.publishes,
            reloads: self.reloads + other.reloads,
            restarts: self.restarts + other.restarts,
            overrides: self.overrides + other.overrides,
            weights: self.weights + other.weights,
            refused: self.refused + other.refused,
            bulk: self.bulk + other.bulk,
            refused_bulk: self.refused_bulk + other.refused_bulk,
            ended: self.ended + other.ended,
            lost: self.lost + other.lost,
            stalls: self.stalls + other.stalls,
            suspicions: self.suspicions + other.suspicions,
            shares: self.shares + other.shares,
            waiting: self.waiting + other.waiting,
            held: self.held + other.held,
            voids: self.voids + other.voids,
            stale: self.stale + other.stale,
            snapshots: self.snapshots + other.snapshots,
            compared: self.compared + other.compared,
            uncertain: self.uncertain + other.uncertain,
            completions: self.completions + other.completions,
            waiting_tiers: self.waiting_tiers + other.waiting_tiers,
            returns: self.returns + other.returns,
            returns_by_hand: self.returns_by_hand + other.returns_by_hand,
            refused_returns: self.refused_returns + other.refused_returns,
            recalled: self.recalled + other.recalled,
            failovers: self.failovers + other.failovers,
            refused_failovers: self.refused_failovers + other.refused_failovers,
            ended_failovers: self.ended_failovers + other.ended_failovers,
            lost_failovers: self.lost_failovers + other.lost_failovers,
            idle_failovers: self.idle_failovers + other.idle_failovers,
        }
    }

    /// Whether each event has occurred.
    pub(super) fn is_tried(self) -> bool {
        let Self { launches, publishes, reloads, restarts, overrides, weights, .. } = self;
        let often = [launches, publishes, reloads, restarts, overrides, weights];
        let Self { ended, lost, stalls, suspicions, shares, waiting, .. } = self;
        let also = [ended, lost, stalls, suspicions, shares, waiting];
        let Self { held, refused, voids, stale, snapshots, compared, .. } = self;
        let others = [held, refused, voids, stale, snapshots, compared];
        let certainty = [self.uncertain, self.completions];
        let of_bulk = [self.bulk, self.refused_bulk];
        let Self { waiting_tiers, returns, returns_by_hand, refused_returns, recalled, .. } = self;
        let of_tiers = [waiting_tiers, returns, returns_by_hand, refused_returns, recalled];
        let Self { failovers, refused_failovers, ended_failovers, lost_failovers, idle_failovers, .. } = self;
        let of_failovers = [failovers, refused_failovers, ended_failovers, lost_failovers, idle_failovers];
        let counts = often
            .into_iter()
            .chain(also)
            .chain(others)
            .chain(of_tiers)
            .chain(of_failovers)
            .chain(certainty)
            .chain(of_bulk);
        counts.min() >= Some(1)
    }
}
