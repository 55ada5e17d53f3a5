//! The tier in use from table to table: what becomes of it when pools fail and return.

use std::net::IpAddr;
use std::time::Duration;

use crate::pool::Backend;
use crate::service::{Failback, Failover, Ttl};

use super::*;

const NEEDED: Duration = Duration::from_secs(10);

fn service(tiers: &[u32], failback: Failback) -> Service {
    let tiers = tiers.iter().copied().map(PoolId).collect();
    Service { failback, ..super::service(tiers, WhenDown::FailOpen) }
}

/// A view in which the families have these standings; a family without one has no address.
fn view(ipv4: Option<Standing>, ipv6: Option<Standing>) -> Arc<PoolView> {
    let standings = [("192.0.2.1", ipv4), ("2001:db8::1", ipv6)];
    let present = standings.into_iter().filter_map(|(address, standing)| Some((address, standing?)));
    let (addresses, standings): (Vec<IpAddr>, Vec<Standing>) =
        present.map(|(address, standing)| (address.parse::<IpAddr>().unwrap(), standing)).unzip();
    let pool = Pool::new("x", vec![Backend::new("b", addresses)]);
    Arc::new(PoolView::build(&pool, None, |_, at| standings[at].into()))
}

fn one(standing: Standing) -> Arc<PoolView> {
    view(Some(standing), None)
}

/// A waiting tier, and the seconds until it is taken.
type WaitingSeconds = (usize, Option<u64>);

/// The tier that answers, the tier in use, and the waiting tier with the seconds until it is taken.
fn shown(table: &Table, family: Family) -> (Option<usize>, usize, Option<WaitingSeconds>) {
    let route = table.services()[0].default_route();
    let answers = match table.decision(route, family) {
        Decision::Tier { tier, .. } => Some(*tier),
        _ => None,
    };
    let in_use = table.tier_in_use(route.plan(), family);
    let seconds = |until: Duration| until.as_secs();
    (answers, in_use.tier, in_use.waiting.map(|waiting| (waiting.tier, waiting.until.map(seconds))))
}

/// The next table, in which each pool that is not named has been usable for so many seconds.
fn next(table: &Table, changed: &[(u32, Arc<PoolView>)], steady: [Option<u64>; 3]) -> Table {
    let steady_for = |pool: PoolId, _| Some(Duration::from_secs((*steady.get(pool.index()).unwrap())?));
    let progress = Progress { at: Duration::ZERO, steady_for: &steady_for };
    let changed = changed.iter().map(|(id, view)| (PoolId(*id), Arc::clone(view)));
    table.with_changes(changed, TiersInUse::new(), &progress)
}

#[test]
fn a_later_tier_stays_in_use_until_it_fails_or_the_time_of_an_earlier_one_is_over() {
    let (up, down) = (one(Standing::Healthy), one(Standing::Unhealthy));
    let services = Services::new([service(&[0, 1, 2], Failback::After(NEEDED))]);
    let at = |table: &Table| shown(table, Family::Ipv4);
    let first = table(services, [&up, &up, &up].map(Arc::clone));
    assert_eq!(at(&first), (Some(0), 0, None));
    let second = next(&first, &[(0, Arc::clone(&down))], [None, Some(99), Some(99)]);
    assert_eq!(at(&second), (Some(1), 1, None));
    let back = next(&second, &[(0, Arc::clone(&up))], [Some(0), Some(99), Some(99)]);
    assert_eq!(at(&back), (Some(1), 1, Some((0, Some(10)))));
    let later = next(&back, &[(2, Arc::clone(&up))], [Some(4), Some(99), Some(0)]);
    assert_eq!(at(&later), (Some(1), 1, Some((0, Some(6)))));
    // On trust, it does not count, and no time is known.
    let on_trust = next(&later, &[(0, one(Standing::Unknown))], [None, Some(99), Some(99)]);
    assert_eq!(at(&on_trust), (Some(1), 1, Some((0, None))));
    let returned = next(&later, &[(0, Arc::clone(&up))], [Some(10), Some(99), Some(99)]);
    assert_eq!(at(&returned), (Some(0), 0, None));
    // The tier in use fails before the time is over.
    let left = next(&later, &[(1, Arc::clone(&down))], [Some(5), None, Some(99)]);
    assert_eq!(at(&left), (Some(0), 0, None));
    // All fail; the tier in use returns together with the first one.
    let none = next(&later, &[(0, Arc::clone(&down)), (1, Arc::clone(&down)), (2, down)], [None; 3]);
    assert_eq!(at(&none), (None, 1, None));
    let again = next(&none, &[(0, Arc::clone(&up)), (1, up)], [Some(0), Some(0), None]);
    assert_eq!(at(&again), (Some(1), 1, Some((0, Some(10)))));
}

#[test]
fn by_hand_a_later_tier_stays_in_use_until_a_decision_begins_with_the_first() {
    let (up, down) = (one(Standing::Healthy), one(Standing::Unhealthy));
    let services = Services::new([service(&[0, 1], Failback::Manual)]);
    let first = table(services, [down, Arc::clone(&up), Arc::clone(&up)]);
    let back = next(&first, &[(0, up)], [Some(1_000_000); 3]);
    assert_eq!(shown(&back, Family::Ipv4), (Some(1), 1, Some((0, None))));
    let plan = back.services()[0].default_route().plan();
    let from = |tier| TiersInUse::from([(plan, [Some(tier), None])]);
    let kept = back.with_changes([], TiersInUse::from([(plan, [None, None])]), &Progress::NONE);
    assert_eq!((shown(&kept, Family::Ipv4).1, kept.generation), (1, back.generation + 1));
    let returned = back.with_changes([], from(0), &Progress::NONE);
    assert_eq!(shown(&returned, Family::Ipv4), (Some(0), 0, None));
    let recalled = returned.with_tiers_in_use(from(1), &Progress::NONE);
    assert_eq!(shown(&recalled, Family::Ipv4), (Some(1), 1, Some((0, None))));
}

/// A tier that serves only the other family is in use for this one too, and is returned to in the same way.
#[test]
fn a_family_without_addresses_follows_the_other_one() {
    let only_ipv4 = |standing| view(Some(standing), None);
    let both = view(Some(Standing::Healthy), Some(Standing::Healthy));
    let services = Services::new([service(&[0, 1], Failback::After(NEEDED))]);
    let first = table(services, [only_ipv4(Standing::Healthy), Arc::clone(&both), both]);
    let at = |table: &Table| Family::ALL.map(|family| shown(table, family));
    assert_eq!(at(&first), [(Some(0), 0, None), (None, 0, None)]);
    let second = next(&first, &[(0, only_ipv4(Standing::Unhealthy))], [None, Some(99), None]);
    assert_eq!(at(&second), [(Some(1), 1, None); 2]);
    let back = next(&second, &[(0, only_ipv4(Standing::Healthy))], [Some(3), Some(99), None]);
    assert_eq!(at(&back), [(Some(1), 1, Some((0, Some(7)))); 2]);
    let returned = next(&back, &[(0, only_ipv4(Standing::Healthy))], [Some(10), Some(99), None]);
    assert_eq!(at(&returned), [(Some(0), 0, None), (None, 0, None)]);
}

/// A TTL that follows certainty ends with the waiting time of an earlier tier, and with a failover.
#[test]
fn no_answer_outlives_a_return_that_is_certain() {
    let (up, down) = (one(Standing::Healthy), one(Standing::Unhealthy));
    let ttl = Ttl { min: 2, max: 60 };
    let of = |failback| {
        let service = service(&[0, 1], failback);
        Service { default: Route { ttl, ..service.default }, ..service }
    };
    let ttl_at = |table: &Table, time| table.ttl(table.services()[0].default_route(), time);
    for (failback, expected) in [(Failback::After(NEEDED), [6, 2, 2]), (Failback::Manual, [60; 3])] {
        let first = table(Services::new([of(failback)]), [&down, &up, &up].map(Arc::clone));
        assert_eq!(ttl_at(&first, 0), 60);
        let back = next(&first, &[(0, Arc::clone(&up))], [Some(3), Some(99), Some(99)]);
        assert_eq!([0, 5, 9].map(|time| ttl_at(&back, time)), expected, "{failback}");
    }
    let until = Some(NEEDED);
    let failover = Failover { pool: PoolId(1), since: Duration::ZERO, until, reason: None, by: None };
    let failovers = [(ServiceId(0), Arc::new(failover))].into();
    let services = Services::with_failovers([of(Failback::Auto)], &failovers);
    let table = table(services, [&up, &up, &up].map(Arc::clone));
    assert_eq!([shown(&table, Family::Ipv4).0, Some(1)], [Some(1); 2]);
    assert_eq!(ttl_at(&table, 0), 9);
}

/// Another list of failovers keeps all decisions until they are made again, also those of plans that other services
/// share.
#[test]
fn a_failover_of_one_service_changes_no_other() {
    let (up, down) = (one(Standing::Healthy), one(Standing::Unhealthy));
    let all = [Failback::Auto, Failback::Auto, Failback::Manual].map(|failback| service(&[0, 1], failback));
    let before = table(Services::new(all.clone()), [&down, &up, &up].map(Arc::clone));
    let before = next(&before, &[(0, up)], [Some(0), Some(99), Some(99)]);
    let answers = |table: &Table| {
        let routes = table.services().iter().map(|view| view.default_route());
        let of = |route| match table.decision(route, Family::Ipv4) {
            Decision::Tier { tier, .. } => *tier,
            decision => panic!("{decision:?}"),
        };
        routes.map(of).collect::<Vec<_>>()
    };
    assert_eq!(answers(&before), [0, 0, 1]);
    let again = |table: Table, id: usize| {
        let plan = table.services()[id].default_route().plan();
        table.with_tiers_in_use(TiersInUse::from([(plan, [None; 2])]), &Progress::NONE)
    };
    let with = |table: &Table, failovers: &[(u32, u32)]| {
        let failover = |(id, pool): &(u32, u32)| {
            let (pool, since) = (PoolId(*pool), Duration::ZERO);
            (ServiceId(*id), Arc::new(Failover { pool, since, until: None, reason: None, by: None }))
        };
        let failovers = failovers.iter().map(failover).collect();
        table.clone().with_services(Arc::new(Services::with_failovers(all.clone(), &failovers)))
    };
    let over = with(&before, &[(1, 1)]);
    assert_eq!(answers(&over), [0, 0, 1], "the decisions are taken over");
    let over = again(over, 1);
    assert_eq!(answers(&over), [0, 1, 1]);
    let both = again(with(&over, &[(1, 1), (2, 0)]), 2);
    assert_eq!(answers(&both), [0, 1, 0]);
    let ended = with(&both, &[]);
    assert_eq!(answers(&ended), [0, 0, 0], "a plan that is shared again has the decisions of the others");
    let ended = again(again(ended, 1), 2);
    assert_eq!(answers(&ended), [0, 0, 0], "the pool of a failover that has ended is the tier in use");
}

#[test]
fn only_services_that_return_at_once_share_their_decisions() {
    let failbacks = [Failback::Auto, Failback::Auto, Failback::Manual, Failback::Manual];
    let services = Services::new(failbacks.map(|failback| service(&[0], failback)));
    let plans: Vec<usize> = services.iter().map(|view| view.default_route().plan()).collect();
    assert_eq!(plans, [0, 0, 1, 2]);
    assert_eq!(services.keeping(PoolId(0)).collect::<Vec<_>>(), [1, 2]);
    let of_plan = |plan| services.routes_of(plan).map(|(id, _)| id.0).collect::<Vec<_>>();
    assert_eq!([of_plan(0), of_plan(1), of_plan(2), of_plan(3)], [vec![0, 1], vec![2], vec![3], vec![]]);
}
