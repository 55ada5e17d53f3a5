//! A reload keeps unchanged parts, and reports the differences.

use std::sync::Arc;
use std::time::Duration;

use crate::checker::tests::*;
use crate::checker::{CheckerCommand, CheckerHandle, PULSE};
use crate::counters::CounterRow;
use crate::keys::{Algorithm, Key};
use crate::pool::Override;
use crate::reload::named::{Change, Difference};
use crate::reload::swap::swap;
use crate::rules::{Conditions, RuleTable, RuleTableId};
use crate::service::{Rule, ServiceId, Ttl};
use crate::settings::Allowed;

const TWO: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

async fn reload(handle: &CheckerHandle, served: Served) -> Difference {
    swap(handle, served, "a test").await.unwrap()
}

fn web(timing: Timing, addresses: &[&str]) -> Served {
    setup(vec![pool_of("web", check(timing), addresses)], vec![service(&[0])])
}

fn changed(difference: &Difference) -> String {
    format!("{:?} {:?} {:?}", difference.pools, difference.services, difference.zones)
}

#[tokio::test(start_paused = true)]
async fn without_a_difference_nothing_happens() {
    let (handle, script) = run(web(DEFAULTS, &TWO));
    ready(&handle).await;
    let before = handle.published.load();
    let difference = reload(&handle, web(DEFAULTS, &TWO)).await;
    assert!(difference.is_empty());
    assert_eq!(difference.generation, before.generation);
    assert!(Arc::ptr_eq(&before, &handle.published.load()));
    tokio::time::sleep(SECOND * 50).await;
    assert!((10..=12).contains(&script.started("192.0.2.1")), "no probe more or less");
}

/// Two services with a rule each, for different networks. `order` is that of the services in the configuration.
fn two_by_client(order: [&str; 2]) -> Served {
    let conditions = |name: &str| {
        let network = if name == "a.example.com" { "10.0.0.0/8" } else { "11.0.0.0/8" };
        Conditions { networks: Some(vec![network.parse().unwrap()]), ..Conditions::default() }
    };
    let by_client = |(name, id): (&str, u32)| {
        let plain = service(&[0]);
        let rule = Rule { clients: conditions(name), networks_file: None, route: plain.default.clone() };
        let rule_table = Some(RuleTableId(id));
        Service { name: Name::parse(name).unwrap(), rules: vec![rule], rule_table, ..plain }
    };
    let services = order.into_iter().zip(0..).map(by_client).collect();
    let tables = order.map(|name| Arc::new(RuleTable::compile(&[conditions(name)], &[])));
    Served { rule_tables: tables.to_vec(), ..setup(vec![pool_of("web", check(DEFAULTS), &TWO)], services) }
}

/// Replaced files are compiled in the order of the last configuration, even if only the order was new in it.
#[tokio::test(start_paused = true)]
async fn services_in_another_order_have_rule_tables_with_other_numbers() {
    let (handle, _) = run(two_by_client(["a.example.com", "b.example.com"]));
    ready(&handle).await;
    let swapped = two_by_client(["b.example.com", "a.example.com"]);
    let compiled_later = swapped.rule_tables.clone();
    let difference = reload(&handle, swapped).await;
    assert_eq!(changed(&difference), "[] [] []", "nothing to report");
    let replaced = ask(&handle, |reply| CheckerCommand::RuleTables(compiled_later.into(), reply)).await;
    assert!(replaced);
    let table = handle.published.load();
    for (name, client) in [("a.example.com", [10, 0, 0, 1]), ("b.example.com", [11, 0, 0, 1])] {
        let name = Name::parse(name).unwrap();
        let service = table.services().iter().find(|view| view.service.name == name).unwrap();
        assert_eq!(table.route(service, || client.into()).0.index.rule(), Some(1), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_target_keeps_its_counts_its_timer_and_the_probe_in_flight() {
    let (handle, script) = run(web(DEFAULTS, &TWO));
    ready(&handle).await;
    script.set("192.0.2.1", Behaviour::Hang);
    let count = script.started("192.0.2.1");
    until("a probe hangs", SECOND * 20, || script.started("192.0.2.1") == count + 1).await;
    let began = Instant::now();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let difference = reload(&handle, web(DEFAULTS, &["192.0.2.3", "192.0.2.1", "192.0.2.2"])).await;
    assert!(changed(&difference).contains("backend 192.0.2.3 added"), "{difference:?}");
    assert_eq!(script.started("192.0.2.1"), count + 1, "it goes on, and no other has started");
    tokio::time::sleep(Duration::from_millis(1600)).await;
    assert_eq!(script.started("192.0.2.1"), count + 1, "the recheck comes a second later");
    tokio::time::sleep(SECOND).await;
    reload(&handle, web(DEFAULTS, &TWO)).await;
    assert_eq!(script.started("192.0.2.1"), count + 2);
    until("it is dead", SECOND * 20, || eligible(&handle, 0) == ["192.0.2.2"]).await;
    assert_eq!(script.started("192.0.2.1"), count + 3, "the third failure in a row, across two reloads");
    assert!(began.elapsed() < SECOND * 9);
}

#[tokio::test(start_paused = true)]
async fn a_changed_check_keeps_the_verdict_and_counts_anew() {
    let (log, _guard) = CapturedLog::listen();
    let (handle, script) = run(web(DEFAULTS, &TWO));
    script.set("192.0.2.1", Behaviour::Refuse);
    ready(&handle).await;
    let since = status(&handle).await.pools[0].backends[0].addresses[0].since;
    log.take("");
    script.set("192.0.2.1", Behaviour::Serve);
    let count = script.started("192.0.2.1");
    until("it has passed once", SECOND * 20, || script.started("192.0.2.1") > count).await;
    // Another name, port and interval: still the only check of the pool.
    let other = Timing { interval: SECOND * 4, rise: 3, ..DEFAULTS };
    let renamed = Check { name: "other".into(), ..tcp(81, other) };
    let difference = reload(&handle, setup(vec![pool_of("web", renamed, &TWO)], vec![service(&[0])])).await;
    assert!(changed(&difference).contains("check other added"), "{difference:?}");
    let address = status(&handle).await.pools[0].backends[0].addresses[0].clone();
    assert_eq!((address.standing, address.since), (Standing::Unhealthy, since));
    assert_eq!(address.checks[0].last, None, "of the new check nothing has been");
    assert_eq!(eligible(&handle, 0), ["192.0.2.2"]);
    let took = until("it is back", SECOND * 20, || eligible(&handle, 0).len() == 2).await;
    assert_eq!(script.started_on("192.0.2.1", 81), 3, "three in a row, none of them from before");
    assert!(took >= SECOND * 2);
    assert!(*handle.ready.borrow());
    assert_eq!(log.take("backend is").len(), 1, "that it is back");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_new_says_what_the_address_was_until_it_has_spoken() {
    let (log, _guard) = CapturedLog::listen();
    let (handle, script) = run(web(DEFAULTS, &TWO));
    script.set("192.0.2.2", Behaviour::Refuse);
    ready(&handle).await;
    log.take("");
    let second = Check { name: "second".into(), ..tcp(81, DEFAULTS) };
    let both = || PoolSetup {
        checks: vec![check(DEFAULTS), second.clone()],
        require: Require::AtLeast(1),
        ..pool_of("web", None, &TWO)
    };
    script.set_on("192.0.2.1", 81, Behaviour::Hang);
    reload(&handle, setup(vec![both()], vec![service(&[0])])).await;
    let now = status(&handle).await;
    let standings = [0, 1].map(|backend: usize| now.pools[0].backends[backend].addresses[0].standing);
    assert_eq!(standings, [Standing::Healthy, Standing::Unhealthy]);
    assert!(now.pools[0].backends[0].addresses[0].checks[1].remembered);
    script.set_on("192.0.2.2", 81, Behaviour::Serve);
    until("the second is enough", SECOND * 5, || eligible(&handle, 0).len() == 2).await;
    assert_eq!(log.take("backend is").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_probed_no_more_and_its_probe_ends() {
    let metrics = Arc::new(Metrics::new(1));
    let script = Script::default();
    let handle = start_with(web(DEFAULTS, &TWO), CAPACITY, Arc::clone(&metrics), script.clone());
    ready(&handle).await;
    script.set("192.0.2.1", Behaviour::Hang);
    let count = script.started("192.0.2.1");
    until("a probe hangs", SECOND * 20, || script.started("192.0.2.1") == count + 1).await;
    assert_eq!(script.0.in_flight.load(Ordering::Relaxed), 1);
    let difference = reload(&handle, web(DEFAULTS, &["192.0.2.2"])).await;
    assert!(changed(&difference).contains("backend 192.0.2.1 removed"), "{difference:?}");
    until("it has ended", Duration::from_millis(100), || script.0.in_flight.load(Ordering::Relaxed) == 0)
        .await;
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(script.started("192.0.2.1"), count + 1);
    let text = metrics.render(&handle.published.load());
    assert!(!text.contains("192.0.2.1") && text.contains("192.0.2.2"), "{text}");
    assert!(text.contains("steerd_probes_in_flight 0"), "its slot is free: {text}");

    // A backend that returns has no history.
    reload(&handle, web(DEFAULTS, &TWO)).await;
    let back = status(&handle).await.pools[0].backends[0].addresses[0].clone();
    assert_eq!((back.standing, back.checks[0].last.is_none()), (Standing::Unknown, true));
    let empty = reload(&handle, setup(Vec::new(), Vec::new())).await;
    assert_eq!(empty.pools, [Change::Removed("web".into())]);
    assert!(!metrics.render(&handle.published.load()).contains("pool=\"web\""));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_another_pool_uses_stays() {
    let pools = |second: &[&str]| {
        vec![pool_of("one", check(DEFAULTS), &["192.0.2.1"]), pool_of("two", check(DEFAULTS), second)]
    };
    let (handle, script) = run(setup(pools(&TWO), vec![service(&[0])]));
    ready(&handle).await;
    reload(&handle, setup(pools(&["192.0.2.2"]), vec![service(&[0])])).await;
    tokio::time::sleep(SECOND * 50).await;
    assert!((10..=12).contains(&script.started("192.0.2.1")));
    script.set("192.0.2.1", Behaviour::Refuse);
    until("one hears of it", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
    assert_eq!(eligible(&handle, 1), ["192.0.2.2"]);
}

#[tokio::test(start_paused = true)]
async fn counts_of_answers_go_on_by_name() {
    let named = |names: &[&str]| {
        let backends = names
            .iter()
            .map(|name| Backend::new(*name, vec![format!("192.0.2.{}", &name[1..]).parse().unwrap()]));
        pool("web", check(DEFAULTS), backends.collect())
    };
    let standby = || pool_of("standby", None, &["192.0.2.9"]);
    let (handle, _script) = run(setup(vec![named(&["b1", "b2"]), standby()], vec![service(&[0, 1])]));
    ready(&handle).await;
    let old = handle.published.load();
    let backend = |table: &Table, pool: u32, index: usize, times: u64| {
        (0..times).for_each(|_| table.answers().count_backend(CounterRow::Shared, PoolId(pool), index));
    };
    let tier = |table: &Table, tier: usize, times: u64| {
        (0..times).for_each(|_| table.answers().count_service(CounterRow::Shared, ServiceId(0), tier));
    };
    backend(&old, 0, 0, 10);
    backend(&old, 0, 1, 20);
    tier(&old, 0, 1);
    tier(&old, 1, 2);
    tier(&old, 2, 3);
    // Pools, tiers and backends in a different order.
    let pools = vec![standby(), named(&["b3", "b2", "b1"])];
    reload(&handle, setup(pools, vec![service(&[0, 1])])).await;
    let new = handle.published.load();
    let of_backends = |table: &Table| [0, 1, 2].map(|index| table.answers().of_backend(PoolId(1), index));
    let of_tiers = |table: &Table| [0, 1, 2].map(|tier| table.answers().of_service(ServiceId(0), tier));
    assert_eq!(of_backends(&new), [0, 20, 10]);
    assert_eq!(of_tiers(&new), [2, 1, 3]);
    backend(&old, 0, 0, 1);
    tier(&old, 2, 1);
    assert_eq!(of_backends(&new), [0, 20, 11], "a thread that has not heard of it yet");
    assert_eq!(of_tiers(&new), [2, 1, 4]);
    reload(&handle, setup(vec![standby(), named(&["b3", "b2", "b1"])], vec![service(&[1])])).await;
    let last = handle.published.load();
    backend(&old, 0, 0, 1);
    backend(&new, 1, 0, 1);
    tier(&old, 2, 1);
    assert_eq!(of_backends(&last), [1, 20, 12]);
    assert_eq!(of_tiers(&last), [1, 5, 0], "two columns are left");
}

#[tokio::test(start_paused = true)]
async fn overrides_stay_with_their_backend_and_go_with_it() {
    let (log, _guard) = CapturedLog::listen();
    let (handle, _script) = run(web(DEFAULTS, &TWO));
    ready(&handle).await;
    let request = OverrideRequest {
        pool: "web".into(),
        backend: "192.0.2.1".into(),
        change: OverrideChange::State(Some(Override::Drain)),
        length: Some(SECOND * 30),
        reason: Some("kernel".into()),
        force: true,
        by: "a test".into(),
        expected: Precondition::default(),
    };
    let first = ask(&handle, |reply| CheckerCommand::Override(request, reply)).await.unwrap();
    let first = first.backend.overridden.clone();
    reload(&handle, web(DEFAULTS, &["192.0.2.3", "192.0.2.2", "192.0.2.1"])).await;
    let now = status(&handle).await;
    assert_eq!(now.pools[0].backends[2].overridden, first);
    assert!(!eligible(&handle, 0).contains(&"192.0.2.1".to_owned()));
    until("it ends in time", SECOND * 40, || eligible(&handle, 0).len() == 3).await;
    let again = OverrideRequest {
        pool: "web".into(),
        backend: "192.0.2.2".into(),
        change: OverrideChange::State(Some(Override::Down)),
        length: None,
        reason: None,
        force: true,
        by: "a test".into(),
        expected: Precondition::default(),
    };
    ask(&handle, |reply| CheckerCommand::Override(again, reply)).await.unwrap();
    log.take("");
    reload(&handle, web(DEFAULTS, &["192.0.2.1"])).await;
    let lines = log.take("override of a backend has ended");
    assert!(lines[0].contains("backend=\"192.0.2.2\" state=\"down\""), "{lines:?}");
    reload(&handle, web(DEFAULTS, &TWO)).await;
    assert_eq!(status(&handle).await.pools[0].backends[1].overridden, None);
}

#[tokio::test(start_paused = true)]
async fn a_shorter_ttl_does_not_make_it_safe_earlier() {
    let with_ttl = |ttl| {
        let mut long = service(&[0]);
        long.default.ttl = Ttl::fixed(ttl);
        setup(vec![pool_of("web", check(DEFAULTS), &TWO)], vec![long])
    };
    let (handle, script) = run(with_ttl(300));
    ready(&handle).await;
    let began = script.time_of_day();
    let difference = reload(&handle, with_ttl(10)).await;
    assert!(changed(&difference).contains("ttl 5m -> 10s"), "{difference:?}");
    let request = OverrideRequest {
        pool: "web".into(),
        backend: "192.0.2.1".into(),
        change: OverrideChange::State(Some(Override::Drain)),
        length: None,
        reason: None,
        force: true,
        by: "a test".into(),
        expected: Precondition::default(),
    };
    let now = ask(&handle, |reply| CheckerCommand::Override(request, reply)).await.unwrap();
    let safe_at = now.backend.overridden.as_ref().unwrap().safe_at.unwrap();
    assert!(safe_at >= began + SECOND * 300, "answers of before have the TTL of before");
}

#[tokio::test(start_paused = true)]
async fn services_are_told_by_name_across_reloads() {
    let (log, _guard) = CapturedLog::listen();
    let main = || pool_of("main", check(DEFAULTS), &["192.0.2.1"]);
    let standby = || pool_of("standby", check(DEFAULTS), &["192.0.2.2"]);
    let (handle, script) = run(setup(vec![main(), standby()], vec![service(&[0, 1])]));
    ready(&handle).await;
    log.take("");
    reload(&handle, setup(vec![standby(), main()], vec![service(&[1, 0])])).await;
    assert_eq!(log.take("service"), [""; 0], "the same pool answers");
    reload(&handle, setup(vec![standby(), main()], vec![service(&[0, 1])])).await;
    let lines = log.take("service is answered");
    assert!(lines[0].contains("from=\"main\" to=\"standby\""), "{lines:?}");
    script.set("192.0.2.2", Behaviour::Refuse);
    script.set("192.0.2.1", Behaviour::Refuse);
    until("all is down", SECOND * 20, || eligible(&handle, 0).is_empty() && eligible(&handle, 1).is_empty())
        .await;
    log.take("");
    reload(&handle, setup(vec![pool_of("third", None, &["192.0.2.3"])], vec![service(&[0])])).await;
    assert_eq!(log.take("service up").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn enabled_and_disabled_by_the_configuration() {
    let with = |enabled| {
        let other = Backend { enabled, ..backend("192.0.2.2") };
        setup(vec![pool("web", check(DEFAULTS), vec![backend("192.0.2.1"), other])], vec![service(&[0])])
    };
    let (handle, script) = run(with(true));
    ready(&handle).await;
    let (log, _guard) = CapturedLog::listen();
    let difference = reload(&handle, with(false)).await;
    assert!(changed(&difference).contains("backend 192.0.2.2: enabled true -> false"));
    assert_eq!(eligible(&handle, 0), ["192.0.2.1"]);
    assert_eq!(log.take("backend is"), [""; 0], "nobody knows it any more, which is no change of it");
    let count = script.started("192.0.2.2");
    tokio::time::sleep(SECOND * 30).await;
    assert_eq!(script.started("192.0.2.2"), count);
    reload(&handle, with(true)).await;
    until("it is probed again", SECOND, || eligible(&handle, 0).len() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_first_outcome_of_what_is_gone() {
    let (handle, script) = run(web(DEFAULTS, &TWO));
    script.set("192.0.2.1", Behaviour::Hang);
    tokio::time::sleep(SECOND).await;
    assert!(!*handle.ready.borrow());
    reload(&handle, web(DEFAULTS, &["192.0.2.2"])).await;
    assert!(ready(&handle).await < PULSE * 2);
}

#[tokio::test(start_paused = true)]
async fn a_reload_before_the_first_outcomes_does_not_make_it_ready_early() {
    let (handle, script) = run(web(DEFAULTS, &TWO));
    script.set("192.0.2.1", Behaviour::Hang);
    reload(&handle, web(DEFAULTS, &["192.0.2.1"])).await;
    assert!(!*handle.ready.borrow());
    assert!(ready(&handle).await >= SECOND * 2, "it hangs for its timeout");
}

/// Zones are never accessible under the previous rights: zones and rights are in the same table.
#[tokio::test(start_paused = true)]
async fn zones_keys_and_rights_change_in_one_step() {
    let (handle, _script) = run(web(DEFAULTS, &TWO));
    let before = handle.published.load();
    let mut wanted = web(DEFAULTS, &TWO);
    let name = Name::parse("example.com").unwrap();
    wanted.catalog = Catalog::new(vec![super::keys::zone("example.com", 1, [192, 0, 2, 80])]);
    let key = Key::new(name.clone(), Algorithm::HmacSha256, b"0123456789abcdef");
    wanted.settings.transfers.keys = [key].into_iter().collect();
    let allowed = Allowed { keys: [name.clone()].into(), ..Allowed::default() };
    wanted.settings.transfers.zones.insert(name.clone(), allowed);
    let difference = swap(&handle, wanted, "a test").await.unwrap();
    let after = handle.published.load();
    assert_eq!((difference.generation, after.generation), (before.generation + 1, before.generation + 1));
    assert!(after.catalog.find(name.wire(), false).is_some());
    let client = "192.0.2.1".parse().unwrap();
    assert!(after.settings.transfers.allows(name.wire(), client, Some(&name)));
    assert!(!after.settings.transfers.allows(name.wire(), client, None));
    assert!(before.catalog.zones().is_empty() && before.settings.transfers.zones.is_empty());
}

/// Weights do not concern probes: running ones continue, and none is restarted.
#[tokio::test(start_paused = true)]
async fn what_is_probed_alike_is_not_looked_at() {
    let (handle, script) = run(web(DEFAULTS, &TWO));
    ready(&handle).await;
    script.set("192.0.2.1", Behaviour::Hang);
    let count = script.started("192.0.2.1");
    until("a probe hangs", SECOND * 20, || script.started("192.0.2.1") == count + 1).await;
    let mut heavier = web(DEFAULTS, &TWO);
    heavier.pools[0].pool.backends[1].weight = 7;
    let difference = swap(&handle, heavier, "a test").await.unwrap();
    assert!(format!("{:?}", difference.pools).contains("weight 1 -> 7"), "{difference:?}");
    let table = handle.published.load();
    let candidates = &view(&table, 0).family(Family::Ipv4).eligible.candidates;
    assert_eq!(candidates.iter().map(|candidate| candidate.weight).collect::<Vec<_>>(), [1, 7]);
    assert_eq!(script.started("192.0.2.1"), count + 1, "the probe in flight goes on");
}

/// An address that is new or held is answered before it is known to be healthy: the service is not logged
/// as up before its backend.
#[tokio::test(start_paused = true)]
async fn a_service_is_up_after_its_backend() {
    let (log, _guard) = CapturedLog::listen();
    let (handle, script) = run(web(DEFAULTS, &["192.0.2.1"]));
    ready(&handle).await;
    assert!(log.take("service").is_empty(), "a start in health");
    script.set("192.0.2.1", Behaviour::Refuse);
    until("it is dead", SECOND * 30, || eligible(&handle, 0).is_empty()).await;
    assert_eq!(log.take("service down").len(), 1);
    reload(&handle, web(DEFAULTS, &["192.0.2.2"])).await;
    assert_eq!(eligible(&handle, 0), ["192.0.2.2"], "better than nothing");
    let before: Vec<String> = log.take("service");
    assert!(
        before.iter().any(|line| line.contains("on trust") && line.contains("asked_by=\"a test\"")),
        "{before:?}"
    );
    assert!(!before.iter().any(|line| line.contains("service up")), "{before:?}");
    tokio::time::sleep(SECOND * 10).await;
    let lines = log.take("");
    let place = |text: &str| lines.iter().position(|line| line.contains(text)).expect(text);
    assert!(place("backend is healthy") < place("service up"), "{lines:?}");

    // The same if the new address is dead too: the service has never been up.
    script.set("192.0.2.2", Behaviour::Refuse);
    until("it is dead", SECOND * 30, || eligible(&handle, 0).is_empty()).await;
    script.set("192.0.2.3", Behaviour::Refuse);
    log.take("");
    reload(&handle, web(DEFAULTS, &["192.0.2.3"])).await;
    tokio::time::sleep(SECOND * 10).await;
    let lines = log.take("service up");
    assert!(lines.is_empty(), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn an_override_that_is_lost_is_a_difference() {
    let (log, _guard) = CapturedLog::listen();
    let (handle, _script) = run(web(DEFAULTS, &["192.0.2.1", "192.0.2.2", "192.0.2.3"]));
    ready(&handle).await;
    for (backend, reason) in [("192.0.2.1", Some("kernel".to_owned())), ("192.0.2.2", None)] {
        let request = OverrideRequest {
            pool: "web".into(),
            backend: backend.into(),
            change: OverrideChange::State(Some(Override::Drain)),
            length: None,
            reason,
            force: true,
            by: "a test".into(),
            expected: Precondition::default(),
        };
        ask(&handle, |reply| CheckerCommand::Override(request, reply)).await.unwrap();
    }
    // Another order loses nothing.
    let difference = reload(&handle, web(DEFAULTS, &["192.0.2.3", "192.0.2.2", "192.0.2.1"])).await;
    assert_eq!(difference.overrides, []);
    let difference = reload(&handle, web(DEFAULTS, &["192.0.2.2", "192.0.2.3"])).await;
    let lost = "drain (kernel) has ended, because the backend is gone".to_owned();
    assert_eq!(difference.overrides, [Change::Changed("web/192.0.2.1".into(), vec![lost])]);
    assert!(log.take("the backend is gone")[0].contains("asked_by=\"a test\""));
    let mut renamed = web(DEFAULTS, &["192.0.2.2"]);
    renamed.pools[0].pool.name = "other".into();
    let difference = reload(&handle, renamed).await;
    let lost = "drain has ended, because the backend is gone".to_owned();
    assert_eq!(difference.overrides, [Change::Changed("web/192.0.2.2".into(), vec![lost])]);
}
