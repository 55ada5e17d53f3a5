//! How a service draws from the addresses that may be answered.

use std::sync::Arc;

use rand::Rng;

use super::pool_view::Choice;
use crate::selection::{Candidate, Probability, Sampler, Spread, probabilities};
use crate::service::{Answers, Policy, Service};

/// The settings of a service that its draws depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Drawing {
    /// See [`Service::answers`].
    pub answers: Answers,
    /// See [`Service::policy`].
    pub policy: Policy,
    /// See [`Service::spread`].
    pub spread: Spread,
}

/// Addresses with everything that is needed to draw from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The addresses.
    pub choice: Arc<Choice>,
    /// Draws indices of its members.
    pub sampler: Arc<Sampler>,
}

impl From<&Service> for Drawing {
    fn from(service: &Service) -> Self {
        Self { answers: service.answers, policy: service.policy, spread: service.spread }
    }
}

impl Drawing {
    /// How often each member of a choice is drawn.
    #[must_use]
    pub fn probabilities(self, choice: &Choice) -> Vec<Probability> {
        probabilities(&self.candidates(choice), self.answers.limit(), self.spread)
    }

    /// The members of a choice with the weights that count.
    fn candidates(self, choice: &Choice) -> Vec<Candidate> {
        let weight = |candidate: &Candidate| match self.policy {
            Policy::Weighted => candidate.weight,
            Policy::All => 1,
        };
        choice
            .candidates
            .iter()
            .map(|candidate| Candidate { weight: weight(candidate), ..*candidate })
            .collect()
    }
}

impl Draw {
    /// Prepares to draw from a choice: as before, if it is the same.
    pub(super) fn new(
        choice: &Arc<Choice>,
        drawing: Drawing,
        earlier: Option<&Self>,
        rng: &mut impl Rng,
    ) -> Self {
        if let Some(earlier) = earlier.filter(|earlier| Arc::ptr_eq(&earlier.choice, choice)) {
            return earlier.clone();
        }
        let sampler = Sampler::new(&drawing.candidates(choice), drawing.answers.limit(), drawing.spread, rng);
        Self { choice: Arc::clone(choice), sampler: Arc::new(sampler) }
    }

    /// Replaces one of the orders to draw from.
    pub(super) fn renew(&mut self, rng: &mut impl Rng) {
        let mut sampler = Sampler::clone(&self.sampler);
        sampler.renew(rng);
        self.sampler = Arc::new(sampler);
    }
}
