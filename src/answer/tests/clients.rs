//! The route of a service is chosen by the client, and the reply says for which prefix it holds.

use proptest::prelude::*;

use super::*;
use crate::network::Network;
use crate::pool::Family;
use crate::rules::{Conditions, RuleTable};
use crate::service::{Rule, Ttl};
use crate::wire::subnet::ClientSubnet;

const NAME: &str = "www.example";
/// The network of the resolvers whose client subnets count.
const TRUSTED: &str = "198.51.100.0/24";

/// One address from the first pool, with this TTL, for the clients in a network.
pub(super) fn rule(network: &str, ttl: u32) -> Rule {
    let clients = Conditions { networks: Some(vec![network.parse().unwrap()]), ..Conditions::default() };
    let route = Route {
        tiers: vec![PoolId(0)],
        answers: Answers::AtMost(1),
        ttl: Ttl::fixed(ttl),
        when_down: WhenDown::FailOpen,
    };
    Rule { clients, networks_file: None, route }
}

pub(super) fn compiled(service: &Service) -> RuleTable {
    let rules: Vec<Conditions> = service.rules.iter().map(|rule| rule.clients.clone()).collect();
    RuleTable::compile(&rules, &[])
}

/// A service with one pool for each rule and one for everybody else. The only address of pool `n` is `192.0.2.n`.
fn world(networks: &[Vec<Network>], policy: Policy) -> Table {
    let pools = (0..=networks.len()).map(|number| {
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, u8::try_from(number).unwrap()));
        let pool = Pool::new(format!("p{number}"), vec![Backend::new("b", vec![address])]);
        Arc::new(PoolView::build(&pool, None, |_, _| Standing::Healthy.into()))
    });
    let route = |pool| Route { tiers: vec![PoolId(pool)], ..rule("::/0", 1).route };
    let rules = networks.iter().zip(1..).map(|(networks, pool)| Rule {
        clients: Conditions { networks: Some(networks.clone()), ..Conditions::default() },
        networks_file: None,
        route: route(pool),
    });
    let service = Service {
        rules: rules.collect(),
        rule_table: Some(RuleTableId(0)),
        default: route(0),
        policy,
        ..Service::new(Name::parse(NAME).unwrap(), vec![PoolId(0)])
    };
    let rule_tables = [Arc::new(compiled(&service))];
    let mut zone =
        reader::read(Path::new("zone"), &Name::parse("example").unwrap(), &mut |_| Ok(ZONE.into())).unwrap();
    zone.builder().bind_service(service.name.wire(), ServiceId(0)).unwrap();
    let catalog = Arc::new(Catalog::new(vec![zone.finish().unwrap()]));
    let settings =
        Settings { client_subnet: [TRUSTED.parse().unwrap()].into_iter().collect(), ..Settings::default() };
    let (services, rng) = (Arc::new(Services::new([service])), SmallRng::seed_from_u64(1));
    Table::new(1, Arc::new(settings), catalog, services, pools, rng).with_rule_tables(rule_tables.into())
}

/// The number of the pool that answers, and the scope in the reply.
fn answered(table: &Table, resolver: &str, subnet: Option<ClientSubnet>) -> (u8, Option<u8>) {
    let name = Name::parse(NAME).unwrap();
    let address = resolver.parse().unwrap();
    let explained =
        explain(table, &Asked { name: &name, family: Family::Ipv4, address, subnet, time: 0, seed: 1 });
    let [IpAddr::V4(address)] = explained.addresses[..] else { panic!("{explained:?}") };
    let [.., pool] = address.octets();
    let route = explained.route.unwrap().route;
    assert_eq!(route.index.0, u16::from(pool), "the route that answered is the one that is named");
    (pool, explained.scope)
}

fn lists<const N: usize>(networks: [Vec<&str>; N]) -> [Vec<Network>; N] {
    networks.map(|list| list.iter().map(|text| text.parse().unwrap()).collect())
}

fn subnet(text: &str) -> ClientSubnet {
    let network: Network = text.parse().unwrap();
    ClientSubnet::of(network.first(), network.length())
}

#[test]
fn the_client_is_the_subnet_of_a_trusted_resolver_or_else_the_resolver() {
    let networks = [vec!["10.0.0.0/8", TRUSTED], vec!["2001:db8::/32"]];
    let table = world(&lists(networks), Policy::Weighted);
    for (resolver, subnet, expected) in [
        ("198.51.100.1", None, (1, None)),
        ("::ffff:198.51.100.1", None, (1, None)),
        ("203.0.113.1", None, (0, None)),
        ("2001:db8::53", None, (2, None)),
        // Trusted.
        ("198.51.100.1", Some(subnet("10.1.2.0/24")), (1, Some(8))),
        ("198.51.100.1", Some(subnet("11.1.2.0/24")), (0, Some(8))),
        ("198.51.100.1", Some(subnet("2001:db8:1::/56")), (2, Some(32))),
        ("198.51.100.1", Some(subnet("2001:db9:1::/56")), (0, Some(32))),
        // The resolver asks not to use its clients' addresses.
        ("198.51.100.1", Some(subnet("0.0.0.0/0")), (1, Some(0))),
        ("198.51.100.1", Some(subnet("::/0")), (1, Some(0))),
        // Not trusted: its own address counts, and the option is not answered.
        ("203.0.113.1", Some(subnet("10.1.2.0/24")), (0, None)),
        ("10.9.9.9", Some(subnet("11.1.2.0/24")), (1, None)),
    ] {
        assert_eq!(answered(&table, resolver, subnet), expected, "{resolver} {subnet:?}");
    }
}

/// The scope covers what decided: the rule, and the prefix that is ranked for.
#[test]
fn the_scope_of_a_persistent_service_is_at_least_its_prefix() {
    let networks = lists([vec!["10.0.0.0/8"], vec!["11.0.0.0/28"]]);
    let table = world(&networks, Policy::Persistent(Persistence { ipv4: 20, ipv6: 56 }));
    for (client, expected) in [
        ("10.1.2.0/24", (1, Some(20))),
        ("11.0.0.0/24", (2, Some(28))),
        ("11.0.1.0/24", (0, Some(24))),
        ("12.0.1.0/24", (0, Some(20))),
        ("2001:db8::/64", (0, Some(56))),
    ] {
        assert_eq!(answered(&table, "198.51.100.1", Some(subnet(client))), expected, "{client}");
    }
}

/// Networks with few distinct bits, so that they nest and touch.
fn any_network() -> impl Strategy<Value = Network> {
    let crowded = prop::sample::select(vec![0_u8, 1, 128, 255]);
    (any::<bool>(), prop::array::uniform8(crowded), 0..=64_u8).prop_map(|(ipv4, bytes, length)| {
        if let (true, Some(address)) = (ipv4, bytes.first_chunk::<4>()) {
            return Network::around(IpAddr::from(*address), length % 33, 0);
        }
        let mut address = [0; 16];
        address[..8].copy_from_slice(&bytes);
        address[0] = 0x20;
        Network::around(IpAddr::from(address), 0, length)
    })
}

proptest! {
    /// A resolver gives an answer to all clients within its scope, and so they must get the same one if they ask
    /// for themselves.
    #[test]
    fn two_clients_within_a_scope_get_the_same_rule(
        rules in prop::collection::vec(prop::collection::vec(any_network(), 1..4), 0..5),
        clients in prop::collection::vec(any_network(), 2..12),
        policy in prop::sample::select(vec![Policy::Weighted, Policy::Persistent(Persistence::DEFAULT)]),
    ) {
        let table = world(&rules, policy);
        let answers: Vec<(Network, u8, u8)> = clients
            .iter()
            .filter(|client| client.length() > 0)
            .map(|client| {
                let subnet = Some(ClientSubnet::of(client.first(), client.length()));
                let (pool, scope) = answered(&table, "198.51.100.1", subnet);
                (*client, pool, scope.unwrap())
            })
            .collect();
        for (one, pool, scope) in &answers {
            let first = rules.iter().position(|rule| rule.iter().any(|network| network.contains(one.first())));
            prop_assert_eq!(usize::from(*pool), first.map_or(0, |rule| rule + 1));
            let within = Network::around(one.first(), *scope, *scope);
            for (other, other_pool, _) in &answers {
                prop_assert!(
                    !within.contains(other.first()) || pool == other_pool,
                    "{} gets pool {} with scope {}, {} gets pool {}", one, pool, scope, other, other_pool
                );
            }
        }
    }
}
