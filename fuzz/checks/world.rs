//! A table with zones that use every feature, and services in every state.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use steerd::cookie::CookieSecrets;
use steerd::keys::{Algorithm, Key, Keys};
use steerd::name::Name;
use steerd::network::Network;
use steerd::pool::{Backend, Pool, PoolId};
use steerd::rules::{Conditions, RuleTable, RuleTableId};
use steerd::service::{Answers, Persistence, Policy, Route, Rule, Service, ServiceId, Ttl, WhenDown};
use steerd::settings::{Chaos, Cookies, MAX_NSID, Settings};
use steerd::table::{PoolView, Services, Standing, Table};
use steerd::zone::{Catalog, Zone, reader};

/// Apex and master file of each zone.
const ZONES: [(&str, &str); 3] = [
    ("example", include_str!("zones/example.zone")),
    ("child.example", include_str!("zones/child.zone")),
    ("2.0.192.in-addr.arpa", include_str!("zones/reverse.zone")),
];

/// The zone that contains all services.
const HOME: &str = "svc.example";

/// The pools: name, families of its addresses, number of backends, and their state.
const POOLS: [(&str, Families, u16, State); 12] = [
    ("healthy", Families::Both, 4, State::All(Standing::Healthy)),
    ("some", Families::Both, 4, State::Mixed),
    ("unknown", Families::Both, 3, State::All(Standing::Unknown)),
    ("down", Families::Both, 3, State::All(Standing::Unhealthy)),
    ("ipv4", Families::Ipv4, 3, State::All(Standing::Healthy)),
    ("ipv6", Families::Ipv6, 3, State::All(Standing::Healthy)),
    ("ipv6down", Families::Ipv6, 3, State::All(Standing::Unhealthy)),
    ("large", Families::Both, 250, State::All(Standing::Healthy)),
    ("disabled", Families::Both, 2, State::Disabled),
    ("eight", Families::Ipv4, 8, State::All(Standing::Healthy)),
    ("many", Families::Ipv4, 10_000, State::All(Standing::Healthy)),
    ("fifty", Families::Ipv4, 50, State::All(Standing::Healthy)),
];

/// Pools up to this one have services in every combination; the others have those of [`DRAWS`] and [`RANKINGS`].
const COMBINED: usize = 9;

/// Services that draw by weight: the first label, the pool, and the number of answers.
const DRAWS: [(&str, &str, u16); 4] =
    [("one", "eight", 1), ("four", "eight", 4), ("four", "many", 4), ("four", "fifty", 4)];

/// Persistent services, in the same form.
const RANKINGS: [(&str, &str, u16); 3] =
    [("first", "fifty", 1), ("ranked", "fifty", 4), ("ranked", "many", 4)];

const PERSISTENT: Policy = Policy::Persistent(Persistence::DEFAULT);

/// Each service has one pool, or one of these lists of tiers.
const TIERS: [&[&str]; 4] =
    [&["down", "healthy"], &["ipv6", "ipv4"], &["disabled", "down", "unknown"], &["down", "ipv6down"]];

#[derive(Clone, Copy)]
enum Families {
    Both,
    Ipv4,
    Ipv6,
}

#[derive(Clone, Copy)]
enum State {
    All(Standing),
    /// Healthy, unhealthy and unknown in turn; every fourth backend has weight 0.
    Mixed,
    /// Configured but disabled.
    Disabled,
}

/// The configurable sizes of UDP replies.
const PAYLOADS: [u16; 4] = [512, 1232, 1400, 4096];

/// The secret of server cookies.
const SECRET: [u8; 16] = *b"a secret of test";

/// The name of the key for signed requests.
pub(crate) const KEY_NAME: &str = "key.example";

/// The time of all queries, seconds since 1970.
pub(crate) const NOW: u32 = 1_800_000_000;

/// One set of zones, services and pools under different settings, and names for queries.
pub(crate) struct World {
    tables: Vec<Table>,
    /// See [`World::table_of_many_networks`].
    many_networks: OnceLock<Table>,
    /// A key for signed requests.
    pub(crate) keys: Keys,
    /// In wire form: the names of all zones and services, and names beside, above and below them.
    pub(crate) names: Vec<Vec<u8>>,
}

impl World {
    pub(crate) fn new() -> Self {
        let services = services();
        let zones: Vec<Zone> = ZONES.iter().map(|(apex, text)| zone(apex, text, &services)).collect();
        let names = names(&zones);
        let first = table(zones, services);
        let tables = settings().map(|settings| with_settings(&first, settings)).collect();
        let key = Key::new(Name::parse(KEY_NAME).unwrap(), Algorithm::HmacSha256, b"nobody knows it");
        Self { tables, many_networks: OnceLock::new(), keys: [key].into_iter().collect(), names }
    }

    /// A single table.
    pub(crate) fn into_table(mut self) -> Table {
        self.tables.swap_remove(0)
    }

    /// The table with default settings.
    pub(crate) fn table(&self) -> &Table {
        self.table_under(1, false, 0)
    }

    /// The table with default settings, in which the rule of `one.rules` has a million networks.
    pub(crate) fn table_of_many_networks(&self) -> &Table {
        self.many_networks.get_or_init(|| {
            // Numbers that are spread over the address space. None has a factor in common with 2^32.
            let networks = (0..1_000_000_u32).map(|index| {
                Network::around(Ipv4Addr::from_bits(index.wrapping_mul(2_654_435_761)).into(), 24, 0)
            });
            self.table()
                .clone()
                .with_rule_tables([rule_table(networks.chain(client_network()).collect())].into())
        })
    }

    /// The table for these settings, each number modulo its choices: size of UDP replies; whether
    /// NSID and version are answered and client subnets believed; cookies off, on or required.
    pub(crate) fn table_under(&self, payload: u8, open: bool, cookies: u8) -> &Table {
        let payload = usize::from(payload) % PAYLOADS.len();
        let cookies = usize::from(cookies % 3);
        &self.tables[(payload * 2 + usize::from(open)) * 3 + cookies]
    }
}

/// All settings, in the order of [`World::table_under`].
fn settings() -> impl Iterator<Item = Settings> {
    PAYLOADS.into_iter().flat_map(|udp_payload| {
        [false, true].into_iter().flat_map(move |open| {
            [None, Some(false), Some(true)].into_iter().map(move |required| Settings {
                udp_payload,
                nsid: open.then(|| [b'n'; MAX_NSID].into()),
                cookies: required.map(|required| Cookies { secrets: secrets(), required }),
                client_subnet: open.then(|| "192.0.2.0/24".parse().unwrap()).into_iter().collect(),
                chaos: if open { Chaos::Version } else { Chaos::Refuse },
                ..Settings::default()
            })
        })
    })
}

/// The secrets of server cookies.
pub(crate) fn secrets() -> CookieSecrets {
    CookieSecrets::new(vec![SECRET]).unwrap()
}

/// A table of one zone without services.
pub(crate) fn table_of(zone: Zone) -> Table {
    table(vec![zone], Vec::new())
}

fn table(zones: Vec<Zone>, services: Vec<Service>) -> Table {
    let services = Services::new(services);
    let pools = POOLS.iter().map(|(name, families, count, state)| pool(name, *families, *count, *state));
    Table::new(
        1,
        Arc::default(),
        Arc::new(Catalog::new(zones)),
        Arc::new(services),
        pools,
        SmallRng::seed_from_u64(1),
    )
    .with_rule_tables([rule_table(client_network().collect())].into())
}

/// The network of the clients for whom the rule of `one.rules` is.
fn client_network() -> impl Iterator<Item = Network> {
    std::iter::once("192.0.2.128/25".parse().unwrap())
}

fn rule_table(networks: Vec<Network>) -> Arc<RuleTable> {
    Arc::new(RuleTable::compile(&[Conditions { networks: Some(networks), ..Conditions::default() }], &[]))
}

fn with_settings(table: &Table, settings: Settings) -> Table {
    let mut table = table.clone();
    table.settings = Arc::new(settings);
    table
}

fn zone(apex: &str, text: &str, services: &[Service]) -> Zone {
    let apex = Name::parse(apex).unwrap();
    let mut load = |_: &Path| Ok(text.as_bytes().to_vec());
    let mut zone =
        reader::read(Path::new("zone"), &apex, &mut load).unwrap_or_else(|faults| panic!("{faults:?}"));
    if Name::parse(HOME).unwrap().parent().unwrap() == apex {
        for (id, service) in (0..).zip(services) {
            zone.builder().bind_service(service.name.wire(), ServiceId(id)).unwrap();
        }
    }
    zone.finish().unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn pool(name: &str, families: Families, count: u16, state: State) -> Arc<PoolView> {
    let addresses = |index: u16| {
        let [high, low] = index.to_be_bytes();
        let ipv4 = IpAddr::V4(Ipv4Addr::new(198, 51, 100 + high, low));
        let ipv6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, index));
        match families {
            Families::Both => vec![ipv4, ipv6],
            Families::Ipv4 => vec![ipv4],
            Families::Ipv6 => vec![ipv6],
        }
    };
    let backend = |index: u16| Backend {
        weight: if matches!(state, State::Mixed) && index % 4 == 3 { 0 } else { u32::from(index % 7) + 1 },
        enabled: !matches!(state, State::Disabled),
        ..Backend::new(format!("{name}{index}"), addresses(index))
    };
    let backends = (0..count).map(backend).collect();
    let pool = Pool::new(name, backends);
    let standing = |backend: usize| match state {
        State::All(standing) => standing,
        State::Mixed => [Standing::Healthy, Standing::Unhealthy, Standing::Unknown][backend % 3],
        State::Disabled => Standing::Healthy,
    };
    Arc::new(PoolView::build(&pool, None, |backend, _| standing(backend).into()))
}

/// `<policy>.<pools>.<when down>.svc.example` in all combinations, those of [`DRAWS`] and [`RANKINGS`], and a wildcard.
fn services() -> Vec<Service> {
    let mut services = Vec::new();
    let singles = POOLS.iter().take(COMBINED).map(|(name, ..)| vec![*name]);
    for pools in singles.chain(TIERS.iter().map(|pools| pools.to_vec())) {
        let tiers: Vec<PoolId> = pools.iter().map(|name| pool_id(name)).collect();
        for (down, when_down) in [
            ("failopen", WhenDown::FailOpen),
            ("nodata", WhenDown::NoData),
            ("servfail", WhenDown::ServFail),
            ("fixed", WhenDown::Addresses { ipv4: vec![Ipv4Addr::new(203, 0, 113, 1)], ipv6: Vec::new() }),
        ] {
            for (word, policy, answers) in [
                ("weighted", Policy::Weighted, Answers::AtMost(2)),
                ("all", Policy::All, Answers::All),
                ("persistent", PERSISTENT, Answers::AtMost(2)),
            ] {
                let name = Name::parse(&format!("{word}.{}.{down}.{HOME}", pools.join("-"))).unwrap();
                let when_down = when_down.clone();
                let service = Service::new(name, tiers.clone());
                let default = Route { answers, when_down, ..service.default };
                services.push(Service { default, policy, ..service });
            }
        }
    }
    let weighted = |name: String, pool: &str, answers: u16, ttl: u32| {
        let service = Service::new(Name::parse(&name).unwrap(), vec![pool_id(pool)]);
        let (answers, ttl) = (Answers::AtMost(answers), Ttl::fixed(ttl));
        Service { default: Route { answers, ttl, ..service.default }, ..service }
    };
    for (label, pool, answers) in DRAWS {
        services.push(weighted(format!("{label}.{pool}.{HOME}"), pool, answers, 20));
    }
    for (label, pool, answers) in RANKINGS {
        let service = weighted(format!("{label}.{pool}.{HOME}"), pool, answers, 20);
        services.push(Service { policy: PERSISTENT, ..service });
    }
    services.push(weighted(format!("*.{HOME}"), "healthy", 8, 0));
    // One rule: most clients are not in its network, and get two addresses.
    let one = weighted(format!("one.rules.{HOME}"), "eight", 1, 5).default;
    let clients = Conditions { networks: Some(client_network().collect()), ..Conditions::default() };
    services.push(Service {
        rules: vec![Rule { clients, networks_file: None, route: one }],
        rule_table: Some(RuleTableId(0)),
        ..weighted(format!("one.rules.{HOME}"), "eight", 2, 20)
    });
    services
}

fn pool_id(name: &str) -> PoolId {
    let index = POOLS.iter().position(|(other, ..)| *other == name).unwrap();
    PoolId(u32::try_from(index).unwrap())
}

/// Every name in the zones, a name below each, and some outside all zones.
fn names(zones: &[Zone]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> =
        ["", "com", "elsewhere", "xexample", "a.b.c.elsewhere", "nothing.example", "arpa"]
            .iter()
            .map(|name| if name.is_empty() { vec![0] } else { super::query::wire(name) })
            .collect();
    for node in zones.iter().flat_map(Zone::nodes) {
        names.push(node.name().to_vec());
        let below = [b"\x01x", node.name()].concat();
        if below.len() <= 255 {
            names.push(below);
        }
    }
    names.sort();
    names.dedup();
    names
}
