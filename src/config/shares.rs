//! Warnings about shares: weights that cannot be honoured, and sites over which answers cannot spread.
//!
//! The probabilities are those of the draw itself, with all backends healthy.

use std::collections::{HashMap, HashSet};

use crate::config::advice::{addresses, weighty};
use crate::config::pool::ReadPool;
use crate::config::service::{ReadRoute, ReadService};
use crate::pool::{Family, Pool, PoolId};
use crate::selection::{Fraction, Probability, Spread};
use crate::service::{Answers, Policy};
use crate::table::{Drawing, PoolView, Standing};

/// A sum of probabilities above 1 by less than this is 1.
const ROUNDING: f64 = 1e-9;

/// Warns once for each service, pool and way of drawing.
pub(super) fn give(pools: &[ReadPool<'_>], services: &[ReadService<'_>]) {
    let is_weighted = |read: &&ReadService<'_>| !read.faulty && read.service.policy == Policy::Weighted;
    let mut draws: HashMap<(PoolId, Drawing), [DrawnBackends; 2]> = HashMap::new();
    for read in services.iter().filter(is_weighted) {
        let mut seen: HashSet<(PoolId, Drawing)> = HashSet::new();
        for route in read.routes() {
            let drawing = Drawing::of(&read.service, route.route);
            for id in &route.route.tiers {
                if let Some(pool) = pools.get(id.index()).filter(|pool| !pool.faulty)
                    && seen.insert((*id, drawing))
                {
                    let pool = &pool.setup.pool;
                    let draws = draws.entry((*id, drawing)).or_insert_with(|| draws_of(pool, drawing));
                    about_weights(read, &route, pool, draws);
                    about_sites(read, &route, pool, draws);
                }
            }
        }
    }
}

/// The probability of each address, with the index of its backend.
type DrawnBackends = Vec<(usize, Probability)>;

/// The draws from a pool whose backends are all healthy, by [`Family::index`].
fn draws_of(pool: &Pool, drawing: Drawing) -> [DrawnBackends; 2] {
    let view = PoolView::build(pool, None, |_, _| Standing::Healthy.into());
    Family::ALL.map(|family| {
        let choice = &view.family(family).eligible;
        let backends = choice.members.iter().map(|member| member.backend as usize);
        backends.zip(drawing.probabilities(choice)).collect()
    })
}

/// Weights decide only which address comes first when an answer holds all of them, or when a backend would have to be
/// in an answer more than once. With `spread = "always"` sites take precedence, as configured.
fn about_weights(read: &ReadService<'_>, route: &ReadRoute<'_, '_>, pool: &Pool, draws: &[DrawnBackends; 2]) {
    let Answers::AtMost(answers) = route.route.answers else { return };
    if read.service.spread == Spread::Always {
        return;
    }
    let (name, answers) = (&read.service.name, u64::from(answers));
    let found = Family::ALL.into_iter().find_map(|family| {
        let drawn = family.select(draws);
        let sum: u64 = weighty(pool, family).map(|backend| u64::from(backend.weight)).sum();
        let heaviest = weighty(pool, family).max_by_key(|backend| backend.weight)?;
        let weight = u64::from(heaviest.weight);
        let is_certain = |(_, probability): &(usize, Probability)| probability.included == Fraction::ONE;
        if drawn.len() < 2 {
            None
        } else if drawn.iter().all(is_certain) {
            let count = drawn.len();
            Some((
                format!(
                    "`answers` of `{name}` is {answers}, and pool `{}` has {count} {}: every answer holds all of them, so \
                     weights decide only which comes first",
                    pool.name,
                    addresses(family, count),
                ),
                format!("set `answers` below {count}, or `policy = \"all\"` if that is meant"),
            ))
        } else if answers * weight > sum {
            let most = (sum - weight) / (answers - 1);
            let first = drawn.iter().find(|(backend, _)| pool.backends.get(*backend).is_some_and(|b| b.name == heaviest.name));
            let first = first.map_or(0.0, |(_, probability)| probability.first.as_float() * 100.0);
            Some((
                format!(
                    "with {answers} answers the weights of pool `{}` hold for the first address only: backend `{}` weighs \
                     {weight} of {sum}, and {answers} x {weight} is more than {sum}, so it is in every answer, and first in \
                     {first:.1} % of them",
                    pool.name, heaviest.name,
                ),
                format!("set `answers` of `{name}` to at most {}, or that weight to at most {most}", sum / weight),
            ))
        } else {
            None
        }
    });
    if let Some((message, hint)) = found {
        route.answers_at.warning(message, hint);
    }
}

/// A site that is expected more than once in an answer is a single point of failure for some answers.
fn about_sites(read: &ReadService<'_>, route: &ReadRoute<'_, '_>, pool: &Pool, draws: &[DrawnBackends; 2]) {
    let Answers::AtMost(answers) = route.route.answers else { return };
    let spread = read.service.spread;
    if spread == Spread::Off || answers < 2 || pool.backends.iter().all(|backend| backend.site.is_none()) {
        return;
    }
    for family in Family::ALL {
        let drawn = family.select(draws);
        // A backend without a site is a site of its own.
        let site = |index: usize| {
            let backend = pool.backends.get(index);
            backend.map_or("", |backend| backend.site.as_deref().unwrap_or(&backend.name))
        };
        let mut sites: Vec<(&str, f64)> = Vec::new();
        for (backend, probability) in drawn {
            let (site, included) = (site(*backend), probability.included.as_float());
            match sites.iter_mut().find(|(known, _)| *known == site) {
                Some((_, hits)) => *hits += included,
                None => sites.push((site, included)),
            }
        }
        let most = sites.iter().copied().max_by(|(_, one), (_, other)| one.total_cmp(other));
        let Some((site, hits)) = most.filter(|(_, hits)| *hits > 1.0 + ROUNDING) else { continue };
        let count = sites.len();
        // With a single site there is nothing to spread over.
        if count < 2 {
            continue;
        }
        let name = &read.service.name;
        let hint = if usize::from(answers) > count {
            format!("set `answers` of `{name}` to at most {count}, the number of sites")
        } else {
            format!(
                "set `spread = \"always\"` if sites matter more than weights, or `answers` of `{name}` to 1"
            )
        };
        let message = format!(
            "answers of `{name}` cannot spread over the {count} sites of pool `{}` as its weights are: of {answers} \
             answers, {hits:.2} are in site `{site}` on average, so some answers have several backends there",
            pool.name,
        );
        route.answers_at.warning(message, hint);
        return;
    }
}
