//! The share that each backend of a pool is to get: the probability of being first in an answer.
//!
//! It does not depend on the number of addresses in the answer, so all services with a pool agree in it, except that a
//! service may draw without weights, or put sites first. So a pool has the shares of one [`Drawing`] for most
//! configurations, and of a few for the others, never of each service.

use std::borrow::Cow;

use super::Table;
use super::decision::Decision;
use super::draw::Drawing;
use super::pool_view::{Choice, FamilyView};
use crate::pool::{Family, PoolId};
use crate::selection::Spread;
use crate::service::Policy;

/// How the first address of an answer is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstPlace {
    /// By weight.
    Weights,
    /// All with the same probability.
    Equal,
    /// In answers that spread over sites before anything else, so that their number matters.
    Sites(Drawing),
}

impl From<Drawing> for FirstPlace {
    fn from(drawing: Drawing) -> Self {
        match (drawing.policy, drawing.spread) {
            (Policy::Weighted | Policy::All, Spread::Always) => Self::Sites(drawing),
            (Policy::Weighted | Policy::Persistent(_), _) => Self::Weights,
            (Policy::All, Spread::Shares | Spread::Off) => Self::Equal,
        }
    }
}

impl FirstPlace {
    /// The word for it in metrics and the API.
    #[must_use]
    pub fn label(self) -> Cow<'static, str> {
        match self {
            Self::Weights => "weights".into(),
            Self::Equal => "equal".into(),
            Self::Sites(drawing) => {
                let kind = match drawing.policy {
                    Policy::Weighted | Policy::Persistent(_) => "sites",
                    Policy::All => "equal sites",
                };
                format!("{kind} of {}", drawing.answers.limit()).into()
            }
        }
    }

    /// For each member of a choice, the probability of being first.
    #[allow(clippy::cast_precision_loss, reason = "rounded for display")]
    fn of_members(self, choice: &Choice) -> Vec<f64> {
        let weights = || choice.candidates.iter().map(|candidate| u64::from(candidate.weight));
        match self {
            Self::Weights => {
                let total = weights().sum::<u64>().max(1) as f64;
                weights().map(|weight| weight as f64 / total).collect()
            }
            Self::Equal => vec![1.0 / choice.members.len().max(1) as f64; choice.members.len()],
            Self::Sites(drawing) => {
                drawing.probabilities(choice).iter().map(|probability| probability.first.as_float()).collect()
            }
        }
    }
}

/// The shares of the backends of a pool in one family.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolShares {
    /// How the services draw to which they apply.
    pub first: FirstPlace,
    /// In configuration order; none for a backend without an address of the family. All are 0 if no answer is drawn
    /// from the pool now.
    pub of_backends: Vec<Option<f64>>,
}

impl Table {
    /// The shares of a pool's backends among each other, one for each way in which its services draw; those by weight
    /// if no service has the pool. Empty if the pool has no address of the family.
    #[must_use]
    pub fn shares(&self, id: PoolId, family: Family) -> Vec<PoolShares> {
        let Some(pool) = self.pool(id) else { return Vec::new() };
        let view = pool.family(family);
        if view.configured.is_empty() {
            return Vec::new();
        }
        let mut ways: Vec<(FirstPlace, bool)> = Vec::new();
        for (index, plan) in self.services.plans_of(id) {
            let decision = self.decisions.get(index).map(|decided| family.select(&decided.decisions));
            let fails_open =
                matches!(decision, Some(Decision::FailOpen { pool, .. }) if *pool == id && !view.usable);
            let first = FirstPlace::from(plan.drawing());
            match ways.iter_mut().find(|(known, _)| *known == first) {
                Some((_, known)) => *known |= fails_open,
                None => ways.push((first, fails_open)),
            }
        }
        if ways.is_empty() {
            ways.push((FirstPlace::Weights, false));
        }
        let shares = |(first, fails_open): (FirstPlace, bool)| {
            let choice =
                if view.usable { Some(&view.eligible) } else { fails_open.then_some(&view.everyone) };
            let of_backends = of_backends(
                view,
                pool.backends.len(),
                choice.map(|choice| (&**choice, first.of_members(choice))),
            );
            PoolShares { first, of_backends }
        };
        ways.into_iter().map(shares).collect()
    }
}

/// The sum of the shares of the addresses of each backend.
fn of_backends(view: &FamilyView, backends: usize, drawn: Option<(&Choice, Vec<f64>)>) -> Vec<Option<f64>> {
    let mut shares = vec![None; backends];
    for address in &*view.configured {
        if let Some(share) = shares.get_mut(address.member.backend as usize) {
            *share = Some(0.0);
        }
    }
    if let Some((choice, of_members)) = drawn {
        for (member, share) in choice.members.iter().zip(of_members) {
            if let Some(Some(sum)) = shares.get_mut(member.backend as usize) {
                *sum += share;
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::name::Name;
    use crate::pool::{Backend, Pool};
    use crate::service::{Answers, Service, WhenDown};
    use crate::table::{AddressCondition, PoolView, Services, Standing};
    use crate::zone::Catalog;

    /// Weights 3, 2 and 1; the first two share a site, and the last has only an IPv6 address.
    fn pool() -> Pool {
        let backend = |name: &str, address: &str, weight, site: &str| Backend {
            weight,
            site: Some(site.into()),
            ..Backend::new(name, vec![address.parse().unwrap()])
        };
        let backends = vec![
            Backend {
                addresses: vec!["192.0.2.1".parse().unwrap(), "192.0.2.9".parse().unwrap()],
                ..backend("a", "192.0.2.1", 3, "x")
            },
            backend("b", "192.0.2.2", 2, "x"),
            backend("c", "192.0.2.3", 1, "y"),
            backend("d", "2001:db8::1", 1, "y"),
        ];
        Pool::new("web", backends)
    }

    fn service(name: &str) -> Service {
        Service::new(Name::parse(name).unwrap(), vec![PoolId(0)])
    }

    fn table(services: Vec<Service>, conditions: [AddressCondition; 4]) -> Table {
        let view = Arc::new(PoolView::build(&pool(), None, |backend, _| conditions[backend]));
        let (catalog, services) = (Arc::new(Catalog::new(Vec::new())), Arc::new(Services::new(services)));
        Table::new(1, Arc::default(), catalog, services, [view], SmallRng::seed_from_u64(1))
    }

    fn shown(table: &Table, family: Family) -> Vec<(String, Vec<Option<f64>>)> {
        let rounded = |share: f64| (share * 1e4).round() / 1e4;
        let shares = table.shares(PoolId(0), family).into_iter();
        let shares = shares.map(|PoolShares { first, of_backends }| {
            (first.label().into(), of_backends.into_iter().map(|share| share.map(rounded)).collect())
        });
        shares.collect()
    }

    const HEALTHY: AddressCondition = AddressCondition {
        standing: Standing::Healthy,
        held: false,
        percent: 100,
        overridden: None,
        weight: 100,
    };
    const DEAD: AddressCondition = AddressCondition { standing: Standing::Unhealthy, ..HEALTHY };

    #[test]
    fn services_that_draw_alike_have_one_share() {
        let two = Service { spread: Spread::Off, ..service("b") };
        let all = table(vec![service("a"), two], [HEALTHY; 4]);
        // The two addresses of the first backend have its weight each.
        let by_weight = vec![Some(0.6667), Some(0.2222), Some(0.1111), None];
        assert_eq!(shown(&all, Family::Ipv4), [("weights".to_owned(), by_weight.clone())]);
        assert_eq!(shown(&all, Family::Ipv6), [("weights".into(), vec![None, None, None, Some(1.0)])]);
        let canary = AddressCondition { weight: 10, ..HEALTHY };
        let some = table(vec![service("a")], [HEALTHY, canary, DEAD, HEALTHY]);
        assert_eq!(shown(&some, Family::Ipv4)[0].1, [Some(0.9677), Some(0.0323), Some(0.0), None]);
        let unused = table(Vec::new(), [HEALTHY; 4]);
        assert_eq!(shown(&unused, Family::Ipv4), [("weights".to_owned(), by_weight)]);
        assert_eq!(unused.shares(PoolId(1), Family::Ipv4), []);
    }

    #[test]
    fn each_way_of_drawing_has_its_share() {
        let equal = Service { policy: Policy::All, ..service("b") };
        let mut sites = Service { spread: Spread::Always, ..service("c") };
        sites.default.answers = Answers::AtMost(2);
        let both = table(vec![service("a"), equal, sites.clone()], [HEALTHY; 4]);
        let shown = shown(&both, Family::Ipv4);
        let labels: Vec<&str> = shown.iter().map(|(label, _)| label.as_str()).collect();
        assert_eq!(labels, ["weights", "equal", "sites of 2"]);
        assert_eq!(shown[1].1, [Some(0.5), Some(0.25), Some(0.25), None]);
        let first: f64 = shown[2].1.iter().flatten().sum();
        assert!((first - 1.0).abs() < 1e-3, "one is first: {shown:?}");
        assert!(shown[2].1[2] > Some(0.1111), "its site is in every answer: {shown:?}");
    }

    #[test]
    fn a_pool_that_is_not_drawn_from_has_none_and_one_that_fails_open_all() {
        let mut closed = service("a");
        closed.default.when_down = WhenDown::NoData;
        let down = table(vec![closed], [DEAD; 4]);
        assert_eq!(shown(&down, Family::Ipv4)[0].1, [Some(0.0), Some(0.0), Some(0.0), None]);
        let open = table(vec![service("a")], [DEAD; 4]);
        assert_eq!(shown(&open, Family::Ipv4)[0].1, [Some(0.6667), Some(0.2222), Some(0.1111), None]);
    }
}
