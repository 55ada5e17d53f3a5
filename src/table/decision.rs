//! Which tier answers for a service, and why.
//!
//! A decision is made from the views of the pools when a table is built. All code that answers,
//! counts, logs or displays a service reads it. `draw` handles how addresses are drawn.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use rand::Rng;

use super::draw::{Draw, Drawing};
use super::persistent::PersistentVec;
use super::pool_view::{Choice, FamilyView, PoolView};
use crate::pool::{Family, PoolId};
use crate::service::{Route, RouteIndex, Service, ServiceId, WhenDown};

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

/// A service of a table.
#[derive(Debug)]
pub struct ServiceView {
    /// As configured.
    pub service: Service,
    /// See [`Service::pools`].
    pub pools: Box<[PoolId]>,
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
}

impl Services {
    /// Takes the services in the order of [`ServiceId`].
    pub fn new(services: impl IntoIterator<Item = Service>) -> Self {
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
            let mut plan = |route: &Route| plan_of(id, PlanSettings::of(&service, route));
            let rule_plans = service.rules.iter().map(|rule| &rule.route);
            ServiceView {
                plan: plan(&service.default),
                rule_plans: rule_plans.map(plan).collect(),
                pools: service.pools().into(),
                service,
            }
        };
        let views = (0..).map(ServiceId).zip(services).map(view).collect();
        let pools = plans.iter().flat_map(|plan| &plan.settings.tiers).map(|pool| pool.index() + 1).max();
        let mut by_pool = vec![Vec::new(); pools.unwrap_or(0)];
        for (index, plan) in plans.iter().enumerate() {
            for pool in &plan.settings.tiers {
                if let Some(known) =
                    by_pool.get_mut(pool.index()).filter(|known| known.last() != Some(&index))
                {
                    known.push(index);
                }
            }
        }
        Self { views, plans: plans.into(), by_pool: by_pool.into() }
    }

    /// The services that have a pool as a tier. A service with several such routes may be repeated.
    pub fn of_pool(&self, pool: PoolId) -> impl Iterator<Item = ServiceId> {
        self.plans_of(pool).flat_map(|(_, plan)| plan.services.iter().copied())
    }

    /// All tiers of the routes that have this pool as a tier. A pool may be repeated.
    pub fn tiers_beside(&self, pool: PoolId) -> impl Iterator<Item = PoolId> {
        self.plans_of(pool).flat_map(|(_, plan)| plan.settings.tiers.iter().copied())
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
    fn of(service: &Service, route: &Route) -> Self {
        Self {
            tiers: route.tiers.clone(),
            fails_open: route.when_down == WhenDown::FailOpen,
            drawing: Drawing::of(service, route),
        }
    }
}

impl Plan {
    /// How its routes draw.
    pub(super) fn drawing(&self) -> Drawing {
        self.settings.drawing
    }

    /// Decides for each family, by [`Family::index`]. A draw from the same addresses as in an earlier
    /// decision is shared with it.
    pub(super) fn decide(
        &self,
        pools: &PersistentVec<Arc<PoolView>>,
        earlier: Option<&[Decision; 2]>,
        rng: &mut impl Rng,
    ) -> [Decision; 2] {
        Family::ALL.map(|family| {
            let earlier = earlier.and_then(|decisions| family.select(decisions).draw());
            self.decide_for(family, pools, |view, choice| {
                Draw::new(view, choice, self.settings.drawing, earlier, rng)
            })
        })
    }

    /// Each family is decided separately. If a pool is in use for its other family and has no address
    /// of this one, the answer is NODATA: clients of one family must not be sent to a standby while
    /// the pool serves the other.
    fn decide_for(
        &self,
        family: Family,
        pools: &PersistentVec<Arc<PoolView>>,
        draw: impl FnOnce(&FamilyView, &Arc<Choice>) -> Draw,
    ) -> Decision {
        let mut first: Option<(PoolId, &FamilyView)> = None;
        for (tier, &pool) in self.settings.tiers.iter().enumerate() {
            let Some(view) = pools.get(pool.index()) else { continue };
            let here = view.family(family);
            if here.usable {
                let draw = draw(here, &here.eligible);
                return Decision::Tier { tier, pool, on_trust: here.on_trust, draw };
            }
            if here.is_configured() {
                if first.is_none_or(|(_, first)| first.drained && !here.drained) {
                    first = Some((pool, here));
                }
            } else if view.families.iter().any(|other| other.usable) {
                return Decision::NoAddress;
            }
        }
        match first {
            Some((pool, view)) if self.settings.fails_open => {
                Decision::FailOpen { pool, draw: draw(view, &view.everyone) }
            }
            None if self.settings.fails_open => Decision::NoAddress,
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
