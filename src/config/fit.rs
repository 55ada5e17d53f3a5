//! Checks that the answer of each service fits into a UDP reply.
//!
//! If an answer does not fit, every client needs TCP for every query. `answer::size` computes the size.

use crate::answer::size;
use crate::config::advice::{addresses, weighty};
use crate::config::pool::ReadPool;
use crate::config::server::UDP_PAYLOADS;
use crate::config::service::{ReadRoute, ReadService};
use crate::name::Name;
use crate::pool::{Family, Pool};
use crate::service::{Route, WhenDown};
use crate::settings::Settings;

/// Reports each service whose largest answer exceeds `udp_payload`.
pub(super) fn check(pools: &[ReadPool<'_>], services: &[ReadService<'_>], settings: &Settings) {
    for read in services.iter().filter(|read| !read.faulty) {
        for route in read.routes() {
            check_route(pools, &read.service.name, &route, settings);
        }
    }
}

fn check_route(pools: &[ReadPool<'_>], name: &Name, read: &ReadRoute<'_, '_>, settings: &Settings) {
    let Route { tiers, answers, when_down, .. } = read.route;
    let tiers = tiers.iter().filter_map(|id| pools.get(id.index())).filter(|pool| !pool.faulty);
    let tiers: Vec<&Pool> = tiers.map(|tier| &tier.setup.pool).collect();
    let most = Family::ALL.map(|family| {
        let most = tiers.iter().map(|pool| answerable(pool, family)).max().unwrap_or(0);
        most.min(answers.limit())
    });
    if let Some(excess) = Excess::find(name, most, settings) {
        let change = format!("set `answers` to at most {}", excess.fitting);
        read.answers_at.error_with_hint(excess.message(name, settings), excess.hint(change));
    }
    if let WhenDown::Addresses { ipv4, ipv6 } = when_down
        && let Some(excess) = Excess::find(name, [ipv4.len(), ipv6.len()], settings)
    {
        let change = format!("name at most {}", excess.fitting);
        read.when_down_at.error_with_hint(excess.message(name, settings), excess.hint(change));
    }
}

/// How many addresses of a family an answer from this pool can contain. Addresses with weight 0 are used only if there
/// are no others.
fn answerable(pool: &Pool, family: Family) -> usize {
    match weighty(pool, family).count() {
        0 => {
            let enabled = pool.backends.iter().filter(|backend| backend.enabled);
            let here = enabled.flat_map(|backend| &backend.addresses);
            here.filter(|address| Family::of(**address) == family).count()
        }
        count => count,
    }
}

/// An answer that does not fit.
struct Excess {
    family: Family,
    /// How many addresses it contains.
    count: usize,
    /// The size of the reply, bytes.
    size: usize,
    /// How many addresses would fit, of each family that has too many.
    fitting: usize,
}

impl Excess {
    /// The larger of the answers with these numbers of addresses (by [`Family::index`]), if it does not fit.
    fn find(service: &Name, most: [usize; 2], settings: &Settings) -> Option<Self> {
        let payload = usize::from(settings.udp_payload);
        let around = size::around_addresses(service, settings);
        let mut fitting = usize::MAX;
        let mut largest: Option<Self> = None;
        for (family, count) in Family::ALL.into_iter().zip(most) {
            let size = around + count * size::of_address(family);
            if size > payload {
                fitting = fitting.min(payload.saturating_sub(around) / size::of_address(family));
                if largest.as_ref().is_none_or(|largest| largest.size < size) {
                    largest = Some(Self { family, count, size, fitting });
                }
            }
        }
        largest.map(|largest| Self { fitting, ..largest })
    }

    fn message(&self, service: &Name, settings: &Settings) -> String {
        let &Self { family, count, size, .. } = self;
        format!(
            "an answer of `{service}` with {count} {} takes {size} bytes, and a UDP reply has {} at most: it would \
             always be truncated",
            addresses(family, count),
            settings.udp_payload,
        )
    }

    /// The hint: `change` the answer, or allow larger replies.
    fn hint(&self, change: String) -> String {
        if self.size > usize::from(*UDP_PAYLOADS.end()) {
            return change;
        }
        format!("{change}, or `udp_payload` of [server] to at least {}", self.size)
    }
}
