//! TTLs that follow certainty: the longest while nothing is pending, and never beyond the completion of a change that
//! is pending when the answer is given.

use std::sync::Arc;
use std::time::Duration;

use crate::fleet::Fleet;
use crate::fleet::simulation::handed_out::HandedOut;
use crate::fleet::simulation::planted::DAY;
use crate::fleet::simulation::world::World;
use crate::fleet::simulation::{Checked, ensure};
use crate::fleet::targets::Spot;
use crate::health::TargetId;
use crate::pool::{Family, PoolId};
use crate::table::{RouteView, ServiceView};

/// Answers that are older have expired everywhere.
const LONGEST: Duration = Duration::from_secs(300);

/// The addresses of the pools of a route.
fn spots<'a>(fleet: &'a Fleet, route: RouteView<'a>) -> impl Iterator<Item = Spot> + 'a {
    route.route.tiers.iter().flat_map(move |&pool| {
        let backends = fleet.pools.get(pool).map_or(&[][..], |pool| &pool.backends);
        (0..).zip(backends).flat_map(move |(backend, state)| {
            (0..).take(state.addresses.len()).map(move |address| Spot { pool, backend, address })
        })
    })
}

/// The targets that decide for an address.
fn deciding(fleet: &Fleet, spot: Spot) -> Vec<TargetId> {
    let Some(pool) = fleet.pools.get(spot.pool) else { return Vec::new() };
    let Some(address) = pool.address(spot.backend as usize, spot.address as usize) else { return Vec::new() };
    let checks = address.targets.iter().zip(&pool.setup.checks);
    checks.filter(|(_, check)| !check.observe_only).map(|(target, _)| *target).collect()
}

fn is_in_doubt(fleet: &Fleet, target: TargetId) -> bool {
    let state = fleet.health.state(target);
    state.in_doubt() || state.verdict().is_none()
}

/// Whether anything is pending in the pools of a route.
fn is_pending(fleet: &Fleet, route: RouteView<'_>) -> bool {
    let override_ends = |pool: &PoolId| {
        let backends = fleet.pools.get(*pool).map_or(&[][..], |pool| &pool.backends);
        let mut kept = backends.iter().flat_map(|backend| backend.overridden.iter().flatten());
        kept.any(|kept| kept.until.is_some())
    };
    let waiting = |family| fleet.table.tier_in_use(route.plan(), family).waiting;
    let returns =
        Family::ALL.into_iter().any(|family| waiting(family).is_some_and(|tier| tier.until.is_some()));
    let failover_ends = route.service.failover.as_ref().is_some_and(|failover| failover.until.is_some());
    returns
        || failover_ends
        || route.route.tiers.iter().any(override_ends)
        || spots(fleet, route).any(|spot| {
            let pool = fleet.pools.get(spot.pool);
            let address = pool.and_then(|pool| pool.address(spot.backend as usize, spot.address as usize));
            address.is_some_and(|address| address.wake.is_some())
                || deciding(fleet, spot).into_iter().any(|target| is_in_doubt(fleet, target))
        })
}

impl World {
    /// Checks the TTLs of this turn, and the earlier ones against the changes of this turn.
    pub(super) fn check_certainty(&mut self) -> Checked {
        let mut known = std::mem::take(&mut self.handed_out);
        let fleet = &self.subject.fleet;
        let table = Arc::clone(fleet.table());
        // Every reload makes new settings. It may complete a change early, and ids get another meaning.
        if !known.settings.as_ref().is_some_and(|settings| Arc::ptr_eq(settings, &table.settings)) {
            let HandedOut { uncertain, completions, .. } = known;
            let settings = Some(Arc::clone(&table.settings));
            known = HandedOut { settings, uncertain, completions, ..HandedOut::default() };
        }
        while known.answers.front().is_some_and(|(at, ..)| *at + LONGEST < self.passed) {
            known.answers.pop_front();
        }
        let wall = self.wall.duration_since(DAY).unwrap_or_default().as_secs();
        let time = u32::try_from(wall).unwrap();
        for (index, route) in table.services().iter().map(ServiceView::default_route).enumerate() {
            let limits = route.route.ttl;
            if limits.is_fixed() {
                continue;
            }
            let ttl = table.ttl(route, time);
            ensure!((limits.min..=limits.max).contains(&ttl), "a TTL of {ttl} is out of {limits:?}");
            let is_pending = is_pending(fleet, route);
            ensure!(is_pending || ttl == limits.max, "a TTL of {ttl} while nothing is pending");
            known.uncertain += usize::from(is_pending);
            known.answers.push_back((self.passed, index, ttl));
            for spot in spots(fleet, route) {
                let address = fleet.pools.get(spot.pool).unwrap();
                let now = address.address(spot.backend as usize, spot.address as usize).unwrap().standing;
                if known.standings.get(&spot).is_none_or(|before| *before == now) {
                    continue;
                }
                // The change was pending since the last of the checks came into doubt that have changed now.
                let since = deciding(fleet, spot).into_iter().filter_map(|target| {
                    let (verdict, since) = known.doubts.get(&target)?;
                    since.filter(|_| *verdict != fleet.health.state(target).verdict())
                });
                let Some(since) = since.max() else { continue };
                known.completions += 1;
                for (at, of, ttl) in &known.answers {
                    if *of != index || *at < since || *at >= self.passed || *ttl <= limits.min {
                        continue;
                    }
                    let expires = *at + Duration::from_secs((*ttl).into());
                    ensure!(
                        expires <= self.passed,
                        "{spot:?} changes at {:?}, in doubt since {since:?}, and an answer of {at:?} has TTL {ttl}",
                        self.passed
                    );
                }
            }
        }
        for spot in table.services().iter().flat_map(|view| spots(fleet, view.default_route())) {
            let address = fleet.pools.get(spot.pool).unwrap();
            let standing = address.address(spot.backend as usize, spot.address as usize).unwrap().standing;
            known.standings.insert(spot, standing);
            for target in deciding(fleet, spot) {
                let verdict = fleet.health.state(target).verdict();
                let before = known
                    .doubts
                    .get(&target)
                    .and_then(|(before, since)| since.filter(|_| *before == verdict));
                let since = is_in_doubt(fleet, target).then(|| before.unwrap_or(self.passed));
                known.doubts.insert(target, (verdict, since));
            }
        }
        self.handed_out = known;
        Ok(())
    }
}
