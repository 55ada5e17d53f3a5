//! The figures of a plan, and their JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::checks::Found;
use super::{PlannedService, Planning, family_of};
use crate::check::Timing;
use crate::plan::{Delay, all_dead_by_chance, all_dead_of_site, most_all_dead, queries_per_second};
use crate::pool::{Family, Require};
use crate::selection::{Probability, Spread};
use crate::service::Policy;

/// The parts of the clients for which times are shown, percent.
pub(super) const PARTS: [u8; 3] = [50, 90, 98];
/// Each client looks the name up once in this time.
const LOOKUP: Duration = Duration::from_secs(60);

/// Until each of [`PARTS`] of the clients has moved.
pub(super) type Moved = [Duration; PARTS.len()];

/// All figures of a plan.
pub(super) struct Figures {
    pub(super) name: Option<String>,
    pub(super) family: Family,
    /// How many addresses of the family the pool has.
    pub(super) backends: usize,
    pub(super) sites: usize,
    pub(super) answers: usize,
    pub(super) spread: Spread,
    pub(super) ttl: Duration,
    /// How long a reply without addresses is kept, if the pool has no address of a family.
    pub(super) nodata_ttl: Option<Duration>,
    /// The timing of each check that decides.
    pub(super) timings: Vec<Timing>,
    pub(super) require: Require,
    slowest: Option<Timing>,
    /// None if no check decides.
    pub(super) found: Option<Found>,
    /// The longest delay of a probe by jitter, which `found` leaves out.
    pub(super) jitter: Duration,
    pub(super) mix: &'static str,
    /// After the answers have changed.
    pub(super) moved: Moved,
    pub(super) clients: u32,
    pub(super) resolvers: u32,
    /// A and AAAA together.
    pub(super) queries: f64,
    pub(super) losses: Vec<Loss>,
}

/// The part of the answers with only dead addresses, if some backends fail.
pub(super) struct Loss {
    /// The lost site; none if any backends fail.
    pub(super) site: Option<String>,
    pub(super) dead: usize,
    pub(super) part: f64,
    /// Whether the part is exact, and not an upper limit.
    pub(super) is_exact: bool,
}

impl Figures {
    pub(super) fn of(plan: &PlannedService, planning: &Planning) -> Result<Self, String> {
        let view = plan.view();
        let family = family_of(&view);
        let choice = &view.family(family).eligible;
        let probabilities = plan.drawing.probabilities(choice);
        let drawn: Vec<usize> = (0..probabilities.len())
            .filter(|&place| probabilities.get(place).is_some_and(|one| one.included.numerator > 0))
            .collect();
        let answers = plan.drawing.answers.limit().min(drawn.len());
        let mut sites: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for &place in &drawn {
            let backend =
                choice.members.get(place).and_then(|member| plan.pool.backends.get(member.backend as usize));
            if let Some(site) = backend.and_then(|backend| backend.site.as_deref()) {
                sites.entry(site).or_default().push(place);
            }
        }
        let weights: Vec<u32> =
            drawn.iter().filter_map(|&place| choice.candidates.get(place)).map(|one| one.weight).collect();
        let draw = Shape {
            policy: plan.drawing.policy,
            spread: plan.drawing.spread,
            answers,
            backends: drawn.len(),
            is_equal: plan.drawing.policy == Policy::All
                || weights.windows(2).all(|two| two.first() == two.last()),
        };
        let mut losses: Vec<Loss> =
            planning.losses(drawn.len())?.into_iter().map(|dead| draw.by_chance(dead)).collect();
        if sites.len() > 1 {
            losses.extend(sites.iter().map(|(site, places)| {
                let of_site: Vec<Probability> =
                    places.iter().filter_map(|&place| probabilities.get(place)).copied().collect();
                draw.of_site(site, &of_site)
            }));
        }
        let mix = planning.mix.mix();
        let lookups = f64::from(planning.clients) / LOOKUP.as_secs_f64();
        let queries = |ttl| queries_per_second(planning.resolvers.into(), lookups, ttl);
        let nodata_ttl = plan.nodata_ttl();
        Ok(Self {
            name: plan.name.clone(),
            family,
            backends: drawn.len(),
            sites: sites.len(),
            answers,
            spread: plan.drawing.spread,
            ttl: plan.ttl,
            nodata_ttl,
            timings: plan.checks.checks.iter().map(|check| check.timing).collect(),
            require: plan.checks.require,
            slowest: plan.checks.slowest(),
            found: plan.checks.found(),
            jitter: plan.checks.jitter(),
            mix: planning.mix.as_str(),
            moved: PARTS.map(|part| mix.time_until(plan.ttl, f64::from(part) / 100.0)),
            clients: planning.clients,
            resolvers: planning.resolvers,
            queries: queries(plan.ttl) + queries(nodata_ttl.unwrap_or(plan.ttl)),
            losses,
        })
    }

    pub(super) fn as_json(&self) -> Value {
        let moved = |after: Duration| {
            let members = PARTS.iter().zip(self.moved);
            members.map(|(part, time)| (part.to_string(), json!(rounded(after + time)))).collect::<Value>()
        };
        let delay = |Delay { least, typical, most }: Delay| json!({ "least": rounded(least), "typical": rounded(typical), "most": rounded(most) });
        let found = self.found.as_ref();
        let timing = |timing: &Timing| {
            json!({
                "interval": rounded(timing.interval),
                "timeout": rounded(timing.timeout),
                "recheck": rounded(timing.recheck),
                "fall": timing.fall,
                "rise": timing.rise,
            })
        };
        let losses = self.losses.iter().map(
            |loss| json!({ "site": loss.site, "dead": loss.dead, "part": loss.part, "exact": loss.is_exact }),
        );
        json!({
            "service": self.name,
            "family": self.family.as_str(),
            "backends": self.backends,
            "sites": self.sites,
            "answers": self.answers,
            "spread": self.spread.as_str(),
            "ttl": rounded(self.ttl),
            "negative_ttl": self.nodata_ttl.map(rounded),
            "timing": self.slowest.as_ref().map(timing),
            "checks": self.timings.iter().map(timing).collect::<Vec<_>>(),
            "jitter": rounded(self.jitter),
            "found_after": {
                "refuses": found.map(|found| delay(found.refuses)),
                "silent": found.map(|found| delay(found.silent)),
                "recovered": found.map(|found| delay(found.recovered)),
                "slowest_check": found.and_then(|found| found.slowest).map(delay),
            },
            "clients": self.clients,
            "resolvers": self.resolvers,
            "mix": self.mix,
            "moved_after_change": moved(Duration::ZERO),
            "moved_after_refusal": found.map(|found| moved(found.refuses.typical)),
            "moved_after_silence": found.map(|found| moved(found.silent.typical)),
            "queries_per_second": self.queries,
            "all_dead": losses.collect::<Vec<_>>(),
        })
    }
}

impl Planning {
    /// How many backends fail: as the arguments say, else one, two and a third of them.
    fn losses(&self, backends: usize) -> Result<Vec<usize>, String> {
        let mut losses: Vec<usize> = self.lose.iter().map(|&dead| dead as usize).collect();
        if let Some(more) = losses.iter().find(|dead| **dead > backends) {
            return Err(format!("--lose {more}: only {backends} can fail, the backends in answers"));
        }
        if losses.is_empty() {
            losses = [1, 2, backends.div_ceil(3)].into_iter().filter(|dead| *dead <= backends).collect();
        }
        losses.retain(|dead| *dead > 0);
        losses.sort_unstable();
        losses.dedup();
        Ok(losses)
    }
}

/// How answers are drawn, as far as the part of dead answers depends on it.
#[derive(Clone, Copy)]
struct Shape {
    policy: Policy,
    spread: Spread,
    answers: usize,
    backends: usize,
    is_equal: bool,
}

impl Shape {
    fn by_chance(self, dead: usize) -> Loss {
        Loss { site: None, dead, part: all_dead_by_chance(self.backends, self.answers, dead), is_exact: true }
    }

    fn of_site(self, site: &str, of_site: &[Probability]) -> Loss {
        let dead = of_site.len();
        let exact = match self.policy {
            _ if self.answers < 2 || dead < self.answers => Some(all_dead_of_site(of_site, self.answers)),
            Policy::Weighted | Policy::All if self.spread != Spread::Off => {
                Some(all_dead_of_site(of_site, self.answers))
            }
            // In a ranking the best backends of other sites come before the second one of a site.
            Policy::Persistent(_) if self.spread != Spread::Off => Some(0.0),
            _ if self.is_equal => Some(all_dead_by_chance(self.backends, self.answers, dead)),
            _ => None,
        };
        let part = exact.unwrap_or_else(|| most_all_dead(of_site));
        Loss { site: Some(site.to_owned()), dead, part, is_exact: exact.is_some() }
    }
}

/// Seconds, to the millisecond.
fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
