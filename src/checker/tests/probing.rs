//! Probes in flight: their number, their end, and delays of this process.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_is_void_and_its_target_is_probed_on() {
    let (log, _guard) = CapturedLog::listen();
    let pools = vec![pool_of("web", check(DEFAULTS), &["192.0.2.1"])];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    ready(&handle).await;
    script.set("192.0.2.1", Behaviour::Panic);
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(eligible(&handle, 0), ["192.0.2.1"]);
    assert!((12..=14).contains(&script.started("192.0.2.1")), "{}", script.started("192.0.2.1"));
    assert_eq!(log.take("could not be probed").len(), 1, "told once");
    let check = |status: &Status| status.pools[0].backends[0].addresses[0].checks[0].clone();
    let first = check(&status(&handle).await);
    tokio::time::sleep(SECOND * 20).await;
    let later = check(&status(&handle).await);
    assert!(first.void_since.is_some() && first.void_since == later.void_since, "{first:?} {later:?}");
    script.set("192.0.2.1", Behaviour::Refuse);
    until("the target is alive", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
    assert_eq!(check(&status(&handle).await).void_since, None);
}

#[tokio::test(start_paused = true)]
async fn failures_while_this_process_did_not_run_do_not_count() {
    let once = Timing { fall: 1, ..DEFAULTS };
    let pools = vec![
        pool_of("web", check(once), &["192.0.2.1"]),
        // This one was due while the process did not run; the outcome of the other probe arrives
        // later.
        pool_of("often", check(milliseconds(100, 90, 90)), &["192.0.2.2"]),
    ];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    ready(&handle).await;
    script.set("192.0.2.1", Behaviour::Hang);
    let count = script.started("192.0.2.1");
    until("a probe is in flight", SECOND * 20, || script.started("192.0.2.1") > count).await;
    tokio::time::advance(SECOND).await;
    tokio::time::sleep(SECOND * 2).await;
    let report = status(&handle).await.pools[0].backends[0].addresses[0].checks[0].last.clone().unwrap();
    assert_eq!(report.outcome, Outcome::Void, "{report:?}");
    assert!(report.detail.contains("too late to judge"), "{report:?}");
    assert_eq!(eligible(&handle, 0), ["192.0.2.1"]);
    until("an honest failure counts", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_begins_with_the_charge_for_searches_that_the_last_one_left() {
    let pools = vec![pool_of("web", check(DEFAULTS), &["192.0.2.1"])];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    ready(&handle).await;
    for behaviour in [Behaviour::Serve, Behaviour::Refuse, Behaviour::Break] {
        script.set("192.0.2.1", behaviour);
        tokio::time::sleep(SECOND * 30).await;
        let before = u32::try_from(script.started("192.0.2.1") - 1).unwrap();
        let charge = script.0.search_charges.lock().unwrap()[&IpAddr::from([192, 0, 2, 1])];
        assert_eq!(charge, SEARCH * before, "{behaviour:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn probes_in_flight_are_capped_and_nobody_is_forgotten() {
    let count = MAX_IN_FLIGHT + 500;
    let addresses: Vec<String> =
        (0..count).map(|index| format!("10.0.{}.{}", index / 250, index % 250)).collect();
    let pools = addresses.chunks(100).map(|addresses| {
        pool("web", check(DEFAULTS), addresses.iter().map(|address| backend(address)).collect())
    });
    let mut setup = setup(pools.collect(), Vec::new());
    setup.startup_wait = SECOND * 60;
    let script = Script::default();
    for address in &addresses {
        script.set(address, Behaviour::Hang);
    }
    let handle = start_with(setup, CAPACITY, Arc::new(Metrics::new(1)), script.clone());
    let took = ready(&handle).await;
    assert_eq!(script.0.peak.load(Ordering::Relaxed), MAX_IN_FLIGHT);
    assert!(took >= SECOND * 2 && took < SECOND * 5, "two batches of two seconds: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_its_last_handle() {
    let (handle, script) = run(setup(vec![pool_of("web", check(DEFAULTS), &["192.0.2.1"])], Vec::new()));
    ready(&handle).await;
    let kept = handle.clone();
    drop(handle);
    let count = script.started("192.0.2.1");
    until("it goes on", SECOND * 20, || script.started("192.0.2.1") > count).await;
    let mut is_ready = kept.ready.clone();
    is_ready.mark_unchanged();
    drop(kept);
    assert!(is_ready.changed().await.is_err());
    until("its probes have ended with it", SECOND, || Arc::strong_count(&script.0) == 1).await;
}
