//! Reloads every key of pools, checks and services: the reported change, and which probes and
//! counters continue.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use crate::check::{
    ClientFiles, ExecProbe, Expected, GrpcProbe, HttpProbe, ProxyProtocol, Talk, TlsProbe, TlsSettings,
    Version,
};
use crate::checker::tests::*;
use crate::pool::MinHealthy;
use crate::reload::named::{Change, Difference};
use crate::reload::swap::swap;
use crate::rules::{Conditions, RuleTable, RuleTableId};
use crate::service::{Failback, Persistence, Rule, Ttl};
use crate::settings::Chaos;
use crate::zone::{Zone, ZoneBuilder, rtype};

pub(super) fn zone(name: &str, serial: u32, address: [u8; 4]) -> Zone {
    let apex = Name::parse(name).unwrap();
    let wire = apex.wire();
    let mut builder = ZoneBuilder::new(wire);
    let mut soa = [wire, wire].concat();
    for number in [serial, 1, 1, 1, 1] {
        soa.extend(number.to_be_bytes());
    }
    builder.add(wire, rtype::SOA, 60, &soa, 0).unwrap();
    builder.add(wire, rtype::NS, 60, wire, 0).unwrap();
    builder.add(wire, rtype::A, 60, &address, 0).unwrap();
    builder.finish().unwrap()
}

/// A check of every kind.
fn checks() -> Vec<Check> {
    let tls = TlsSettings { name: Some("a.example".into()), ..TlsSettings::default() };
    let probes = [
        ("http", Probe::Http(HttpProbe::get(1, "/a"))),
        ("https", Probe::Http(HttpProbe { tls: Some(tls.clone()), ..HttpProbe::get(2, "/a") })),
        ("tcp", Probe::Tcp(TcpProbe::connect(3))),
        ("tls", Probe::Tls(TlsProbe::handshake(4, tls.clone()))),
        ("grpc", Probe::Grpc(GrpcProbe::of_server(5))),
        ("exec", Probe::Exec(ExecProbe { program: "/bin/a".into(), arguments: Vec::new(), port: None })),
    ];
    probes.map(|(name, probe)| Check { name: name.into(), ..Check::new(probe, DEFAULTS) }).into()
}

/// Backend `one` serves and `two` refuses.
fn base() -> Served {
    let backends = vec![
        Backend { name: "one".into(), ..backend("192.0.2.1") },
        Backend { name: "two".into(), ..backend("192.0.2.2") },
    ];
    let web = PoolSetup { checks: checks(), ..pool("web", None, backends) };
    let catalog = Catalog::new(vec![zone("example.com", 1, [192, 0, 2, 80])]);
    let plain = service(&[0, 1]);
    let clients = Conditions { networks: Some(vec!["10.0.0.0/8".parse().unwrap()]), ..Conditions::default() };
    let rule_tables = vec![Arc::new(RuleTable::compile(slice::from_ref(&clients), &[]))];
    let rule = Rule { clients, networks_file: None, route: plain.default.clone() };
    let by_client = Service { rules: vec![rule], rule_table: Some(RuleTableId(0)), ..plain };
    let pools = vec![web, pool_of("spare", None, &["192.0.2.9"])];
    Served { catalog, rule_tables, ..setup(pools, vec![by_client]) }
}

type Edit = Box<dyn Fn(&mut Served)>;

/// The targets that a change restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Anew {
    Nothing,
    /// The targets of this check, for both backends.
    Check(&'static str),
    /// All targets of the first backend.
    FirstBackend,
    /// The targets of the first backend whose check sends a host.
    FirstHost,
}

fn change(at: impl Fn(&mut Served) + 'static) -> Edit {
    Box::new(at)
}

fn of_check(name: &'static str, at: impl Fn(&mut Check) + 'static) -> Edit {
    change(move |setup| at(setup.pools[0].checks.iter_mut().find(|check| check.name == name).unwrap()))
}

fn of_http(at: impl Fn(&mut HttpProbe) + 'static) -> Edit {
    of_check("http", move |check| {
        let Probe::Http(probe) = &mut check.probe else { panic!("not http") };
        at(probe);
    })
}

fn of_tls(at: impl Fn(&mut TlsProbe) + 'static) -> Edit {
    of_check("tls", move |check| {
        let Probe::Tls(probe) = &mut check.probe else { panic!("not tls") };
        at(probe);
    })
}

fn of_backend(at: impl Fn(&mut Backend) + 'static) -> Edit {
    change(move |setup| at(&mut setup.pools[0].pool.backends[0]))
}

fn of_service(at: impl Fn(&mut Service) + 'static) -> Edit {
    change(move |setup| at(&mut setup.services[0]))
}

fn of_rule(at: impl Fn(&mut Rule) + 'static) -> Edit {
    change(move |setup| at(&mut setup.services[0].rules[0]))
}

fn pool_keys() -> Vec<(&'static str, Anew, Edit)> {
    let pool = |at: fn(&mut PoolSetup)| change(move |setup| at(&mut setup.pools[0]));
    let nothing = Anew::Nothing;
    vec![
        ("min_healthy 1 -> 50%", nothing, pool(|pool| pool.pool.min_healthy = MinHealthy::Percent(50))),
        ("slow_start 0s -> 30s", nothing, pool(|pool| pool.pool.slow_start = SECOND * 30)),
        ("suspect_self 90% -> off", nothing, pool(|pool| pool.pool.suspect_self = None)),
        ("require all -> 6", nothing, pool(|pool| pool.require = Require::AtLeast(6))),
        ("the order of its backends or checks", nothing, pool(|pool| pool.pool.backends.reverse())),
        ("check tcp removed", nothing, pool(|pool| drop(pool.checks.remove(2)))),
        ("backend one: weight 1 -> 3", nothing, of_backend(|backend| backend.weight = 3)),
        ("backend one: site none -> a", nothing, of_backend(|backend| backend.site = Some("a".into()))),
        ("backend one: port none -> 99", Anew::FirstBackend, of_backend(|backend| backend.port = Some(99))),
        (
            "backend one: host none -> h.example",
            Anew::FirstHost,
            of_backend(|backend| backend.host = Some("h.example".into())),
        ),
        (
            "backend one: check_address none -> 192.0.2.77",
            Anew::FirstBackend,
            of_backend(|backend| backend.check_address = Some("192.0.2.77".parse().unwrap())),
        ),
        (
            "backend one: addresses 192.0.2.1 -> 192.0.2.1, 2001:db8::1",
            nothing,
            of_backend(|backend| backend.addresses.push("2001:db8::1".parse().unwrap())),
        ),
    ]
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn check_keys() -> Vec<(&'static str, Anew, Edit)> {
    let timing = |at: fn(&mut Timing)| of_check("tcp", move |check| at(&mut check.timing));
    let anew = Anew::Check("tcp");
    let mut keys = vec![
        ("check tcp: interval 5s -> 4s", anew, timing(|timing| timing.interval = SECOND * 4)),
        ("check tcp: timeout 2s -> 1s", anew, timing(|timing| timing.timeout = SECOND)),
        ("check tcp: rise 2 -> 5", anew, timing(|timing| timing.rise = 5)),
        ("check tcp: fall 3 -> 5", anew, timing(|timing| timing.fall = 5)),
        ("check tcp: recheck 1s -> 2s", anew, timing(|timing| timing.recheck = SECOND * 2)),
        ("check tcp: interval_down 5s -> 9s", anew, timing(|timing| timing.interval_down = SECOND * 9)),
        ("check tcp: damping true -> false", anew, timing(|timing| timing.damping = false)),
        ("check tcp: critical false -> true", Anew::Nothing, of_check("tcp", |check| check.critical = true)),
        (
            "check tcp: observe_only false -> true",
            Anew::Nothing,
            of_check("tcp", |check| check.observe_only = true),
        ),
        (
            "check tcp: type tcp -> http",
            anew,
            of_check("tcp", |check| check.probe = Probe::Http(HttpProbe::get(3, "/x"))),
        ),
        (
            "check tcp: port 3 -> 33",
            anew,
            of_check("tcp", |check| check.probe = Probe::Tcp(TcpProbe::connect(33))),
        ),
    ];
    let expect = || Some(Expected::Text(b"\"ok\"".to_vec()));
    let of_talk = |at: fn(&mut Talk)| of_tls(move |probe| at(&mut probe.talk));
    let settings = |at: fn(&mut TlsSettings)| of_tls(move |probe| at(&mut probe.tls));
    let anew = Anew::Check("tls");
    keys.extend([
        ("check tls: send changed", anew, of_talk(|talk| talk.send = Some(b"PING".to_vec()))),
        ("check tls: expect changed", anew, of_tls(move |probe| probe.talk.expect = expect())),
        (
            "check tls: tls.name a.example -> b.example",
            anew,
            settings(|tls| tls.name = Some("b.example".into())),
        ),
        ("check tls: tls.verify true -> false", anew, settings(|tls| tls.insecure = true)),
        (
            "check tls: tls.ca_file none -> /ca.pem",
            anew,
            settings(|tls| tls.ca_file = Some("/ca.pem".into())),
        ),
        ("check tls: tls.min_days_left none -> 7", anew, settings(|tls| tls.min_days_left = Some(7))),
        (
            "check tls: tls.client_certificate none -> /c.pem; check tls: tls.client_key none -> /k.pem",
            anew,
            settings(|tls| {
                tls.client = Some(ClientFiles { certificate: "/c.pem".into(), key: "/k.pem".into() });
            }),
        ),
        ("check tls: proxy_protocol none -> v2", anew, of_tls(|probe| probe.proxy = Some(ProxyProtocol::V2))),
    ]);
    let anew = Anew::Check("http");
    keys.extend([
        ("check http: http_version default -> 2", anew, of_http(|probe| probe.version = Version::Http2)),
        ("check http: method GET -> HEAD", anew, of_http(|probe| probe.method = "HEAD".into())),
        ("check http: host none -> h.example", anew, of_http(|probe| probe.host = Some("h.example".into()))),
        ("check http: path /a -> /b", anew, of_http(|probe| probe.path = "/b".into())),
        (
            "check http: headers changed",
            anew,
            of_http(|probe| probe.headers = vec![("A".into(), "b".into())]),
        ),
        (
            "check http: status 200-299 -> 200, 300-301",
            anew,
            of_http(|probe| probe.status = vec![200..=200, 300..=301]),
        ),
        ("check http: drain_status none -> 503", anew, of_http(|probe| probe.drain_status = vec![503..=503])),
        (
            "check http: body changed",
            anew,
            of_http(|probe| {
                probe.body = Some(Expected::Pattern(crate::check::Pattern::new("o.").unwrap()));
            }),
        ),
        (
            "check http: body changed",
            anew,
            of_http(|probe| {
                (probe.body, probe.body_without) = (Some(Expected::Text(b"a".to_vec())), true);
            }),
        ),
        (
            "check http: proxy_protocol none -> v1",
            anew,
            of_http(|probe| probe.proxy = Some(ProxyProtocol::V1)),
        ),
        ("check http: body_limit 65536 bytes -> 1 bytes", anew, of_http(|probe| probe.body_limit = 1)),
        (
            "check http: weight_header none -> X-Load",
            anew,
            of_http(|probe| probe.weight_header = Some("X-Load".into())),
        ),
        ("check http: type http -> https", anew, of_http(|probe| probe.tls = Some(TlsSettings::default()))),
    ]);
    keys.extend(grpc_and_exec_keys());
    keys
}

fn grpc_and_exec_keys() -> Vec<(&'static str, Anew, Edit)> {
    let grpc = |at: fn(&mut GrpcProbe)| {
        of_check("grpc", move |check| {
            let Probe::Grpc(probe) = &mut check.probe else { panic!("not grpc") };
            at(probe);
        })
    };
    let exec = |at: fn(&mut ExecProbe)| {
        of_check("exec", move |check| {
            let Probe::Exec(probe) = &mut check.probe else { panic!("not exec") };
            at(probe);
        })
    };
    let (of_grpc, of_exec) = (Anew::Check("grpc"), Anew::Check("exec"));
    vec![
        ("check grpc: service \"\" -> \"s\"", of_grpc, grpc(|probe| probe.service = "s".into())),
        ("check grpc: host none -> h", of_grpc, grpc(|probe| probe.host = Some("h".into()))),
        (
            "check grpc: headers changed",
            of_grpc,
            grpc(|probe| probe.headers = vec![("a".into(), "b".into())]),
        ),
        ("check grpc: tls off -> on", of_grpc, grpc(|probe| probe.tls = Some(TlsSettings::default()))),
        ("check exec: program /bin/a -> /bin/b", of_exec, exec(|probe| probe.program = "/bin/b".into())),
        ("check exec: arguments changed", of_exec, exec(|probe| probe.arguments = vec!["-x".into()])),
        ("check exec: port none -> 7", of_exec, exec(|probe| probe.port = Some(7))),
    ]
}

fn other_keys() -> Vec<(&'static str, Anew, Edit)> {
    let nothing = Anew::Nothing;
    vec![
        ("pools web, spare -> spare, web", nothing, of_service(|service| service.default.tiers.reverse())),
        ("answers 2 -> all", nothing, of_service(|service| service.default.answers = Answers::All)),
        ("ttl 20s -> 30s", nothing, of_service(|service| service.default.ttl = Ttl::fixed(30))),
        ("ttl 20s -> 5s to 1m", nothing, of_service(|service| service.default.ttl = Ttl { min: 5, max: 60 })),
        ("policy weighted -> all", nothing, of_service(|service| service.policy = Policy::All)),
        (
            "persistence none -> /24 and /48",
            nothing,
            of_service(|service| {
                service.policy = Policy::Persistent(Persistence { ipv4: 24, ipv6: 48 });
            }),
        ),
        (
            "policy weighted -> persistent",
            nothing,
            of_service(|service| {
                service.policy = Policy::Persistent(Persistence::DEFAULT);
            }),
        ),
        ("rule 1: ttl 20s -> 30s", nothing, of_rule(|rule| rule.route.ttl = Ttl::fixed(30))),
        ("rule 1: networks 10.0.0.0/8 -> any", nothing, of_rule(|rule| rule.clients.networks = None)),
        ("rule 1: networks_file none -> a", nothing, of_rule(|rule| rule.networks_file = Some("a".into()))),
        ("rule 1: asns any -> 7, 8", nothing, of_rule(|rule| rule.clients.asns = vec![7, 8])),
        ("rule 1 removed", nothing, of_service(|service| service.rules.clear())),
        (
            "the networks in the files of its rules, or the geographic databases",
            nothing,
            change(|setup| setup.rule_tables = vec![Arc::new(RuleTable::compile(&[], &[]))]),
        ),
        ("spread shares -> always", nothing, of_service(|service| service.spread = Spread::Always)),
        ("failback auto -> manual", nothing, of_service(|service| service.failback = Failback::Manual)),
        (
            "failback auto -> 10m",
            nothing,
            of_service(|service| service.failback = Failback::After(Duration::from_secs(600))),
        ),
        (
            "when_down fail-open -> nodata",
            nothing,
            of_service(|service| service.default.when_down = WhenDown::NoData),
        ),
        (
            "when_down fail-open -> 192.0.2.1",
            nothing,
            of_service(|service| {
                let ipv4 = vec!["192.0.2.1".parse().unwrap()];
                service.default.when_down = WhenDown::Addresses { ipv4, ipv6: Vec::new() };
            }),
        ),
        (
            "mail.example.com added",
            nothing,
            change(|setup| {
                let name = Name::parse("mail.example.com").unwrap();
                setup.services.insert(0, Service { name, ..service(&[1]) });
            }),
        ),
        ("new added", nothing, change(|setup| setup.pools.push(pool_of("new", None, &["192.0.2.8"])))),
        (
            "serial 1 -> 2",
            nothing,
            change(|setup| {
                setup.catalog = Catalog::new(vec![zone("example.com", 2, [192, 0, 2, 80])]);
            }),
        ),
        (
            "3 records; its content has changed, though its serial is still 1",
            nothing,
            change(|setup| {
                setup.catalog = Catalog::new(vec![zone("example.com", 1, [192, 0, 2, 81])]);
            }),
        ),
        ("example.com removed", nothing, change(|setup| setup.catalog = Catalog::new(Vec::new()))),
        ("settings", nothing, change(|setup| setup.settings.chaos = Chaos::Version)),
    ]
}

/// Whether a target has had an outcome, by backend and by name of the check.
fn had_outcomes(pool: &Told) -> Vec<(String, String, bool)> {
    let backends = pool.backends.iter();
    let addresses = backends.map(|backend| (backend, &backend.addresses[0]));
    let checks =
        addresses.flat_map(|(backend, address)| address.checks.iter().map(move |check| (backend, check)));
    let mut all: Vec<_> = checks
        .map(|(backend, check)| {
            (backend.name.to_string(), check.name.to_string(), !check.outcomes.is_empty())
        })
        .collect();
    all.sort();
    all
}

/// The difference as text.
fn told(difference: &Difference) -> String {
    let changes = difference.pools.iter().chain(&difference.services).chain(&difference.zones);
    let changes = changes.map(|change| match change {
        Change::Added(name) => format!("{name} added"),
        Change::Removed(name) => format!("{name} removed"),
        Change::Changed(name, details) => format!("{name}: {}", details.join("; ")),
    });
    let settings = difference.settings.then(|| "settings".to_owned());
    changes.chain(settings).collect::<Vec<_>>().join("\n")
}

#[tokio::test(start_paused = true)]
async fn every_key_is_told_and_only_what_it_is_about_begins_anew() {
    let keys: Vec<_> = pool_keys().into_iter().chain(check_keys()).chain(other_keys()).collect();
    for (expected, anew, change) in keys {
        let (handle, script) = run(base());
        script.set("192.0.2.2", Behaviour::Refuse);
        ready(&handle).await;
        let generation = handle.published.load().generation;
        let mut changed = base();
        change(&mut changed);
        let difference = swap(&handle, changed, "a test").await.unwrap();
        let told = told(&difference);
        assert!(told.contains(expected), "{expected} is not in {told}");
        let count =
            [&difference.pools, &difference.services, &difference.zones].map(Vec::len).iter().sum::<usize>()
                + usize::from(difference.settings);
        assert_eq!(count, 1, "nothing else is told: {told}");
        assert_eq!(difference.generation, generation + 1);
        assert_eq!(handle.published.load().generation, generation + 1);

        let web = pool_told(&handle, 0).await;
        for backend in &web.backends {
            let expected_standing =
                if &*backend.name == "one" { Standing::Healthy } else { Standing::Unhealthy };
            assert_eq!(backend.addresses[0].standing, expected_standing, "{expected}: {}", backend.name);
        }
        for (backend, check, had) in had_outcomes(&web) {
            let is_anew = match anew {
                Anew::Nothing => false,
                Anew::Check(name) => check == name,
                Anew::FirstBackend => backend == "one",
                Anew::FirstHost => backend == "one" && check != "exec" && check != "tcp",
            };
            assert_eq!(had, !is_anew, "{expected}: {backend} {check}");
        }
        // And back: the change is undone completely.
        let difference = swap(&handle, base(), "a test").await.unwrap();
        assert_eq!(difference.generation, generation + 2, "{expected}");
        let again = swap(&handle, base(), "a test").await.unwrap();
        assert!(again.is_empty(), "{expected}: {again:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn secrets_are_not_told() {
    let with = |secret: &str| {
        let mut setup = base();
        let value = secret.to_owned();
        of_http(move |probe| {
            probe.headers = vec![("Authorization".into(), value.clone())];
            probe.path = format!("/healthz?token={value}");
            probe.body = Some(Expected::Text(value.clone().into()));
        })(&mut setup);
        let value = secret.to_owned();
        of_check("exec", move |check| {
            let Probe::Exec(probe) = &mut check.probe else { panic!("not exec") };
            probe.arguments = vec!["--password".into(), value.clone()];
        })(&mut setup);
        let value = secret.to_owned();
        of_tls(move |probe| probe.talk.expect = Some(Expected::Text(value.clone().into())))(&mut setup);
        let value = secret.to_owned();
        of_tls(move |probe| probe.talk.send = Some(value.clone().into()))(&mut setup);
        setup
    };
    let (handle, _script) = run(with("secret1"));
    let difference = swap(&handle, with("secret2"), "a test").await.unwrap();
    let told = format!("{difference:?}");
    for changed in [
        "check http: headers changed",
        "check http: query changed",
        "check http: body changed",
        "check tls: expect changed",
        "check tls: send changed",
        "check exec: arguments changed",
    ] {
        assert!(told.contains(changed), "{changed}: {told}");
    }
    assert!(!told.contains("secret"), "{told}");
}
