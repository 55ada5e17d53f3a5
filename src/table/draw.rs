//! How a service draws from the addresses that may be in its answers.

use std::net::IpAddr;
use std::sync::Arc;

use rand::Rng;

use super::pool_view::{Choice, ConfiguredAddress, FamilyView};
use crate::selection::{
    Candidate, ClientKey, Picked, Probability, Ranking, Sampler, Spread, probabilities, ranked_probabilities,
};
use crate::service::{Answers, Persistence, Policy, Route, Service};

/// The settings of a route on which its draws depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Drawing {
    /// See [`Route::answers`].
    pub answers: Answers,
    /// See [`Service::policy`].
    pub policy: Policy,
    /// See [`Service::spread`].
    pub spread: Spread,
}

/// Addresses, and a prepared draw from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The addresses that may be drawn.
    pub choice: Arc<Choice>,
    /// All addresses of the pool in this family.
    pub addresses: Arc<[ConfiguredAddress]>,
    /// Chooses indices into `addresses`.
    pub selector: Selector,
}

/// How addresses are chosen for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// A draw.
    Sampler(Arc<Sampler>),
    /// A ranking for the prefix of the client.
    Ranking(Arc<Ranking>, Persistence),
}

impl Drawing {
    /// How a route of a service draws.
    #[must_use]
    pub fn of(service: &Service, route: &Route) -> Self {
        Self { answers: route.answers, policy: service.policy, spread: service.spread }
    }

    /// The probabilities with which each member of a choice is drawn.
    #[must_use]
    pub fn probabilities(self, choice: &Choice) -> Vec<Probability> {
        let candidates: Vec<Candidate> = self.candidates(choice).collect();
        let (answers, spread) = (self.answers.limit(), self.spread);
        match self.policy {
            Policy::Weighted | Policy::All => probabilities(&candidates, answers, spread),
            Policy::Persistent(_) => ranked_probabilities(&candidates, answers, spread),
        }
    }

    /// The members of a choice, with the weights that apply.
    fn candidates(self, choice: &Choice) -> impl Iterator<Item = Candidate> {
        choice.candidates.iter().map(move |candidate| match self.policy {
            Policy::Weighted | Policy::Persistent(_) => *candidate,
            Policy::All => Candidate { weight: 1, ..*candidate },
        })
    }

    /// All addresses of a family; those that are not in the choice have weight 0. So the index of an
    /// address does not depend on the other addresses in the choice.
    fn all_candidates(self, view: &FamilyView, choice: &Choice) -> Vec<Candidate> {
        let absent = |address: &ConfiguredAddress| Candidate { weight: 0, site: address.site };
        let mut candidates: Vec<Candidate> = view.configured.iter().map(absent).collect();
        for (place, candidate) in choice.places.iter().zip(self.candidates(choice)) {
            if let Some(slot) = candidates.get_mut(*place as usize) {
                *slot = candidate;
            }
        }
        candidates
    }
}

impl Draw {
    /// Prepares a draw from a choice of a family's addresses. If the choice is unchanged, so is the
    /// draw; if there are many addresses, their orders stay.
    pub(super) fn new(
        view: &FamilyView,
        choice: &Arc<Choice>,
        drawing: Drawing,
        earlier: Option<&Self>,
        rng: &mut impl Rng,
    ) -> Self {
        let is_same = |earlier: &&Self| Arc::ptr_eq(&earlier.addresses, &view.configured);
        let earlier = earlier.filter(is_same);
        if let Some(earlier) = earlier.filter(|earlier| Arc::ptr_eq(&earlier.choice, choice)) {
            return earlier.clone();
        }
        let candidates = drawing.all_candidates(view, choice);
        let (answers, spread) = (drawing.answers.limit(), drawing.spread);
        let earlier = earlier.map(|earlier| &earlier.selector);
        let selector = match (drawing.policy, earlier) {
            (Policy::Persistent(persistence), _) => {
                let keys = view.configured.iter().map(|address| address.key);
                let ranking = Ranking::new(keys.zip(candidates), answers, spread);
                Selector::Ranking(Arc::new(ranking), persistence)
            }
            (_, Some(Selector::Sampler(earlier))) => {
                Selector::Sampler(Arc::new(earlier.updated(&candidates, answers, spread, rng)))
            }
            _ => Selector::Sampler(Arc::new(Sampler::new(&candidates, answers, spread, rng))),
        };
        let addresses = Arc::clone(&view.configured);
        Self { choice: Arc::clone(choice), addresses, selector }
    }

    /// The number of addresses in each answer.
    #[must_use]
    #[inline]
    pub fn answers(&self) -> usize {
        match &self.selector {
            Selector::Sampler(sampler) => sampler.answers(),
            Selector::Ranking(ranking, _) => ranking.answers(),
        }
    }

    /// The ranking of a client, as indices into `addresses`: the first ones are its answer. `None` if answers do not depend
    /// on the client.
    #[must_use]
    pub fn ranking(&self, client: IpAddr) -> Option<Vec<u32>> {
        match &self.selector {
            Selector::Sampler(_) => None,
            Selector::Ranking(ranking, persistence) => {
                let ranked = ranking.of_client(ClientKey::new(persistence.prefix(client)));
                Some(ranked.iter().map(|ranked| ranked.index).collect())
            }
        }
    }

    /// Chooses the addresses of an answer, as indices into `addresses`. Returns on how many leading bits of the client's
    /// address the answer depends.
    #[inline]
    pub fn select(&self, client: impl FnOnce() -> IpAddr, rng: &mut impl Rng, picked: &mut Picked) -> u8 {
        match &self.selector {
            Selector::Sampler(sampler) => {
                sampler.draw(rng, picked);
                0
            }
            Selector::Ranking(ranking, persistence) => {
                let prefix = persistence.prefix(client());
                ranking.pick(ClientKey::new(prefix), picked);
                prefix.length()
            }
        }
    }

    /// Whether another order can change which addresses are in an answer together.
    pub(super) fn can_renew(&self) -> bool {
        match &self.selector {
            Selector::Sampler(sampler) => sampler.can_renew(),
            Selector::Ranking(..) => false,
        }
    }

    /// Replaces one of the orders of the draw.
    pub(super) fn renew(&mut self, rng: &mut impl Rng) {
        if let Selector::Sampler(sampler) = &mut self.selector {
            let mut renewed = Sampler::clone(sampler);
            renewed.renew(rng);
            *sampler = Arc::new(renewed);
        }
    }
}
