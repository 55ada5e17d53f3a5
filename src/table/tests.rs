//! Compares decisions with a naive implementation of the rules, and tables made from an earlier one
//! with tables built from scratch.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::name::Name;
use crate::pool::Override::{Disabled, Drain};
use crate::pool::{MinHealthy, Override, Pool};
use crate::service::{Answers, Policy, Route, Service, WhenDown};

use super::pool_view::tests::{build, pool, random_condition, random_pool};
use super::*;

mod tiers;

fn service(tiers: Vec<PoolId>, when_down: WhenDown) -> Service {
    let name = Name::parse("www.example").unwrap();
    let service = Service::new(name, tiers);
    let default = Route { answers: Answers::All, when_down, ..service.default };
    Service { default, policy: Policy::All, ..service }
}

fn table(services: Services, views: impl IntoIterator<Item = Arc<PoolView>>) -> Table {
    let catalog = Arc::new(Catalog::new(Vec::new()));
    Table::new(1, Arc::default(), catalog, Arc::new(services), views, SmallRng::seed_from_u64(1))
}

/// The rules for a service's answer in one family.
fn rules(table: &Table, service: &Service, family: Family) -> Decision {
    let tiers: Vec<(usize, PoolId, &PoolView)> = (0..)
        .zip(&service.default.tiers)
        .filter_map(|(tier, id)| Some((tier, *id, &**table.pool(*id)?)))
        .collect();
    let has_addresses = |view: &PoolView| view.family(family).is_configured();
    let draw = |view: &PoolView, choice| {
        let rng = &mut SmallRng::seed_from_u64(2);
        Draw::new(view.family(family), choice, Drawing::of(service, &service.default), None, rng)
    };
    // A pool that is usable only for the other family is also in use.
    let in_use = tiers.iter().find(|(.., view)| {
        view.family(family).usable || !has_addresses(view) && view.families.iter().any(|other| other.usable)
    });
    if let Some(&(tier, pool, view)) = in_use {
        let FamilyView { usable, on_trust, eligible, .. } = view.family(family).clone();
        return if usable {
            Decision::Tier { tier, pool, on_trust, draw: draw(view, &eligible) }
        } else {
            Decision::NoAddress
        };
    }
    let left: Vec<_> = tiers.into_iter().filter(|(.., view)| has_addresses(view)).collect();
    let is_configured = !left.is_empty();
    if service.default.when_down != WhenDown::FailOpen {
        return Decision::Down { is_configured };
    }
    let first = left.iter().find(|(.., view)| !view.family(family).drained).or(left.first());
    first.map_or(Decision::NoAddress, |(_, pool, view)| Decision::FailOpen {
        pool: *pool,
        draw: draw(view, &view.family(family).everyone),
    })
}

fn random_services(rng: &mut SmallRng, pools: usize) -> Vec<Service> {
    let whens = [WhenDown::FailOpen, WhenDown::FailOpen, WhenDown::NoData, WhenDown::ServFail];
    // A few of the pools do not exist.
    let beyond = u32::try_from(pools + pools / 10).unwrap() + 1;
    let count = rng.random_range(0..40);
    let random = |_| {
        let tiers = (0..rng.random_range(1..4)).map(|_| PoolId(rng.random_range(0..beyond))).collect();
        service(tiers, whens[rng.random_range(0..whens.len())].clone())
    };
    (0..count).map(random).collect()
}

/// Changes health and overrides at random. A table made from an earlier one equals the table that
/// is built from scratch from the same pools, and both follow the rules.
#[test]
fn tables_that_follow_another_equal_tables_built_from_nothing() {
    for seed in 0..100 {
        let mut rng = SmallRng::seed_from_u64(seed);
        // Up to two levels of a persistent vector.
        let pools: Vec<Pool> = (0..rng.random_range(0..100)).map(|_| random_pool(&mut rng)).collect();
        let services = random_services(&mut rng, pools.len());
        let mut views: Vec<Arc<PoolView>> =
            pools.iter().map(|pool| Arc::new(build(pool, |_, _| Standing::Unknown.into()))).collect();
        let mut followed = table(Services::new(services.clone()), views.iter().cloned());
        for step in 0..20 {
            let context = format!("seed {seed}, step {step}");
            let built = table(Services::new(services.clone()), views.iter().cloned());
            assert_eq!(followed.generation, step + 1, "{context}");
            assert_eq!(followed.pools().len(), views.len());
            assert!(followed.pools().iter().zip(&views).all(|(one, other)| Arc::ptr_eq(one, other)));
            for (id, service) in (0..).map(ServiceId).zip(&services) {
                let [view, other] = [&followed, &built].map(|table| table.service(id).unwrap());
                assert_eq!(view.service, *service, "{context}");
                for family in Family::ALL {
                    let decision = followed.decision(view.default_route(), family);
                    assert_eq!(
                        decision,
                        built.decision(other.default_route(), family),
                        "{context} {service:?}"
                    );
                    assert_eq!(*decision, rules(&built, service, family), "{context} {service:?}");
                }
            }
            for id in (0..).map(PoolId).take(pools.len() + 2) {
                let users: Vec<ServiceId> = (0..)
                    .map(ServiceId)
                    .zip(&services)
                    .filter(|(_, service)| service.default.tiers.contains(&id))
                    .map(|(id, _)| id)
                    .collect();
                let mut found: Vec<ServiceId> = followed.services().of_pool(id).collect();
                found.sort();
                assert_eq!(found, users, "{context} {id:?}");
                let fails_open = Family::ALL.map(|family| {
                    let decisions = services.iter().map(|service| rules(&built, service, family));
                    decisions
                        .into_iter()
                        .any(|decision| matches!(decision, Decision::FailOpen { pool, .. } if pool == id))
                });
                assert_eq!(followed.fails_open_to(id), fails_open, "{context} {id:?}");
            }
            let mut changed = Vec::new();
            for _ in 0..rng.random_range(0..6) {
                // An index that does not exist is ignored.
                let index = rng.random_range(0..pools.len() + 2);
                let (Some(pool), Some(view)) = (pools.get(index), views.get_mut(index)) else {
                    changed.extend(views.first().map(|view| (PoolId(1_000_000), Arc::clone(view))));
                    continue;
                };
                let conditions: [[AddressCondition; 3]; 8] =
                    std::array::from_fn(|_| std::array::from_fn(|_| random_condition(&mut rng)));
                let condition = |backend: usize, at: usize| conditions[backend][at];
                *view = Arc::new(PoolView::build(pool, Some(view), condition));
                changed.push((PoolId(u32::try_from(index).unwrap()), Arc::clone(view)));
            }
            followed = followed.with_pools(changed);
        }
    }
}

/// The entries of the last node that a change to a [`PersistentVec`] copies.
const COPIED: usize = 64;

/// References beyond one for each view, and beyond those of one view and one decision for each choice of addresses:
/// pointers that a table shares with another one without sharing their node.
fn copied(views: &[Arc<PoolView>]) -> (usize, usize) {
    let beyond = |count: usize, own: usize| count.saturating_sub(own);
    let of_views = views.iter().map(|view| beyond(Arc::strong_count(view), 2)).sum();
    let choices =
        views.iter().flat_map(|view| &view.families).map(|FamilyView { eligible, everyone, .. }| {
            // A view has the same choice twice if all its addresses are eligible.
            let own = 2 + usize::from(Arc::ptr_eq(eligible, everyone));
            beyond(Arc::strong_count(eligible), own)
        });
    (of_views, choices.sum())
}

#[test]
fn a_flip_copies_as_much_in_a_large_table_as_in_a_small_one() {
    const COUNT: usize = 10_000;
    let pool = pool(&[1, 1], MinHealthy::Count(1));
    let healthy = || Arc::new(build(&pool, |_, _| Standing::Healthy.into()));
    let views: Vec<Arc<PoolView>> = (0..COUNT).map(|_| healthy()).collect();
    let ids = || (0..).map(PoolId).take(COUNT);
    let services = Services::new(ids().map(|id| service(vec![id], WhenDown::FailOpen)));
    let before = table(services, views.iter().cloned());
    assert_eq!(copied(&views), (0, 0));
    let flipped = |index: u32| {
        let previous = before.pool(PoolId(index)).unwrap();
        let condition = |backend: usize, _: usize| {
            let standing = if backend == 0 { Standing::Unhealthy } else { Standing::Healthy };
            standing.into()
        };
        (PoolId(index), Arc::new(PoolView::build(&pool, Some(previous), condition)))
    };
    for index in [0, 5_000, 9_999] {
        let after = before.with_pools([flipped(index)]);
        let (views_copied, choices_copied) = copied(&views);
        assert!(views_copied <= COPIED, "{views_copied} pointers to views");
        // The changed view still has the choice: all its addresses would be answered if it failed open.
        assert!(choices_copied <= COPIED + 1, "{choices_copied} pointers to choices");
        let view = &after.services()[index as usize];
        let members = |table: &Table| match table.decision(view.default_route(), Family::Ipv4) {
            Decision::Tier { draw, .. } => draw.choice.members.len(),
            decision => panic!("{decision:?}"),
        };
        assert_eq!((members(&before), members(&after)), (2, 1));
    }
}

#[test]
fn services_that_differ_in_nothing_else_share_a_decision() {
    let pool = pool(&[1, 1], MinHealthy::Count(1));
    let shared = Services::new((0..1000).map(|_| service(vec![PoolId(0)], WhenDown::FailOpen)));
    let table = table(shared, [Arc::new(build(&pool, |_, _| Standing::Healthy.into()))]);
    let first = table.decision(table.services()[0].default_route(), Family::Ipv4);
    let same = |view: &ServiceView| std::ptr::eq(table.decision(view.default_route(), Family::Ipv4), first);
    assert!(table.services().iter().all(same));
}

#[test]
fn the_first_tier_that_is_not_all_drained_fails_open() {
    let pool = pool(&[1, 1], MinHealthy::Count(1));
    let answers_by = |tiers: [[Option<Override>; 2]; 2]| {
        let view = |overrides: [Option<Override>; 2]| {
            let condition = |index: usize, _| AddressCondition {
                overridden: overrides[index],
                ..Standing::Unhealthy.into()
            };
            Arc::new(build(&pool, condition))
        };
        let services = Services::new([service(vec![PoolId(0), PoolId(1)], WhenDown::FailOpen)]);
        let table = table(services, tiers.map(view));
        match table.decision(table.services()[0].default_route(), Family::Ipv4) {
            Decision::FailOpen { pool, draw } => Some((pool.0, draw.choice.members.len())),
            Decision::NoAddress => None,
            decision => panic!("{decision:?}"),
        }
    };
    let (drained, half, plain) = ([Some(Drain); 2], [Some(Drain), None], [None; 2]);
    assert_eq!(answers_by([plain, plain]), Some((0, 2)));
    assert_eq!(answers_by([half, plain]), Some((0, 1)));
    assert_eq!(answers_by([drained, plain]), Some((1, 2)));
    assert_eq!(answers_by([drained, half]), Some((1, 1)));
    assert_eq!(answers_by([drained, drained]), Some((0, 2)));
    assert_eq!(answers_by([[Some(Disabled); 2], drained]), Some((1, 2)));
    assert_eq!(answers_by([[Some(Disabled); 2], [Some(Disabled); 2]]), None);
}

#[test]
fn new_orders_change_neither_the_generation_nor_the_decisions() {
    let pool = pool(&[1; 20], MinHealthy::Count(1));
    let drawing = |id: u32| {
        let service = service(vec![PoolId(id)], WhenDown::FailOpen);
        Service { default: Route { answers: Answers::AtMost(2), ..service.default }, ..service }
    };
    let view = |_| Arc::new(build(&pool, |_, _| Standing::Healthy.into()));
    let before = table(Services::new((0..4).map(drawing)), (0..4).map(view));
    let sampler = |table: &Table, index: usize| match table
        .decision(table.services()[index].default_route(), Family::Ipv4)
    {
        Decision::Tier { draw: Draw { selector: Selector::Sampler(sampler), .. }, .. } => Arc::clone(sampler),
        decision => panic!("{decision:?}"),
    };
    for part in 0..8 {
        let after = before.with_new_orders(part, 8);
        // Eight parts have four draws, so every second part has one.
        assert_eq!(after.is_some(), part % 2 == 1, "part {part}");
        let Some(after) = after else { continue };
        assert_eq!(after.generation, before.generation);
        for index in 0..4 {
            let [old, new] = [&before, &after].map(|table| sampler(table, index));
            assert_eq!(old, new, "equal probabilities");
            assert_eq!(Arc::ptr_eq(&old, &new), index != part / 2, "part {part}, service {index}");
        }
    }
    // If a pool is rebuilt without a change, its draws are kept.
    let after = before.with_pools([(PoolId(1), Arc::clone(before.pool(PoolId(1)).unwrap()))]);
    assert!(Arc::ptr_eq(&sampler(&before, 1), &sampler(&after, 1)));
}

/// With one of 20 addresses in an answer, all but one of 3, or all of 3, no order changes which are
/// in an answer together. The draw of 2 of 20 shares a part with the first.
#[test]
fn only_draws_that_can_change_get_new_orders() {
    let [large, small] = [20, 3].map(|count| pool(&vec![1; count], MinHealthy::Count(1)));
    let views = [&large, &small].map(|pool| Arc::new(build(pool, |_, _| Standing::Healthy.into())));
    let drawing = |id: u32, answers| {
        let service = service(vec![PoolId(id)], WhenDown::FailOpen);
        Service { default: Route { answers, ..service.default }, ..service }
    };
    let fixed = [(0, Answers::AtMost(1)), (1, Answers::AtMost(2)), (1, Answers::All)];
    let fixed = fixed.map(|(id, answers)| drawing(id, answers));
    let unchanged = table(Services::new(fixed.clone()), views.clone());
    assert!(unchanged.with_new_orders(0, 1).is_none());

    let all = fixed.into_iter().chain([drawing(0, Answers::AtMost(2))]);
    let before = table(Services::new(all), views);
    let after = before.with_new_orders(0, 1).unwrap();
    let sampler = |table: &Table, index: usize| match table
        .decision(table.services()[index].default_route(), Family::Ipv4)
    {
        Decision::Tier { draw: Draw { selector: Selector::Sampler(sampler), .. }, .. } => Arc::clone(sampler),
        decision => panic!("{decision:?}"),
    };
    let is_kept = |index| Arc::ptr_eq(&sampler(&before, index), &sampler(&after, index));
    assert_eq!([0, 1, 2, 3].map(is_kept), [true, true, true, false]);
}
