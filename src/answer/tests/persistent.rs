//! Persistent services: the same client gets the same backends.

use std::collections::HashSet;

use super::*;
use crate::network::{Network, Networks};
use crate::selection::{Candidate, CandidateKey, ClientKey, Ranking, Spread};
use crate::settings::Settings;
use crate::wire::edns::option;

const ZONE: &str = "\
@ 60 SOA ns hostmaster 1 2 3 4 5
@ 60 NS ns
ns 60 A 192.0.2.1
alias 60 CNAME www
";

/// A resolver whose client subnets are used.
const TRUSTED: &str = "198.51.100.53";

/// Ten backends with an address of each family and weights from 1 to 3; the third has two IPv4 addresses. All but the
/// second service are persistent.
fn table() -> Table {
    let backend = |index: u8| {
        let ipv6 = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, index.into());
        let mut addresses = vec![IpAddr::from([192, 0, 2, index]), ipv6.into()];
        if index == 3 {
            addresses.insert(0, IpAddr::from([192, 0, 2, 103]));
        }
        Backend { weight: 1 + u32::from(index % 3), ..Backend::new(format!("b{index}"), addresses) }
    };
    let pool = Pool::new("web", (0..10).map(backend).collect());
    let service = |name: &str, answers, policy| {
        let service = Service::new(Name::parse(name).unwrap(), vec![PoolId(0)]);
        let default = Route { answers: Answers::AtMost(answers), ..service.default };
        Service { default, policy, spread: Spread::Off, ..service }
    };
    let wide = Policy::Persistent(Persistence { ipv4: 16, ipv6: 32 });
    let services = [
        service("www.example", 3, Policy::Persistent(Persistence::DEFAULT)),
        service("drawn.example", 3, Policy::Weighted),
        service("wide.example", 1, wide),
    ];
    let mut load = |_: &Path| Ok(ZONE.into());
    let mut zone = reader::read(Path::new("zone"), &Name::parse("example").unwrap(), &mut load).unwrap();
    for (id, service) in (0..).zip(&services) {
        zone.builder().bind_service(service.name.wire(), ServiceId(id)).unwrap();
    }
    let catalog = Catalog::new(vec![zone.finish().unwrap()]);
    let view = PoolView::build(&pool, None, |_, _| Standing::Healthy.into());
    let trusted: Networks = ["198.51.100.0/24".parse::<Network>().unwrap()].into_iter().collect();
    let settings = Settings { client_subnet: trusted, ..Settings::default() };
    Table::new(
        1,
        Arc::new(settings),
        Arc::new(catalog),
        Arc::new(Services::new(services)),
        [Arc::new(view)],
        SmallRng::seed_from_u64(1),
    )
}

/// The backends of an answer, and the scope of its client subnet.
fn asked(
    table: &Table,
    (name, rtype): (&str, u16),
    resolver: &str,
    subnet: Option<&[u8]>,
    seed: u64,
) -> (Vec<u32>, Option<u8>) {
    let options: Vec<(u16, &[u8])> = subnet.map(|value| (option::CLIENT_SUBNET, value)).into_iter().collect();
    let query = options::query_with(name, rtype, &options);
    let address = resolver.parse().unwrap();
    let client = Client { address, port: 53, transport: Transport::Udp, time: 0 };
    let fast::Both { fast, full } = fast::both(&query, &client, table, seed);
    let (_, reply, picked) = fast.expect("a usual query");
    assert_eq!((&reply, &picked), (&full.1, &full.2), "the general path answers the same");
    let scope = options::options_in(&reply).into_iter().find(|(code, _)| *code == option::CLIENT_SUBNET);
    (picked, scope.map(|(_, value)| value[3]))
}

#[test]
fn clients_of_one_prefix_get_the_same_backends_in_the_same_order() {
    let table = table();
    let at = |resolver: &str, seed| asked(&table, ("www.example", rtype::A), resolver, None, seed).0;
    let mut answers = HashSet::new();
    for network in 0..200 {
        let answer = at(&format!("10.0.{network}.1"), 1);
        assert_eq!(answer.len(), 3);
        assert_eq!(answer, at(&format!("10.0.{network}.254"), 2));
        assert_eq!(answer, at(&format!("::ffff:10.0.{network}.77"), 3), "through a dual-stack socket");
        answers.insert(answer);
    }
    assert!(answers.len() > 100, "{}", answers.len());
    let ipv6 = |address: &str| at(address, 1);
    assert_eq!(ipv6("2001:db8:0:1::1"), ipv6("2001:db8:0:ff:ffff::1"), "one /56");
    let drawn = |seed| asked(&table, ("drawn.example", rtype::A), "10.0.0.1", None, seed).0;
    assert!((0..20).map(drawn).collect::<HashSet<_>>().len() > 10, "others are drawn");
    // An alias leads to the same answer.
    assert_eq!(asked(&table, ("alias.example", rtype::A), "10.0.7.1", None, 9).0, at("10.0.7.1", 1));
}

#[test]
fn a_and_aaaa_agree_on_the_backends() {
    let table = table();
    for network in 0..1000_u32 {
        let resolver = Ipv4Addr::from(0x0a00_0000 + (network << 8)).to_string();
        let ask = |rtype| asked(&table, ("www.example", rtype), &resolver, None, 1).0;
        let (ipv4, ipv6) = (ask(rtype::A), ask(rtype::AAAA));
        if !ipv4.contains(&3) {
            assert_eq!(ipv4, ipv6, "{resolver}");
        }
    }
}

/// The answer can be computed from the names and weights alone, without this server.
#[test]
fn answers_follow_from_names_and_weights() {
    let table = table();
    let names: Vec<String> = (0..10).map(|index| format!("b{index}")).collect();
    let keyed = names
        .iter()
        .zip(0..)
        .map(|(name, index)| (CandidateKey::new(name, 0), Candidate { weight: 1 + index % 3, site: index }));
    let ranking = Ranking::new(keyed, 3, Spread::Off);
    for network in 0..100 {
        let resolver = format!("2001:db8:{network}::53");
        let prefix = Network::around(resolver.parse().unwrap(), 24, 56);
        let expected: Vec<u32> =
            ranking.of_client(ClientKey::new(prefix)).iter().map(|ranked| ranked.index).take(3).collect();
        assert_eq!(asked(&table, ("www.example", rtype::AAAA), &resolver, None, 1).0, expected);
    }
}

#[test]
fn a_client_subnet_is_the_client_if_its_resolver_is_trusted() {
    let table = table();
    let question = ("www.example", rtype::A);
    let direct = |client: &str| asked(&table, question, client, None, 1).0;
    let through = |resolver: &str, subnet: &[u8]| asked(&table, question, resolver, Some(subnet), 1);
    for third in 0..50 {
        let client = format!("10.9.{third}.200");
        assert_eq!(through(TRUSTED, &[0, 1, 24, 0, 10, 9, third]), (direct(&client), Some(24)));
        assert_eq!(through(TRUSTED, &[0, 1, 32, 0, 10, 9, third, 5]), (direct(&client), Some(24)));
    }
    // A shorter prefix than that of the service counts as its first network; the scope asks for more.
    assert_eq!(through(TRUSTED, &[0, 1, 16, 0, 10, 9]), (direct("10.9.0.1"), Some(24)));
    let ipv6 = [0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 7];
    assert_eq!(through(TRUSTED, &ipv6), (direct("2001:db8:0:700::1"), Some(56)));
    // The resolver says nothing of its client, or is not trusted: the answer is for the resolver.
    assert_eq!(through(TRUSTED, &[0, 1, 0, 0]), (direct(TRUSTED), Some(0)));
    assert_eq!(through("203.0.113.53", &[0, 1, 24, 0, 10, 9, 1]), (direct("203.0.113.53"), None));
    let wide = asked(&table, ("wide.example", rtype::A), TRUSTED, Some(&[0, 1, 24, 0, 10, 9, 1]), 1);
    assert_eq!(wide.1, Some(16), "no more of the address decides");
    let drawn = asked(&table, ("drawn.example", rtype::A), TRUSTED, Some(&[0, 1, 24, 0, 10, 9, 1]), 1);
    assert_eq!(drawn.1, Some(0), "nothing of the address decides");
}
