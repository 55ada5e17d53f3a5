//! Compares explanations with many answers of the same table.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::*;
use crate::pool::{Family, MinHealthy, Override};
use crate::selection::{Fraction, Spread};

use crate::service::{Failback, Failover};
use crate::table::{AddressCondition, Progress};

use Standing::{Healthy, Unhealthy};
use TierVerdict::{FailedOver, FailsOpen, InUse, Kept, Spare, Unusable, Waiting};

const WORLDS: u64 = 20;
const DRAWS: u32 = 50_000;
/// A count is further from its mean than this many standard deviations with a probability of about `1e-8`, and about a
/// thousand counts are compared.
const DEVIATIONS: f64 = 5.7;

const NAME: &str = "www.example";

/// One or two tiers with random weights, sites, health and overrides, and a service with random settings.
fn random_world(rng: &mut SmallRng) -> Table {
    let standings = [Healthy, Healthy, Unhealthy, Standing::Unknown];
    let overrides = [None, None, None, Some(Override::Drain), Some(Override::Up), Some(Override::Disabled)];
    let view = |rng: &mut SmallRng, tier: u8| {
        let backend = |index: u8, rng: &mut SmallRng| Backend {
            weight: rng.random_range(0..6),
            site: rng.random_bool(0.7).then(|| format!("s{}", rng.random_range(0..3))),
            ..Backend::new(format!("b{index}"), vec![IpAddr::V4(Ipv4Addr::new(192, 0, tier, index))])
        };
        let backends: Vec<Backend> = (0..rng.random_range(1..8)).map(|index| backend(index, rng)).collect();
        let conditions: Vec<AddressCondition> = backends
            .iter()
            .map(|_| AddressCondition {
                overridden: overrides[rng.random_range(0..overrides.len())],
                percent: [100, 100, 37, 0][rng.random_range(0..4)],
                held: rng.random_bool(0.1),
                ..standings[rng.random_range(0..standings.len())].into()
            })
            .collect();
        let min_healthy = MinHealthy::Count(rng.random_range(1..3));
        let pool = Pool { min_healthy, ..Pool::new(format!("tier{tier}"), backends) };
        Arc::new(PoolView::build(&pool, None, |backend, _| conditions[backend]))
    };
    let views: Vec<Arc<PoolView>> = (0..rng.random_range(1..3)).map(|tier| view(rng, tier)).collect();
    let tiers = (0..).map(PoolId).take(views.len()).collect();
    let service = Service::new(Name::parse(NAME).unwrap(), tiers);
    let answers = [Answers::AtMost(rng.random_range(1..5)), Answers::All][rng.random_range(0..2)];
    let service = Service {
        default: Route { answers, ..service.default },
        policy: [Policy::Weighted, Policy::All, Policy::Persistent(Persistence::DEFAULT)]
            [rng.random_range(0..3)],
        spread: [Spread::Shares, Spread::Always, Spread::Off][rng.random_range(0..3)],
        ..service
    };
    let mut zone =
        reader::read(Path::new("zone"), &Name::parse("example").unwrap(), &mut |_| Ok(ZONE.into())).unwrap();
    zone.builder().bind_service(service.name.wire(), ServiceId(0)).unwrap();
    let catalog = Catalog::new(vec![zone.finish().unwrap()]);
    let rng = SmallRng::seed_from_u64(rng.random());
    Table::new(1, Arc::default(), Arc::new(catalog), Arc::new(Services::new([service])), views, rng)
}

fn explained<'t>(table: &'t Table, name: &Name, seed: u64) -> Explained<'t> {
    let address = Ipv4Addr::LOCALHOST.into();
    explain(table, &Asked { name, family: Family::Ipv4, address, subnet: None, time: 0, seed })
}

/// How often each address was in an answer, and first in one.
fn counted(table: &Table, seed: u64) -> HashMap<IpAddr, (u32, u32)> {
    let mut responder = Responder::new(SmallRng::seed_from_u64(seed));
    let mut clients = SmallRng::seed_from_u64(seed + 1);
    let query = query(NAME, rtype::A, None);
    let mut buffer = [0; 4096];
    let mut counts: HashMap<IpAddr, (u32, u32)> = HashMap::new();
    for _ in 0..DRAWS {
        // Each client of a persistent service has one answer; over all clients, the probabilities hold.
        let address = IpAddr::V4(Ipv4Addr::from(clients.random::<[u8; 4]>()));
        let client = Client { address, ..client(Transport::Udp) };
        let told = responder.respond(&query, &client, table, &mut buffer);
        let Disposition::Reply(reply) = told else { panic!("{told:?}") };
        for (place, (address, _)) in explain::addresses(&buffer[..reply.length]).into_iter().enumerate() {
            let (included, first) = counts.entry(address).or_default();
            *included += 1;
            *first += u32::from(place == 0);
        }
    }
    counts
}

/// The first address whose counts do not fit the explained probabilities.
fn disagreement(route: Option<&RouteExplained<'_>>, counts: &HashMap<IpAddr, (u32, u32)>) -> Option<String> {
    let drawn = route.map_or(&[][..], |route| &*route.drawn);
    if let Some(address) =
        counts.keys().find(|address| drawn.iter().all(|drawn| drawn.member.address != **address))
    {
        return Some(format!("{address} was answered and is not explained"));
    }
    drawn.iter().find_map(|DrawnAddress { member, probability, .. }| {
        let (included, first) = counts.get(&member.address).copied().unwrap_or_default();
        [(included, probability.included), (first, probability.first)].into_iter().find_map(
            |(count, probability)| {
                let (p, n) = (probability.as_float(), f64::from(DRAWS));
                let deviation = (n * p * (1.0 - p)).sqrt();
                let off = (f64::from(count) - n * p).abs();
                // A certain event has no deviation.
                (off > DEVIATIONS * deviation + 1e-6)
                    .then(|| format!("{}: {count} of {DRAWS}, explained as {p}", member.address))
            },
        )
    })
}

#[test]
fn an_explanation_agrees_with_a_million_answers() {
    let name = Name::parse(NAME).unwrap();
    let mut planted = 0;
    for seed in 0..WORLDS {
        let table = random_world(&mut SmallRng::seed_from_u64(seed));
        let told = explained(&table, &name, seed);
        let counts = counted(&table, seed + 1000);
        assert_eq!(disagreement(told.route.as_ref(), &counts), None, "seed {seed}");
        assert_eq!(told.zone, Some(&b"\x07example\0"[..]));
        // A planted disagreement: the first address is first in 3 % more or fewer of the answers.
        let Some(mut route) = told.route.filter(|route| !route.drawn.is_empty()) else { continue };
        let first = &mut route.drawn[0].probability.first;
        let (share, off) = (first.numerator * 100, first.denominator * 3);
        let planted_share = if share > off { share - off } else { share + off };
        *first = Fraction::new(planted_share, first.denominator * 100);
        assert!(disagreement(Some(&route), &counts).is_some(), "seed {seed}");
        planted += 1;
    }
    assert!(planted > WORLDS / 2, "{planted}");
}

#[test]
fn the_sample_of_a_persistent_service_is_the_beginning_of_the_ranking() {
    let mut persistent = 0;
    for seed in 0..200 {
        let table = random_world(&mut SmallRng::seed_from_u64(seed));
        if !matches!(table.services()[0].service.policy, Policy::Persistent(_)) {
            continue;
        }
        let name = Name::parse(NAME).unwrap();
        let address = IpAddr::V4(Ipv4Addr::from(SmallRng::seed_from_u64(seed).random::<[u8; 4]>()));
        let asked = Asked { name: &name, family: Family::Ipv4, address, subnet: None, time: 0, seed };
        let told = explain(&table, &asked);
        let Some(route) = told.route.filter(|route| !route.drawn.is_empty()) else { continue };
        let mut ranked = route.drawn.clone();
        ranked.sort_by_key(|drawn| drawn.rank.unwrap());
        let ranked: Vec<IpAddr> = ranked.iter().map(|drawn| drawn.member.address).collect();
        assert!(ranked.starts_with(&told.addresses) && !told.addresses.is_empty(), "seed {seed}");
        persistent += 1;
    }
    assert!(persistent > 20, "{persistent}");
}

#[test]
fn a_sample_repeats_with_its_seed_and_the_zone_answers_alone_for_other_names() {
    let table = table(HEALTHY);
    let name = Name::parse(NAME).unwrap();
    let [one, same] = [7, 7].map(|seed| explained(&table, &name, seed));
    assert_eq!((one.addresses.len(), one.ttl), (2, Some(20)));
    assert_eq!(one.addresses, same.addresses);
    let samples = (0..20).map(|seed| explained(&table, &name, seed).addresses);
    assert!(samples.collect::<std::collections::HashSet<_>>().len() > 2);

    let told = |name: &str| explained(&table, &Name::parse(name).unwrap(), 1);
    let alias = told("alias.example");
    assert_eq!(alias.route.map(|route| route.route.service.service.name.to_plain()), Some(NAME.to_owned()));
    let mail = told("mail.example");
    assert!(mail.route.is_none());
    assert_eq!(mail.addresses, [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 25))]);
    assert_eq!(told("nothing.example").rcode, rcode::NXDOMAIN);
    let elsewhere = told("www.elsewhere");
    assert_eq!((elsewhere.rcode, elsewhere.zone), (rcode::REFUSED, None));
}

#[test]
fn the_part_of_each_tier_is_named() {
    let pool = |standing: Standing| Arc::new(PoolView::build(&pool(), None, |_, _| standing.into()));
    let verdicts = |standings: [Standing; 2]| {
        let before = table(HEALTHY);
        let services = Services::new([Service::new(Name::parse(NAME).unwrap(), vec![PoolId(0), PoolId(1)])]);
        let rng = SmallRng::seed_from_u64(1);
        let catalog = Arc::clone(&before.catalog);
        let table = Table::new(1, Arc::default(), catalog, Arc::new(services), standings.map(pool), rng);
        let told = explained(&table, &Name::parse(NAME).unwrap(), 1);
        told.route.unwrap().tiers.into_iter().map(|(_, verdict)| verdict).collect::<Vec<_>>()
    };
    assert_eq!(verdicts([Healthy, Healthy]), [InUse, Spare]);
    assert_eq!(verdicts([Unhealthy, Healthy]), [Unusable, InUse]);
    assert_eq!(verdicts([Healthy, Unhealthy]), [InUse, Unusable]);
    assert_eq!(verdicts([Unhealthy, Unhealthy]), [FailsOpen, Unusable]);
}

#[test]
fn a_tier_that_operators_or_failback_keep_in_use_is_named() {
    let name = Name::parse(NAME).unwrap();
    let view = |standing: Standing| Arc::new(PoolView::build(&pool(), None, |_, _| standing.into()));
    let failover = Failover { pool: PoolId(1), since: Duration::ZERO, until: None, reason: None, by: None };
    let verdicts = |failback, failovers: BTreeMap<ServiceId, Arc<Failover>>, in_use: usize| {
        let service = Service { failback, ..Service::new(name.clone(), vec![PoolId(0), PoolId(1)]) };
        let services = Arc::new(Services::with_failovers([service], &failovers));
        let (rng, catalog) = (SmallRng::seed_from_u64(1), Arc::clone(&table(HEALTHY).catalog));
        let table = Table::new(1, Arc::default(), catalog, services, [view(Healthy), view(Healthy)], rng);
        let plan = table.services()[0].default_route().plan();
        let table = table.with_tiers_in_use([(plan, [Some(in_use); 2])].into(), &Progress::NONE);
        let told = explained(&table, &name, 1);
        told.route.unwrap().tiers.into_iter().map(|(_, verdict)| verdict).collect::<Vec<_>>()
    };
    let failovers = || BTreeMap::from([(ServiceId(0), Arc::new(failover.clone()))]);
    assert_eq!(verdicts(Failback::Manual, BTreeMap::new(), 0), [InUse, Spare]);
    assert_eq!(verdicts(Failback::Manual, BTreeMap::new(), 1), [Waiting, Kept]);
    assert_eq!(verdicts(Failback::Auto, BTreeMap::new(), 1), [InUse, Spare]);
    assert_eq!(verdicts(Failback::Auto, failovers(), 0), [Spare, FailedOver]);
    assert_eq!(verdicts(Failback::Manual, failovers(), 1), [Spare, FailedOver]);
}
