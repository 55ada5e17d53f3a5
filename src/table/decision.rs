//! Which tier answers for a service, and why.
//!
//! A decision is made from the views of the pools when a table is built. All code that answers,
//! counts, logs or displays a service reads it. `draw` handles how addresses are drawn.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use super::draw::{Draw, Drawing};
use super::persistent::PersistentVec;
use super::pool_view::{Choice, FamilyView, PoolView};
use super::precedence::{Precedence, TierChoice};
use crate::pool::{Family, PoolId};
use crate::service::{Failback, Failover, Route, RouteIndex, Service, ServiceId, WhenDown};

/// How a route of a service answers in one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Answers with addresses of the first usable tier.
    Tier {
        /// Its index in the service's list.
        tier: usize,
        /// Its pool.
        pool: PoolId,
        /// See [`FamilyView::on_trust`].
        on_trust: bool,
        /// Its eligible addresses.
        draw: Draw,
    },
    /// Answers NODATA: the tier in use has no address of this family, or no tier has one.
    NoAddress,
    /// Answers with all backends of this pool as if they were healthy, because no tier is usable.
    FailOpen {
        /// Its pool.
        pool: PoolId,
        /// All its backends.
        draw: Draw,
    },
    /// Answers with the configured fallback of the service, because no tier is usable.
    Down {
        /// Whether a tier has addresses of this family. If no tier has any, this is not a failure.
        is_configured: bool,
    },
}

/// The tier of a route that is in use in one address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierInUse {
    /// Its index. If no tier is usable: of the last one that was, or of the first one if the service returns at once.
    pub tier: usize,
    /// The earlier tier that is usable, and is not taken yet.
    pub waiting: Option<Waiting>,
}

/// An earlier tier that is usable, and waits until it may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its index.
    pub tier: usize,
    /// The time of day, since 1970, when it is taken if it stays usable; none if it waits for an operator, or is
    /// usable only on trust.
    pub until: Option<Duration>,
}

/// How long pools have been usable, which their views do not show. The fleet knows it.
#[derive(Clone, Copy)]
pub struct Progress<'a> {
    /// The time of day, since 1970.
    pub at: Duration,
    /// How long a pool has been usable in a family without a break; none if it is not, or only on trust.
    pub steady_for: &'a dyn Fn(PoolId, Family) -> Option<Duration>,
}

impl Progress<'_> {
    /// No pool has been usable for any time.
    pub const NONE: Progress<'static> = Progress { at: Duration::ZERO, steady_for: &|_, _| None };
}

/// How the routes of a plan are answered, indexed by [`Family::index`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decided {
    pub(super) decisions: [Decision; 2],
    pub(super) tiers: [TierInUse; 2],
}

impl Decided {
    /// How a plan is answered that a table does not have.
    pub(super) fn of_another_table() -> Self {
        Self { decisions: [Decision::NoAddress, Decision::NoAddress], tiers: [TierInUse::default(); 2] }
    }
}

/// A service of a table.
#[derive(Debug)]
pub struct ServiceView {
    /// As configured.
    pub service: Service,
    /// See [`Service::pools`].
    pub pools: Box<[PoolId]>,
    /// The pool that an operator has put first.
    pub failover: Option<Arc<Failover>>,
    /// The index of the plan of its default route.
    plan: usize,
    /// The indices of the plans of its rules, in order.
    rule_plans: Box<[usize]>,
}

/// A route of a service of a table.
#[derive(Clone, Copy, Debug)]
pub struct RouteView<'t> {
    /// Its service.
    pub service: &'t ServiceView,
    /// As configured.
    pub route: &'t Route,
    /// Its index within the service.
    pub index: RouteIndex,
    /// The index of its plan.
    pub(super) plan: usize,
}

/// All of a configuration's services, by [`ServiceId`].
#[derive(Debug, Default)]
pub struct Services {
    views: Box<[ServiceView]>,
    /// Without duplicates.
    pub(super) plans: Box<[Plan]>,
    /// Indexed by [`PoolId`]: the plans that have the pool as a tier.
    by_pool: Box<[Vec<usize>]>,
    /// Indexed by [`PoolId`]: those of them that may keep a later tier although an earlier one is usable.
    keeping: Box<[Vec<usize>]>,
}

/// The settings of a route on which a decision depends. Routes with equal settings share their
/// decisions, so for a pool behind 100,000 names one decision is made.
#[derive(Debug)]
pub(super) struct Plan {
    settings: PlanSettings,
    /// The services that have a route with these settings, in order.
    services: Vec<ServiceId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PlanSettings {
    tiers: Vec<PoolId>,
    fails_open: bool,
    drawing: Drawing,
    failback: Failback,
    /// The tier that an operator has put first.
    failover: Option<usize>,
    /// The service, if a decision depends on what has happened to it, so that no other shares the plan.
    only: Option<ServiceId>,
}

impl Services {
    /// Takes the services in the order of [`ServiceId`].
    pub fn new(services: impl IntoIterator<Item = Service>) -> Self {
        Self::with_failovers(services, &BTreeMap::new())
    }

    /// As [`Services::new`], with the failovers of operators.
    pub fn with_failovers(
        services: impl IntoIterator<Item = Service>,
        failovers: &BTreeMap<ServiceId, Arc<Failover>>,
    ) -> Self {
        let mut plans: Vec<Plan> = Vec::new();
        let mut known: HashMap<PlanSettings, usize> = HashMap::new();
        let mut plan_of = |id: ServiceId, settings: PlanSettings| {
            let index = *known.entry(settings).or_insert_with_key(|settings| {
                plans.push(Plan { settings: settings.clone(), services: Vec::new() });
                plans.len() - 1
            });
            if let Some(plan) = plans.get_mut(index).filter(|plan| plan.services.last() != Some(&id)) {
                plan.services.push(id);
            }
            index
        };
        let view = |(id, service): (ServiceId, Service)| {
            let failover = failovers.get(&id);
            let first = failover.map(|failover| failover.pool);
            let mut plan = |route: &Route| plan_of(id, PlanSettings::of(id, &service, route, first));
            let rule_plans = service.rules.iter().map(|rule| &rule.route);
            ServiceView {
                plan: plan(&service.default),
                rule_plans: rule_plans.map(plan).collect(),
                pools: service.pools().into(),
                failover: failover.cloned(),
                service,
            }
        };
        let views = (0..).map(ServiceId).zip(services).map(view).collect();
        let pools = plans.iter().flat_map(|plan| &plan.settings.tiers).map(|pool| pool.index() + 1).max();
        let [mut by_pool, mut keeping] =
            [vec![Vec::new(); pools.unwrap_or(0)], vec![Vec::new(); pools.unwrap_or(0)]];
        for (index, plan) in plans.iter().enumerate() {
            for pool in &plan.settings.tiers {
                let add = |by_pool: &mut Vec<Vec<usize>>| {
                    if let Some(known) =
                        by_pool.get_mut(pool.index()).filter(|known| known.last() != Some(&index))
                    {
                        known.push(index);
                    }
                };
                add(&mut by_pool);
                if plan.keeps() {
                    add(&mut keeping);
                }
            }
        }
        Self { views, plans: plans.into(), by_pool: by_pool.into(), keeping: keeping.into() }
    }

    /// The services that have a pool as a tier. A service with several such routes may be repeated.
    pub fn of_pool(&self, pool: PoolId) -> impl Iterator<Item = ServiceId> {
        self.plans_of(pool).flat_map(|(_, plan)| plan.services.iter().copied())
    }

    /// All tiers of the routes that have this pool as a tier. A pool may be repeated.
    pub fn tiers_beside(&self, pool: PoolId) -> impl Iterator<Item = PoolId> {
        self.plans_of(pool).flat_map(|(_, plan)| plan.settings.tiers.iter().copied())
    }

    /// The plans that have a pool as a tier, and may keep a later tier although it is usable.
    pub fn keeping(&self, pool: PoolId) -> impl Iterator<Item = usize> {
        self.keeping.get(pool.index()).into_iter().flatten().copied()
    }

    /// The routes that are answered by a plan. If the plan may keep a tier, all belong to one service.
    pub fn routes_of(&self, plan: usize) -> impl Iterator<Item = (ServiceId, RouteView<'_>)> {
        let services = self.plans.get(plan).into_iter().flat_map(|plan| &plan.services);
        services.filter_map(|id| Some((*id, self.get(id.index())?))).flat_map(move |(id, view)| {
            view.routes().filter(move |route| route.plan == plan).map(move |route| (id, route))
        })
    }

    /// The plans that have a pool as a tier, with their indices.
    pub(super) fn plans_of(&self, pool: PoolId) -> impl Iterator<Item = (usize, &Plan)> {
        let indices = self.by_pool.get(pool.index()).into_iter().flatten();
        indices.filter_map(|index| Some((*index, self.plans.get(*index)?)))
    }
}

impl Deref for Services {
    type Target = [ServiceView];

    fn deref(&self) -> &[ServiceView] {
        &self.views
    }
}

impl ServiceView {
    /// Its routes, in the order of [`RouteIndex`].
    pub fn routes(&self) -> impl Iterator<Item = RouteView<'_>> {
        self.service.routes().filter_map(|(index, _)| self.route(index))
    }

    /// The route with this index.
    #[must_use]
    #[inline]
    pub fn route(&self, index: RouteIndex) -> Option<RouteView<'_>> {
        let plan = match index.0.checked_sub(1) {
            None => self.plan,
            Some(rule) => *self.rule_plans.get(usize::from(rule))?,
        };
        Some(RouteView { service: self, route: self.service.route(index)?, index, plan })
    }

    /// The default route.
    #[must_use]
    #[inline]
    pub fn default_route(&self) -> RouteView<'_> {
        let (route, plan) = (&self.service.default, self.plan);
        RouteView { service: self, route, index: RouteIndex::DEFAULT, plan }
    }

    /// The column of the counter for answers when no tier is usable.
    #[must_use]
    pub fn down_column(&self) -> usize {
        self.pools.len()
    }
}

impl RouteView<'_> {
    /// The index of its plan.
    #[must_use]
    pub fn plan(&self) -> usize {
        self.plan
    }

    /// Whether it may keep a later tier although an earlier one is usable.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.service.service.failback != Failback::Auto
    }

    /// The column of the counter for answers from a tier.
    #[must_use]
    #[inline]
    pub fn column(&self, tier: usize, pool: PoolId) -> usize {
        match self.index {
            RouteIndex::DEFAULT => tier,
            _ => self.service.pools.iter().position(|known| *known == pool).unwrap_or(tier),
        }
    }
}

impl PlanSettings {
    fn of(id: ServiceId, service: &Service, route: &Route, failover: Option<PoolId>) -> Self {
        let failback = service.failback;
        Self {
            tiers: route.tiers.clone(),
            fails_open: route.when_down == WhenDown::FailOpen,
            drawing: Drawing::of(service, route),
            failback,
            failover: failover.and_then(|first| route.tiers.iter().position(|tier| *tier == first)),
            only: (failback != Failback::Auto).then_some(id),
        }
    }
}

impl Plan {
    /// How its routes draw.
    pub(super) fn drawing(&self) -> Drawing {
        self.settings.drawing
    }

    /// Whether it may keep a later tier although an earlier one is usable.
    fn keeps(&self) -> bool {
        self.settings.failback != Failback::Auto
    }

    /// Decides for each family, by [`Family::index`]. A draw from the same addresses as in an earlier
    /// decision is shared with it. The earlier decision also says which tier is in use.
    pub(super) fn decide(
        &self,
        pools: &PersistentVec<Arc<PoolView>>,
        earlier: Option<&Decided>,
        progress: &Progress<'_>,
        rng: &mut impl Rng,
    ) -> Decided {
        let tiers = Family::ALL.map(|family| {
            let in_use = earlier.map_or(0, |earlier| family.select(&earlier.tiers).tier);
            self.choose(family, pools, in_use, progress)
        });
        let decisions = Family::ALL.map(|family| {
            let earlier = earlier.and_then(|earlier| family.select(&earlier.decisions).draw());
            let draw = |view: &_, choice: &_| Draw::new(view, choice, self.settings.drawing, earlier, rng);
            self.decide_for(family, pools, family.select(&tiers).tier, draw)
        });
        let in_use = |family: Family| {
            let TierChoice { tier, waiting } = *family.select(&tiers);
            let before = earlier.map_or(0, |earlier| family.select(&earlier.tiers).tier);
            let until = |left: Duration| progress.at.checked_add(left);
            let waiting =
                waiting.map(|waiting| Waiting { tier: waiting.tier, until: waiting.left.and_then(until) });
            // Without a usable tier, only services that may keep a tier need to know the last one.
            let last = if self.keeps() { before } else { 0 };
            TierInUse { tier: tier.unwrap_or(last), waiting }
        };
        Decided { decisions, tiers: Family::ALL.map(in_use) }
    }

    /// Chooses the tier for a family. A pool that is usable for its other family and has no address of this one is
    /// a tier that can be in use too: clients of one family must not be sent to a standby while the pool serves
    /// the other.
    fn choose(
        &self,
        family: Family,
        pools: &PersistentVec<Arc<PoolView>>,
        in_use: usize,
        progress: &Progress<'_>,
    ) -> TierChoice {
        let PlanSettings { tiers, failback, failover, .. } = &self.settings;
        let pool = |tier: usize| tiers.get(tier).copied();
        let can_answer = |tier| {
            pool(tier).and_then(|pool| pools.get(pool.index())).is_some_and(|view| view.can_answer(family))
        };
        let steady_for = |tier| (progress.steady_for)(pool(tier)?, family);
        Precedence { failover: *failover, failback: *failback, in_use }.choose(
            tiers.len(),
            can_answer,
            steady_for,
        )
    }

    /// The decision for a family if this tier, or none, is chosen.
    fn decide_for(
        &self,
        family: Family,
        pools: &PersistentVec<Arc<PoolView>>,
        tier: Option<usize>,
        draw: impl FnOnce(&FamilyView, &Arc<Choice>) -> Draw,
    ) -> Decision {
        let PlanSettings { tiers, fails_open, .. } = &self.settings;
        let here = |pool: &PoolId| Some((*pool, pools.get(pool.index())?.family(family)));
        if let Some(tier) = tier {
            return match tiers.get(tier).and_then(here) {
                Some((pool, view)) if view.usable => {
                    let draw = draw(view, &view.eligible);
                    Decision::Tier { tier, pool, on_trust: view.on_trust, draw }
                }
                _ => Decision::NoAddress,
            };
        }
        let configured = || tiers.iter().filter_map(here).filter(|(_, view)| view.is_configured());
        let first = configured().find(|(_, view)| !view.drained).or_else(|| configured().next());
        match first {
            Some((pool, view)) if *fails_open => {
                Decision::FailOpen { pool, draw: draw(view, &view.everyone) }
            }
            None if *fails_open => Decision::NoAddress,
            _ => Decision::Down { is_configured: first.is_some() },
        }
    }
}

impl Decision {
    /// The draw for the answer, if there is one.
    fn draw(&self) -> Option<&Draw> {
        match self {
            Self::Tier { draw, .. } | Self::FailOpen { draw, .. } => Some(draw),
            Self::NoAddress | Self::Down { .. } => None,
        }
    }

    /// Whether another order of the draw can change its answers.
    pub(super) fn can_renew(&self) -> bool {
        self.draw().is_some_and(Draw::can_renew)
    }

    /// Replaces one of the orders of the draw, if that can change its answers.
    pub(super) fn renew(&mut self, rng: &mut impl Rng) {
        if let Self::Tier { draw, .. } | Self::FailOpen { draw, .. } = self
            && draw.can_renew()
        {
            draw.renew(rng);
        }
    }
}
