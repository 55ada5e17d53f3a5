//! Slow start, load feedback, damping: the share of answers that an address gets.

use super::*;
use crate::pool::Override;

const TWO: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

async fn percent(handle: &CheckerHandle) -> u8 {
    status(handle).await.pools[0].backends[0].addresses[0].percent
}

fn slow(length: Duration) -> Served {
    let mut web = pool_of("web", check(DEFAULTS), &TWO);
    web.pool.slow_start = length;
    setup(vec![web], vec![service(&[0])])
}

#[tokio::test(start_paused = true)]
async fn a_recovered_address_gets_its_weight_back_little_by_little() {
    let (handle, script) = run(slow(SECOND * 20));
    ready(&handle).await;
    assert_eq!(percent(&handle).await, 100, "a first outcome is no recovery");
    script.set("192.0.2.1", Behaviour::Refuse);
    until("it is dead", SECOND * 20, || eligible(&handle, 0).len() == 1).await;
    script.set("192.0.2.1", Behaviour::Serve);
    until("it is back", SECOND * 20, || eligible(&handle, 0).len() == 2).await;
    assert_eq!(percent(&handle).await, 1);
    let generation = handle.published.load().generation;
    tokio::time::sleep(SECOND * 10).await;
    assert!((45..=55).contains(&percent(&handle).await), "half of the time, half of the weight");
    tokio::time::sleep(SECOND * 11).await;
    assert_eq!(percent(&handle).await, 100);
    let published = handle.published.load().generation - generation;
    assert!((15..=20).contains(&published), "{published} tables for twenty steps");
    let generation = handle.published.load().generation;
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(handle.published.load().generation, generation, "and then all is quiet");
}

#[tokio::test(start_paused = true)]
async fn a_growth_goes_on_over_a_reload() {
    let (handle, script) = run(slow(SECOND * 20));
    ready(&handle).await;
    script.set("192.0.2.1", Behaviour::Refuse);
    until("it is dead", SECOND * 20, || eligible(&handle, 0).len() == 1).await;
    script.set("192.0.2.1", Behaviour::Serve);
    until("it is back", SECOND * 20, || eligible(&handle, 0).len() == 2).await;
    tokio::time::sleep(SECOND * 5).await;
    let mut more = slow(SECOND * 20);
    more.pools.push(pool_of("another", None, &["192.0.2.8"]));
    reload(&handle, more).await;
    tokio::time::sleep(SECOND * 5).await;
    assert!((45..=60).contains(&percent(&handle).await), "of a pool that is as it was");
    let mut more = slow(SECOND * 20);
    more.pools.insert(0, pool_of("another", None, &["192.0.2.9"]));
    more.services = vec![service(&[1])];
    reload(&handle, more).await;
    let weight = || status(&handle);
    assert!((45..=60).contains(&weight().await.pools[1].backends[0].addresses[0].percent));
    tokio::time::sleep(SECOND * 11).await;
    assert_eq!(weight().await.pools[1].backends[0].addresses[0].percent, 100);
}

#[tokio::test(start_paused = true)]
async fn what_a_backend_says_of_its_load_scales_its_weight_until_it_is_too_old() {
    let (handle, script) = run(setup(vec![pool_of("web", check(DEFAULTS), &TWO)], vec![service(&[0])]));
    script.load("192.0.2.1", Some(40));
    ready(&handle).await;
    assert_eq!(percent(&handle).await, 40);
    let weights = |handle: &CheckerHandle| {
        let table = handle.published.load();
        let candidates = &view(&table, 0).family(Family::Ipv4).eligible.candidates;
        candidates.iter().map(|candidate| candidate.weight).sum::<u32>()
    };
    assert_eq!(weights(&handle), 140, "of 200");
    script.load("192.0.2.1", None);
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(percent(&handle).await, 40, "it is believed for three intervals");
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(percent(&handle).await, 100);
    assert_eq!(weights(&handle), 2);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_falls_again_and_again_is_held_and_shown_so() {
    let quick =
        Timing { interval: SECOND, timeout: SECOND / 2, rise: 1, fall: 1, interval_down: SECOND, ..DEFAULTS };
    let (log, _guard) = CapturedLog::listen();
    let (metrics, script) = (Arc::new(Metrics::new(1)), Script::default());
    let web = setup(vec![pool_of("web", check(quick), &TWO)], vec![service(&[0])]);
    let handle = start_with(web, CAPACITY, Arc::clone(&metrics), script.clone());
    let gauge = || {
        let text = metrics.render(&handle.published.load());
        let lines = text.lines().filter(|line| line.starts_with("steerd_backend_held{"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    ready(&handle).await;
    assert_eq!(gauge(), [""; 0]);
    for fall in 0..3 {
        script.set("192.0.2.1", Behaviour::Refuse);
        until("it is dead", SECOND * 5, || eligible(&handle, 0).len() == 1).await;
        script.set("192.0.2.1", Behaviour::Serve);
        if fall < 2 {
            until("it is back", SECOND * 5, || eligible(&handle, 0).len() == 2).await;
        }
    }
    tokio::time::sleep(SECOND * 3).await;
    let address = status(&handle).await.pools[0].backends[0].addresses[0].clone();
    assert!(address.held && address.standing == Standing::Unhealthy, "{address:?}");
    assert!(
        address.held_until.unwrap() > script.wall()
            && address.held_until.unwrap() < script.wall() + SECOND * 60
    );
    let held = "steerd_backend_held{pool=\"web\",backend=\"192.0.2.1\",address=\"192.0.2.1\"} 1";
    assert_eq!(gauge(), [held]);
    let lines = log.take("held back");
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in ["WARN", "held back until 22:", "UTC: 3 falls in 10 minutes", "pool=\"web\"", "192.0.2.1"] {
        assert!(lines[0].contains(part), "{part}: {lines:?}");
    }
    assert_eq!(eligible(&handle, 0).len(), 1);
    // It passes its checks, so it is better than no address.
    script.set("192.0.2.2", Behaviour::Refuse);
    until("the held one answers", SECOND * 5, || eligible(&handle, 0) == ["192.0.2.1"]).await;
    script.set("192.0.2.2", Behaviour::Serve);
    until("the other is back", SECOND * 5, || eligible(&handle, 0) == ["192.0.2.2"]).await;
    until("the hold ends", SECOND * 60, || eligible(&handle, 0).len() == 2).await;
    assert!(!status(&handle).await.pools[0].backends[0].addresses[0].held);
    assert_eq!(gauge(), [""; 0]);
    assert_eq!(log.take("no longer held back: it returns").len(), 1);
}

/// The weight with which each backend of the first pool is drawn, in hundredths.
pub(super) async fn drawn(handle: &CheckerHandle) -> Vec<u32> {
    status(handle).await.pools[0].backends.iter().map(|backend| backend.addresses[0].drawn).collect()
}

/// An address in answers has a weight, and any other has none.
#[tokio::test(start_paused = true)]
async fn the_weight_that_is_shown_is_the_one_that_is_drawn_by() {
    let heavy = Backend { weight: 3, ..backend("192.0.2.1") };
    let idle = Backend { weight: 0, ..backend("192.0.2.3") };
    let pools = vec![pool("web", check(DEFAULTS), vec![heavy, backend("192.0.2.2"), idle])];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    script.load("192.0.2.1", Some(5));
    ready(&handle).await;
    assert_eq!(drawn(&handle).await, [15, 100, 0], "5 percent of 3 are not nothing");
    // If all have 0 percent, they are answered by their configured weights.
    script.load("192.0.2.1", Some(0));
    script.load("192.0.2.2", Some(0));
    tokio::time::sleep(SECOND * 100).await;
    if percent(&handle).await == 0 {
        assert_eq!(drawn(&handle).await, [300, 100, 0]);
    }
    script.load("192.0.2.1", None);
    script.load("192.0.2.2", None);
    for address in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        script.set(address, Behaviour::Refuse);
    }
    until("all are dead", SECOND * 60, || eligible(&handle, 0).is_empty()).await;
    assert_eq!(drawn(&handle).await, [300, 100, 0], "the service fails open");
    let down = |backend: &str, state| OverrideRequest {
        pool: "web".into(),
        backend: backend.into(),
        change: OverrideChange::State(Some(state)),
        length: None,
        reason: None,
        force: true,
        by: "a test".into(),
        expected: Precondition::default(),
    };
    for (backend, state, expected) in [
        ("192.0.2.1", Override::Drain, [0, 100, 0]),
        ("192.0.2.2", Override::Disabled, [0, 0, 100]),
        ("192.0.2.3", Override::Disabled, [300, 0, 0]),
    ] {
        let request = down(backend, state);
        ask(&handle, |reply| CheckerCommand::Override(request, reply)).await.unwrap();
        assert_eq!(drawn(&handle).await, expected, "{backend} {state:?}");
    }
}
