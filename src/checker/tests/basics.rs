//! First outcomes, failure and recovery, pools that share targets, services and their log lines.

use super::*;
use crate::counters::CounterRow;

#[tokio::test(start_paused = true)]
async fn the_first_outcomes_decide_and_make_it_ready() {
    let (log, _guard) = CapturedLog::listen();
    let pool = pool_of("web", check(DEFAULTS), &["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    let (handle, script) = run(setup(vec![pool], vec![service(&[0])]));
    script.set("192.0.2.2", Behaviour::Refuse);
    assert_eq!(handle.published.load().generation, 1);
    assert_eq!(eligible(&handle, 0).len(), 3, "nobody is judged yet");
    assert!(!*handle.ready.borrow());

    assert!(ready(&handle).await <= crate::health::FIRST_ROUND + Duration::from_millis(5));
    assert_eq!(eligible(&handle, 0), ["192.0.2.1", "2001:db8::1"], "ready comes after the publish");
    assert!((2..=4).contains(&handle.published.load().generation), "a publish for each moment with outcomes");
    let mut lines = log.take("backend is");
    lines.sort();
    assert_eq!(lines.len(), 3);
    assert!(
        lines[2].contains(
            "backend is unhealthy pool=\"web\" backend=\"192.0.2.2\" address=192.0.2.2 from=\"unknown\" \
             to=\"unhealthy\" check=\"tcp\" reason=\"scripted Failed\" cause=\"refused\" consecutive=1"
        ),
        "{lines:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_backend_delays_readiness_up_to_startup_wait_and_no_longer() {
    let silent = Timing { interval: SECOND * 20, timeout: SECOND * 10, ..DEFAULTS };
    let pools = vec![pool_of("web", check(silent), &["192.0.2.1", "192.0.2.2"])];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    script.set("192.0.2.1", Behaviour::Hang);
    let took = ready(&handle).await;
    assert!(took >= SECOND * 3 && took < SECOND * 3 + Duration::from_millis(5), "{took:?}");
    assert_eq!(eligible(&handle, 0), ["192.0.2.2"], "what is known to be well comes before what is unknown");
    assert_eq!(status(&handle).await.pools[0].backends[0].addresses[0].standing, Standing::Unknown);
}

#[tokio::test(start_paused = true)]
async fn without_targets_it_is_ready_at_once() {
    let off = Backend { enabled: false, ..backend("192.0.2.2") };
    let pools = vec![
        pool_of("unchecked", None, &["192.0.2.1"]),
        pool("off", check(DEFAULTS), vec![off]),
        pool_of("empty", check(DEFAULTS), &[]),
    ];
    let mut absent = service(&[1]);
    absent.default.when_down = WhenDown::NoData;
    let (handle, script) = run(setup(pools, vec![service(&[0]), absent]));
    assert_eq!(ready(&handle).await, Duration::ZERO);
    assert_eq!(eligible(&handle, 0), ["192.0.2.1"]);
    assert_eq!(eligible(&handle, 1), [""; 0]);
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(script.started("192.0.2.1") + script.started("192.0.2.2"), 0);
    let status = status(&handle).await;
    let [unchecked, off, _] = &status.pools[..] else { panic!("three pools") };
    assert_eq!(unchecked.backends[0].addresses[0].standing, Standing::Healthy);
    assert!(unchecked.usable && unchecked.backends[0].addresses[0].checks.is_empty());
    assert_eq!(off.backends[0].addresses[0].standing, Standing::Unknown);
    assert_eq!((off.usable, off.total_weight), (false, 0));
    assert!(!status.services[1].down, "a service without any address is not down");
}

#[tokio::test(start_paused = true)]
async fn death_and_return_of_one_backend() {
    let pools = vec![pool_of("web", check(DEFAULTS), &["192.0.2.1", "192.0.2.2"])];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    ready(&handle).await;
    let before = status(&handle).await;
    assert_eq!((before.pools[0].healthy_weight, before.pools[0].total_weight), (2, 2));

    script.set("192.0.2.1", Behaviour::Refuse);
    let took = until("death is found", SECOND * 20, || eligible(&handle, 0) == ["192.0.2.2"]).await;
    assert!(took >= SECOND * 2 && took <= Duration::from_millis(7260), "{took:?}");
    let now = status(&handle).await;
    assert_eq!(now.generation, before.generation + 1);
    assert_eq!((now.pools[0].healthy_weight, now.pools[0].usable), (1, true));
    let address = &now.pools[0].backends[0].addresses[0];
    assert_eq!((address.standing, address.eligible), (Standing::Unhealthy, false));
    let check = &address.checks[0];
    let last = check.last.as_ref().unwrap();
    assert_eq!((check.kind, &*check.name, &*last.detail), ("tcp", "tcp", "scripted Failed"));

    script.set("192.0.2.1", Behaviour::Serve);
    let took = until("return is found", SECOND * 20, || eligible(&handle, 0).len() == 2).await;
    assert!(took >= SECOND && took <= Duration::from_millis(6260), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_backend_of_weight_0_is_probed_and_never_answered() {
    let idle = Backend { weight: 0, ..backend("192.0.2.2") };
    let pools = vec![pool("web", check(DEFAULTS), vec![backend("192.0.2.1"), idle])];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    ready(&handle).await;
    script.set("192.0.2.1", Behaviour::Refuse);
    until("death is found", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
    let status = status(&handle).await;
    assert_eq!(status.pools[0].backends[1].addresses[0].standing, Standing::Healthy);
    assert_eq!((status.pools[0].total_weight, status.pools[0].usable), (1, false));
    assert!(status.services[0].fail_open);
    let table = handle.published.load();
    let members = &view(&table, 0).family(Family::Ipv4).everyone.members;
    assert_eq!(members.len(), 1, "not even when failing open, as another has weight");
}

#[tokio::test(start_paused = true)]
async fn pools_with_the_same_check_of_an_address_share_its_probes() {
    let other = Timing { fall: 2, ..DEFAULTS };
    let pools = vec![
        pool_of("one", check(DEFAULTS), &["192.0.2.1"]),
        pool_of("two", check(DEFAULTS), &["192.0.2.2", "192.0.2.1"]),
        pool_of("three", check(other), &["192.0.2.2"]),
    ];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    tokio::time::sleep(SECOND * 50).await;
    let (shared, apart) = (script.started("192.0.2.1"), script.started("192.0.2.2"));
    assert!((10..=12).contains(&shared) && (20..=24).contains(&apart), "{shared} and {apart} probes");
    let generation = handle.published.load().generation;
    script.set("192.0.2.1", Behaviour::Refuse);
    until("death is found", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
    assert_eq!(eligible(&handle, 1), ["192.0.2.2"]);
    assert_eq!(handle.published.load().generation, generation + 1, "both pools in one publish");
}

#[tokio::test(start_paused = true)]
async fn only_touched_pools_are_built_anew() {
    let pools = vec![
        pool_of("one", check(DEFAULTS), &["192.0.2.1"]),
        pool_of("two", check(DEFAULTS), &["192.0.2.2"]),
    ];
    let (handle, script) = run(setup(pools, vec![service(&[0])]));
    ready(&handle).await;
    let before = handle.published.load();
    before.answers().count_backend(CounterRow::Shared, PoolId(0), 0);
    script.set("192.0.2.1", Behaviour::Refuse);
    until("death is found", SECOND * 20, || eligible(&handle, 0).is_empty()).await;
    let after = handle.published.load();
    assert!(Arc::ptr_eq(view(&before, 1), view(&after, 1)));
    assert_eq!(after.answers().of_backend(PoolId(0), 0), 1, "counters live on");
}

#[tokio::test(start_paused = true)]
async fn services_tell_of_tiers_and_of_being_down_once() {
    let (log, _guard) = CapturedLog::listen();
    let pools = vec![
        pool_of("main", check(DEFAULTS), &["192.0.2.1", "2001:db8::1"]),
        pool_of("standby", check(DEFAULTS), &["192.0.2.2", "2001:db8::2"]),
    ];
    let (handle, script) = run(setup(pools, vec![service(&[0, 1])]));
    ready(&handle).await;
    assert_eq!(log.take("service"), [""; 0], "a start in health has nothing to tell");
    let tiers = |handle: &CheckerHandle| {
        let table = handle.published.load();
        ServiceStatus::of(&table.services()[0], &table).tier
    };
    let both = |name: &str| [Some(name.to_owned()), Some(name.to_owned())];
    script.set("192.0.2.1", Behaviour::Refuse);
    until("ipv4 has moved", SECOND * 20, || tiers(&handle)[0].as_deref() == Some("standby")).await;
    let lines = log.take("service is answered");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("from=\"main\" to=\"standby (ipv4), main (ipv6)\""), "{lines:?}");
    let now = status(&handle).await;
    assert_eq!(now.services[0].tier, [Some("standby".into()), Some("main".into())]);
    assert!(!now.pools[0].usable, "not in every family");

    for address in ["192.0.2.2", "2001:db8::1", "2001:db8::2"] {
        script.set(address, Behaviour::Hang);
    }
    until("all is down", SECOND * 40, || tiers(&handle) == [None, None]).await;
    let lines = log.take("service down");
    assert_eq!(lines.len(), 1, "once for the service, not for each family: {lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("fail open"), "{lines:?}");
    let now = status(&handle).await;
    assert!(now.services[0].down && now.services[0].fail_open);
    assert_eq!(now.services[0].tier, [None, None]);

    for address in ["192.0.2.1", "2001:db8::1"] {
        script.set(address, Behaviour::Serve);
    }
    until("it is back", SECOND * 40, || tiers(&handle) == both("main")).await;
    let lines = log.take("service up");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("INFO"), "{lines:?}");
}
