//! How often backends are drawn if this does not follow from their weights alone: some are in every
//! answer, or sites have priority over weights.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};

use serde_json::{Value, json};

use crate::config::Setup;
use crate::pool::{Family, Pool, PoolId};
use crate::selection::{Fraction, Probability, Spread};
use crate::service::{Policy, Service};
use crate::table::{Drawing, PoolView, Standing};

/// The most draws that are shown, and the most backends in a line.
const SHOWN: usize = 20;

/// How services draw from one pool while all of its backends are healthy.
pub(super) struct PoolDraw<'s> {
    pool: &'s Pool,
    family: Family,
    drawing: Drawing,
    services: Vec<&'s Service>,
    /// Each with the name of the backend, or with its address if the backend has several in this
    /// family.
    backends: Vec<(String, Probability)>,
}

/// The draws that differ from the weights; services with the same draw are listed once.
pub(super) fn draws(setup: &Setup) -> Vec<PoolDraw<'_>> {
    let mut draws: Vec<PoolDraw<'_>> = Vec::new();
    let mut known: HashMap<(PoolId, Drawing), Vec<usize>> = HashMap::new();
    for service in &setup.served.services {
        let drawing = Drawing::of(service, &service.default);
        for &id in &service.default.tiers {
            let Some(pool) = setup.served.pools.get(id.index()).map(|setup| &setup.pool) else { continue };
            let of_pool = known.entry((id, drawing)).or_insert_with(|| {
                let first = draws.len();
                draws.extend(
                    Family::ALL.into_iter().filter_map(|family| PoolDraw::new(pool, family, drawing)),
                );
                (first..draws.len()).collect()
            });
            for &index in &*of_pool {
                if let Some(draw) = draws.get_mut(index) {
                    draw.services.push(service);
                }
            }
        }
    }
    draws
}

impl<'s> PoolDraw<'s> {
    /// `None` if each backend is drawn by its weight, or if every answer contains all backends,
    /// about which there is a warning.
    fn new(pool: &'s Pool, family: Family, drawing: Drawing) -> Option<Self> {
        let view = PoolView::build(pool, None, |_, _| Standing::Healthy.into());
        let choice = &view.family(family).eligible;
        let probabilities = drawing.probabilities(choice);
        let certain =
            probabilities.iter().filter(|probability| probability.included == Fraction::ONE).count();
        let by_weight = match drawing.policy {
            // In a ranking, heavy backends are in more answers than light ones, but in fewer than their weights say.
            Policy::Persistent(_) => drawing.answers.limit() < 2 || certain == probabilities.len(),
            Policy::Weighted | Policy::All => {
                drawing.spread != Spread::Always && (certain == 0 || certain == probabilities.len())
            }
        };
        if probabilities.len() < 2 || by_weight {
            return None;
        }
        let of_backend =
            |backend: u32| choice.members.iter().filter(|member| member.backend == backend).count();
        let named = choice.members.iter().zip(probabilities).map(|(member, probability)| {
            let backend = view.backends.get(member.backend as usize).map_or("?", |name| name);
            let several = of_backend(member.backend) > 1;
            (if several { member.address.to_string() } else { backend.to_owned() }, probability)
        });
        Some(Self { pool, family, drawing, services: Vec::new(), backends: named.collect() })
    }

    pub(super) fn as_json(&self) -> Value {
        let services: Vec<String> = self.services.iter().map(|service| service.name.to_plain()).collect();
        let backends = self.backends.iter().map(|(name, Probability { included, first })| {
            json!({ "backend": name, "included": included.as_float(), "first": first.as_float() })
        });
        json!({
            "pool": self.pool.name,
            "family": self.family.as_str(),
            "answers": self.drawing.answers.limit(),
            "spread": self.drawing.spread.as_str(),
            "services": services,
            "backends": backends.collect::<Vec<_>>(),
        })
    }
}

/// ```text
/// lb.example.com draws 2 of pool `web` (ipv4):
///   in 100 % of answers, first in 60 %: gw1
///   in 50 % of answers, first in 20 %: gw2, gw3
/// ```
impl Display for PoolDraw<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (answers, pool, family) = (self.drawing.answers.limit(), &self.pool.name, self.family.as_str());
        let first = self.services.first().map(|service| service.name.to_plain()).unwrap_or_default();
        write!(f, "{first}")?;
        match self.services.len() {
            0 | 1 => write!(f, " draws")?,
            2 => write!(f, " and 1 other service draw")?,
            count => write!(f, " and {} other services draw", count - 1)?,
        }
        write!(f, " {} of pool `{pool}` ({family})", answers.min(self.backends.len()))?;
        if self.drawing.spread == Spread::Always {
            write!(f, ", spread over sites")?;
        }
        write!(f, ":")?;
        let mut alike: Vec<(Probability, Vec<&str>)> = Vec::new();
        for (name, probability) in &self.backends {
            match alike.iter_mut().find(|(known, _)| known == probability) {
                Some((_, names)) => names.push(name),
                None => alike.push((*probability, vec![name])),
            }
        }
        alike.sort_by_key(|(probability, _)| std::cmp::Reverse(hundredths(probability.included)));
        for (Probability { included, first }, names) in alike.iter().take(SHOWN) {
            let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
            write!(f, "\n  in {} % of answers, first in {} %: {shown}", Percent(*included), Percent(*first))?;
            if names.len() > SHOWN {
                write!(f, " and {} more", names.len() - SHOWN)?;
            }
        }
        if alike.len() > SHOWN {
            write!(f, "\n  and {} more lines: see --json", alike.len() - SHOWN)?;
        }
        Ok(())
    }
}

/// In hundredths of a percent, rounded to the nearest.
fn hundredths(fraction: Fraction) -> u128 {
    // The numerator of an answer's probability is below 2^110, so this fits.
    (fraction.numerator * 20_000 / fraction.denominator).div_ceil(2)
}

/// A fraction in percent, with at most two decimals.
struct Percent(Fraction);

impl Display for Percent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let hundredths = hundredths(self.0);
        let (whole, rest) = (hundredths / 100, hundredths % 100);
        match (rest, rest % 10) {
            (0, _) => write!(f, "{whole}"),
            (_, 0) => write!(f, "{whole}.{}", rest / 10),
            _ => write!(f, "{whole}.{rest:02}"),
        }
    }
}
