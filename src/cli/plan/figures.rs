//! The figures of a plan, and their JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{PlannedService, Planning, family_of};
use crate::check::Timing;
use crate::plan::{Delay, all_dead_by_chance, all_dead_of_site, most_all_dead, queries_per_second};
use crate::pool::Family;
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
    pub(super) timing: Option<Timing>,
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
    pub(super) fn of(plan: &PlannedService, planning: &Planning) -> Self {
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
            planning.losses(drawn.len()).into_iter().map(|dead| draw.by_chance(dead)).collect();
        if sites.len() > 1 {
            losses.extend(sites.iter().map(|(site, places)| {
                let of_site: Vec<Probability> =
                    places.iter().filter_map(|&place| probabilities.get(place)).copied().collect();
                draw.of_site(site, &of_site)
            }));
        }
        let mix = planning.mix.mix();
        let lookups = f64::from(planning.clients) / LOOKUP.as_secs_f64();
        Self {
            name: plan.name.clone(),
            family,
            backends: drawn.len(),
            sites: sites.len(),
            answers,
            spread: plan.drawing.spread,
            ttl: plan.ttl,
            timing: plan.timing,
            mix: planning.mix.as_str(),
            moved: PARTS.map(|part| mix.time_until(plan.ttl, f64::from(part) / 100.0)),
            clients: planning.clients,
            resolvers: planning.resolvers,
            queries: 2.0 * queries_per_second(planning.resolvers.into(), lookups, plan.ttl),
            losses,
        }
    }

    /// How long a failure or a recovery is not noticed: a refusing, a silent and a recovered backend.
    pub(super) fn found(&self) -> Option<[(&'static str, Delay); 3]> {
        self.timing.as_ref().map(|timing| {
            [
                ("refuses", Delay::of_refusal(timing)),
                ("is silent", Delay::of_silence(timing)),
                ("works again", Delay::of_recovery(timing)),
            ]
        })
    }

    pub(super) fn as_json(&self) -> Value {
        let moved = |after: Duration| {
            let members = PARTS.iter().zip(self.moved);
            members.map(|(part, time)| (part.to_string(), json!(rounded(after + time)))).collect::<Value>()
        };
        let found = self.found().map(|found| {
            found.map(|(_, Delay { least, typical, most })| {
                json!({ "least": rounded(least), "typical": rounded(typical), "most": rounded(most) })
            })
        });
        let [refuses, silent, recovered] = found.unwrap_or_default();
        let typical = self.found().map(|found| found.map(|(_, delay)| delay.typical));
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
            "timing": self.timing.map(|timing| json!({
                "interval": rounded(timing.interval),
                "timeout": rounded(timing.timeout),
                "recheck": rounded(timing.recheck),
                "fall": timing.fall,
                "rise": timing.rise,
            })),
            "found_after": { "refuses": refuses, "silent": silent, "recovered": recovered },
            "clients": self.clients,
            "resolvers": self.resolvers,
            "mix": self.mix,
            "moved_after_change": moved(Duration::ZERO),
            "moved_after_refusal": typical.map(|[refuses, ..]| moved(refuses)),
            "moved_after_silence": typical.map(|[_, silent, _]| moved(silent)),
            "queries_per_second": self.queries,
            "all_dead": losses.collect::<Vec<_>>(),
        })
    }
}

impl Planning {
    /// How many backends fail: as the arguments say, else one, two and a third of them.
    fn losses(&self, backends: usize) -> Vec<usize> {
        let asked = self.lose.iter().map(|&dead| dead as usize);
        let usual = [1, 2, backends.div_ceil(3)];
        let mut losses: Vec<usize> = if self.lose.is_empty() { usual.into() } else { asked.collect() };
        losses.retain(|dead| (1..=backends).contains(dead));
        losses.sort_unstable();
        losses.dedup();
        losses
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
